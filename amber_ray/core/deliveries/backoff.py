"""When a delivery that was not taken is sent again.

Pauses grow from seconds to a day, so that a receiver that is down for a night is not called a thousand times
and one that was restarted is called at once; a part of each is drawn, so that a receiver that comes back is
not met by all at the same moment. A receiver may ask for a longer pause (`Retry-After`).
"""

from __future__ import annotations

import hashlib

FIRST_SECONDS = 5.0
FACTOR = 4.0
LONGEST_SECONDS = 86_400.0
GIVE_UP_SECONDS = 3 * 86_400.0
"""A message that nobody took for so long is sent again only by hand."""


def pause(id: str, attempts: int, asked: float | None = None) -> float:
    """Return the seconds until a delivery is sent again that was sent `attempts` times.

    At least what the receiver `asked` for, and at most a day. The part that is drawn is a function of id and
    attempts: the same in every process that computes it.
    """
    grown = min(LONGEST_SECONDS, FIRST_SECONDS * FACTOR ** min(attempts - 1, 20))
    drawn = int.from_bytes(hashlib.blake2b(f"{id} {attempts}".encode(), digest_size=4).digest()) / 2**32
    return min(LONGEST_SECONDS, max(grown * (0.5 + 0.5 * drawn), asked or 0.0))
