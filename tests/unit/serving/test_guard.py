"""Who is answered: peers, hosts, tokens, pages of other sites, load."""

from __future__ import annotations

import asyncio
import gzip
import itertools

import pytest

from amber_ray.serving.app import create_app
from amber_ray.serving.peers import Locals
from amber_ray.settings import Settings
from tests.http_app import Connection, client, compute_body, encoded, run
from tests.memory_service import MemoryService

TOKENS = Settings(tokens=("first-token", "second-token"))
ELSEWHERE = ("203.0.113.7", 40000)


class OwnAddresses(Locals):
    """This machine has 198.51.100.5 besides loopback."""

    def __contains__(self, address: str) -> bool:
        return address in {"127.0.0.1", "::1", "198.51.100.5"}


def get(
    path="/v1/stats",
    settings=None,
    *,
    peer=("127.0.0.1", 1),
    method="GET",
    base_url="http://localhost",
    **headers,
):
    service = MemoryService()

    async def once():
        async with client(service, settings, peer=peer, base_url=base_url, own=OwnAddresses()) as http:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            return await http.request(method, path, headers=names)

    answer = run(once)
    answer.asked = service.asked
    return answer


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/v1/stats", "/openapi.json", "/v1/values/" + "a" * 32, "/nope"]
)
@pytest.mark.parametrize("peer", [ELSEWHERE, ("::ffff:203.0.113.7", 1), None, ("", 0), ("unix:", 0)])
def test_without_tokens_no_other_machine_gets_an_answer(path, peer):
    answer = get(path, peer=peer)
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert "answers only callers on its own machine" in answer.json()["detail"]
    assert answer.asked == []


@pytest.mark.parametrize("peer", [("127.0.0.1", 1), ("::1", 1), ("198.51.100.5", 1)])
def test_without_tokens_this_machine_is_answered(peer):
    assert get(peer=peer).status_code == 200


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_without_tokens_what_a_proxy_forwarded_is_refused_whatever_it_claims(name):
    answer = get(**{name: "127.0.0.1"})
    assert answer.status_code == 403
    assert "behind one" in answer.json()["detail"]


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "198.51.100.5"]
)
def test_hosts_that_name_this_machine(host):
    assert get(Host=host).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000", "203.0.113.7", ""]
)
def test_a_name_that_was_made_to_resolve_here_is_refused(host):
    answer = get(Host=host)
    assert answer.status_code == 403
    assert answer.asked == []


@pytest.mark.parametrize("token", ["first-token", "second-token"])
def test_with_tokens_any_machine_that_shows_one_is_answered_by_any_name(token):
    answer = get(
        settings=TOKENS, peer=ELSEWHERE, base_url="http://amber.example", Authorization=f"Bearer {token}"
    )
    assert answer.status_code == 200
    assert (
        get(settings=TOKENS, Authorization=f"bearer {token}", X_Forwarded_For="203.0.113.7").status_code
        == 200
    )


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer first-toke",
        "Basic first-token",
        "first-token",
        "Bearer first-token,Bearer first-token",
    ],
)
@pytest.mark.parametrize("peer", [("127.0.0.1", 1), ELSEWHERE])
def test_with_tokens_nobody_is_answered_without_one(header, peer):
    answer = get(settings=TOKENS, peer=peer, **({} if header is None else {"Authorization": header}))
    assert (answer.status_code, answer.json()["error"]) == (401, "Unauthorized")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="amber"'
    assert answer.asked == []


def test_with_tokens_a_probe_needs_none():
    assert get("/healthz", TOKENS, peer=ELSEWHERE).status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/metrics", "/v1/features", "/healthz/", "/nope"])
def test_with_tokens_nothing_else_is_open(path):
    assert get(path, TOKENS).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Origin": "http://localhost:8000"}, 400),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "http://localhost:8000"}, 400),
        ({"Sec_Fetch_Site": "none"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:9999"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
    ],
)
def test_a_page_of_another_site_may_not_write(headers, status):
    answer = get("/v1/values", method="DELETE", base_url="http://localhost:8000", **headers)
    assert answer.status_code == status  # 400: it came through, and names nothing to purge


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        *itertools.product(
            ["/v1/compute", "/v1/explain", "/v1/assets"],
            ["text/plain", "application/x-www-form-urlencoded", ""],
        ),
        # An upload may be a form: what keeps pages of other sites from it is in test_forms.
        *itertools.product(["/v1/compute", "/v1/explain"], ["multipart/form-data"]),
    ],
)
def test_bodies_that_a_browser_posts_without_asking_are_refused(path, kind):
    async def once():
        async with client() as http:
            return await http.post(
                path, content=encoded(compute_body("probe")), headers={"Content-Type": kind}
            )

    answer = run(once)
    assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json")


@pytest.mark.parametrize("path", ["/v1/compute", "/v1/explain", "/v1/values", "/v1/assets"])
def test_a_body_that_is_compressed_is_refused_by_that_name(path):
    async def once():
        async with client() as http:
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            return await http.post(path, content=gzip.compress(b"{}"), headers=headers)

    answer = run(once)
    assert answer.status_code == 415
    assert answer.json()["detail"] == "the body is coded as 'gzip'; send its bytes as they are"


def test_past_the_bound_on_requests_under_way_one_more_is_429_but_health_is_answered():
    service = MemoryService()
    service.gate.clear()

    async def story():
        app = create_app(service, Settings(), ongoing=2)
        body, kind = encoded(compute_body("probe")), {"content_type": "application/json"}
        waiting = [Connection(app, "POST", "/v1/compute", body, **kind) for _ in range(2)]
        while len(service.requests) < 2:
            await asyncio.sleep(0)
        third = Connection(app, "GET", "/v1/stats")
        start = await third.sent.get()
        assert start["status"] == 429
        assert dict(start["headers"])[b"retry-after"] == b"1"
        assert await Connection(app, "GET", "/healthz").status() == 200
        service.gate.set()
        assert [await call.status() for call in waiting] == [200, 200]
        assert await Connection(app, "GET", "/v1/stats").status() == 200

    run(story)


def test_websockets_are_closed():
    async def story():
        sent = []
        scope = {"type": "websocket", "path": "/", "headers": [], "client": ("127.0.0.1", 1)}

        async def send(message):
            sent.append(message)

        await create_app(MemoryService(), Settings())(scope, None, send)
        assert [message["type"] for message in sent] == ["websocket.close"]

    run(story)
