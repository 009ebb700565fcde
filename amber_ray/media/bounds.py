"""The limits that hold for what is decoded now: those of the Amber that runs it, wherever that is.

A feature calls `pictures(asset)` and knows of no settings; whoever runs features says what the bounds are,
and how many threads may decode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from amber_ray.settings import Limits

_DEFAULTS = Limits()
_NOW: ContextVar[Limits] = ContextVar("amber_limits")


@dataclass(slots=True)
class Decoding:
    """What may decode pictures for a step: `threads` of the CPU and, with `gpu`, the GPU that it holds.

    `nvdec` says whether the GPU did.
    """

    threads: int = 1
    gpu: bool = False
    nvdec: bool = False


_DECODING: ContextVar[Decoding] = ContextVar("amber_decoding")


def current() -> Limits:
    """The limits of the step that runs in this context; the defaults outside of one."""
    return _NOW.get(_DEFAULTS)


def decoding() -> Decoding:
    """What may decode for the step that runs in this context; outside of one a single thread."""
    return _DECODING.get(Decoding())


@contextlib.contextmanager
def within(limits: Limits, threads: int = 1, gpu: bool = False) -> Iterator[Decoding]:
    """Run something under these limits."""
    made = Decoding(threads, gpu)
    token, before = _NOW.set(limits), _DECODING.set(made)
    try:
        yield made
    finally:
        _NOW.reset(token)
        _DECODING.reset(before)
