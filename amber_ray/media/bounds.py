"""The limits that hold for what is decoded now: those of the Amber that runs it, wherever that is.

A feature calls `pictures(asset)` and knows of no settings; whoever runs features says what the bounds are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from amber_ray.settings import Limits

_DEFAULTS = Limits()
_NOW: ContextVar[Limits] = ContextVar("amber_limits")


def current() -> Limits:
    """The limits of the step that runs in this context; the defaults outside of one."""
    return _NOW.get(_DEFAULTS)


@contextlib.contextmanager
def within(limits: Limits) -> Iterator[None]:
    """Run something under these limits."""
    token = _NOW.set(limits)
    try:
        yield
    finally:
        _NOW.reset(token)
