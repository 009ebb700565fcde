"""Reads answers about many values from Arrow streams while they arrive: one batch is held, not the rest.

pyarrow reads blocking, so a thread reads; it asks the event loop for the next bytes only when it needs them,
which slows the sender down to the reader's pace.

    event loop:  response bytes ←─ next ── Pulled ←─ read ── pyarrow: a thread for each batch

Must not know: HTTP, which keys were asked for.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from amber_ray.core.model.service import Answered
from amber_ray.errors import Unavailable


class BrokenOff(Unavailable):
    """A stream ended before its end; what has arrived is good."""


class Pulled(io.RawIOBase):
    """A file for one other thread over an async iterator of pieces of bytes.

    Made on the loop that the iterator belongs to, where `stop` is called too.
    """

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._loop = asyncio.get_running_loop()
        self._left = memoryview(b"")
        self._pulling: asyncio.Task[Any] | None = None
        self._stopped = False

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what has come, waiting until something has; 0 at the end."""
        while not self._left:
            piece = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def stop(self) -> None:
        """Have the thread that reads fail soon: nobody wants to know any more."""
        self._stopped = True
        if self._pulling is not None:
            self._pulling.cancel()

    async def _next(self) -> bytes | None:
        if self._stopped:  # between the thread's asking and now
            raise BrokenOff("nobody reads this stream any more")
        self._pulling = asyncio.current_task()
        return await anext(self._pieces, None)


async def answers(pieces: AsyncIterator[bytes]) -> AsyncGenerator[list[Answered], None]:
    """Answers of one stream after the other as they arrive, a batch at a time.

    Raises `BrokenOff` where one of them is not whole.
    """
    import pyarrow as pa

    from amber_ray.wire.value_rows import decode

    source = Pulled(pieces)
    # pyarrow takes a short read for the end; a buffered reader reads until it has all.
    file = io.BufferedReader(source, 1 << 16)
    reader: Any = None

    def read() -> list[Answered] | None:
        nonlocal reader
        try:
            while True:
                if reader is None:
                    if not file.peek(1):
                        return None
                    reader = pa.ipc.open_stream(file)
                try:
                    return decode(reader.read_next_batch())
                except StopIteration:
                    reader = None  # Values of another type may follow, in a stream of their own.
        except (pa.ArrowInvalid, OSError) as error:
            raise BrokenOff(str(error)) from error

    reading: asyncio.Future[list[Answered] | None] | None = None
    try:
        while True:
            reading = asyncio.ensure_future(asyncio.to_thread(read))
            batch = await asyncio.shield(reading)
            if batch is None:
                return
            yield batch
    finally:
        source.stop()
        if reading is not None and not reading.done():
            await asyncio.wait({reading})
        if reading is not None and not reading.cancelled():
            reading.exception()  # seen: it was raised to the reader, or nobody is left to be told
