"""Ready steps in order of urgency, and the fair share between the tenants who asked for them.

Must not know: what the cluster has, how steps become tasks.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from amber_ray.core.planning.plan import Recipe
from amber_ray.core.state.entry import Entry

CLASSES = 3
"""Scheduling classes, the least urgent first: backfill, batch, interactive."""

_Item = tuple[float, int, int, Entry]


class ReadyQueue:
    """Ready steps that the same kind of worker can run.

    A step is in the queue while the ticket with which it was pushed is still its own. Pulling a step leaves a
    void item in the heap, which is dropped when it becomes the first. `caller`: the recipe whose calls are
    counted (`scheduler.calls`), if these are such.
    """

    __slots__ = ("_items", "_tiers", "caller", "needs", "size")

    def __init__(self, needs: Mapping[str, float], caller: Recipe | None = None) -> None:
        self.needs = needs
        self.caller = caller
        self.size = 0
        self._items = 0
        self._tiers: tuple[dict[str, list[_Item]], ...] = tuple({} for _ in range(CLASSES))

    def push(self, entry: Entry) -> None:
        """Add a step under its ticket."""
        tier, urgency = entry.rank
        heapq.heappush(
            self._tiers[tier].setdefault(entry.tenant, []), (-urgency, entry.seq, entry.ticket, entry)
        )
        self.size += 1
        self._items += 1

    def pull(self) -> None:
        """Record that a step of the queue has given its ticket back."""
        self.size -= 1
        if not self.size:
            self._items = 0
            for tenants in self._tiers:
                tenants.clear()
        elif self._items > 64 + 4 * self.size:
            self._sweep()

    def head(self, tier: int, served: Mapping[str, float]) -> Entry | None:
        """Return the next step of a class and leave it there. `served`: seconds per tenant in that class."""
        best: tuple[float, float, int] | None = None
        first: Entry | None = None
        tenants = self._tiers[tier]
        for tenant in list(tenants):
            heap = tenants[tenant]
            while heap and heap[0][3].ticket != heap[0][2]:
                heapq.heappop(heap)
                self._items -= 1
            if not heap:
                del tenants[tenant]
                continue
            order = (served[tenant], heap[0][0], heap[0][1])
            if best is None or order < best:
                best, first = order, heap[0][3]
        return first

    def _sweep(self) -> None:
        """Drop void items that never become the first because more urgent steps keep coming."""
        self._items = 0
        for tenants in self._tiers:
            for tenant, heap in list(tenants.items()):
                heap[:] = [item for item in heap if item[3].ticket == item[2]]
                heapq.heapify(heap)
                self._items += len(heap)
                if not heap:
                    del tenants[tenant]


class Tenants:
    """Seconds of work that each tenant was served in one class.

    This is start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): of two tenants with steps waiting,
    neither is ahead of the other by more than the work of one task. A tenant who arrives with nothing queued
    starts level with the one whose turn was last. Otherwise it would have the cluster to itself until it had
    caught up on its absence.
    """

    def __init__(self) -> None:
        self.served: dict[str, float] = {}
        self._queued: dict[str, int] = {}
        self._level = 0.0

    @property
    def waiting(self) -> bool:
        """Whether any tenant has a step in the queue."""
        return bool(self._queued)

    @property
    def steps(self) -> int:
        """Steps in the queue, of all tenants."""
        return sum(self._queued.values())

    def queued(self, tenant: str) -> None:
        """Count one more step of the tenant in the queue."""
        if not self._queued:  # a new busy period, in which all start level
            self._level = max(self.served.values(), default=self._level)
            self.served.clear()
        waiting = self._queued.get(tenant, 0)
        if not waiting:
            self.served[tenant] = max(self.served.get(tenant, 0.0), self._level)
        self._queued[tenant] = waiting + 1

    def unqueued(self, tenant: str) -> None:
        """Count one step less."""
        self._queued[tenant] -= 1
        if not self._queued[tenant]:
            del self._queued[tenant]

    def nothing_queued(self) -> None:
        """Forget what is queued: the queue was emptied and is about to be filled again."""
        self._queued.clear()

    def turn_of(self, tenant: str) -> None:
        """Raise the level to a tenant whose step is next. Forget idle tenants who are not ahead of it."""
        self._level = max(self._level, self.served[tenant])
        if len(self.served) > 2 * len(self._queued) + 64:
            self.served = {t: s for t, s in self.served.items() if t in self._queued or s > self._level}

    def charge(self, tenant: str, seconds: float) -> None:
        """Charge a tenant for that many seconds of work, which was handed over for it."""
        self.served[tenant] = max(self.served.get(tenant, 0.0), self._level) + seconds
