"""A thousand calls of a service that takes a second for each, a hundred in flight; and a rate that is held.

The service is a process of its own on the same machine, asked by HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

from benchmarks.measure import Measured, seconds
from benchmarks.session import Session, main
from benchmarks.warm import pictures

CONCURRENCY = 100
RATE = 20.0


def run(session: Session) -> list[Measured]:
    """The time that all calls take, and how long a rate makes them take."""
    count, takes, paced = session.size((1000, 1.0, 1200), (200, 0.25, 40))
    paths = pictures(session.folder / "asked", max(count, paced))
    first = pictures(session.folder / "asked first", 1, seed=1)
    with service(takes) as slow, service(0.0) as quick, session.client() as client:
        for path in paths:
            client.asset(path)
        asked = {"asked.server": slow.address}
        client.get_many(["asked"], first, params=asked, progress=False)  # the actor is up
        took = seconds(lambda: client.get_many(["asked"], paths[:count], params=asked, progress=False))
        most = slow.report()["in flight"]
        if most > CONCURRENCY:
            raise RuntimeError(f"{most:g} calls were in flight, more than {CONCURRENCY}")
        client.get_many(
            ["asked_slowly"], paths[:paced], params={"asked_slowly.server": quick.address}, progress=False
        )
        found = quick.report()
        if found["within a second"] > 1.1 * RATE + 1:
            raise RuntimeError(f"{found['within a second']:g} calls came within one second")
    return [
        Measured(
            "calls: a slow service",
            f"{count} calls of a service that takes {takes:g} s, {CONCURRENCY} in flight, values written",
            "the calls alone: so many rounds of so long",
            took,
            count / CONCURRENCY * takes,
            "s",
            1.2,
        ),
        Measured(
            "calls: a rate",
            f"from the first to the last of {paced} calls, as the service saw them",
            f"{RATE:g} a second",
            found["seconds"],
            (paced - 1) / RATE,
            "s",
            1.05,
        ),
    ]


class Service:
    """A server in another process: its address, and what it has seen."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self.address: str = line.recv()

    def report(self) -> dict[str, float]:
        """The most calls in flight, the most within a second, and seconds from the first to the last."""
        self._line.send("report")
        report: dict[str, float] = self._line.recv()
        return report


@contextlib.contextmanager
def service(takes: float) -> Iterator[Service]:
    """A server that answers each request after so many seconds."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, takes), daemon=True)
    process.start()
    try:
        yield Service(ours)
    finally:
        process.terminate()
        process.join()


def _serve(line: Connection, takes: float) -> None:
    asyncio.run(_Server(takes).run(line))


class _Server:
    def __init__(self, takes: float) -> None:
        self._takes = takes
        self._now = self._most = 0
        self._came: list[float] = []

    async def run(self, line: Connection) -> None:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=1000)
        line.send(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        while True:
            await asyncio.to_thread(line.recv)
            came = self._came
            within = max(sum(1 for t in came if s <= t < s + 1.0) for s in came)
            report = {"in flight": self._most, "within a second": within, "seconds": came[-1] - came[0]}
            line.send(report)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                self._came.append(time.monotonic())
                self._now += 1
                self._most = max(self._most, self._now)
                await asyncio.sleep(self._takes)
                self._now -= 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        writer.close()


if __name__ == "__main__":
    raise SystemExit(main(run))
