"""Answers that are text are compressed by gzip for callers that accept it (RFC 9110, section 8.4.1).

Three kinds of answers are sent as they are. Small ones: a packet is a packet. Those that hardly shrink:
pictures, sound and video are compressed already, and numbers in Arrow or `.npy` would cost a core and save
little. Those that are sent piece by piece: an event must not wait in a compressor.
A caller that does not ask for it pays for one look at its headers.
Must not know: routes, what an answer says.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Iterable
from functools import lru_cache

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from amber_ray.serving.negotiate import quality

GZIP = "gzip"
SMALL = 1400
"""Bytes that are sent as they are: they fit into one packet either way."""
LEVEL = 3
"""zlib's: JSON shrinks to 30 %, at 5 to 27 % in half as much time again."""
IN_LOOP = 16 * 1024
"""Bytes that are compressed in the event loop, in about half a millisecond; more goes to a thread."""
TEXT = re.compile(r"(?:text/(?!event-stream)|application/(?:[\w.-]+\+)?json|image/svg\+xml)")
CODING = "amber.coding"
"""Where the request's scope says how its answer is coded if it is text and not small."""


class Compression:
    """An ASGI layer over `app`, inside the guard."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, compressed if its caller accepts that."""
        if scope["type"] != "http" or not accepts_gzip(scope["headers"]):
            await self.app(scope, receive, send)
            return
        scope[CODING] = GZIP
        held: Message | None = None  # the head of an answer that may be compressed, until its body comes

        async def compressed(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and is_text(message):
                held = message
                return
            if held is not None:
                head, held = held, None
                if not message.get("more_body") and len(message.get("body", b"")) >= SMALL:
                    message = {**message, "body": await _gzip(message["body"])}
                    headers = MutableHeaders(raw=head["headers"])
                    headers["Content-Encoding"] = GZIP
                    headers["Content-Length"] = str(len(message["body"]))
                    if "accept-encoding" not in headers.get("Vary", "").lower():
                        headers.add_vary_header("Accept-Encoding")
                await send(head)
            await send(message)

        await self.app(scope, receive, compressed)


def coding_of(scope: Scope, media_type: str) -> str:
    """Return how this request is answered in `media_type`, empty for as it is; entity tags differ by it."""
    coding: str = scope.get(CODING, "")
    return coding if TEXT.match(media_type) else ""


def is_text(start: Message) -> bool:
    """Whether the answer that begins so is text, whole, and not coded already."""
    headers = {name.lower(): value for name, value in start["headers"]}
    return (
        start["status"] != 206
        and b"content-encoding" not in headers
        and TEXT.match(headers.get(b"content-type", b"").decode("latin-1").lower()) is not None
    )


def accepts_gzip(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether `Accept-Encoding` among the headers of an ASGI scope prefers gzip to nothing."""
    given = [value for name, value in headers if name == b"accept-encoding"]
    return bool(given) and _prefers_gzip(b",".join(given))


@lru_cache(maxsize=256)
def _prefers_gzip(field: bytes) -> bool:
    ranked: dict[str, float] = {}
    for item in field.decode("latin-1").lower().split(","):
        coding, *parameters = item.split(";")
        ranked[coding.strip()] = quality(parameters) or 0.0
    gzip = ranked.get(GZIP, ranked.get("x-gzip", ranked.get("*", 0.0)))
    return gzip > 0 and gzip >= ranked.get("identity", 0.0)


async def _gzip(body: bytes) -> bytes:
    return await asyncio.to_thread(_gzip_now, body) if len(body) > IN_LOOP else _gzip_now(body)


def _gzip_now(body: bytes) -> bytes:
    # No name and no time in the header: equal answers are equal bytes, as strong entity tags promise.
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()
