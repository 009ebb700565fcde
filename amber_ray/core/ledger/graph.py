"""The keys that are known and the edges between them: what follows for the others when one changes.

Downward: whoever needs a key makes its inputs needed (`ensure`, `plan`) and as urgent as itself
(`PriorityPropagation`). Upward: a value makes its users ready (`available`), a failure fails them (`fail`),
and a value that is gone makes them wait again (`invalidate`). Interest that ends is only noted
(`release_interest`) and judged once the event has been taken in (`collect`), so what is let go and needed
again within one event is not touched. Must not know: events, tasks' ends, storage.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from amber_ray.core.ledger.alarms import Alarms
from amber_ray.core.ledger.memory import Memory
from amber_ray.core.ledger.priority import PriorityPropagation
from amber_ray.core.ledger.requests import Callers
from amber_ray.core.ledger.story import Story
from amber_ray.core.model.request import Failure
from amber_ray.core.model.units import Asset, Collection, Segment, Unit
from amber_ray.core.planning.plan import Step
from amber_ray.core.scheduler.schedule import Scheduler
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import AVAILABLE, LEAST, LIVE, Cause, Entry, Rank, State
from amber_ray.settings import Settings

QUARANTINED = "Quarantined"
"""The type of failure of a step that kills its worker whenever it runs."""

NOT_THERE = frozenset({"MediaNotFound", "MediaChanged"})
"""The types of failure that say that an asset is not, or no longer, at its place."""

PLACES = 50_000
"""Assets of which it is known when they were found at their place."""

FOREIGN_TRIES = 8
"""How often another shard is asked again for a step before that counts as a failure."""

INPUT_TRIES = 8
"""How often a step is tried again when it could not read its inputs, whatever its own retries."""

Charge = Literal["tries", "input_losses", "nobody"]
"""What a system fault is counted as: the step's own, its inputs not being there, or another step's."""

COUNTERS = (
    *("computed", "hits", "joined", "failed", "retried", "superseded", "evicted", "restored", "lost"),
    *("unwritten", "unreadable"),  # values that the store did not take, or give, when asked to
)


class Graph:
    """Entries by key.

    Commands that follow at once go to `out`; restores, drops and questions to other shards are gathered for
    the end of the event. `places`: where assets were found last, and when.
    """

    def __init__(self, settings: Settings, index: Container[str], shard: int, scheduler: Scheduler) -> None:
        self.settings = settings
        self.index = index
        self.shard = shard
        self.scheduler = scheduler
        self.entries: dict[str, Entry] = {}
        self.out: list[ev.Command] = []
        self.callers = Callers(self.out)
        self.urgency = PriorityPropagation(self.entries, self.callers.requests, scheduler)
        self.memory = Memory()
        self.to_restore: list[str] = []
        self.to_drop: list[str] = []
        self.to_ask: dict[str, Entry] = {}
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.places: dict[str, tuple[float, Asset]] = {}
        self._loose: dict[str, Entry] = {}
        self.newest = 0
        self.alarms = Alarms()
        self.story = Story()

    # --- downward: making sure that a key will have an answer

    def ensure(self, key: str, origin: Mapping[str, Step], rank: Rank, tenant: str, now: float) -> Entry:
        """The entry of a key that someone is about to wait for; made and set going if there was none."""
        entry = self.entries.get(key)
        if entry is not None and self.forgotten(entry, now):
            self.remove(entry, Cause.EXPIRE)
            entry = None
        if entry is not None:
            if entry.origin is None:
                entry.origin = origin
            if entry.state in LIVE:
                self.urgency.raise_to(entry, rank, tenant)
            return entry
        entry = self.make(key, origin, rank, tenant)
        if key in self.index:
            entry.move(Cause.FIND)
            self.restore(entry)
        else:
            entry.move(Cause.NEED)
            self.plan(entry, now)
        return entry

    def relocate(self, steps: Mapping[str, Step], targets: Iterable[str], located: float) -> None:
        """Have assets that moved since their steps were planned read where the newest plan says they are.

        A failure to find an asset at its old place is forgotten. Only what differs is walked: below a step
        whose asset is where it was, all are.
        """
        stack = list(targets)
        for key in stack:
            for asset in _assets(steps[key].unit):
                known = self.places.get(asset.id)
                if known is None or located > known[0]:
                    self.places[asset.id] = located, asset
        seen = set(stack)
        while stack:
            key = stack.pop()
            entry = self.entries.get(key)
            if entry is not None:
                here = self._here(entry.step)
                if here is entry.step:
                    continue
                if entry.failure is not None and entry.failure.type in NOT_THERE:
                    self.remove(entry, Cause.DROP)
                else:
                    entry.step = here
            below = [need for need in steps[key].needs if need not in seen]
            seen.update(below)
            stack.extend(below)
        for id in list(self.places)[: max(0, len(self.places) - PLACES)]:
            del self.places[id]

    def _here(self, step: Step) -> Step:
        """The step with its assets where they are known to be by now: itself, if they are there."""
        unit = step.unit
        now: list[Asset] = []
        same = True
        for asset in _assets(unit):
            known = self.places.get(asset.id)
            now.append(asset if known is None else known[1])
            same = same and now[-1].uri == asset.uri
        if same:
            return step
        if isinstance(unit, Collection):
            unit = Collection(tuple(now))
        else:
            unit = Segment(now[0], unit.start_us, unit.length_us) if isinstance(unit, Segment) else now[0]
        return dataclasses.replace(step, unit=unit)

    def make(self, key: str, origin: Mapping[str, Step], rank: Rank, tenant: str) -> Entry:
        """A new entry, ABSENT as yet."""
        self.newest += 1
        entry = self.entries[key] = Entry(
            self._here(origin[key]), origin, rank, tenant, self.newest, self.story.note
        )
        return entry

    def restore(self, entry: Entry) -> None:
        """Have a COLD value read back."""
        entry.move(Cause.RESTORE)
        self.to_restore.append(entry.key)

    def unreadable(self, entry: Entry, now: float) -> None:
        """A RESTORING value can't be read back, or no longer counts: it is made anew if someone waits."""
        if entry.wanted:
            entry.move(Cause.MISS)
            self.plan(entry, now)
        else:
            self.remove(entry, Cause.DROP)

    def plan(self, entry: Entry, now: float) -> None:
        """Register a WAITING step with its inputs, and queue it if they are all there.

        Recursion through `ensure` is as deep as the feature graph.
        """
        step, origin = entry.step, entry.origin
        assert origin is not None
        if step.home != self.shard:
            # Another shard owns it and its inputs: one question carries all such steps of this event.
            self.to_ask[entry.key] = entry
            return
        lacking = self.scheduler.lacking(step.recipe)
        if lacking is not None:
            self.fail(entry, failure_of(entry, "MissingResource", lacking, 503), now)
            return
        missing = 0
        for need in step.needs:
            below = self.ensure(need, origin, entry.rank, entry.tenant, now)
            if below.failure is not None:
                self.fail(entry, below.failure, now)
                return
            below.dependents[entry.key] = entry
            if below.state in AVAILABLE:
                self.memory.must_stay(need)
            else:
                missing += 1
        entry.missing = missing
        if not missing:
            entry.move(Cause.READY)
            self.scheduler.push(entry)

    def made_since(self, seq: int) -> Iterator[str]:
        """The keys made after the one with that number, newest first."""
        for key, entry in reversed(self.entries.items()):
            if entry.seq <= seq:
                return
            yield key

    # --- upward: what a value, or its lack, means for those above

    def hold(self, entry: Entry, cause: Cause, size: int, now: float) -> None:
        """A value came into memory: DONE or RESTORED."""
        entry.move(cause)
        entry.bytes = size
        self.memory.hold(size)
        if entry.state is State.HOT and self.durable(entry):
            self.memory.write(entry.key, size, now + self.settings.spill_seconds)

    def available(self, entry: Entry, outcome: ev.Ready) -> None:
        """A value is in memory: users that lacked only this are ready, and everyone who waits is told."""
        for user in entry.dependents.values():
            if user.state is State.WAITING and not user.paused:
                user.missing -= 1
                if not user.missing:
                    user.move(Cause.READY)
                    self.scheduler.push(user)
        if entry.waiters:
            entry.asked = True
            self.callers.answer(entry, outcome)
        self.release_interest(entry)

    def consumed(self, entry: Entry) -> None:
        """A step needs its inputs no longer."""
        for below in self.urgency.inputs(entry):
            del below.dependents[entry.key]
            if not (below.dependents and below.state in AVAILABLE):
                self.release_interest(below)

    def fail(self, entry: Entry, failure: Failure, now: float) -> None:
        """No value: remember why, tell who waits, and fail what depends on it with the same reason."""
        stack = [entry]
        while stack:
            one = stack.pop()
            if one.state is State.FAILED:
                continue  # two of its inputs failed
            self.scheduler.pull(one)
            one.move(Cause.FAIL)
            one.task, one.paused = 0, False
            one.failure = dataclasses.replace(
                failure, attempts=max(failure.attempts, one.tries + one.input_losses)
            )
            one.until = now + self._remembered(failure)
            self.alarms.set(one.until, "forget", one.key)
            self.counters["failed"] += 1
            self.callers.answer(one, one.failure)
            users, one.dependents = one.dependents, {}
            stack.extend(users.values())
            self.consumed(one)
            one.origin = None

    def _remembered(self, failure: Failure) -> float:
        if failure.type == QUARANTINED:
            return self.settings.quarantine_seconds
        return {
            "input": self.settings.input_failure_seconds,
            "feature": self.settings.feature_failure_seconds,
            "system": self.settings.system_failure_seconds,
        }[failure.kind]

    def again(
        self,
        entry: Entry,
        failure: Failure,
        now: float,
        *,
        charge: Charge = "tries",
        final: bool = False,
    ) -> None:
        """After a system fault of a RUNNING step: try again after a pause that doubles, or give up.

        Each `charge` has its own count and its own limit, so that a step which lost its inputs is not short
        of tries when it is in the same task as one that kills its worker. Nobody's fault: at once. Half of
        the pause is jitter, so that what failed together does not come back together; it is drawn from the
        key, since nothing here is random. It stays registered with its inputs, so that they are not let go;
        they are counted anew.
        """
        entry.task = 0
        times, allowed = 0, 0
        if charge == "tries":
            times = entry.tries = entry.tries + 1
            allowed = entry.step.recipe.retries if entry.step.home == self.shard else FOREIGN_TRIES
        elif charge == "input_losses":
            times = entry.input_losses = entry.input_losses + 1
            allowed = INPUT_TRIES
        if final or times > allowed:
            self.fail(
                entry, dataclasses.replace(failure, attempts=max(1, entry.tries + entry.input_losses)), now
            )
            return
        entry.move(Cause.RETRY)
        self.counters["retried"] += 1
        if not times:
            self.plan(entry, now)
        else:
            entry.paused = True
            pause = self.settings.retry_seconds * 2 ** (times - 1)
            entry.until = now + pause * (0.5 + zlib.crc32(f"{entry.key}/{times}".encode()) / 2**33)
            self.alarms.set(entry.until, "retry", entry.key)
        self.release_interest(entry)

    def invalidate(
        self, entry: Entry, cause: Cause, now: float, *, wanted_by: tuple[Rank, str] | None = None
    ) -> None:
        """The value in memory is gone or no longer valid.

        It is made anew for `wanted_by` and for steps that have yet to read it, or else forgotten. Tasks that
        run with it hold it, or find out by themselves.
        """
        readers = [user for user in entry.dependents.values() if user.state is not State.RUNNING]
        entry.dependents = {user.key: user for user in readers}
        if not readers and wanted_by is None:
            self.remove(entry, Cause.DROP)
            return
        self._release(entry)
        entry.move(cause)
        entry.asked = False
        entry.rank, entry.tenant = max(self.urgency.due(entry), wanted_by or (LEAST, entry.tenant))
        for user in readers:
            if user.state is State.QUEUED:
                self.scheduler.pull(user)
                user.move(Cause.LOSE)
                user.missing = 1
            elif not user.paused:
                user.missing += 1
        if entry.state is State.COLD:
            self.restore(entry)
        else:
            self.plan(entry, now)

    # --- interest that ends

    def release_interest(self, entry: Entry) -> None:
        """Somebody has less interest in the key than before: `collect` sees what that means."""
        self._loose[entry.key] = entry

    def collect(self, now: float) -> None:
        """Judge every key that was loosened in this event, and what that loosens in turn (I6)."""
        while self._loose:
            key, entry = self._loose.popitem()
            if self.entries.get(key) is not entry:
                continue
            if entry.state in AVAILABLE:
                self._settle(entry)
            elif entry.state not in LIVE:
                continue
            elif entry.wanted:
                self.urgency.lower(entry)
            elif entry.state in (State.WAITING, State.QUEUED):
                self.consumed(entry)
                self.scheduler.pull(entry)
                self.remove(entry, Cause.DROP)
            else:
                # What has begun may find a new caller: a task has a grace period, a read is short anyway.
                self.urgency.lower(entry)
                if entry.state is State.RUNNING:
                    entry.until = now + self.settings.grace_seconds
                    self.alarms.set(entry.until, "grace", key)

    def durable(self, entry: Entry) -> bool:
        """Whether this shard writes its value to Parquet."""
        return entry.step.recipe.store == "parquet" and entry.step.home == self.shard

    def _settle(self, entry: Entry) -> None:
        """A value that no step is about to read may be evicted once it is safe.

        It goes at once if it was only made in passing.
        """
        if entry.wanted:
            return
        entry.origin = None
        if entry.state is State.KEPT:
            self.memory.may_go(entry.key, entry.bytes, None)
        elif self.durable(entry):
            pass  # until it is written
        elif entry.asked or entry.step.recipe.store == "memory":
            self.memory.may_go(entry.key, entry.bytes, entry.seconds or 0.0)
        else:
            self.remove(entry, Cause.DROP)

    def remove(self, entry: Entry, cause: Cause) -> None:
        """Forget a key that nobody waits for."""
        if entry.state in AVAILABLE:
            self._release(entry)
        entry.move(cause)
        del self.entries[entry.key]

    def _release(self, entry: Entry) -> None:
        self.memory.release(entry.key, entry.bytes)
        self.to_drop.append(entry.key)
        entry.bytes = 0

    # --- time

    def forgotten(self, entry: Entry, now: float) -> bool:
        """Whether it is a failure whose time is over."""
        return entry.state is State.FAILED and entry.until <= now


def moved(before: Unit, now: Unit) -> bool:
    """Whether a unit's assets are to be read at other places than before."""
    return before is not now and [a.uri for a in _assets(before)] != [a.uri for a in _assets(now)]


def _assets(unit: Unit) -> Sequence[Asset]:
    if isinstance(unit, Collection):
        return unit.assets
    return (unit.asset if isinstance(unit, Segment) else unit,)


def failure_of(entry: Entry, type: str, message: str, status: int) -> Failure:
    """A system failure of a step."""
    recipe = entry.step.recipe
    return Failure("system", type, message, recipe.feature, entry.key, entry.step.unit_id, status)
