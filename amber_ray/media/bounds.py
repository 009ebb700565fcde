"""The limits that hold for what is decoded now: those of the Amber that runs it, wherever that is.

A feature calls `pictures(asset)` and knows of no settings; whoever runs features says what the bounds are,
and how many threads may decode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from amber_ray.settings import Limits

_DEFAULTS = Limits()
_NOW: ContextVar[Limits] = ContextVar("amber_limits")
_THREADS: ContextVar[int] = ContextVar("amber_decoding_threads")


def current() -> Limits:
    """The limits of the step that runs in this context; the defaults outside of one."""
    return _NOW.get(_DEFAULTS)


def threads() -> int:
    """How many threads may decode pictures for the step that runs in this context; 1 outside of one."""
    return _THREADS.get(1)


@contextlib.contextmanager
def within(limits: Limits, threads: int = 1) -> Iterator[None]:
    """Run something under these limits."""
    token, before = _NOW.set(limits), _THREADS.set(threads)
    try:
        yield
    finally:
        _NOW.reset(token)
        _THREADS.reset(before)
