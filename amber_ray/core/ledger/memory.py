"""Which values are in memory, which of them must be written first, and which are evicted next.

A value that is to be stored is evictable only after its write has succeeded, so a failed write loses nothing:
it is tried again after a pause. Each key is written by one writer at a time. When a value is released while
it is being written (purged, recomputed, lost), that write is stale, and its end says nothing of a newer
value.

Eviction is GreedyDual-Size-Frequency (Cherkasova, "Improving WWW Proxies Performance with
Greedy-Dual-Size-Frequency Caching Policy", HP Labs 1998): the value with the smallest `clock + uses * cost /
bytes` is evicted first, and the clock rises to the score of each evicted value, so that values that were
useful long ago age. `cost` is the seconds it takes to have the value back, by reading it or, where it is
never written, by computing it.

Must not know: states, who waits for what, Parquet.
"""

from __future__ import annotations

import heapq

from amber_ray.settings import Settings

OVERHEAD = 1024
"""Bytes charged per value beside its own: the entry, its handle and a share of the index."""
READ_SECONDS = 0.005
READ_BYTES_PER_SECOND = 200e6
RETRY_SECONDS = 1.0
"""Pause before values that could not be written are tried again."""
_NEVER = float("inf")


class Budget:
    """The evictable values, those first that are cheapest to lose. Each operation takes O(log n)."""

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
        """Make a value evictable, or count another use of one. `cost` is None if it is in Parquet."""
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
        """Make a value not evictable, because a step is about to read it. Its use count stays."""
        self._stamp.pop(key, None)

    def forget(self, key: str) -> None:
        """Remove a value that is gone, and its use count."""
        self._stamp.pop(key, None)
        self._uses.pop(key, None)

    def pop(self) -> str | None:
        """Remove and return the key that is cheapest to lose; None if nothing is evictable."""
        while self._heap:
            score, stamp, key = heapq.heappop(self._heap)
            if self._stamp.get(key) == stamp:
                self._clock = score
                self.forget(key)
                return key
        return None


class Memory:
    """The account of values in memory. Sizes are bytes, plus `OVERHEAD` for each value; times are seconds."""

    def __init__(self) -> None:
        self.held = 0
        self.budget = Budget()
        self.unspilled: dict[str, int] = {}
        self.unspilled_bytes = 0
        self.spilling: set[str] = set()
        self.stale: set[str] = set()
        self._due = _NEVER
        self._not_before = -_NEVER

    def hold(self, size: int) -> None:
        """Charge for one more value in memory."""
        self.held += size + OVERHEAD

    def release(self, key: str, size: int) -> None:
        """Discharge a value that is no longer in memory, or no longer valid; it needs no writing."""
        self.held -= size + OVERHEAD
        self.budget.forget(key)
        if key in self.unspilled:
            self.unspilled_bytes -= self.unspilled.pop(key)
        if key in self.spilling:
            self.stale.add(key)

    # --- writing

    def write(self, key: str, size: int, by: float) -> None:
        """Record that the value has to be written, at the latest at `by`."""
        self.unspilled[key] = size
        self.unspilled_bytes += size
        if by < self._due:
            self._due = by

    def take_unspilled(self, settings: Settings, now: float) -> tuple[str, ...]:
        """Return the keys to be written now: none, or all that wait, so that parts are large and few.

        They are written when the oldest has waited long enough, when there is enough for a part, or when
        memory is short and no write is under way; what arrives during a write then goes together.
        """
        if not self.unspilled or now < self._not_before:
            return ()
        short = self.held > settings.memory_bytes and not self.spilling
        if now < self._due and self.unspilled_bytes < settings.spill_bytes and not short:
            return ()
        if self.stale:
            keys = tuple(key for key in self.unspilled if key not in self.spilling)
            rest = {key: size for key, size in self.unspilled.items() if key in self.spilling}
        else:
            keys, rest = tuple(self.unspilled), {}
        self.unspilled, self.unspilled_bytes = rest, sum(rest.values())
        self.spilling.update(keys)
        self._due = _NEVER  # the end of a stale write sets it for what remains
        return keys

    def written(self, key: str, now: float) -> bool:
        """Take in a successful write. Return whether it was of the value that is in memory."""
        if key not in self.spilling:
            return False
        self.spilling.discard(key)
        return not self._was_stale(key, now)

    def not_written(self, key: str, size: int, now: float) -> None:
        """Take in a failed write: if the value is still there it is written again after a pause."""
        if key not in self.spilling:
            return
        self.spilling.discard(key)
        self._not_before = now + RETRY_SECONDS
        if not self._was_stale(key, self._not_before):
            self.write(key, size, self._not_before)

    def _was_stale(self, key: str, now: float) -> bool:
        if key not in self.stale:
            return False
        self.stale.discard(key)
        if key in self.unspilled:
            self._due = min(self._due, now)
        return True

    def due(self) -> float:
        """Return when `take_unspilled` next has something because of time alone."""
        return max(self._due, self._not_before) if self.unspilled else _NEVER

    def choked(self, settings: Settings) -> bool:
        """Return whether memory is far over budget, and less so once writes are through.

        New tasks wait meanwhile. The end of a write and its retry are events, so they do not wait for ever.
        """
        return self.held > 2 * settings.memory_bytes and bool(self.spilling or self.unspilled)

    # --- eviction

    def may_go(self, key: str, size: int, cost: float | None) -> None:
        """Make a value evictable. `cost`: seconds to compute it again; None if it is in Parquet."""
        self.budget.offer(key, size, cost)

    def must_stay(self, key: str) -> None:
        """Make a value not evictable, because a step is about to read it."""
        self.budget.withhold(key)
