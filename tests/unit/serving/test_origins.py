"""Pages of other sites (CORS): none may ask by default; those that are allowed may, under the same tokens."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from amber_ray.errors import BadRequest
from amber_ray.serving import front
from amber_ray.serving.app import create_app
from amber_ray.settings import Settings
from tests.http_app import client, compute_body, run
from tests.memory_service import MemoryService

PAGE = "https://app.example"
OTHER = "https://evil.example"
ALLOWED = Settings(allow_origins=(PAGE, "http://localhost:5173"))
LOCKED = ALLOWED.replace(tokens=("secret",))
ANY = Settings(allow_origins=("*",), tokens=("secret",))
TOKEN = {"Authorization": "Bearer secret"}
ELSEWHERE = ("203.0.113.7", 40000)


def ask(
    method: str, path: str, settings: Settings | None = None, peer: Any = ("127.0.0.1", 1), **options: Any
) -> httpx.Response:
    async def once() -> httpx.Response:
        async with client(None, settings, peer=peer) as http:
            return await http.request(method, path, **options)

    answer: httpx.Response = run(once)
    return answer


def preflight(
    origin: str, settings: Settings | None, path: str = "/v1/compute", **more: Any
) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Sec-Fetch-Site": "cross-site",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,prefer",
    }
    return ask("OPTIONS", path, settings, headers=headers, **more)


@pytest.mark.parametrize(
    ("origin", "settings", "told"),
    [
        (PAGE, ALLOWED, PAGE),
        ("http://localhost:5173", ALLOWED, None),
        (PAGE, LOCKED, PAGE),
        (OTHER, ANY, "*"),
    ],
)
def test_a_browser_may_ask_for_a_page_that_is_allowed(
    origin: str, settings: Settings, told: str | None
) -> None:
    """Without a token: a browser asks whether it may before it sends one."""
    answer = preflight(origin, settings)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == (told or origin)
    assert {"GET", "POST", "DELETE"} <= set(answer.headers["Access-Control-Allow-Methods"].split(", "))
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type,prefer"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize(
    "origin", [OTHER, "null", "http://localhost:5174", PAGE + ":8443", PAGE + ".evil.example"]
)
@pytest.mark.parametrize("settings", [None, Settings(tokens=("secret",)), ALLOWED, LOCKED])
def test_a_browser_may_not_for_any_other_and_the_reason_is_told(
    origin: str, settings: Settings | None
) -> None:
    answer = preflight(origin, settings)
    assert answer.status_code == 403
    assert "--allow-origin" in answer.json()["detail"]
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_an_allowed_page_may_do_what_any_caller_may() -> None:
    headers = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}
    for settings, shown in ((ALLOWED, {}), (LOCKED, TOKEN), (ANY, TOKEN)):
        answer = ask(
            "POST", "/v1/compute", settings, json=compute_body("probe"), headers={**headers, **shown}
        )
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == ("*" if settings is ANY else PAGE)
        # Without this a page can't read an ETag, a Location or the request's id.
        assert answer.headers["Access-Control-Expose-Headers"] == "*"
        assert "Origin" in answer.headers["Vary"] or settings is ANY


@pytest.mark.parametrize("settings", [None, ALLOWED])
def test_any_other_page_may_not_write_and_can_not_read(settings: Settings | None) -> None:
    headers = {"Origin": OTHER, "Sec-Fetch-Site": "cross-site"}
    written = ask("POST", "/v1/compute", settings, json=compute_body("probe"), headers=headers)
    assert written.status_code == 403
    read = ask("GET", "/v1/features", settings, headers=headers)
    for answer in (written, read):
        assert "Access-Control-Allow-Origin" not in answer.headers  # the browser keeps it from the page


def test_an_allowed_page_is_told_why_it_is_refused() -> None:
    """Errors too say that the page may read them, or a script would see nothing but a failed fetch."""
    wrong = ask("POST", "/v1/compute", ALLOWED, json={}, headers={"Origin": PAGE})
    unknown = ask("GET", "/v1/features", LOCKED, headers={"Origin": PAGE})
    missing = ask("GET", "/nope", ALLOWED, headers={"Origin": PAGE})
    method = ask("PUT", "/v1/compute", ALLOWED, headers={"Origin": PAGE})
    answers = [wrong, unknown, missing, method]
    assert [answer.status_code for answer in answers] == [400, 401, 404, 405]
    assert all(answer.headers["Access-Control-Allow-Origin"] == PAGE for answer in answers)


def test_values_that_caches_keep_are_kept_apart_by_origin() -> None:
    async def once() -> httpx.Response:
        async with client(None, ALLOWED) as http:
            found = (await http.post("/v1/compute", json=compute_body("embedding"))).json()["results"][0]
            return await http.get(f"/v1/values/{found['key']}")  # asked without an origin

    assert "Origin" in run(once).headers["Vary"]


def test_an_allowed_page_does_not_open_the_server_to_other_machines() -> None:
    assert preflight(PAGE, ALLOWED, peer=ELSEWHERE).status_code == 403
    assert ask("GET", "/v1/features", ALLOWED, peer=ELSEWHERE, headers={"Origin": PAGE}).status_code == 403
    assert preflight(PAGE, LOCKED, peer=ELSEWHERE).status_code == 200


def test_options_that_no_browser_sends_need_a_token_as_before() -> None:
    assert ask("OPTIONS", "/v1/compute", LOCKED).status_code == 401
    assert ask("OPTIONS", "/v1/compute", LOCKED, headers={"Origin": PAGE}).status_code == 401
    assert ask("OPTIONS", "/v1/compute", ALLOWED).headers["Allow"] == "OPTIONS, POST"


def test_a_preflight_runs_no_handler() -> None:
    service = MemoryService()

    async def once() -> None:
        async with client(service, ALLOWED) as http:
            headers = {"Origin": PAGE, "Access-Control-Request-Method": "DELETE"}
            assert (await http.options("/v1/values", headers=headers)).status_code == 200

    run(once)
    assert service.asked == []


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("https://app.example/", "not 'https://app.example/'"),
        ("https://app.example/page", "not 'https://app.example/page'"),
        ("app.example", "not 'app.example'"),
        ("https://App.example", "in lower case"),
        ("https://*.example", "not 'https://*.example'"),
        ("https://a.example,https://b.example", "not 'https://a.example,https://b.example'"),
        ("null", "not 'null'"),
        ("", "not ''"),
        ("https://app.example:443", "allow https://app.example, not"),
        ("*", "API tokens are needed"),
    ],
)
def test_what_can_not_be_allowed_is_refused_before_anything_starts(origin: str, words: str) -> None:
    settings = Settings(allow_origins=(origin,))
    for start in (front.refuse_unsafe, lambda wrong: create_app(MemoryService(), wrong)):
        with pytest.raises(BadRequest, match=words.replace("*", r"\*").replace(".", r"\.")):
            start(settings)


@pytest.mark.parametrize(
    "origin", [PAGE, "http://localhost:5173", "http://[::1]:3000", "capacitor://localhost"]
)
def test_what_can_be_allowed(origin: str) -> None:
    front.refuse_unsafe(Settings(allow_origins=(origin,)))


@pytest.mark.parametrize("name", ["allow_origins", "tokens", "media_roots", "features", "remote_schemes"])
def test_a_list_that_is_written_as_a_text_is_refused(name: str) -> None:
    """Each letter of it would be taken for an entry."""
    with pytest.raises(BadRequest, match=f"{name} must be a list, such as"):
        Settings.from_mapping({name: "https://app.example"})
