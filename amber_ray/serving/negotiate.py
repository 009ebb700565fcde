"""Choose a representation by `Accept` and its q-values (RFC 9110 12.5.1), and read the q-values of any list.

Must not know: what the representations are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_QUALITY = re.compile(r"(?:1(?:\.0{0,3})?|0(?:\.\d{0,3})?)\Z")


@lru_cache(maxsize=256)
def choose(accept: str | None, offers: tuple[str, ...]) -> str | None:
    """Return the offer that `accept` ranks highest, the first of equals; None if it takes none of them.

    >>> choose("application/json;q=0.5, image/*", ("application/json", "image/jpeg"))
    'image/jpeg'
    """
    if accept is None or not accept.strip():
        return offers[0]
    ranges = [parsed for item in accept.split(",") if (parsed := _range(item)) is not None]
    best, highest = None, 0.0
    for offer in offers:
        q = _ranked(offer, ranges)
        if q > highest:
            best, highest = offer, q
    return best


def _range(item: str) -> tuple[str, float] | None:
    """Parse one media range into its type and q; None if malformed. Other parameters are ignored."""
    kind, *parameters = item.split(";")
    kind = kind.strip().lower()
    if kind == "*":
        kind = "*/*"  # what some old clients mean by it
    if kind.count("/") != 1:
        return None
    q = quality(parameters)
    return None if q is None else (kind, q)


def quality(parameters: Iterable[str]) -> float | None:
    """Return the q among the parameters of one item of a list: 1 if there is none, None if malformed."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            return float(value.strip()) if _QUALITY.match(value.strip()) else None
    return 1.0


def _ranked(offer: str, ranges: list[tuple[str, float]]) -> float:
    """Return the q of an offer: that of the most specific range that matches it."""
    best, specific = 0.0, -1
    for kind, q in ranges:
        if kind == offer:
            rank = 2
        elif kind == offer.partition("/")[0] + "/*":
            rank = 1
        elif kind == "*/*":
            rank = 0
        else:
            continue
        if rank > specific:
            best, specific = q, rank
    return best
