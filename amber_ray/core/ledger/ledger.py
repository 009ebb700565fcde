"""The ledger's way in: events of requests and storage, and the commands that follow from each event.

The package's docstring says how the ledger works; read it first.

Must not know: Ray, files, what a value is.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import reprlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from amber_ray.core.ledger.attempts import Attempts
from amber_ray.core.ledger.graph import Graph, failure_of
from amber_ray.core.ledger.requests import Request
from amber_ray.core.model.units import EachRange
from amber_ray.core.planning.fanout import Expansion, Unrolling, Widened
from amber_ray.core.planning.plan import Step
from amber_ray.core.scheduler.costs import Costs
from amber_ray.core.scheduler.schedule import Scheduler
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import (
    ABSENT,
    AVAILABLE,
    COLD,
    DROP,
    EVICT,
    EXPIRE,
    FAILED,
    KEPT,
    LIVE,
    LOSE,
    MISS,
    NEED,
    QUEUED,
    REFRESH,
    RESTORED,
    RESTORING,
    RUNNING,
    STORE,
    WAITING,
    Entry,
    IllegalTransition,
    State,
)
from amber_ray.errors import AmberError, FeatureError, TooLarge
from amber_ray.settings import Settings

EXPANDED_AT_ONCE = 5_000
"""Steps of found units that are made or handed over in one event, about: the others have their turn between.
That takes some 20 ms. Whoever waits is handed all of a template's at once: a hundred thousand take 0.6 s."""
_INPUTS = 5
"""Most inputs of a key of which a message says all that is known."""
LOOKED_AT = 256
"""Most keys that are looked at to tell who waits for a task, or what runs for a request."""
_REPR = reprlib.Repr()
_REPR.maxother = 160


class Ledger:
    """The state machine of one shard. One caller at a time; its `now` never goes back."""

    def __init__(
        self,
        settings: Settings,
        index: Container[str],
        *,
        shard: int = 0,
        costs: Costs | None = None,
        entries: dict[str, Entry] | None = None,
    ) -> None:
        """`index` says which keys are in Parquet, and `entries` is where entries are kept."""
        self.settings = settings
        self.index = index
        self.shard = shard
        self.costs = costs or Costs()
        self.scheduler = Scheduler(
            self.costs,
            lookahead=settings.lookahead,
            pack_seconds=settings.pack_seconds,
            overtakes=settings.overtakes,
            shards=settings.shards,
        )
        self.graph = Graph(settings, index, shard, self.scheduler, entries)
        self.memory = self.graph.memory
        self.entries = self.graph.entries
        self.requests = self.graph.callers.requests
        self.attempts = Attempts(self.graph)
        self.tasks = self.attempts.tasks
        self.counters = self.graph.counters
        self.expanded_at_once: float = EXPANDED_AT_ONCE
        self._opens_at = float("inf")
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            ev.Requested: self._requested,
            ev.Left: self._left,
            ev.Reported: self.attempts.reported,
            ev.TaskLost: self.attempts.lost,
            ev.Stored: self._stored,
            ev.StoreFailed: self._store_failed,
            ev.Restored: self._restored,
            ev.RestoreFailed: self._restore_failed,
            ev.Unreadable: self._unreadable,
            ev.Lost: self._lost,
            ev.Purged: self._purged,
            ev.CapacityChanged: self._capacity,
            ev.Tick: self._tick,
        }

    # --- the outside

    def handle(self, event: ev.Event, now: float) -> list[ev.Command]:
        """Take in one event and return what is to be done, in order. `now` is in seconds.

        The order matters: a `Deliver` comes before the `Drop` of its value. Raises `IllegalTransition` with
        the key's story for an event that should be impossible; the ledger can't be used any more then.
        """
        try:
            self.take_in(event, now)
            self._follow_up(now)
        except IllegalTransition as error:
            error.args = (f"{error}\nin {shown(event)} at {now}\n{self.story(error.key)}",)
            raise
        commands = self.graph.out[:]
        self.graph.out.clear()
        return commands

    def take_in(self, event: ev.Event, now: float) -> None:
        """Take in an event without turning the new state into commands: `handle` does both."""
        note = self.graph.story.note
        note(type(event))
        note(now)
        self.graph.now = now
        self._handlers[type(event)](event, now)
        self._expand_some(now)
        self.graph.collect(now)

    def state_of(self, key: str) -> State:
        """Return a key's state: COLD for one that only the index has."""
        entry = self.entries.get(key)
        if entry is not None:
            return entry.state
        return COLD if key in self.index else ABSENT

    def story(self, key: str) -> str:
        """Return what is known of a key and its inputs, and what changed them lately: for messages."""
        entry = self.entries.get(key)
        about = [key, *(entry.needs if entry is not None else ())]
        known = [known.said() for known in map(self.entries.get, about[: 1 + _INPUTS]) if known is not None]
        return "\n".join((*known, *self.graph.story.of(set(about))))

    def progress(self, id: str) -> tuple[int, int]:
        """Return (done, total) of a live request's steps: those that it brought about or waits for."""
        created = self.requests[id].created
        running = sum(1 for e in map(self.entries.get, created) if e is not None and e.state in LIVE)
        return len(created) - running, len(created)

    def wake_at(self) -> float:
        """Return when `Tick` is needed next: infinity if nothing is timed, at once in mid-expansion."""
        if self.graph.to_expand:
            return float("-inf")
        return min(self.graph.alarms.next(), self.memory.due(), self._opens_at)

    def accepts(self, task: int, key: str) -> bool:
        """Return whether a value that this task made is the one that the key waits for (I1)."""
        entry = self.entries.get(key)
        return task in self.tasks and entry is not None and entry.task == task

    def wanted_by(self, keys: Iterable[str]) -> Iterator[str]:
        """Yield requests that wait for these keys or for what is made of them, by id: those found near.

        One that waits for several may come several times.
        """
        for entry in _near(map(self.entries.get, keys), lambda entry: entry.dependents.values()):
            yield from entry.waiters

    def working_for(self, id: str) -> list[int]:
        """Return the numbers of tasks that run for a live request: those found near."""
        request = self.requests.get(id)
        found = _near(() if request is None else request.pending.values(), self._awaited)
        return list(dict.fromkeys(entry.task for entry in found if entry.task))

    def _awaited(self, entry: Entry) -> Iterable[Entry | None]:
        return map(self.entries.get, entry.needs) if entry.state is WAITING and not entry.task else ()

    @property
    def hot_bytes(self) -> int:
        """Bytes in memory, the overhead per value included."""
        return self.memory.held

    @property
    def unspilled(self) -> Mapping[str, int]:
        """Values in memory whose writing has not begun, with their sizes."""
        return self.memory.unspilled

    @property
    def unspilled_bytes(self) -> int:
        """The sum of `unspilled`."""
        return self.memory.unspilled_bytes

    @property
    def spilling(self) -> set[str]:
        """Values that are being written."""
        return self.memory.spilling

    # --- requests come and go

    def _requested(self, event: ev.Requested, now: float) -> None:
        request = self.graph.callers.open(event)
        targets = list(dict.fromkeys(event.targets))
        known = self.graph.newest
        self.graph.relocate(event.steps, targets, event.located)
        if event.refresh:
            self._refresh(request, targets, event.steps, now)
        for key in targets:
            self._attach(request, key, event.steps, now)
        request.created = dict.fromkeys((*targets, *self.graph.made_since(known)))
        if not request.pending:
            self.graph.callers.finish(request)
        elif request.deadline is not None:
            self.graph.alarms.set(request.deadline, "deadline", request.id)
            self._expire(request.id, now)

    def _attach(self, request: Request, key: str, steps: Mapping[str, Step], now: float) -> None:
        """Answer a target at once if its fate is known, else make the request a waiter on it."""
        callers = self.graph.callers
        entry = self.entries.get(key)
        if (entry is None or self.graph.forgotten(entry, now)) and not request.load and key in self.index:
            self.counters["hits_store"] += request.counted
            callers.tell(request, key, ev.Ready(cached=True))
            return
        # What is being read back is a hit once it is there.
        joined = entry is not None and entry.state in LIVE and entry.state is not RESTORING
        entry = self.graph.ensure(key, steps, request.rank, request.tenant, now)
        if entry.state in AVAILABLE:
            self.counters["hits_memory"] += request.counted
            entry.asked = True
            self.graph.release_interest(entry)
            callers.tell(request, key, ev.Ready(cached=True, seconds=entry.seconds))
        elif entry.failure is not None:
            callers.tell(request, key, entry.failure)
        else:
            self.counters["joined"] += joined and request.counted and not entry.step.is_template
            callers.wait(request, entry)

    def _refresh(
        self, request: Request, targets: Sequence[str], steps: Mapping[str, Step], now: float
    ) -> None:
        """Compute the targets again and forget failures below them; values below them are used as they are.

        A target's row in Parquet stays until a newer one is written.
        """
        graph, wanted_by = self.graph, (request.rank, request.tenant)
        below = dict.fromkeys(targets)
        stack = list(targets)
        while stack:
            key = stack.pop()
            entry = self.entries.get(key)
            if entry is not None and entry.state is FAILED:
                graph.remove(entry, DROP)
            new = [need for need in steps[key].below if need not in below]
            below.update(dict.fromkeys(new))
            stack.extend(new)
        self._forget_failed_units([steps[key] for key in below if steps[key].is_template])
        for key in targets:
            entry = self.entries.get(key)
            if entry is None:
                entry = graph.make(key, steps, *wanted_by)
                entry.move(NEED)
                graph.plan(entry, now)
            elif entry.state in AVAILABLE:
                entry.origin = steps
                graph.invalidate(entry, REFRESH, now, wanted_by=wanted_by)
            elif entry.state is RESTORING:
                entry.move(MISS)
                graph.plan(entry, now)

    def _forget_failed_units(self, templates: Sequence[Step]) -> None:
        """Forget the failures of found units of these templates' features and assets: no plan names them."""
        about = {(step.recipe.feature, step.asset_id) for step in templates}
        ids = dict.fromkeys(id for step in templates if (id := step.asset_id) is not None)
        for entry in self.graph.segments_of(ids):
            if entry.state is FAILED and (entry.step.recipe.feature, entry.step.asset_id) in about:
                self.graph.remove(entry, DROP)

    def _expand_some(self, now: float) -> None:
        """Put steps in the places of templates whose windows are in memory: all of them, if those are few.

        Where they are many, the next event goes on, of this template or of another one, and `wake_at` asks
        for it. Whatever happens between finds a template that waits, and if its finder's value is gone by
        then it begins again with the next one.
        """
        room, waiting = self.expanded_at_once, self.graph.to_expand
        while waiting and room > 0:
            entry = waiting.pop(next(iter(waiting)))
            # What it was noted for may be over: it can have been dropped, or its finder made anew.
            if self.entries.get(entry.key) is entry and entry.state is WAITING and not entry.missing:
                room -= self._unroll(entry, room, now)
                if entry.unrolling is not None and not entry.unrolling.left and room > 0:
                    room -= self._expand(entry, entry.unrolling.expansion(), room, now)
                elif entry.unrolling is not None:
                    waiting[entry.key] = entry
            else:
                entry.unrolling = None

    def _unroll(self, entry: Entry, room: float, now: float) -> int:
        """Make the steps of some windows of a template, which nobody knows of yet; return how many.

        Fails the template for windows that can't be.
        """
        windows = self.entries[entry.step.needs[0]].windows
        assert entry.origin is not None
        try:
            if windows is None:
                raise FeatureError("the finder's value is no list of ranges")
            if entry.unrolling is None or entry.unrolling.windows is not windows:
                most = self.settings.limits.units_per_asset
                entry.unrolling = Unrolling(entry.origin, entry.step, windows, most)
            return entry.unrolling.go_on(room)
        except AmberError as error:
            failure = failure_of(entry, type(error).__name__, str(error), error.status)
            self.graph.fail(entry, dataclasses.replace(failure, kind="feature"), now)
            return 0

    def _expand(self, entry: Entry, found: Expansion, room: float, now: float) -> float:
        """Put the steps of its windows in a template's place, for one after the other who waits for it.

        Steps that gather it are given those as inputs, and requests that wait for it wait for those. Stops
        when there is no `room` any more, and returns how much it took.
        """
        graph, used = self.graph, 0
        known = graph.newest
        users: list[Entry | Request] = [*entry.dependents.values()]
        for waiting in (*users, *graph.callers.waiting(entry)):
            if used >= room:
                graph.to_expand[entry.key] = entry
                graph.release_interest(entry)  # those who wait for it still may be less urgent
                return used
            used += len(found.keys)
            if isinstance(waiting, Request):
                if self._admitted([waiting], entry, found):
                    self._units_for(waiting, entry, found, now)
                    waiting.created.update(dict.fromkeys(graph.made_since(known)))
            elif waiting.key in entry.dependents:  # else it failed by one of these steps a moment ago
                above = self._admitted(self._above([waiting]), entry, found)
                if not above:
                    continue  # nobody wants it any more, and `collect` will see that
                del entry.dependents[waiting.key]
                graph.widen(waiting, entry.key, found, now)
                brought_about = dict.fromkeys(graph.made_since(known))
                for request in above:
                    _instead(request, entry.key, brought_about)
        if entry.wanted:
            graph.release_interest(entry)
        else:
            graph.consumed(entry)
            graph.remove(entry, DROP)
        return used

    def _units_for(self, request: Request, entry: Entry, found: Expansion, now: float) -> None:
        """A request that waits for a template waits for its units instead."""
        graph, key = self.graph, entry.key
        assert entry.origin is not None
        origin = entry.origin = Widened.over(entry.origin)
        origin.add(found.steps)
        graph.callers.hand_over(request, entry)
        graph.out.append(ev.Expanded(request.id, key, found.units, found.keys))
        if request.refresh:
            self._refresh(request, found.keys, origin, now)
        for one in found.keys:
            self._attach(request, one, origin, now)
        _instead(request, key, dict.fromkeys(found.keys))
        graph.callers.handed_over(request, key)

    def _admitted(self, requests: Iterable[Request], entry: Entry, found: Expansion) -> list[Request]:
        """Return the requests that need no more steps than one may, now that a template's are known.

        The others are told so of it, and of what is made of it.
        """
        most, admitted = self.settings.limits.steps_per_request, []
        for request in requests:
            created = request.created
            if (
                len(created) + len(found.steps) <= most
                or len(created) + sum(key not in created for key in found.steps) <= most
            ):
                admitted.append(request)
                continue
            unit = entry.step.unit
            assert isinstance(unit, EachRange)
            why = (
                f"the request needs more than {most} steps, now that feature {unit.finder!r} has found "
                f"{len(found.keys)} ranges in this asset; ask for fewer features or assets at a time"
            )
            for one in (entry, *self._users(entry.dependents.values())):
                if request.id in one.waiters:
                    refusal = failure_of(one, TooLarge.__name__, why, TooLarge.status)
                    self.graph.callers.refuse(request, one, dataclasses.replace(refusal, kind="input"))
                    self.graph.release_interest(one)
        return admitted

    def _users(self, entries: Iterable[Entry]) -> Iterable[Entry]:
        """Return these keys and what is made of them."""
        seen: dict[str, Entry] = {}
        stack = list(entries)
        while stack:
            entry = stack.pop()
            if entry.key not in seen:
                seen[entry.key] = entry
                stack.extend(entry.dependents.values())
        return seen.values()

    def _above(self, entries: Iterable[Entry]) -> list[Request]:
        """Return the requests that wait for these keys, or for what is made of them."""
        ids = {id: None for entry in self._users(entries) for id in entry.waiters}
        return [self.requests[id] for id in ids]

    def _left(self, event: ev.Left, now: float) -> None:
        request = self.requests.get(event.id)
        if request is not None:  # else it finished while its withdrawal was on the way
            for entry in self.graph.callers.leave(request):
                self.graph.release_interest(entry)

    def _expire(self, id: str, now: float) -> None:
        request = self.requests.get(id)
        if request is None or request.deadline is None or request.deadline > now:
            return
        late = "the request's deadline passed before this step was done"
        for entry in self.graph.callers.leave(request):
            self.graph.callers.tell(request, entry.key, failure_of(entry, "Expired", late, 504))
            self.graph.release_interest(entry)
        self.graph.out.append(ev.Finished(id))

    # --- storage answers

    def _stored(self, event: ev.Stored, now: float) -> None:
        for key in event.keys:
            entry, stale = self.entries.get(key), key in self.memory.stale
            if self.memory.written(key, now):
                assert entry is not None
                entry.move(STORE)
                self.graph.release_interest(entry)
            elif stale and entry is not None and entry.state is KEPT:
                # It was let go while it was being written, and an older one was read back.
                self.graph.invalidate(entry, LOSE, now)

    def _store_failed(self, event: ev.StoreFailed, now: float) -> None:
        self.counters["unwritten"] += len(event.keys)
        for key in event.keys:
            entry = self.entries.get(key)
            self.memory.not_written(key, entry.bytes if entry is not None else 0, now)

    def _restored(self, event: ev.Restored, now: float) -> None:
        for key, size in event.sizes.items():
            entry = self.entries.get(key)
            if entry is not None and entry.state is RESTORING:
                self.counters["restored"] += 1
                self.counters["hits_store"] += sum(self.requests[id].counted for id in entry.waiters)
                self.graph.hold(entry, RESTORED, size, now, event.windows.get(key))
                self.graph.available(entry, ev.Ready(cached=True))
            elif entry is None or entry.state not in AVAILABLE:
                self.graph.to_drop.append(key)  # purged or recomputed while it was read

    def _restore_failed(self, event: ev.RestoreFailed, now: float) -> None:
        for key in event.keys:
            entry = self.entries.get(key)
            if entry is not None and entry.state is RESTORING:
                self.graph.unreadable(entry, now)

    def _unreadable(self, event: ev.Unreadable, now: float) -> None:
        # A failure for a short while. Computing again what is stored would not help against a slow disk.
        for key, reason in event.reasons.items():
            entry = self.entries.get(key)
            if entry is None or entry.state is not RESTORING:
                continue
            self.counters["unreadable"] += 1
            if entry.wanted:
                why = f"the value is stored and can't be read now: {reason}"
                self.graph.fail(entry, failure_of(entry, "StoreUnavailable", why, 503), now)
            else:
                self.graph.remove(entry, DROP)

    def _lost(self, event: ev.Lost, now: float) -> None:
        for key in event.keys:
            entry = self.entries.get(key)
            if entry is not None and entry.state in AVAILABLE:
                self.counters["lost"] += 1
                self.graph.invalidate(entry, LOSE, now)

    def _purged(self, event: ev.Purged, now: float) -> None:
        for key in event.keys:
            entry = self.entries.get(key)
            if entry is None:
                continue
            if entry.state in AVAILABLE:
                self.graph.invalidate(entry, REFRESH, now)
            elif entry.state is FAILED:
                self.graph.remove(entry, DROP)
            elif entry.state is RESTORING:
                self.graph.unreadable(entry, now)
            # A key that is being made now is newer than the purge.
        # What has failed by one of them has no reason to fail any more.
        gone = set(event.keys)
        for entry in [e for e in self.entries.values() if e.state is FAILED] if gone else ():
            if entry.failure is not None and entry.failure.key in gone:
                self.graph.remove(entry, DROP)

    # --- time and room

    def _tick(self, event: ev.Tick, now: float) -> None:
        for what, about in self.graph.alarms.due(now):
            if what == "deadline":
                self._expire(about, now)
                continue
            entry = self.entries.get(about)
            if entry is None or entry.until > now:
                continue
            if what == "retry" and entry.paused:
                entry.paused = False
                self.graph.plan(entry, now)
            elif what == "grace" and entry.state is RUNNING and not entry.wanted:
                self.attempts.abandon(entry, now)
            elif what == "forget" and entry.state is FAILED:
                self.graph.remove(entry, EXPIRE)

    def _capacity(self, event: ev.CapacityChanged, now: float) -> None:
        """Fail the steps that no node can run any more, and queue the others anew: their needs may differ."""
        if not self.scheduler.set_capacity(event.nodes, event.attainable):
            return
        unready = [e for e in self.entries.values() if e.state in (WAITING, QUEUED)]
        for entry in unready:
            entry.ticket = 0
        for entry in unready:
            runs_here = entry.step.home == self.shard and not entry.step.is_template
            lacking = self.scheduler.lacking(entry.step.recipe) if runs_here else None
            if lacking is not None and entry.state is not FAILED:
                self.graph.fail(entry, failure_of(entry, "MissingResource", lacking, 503), now)
            elif entry.state is QUEUED:
                self.scheduler.push(entry)
        self.attempts.stop_unfit(now)

    # --- after every event

    def _follow_up(self, now: float) -> None:
        """Turn the new state into commands: restores, writes, evictions, questions to other shards, tasks."""
        graph, memory, settings = self.graph, self.memory, self.settings
        if graph.to_restore:
            graph.out.append(ev.Restore(tuple(graph.to_restore)))
            graph.to_restore.clear()
        if keys := memory.take_unspilled(settings, now):
            graph.out.append(ev.Spill(keys))
        while memory.held > settings.memory_bytes and (key := memory.budget.pop()) is not None:
            graph.remove(self.entries[key], EVICT)
            self.counters["evicted"] += 1
        if graph.to_drop:
            graph.out.append(ev.Drop(tuple(graph.to_drop)))
            graph.to_drop.clear()
        questions: dict[tuple[int, int, str], list[Entry]] = {}
        for entry in graph.to_ask.values():
            if entry.state is WAITING and self.entries.get(entry.key) is entry:
                questions.setdefault((entry.step.home, entry.rank[0], entry.tenant), []).append(entry)
        graph.to_ask.clear()
        for (home, _, _), entries in questions.items():
            self.attempts.submit(entries, {}, home)
        self._opens_at = float("inf")
        if memory.choked(settings):
            return
        waited = graph.tally.waited
        while (draft := self.scheduler.take(self.entries, now)) is not None:
            for entry in draft.entries:
                if entry.state is QUEUED:  # else an input of it is made by the same task
                    waited(entry.rank[0], now - entry.ready)
            self.attempts.submit(draft.entries, draft.needs, threads=draft.threads)
        self._opens_at = self.scheduler.opens_at(now)


def _near(
    entries: Iterable[Entry | None], onward: Callable[[Entry], Iterable[Entry | None]]
) -> Iterable[Entry]:
    """Yield entries and those that they lead on to, nearest first, no more than `LOOKED_AT`."""
    # Half of them at most, or of a task of many steps none of those who wait would be found.
    first = itertools.islice(entries, LOOKED_AT // 2)
    found = {entry.key: entry for entry in first if entry is not None}
    waiting = collections.deque(found.values())
    while waiting:
        entry = waiting.popleft()
        yield entry
        for other in itertools.islice(onward(entry), LOOKED_AT - len(found)):
            if other is not None and other.key not in found:
                found[other.key] = other
                waiting.append(other)


def _instead(request: Request, template: str, steps: Mapping[str, None]) -> None:
    """Count the steps that came of a template in its place. Where none did it is one that is done."""
    if steps:
        request.created.pop(template, None)
        request.created.update(steps)


def shown(event: ev.Event) -> str:
    """Return an event as it stands in a message: short, without the graph that a request brings along."""
    names = [f.name for f in dataclasses.fields(event) if f.name != "steps"]
    return f"{type(event).__name__}({', '.join(f'{n}={_REPR.repr(getattr(event, n))}' for n in names)})"
