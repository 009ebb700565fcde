"""How many assets the next request of a long way through a catalogue has.

Requests grow while they end soon: each costs messages and a record in the journal, which is much beside a few
small pictures and nothing beside a film. Must not know: what is asked, the time.
"""

from __future__ import annotations

FIRST = 32
"""Assets in a request until it is known how long such requests take."""
SOON_SECONDS, LATE_SECONDS = 2.0, 8.0
"""A request that took less than this is followed by one of twice as many assets; more, by one of half."""


class Pace:
    """As many assets as a first request has, up to its share of a window of which `at_once` are under way."""

    def __init__(self, window: int, at_once: int) -> None:
        self._most = max(1, window // at_once)
        self._least = self.size = min(FIRST, self._most)

    def took(self, assets: int, seconds: float) -> None:
        """Take in how long a request of so many assets took, its time in line included."""
        if seconds < SOON_SECONDS:
            self.size = max(self.size, min(2 * assets, self._most))
        elif seconds > LATE_SECONDS:
            self.size = min(self.size, max(assets // 2, self._least))
