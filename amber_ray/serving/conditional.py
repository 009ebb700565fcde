"""Conditional requests (RFC 9110 section 13): entity tags, and which copies of a value are still good.

The tag is strong: equal tags mean equal bytes. It is derived from the key, the time at which the value was
made, the type it is written by, the media type and the content coding, so a hot read digests a hundred bytes
and never the value. Where it is not known when a value was made, its bytes are digested instead. There is no
`Last-Modified`, whose whole seconds could not tell two makings apart.
Must not know: where values come from, how they are encoded.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from amber_ray.core.model.service import StoredValue
from amber_ray.core.values.annotations import ValueType

ENCODING = 1
"""To be raised when the bytes that a value is encoded as change: copies of the old ones are good no more."""

_ELEMENT = re.compile(r'[ \t]*(?:(W/)?("[\x21\x23-\x7e\x80-\xff]*")[ \t]*)?(?:,|\Z)')


def tag_of_making(stored: StoredValue, media_type: str, coding: str = "") -> str | None:
    """Return the entity tag of a value as `media_type`; None if it is not known when it was made.

    `coding` is how the caller is given it, unless it is too small for that.
    """
    if not stored.made:
        return None
    return _of_making(stored.key, stored.made, stored.type, _form(media_type, coding))


def tag_of_content(content: bytes, media_type: str, coding: str = "") -> str:
    """Return the entity tag of a representation by its bytes alone, as they are before `coding`."""
    return _tag(_form(media_type, coding).encode(), content)


def _form(media_type: str, coding: str) -> str:
    return f"{media_type} {coding}" if coding else media_type


def answer_without_body(headers: Iterable[tuple[bytes, bytes]], tag: str) -> int | None:
    """Evaluate the preconditions of a GET or HEAD: return 412, 304, or None if the body is to be sent.

    `headers` are those of the ASGI scope. `If-Match` compares strongly and `If-None-Match` weakly, in that
    order (RFC 9110 13.2.2). A list that is malformed names no tag.
    """
    # One walk over the headers: two look-ups by name would take a tenth of a hot read.
    given: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in (b"if-match", b"if-none-match"):
            given.setdefault(name, []).append(value)
    if b"if-match" in given and not _lists(given[b"if-match"], tag, strong=True):
        return 412
    if b"if-none-match" in given and _lists(given[b"if-none-match"], tag, strong=False):
        return 304
    return None


def _lists(lines: Sequence[bytes], tag: str, *, strong: bool) -> bool:
    """Return whether a list of entity tags is `*` or holds `tag`, which is a strong one."""
    field = b",".join(lines).decode("latin-1")
    if field.strip() == "*":
        return True
    at, found = 0, False
    while at < len(field):
        element = _ELEMENT.match(field, at)
        if element is None:
            return False
        found = found or (element[2] == tag and not (strong and element[1]))
        at = element.end()
    return found


@functools.lru_cache(maxsize=4096)
def _of_making(key: str, made: float, type: ValueType, media_type: str) -> str:
    return _tag(f"{ENCODING}\n{key}\n{made!r}\n{media_type}\n{json.dumps(type.spec())}".encode())


def _tag(*parts: bytes) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return f'"{digest.hexdigest()}"'
