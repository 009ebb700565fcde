"""The times at which the ledger wants to be woken, and what for.

Must not know: what an alarm leads to.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Literal

Alarm = Literal["deadline", "retry", "grace", "forget"]


class Alarms:
    """A heap of alarms, each about a key or a request. None is removed before its time (`Ledger._tick`)."""

    def __init__(self) -> None:
        self._alarms: list[tuple[float, int, Alarm, str]] = []
        self._last = 0

    def set(self, when: float, what: Alarm, about: str) -> None:
        """Add an alarm for the time `when`."""
        self._last += 1
        heapq.heappush(self._alarms, (when, self._last, what, about))

    def due(self, now: float) -> Iterator[tuple[Alarm, str]]:
        """Remove and yield the alarms that are due, earliest first."""
        while self._alarms and self._alarms[0][0] <= now:
            _, _, what, about = heapq.heappop(self._alarms)
            yield what, about

    def next(self) -> float:
        """Return when the next alarm is due; infinity if there is none."""
        return self._alarms[0][0] if self._alarms else float("inf")

    def pending(self) -> Sequence[tuple[float, int, Alarm, str]]:
        """Return all alarms that are set."""
        return self._alarms
