"""How Python's cycle collector is kept from stopping a process that many wait for.

Must not know: what the process does.
"""

from __future__ import annotations

import gc

YOUNG = 20_000
"""Objects made before the youngest are looked through, instead of 700: one plan alone has thousands."""


def settle() -> None:
    """To be called once by a process of Amber's own when it is up, before it answers anyone.

    What has been imported stays for good: frozen, it is not walked over by full collections, each of which
    would stop every answer for a tenth of a second. Reference counting frees nearly everything else here.
    """
    gc.collect()
    gc.freeze()
    _, middle, old = gc.get_threshold()
    gc.set_threshold(YOUNG, middle, old)
