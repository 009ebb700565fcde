"""From an address to a client: what is there is found out, and said within seconds."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from amber_ray.client import embedded
from amber_ray.client.address import aconnect, connect
from amber_ray.client.declared import objects_of
from amber_ray.client.http import HttpService
from amber_ray.errors import BadRequest, StoreError, Unavailable
from amber_ray.fabric.adapter.cluster import start_local
from amber_ray.settings import Settings

ALIVE = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{"status":"ok"}'
SETTINGS_FRAME = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"
"""What gRPC, so the head of a Ray cluster, says to whoever connects: HTTP/2's first frame (RFC 9113 3.4)."""


@asynccontextmanager
async def listening(answer: bytes) -> AsyncIterator[str]:
    """Somebody at "host:port" who answers everything with these bytes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_a_server_is_found_without_its_scheme() -> None:
    async def story() -> None:
        async with listening(ALIVE) as address, aconnect(address) as client:
            assert isinstance(client.service, HttpService)
            assert client.service.url == f"http://{address}"

    asyncio.run(story())


def test_what_belongs_to_a_server_is_refused_there_too() -> None:
    async def story() -> None:
        async with listening(ALIVE) as address:
            with pytest.raises(BadRequest, match="belong to the server"):
                await aconnect(address, store="/tmp/elsewhere")

    asyncio.run(story())


def test_nobody_there_is_said_within_seconds() -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"nobody answers at 127\.0\.0\.1"):
        connect(f"127.0.0.1:{free_port()}")
    assert time.monotonic() - began < 60.0  # it waited for a cluster once


def test_what_speaks_something_else_is_joined_as_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[str] = []

    async def join(address: str, *arguments: object, **options: object) -> None:
        joined.append(address)
        raise Unavailable("no cluster in this test")

    monkeypatch.setattr(embedded, "join", join)

    async def story() -> None:
        async with listening(SETTINGS_FRAME) as address:
            with pytest.raises(Unavailable, match="no cluster in this test"):
                await aconnect(address)
            assert joined == [address]

    asyncio.run(story())


def test_a_client_is_awaited_or_used_in_a_with() -> None:
    async def story() -> None:
        async with listening(ALIVE) as address:
            client = await aconnect(f"http://{address}")
            await client.aclose()
            async with aconnect(f"http://{address}") as client:
                assert isinstance(client.service, HttpService)
            with pytest.raises(RuntimeError, match="closed"):
                await client.service.ping()

    asyncio.run(story())


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(BadRequest):
        connect("ftp://127.0.0.1:1")


def test_an_amber_of_ones_own_takes_paths_and_says_where_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "mine_by_path.py"
    mine.write_text("from amber_ray import feature\n@feature\ndef weighed(probe) -> float:\n    return 1.0\n")
    store = tmp_path / "store"
    with connect(store=store, features=[mine]) as amber:
        assert repr(amber) == f"<Client of {store}>"
        [weighed] = [info for info in amber.features() if info.name == "weighed"]
        assert repr(weighed) == f"<FeatureInfo weighed(probe) version {weighed.version}, per asset>"
    assert [f.__name__ for f in objects_of([mine])] == ["weighed"]
    with pytest.raises(BadRequest, match="features and media_roots are lists"):
        connect(features=mine)  # type: ignore[arg-type]


def test_a_store_that_cannot_be_made_is_told_in_a_sentence_before_ray_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # whatever else ran in this process
    with pytest.raises(StoreError, match=r"^the store '/proc/nope' can't be written: .*'/proc/nope'$"):
        start_local(Settings(store="/proc/nope"))
