"""Which values are in memory, which of them must be written first, and which may go.

A value that is kept in Parquet leaves memory only after its write has succeeded, so a write that fails loses
nothing: it is tried again after a pause. A key is written by one writer at a time; when a value is let go
while it is being written (purged, recomputed, lost), that write is stale and its end says nothing of a newer
value. Must not know: states, who waits for what, Parquet.
"""

from __future__ import annotations

from amber_ray.core.budget import OVERHEAD, Budget
from amber_ray.settings import Settings

RETRY_SECONDS = 1.0
"""Pause before values that could not be written are tried again."""
_NEVER = float("inf")


class Memory:
    """The account of values in memory. Sizes in bytes, `OVERHEAD` charged on top of each; times in s."""

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
        """One more value is in memory."""
        self.held += size + OVERHEAD

    def release(self, key: str, size: int) -> None:
        """A value is no longer in memory, or no longer valid; it needs no writing."""
        self.held -= size + OVERHEAD
        self.budget.forget(key)
        if key in self.unspilled:
            self.unspilled_bytes -= self.unspilled.pop(key)
        if key in self.spilling:
            self.stale.add(key)

    # --- writing

    def write(self, key: str, size: int, by: float) -> None:
        """The value has to be written, at the latest at `by`."""
        self.unspilled[key] = size
        self.unspilled_bytes += size
        self._due = min(self._due, by)

    def take_unspilled(self, settings: Settings, now: float) -> tuple[str, ...]:
        """What is to be written now: nothing, or all that waits for it (large parts, not many small ones).

        It is time when the oldest has waited long enough, when there is enough for a part, or when memory is
        short and no write is on its way; what arrives during a write then goes together.
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
        self._due = _NEVER  # for the rest, the end of the stale write sets it
        return keys

    def written(self, key: str, now: float) -> bool:
        """A write succeeded; True if it was of the value that is in memory."""
        if key not in self.spilling:
            return False
        self.spilling.discard(key)
        return not self._was_stale(key, now)

    def not_written(self, key: str, size: int, now: float) -> None:
        """A write failed; if the value is still there it is written again after a pause."""
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
        """When `take_unspilled` next has something by time alone."""
        return max(self._due, self._not_before) if self.unspilled else _NEVER

    def choked(self, settings: Settings) -> bool:
        """Whether memory is far over budget only until writes are through: new tasks then wait for that.

        A write's end or its retry is an event, so this never stops for good.
        """
        return self.held > 2 * settings.memory_bytes and bool(self.spilling or self.unspilled)

    # --- eviction

    def may_go(self, key: str, size: int, cost: float | None) -> None:
        """The value may be evicted from now on. `cost`: seconds to make it again; None: it is in Parquet."""
        self.budget.offer(key, size, cost)

    def must_stay(self, key: str) -> None:
        """A step is about to read it."""
        self.budget.withhold(key)
