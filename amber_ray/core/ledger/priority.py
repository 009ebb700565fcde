"""Priority propagation: a step has the highest rank of the requests and steps that wait for it (I4).

Raising a rank is cheap: one comparison decides. Lowering it looks at everyone who still waits, so the graph
does that once per event and key.

Must not know: what a rank means for the order of the queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from amber_ray.core.ledger.requests import Request
from amber_ray.core.scheduler.schedule import Scheduler
from amber_ray.core.state.entry import LEAST, LIVE, Entry, Rank


class PriorityPropagation:
    """Keeps the ranks of LIVE keys. A shared step is charged to the tenant of its highest rank."""

    def __init__(
        self, entries: Mapping[str, Entry], requests: Mapping[str, Request], scheduler: Scheduler
    ) -> None:
        self._entries = entries
        self._requests = requests
        self._scheduler = scheduler

    def raise_to(self, entry: Entry, rank: Rank, tenant: str) -> None:
        """Raise the rank of a step and of what it waits for to at least `rank`."""
        stack = [entry]
        while stack:
            one = stack.pop()
            if rank > one.rank and one.state in LIVE:
                self._set(one, rank, tenant)
                stack.extend(self.inputs(one))

    def lower(self, entry: Entry) -> None:
        """Set the rank of a step that lost a waiter or dependent to the highest of those that remain."""
        stack = [entry]
        while stack:
            one = stack.pop()
            rank, tenant = self.due(one)
            if one.state in LIVE and (rank, tenant) != (one.rank, one.tenant):
                self._set(one, rank, tenant)
                stack.extend(self.inputs(one))

    def due(self, entry: Entry) -> tuple[Rank, str]:
        """Return the highest rank among those who wait, and its tenant: the present one if that has it."""
        waiting = [(r.rank, r.tenant) for r in map(self._requests.__getitem__, entry.waiters)]
        waiting += [(user.rank, user.tenant) for user in entry.dependents.values()]
        rank, tenant = max(waiting, default=(LEAST, entry.tenant))
        return rank, (entry.tenant if (rank, entry.tenant) in waiting else tenant)

    def inputs(self, entry: Entry) -> Iterator[Entry]:
        """Yield the inputs that a step is registered with."""
        for need in entry.needs:
            below = self._entries.get(need)
            if below is not None and entry.key in below.dependents:
                yield below

    def _set(self, entry: Entry, rank: Rank, tenant: str) -> None:
        queued = entry.ticket
        self._scheduler.pull(entry)
        entry.rank, entry.tenant = rank, tenant
        if queued:
            self._scheduler.push(entry)
