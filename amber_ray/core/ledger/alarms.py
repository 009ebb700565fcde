"""When the ledger wants to be woken, and what for. Must not know: what an alarm leads to."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Literal

Alarm = Literal["deadline", "retry", "grace", "forget"]


class Alarms:
    """Alarms by time, each about a key or a request. One that has lost its reason by then does nothing."""

    def __init__(self) -> None:
        self._alarms: list[tuple[float, int, Alarm, str]] = []
        self._last = 0

    def set(self, when: float, what: Alarm, about: str) -> None:
        """Wake up at `when`."""
        self._last += 1
        heapq.heappush(self._alarms, (when, self._last, what, about))

    def due(self, now: float) -> Iterator[tuple[Alarm, str]]:
        """The alarms that are due, earliest first; each is taken off."""
        while self._alarms and self._alarms[0][0] <= now:
            _, _, what, about = heapq.heappop(self._alarms)
            yield what, about

    def next(self) -> float:
        """When the next alarm is due; infinity if there is none."""
        return self._alarms[0][0] if self._alarms else float("inf")

    def pending(self) -> Sequence[tuple[float, int, Alarm, str]]:
        """All alarms that are set."""
        return self._alarms
