"""What a shard promises its sessions, whatever comes late or twice, seen at its public methods.

What was withdrawn is not begun again; a withdrawal ends the attempt that it is about and no newer one; what
was handed out and not acknowledged is handed out again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from amber_ray.core.state import events as ev
from amber_ray.fabric.shard.requests import SESSION_SECONDS
from amber_ray.fabric.transport.messages import MissingPlans, Reply, Updates

if TYPE_CHECKING:
    from amber_ray.fabric.shard.shard import Shard
    from tests.simulation.world import World


class SessionWatch:
    """Watches the calls of one incarnation of a shard."""

    def __init__(self, world: World, shard: Shard) -> None:
        self._world = world
        self._withdrawn: dict[tuple[str, int], float] = {}
        self._newest: dict[tuple[str, str], int] = {}
        self._acknowledged: dict[str, int] = {}
        self._handed: dict[str, Updates] = {}
        self._withdrawing: dict[str, tuple[str, int]] = {}
        self._watch(shard)

    def _watch(self, shard: Shard) -> None:
        submit, withdraw, poll = shard.submit, shard.withdraw, shard.poll

        async def submitted(session: str, plans: Any, submissions: Sequence[Any]) -> Any:
            began = self._world.loop.time()
            replies = await submit(session, plans, submissions)
            if not isinstance(replies, MissingPlans):
                for one, reply in zip(submissions, replies, strict=True):
                    self._begun(session, one.attempt, reply, began)
            return replies

        async def withdrew(session: str, attempts: Mapping[str, int]) -> None:
            for id, attempt in attempts.items():
                self._withdrawing[id] = session, attempt
            await withdraw(session, attempts)
            for id, attempt in attempts.items():
                self._withdrawing.pop(id, None)
                self._withdrawn[session, attempt] = self._world.loop.time()

        async def polled(session: str, stream: str, seen: int, timeout: float) -> Updates:
            self._acknowledged[stream] = max(seen, self._acknowledged.get(stream, 0))
            updates = await poll(session, stream, seen, timeout)
            self._handed_out(session, updates)
            return updates

        shard.submit = submitted  # type: ignore[method-assign]
        shard.withdraw = withdrew  # type: ignore[method-assign]
        shard.poll = polled  # type: ignore[method-assign]

    def heard(self, event: ev.Event) -> None:
        """The ledger is told something."""
        if isinstance(event, ev.Left) and event.id in self._withdrawing:
            session, attempt = self._withdrawing[event.id]
            newest = self._newest.get((session, event.id), 0)
            gone = (session, newest) in self._withdrawn
            assert newest <= attempt or gone, f"a late withdrawal ended a newer attempt of {event.id}"

    def _begun(self, session: str, attempt: int, reply: Reply, began: float) -> None:
        since = self._withdrawn.get((session, attempt), began)
        remembered = began - SESSION_SECONDS / 2 < since < began
        assert not (remembered and reply.state == "running"), f"{reply.id} was withdrawn, and is begun"
        if reply.state == "running" and not (reply.refused or reply.taken):
            self._newest[session, reply.id] = max(attempt, self._newest.get((session, reply.id), 0))

    def _handed_out(self, session: str, updates: Updates) -> None:
        last = self._handed.get(session)
        if last is not None and last.stream == updates.stream:
            if last.number > updates.number:
                return  # of two polls at once the later one has what this one has
            if self._acknowledged.get(last.stream, 0) < last.number:
                lacking = set(last.finished) - set(updates.finished)
                assert not lacking, f"{session} is never told of {lacking}"
        self._handed[session] = updates
