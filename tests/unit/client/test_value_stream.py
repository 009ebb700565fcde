"""Many values over HTTP: streams that break off, types that differ, bounds, readers that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from amber_ray import errors
from amber_ray.client import AsyncClient
from amber_ray.client import http as module
from amber_ray.client.http import HttpService
from amber_ray.core.model.request import Failure
from amber_ray.core.model.service import Answered, StoredValue
from amber_ray.core.values.annotations import parse
from amber_ray.serving.app import create_app
from amber_ray.settings import Limits, Settings
from tests.memory_service import BATCH, MemoryService, digest

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amber_ray.client.http.retry.backoff", lambda *_: 0.0)


def holding(*values: Any) -> MemoryService:
    service = MemoryService()
    for value in values:
        key = digest(f"value {len(service.kept)}")
        name = type(value).__name__
        service.kept[key] = StoredValue(key, name, "1", parse(type(value)), value, 1.0)
    return service


class Cut(httpx.AsyncByteStream):
    """What a server answers, of which the first `most` bytes arrive; then the connection breaks or ends."""

    def __init__(self, body: bytes, most: int, error: Exception | None) -> None:
        self.pieces = [body[i : i + 100] for i in range(0, min(most, len(body)), 100)]
        self.error = error
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
            await asyncio.sleep(0)
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        self.closed = True


class Cutting(httpx.AsyncBaseTransport):
    """The real app, whose answers to the first questions for values are cut to some bytes."""

    def __init__(
        self, service: MemoryService, *most: int, error: Exception | None = None, **limits: Any
    ) -> None:
        self._inner = httpx.ASGITransport(create_app(service, Settings(limits=Limits(**limits))))
        self._most = list(most)
        self._error = error
        self.asked: list[int] = []
        self.sent: list[Cut] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(len(json.loads(request.content)["keys"]))
        answer = await self._inner.handle_async_request(request)
        body = b"".join([piece async for piece in answer.stream])  # type: ignore[union-attr]
        cut = Cut(body, self._most.pop(0), self._error) if self._most else Cut(body, len(body), None)
        self.sent.append(cut)
        return httpx.Response(answer.status_code, headers=answer.headers, stream=cut)


async def read(transport: httpx.AsyncBaseTransport, keys: Iterable[str]) -> dict[str, Answered]:
    found: dict[str, Answered] = {}
    service = HttpService("http://127.0.0.1:8000", transport=transport)
    async with aclosing(service.values(list(keys))) as batches:
        async for batch in batches:
            for answer in batch:
                assert answer.key not in found
                found[answer.key] = answer
    return found


def told(found: dict[str, Answered]) -> list[Any]:
    return [a.value if isinstance(a, StoredValue) else a.failure.type for a in found.values()]


@pytest.mark.parametrize("error", [None, httpx.ReadError("reset"), httpx.RemoteProtocolError("cut")])
@pytest.mark.parametrize("most", [0, 200, 1500, 2400])
async def test_a_stream_that_breaks_off_is_asked_for_from_there_on(
    most: int, error: Exception | None
) -> None:
    service = holding(*range(3 * BATCH))
    transport = Cutting(service, most, most, error=error)
    assert told(await read(transport, service.kept)) == [*range(3 * BATCH)]
    assert transport.asked[0] == 3 * BATCH
    assert 2 <= len(transport.asked) <= 3
    assert sorted(transport.asked, reverse=True) == transport.asked
    assert all(cut.closed for cut in transport.sent)


async def test_a_stream_that_never_brings_anything_is_given_up() -> None:
    service = holding(1)
    transport = Cutting(service, *[50] * 9, error=httpx.ReadError("reset"))
    with pytest.raises(errors.Unavailable, match="did not arrive: reset"):
        await read(transport, service.kept)
    assert len(transport.asked) == module.VALUES_TRIES


async def test_what_is_not_arrow_is_given_up() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>a proxy's page</html>" * 9))
    with pytest.raises(errors.Unavailable, match="did not arrive"):
        await read(transport, ["f" * 32])


async def test_values_of_several_types_all_come() -> None:
    values: list[Any] = [1, 0.5, "a", 2, 0.25, b"\xff", "b", 3, True]
    service = holding(*values)
    transport = Cutting(service)
    found = await read(transport, service.kept)
    assert {key: stored.value for key, stored in service.kept.items()} == {
        key: answer.value for key, answer in found.items() if isinstance(answer, StoredValue)
    }
    assert transport.asked == [9]


async def test_what_is_beyond_the_bytes_of_an_answer_is_asked_for_again() -> None:
    service = holding(*[f"{i} " + "x" * 1000 for i in range(5 * BATCH)])
    transport = Cutting(service, values_bytes=2 * BATCH * 1000)
    assert len(await read(transport, service.kept)) == 5 * BATCH
    assert transport.asked == [5 * BATCH, 3 * BATCH, BATCH]


async def test_more_keys_than_the_server_takes_go_in_parts() -> None:
    service = holding(*range(20))
    transport = Cutting(service, values_per_request=6)
    assert told(await read(transport, service.kept)) == [*range(20)]
    assert transport.asked == [20, 10, 5, 5, 5, 5]


async def test_a_reader_that_leaves_ends_the_answer() -> None:
    service = holding(*range(BATCH), *range(BATCH))
    transport = Cutting(service)
    http = HttpService("http://127.0.0.1:8000", transport=transport)
    async with aclosing(http.values(list(service.kept))) as batches:
        assert len(await anext(batches)) == BATCH
    assert transport.sent[0].closed


async def test_a_caller_that_is_cancelled_waits_for_no_server() -> None:
    """The thread that reads is told, too: it would keep the program from ending."""
    begun = asyncio.Event()

    class Silent(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            begun.set()
            await asyncio.Event().wait()
            yield b""

    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Silent()))
    reading = asyncio.create_task(read(transport, ["f" * 32]))
    await begun.wait()
    reading.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await reading
    async with asyncio.timeout(10):
        await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_client_gives_values_by_key_and_failures_beside_them() -> None:
    service = holding(1, "a")
    one, two = service.kept
    three = "3" * 32
    service.failed[three] = Failure("input", "MediaError", "it is torn", "frames", three, "u", 422)
    keys = [two, "f" * 32, three, one]
    for carrier in (service, HttpService("http://127.0.0.1:8000", transport=Cutting(service))):
        found = await AsyncClient(carrier).values(iter(keys))
        assert list(found) == keys
        assert (found[one], found[two]) == (1, "a")
        assert (found["f" * 32].type, found["f" * 32].status) == ("UnknownKey", 404)
        assert (found[three].kind, found[three].type, found[three].message) == (
            "input",
            "MediaError",
            "it is torn",
        )
        assert await AsyncClient(carrier).values([]) == {}


async def test_load_over_http_asks_once_and_raises_for_what_is_not_there() -> None:
    service = holding(*range(20))
    transport = Cutting(service)
    http = HttpService("http://127.0.0.1:8000", transport=transport)
    keys = [*service.kept][::-1]
    assert [stored.value for stored in await http.load([*keys, keys[0]])] == [*range(19, -1, -1), 19]
    assert transport.asked == [20]
    with pytest.raises(errors.UnknownKey):
        await http.load([keys[0], "f" * 32])
