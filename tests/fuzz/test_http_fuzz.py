"""Any call in HTTP, in process: a thousand odd ones end as the contract says, and the app goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import example, given, settings

from amber_ray.core.model.demands import Demand, DemandStatus, DemandView
from amber_ray.core.model.service import StoredValue
from amber_ray.core.values.annotations import parse
from amber_ray.serving.app import create_app
from amber_ray.settings import Settings
from amber_ray.wire.views import REQUEST_ID_HEADER
from tests.fuzz.calls import OPERATIONS, Answer, Call, calls, judge
from tests.http_app import compute_body
from tests.memory_service import MemoryService

BOUND = 10.0
"""Seconds that an answer may take; each of these is a matter of milliseconds."""
pytestmark = pytest.mark.timeout(300)


class App:
    """An app over the in-memory service, called as a server would: with the bytes that came."""

    def __init__(self) -> None:
        self.service = MemoryService()
        self.app = create_app(self.service, Settings())
        self.runner = asyncio.Runner()
        self.statuses: dict[tuple[str, str], set[int]] = {}

    def __call__(self, call: Call) -> Answer:
        # One of the names that are drawn has a value and a demand; a purge, or a stop, may have taken it.
        film = replace(self.service.media_at("/m/0.mp4"), id="0" * 32)
        self.service.known[film.id] = self.service.places[film.uri] = film
        self.service.put("0" * 32, StoredValue("0" * 32, "embedding", "1", parse(np.ndarray), np.eye(3)))
        demand = Demand("0" * 32, ("embedding",), ("/m/",))
        self.service.kept_true[demand.name] = DemandView(demand, DemandStatus(), 0.0)
        answer = self.runner.run(asyncio.wait_for(self._ask(call), BOUND))
        self.statuses.setdefault((call.template, call.method.lower()), set()).add(answer.status)
        return answer

    async def _ask(self, call: Call) -> Answer:
        path, _, query = call.target.partition("?")
        given = dict(call.headers)
        # Two pieces, the second one late.
        incoming = [(call.body[:7], True), (call.body[7:], False)]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not incoming:
                await asyncio.Event().wait()
            piece, more = incoming.pop(0)
            return {"type": "http.request", "body": piece, "more_body": more}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": call.method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "scheme": "http",
            "headers": [*((b"host", b"localhost") for _ in range(b"host" not in given)), *call.headers],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
        }
        await self.app(scope, receive, send)
        start, *rest = sent
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], headers, b"".join(m.get("body", b"") for m in rest))


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    made = App()
    yield made
    made.runner.close()


def sound(app: App) -> None:
    """Fail unless the app answers as it did before."""
    headers = ((b"content-type", b"application/json"),)
    # The examples' own features are not among those of this service.
    body = json.dumps(compute_body("probe", callback={"url": "https://127.0.0.1/"})).encode()
    assert app(Call("POST", "/v1/explain", headers, body, "/v1/explain")).status == 200
    known = ((REQUEST_ID_HEADER.lower().encode(), b"0" * 32),)
    answer = app(Call("POST", "/v1/compute", headers + known, body, "/v1/compute"))
    assert (answer.status, json.loads(answer.content)["results"][0]["value"]) == (200, "h264")
    told = {"url": "https://127.0.0.1/", "on": ["result"]}
    wanted = json.dumps({"features": ["embedding"], "prefixes": ["/m/"], "callback": told}).encode()
    assert app(Call("PUT", "/v1/demands/kept", headers, wanted, "/v1/demands/{name}")).status == 200
    assert app(Call("GET", "/healthz")).status == 200


def test_any_call_is_answered_as_the_contract_says(app: App) -> None:
    @settings(max_examples=2000)
    @given(calls())
    # What once was a 500, and what once broke a refusal's sentence in two.
    @example(Call("POST", "/v1/compute", ((b"origin", b"http://["),), b"{}", "/v1/compute"))
    @example(Call("POST", "/v1/requests/%0d%0aSet-Cookie:a=b", (), b"", ""))
    @example(Call("GET", "/%0d%0aa", (), b"", ""))
    # Names that are known, which are drawn seldom.
    @example(Call("GET", "/v1/features/probe", (), b"", "/v1/features/{name}"))
    @example(Call("GET", f"/v1/requests/{'0' * 32}", (), b"", "/v1/requests/{id}"))
    @example(Call("DELETE", f"/v1/requests/{'0' * 32}", (), b"", "/v1/requests/{id}"))
    @example(Call("GET", f"/v1/requests/{'0' * 32}/events", (), b"", "/v1/requests/{id}/events"))
    @example(Call("POST", f"/v1/deliveries/end_{'0' * 32}/replay", (), b"", "/v1/deliveries/{id}/replay"))
    @example(Call("GET", f"/v1/assets/{'0' * 32}", (), b"", "/v1/assets/{id}"))
    @example(Call("GET", f"/v1/assets/{'0' * 32}/values", (), b"", "/v1/assets/{id}/values"))
    @example(Call("GET", f"/v1/assets/{'0' * 32}/media", (), b"", "/v1/assets/{id}/media"))
    @example(Call("POST", f"/v1/assets/{'0' * 32}/media/link", (), b"", "/v1/assets/{id}/media/link"))
    @example(Call("GET", f"/v1/values/{'0' * 32}/lineage", (), b"", "/v1/values/{key}/lineage"))
    def fuzz(call: Call) -> None:
        judge(call, app(call))

    sound(app)
    fuzz()
    sound(app)
    # Not all refused at the door: each operation was reached, and most of them did their work too.
    known = {key: found for key, found in app.statuses.items() if (key[0], key[1]) in OPERATIONS}
    assert set(known) == set(OPERATIONS)
    refused = {key: found for key, found in known.items() if not found & {200, 201, 202}}
    assert refused.pop(("/v1/registry", "post")) == {403}, "this app takes no code"
    assert len(refused) <= 3, refused
