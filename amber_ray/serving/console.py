"""The socket between `amber serve` and the processes that Ray has started for it, in a folder of its own.

Lines of the log come one way (`fabric.adapter.logs` sends them); the other way replicas are told to come to
their end, and say when nobody waits for them any more.

    cache actor ──lines──→ Console ←──lines── replica
                              └──drain──→ replica ──drained──→ Console

Must not know: Ray, HTTP, what is in a line.
"""

from __future__ import annotations

import asyncio
import logging
import socketserver
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

log = logging.getLogger("amber.console")

NAME = "console"
REPLICA, DRAIN, DRAINED = b"replica\n", b"drain\n", b"drained\n"
LONGEST = 1 << 20
"""Bytes of one line."""


class Console:
    """The server's side, used in a `with`: `write` is given each line, from threads of its own."""

    def __init__(self, folder: Path, write: Callable[[bytes], object]) -> None:
        self.path = str(folder / NAME)
        self._write = write
        self._replicas: dict[Any, threading.Event] = {}
        self._lock = threading.Lock()
        console = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                console._serve(self)

        self._server = socketserver.ThreadingUnixStreamServer(self.path, Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, connection: socketserver.StreamRequestHandler) -> None:
        try:
            if connection.rfile.readline(LONGEST) == REPLICA:
                self._follow(connection)
            else:
                while line := connection.rfile.readline(LONGEST):
                    self._write(line)
        except ConnectionError:
            return  # its process was killed

    def _follow(self, connection: socketserver.StreamRequestHandler) -> None:
        drained = threading.Event()
        with self._lock:
            self._replicas[connection.wfile] = drained
        try:
            while connection.rfile.readline(LONGEST) == DRAINED:
                drained.set()
        finally:
            with self._lock:
                del self._replicas[connection.wfile]
            drained.set()  # it has ended: nobody waits for it

    def drain(self, seconds: float) -> bool:
        """Tell every replica to come to its end; False if one has not within so many seconds."""
        with self._lock:
            replicas = dict(self._replicas)
        for wfile in replicas:
            try:
                wfile.write(DRAIN)
            except OSError as error:
                log.info("a replica was gone when it was told to end: %s", error)
        until = time.monotonic() + seconds
        return all(drained.wait(max(0.0, until - time.monotonic())) for drained in replicas.values())


async def follow(path: str, drain: Callable[[], Awaitable[None]]) -> None:
    """A replica's side: `drain` when told to, for as long as the server lives."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        log.warning("the server that started this replica can't be heard: %s", error)
        return
    try:
        writer.write(REPLICA)
        while await reader.readline() == DRAIN:
            await drain()
            writer.write(DRAINED)
    finally:
        writer.close()
