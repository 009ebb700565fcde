"""Replicas are told to come to their end, and say when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from amber_ray.serving.console import Console, follow

BOUND = 20.0


@pytest.fixture
def console() -> Iterator[Console]:
    folder = Path(tempfile.mkdtemp(prefix="amber-test-", dir="/tmp"))
    with Console(folder, lambda line: None) as made:
        yield made
    shutil.rmtree(folder)


class Replica(threading.Thread):
    """A replica whose callers go when `idle` is set; `told` is how often it was told to end."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self.told, self.idle, self.here = 0, threading.Event(), threading.Event()
        self._path = path
        self.start()

    def run(self) -> None:
        async def drain() -> None:
            self.told += 1
            self.here.set()
            await asyncio.to_thread(self.idle.wait, BOUND)

        asyncio.run(follow(self._path, drain))


def connected(console: Console, count: int) -> None:
    """Wait until so many replicas are heard."""
    pause = threading.Event()
    for _ in range(1000):
        if len(console._replicas) == count:
            return
        pause.wait(0.01)
    raise AssertionError("the replicas did not connect")


def test_every_replica_is_told_and_waited_for(console: Console) -> None:
    replicas = [Replica(console.path) for _ in range(2)]
    connected(console, 2)
    assert not console.drain(0.0)
    for replica in replicas:
        assert replica.here.wait(BOUND)
        replica.idle.set()
    assert console.drain(BOUND)


def test_a_replica_that_has_died_keeps_nobody(console: Console) -> None:
    async def dies() -> None:
        _, writer = await asyncio.open_unix_connection(console.path)
        writer.write(b"replica\n")
        await writer.drain()
        await asyncio.to_thread(connected, console, 1)
        draining = asyncio.create_task(asyncio.to_thread(console.drain, BOUND))
        await asyncio.sleep(0)
        writer.close()
        assert await draining

    asyncio.run(dies())
    assert console.drain(BOUND)


def test_a_replica_without_a_server_goes_on(tmp_path: Path) -> None:
    async def drain() -> None:
        raise AssertionError("nobody told it to")

    asyncio.run(follow(str(tmp_path / "nothing"), drain))
