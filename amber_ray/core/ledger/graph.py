"""The entries of a shard's keys and the edges between them: how a change of one key affects the others.

Downward: a key that is needed makes its inputs needed (`ensure`, `plan`) and as urgent as itself
(`PriorityPropagation`). Upward: a value makes its dependents ready (`available`), a failure fails them
(`fail`), and a value that is gone makes them wait again (`invalidate`). Interest that ends is only recorded
(`release_interest`) and judged at the end of the event (`collect`), so a key that is released and needed
again within one event keeps what it has.

Must not know: events, how tasks end, storage.
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
from amber_ray.core.ledger.tally import Tally
from amber_ray.core.model.request import Failure
from amber_ray.core.model.units import Asset, Collection, Segment, Unit
from amber_ray.core.planning.fanout import Expansion, Opening, Widened, Windows
from amber_ray.core.planning.plan import Step
from amber_ray.core.scheduler.schedule import Scheduler
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import (
    AVAILABLE,
    COLD,
    DROP,
    EXPIRE,
    FAIL,
    FAILED,
    FIND,
    HOT,
    KEPT,
    LEAST,
    LIVE,
    LOSE,
    MISS,
    NEED,
    QUEUED,
    READY,
    RESTORE,
    RETRY,
    RUNNING,
    WAITING,
    Cause,
    Entry,
    Rank,
)
from amber_ray.settings import Settings

QUARANTINED = "Quarantined"
"""The type of failure of a step that kills its worker whenever it runs."""

GONE = "VersionGone"
"""The type of failure of a step whose value is not stored, and whose code is not here."""

NOT_THERE = frozenset({"MediaNotFound", "MediaChanged"})
"""The types of failure that say that an asset is not, or no longer, at its place."""

PLACES = 50_000
"""Assets of which it is known when they were found at their place."""

FOREIGN_TRIES = 8
"""How often another shard is asked again for a step before that counts as a failure."""

_LONGEST_PAUSE = 60.0
"""Seconds of the longest pause of a step that asks to be tried later and does not say when."""

INPUT_TRIES = 8
"""How often a step is tried again when it could not read its inputs, whatever its own retries."""

Charge = Literal["tries", "input_losses", "nobody"]
"""Whom a system fault is charged to: the step, its inputs (they could not be read), or nobody."""

COUNTERS = (
    *("hits_memory", "hits_store"),  # answers that were there already
    *("computed", "joined", "failed", "retried", "superseded", "evicted", "restored", "lost"),
    "put_off",  # steps that asked to be tried again later
    *("unwritten", "unreadable"),  # values that the store did not take, or give, when asked to
)


class Graph:
    """Entries by key, and what an event has gathered so far.

    Commands that follow at once go to `out`. Restores, drops and questions to other shards are gathered and
    become commands at the end of the event; templates whose windows are there (`to_expand`) become steps when
    its handler is through, or in later events if they have many. `places`: where each asset was found last,
    and when. Steps are looked at for it only of those that were found at two places, or may have been.
    `windows`: the keys of segments by their asset's id, since no plan names those that were found. `now`: the
    time of the event.
    """

    def __init__(
        self,
        settings: Settings,
        index: Container[str],
        shard: int,
        scheduler: Scheduler,
        entries: dict[str, Entry] | None = None,
    ) -> None:
        self.settings = settings
        self.index = index
        self.shard = shard
        self.scheduler = scheduler
        self.entries: dict[str, Entry] = {} if entries is None else entries
        self.out: list[ev.Command] = []
        self.callers = Callers(self.out)
        self.urgency = PriorityPropagation(self.entries, self.callers.requests, scheduler)
        self.memory = Memory()
        self.to_restore: list[str] = []
        self.to_drop: list[str] = []
        self.to_ask: dict[str, Entry] = {}
        self.to_expand: dict[str, Entry] = {}
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.tally = Tally()
        self.places: dict[str, tuple[float, Asset]] = {}
        self.windows: dict[str, dict[str, None]] = {}
        self._theirs: Mapping[str, Iterable[str]] = {}
        self._moved: set[str] = set()
        self._forgotten = False
        self._loose: dict[str, Entry] = {}
        self.newest = 0
        self.now = 0.0
        self.alarms = Alarms()
        self.story = Story()

    # --- downward: making sure that a key will have an answer

    def ensure(self, key: str, origin: Mapping[str, Step], rank: Rank, tenant: str, now: float) -> Entry:
        """Return the entry of a key that is needed. Make one, and set it going, if there is none."""
        entry = self.entries.get(key)
        if entry is not None and self.forgotten(entry, now):
            self.remove(entry, EXPIRE)
            entry = None
        if entry is not None:
            if entry.origin is None:
                entry.origin = origin
            if entry.step.recipe.gone and not origin[key].recipe.gone:  # by now somebody has its code
                entry.step, entry.origin = self._here(origin[key]), origin
            if entry.state in LIVE:
                self.urgency.raise_to(entry, rank, tenant)
            return entry
        entry = self.make(key, origin, rank, tenant)
        if key in self.index:
            entry.move(FIND)
            self.restore(entry)
        else:
            entry.move(NEED)
            self.plan(entry, now)
        return entry

    def relocate(self, steps: Mapping[str, Step], targets: Iterable[str], located: float) -> None:
        """Read assets that have moved since their steps were planned where the newest plan found them.

        Forget a failure to find an asset at its old place. Steps below one whose asset has not moved are not
        visited: theirs has not either.
        """
        stack = list(targets)
        moved = False
        for key in stack:
            for asset in _assets(steps[key].unit):
                moved |= self._locate(asset, located)
        seen = set(stack)
        if not moved:
            stack.clear()
        while stack:
            key = stack.pop()
            entry = self.entries.get(key)
            if entry is not None:
                here = self._here(entry.step)
                if here is entry.step:
                    continue
                if entry.failure is not None and entry.failure.type in NOT_THERE:
                    self.remove(entry, DROP)
                else:
                    entry.step = here
            below = [need for need in steps[key].below if need not in seen]
            seen.update(below)
            stack.extend(below)
        if moved and any(steps[key].is_template for key in seen):
            self._relocate_found({asset.id for key in seen for asset in _assets(steps[key].unit)})
        for id in list(self.places)[: max(0, len(self.places) - PLACES)]:
            del self.places[id]
            self._moved.discard(id)
            self._forgotten = True

    def _relocate_found(self, ids: Iterable[str]) -> None:
        """The same for steps of windows that were found in these assets: no plan names them."""
        for entry in self.segments_of(sorted(ids)):
            if (here := self._here(entry.step)) is entry.step:
                continue
            if entry.failure is not None and entry.failure.type in NOT_THERE:
                self.remove(entry, DROP)
            else:
                entry.step = here

    def segments_of(self, ids: Iterable[str]) -> list[Entry]:
        """Return the entries of segments of these assets, found or not."""
        keys = [key for id in ids for known in (self.windows, self._theirs) for key in known.get(id, ())]
        return [entry for entry in map(self.entries.get, dict.fromkeys(keys)) if entry is not None]

    def _locate(self, asset: Asset, located: float) -> bool:
        """Note where an asset was found; return whether it may have been planned elsewhere before."""
        known = self.places.get(asset.id)
        if known is None or located > known[0]:
            self.places[asset.id] = located, asset
        if self._forgotten if known is None else known[1].uri != asset.uri:
            self._moved.add(asset.id)
        return asset.id in self._moved

    def located_as_in(self, other: Graph) -> None:
        """Take over where another graph knows assets to be, and which keys it has of their segments."""
        self._theirs = other.windows
        self.places, self._moved = dict(other.places), set(other._moved)
        self._forgotten = other._forgotten

    def _here(self, step: Step) -> Step:
        """Return the step with its assets where they were found last: the step itself if they are there."""
        unit = step.unit
        if not self._moved:
            return step
        now: list[Asset] = []
        same = True
        for asset in _assets(unit):
            known = self.places.get(asset.id)
            now.append(asset if known is None else known[1])
            same = same and now[-1].uri == asset.uri
        if same:
            return step
        if isinstance(unit, Collection):
            return dataclasses.replace(step, unit=Collection(tuple(now)))
        there = now[0] if isinstance(unit, Asset) else dataclasses.replace(unit, asset=now[0])
        return dataclasses.replace(step, unit=there)

    def make(self, key: str, origin: Mapping[str, Step], rank: Rank, tenant: str) -> Entry:
        """Add an entry for a key and return it, still ABSENT."""
        self.newest += 1
        entry = self.entries[key] = Entry(
            self._here(origin[key]), origin, rank, tenant, self.newest, self.story.note
        )
        unit = entry.step.unit
        if isinstance(unit, Segment):
            self.windows.setdefault(unit.asset.id, {})[key] = None
        return entry

    def restore(self, entry: Entry) -> None:
        """Have a COLD value read back from Parquet."""
        entry.move(RESTORE)
        self.to_restore.append(entry.key)

    def unreadable(self, entry: Entry, now: float) -> None:
        """Give up reading a RESTORING value that is gone or no longer valid: compute it if it is wanted."""
        if entry.wanted:
            entry.move(MISS)
            self.plan(entry, now)
        else:
            self.remove(entry, DROP)

    def plan(self, entry: Entry, now: float) -> None:
        """Register a WAITING step with its inputs, and queue it if all of them have values.

        Recurses through `ensure`, as deep as the feature graph.
        """
        step, origin = entry.step, entry.origin
        assert origin is not None
        planned = origin[entry.key]
        if planned.inputs is not step.inputs and planned.inputs != step.inputs and not planned.recipe.gone:
            step = entry.step = self._here(planned)  # it was widened for a request that is gone
        if step.recipe.gone:
            failure = failure_of(entry, GONE, step.recipe.gone, 410)
            self.fail(entry, dataclasses.replace(failure, kind="input"), now)
            return
        if step.is_template:
            self._register(entry, step.needs, now)
            return
        if step.home != self.shard:
            # Another shard owns it and its inputs: one question asks for all such steps of this event.
            self.to_ask[entry.key] = entry
            return
        lacking = self.scheduler.lacking(step.recipe)
        if lacking is not None:
            self.fail(entry, failure_of(entry, "MissingResource", lacking, 503), now)
            return
        self._register(entry, step.needs, now)

    def _register(self, entry: Entry, needs: Iterable[str], now: float, missing: int = 0) -> None:
        """Register a WAITING step with inputs, beside `missing` others; it is ready if all have values."""
        origin = entry.origin
        assert origin is not None
        for need in needs:
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
            self._ready(entry)

    def _ready(self, entry: Entry) -> None:
        """All inputs of a WAITING step have values: queue it, or have a template expanded."""
        if entry.step.is_template:
            self.to_expand[entry.key] = entry
        else:
            entry.move(READY)
            entry.ready = self.now
            self.scheduler.push(entry)

    def widen(self, entry: Entry, template: str, found: Expansion, now: float) -> None:
        """Give a step that gathers a template the steps of its windows as inputs instead.

        It is not registered with the template any more. It may have failed since the template was ready, by
        one of these steps, through something else that it needs and that gathers the template, too.
        """
        if entry.state is not WAITING:
            return
        assert entry.origin is not None
        origin = entry.origin = Widened.over(entry.origin)
        origin.add(found.steps)
        opening = entry.opening = entry.opening or Opening(entry.step, origin)
        if opening.open(template, found.keys):
            entry.step, entry.opening = opening.widened(entry.step), None
            origin.replace(entry.step)
        self._register(entry, found.keys, now, entry.missing - 1)

    def made_since(self, seq: int) -> Iterator[str]:
        """Yield the keys with a higher sequence number, newest first."""
        for key, entry in reversed(self.entries.items()):
            if entry.seq <= seq:
                return
            yield key

    # --- upward: what a value, or its lack, means for those above

    def hold(self, entry: Entry, cause: Cause, size: int, now: float, windows: Windows | None = None) -> None:
        """Record that a value came into memory, by `DONE` or `RESTORED`, with its windows."""
        entry.move(cause)
        entry.bytes = size
        entry.windows = windows
        self.memory.hold(size)
        if entry.state is HOT and self.durable(entry):
            self.memory.write(entry.key, size, now + self.settings.spill_seconds)

    def available(self, entry: Entry, outcome: ev.Ready) -> None:
        """Queue the dependents that lacked only this value, and answer everyone who waits for it."""
        for user in entry.dependents.values():
            if user.state is WAITING and not user.paused:
                user.missing -= 1
                if not user.missing:
                    self._ready(user)
        if entry.waiters:
            entry.asked = True
            self.callers.answer(entry, outcome)
        if not entry.dependents:
            self.release_interest(entry)

    def consumed(self, entry: Entry) -> None:
        """Unregister a step from its inputs, which it no longer needs."""
        key = entry.key
        for need in entry.needs:
            below = self.entries.get(need)
            if below is None or below.dependents.pop(key, None) is None:
                continue
            if not (below.dependents and below.state in AVAILABLE):
                self.release_interest(below)

    def fail(self, entry: Entry, failure: Failure, now: float) -> None:
        """Record that a key has no value: remember why, answer its waiters, and fail its dependents alike."""
        stack = [entry]
        while stack:
            one = stack.pop()
            if one.state is FAILED:
                continue  # two of its inputs failed
            self.scheduler.pull(one)
            one.move(FAIL)
            one.task, one.paused = 0, False
            one.failure = dataclasses.replace(
                failure, attempts=max(failure.attempts, one.tries + one.input_losses)
            )
            one.until = now + self._remembered(failure)
            self.alarms.set(one.until, "forget", one.key)
            self.counters["failed"] += 1
            self.tally.ended(one.step.recipe.feature, "failed")
            self.callers.answer(one, one.failure)
            users, one.dependents = one.dependents, {}
            stack.extend(users.values())
            self.consumed(one)
            one.origin = one.opening = one.unrolling = None

    def _remembered(self, failure: Failure) -> float:
        if failure.type == QUARANTINED:
            return self.settings.quarantine_seconds
        if failure.type == GONE:
            return 0.0  # it is found out anew at no cost, and others may have the code
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
        """Try a RUNNING step again after a system fault, or fail it if it has no try left.

        The pause doubles with each try. Each `charge` has a count and a limit of its own, so a step that lost
        its inputs has all its tries when it shares a task with one that kills its worker. A fault that is
        charged to nobody is tried again at once. Half of the pause is jitter, so that steps which failed
        together do not return together; it is computed from the key, since nothing in the ledger is random.
        The step stays registered with its inputs, so they are kept; `plan` counts them anew.
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
        entry.move(RETRY)
        self.counters["retried"] += 1
        self.tally.ended(entry.step.recipe.feature, "retried")
        if not times:
            self.plan(entry, now)
            self.release_interest(entry)
        else:
            self._pause(entry, now + _backoff(entry, times, self.settings.retry_seconds))

    def later(self, entry: Entry, failure: Failure, seconds: float, now: float) -> None:
        """Try a RUNNING step again after the time that it asked for, which is charged as no try.

        With 0 seconds the pause doubles each time, from a second to a minute. A step that would put itself
        off for longer than `retry_later_seconds` in all fails instead.
        """
        entry.task, entry.isolated = 0, False
        entry.laters += 1
        entry.put_off = now if entry.put_off is None else entry.put_off
        pause = seconds or min(_LONGEST_PAUSE, _backoff(entry, entry.laters, 1.0))
        until = now + max(pause, self.settings.retry_seconds)
        allowed = self.settings.retry_later_seconds
        if until > entry.put_off + allowed:
            why = (
                f"{failure.message} (it was put off {entry.laters - 1} times before; "
                f"a step is tried again later for {allowed:g} s in all)"
            )
            self.fail(entry, dataclasses.replace(failure, message=why), now)
            return
        entry.move(RETRY)
        self.counters["put_off"] += 1
        self._pause(entry, until)

    def _pause(self, entry: Entry, until: float) -> None:
        """Have a WAITING step wait until a time. It stays registered with its inputs."""
        entry.paused = True
        entry.until = until
        self.alarms.set(until, "retry", entry.key)
        self.release_interest(entry)

    def invalidate(
        self, entry: Entry, cause: Cause, now: float, *, wanted_by: tuple[Rank, str] | None = None
    ) -> None:
        """Take back a value in memory that is gone or no longer valid.

        It is made again for `wanted_by` and for dependents that have not begun, else it is forgotten. Tasks
        that are running with it hold it already, or report that they could not read it.
        """
        readers = [user for user in entry.dependents.values() if user.state is not RUNNING]
        entry.dependents = {user.key: user for user in readers}
        if not readers and wanted_by is None:
            self.remove(entry, DROP)
            return
        self._release(entry)
        entry.move(cause)
        entry.asked = False
        entry.rank, entry.tenant = max(self.urgency.due(entry), wanted_by or (LEAST, entry.tenant))
        for user in readers:
            if user.state is QUEUED:
                self.scheduler.pull(user)
                user.move(LOSE)
                user.missing = 1
            elif not user.paused:
                user.missing += 1
        if entry.state is COLD:
            self.restore(entry)
        else:
            self.plan(entry, now)

    # --- interest that ends

    def release_interest(self, entry: Entry) -> None:
        """Record that a waiter or dependent of the key left; `collect` judges what follows."""
        self._loose[entry.key] = entry

    def collect(self, now: float) -> None:
        """Judge every key that lost a waiter or dependent in this event, and what follows from that (I6)."""
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
            elif entry.state in (WAITING, QUEUED):
                self.consumed(entry)
                self.scheduler.pull(entry)
                self.remove(entry, DROP)
            else:
                # Work that has begun may find a new caller: a task has a grace period, and a read is short.
                self.urgency.lower(entry)
                if entry.state is RUNNING:
                    entry.until = now + self.settings.grace_seconds
                    self.alarms.set(entry.until, "grace", key)

    def durable(self, entry: Entry) -> bool:
        """Return whether this shard writes the key's value to Parquet."""
        return entry.step.recipe.store == "parquet" and entry.step.home == self.shard

    def _settle(self, entry: Entry) -> None:
        """Make a value evictable that no step is about to read, once it need not be written any more.

        A value that nobody asked for and that is never stored is dropped at once.
        """
        if entry.waiters or entry.dependents:
            return
        entry.origin = None
        if entry.state is KEPT:
            self.memory.may_go(entry.key, entry.bytes, None)
        elif self.durable(entry):
            pass  # until it is written
        elif entry.asked or entry.step.recipe.store == "memory":
            self.memory.may_go(entry.key, entry.bytes, entry.seconds or 0.0)
        else:
            self.remove(entry, DROP)

    def remove(self, entry: Entry, cause: Cause) -> None:
        """Delete the entry of a key that nobody waits for."""
        if entry.state in AVAILABLE:
            self._release(entry)
        entry.move(cause)
        self.forget(entry)

    def forget(self, entry: Entry) -> None:
        """Delete an entry that is ABSENT by now."""
        del self.entries[entry.key]
        unit = entry.step.unit
        if isinstance(unit, Segment) and (keys := self.windows.get(unit.asset.id)) is not None:
            keys.pop(entry.key, None)  # that of a copy is not there
            if not keys:
                del self.windows[unit.asset.id]

    def _release(self, entry: Entry) -> None:
        self.memory.release(entry.key, entry.bytes)
        self.to_drop.append(entry.key)
        entry.bytes = 0
        entry.windows = None

    # --- time

    def forgotten(self, entry: Entry, now: float) -> bool:
        """Return whether the entry is a failure whose time is over."""
        return entry.state is FAILED and entry.until <= now


def _backoff(entry: Entry, times: int, first: float) -> float:
    """Return a pause that doubles with each time. Half of it is jitter, computed from the key."""
    pause = first * 2.0 ** min(times - 1, 32)
    return pause * (0.5 + zlib.crc32(f"{entry.key}/{times}".encode()) / 2**33)


def moved(before: Unit, now: Unit) -> bool:
    """Return whether a unit's assets are to be read at other places than before."""
    return before is not now and [a.uri for a in _assets(before)] != [a.uri for a in _assets(now)]


def _assets(unit: Unit) -> Sequence[Asset]:
    if isinstance(unit, Collection):
        return unit.assets
    return (unit if isinstance(unit, Asset) else unit.asset,)


def failure_of(entry: Entry, type: str, message: str, status: int) -> Failure:
    """Return a failure of kind "system" of a step."""
    recipe = entry.step.recipe
    return Failure("system", type, message, recipe.feature, entry.key, entry.step.unit_id, status)
