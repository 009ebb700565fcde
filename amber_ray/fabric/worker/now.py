"""Which step runs now: for lines of the log that are written meanwhile, by a feature or a library.

Each thread, and each asyncio task, has its own. Must not know: where lines go.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple


class Now(NamedTuple):
    """A step's feature, and a request that it runs for; empty if none is known."""

    feature: str
    request: str


RUNNING: ContextVar[Now | None] = ContextVar("amber_step", default=None)
