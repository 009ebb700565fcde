"""JSON from callers, decoded under bounds.

A body comes from strangers. Its size is checked first, then its nesting (before the JSON decoder recurses),
its UTF-8, then the text; repeated keys, NaN and numbers of more than 64 bits are refused. Each refusal is one
sentence. Must not know: HTTP, what any body means.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from amber_ray.errors import BadRequest, TooLarge, did_you_mean
from amber_ray.settings import Limits

MAX_NAME = 256
_LONE = re.compile("[\ud800-\udfff]")

# One token a step: a string (closed or not, so that an open quote can't make the scan restart) or a bracket.
# Possessive, hence linear in the body's length.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def depth_within(body: bytes, limit: int) -> bool:
    """Whether arrays and objects in `body` nest at most `limit` deep; linear, no recursion."""
    if body.count(b"[") + body.count(b"{") <= limit:
        return True
    depth = 0
    for match in _TOKEN.finditer(body):
        mark = body[match.start()]
        if mark in b"[{":
            depth += 1
            if depth > limit:
                return False
        elif mark in b"]}":
            depth -= 1
    return True


def loads(body: bytes, limits: Limits | None = None) -> Any:
    """Decode JSON from a caller. Raises `BadRequest` or `TooLarge`, never anything else.

    >>> loads(b'{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    """
    limits = limits or Limits()
    if len(body) > limits.body_bytes:
        raise TooLarge(f"the body has {len(body):,} bytes; at most {limits.body_bytes:,} are taken")
    if not depth_within(body, limits.body_depth):
        raise TooLarge(f"the body nests deeper than {limits.body_depth} levels")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body must be UTF-8; byte {error.start} is not") from None
    if not text.strip():
        raise BadRequest("the body is empty; a JSON object is needed")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BadRequest(
            f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, refused if a key is repeated: two readers would read two requests."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadRequest(f"the body has the key {quote(key)} twice in one object")
            seen.add(key)
    return found


def _int(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= (value := int(digits)) < 1 << 64:
        raise BadRequest(f"the number {digits[:24]}{'...' * (len(digits) > 24)} does not fit in 64 bits")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise BadRequest(f"the number {digits[:24]} is too large for a 64-bit float")
    return value


def _constant(name: str) -> Any:
    raise BadRequest(f"{name} is not JSON; leave the field out or use null")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_int,
    parse_float=_float,
    parse_constant=_constant,
)


def members(data: Any, allowed: Iterable[str], where: str) -> Mapping[str, Any]:
    """Return `data` if it is an object with only `allowed` keys. Raises `BadRequest` with a hint."""
    if not isinstance(data, dict):
        raise BadRequest(f"{where} must be a JSON object, not {describe(data)}")
    allowed = tuple(allowed)
    for name in data:
        if name not in allowed:
            hint = did_you_mean(name, allowed, f"the fields are {', '.join(allowed)}")
            raise BadRequest(f"{where} has an unknown field {quote(name)}; {hint}")
    return data


def text(value: Any, where: str, longest: int = MAX_NAME) -> str:
    """Return `value` if it is a non-empty text of UTF-8 without NUL. Raises `BadRequest`."""
    if not isinstance(value, str):
        raise BadRequest(f"{where} must be a text, not {describe(value)}")
    if not value:
        raise BadRequest(f"{where} must not be empty")
    if len(value) > longest:
        raise BadRequest(f"{where} has {len(value):,} characters; at most {longest:,} are taken")
    if "\0" in value or (not value.isascii() and _LONE.search(value)):
        raise BadRequest(f"{where} has a character that no name can hold (NUL or half of a surrogate pair)")
    return value


def describe(value: Any) -> str:
    """Describe a JSON value in few words, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, (int, float)):
        return repr(value)
    return "an array" if isinstance(value, list) else "an object"


def quote(value: str) -> str:
    """Quote a text, cut if long, for messages."""
    return repr(value if len(value) <= 64 else value[:61] + "...")
