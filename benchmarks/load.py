"""HTTP load from several processes, on bare keep-alive sockets so that the client is not the limit.

Each process opens its connections, waits at a barrier until all are open everywhere, and then sends. What it
understands of HTTP is what these benchmarks meet: status, Content-Length, chunked bodies.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import multiprocessing
import multiprocessing.synchronize
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(slots=True)
class Load:
    """What came back.

    `seconds` is wall time over all processes; `latencies` are seconds from each request to its last byte;
    `bodies` counts (status, body digest).
    """

    requests: int = 0
    seconds: float = 0.0
    bodies: Counter[tuple[int, str]] = field(default_factory=Counter)
    sample: bytes = b""
    latencies: list[float] = field(default_factory=list)

    @property
    def per_request(self) -> float:
        """Wall seconds per request, all connections together."""
        return self.seconds / self.requests

    @property
    def p99(self) -> float:
        """The 99th percentile of `latencies`, in seconds."""
        return sorted(self.latencies)[math.ceil(0.99 * len(self.latencies)) - 1]


@dataclass(frozen=True, slots=True)
class Request:
    """The same request over and over. `url` is absolute."""

    url: str
    method: str = "GET"
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self) -> bytes:
        parts = urlsplit(self.url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = (("Host", parts.netloc), *self.headers)
        if self.body:
            headers += (("Content-Type", "application/json"), ("Content-Length", str(len(self.body))))
        lines = [f"{self.method} {path or '/'} HTTP/1.1", *(f"{k}: {v}" for k, v in headers), "", ""]
        return "\r\n".join(lines).encode() + self.body


def send(request: Request, *, total: int, processes: int, connections: int, timeout: float = 120.0) -> Load:
    """Send `total` requests over `processes` x `connections` connections. Raises if a process fails."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes + 1)
    results = context.SimpleQueue()
    share, rest = divmod(total, processes)
    workers = [
        context.Process(
            target=_process,
            args=(request, share + (i < rest), connections, barrier, results, timeout),
            daemon=True,
        )
        for i in range(processes)
    ]
    for worker in workers:
        worker.start()
    try:
        barrier.wait(timeout)
        started = time.perf_counter()
        load = Load()
        for _ in workers:
            bodies, sample, latencies = results.get()
            if isinstance(sample, str):
                raise RuntimeError(sample)
            load.bodies.update(bodies)
            load.latencies += latencies
            load.sample = sample
        load.seconds = time.perf_counter() - started
        load.requests = sum(load.bodies.values())
        return load
    finally:
        for worker in workers:
            worker.join(5)
            if worker.is_alive():
                worker.kill()


def _process(
    request: Request,
    count: int,
    connections: int,
    barrier: multiprocessing.synchronize.Barrier,
    results: multiprocessing.SimpleQueue[tuple[Counter[tuple[int, str]], bytes | str, list[float]]],
    timeout: float,
) -> None:
    """One client process: its part of the requests, spread over its connections."""
    try:
        results.put(asyncio.run(asyncio.wait_for(_client(request, count, connections, barrier), timeout)))
    except Exception as error:  # noqa: BLE001 - told to the parent, which raises it
        barrier.abort()
        results.put((Counter(), f"a client process failed: {type(error).__name__}: {error}", []))


async def _client(
    request: Request, count: int, connections: int, barrier: multiprocessing.synchronize.Barrier
) -> tuple[Counter[tuple[int, str]], bytes, list[float]]:
    parts = urlsplit(request.url)
    connections = max(1, min(connections, count))
    streams = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(connections)]
    bodies: Counter[tuple[int, str]] = Counter()
    message = request.encode()
    last = b""
    latencies: list[float] = []

    async def worker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, share: int) -> None:
        nonlocal last
        for _ in range(share):
            began = time.perf_counter()
            writer.write(message)
            status, last = await read_response(reader)
            latencies.append(time.perf_counter() - began)
            bodies[status, hashlib.sha256(last).hexdigest()] += 1
        writer.close()

    await asyncio.to_thread(barrier.wait, 60)
    share, rest = divmod(count, connections)
    await asyncio.gather(*(worker(*s, share + (i < rest)) for i, s in enumerate(streams)))
    return bodies, last, latencies


async def read_response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of one response."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ", 2)[1])
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return status, await reader.readexactly(int(headers.get("content-length", "0")))
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return status, body
