"""Byte ranges (RFC 9110 section 14): which part of its bytes a GET asks for.

One part is answered. Of several ranges it is the first one that there is: the standard lets a server send a
subset, since a 206 says itself what it has (section 15.3.7), and players ask for one. A `Range` that is
malformed, in another unit, or given twice is passed over, and all is sent. Must not know: what the bytes are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_UNIT = re.compile(rb"bytes=", re.IGNORECASE)
_SPEC = re.compile(rb"(\d*)-(\d*)\Z")
_LONGEST = 18
"""Digits of a position that is read as it is; with more it is behind the end of everything."""


def asked_part(headers: Iterable[tuple[bytes, bytes]], size: int, tag: str) -> range | None:
    """Return which of `size` bytes are asked for: None for all of them, an empty range for none that exist.

    `headers` are those of the ASGI scope, `tag` is the entity tag of the bytes. With `If-Range` a part is
    meant only if that is this very tag; a date never is, since no `Last-Modified` is sent.
    """
    given: list[bytes] = []
    for name, value in headers:
        if name == b"range":
            given.append(value)
        elif name == b"if-range" and value.strip() != tag.encode():
            return None
    if len(given) != 1:
        return None
    unit = _UNIT.match(given[0])
    if unit is None:
        return None
    parts: list[range] = []
    for item in given[0][unit.end() :].split(b","):
        spec = item.strip(b" \t")
        if not spec:
            continue  # lists may have empty elements (section 5.6.1.2)
        part = _part(spec, size)
        if part is None:
            return None
        parts.append(part)
    if not parts:
        return None
    return next(filter(None, parts), range(0))


def _part(spec: bytes, size: int) -> range | None:
    """One range of a list; empty if it is not within `size`, None if it is malformed."""
    found = _SPEC.match(spec)
    if found is None or spec == b"-":
        return None
    first, last = (_position(digits) for digits in found.groups())
    if first is None:
        return range(max(0, size - (last or 0)), size)
    if last is None:
        return range(first, max(first, size))
    return None if last < first else range(first, max(first, min(last + 1, size)))


def _position(digits: bytes) -> int | None:
    if not digits:
        return None
    return int(digits) if len(digits.lstrip(b"0")) <= _LONGEST else 10**_LONGEST
