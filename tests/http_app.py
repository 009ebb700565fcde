"""Drives the HTTP app in process: through httpx, or message by message where the client's leaving matters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from amber_ray.serving.app import create_app
from amber_ray.settings import Settings
from tests import http_contract
from tests.memory_service import MemoryService

BOUND = 20.0


def run(test: Callable[[], Awaitable[Any]]) -> Any:
    """Run a coroutine function to its end, within a bound."""

    async def bounded() -> Any:
        async with asyncio.timeout(BOUND):
            return await test()

    return asyncio.run(bounded())


def client(
    service: MemoryService | None = None,
    settings: Settings | None = None,
    *,
    peer: tuple[str, int] | None = ("127.0.0.1", 50000),
    base_url: str = "http://localhost:8000",
    root_path: str = "",
    **options: Any,
) -> httpx.AsyncClient:
    """An HTTP client of an app over `service`; requests come from `peer`.

    Every answer is held to the OpenAPI document.
    """
    service = service or MemoryService()
    app = create_app(service, settings or Settings(), new_id=service.new_id, **options)

    async def from_peer(scope: Any, receive: Any, send: Any) -> None:
        scope["client"] = peer
        await app(scope, receive, send)

    async def held(answer: httpx.Response) -> None:
        await answer.aread()
        http_contract.check(answer, root_path)

    transport = httpx.ASGITransport(from_peer, raise_app_exceptions=False, root_path=root_path)
    return httpx.AsyncClient(transport=transport, base_url=base_url, event_hooks={"response": [held]})


class Connection:
    """One request over raw ASGI: the test decides when its body comes and when the client hangs up."""

    def __init__(self, app: Any, method: str, path: str, body: bytes | None = b"", **headers: str) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        if body is not None:
            self.feed(body)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "scheme": "http",
            "headers": [
                (b"host", b"localhost"),
                *((k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()),
            ],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
        }
        self.task = asyncio.ensure_future(app(scope, self._incoming.get, self.sent.put))

    def feed(self, body: bytes, more: bool = False) -> None:
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def hang_up(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def status(self) -> int:
        message = await self.sent.get()
        assert message["type"] == "http.response.start"
        return int(message["status"])

    async def chunk(self) -> bytes:
        return bytes((await self.sent.get()).get("body", b""))


def compute_body(*features: str, uri: str = "/m/a.mp4", **fields: Any) -> dict[str, Any]:
    return {"features": list(features), "assets": [{"uri": uri}], **fields}


def encoded(data: Any) -> bytes:
    return json.dumps(data).encode()
