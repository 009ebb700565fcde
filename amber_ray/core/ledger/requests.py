"""Requests, and the one answer that each of them gets for each of its targets.

A waiter is one request's interest in one key. It is recorded at both ends, in `Request.pending` and in
`Entry.waiters`, and both are removed in one place, so an answer is neither forgotten nor repeated (I3).

Must not know: how a key comes to its value.
"""

from __future__ import annotations

from amber_ray.core.model.request import Failure
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import Entry, Rank


class Request:
    """One caller's request: its unanswered targets, and the steps that it brought about (`created`).

    `counted`, `load`, `refresh`: see `Requested`.
    """

    __slots__ = ("counted", "created", "deadline", "id", "load", "pending", "rank", "refresh", "tenant")

    def __init__(
        self,
        id: str,
        rank: Rank,
        tenant: str,
        deadline: float | None,
        *,
        counted: bool = True,
        load: bool = True,
        refresh: bool = False,
    ) -> None:
        self.id = id
        self.rank = rank
        self.tenant = tenant
        self.deadline = deadline
        self.counted = counted
        self.load = load
        self.refresh = refresh
        self.pending: dict[str, Entry] = {}
        self.created: dict[str, None] = {}


class Callers:
    """The live requests. Answers are appended to `out` as commands."""

    def __init__(self, out: list[ev.Command]) -> None:
        self.requests: dict[str, Request] = {}
        self._out = out

    def open(self, event: ev.Requested) -> Request:
        """Take in a request. Raises `ValueError`, changing nothing, for one that can't be taken."""
        if event.id in self.requests:
            raise ValueError(f"request {event.id} is already live")
        if event.priority not in (0, 1, 2):
            raise ValueError(f"request {event.id}: priority must be 0, 1 or 2, not {event.priority}")
        urgency = float("-inf") if event.deadline is None else -event.deadline
        rank = (event.priority, urgency)
        request = Request(
            event.id,
            rank,
            event.tenant,
            event.deadline,
            counted=event.counted,
            load=event.load,
            refresh=event.refresh,
        )
        self.requests[event.id] = request
        return request

    def wait(self, request: Request, entry: Entry) -> None:
        """Make the request a waiter on the key: it is told when there is an outcome."""
        request.pending[entry.key] = entry
        entry.waiters[request.id] = None

    def tell(self, request: Request, key: str, outcome: ev.Ready | Failure) -> None:
        """Answer one request about one key."""
        self._out.append(ev.Deliver(request.id, key, outcome))

    def answer(self, entry: Entry, outcome: ev.Ready | Failure) -> None:
        """Answer everyone who waits for a key, and finish requests that have all their answers."""
        waiters, entry.waiters = entry.waiters, {}
        for id in waiters:
            request = self.requests[id]
            del request.pending[entry.key]
            self.tell(request, entry.key, outcome)
            if not request.pending:
                self.finish(request)

    def waiting(self, entry: Entry) -> list[Request]:
        """Return the requests that wait for a key."""
        return [self.requests[id] for id in entry.waiters]

    def hand_over(self, request: Request, entry: Entry) -> None:
        """The request is about to wait for others in the place of a key.

        Until `handed_over` the key stays pending, or it could end by the answer of another target.
        """
        del entry.waiters[request.id]

    def handed_over(self, request: Request, key: str) -> None:
        """The request waits for what came in the place of a key."""
        del request.pending[key]
        if not request.pending:
            self.finish(request)

    def refuse(self, request: Request, entry: Entry, why: Failure) -> None:
        """Answer one request about a key that others may wait for as before."""
        del entry.waiters[request.id], request.pending[entry.key]
        self.tell(request, entry.key, why)
        if not request.pending:
            self.finish(request)

    def leave(self, request: Request) -> list[Entry]:
        """Withdraw the request. Return the keys it waited for, each of which has a waiter less now."""
        entries = list(request.pending.values())
        for entry in entries:
            del entry.waiters[request.id]
        request.pending.clear()
        del self.requests[request.id]
        return entries

    def finish(self, request: Request) -> None:
        """End a request of which every target has been answered."""
        del self.requests[request.id]
        self._out.append(ev.Finished(request.id))
