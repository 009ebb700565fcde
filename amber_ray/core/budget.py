"""Which value leaves memory first.

GreedyDual-Size-Frequency (Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency
Caching Policy", HP Labs 1998): the value with the smallest `clock + uses * cost / bytes` goes first, and the
clock rises to the score of each value that goes, so that what was useful long ago ages. `cost` is the seconds
it takes to have the value back: reading it, or computing it where it is never written.
Must not know: states, Parquet.
"""

from __future__ import annotations

import heapq

OVERHEAD = 1024
"""Bytes charged per value beside its own: the entry, its handle and a share of the index."""
READ_SECONDS = 0.005
READ_BYTES_PER_SECOND = 200e6


class Budget:
    """The evictable values, cheapest to lose first. All operations are O(log n)."""

    def __init__(self) -> None:
        self._clock = 0.0
        self._heap: list[tuple[float, int, str]] = []
        self._stamp: dict[str, int] = {}
        self._uses: dict[str, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._stamp)

    def __contains__(self, key: str) -> bool:
        return key in self._stamp

    def offer(self, key: str, size: int, cost: float | None = None) -> None:
        """The value may be evicted from now on, or has been used again. `cost` None: it is in Parquet."""
        if cost is None:
            cost = READ_SECONDS + size / READ_BYTES_PER_SECOND
        uses = self._uses[key] = self._uses.get(key, 0) + 1
        self._next += 1
        self._stamp[key] = self._next
        heapq.heappush(self._heap, (self._clock + uses * cost / (size + OVERHEAD), self._next, key))
        if len(self._heap) > 64 + 4 * len(self._stamp):
            self._heap = [item for item in self._heap if self._stamp.get(item[2]) == item[1]]
            heapq.heapify(self._heap)

    def withhold(self, key: str) -> None:
        """The value must stay: a step is about to read it. What is known of its use is kept."""
        self._stamp.pop(key, None)

    def forget(self, key: str) -> None:
        """The value is gone; its use count with it."""
        self._stamp.pop(key, None)
        self._uses.pop(key, None)

    def pop(self) -> str | None:
        """Take the value that is cheapest to lose; None if nothing may go."""
        while self._heap:
            score, stamp, key = heapq.heappop(self._heap)
            if self._stamp.get(key) == stamp:
                self._clock = score
                self.forget(key)
                return key
        return None
