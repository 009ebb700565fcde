"""Tokens while a server runs: new ones and revoked ones, a store that can't be read, and what tenants see."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from amber_ray.core.model.trust import Scope
from amber_ray.errors import StoreError
from amber_ray.serving.app import create_app
from amber_ray.serving.guard import OPEN
from amber_ray.serving.keyring import BLIND_SECONDS, BOUND_SECONDS, LOOK_SECONDS, Keyring
from amber_ray.serving.routes.page import FILES
from amber_ray.settings import Settings
from amber_ray.store.tokens import TokenBook, Tokens
from tests.http_app import client, compute_body, run
from tests.http_contract import DOCUMENT
from tests.memory_service import MemoryService, digest

NOW = 1_700_000_000.0
ALL = frozenset(Scope)


class Watch:
    """A clock that a test sets, and a store that may be away."""

    def __init__(self, folder: Path) -> None:
        self.book = TokenBook(str(folder))
        self.now = 1000.0
        self.away = False
        self.looks = 0
        self.hold: threading.Event | None = None

    def read(self) -> Tokens:
        self.looks += 1
        if self.hold is not None:
            assert self.hold.wait(20)
        if self.away:
            raise StoreError("the store can't be listed: away")
        return TokenBook(self.book._files.url).read()

    def keyring(self, *plain: str) -> Keyring:
        return Keyring(plain, self, clock=lambda: self.now, unix=lambda: NOW + self.now - 1000.0)

    def new(self, name: str, *scopes: Scope, tenant: str = "default", expires: float | None = None) -> str:
        return self.book.add(name, tenant, frozenset(scopes or ALL), NOW, expires)


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(tmp_path / "store")


async def ask(http: httpx.AsyncClient, token: str | None, path: str = "/v1/stats", **more: Any) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return (await http.request(more.pop("method", "GET"), path, headers=headers, **more)).status_code


def test_a_new_token_and_a_revoked_one_count_within_the_bound(watch: Watch) -> None:
    async def story() -> None:
        async with client(keyring=watch.keyring()) as http:
            assert await ask(http, None) == 200  # no token yet: this machine is answered
            token = watch.new("ci")
            watch.now += BOUND_SECONDS
            assert await ask(http, None) == 401
            assert await ask(http, token) == 200
            watch.book.revoke("ci", NOW)
            watch.now += BOUND_SECONDS
            assert await ask(http, token) == 401
            assert await ask(http, None) == 401  # a store that had a token is not open again
            other = watch.new("ci")
            watch.now += BOUND_SECONDS
            assert await ask(http, other) == 200

    run(story)


def test_a_token_ends_at_its_time_without_a_look(watch: Watch) -> None:
    token = watch.new("ci", expires=NOW + 0.5)

    async def story() -> None:
        async with client(keyring=watch.keyring()) as http:
            assert await ask(http, token) == 200
            watch.now += 0.5
            answer = await http.get("/v1/stats", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 401
            assert "'ci' is expired" in answer.json()["detail"]
            assert watch.looks == 1

    run(story)


def test_under_load_nobody_waits_for_a_look_and_there_is_one_at_a_time(watch: Watch) -> None:
    token = watch.new("ci")

    async def story() -> None:
        async with client(keyring=watch.keyring()) as http:
            assert await ask(http, token) == 200
            watch.hold = threading.Event()
            watch.now += LOOK_SECONDS
            for _ in range(3):
                assert await ask(http, token) == 200
            while watch.looks < 2:  # its thread may not have begun
                await asyncio.sleep(0)
            watch.hold.set()
            assert watch.looks == 2

    run(story)


def test_while_the_store_is_away_what_is_known_holds_for_a_while_and_then_nobody_is_let_in(
    watch: Watch,
) -> None:
    token = watch.new("ci")

    async def story() -> None:
        async with client(keyring=watch.keyring()) as http:
            assert await ask(http, token) == 200
            watch.away = True
            watch.now += BLIND_SECONDS - 1
            assert await ask(http, token) == 200
            watch.now += 1
            assert await ask(http, token) == 503
            assert await ask(http, token, "/healthz") == 200
            watch.away = False
            watch.now += LOOK_SECONDS
            assert await ask(http, token) == 200

    run(story)


def test_before_the_tokens_were_ever_read_nobody_is_let_in(watch: Watch) -> None:
    watch.away = True

    async def story() -> None:
        async with client(keyring=watch.keyring()) as http:
            assert await ask(http, None) == 503

    run(story)


def test_a_server_without_tokens_goes_on_while_its_store_is_away(watch: Watch) -> None:
    async def story() -> None:
        async with client(keyring=watch.keyring()) as http:
            assert await ask(http, None) == 200
            watch.away = True
            watch.now += 10 * BLIND_SECONDS
            assert await ask(http, None) == 200

    run(story)


def test_tokens_of_the_settings_and_of_the_store_are_good_side_by_side(watch: Watch) -> None:
    token = watch.new("ci")

    async def story() -> None:
        async with client(keyring=watch.keyring("plain")) as http:
            assert [await ask(http, one) for one in ("plain", token, "wrong", None)] == [200, 200, 401, 401]

    run(story)


# Scopes: a table of every route, made from the app


def handlers() -> Iterator[tuple[str, str, frozenset[Scope] | None]]:
    """Every route and method of the app, with the scopes of which its caller must have one."""
    for route in create_app(MemoryService(), Settings()).router.routes:
        for method, guarded in route.app._handlers.items():  # type: ignore[attr-defined]
            yield route.path, method, guarded.scopes  # type: ignore[attr-defined]


NEEDED: dict[tuple[str, str], set[str]] = {
    ("POST", "/v1/compute"): {"compute"},
    ("POST", "/v1/explain"): {"compute"},
    ("GET", "/v1/values/{key}"): {"read"},
    ("GET", "/v1/values/{key}/lineage"): {"read"},
    ("POST", "/v1/values"): {"read"},
    ("DELETE", "/v1/values"): {"operate"},
    ("GET", "/v1/requests"): {"read"},
    ("GET", "/v1/requests/{id}"): {"read"},
    ("GET", "/v1/requests/{id}/events"): {"read"},
    ("DELETE", "/v1/requests/{id}"): {"compute"},
    ("POST", "/v1/assets"): {"compute", "upload"},
    ("GET", "/v1/assets"): {"read"},
    ("GET", "/v1/assets/{id}"): {"read"},
    ("GET", "/v1/assets/{id}/values"): {"read"},
    ("GET", "/v1/assets/{id}/media"): {"read"},
    ("POST", "/v1/assets/{id}/media/link"): {"read"},
    ("GET", "/v1/features"): {"read"},
    ("GET", "/v1/features/{name}"): {"read"},
    ("GET", "/v1/versions"): {"read"},
    ("GET", "/v1/deliveries"): {"read"},
    ("POST", "/v1/deliveries/{id}/replay"): {"compute"},
    ("GET", "/v1/audit"): {"operate"},
    ("GET", "/v1/failures"): {"read"},
    ("GET", "/v1/stats"): {"read"},
    ("GET", "/metrics"): {"read"},
    ("POST", "/v1/registry"): {"operate"},
    ("GET", "/v1/demands"): {"operate"},
    ("GET", "/v1/demands/{name}"): {"operate"},
    ("PUT", "/v1/demands/{name}"): {"operate"},
    ("DELETE", "/v1/demands/{name}"): {"operate"},
    ("POST", "/v1/events"): {"compute", "upload"},
    ("GET", "/openapi.json"): {"read"},
    **{("GET", path): {"read"} for path in FILES},
}
"""Which scopes open a route, one of them; written here by hand, so that a new route has to be thought of."""


def test_every_route_needs_the_scope_that_stands_in_the_table() -> None:
    found = {(m, p): set(s) for p, m, s in handlers() if s is not None and m != "HEAD"}
    assert found == NEEDED
    assert {p for p, _, s in handlers() if s is None} == OPEN == {"/healthz", "/readyz"}
    described = {(m.upper(), p) for p, methods in DOCUMENT["paths"].items() for m in methods}
    assert described <= {*NEEDED, *(("GET", path) for path in OPEN)}


@pytest.mark.parametrize("scope", list(Scope))
def test_every_route_is_tried_with_every_scope(watch: Watch, scope: Scope) -> None:
    token = watch.new("ci", scope)

    async def story() -> None:
        async with client(keyring=watch.keyring()) as http:
            for path, method, scopes in handlers():
                target = path.replace("{key}", digest("nobody")).replace("{id}", "rq-000000")
                target = target.replace("{name}", "probe")
                answer = await http.request(
                    method, target, headers={"Authorization": f"Bearer {token}"}, json={"wrong": 1}
                )
                refused = answer.status_code == 403
                if (path, method, scope) == ("/v1/registry", "POST", Scope.OPERATE):
                    assert "runs no code of its clients" in answer.json()["detail"]
                    continue
                posts_asset = (method, path) == ("POST", "/v1/assets")
                if posts_asset:
                    scopes = frozenset({Scope.COMPUTE})  # this body is none of media
                assert refused == (scopes is not None and scope not in scopes), (method, path)
                if refused and method != "HEAD":
                    assert f"the token 'ci' has {scope}" in answer.json()["detail"]
                if posts_asset:
                    sent = await http.post(
                        target,
                        content=b"bytes",
                        headers={"Authorization": f"Bearer {token}", "Content-Type": "video/mp4"},
                    )
                    assert sent.status_code == (201 if scope is Scope.UPLOAD else 403)

    run(story)


# Tenants


def test_the_tenant_is_that_of_the_token_and_a_body_may_not_name_another(watch: Watch) -> None:
    token, service = watch.new("ci", tenant="search"), MemoryService()

    async def story() -> None:
        async with client(service, keyring=watch.keyring()) as http:
            headers = {"Authorization": f"Bearer {token}"}
            for path in ("/v1/compute", "/v1/explain"):
                for tenant, status in ((None, 200), ("search", 200), ("other", 403), ("default", 403)):
                    body = compute_body("probe", **({} if tenant is None else {"tenant": tenant}))
                    answer = await http.post(path, json=body, headers=headers)
                    assert answer.status_code == status, (path, tenant)
                    if status == 403:
                        assert "asks for the tenant 'search', not for " in answer.json()["detail"]
            answer = await http.post("/v1/compute", json=compute_body("probe"), headers=headers)
            assert service.requests[answer.json()["id"]].request.tenant == "search"

    run(story)


def test_a_tenant_lists_its_own_requests_and_who_operates_lists_all(watch: Watch) -> None:
    rights = (Scope.READ, Scope.COMPUTE)
    mine, others = watch.new("ci", *rights, tenant="search"), watch.new("web", *rights, tenant="web")
    ops = watch.new("ops", Scope.READ, Scope.OPERATE, tenant="ops")

    async def story() -> None:
        async with client(keyring=watch.keyring()) as http:
            headers = {token: {"Authorization": f"Bearer {token}"} for token in (mine, others, ops)}
            for token in (mine, others):
                await http.post("/v1/compute", json=compute_body("probe"), headers=headers[token])

            async def tenants(token: str, query: str = "") -> Any:
                answer = await http.get(f"/v1/requests{query}", headers=headers[token])
                if answer.status_code != 200:
                    return answer.status_code
                return sorted(info["tenant"] for info in answer.json()["requests"])

            assert await tenants(mine) == await tenants(mine, "?tenant=search") == ["search"]
            assert await tenants(mine, "?tenant=web") == await tenants(others, "?tenant=search") == 403
            assert await tenants(ops) == ["search", "web"]
            assert await tenants(ops, "?tenant=web") == ["web"]
            assert await tenants(ops, "?tenant=nobody") == []

    run(story)


def test_a_tenant_is_shown_its_own_uploads_and_nobody_elses(watch: Watch) -> None:
    mine = watch.new("ci", Scope.READ, Scope.UPLOAD, tenant="search")
    all_ = watch.new("ops", tenant="ops")
    theirs = watch.new("web", Scope.READ, Scope.UPLOAD, tenant="searches")

    async def story() -> None:
        async with client(keyring=watch.keyring()) as http:

            async def listed(token: str, query: str = "") -> list[str]:
                headers = {"Authorization": f"Bearer {token}"}
                answer = await http.get(f"/v1/assets{query}", headers=headers)
                return [asset["uri"] for asset in answer.json()["assets"]]

            headers = {"Authorization": f"Bearer {all_}"}
            await http.post("/v1/assets", json={"uri": "/m/a.mp4"}, headers=headers)
            sent = {}
            for token in (all_, mine, theirs):
                told = {"Authorization": f"Bearer {token}", "Content-Type": "video/mp4"}
                answer = await http.post("/v1/assets", content=b"bytes", headers=told)
                sent[token] = answer.json()["uri"]
            assert len(set(sent.values())) == 3
            for token in (mine, theirs):
                assert await listed(token) == await listed(token, "?uploads=true")
                assert await listed(token) == ["/m/a.mp4", sent[token]]
                assert await listed(token, "?uploads=false") == ["/m/a.mp4"]
                assert await listed(token, "?prefix=" + sent[all_]) == []
            assert sorted(await listed(all_)) == sorted(["/m/a.mp4", *sent.values()])
            assert await listed(all_, "?uploads=false") == ["/m/a.mp4"]

    run(story)


def test_the_requests_of_another_tenant_are_not_there(watch: Watch) -> None:
    rights = (Scope.READ, Scope.COMPUTE)
    mine = watch.new("mine", *rights, tenant="mine")
    theirs = watch.new("theirs", *rights, tenant="theirs")
    operator = watch.new("operator", *ALL, tenant="mine")

    async def story() -> None:
        async with client(keyring=watch.keyring()) as http:
            headers = {"Authorization": f"Bearer {mine}"}
            answer = await http.post("/v1/compute", json=compute_body("probe"), headers=headers)
            path = f"/v1/requests/{answer.json()['id']}"
            for method, end in (("GET", ""), ("GET", "/events"), ("HEAD", "/events"), ("DELETE", "")):
                assert await ask(http, theirs, path + end, method=method) == 404, (method, end)
                assert await ask(http, operator, path + end, method=method) == 200, (method, end)
                assert await ask(http, mine, path + end, method=method) == 200, (method, end)

    run(story)


def test_the_callbacks_of_another_tenant_are_not_there(watch: Watch) -> None:
    rights = (Scope.READ, Scope.COMPUTE)
    mine = watch.new("mine", *rights, tenant="mine")
    theirs = watch.new("theirs", *rights, tenant="theirs")
    operator = watch.new("operator", *ALL, tenant="mine")

    async def story() -> None:
        async with client(keyring=watch.keyring()) as http:

            async def listed(token: str, query: str = "") -> Any:
                headers = {"Authorization": f"Bearer {token}"}
                answer = await http.get("/v1/deliveries" + query, headers=headers)
                found = answer.json().get("deliveries", [])
                return answer.status_code, [one["request"] for one in found]

            body = compute_body("probe", callback={"url": "https://127.0.0.1/"})
            answer = await http.post("/v1/compute", json=body, headers={"Authorization": f"Bearer {mine}"})
            id = answer.json()["id"]
            assert await listed(mine) == await listed(operator) == (200, [id])
            assert await listed(mine, "?tenant=mine") == (200, [id])
            assert await listed(theirs) == (200, [])
            assert await listed(theirs, "?tenant=mine") == (403, [])
            assert await listed(operator, "?tenant=theirs") == (200, [])
            path = f"/v1/deliveries/end_{id}/replay"
            for token, end, status in (
                (theirs, "", 404),
                (theirs, "?tenant=mine", 403),
                (mine, "", 200),
                (operator, "", 200),
            ):
                assert await ask(http, token, path + end, method="POST") == status

    run(story)


OF_NOBODY = {
    *(("POST", path) for path in ("/v1/registry", "/v1/events")),
    *(("GET", path) for path in ("/v1/features", "/v1/features/{name}", "/v1/versions")),
    *(("GET", path) for path in ("/v1/stats", "/metrics", "/openapi.json", *FILES)),
}
"""Routes that answer every tenant alike: what they tell is of the service. By hand, so that for a new route
its tenants have to be thought of."""


@pytest.mark.parametrize("scopes", [(Scope.READ, Scope.COMPUTE, Scope.UPLOAD), (Scope.READ,)], ids=str)
def test_no_route_tells_a_tenant_of_what_is_anothers_or_changes_it(
    watch: Watch, scopes: tuple[Scope, ...]
) -> None:
    mine, theirs = watch.new("mine", *ALL, tenant="mine"), watch.new("theirs", *scopes, tenant="theirs")
    service = MemoryService()

    async def story() -> None:
        async with client(service, keyring=watch.keyring()) as http:
            own = {"Authorization": f"Bearer {mine}"}
            other = {"Authorization": f"Bearer {theirs}"}
            callback = {"url": "https://127.0.0.1/"}
            sent = await http.post("/v1/compute", json=compute_body("probe", callback=callback), headers=own)
            id = sent.json()["id"]
            upload = {**own, "Content-Type": "video/mp4"}
            asset = (await http.post("/v1/assets", content=b"bytes", headers=upload)).json()
            place = asset["uri"]
            made = await http.post("/v1/compute", json=compute_body("probe", uri=place), headers=own)
            [key] = [result["key"] for result in made.json()["results"]]
            broken = await http.post("/v1/compute", json=compute_body("broken", uri=place), headers=own)
            assert broken.json()["state"] == "failed"
            assert place in (await http.get("/v1/failures", headers=own)).text
            demand = {"features": ["probe"], "prefixes": ["/m/"]}
            assert (await http.put("/v1/demands/films", json=demand, headers=own)).status_code == 200
            before = (dict(service.requests), dict(service.kept), dict(service.kept_true))
            named = {
                "/v1/requests/{id}": (id, "rq-999999"),
                "/v1/requests/{id}/events": (id, "rq-999999"),
                "/v1/assets/{id}/media": (asset["id"], "0" * 32),
                "/v1/assets/{id}/media/link": (asset["id"], "0" * 32),
                "/v1/deliveries/{id}/replay": (f"end_{id}", "end_rq-999999"),
                "/v1/demands/{name}": ("films", "nobodys"),
                "/v1/assets/{id}": (asset["id"], "0" * 32),
                "/v1/assets/{id}/values": (asset["id"], "0" * 32),
                "/v1/values/{key}": (key, "0" * 32),
                "/v1/values/{key}/lineage": (key, "0" * 32),
            }
            for path in named:
                if path.startswith(("/v1/assets", "/v1/values")) and not path.endswith("/link"):
                    [its, _] = named[path]
                    target = path.replace("{id}", its).replace("{key}", its)
                    assert (await http.get(target, headers=own)).status_code == 200
            tried = set()
            for path, method, needed in handlers():
                if needed is None or method == "HEAD" or (method, path) in OF_NOBODY:
                    continue
                tried.add((method, path))
                answers = []
                for name in named.get(path, ("", "")):
                    target = path.replace("{id}", name).replace("{name}", name).replace("{key}", name)
                    body = {"json": demand} if method in ("PUT", "POST") and path != "/v1/compute" else {}
                    answer = await http.request(method, target, headers=other, **body)
                    assert place not in answer.text
                    if path in named:
                        assert answer.status_code in (403, 404), (method, path)
                        told = answer.json()["detail"].replace(name, "NAME")
                        answers.append((answer.status_code, told))
                    elif method == "GET":
                        assert id not in answer.text, path
                        assert "films" not in answer.text, path
                assert len(set(answers)) <= 1, f"{method} {path} tells that there is one"
            assert tried | OF_NOBODY == set(NEEDED)
            taken = {**other, "X-Amber-Request-Id": id}
            answer = await http.post("/v1/compute", json=compute_body("probe"), headers=taken)
            assert answer.status_code == (403 if len(scopes) == 1 else 422)
            for path in ("/v1/requests", "/v1/deliveries", "/v1/audit"):
                answer = await http.get(path + "?tenant=mine", headers=other)
                assert answer.status_code == 403, path
            assert (dict(service.requests), dict(service.kept), dict(service.kept_true)) == before
            for ref in ({"id": asset["id"]}, {"uri": place}):
                for path in ("/v1/compute", "/v1/explain"):
                    body = {"features": ["probe"], "assets": [ref]}
                    answer = await http.post(path, json=body, headers=other)
                    assert answer.status_code == 403 or "ready" not in answer.text, answer.text
                    assert key not in answer.text
            answer = await http.post("/v1/values", json={"keys": [key]}, headers=other)
            [row] = pa.ipc.open_stream(answer.content).read_all().to_pylist()
            assert (row["status"], row["value"]) == (404, None)

    run(story)


def test_what_a_token_shows_is_never_logged(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with client(keyring=watch.keyring("plain")) as http:
            await ask(http, "a-secret-that-is-wrong")

    run(story)
    assert "a-secret" not in caplog.text


def test_the_event_loop_is_not_blocked_by_a_look(watch: Watch) -> None:
    token = watch.new("ci")
    watch.hold = threading.Event()

    async def story() -> None:
        async with client(keyring=watch.keyring()) as http:
            asking = asyncio.create_task(ask(http, token))
            assert await ask(http, None, "/healthz") == 200
            assert watch.hold is not None
            watch.hold.set()
            assert await asking == 200

    run(story)
