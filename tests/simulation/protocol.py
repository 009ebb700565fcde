"""What a shard promises whoever calls it, whatever comes late or twice, seen at its public methods.

To sessions: what was withdrawn is not begun again; a withdrawal ends the attempt that it is about and no
newer one; what was handed out and not acknowledged is handed out again; everyone is told what the ledger told
them.

To purges: no write begins while writes are held off; what was settled is settled once; a part that was
rewritten stays out of the index; nobody who asks after a purge is told what it dropped.
"""

from __future__ import annotations

import contextvars
import pickle
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from amber_ray.core.model.request import Failure
from amber_ray.core.state import events as ev
from amber_ray.fabric.shard.purging import HOLD_SECONDS
from amber_ray.fabric.shard.requests import SESSION_SECONDS
from amber_ray.fabric.transport.messages import NO_COUNTS, Counts, Found, MissingPlans, Reply, Updates, Values
from tests.simulation.cluster import objects
from tests.simulation.loop import Process

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
        self._delivered: dict[tuple[str, str], list[ev.Ready | Failure]] = {}
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

        async def polled(
            session: str, stream: str, seen: int, timeout: float, counts: Counts = NO_COUNTS
        ) -> Updates:
            self._acknowledged[stream] = max(seen, self._acknowledged.get(stream, 0))
            updates = await poll(session, stream, seen, timeout, counts)
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

    def said(self, commands: Iterable[ev.Command]) -> None:
        """The ledger answers."""
        for command in commands:
            if isinstance(command, ev.Deliver):
                told = self._delivered.setdefault((command.request, command.key), [])
                told.append(command.outcome)

    def _begun(self, session: str, attempt: int, reply: Reply, began: float) -> None:
        since = self._withdrawn.get((session, attempt), began)
        remembered = began - SESSION_SECONDS / 2 < since < began
        assert not (remembered and reply.state == "running"), f"{reply.id} was withdrawn, and is begun"
        if reply.state == "running" and not (reply.refused or reply.taken):
            self._newest[session, reply.id] = max(attempt, self._newest.get((session, reply.id), 0))

    def _handed_out(self, session: str, updates: Updates) -> None:
        for id, answer in updates.about:
            told = self._delivered[id, answer.key]
            meant = (
                one == answer.failure if isinstance(one, Failure) else one.cached == answer.cached
                for one in told
                if isinstance(one, Failure) == (answer.failure is not None)
            )
            assert any(meant), f"{id} is told {answer} and was to be told {told}"
        last = self._handed.get(session)
        if last is not None and last.stream == updates.stream:
            if last.number > updates.number:
                return  # of two polls at once the later one has what this one has
            if self._acknowledged.get(last.stream, 0) < last.number:
                lacking = set(last.finished) - set(updates.finished)
                assert not lacking, f"{session} is never told of {lacking}"
        self._handed[session] = updates


_SETTLING: contextvars.ContextVar[str] = contextvars.ContextVar("settling", default="")


class RewriteWatch:
    """Watches how one incarnation of a shard follows purges and joined parts."""

    def __init__(self, world: World, shard: Shard, process: Process) -> None:
        self._world = world
        self._holds: dict[str, float] = {}
        self._settled: set[str] = set()
        self._purged: Counter[str] = Counter()
        self._gone: dict[tuple[str, int], float] = {}
        self._removed: set[str] = set()
        self._watch(shard)
        self._watch_index(shard)
        world.store.writers[process] = self

    def _watch(self, shard: Shard) -> None:
        hold, settle, get = shard.hold_writes, shard.settle_writes, shard.get

        async def held(token: str, purge: Any) -> list[str]:
            began = self._world.loop.time()
            keys = await hold(token, purge)
            if token not in self._settled:
                self._holds.setdefault(token, began)
            return keys

        async def settled(token: str, *arguments: Any) -> list[str]:
            _SETTLING.set(token)  # of this call alone: each is carried out by a task of its own
            self._holds.pop(token, None)
            self._settled.add(token)
            return await settle(token, *arguments)

        async def got(keys: Sequence[str]) -> Values:
            began = self._world.loop.time()
            values = await get(keys)
            for found in values.found:
                if found is not None:
                    self._told(found, began)
            return values

        shard.hold_writes = held  # type: ignore[method-assign]
        shard.settle_writes = settled  # type: ignore[method-assign]
        shard.get = got  # type: ignore[method-assign]

    def _watch_index(self, shard: Shard) -> None:
        index = shard.context.index
        add, remove = index.add, index.remove_part

        def added(part: str, keys: np.ndarray, rows: np.ndarray | None = None) -> None:
            assert part not in self._removed, f"{part} was rewritten, and is in the index again"
            add(part, keys, rows)

        def removed(part: str) -> list[str]:
            if part in self._world.store.rewritten:
                self._removed.add(part)
            return remove(part)

        index.add, index.remove_part = added, removed  # type: ignore[method-assign]

    def writes(self) -> None:
        """The shard begins a write."""
        least = self._world.loop.time() - HOLD_SECONDS + 1.0
        if any(since > least for since in self._holds.values()):
            # Not raised: a shard takes that for a write that failed.
            self._world.fail(AssertionError("a write begins while a purge holds writes off"))

    def heard(self, event: ev.Event) -> None:
        """The ledger is told something."""
        if isinstance(event, ev.Purged):
            token, now = _SETTLING.get(), self._world.loop.time()
            self._purged[token] += bool(token)
            assert self._purged[token] <= 1, "a purge is settled twice: values made since are gone"
            for key in event.keys:
                for serial in self._world.oracle.dropped.get(key, ()):
                    self._gone[key, serial] = now

    def _told(self, found: Found, began: float) -> None:
        if found.inline is not None:
            value = pickle.loads(found.inline)
        else:
            values = objects().open(found.ref[0])
            if values is None:
                return
            value = values[found.place]
        gone = self._gone.get((found.key, self._world.oracle.serial(value)), began)
        assert gone >= began, f"{found.key} was purged here, and is told from before"
