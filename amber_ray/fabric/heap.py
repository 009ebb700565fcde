"""How Python's cycle collector is kept from stopping a process that many wait for, and its memory small.

Must not know: what the process does.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys

YOUNG = 20_000
"""Objects made before the youngest are looked through, instead of 700: one plan alone has thousands."""


def settle() -> None:
    """To be called once by a process of Amber's own when it is up, before it answers anyone.

    What has been imported stays for good: frozen, it is not walked over by full collections, each of which
    would stop every answer for a tenth of a second. Reference counting frees nearly everything else here.
    """
    gc.collect()
    gc.freeze()
    give_back()
    _, middle, old = gc.get_threshold()
    gc.set_threshold(YOUNG, middle, old)


def give_back() -> None:
    """Return memory that is free to the operating system; what is in use stays where it is.

    Reading the keys of a store takes about as much again as they take in the index. Allocators keep that for
    the next time, and there is none.
    """
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        arrow.default_memory_pool().release_unused()
    with contextlib.suppress(AttributeError, OSError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)
