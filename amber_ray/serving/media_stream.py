"""The answer with an asset's bytes: a piece is read while nobody holds more than the one before it.

A reader that is slow is waited for, one that takes nothing for `IDLE_SECONDS` is cut off: browsers stop
reading when a player is paused, and ask for the rest by a range when it goes on. Bytes that can't be read to
their end (the file has changed, a disk fails) end the connection before `Content-Length` is reached, which is
how a caller sees it. Must not know: where the bytes lie.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from amber_ray.core.model.naming import plain
from amber_ray.errors import AmberError, Overloaded
from amber_ray.serving.drain import Drain
from amber_ray.serving.presence import ClientGone, while_present

log = logging.getLogger("amber.http")

STREAMS = 128
"""Answers with media that are under way at once in one app; each holds a piece or two in memory."""
IDLE_SECONDS = 60.0
"""How long a reader may take nothing."""

Read = Callable[[int, int], Awaitable[bytes]]
"""Reads bytes [start, end), or the first of them: as many as come in one piece."""


class Streams:
    """How many answers with media are under way in one app. All of it belongs to its event loop."""

    def __init__(self, most: int = STREAMS) -> None:
        self._most = most
        self._under_way = 0

    def enter(self) -> None:
        """Count one more. Raises `Overloaded` if there are too many."""
        if self._under_way >= self._most:
            raise Overloaded(f"{self._most} answers with media are under way here; try again in a second")
        self._under_way += 1

    def left(self) -> None:
        """One has ended."""
        self._under_way -= 1


class MediaStream:
    """An ASGI response with the bytes of `part`, the first of which are at hand already.

    It has been entered in `streams`, and leaves them at its end.
    """

    def __init__(
        self,
        first: bytes,
        part: range,
        read: Read,
        status: int,
        headers: dict[str, str],
        streams: Streams,
        drain: Drain,
    ) -> None:
        self._first = first
        self._part = part
        self._read = read
        self._status = status
        self._headers = headers
        self._streams = streams
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the bytes as they are taken."""
        try:
            headers = [(name.lower().encode(), value.encode()) for name, value in self._headers.items()]
            await send({"type": "http.response.start", "status": self._status, "headers": headers})
            await while_present(receive, self._follow(send), self._drain)
        except ClientGone:
            return  # a reader that has had enough
        except TimeoutError:
            log.info("a reader of %s took nothing for %g s", plain(scope["path"]), IDLE_SECONDS)
        except AmberError as error:
            log.warning("what is sent of %s is cut off: %s", plain(scope["path"]), error)
        finally:
            self._streams.left()

    async def _follow(self, send: Send) -> None:
        at, piece = self._part.start, self._first
        while True:
            at += len(piece)
            more = at < self._part.stop
            async with asyncio.timeout(IDLE_SECONDS):
                await send({"type": "http.response.body", "body": piece, "more_body": more})
            if not more:
                return
            piece = await self._read(at, self._part.stop)
