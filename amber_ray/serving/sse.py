"""A request's events as server-sent events (the HTML standard's `text/event-stream`).

Each event's data is one line of JSON. After a while without events a comment is sent, so that proxies keep
the connection and a caller that has gone is noticed. Must not know: where events come from.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from amber_ray.core.model.service import RequestEvent
from amber_ray.errors import AmberError
from amber_ray.serving.answers import encode_json, error_response
from amber_ray.serving.drain import Drain
from amber_ray.serving.presence import ClientGone, while_present

SILENCE = 15.0
"""Seconds without an event before a comment is sent."""
FIRST = 5.0
"""Seconds to wait for the first event, so that an unknown request is a 404 and not a stream."""
LONGEST = 3600.0
"""Seconds that one stream may last; the caller connects again and is told the whole state first."""
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}

Encode = Callable[[RequestEvent], Awaitable[Mapping[str, Any]]]


class EventStream:
    """An ASGI response that follows `events` until the last one, `done`.

    It ends before that when the caller hangs up, and when the time of the `drain` is up.
    """

    def __init__(self, events: AsyncIterator[RequestEvent], encode: Encode, drain: Drain) -> None:
        self._events = events
        self._encode = encode
        self._drain = drain
        self._next: asyncio.Future[RequestEvent] | None = None

    async def start(self) -> None:
        """Wait up to `FIRST` seconds for the first event, whose error can still be an ordinary answer."""
        try:
            await asyncio.wait({self._ask()}, timeout=FIRST)
            if self._ask().done():
                self._ask().result()
        except BaseException:
            await self._close()
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events as they come."""
        try:
            headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await while_present(receive, self._follow(send), self._drain, _cut_short)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientGone:
            return  # a reader that has had enough; the request goes on without it
        finally:
            await self._close()

    def _ask(self) -> asyncio.Future[RequestEvent]:
        """Return the event that is being waited for."""
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._events))
        return self._next

    async def _close(self) -> None:
        """Close the iterator of events, whichever way the stream ended."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait({self._next}, timeout=FIRST)
            if self._next.done() and not self._next.cancelled():
                self._next.exception()  # seen: it was raised to the caller, or came too late for one
        close = getattr(self._events, "aclose", None)
        if close is not None:
            await close()

    async def _follow(self, send: Send) -> None:
        async def write(chunk: bytes) -> None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        loop = asyncio.get_running_loop()
        end = loop.time() + LONGEST
        await write(b"retry: 2000\n\n")
        while loop.time() < end:
            asked = self._ask()
            await asyncio.wait({asked}, timeout=SILENCE)
            if not asked.done():
                await write(b": waiting\n\n")
                continue
            try:
                event = asked.result()
            except StopAsyncIteration:
                return
            except AmberError as error:
                await write(frame("error", bytes(error_response(error).body)))
                return
            self._next = None
            await write(frame(event.kind, encode_json(await self._encode(event))))
            if event.kind == "done":
                return


async def _cut_short() -> None:
    """The server stops: the stream ends, and its reader connects again elsewhere, or later (`retry`)."""


def frame(name: str, data: bytes) -> bytes:
    """Return one event as it is sent; `data` is a single line (JSON)."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
