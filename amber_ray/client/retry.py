"""When an HTTP call may be sent again, and after how long.

Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015),
so that many clients of a server that restarts do not return in step. Must not know: sockets, clocks.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx

BASE_SECONDS = 0.1
CAP_SECONDS = 5.0
MOST_ASKED_SECONDS = 30.0
"""A server's Retry-After is believed up to this."""

UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""The server never saw the request: any call may be repeated."""
LOST = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.TimeoutException)
"""The server may have acted: only calls that may happen twice are repeated."""
BUSY = frozenset({429, 502, 503})
"""Statuses of a server, or a proxy before it, that may answer a moment later."""


def backoff(attempt: int, random: Callable[[], float], asked: float | None = None) -> float:
    """Seconds to wait after the `attempt`-th failure, counted from 0; `asked` is the server's Retry-After.

    >>> backoff(2, lambda: 1.0)
    0.4
    """
    ceiling: float = min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(attempt, 16))
    wait = random() * ceiling
    return wait if asked is None else min(asked, MOST_ASKED_SECONDS) + wait


def may_pass(response: httpx.Response) -> bool:
    """Whether an error may be over a moment later.

    A bare 500, without a problem document, is what Ray Serve says when a replica dies under a request.
    """
    status, kind = response.status_code, response.headers.get("content-type", "")
    return status in BUSY or (status == 500 and "json" not in kind)


def asked_wait(response: httpx.Response) -> float | None:
    """The Retry-After of an answer in seconds; None if it has none, or gives a date."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return None
