"""The ledger: every key's state, who waits for it, and what is to be done next.

`handle(event, now)` takes what happened and returns what must be done; it performs nothing itself. The
promises, checked by `core.invariants.check`:

I1  a key has at most one live attempt; a late report of a superseded attempt is dropped;
I2  a delivered value stays until evicted, purged or lost, and is evicted unwritten only if it is never written;
I3  every waiter is answered exactly once;
I4  a step is as urgent as the most urgent request or step that waits for it;
I5  bytes in memory are within budget once spills are done, but for values that steps are about to read;
I6  work that nobody waits for any more is stopped after a grace period, shared work is not.

Values never pass through here: the shell holds them. Must not know: Ray, files, what a value is.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from amber_ray.core import events as ev
from amber_ray.core.budget import OVERHEAD, Budget
from amber_ray.core.plan import Step
from amber_ray.core.request import Failure
from amber_ray.core.schedule import Costs, Draft, Scheduler
from amber_ray.core.states import AVAILABLE, LEAST, LIVE, Cause, Entry, Rank, State
from amber_ray.settings import Settings

FOREIGN_TRIES = 8
"""How often another shard is asked again for a step before that counts as a failure."""
SPILL_RETRY_SECONDS = 1.0


class Request:
    """One caller's request: which targets are still unanswered, and which steps it brought about."""

    __slots__ = ("created", "deadline", "id", "pending", "rank", "tenant")

    def __init__(self, id: str, rank: Rank, tenant: str, deadline: float | None) -> None:
        self.id = id
        self.rank = rank
        self.tenant = tenant
        self.deadline = deadline
        self.pending: set[str] = set()
        self.created: list[str] = []


class Ledger:
    """The state machine of one shard. One caller at a time; `now` never goes back."""

    def __init__(
        self, settings: Settings, index: Container[str], *, shard: int = 0, costs: Costs | None = None
    ) -> None:
        self.settings = settings
        self.index = index
        self.shard = shard
        self.costs = costs or Costs()
        self.entries: dict[str, Entry] = {}
        self.requests: dict[str, Request] = {}
        self.tasks: dict[int, ev.Task] = {}
        self.scheduler = Scheduler(
            self.costs, lookahead=settings.lookahead, pack_seconds=settings.pack_seconds
        )
        self.budget = Budget()
        self.hot_bytes = 0
        self.unspilled: dict[str, int] = {}
        self.unspilled_bytes = 0
        self.spilling: set[str] = set()
        self.counters: dict[str, int] = dict.fromkeys(
            ("computed", "hits", "joined", "failed", "retried", "superseded", "evicted", "restored", "lost"), 0
        )
        self._spill_due = float("inf")
        self._timers: list[tuple[float, int, str, str]] = []
        self._foreign: dict[int, list[Entry]] = {}
        self._out: list[ev.Command] = []
        self._seq = 0
        self._next_task = 0
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            ev.Requested: self._requested,
            ev.Left: self._left,
            ev.Reported: self._reported,
            ev.TaskLost: self._task_lost,
            ev.Stored: self._stored,
            ev.StoreFailed: self._store_failed,
            ev.Restored: self._restored,
            ev.RestoreFailed: self._restore_failed,
            ev.Lost: self._lost,
            ev.Purged: self._purged,
            ev.Capacity: self._capacity,
            ev.Tick: self._tick,
        }

    # --- the outside

    def handle(self, event: ev.Event, now: float) -> list[ev.Command]:
        """Take in one event; `now` in seconds on any clock that never goes back."""
        out = self._out = []
        self._handlers[type(event)](event, now)
        self._pump(now)
        self._out = []
        return out

    def state_of(self, key: str) -> State:
        """A key's state; COLD for one that only the index knows."""
        entry = self.entries.get(key)
        if entry is not None:
            return entry.state
        return State.COLD if key in self.index else State.ABSENT

    def progress(self, id: str) -> tuple[int, int]:
        """(done, total) steps of a live request: those it brought about or waits for."""
        request = self.requests[id]
        total = len(request.created)
        return total - sum(1 for key in request.created if self._unfinished(key)), total

    def wake_at(self) -> float:
        """When `Tick` is next needed; infinity if nothing is timed."""
        return min(self._timers[0][0] if self._timers else float("inf"), self._spill_due)

    def accepts(self, task: int, key: str) -> bool:
        """Whether a value that this attempt made is the one the key waits for (I1)."""
        entry = self.entries.get(key)
        return task in self.tasks and entry is not None and entry.task == task

    # --- requests come and go

    def _requested(self, event: ev.Requested, now: float) -> None:
        if event.id in self.requests:
            raise ValueError(f"request {event.id} is already live")
        deadline = event.deadline
        rank = (event.priority, -deadline if deadline is not None else float("-inf"))
        request = self.requests[event.id] = Request(event.id, rank, event.tenant, deadline)
        targets = list(dict.fromkeys(event.targets))
        if event.refresh:
            self._refresh(request, targets, event.steps, now)
        first = self._seq
        for key in targets:
            self._attach(request, key, event, now)
        request.created = [k for k, e in self._made_since(first, event.steps, targets)]
        if deadline is not None and request.pending:
            self._timer(deadline, "expire", event.id)
        if not request.pending:
            self._finish(request)

    def _made_since(
        self, first: int, steps: Mapping[str, Step], targets: Iterable[str]
    ) -> Iterable[tuple[str, Entry | None]]:
        """The request's own share of the graph: what it waits for and what was made for it, in order."""
        waited = set(targets)
        for key in steps:
            entry = self.entries.get(key)
            if key in waited or (entry is not None and entry.seq > first):
                yield key, entry

    def _attach(self, request: Request, key: str, event: ev.Requested, now: float) -> None:
        """Answer a target at once if its fate is known, else make the request a waiter on it."""
        entry = self.entries.get(key)
        if (entry is None or self._forgotten(entry, now)) and not event.load and key in self.index:
            self._deliver(request, key, ev.Ready(cached=True))
            return
        joined = entry is not None and entry.state in LIVE
        entry = self._ensure(key, event.steps, request.rank, request.tenant, now)
        if entry.state in AVAILABLE:
            self.counters["hits"] += 1
            self._touch(entry)
            self._deliver(request, key, ev.Ready(cached=True, seconds=entry.seconds))
        elif entry.state is State.FAILED:
            assert entry.failure is not None
            self._deliver(request, key, entry.failure)
        else:
            self.counters["joined"] += joined
            entry.waiters.add(request.id)
            request.pending.add(key)

    def _left(self, event: ev.Left, now: float) -> None:
        request = self.requests.pop(event.id, None)
        if request is None:
            return  # it finished while its withdrawal was on the way
        self._withdraw(request, now)

    def _withdraw(self, request: Request, now: float) -> None:
        for key in request.pending:
            entry = self.entries[key]
            entry.waiters.discard(request.id)
            self._interest_lost(entry, now)
        request.pending = set()

    def _deliver(self, request: Request, key: str, outcome: ev.Ready | Failure) -> None:
        request.pending.discard(key)
        self._out.append(ev.Deliver(request.id, key, outcome))

    def _finish(self, request: Request) -> None:
        del self.requests[request.id]
        self._out.append(ev.Finished(request.id))

    def _answer(self, entry: Entry, outcome: ev.Ready | Failure) -> None:
        """Answer every waiter of a key, once."""
        waiters, entry.waiters = entry.waiters, set()
        for id in sorted(waiters):
            request = self.requests[id]
            self._deliver(request, entry.key, outcome)
            if not request.pending:
                self._finish(request)

    def _refresh(
        self, request: Request, targets: Iterable[str], steps: Mapping[str, Step], now: float
    ) -> None:
        """Recompute the targets, and forget failures under them; good values under them are reused."""
        stack, seen = list(targets), set(targets)
        wanted = set(seen)
        while stack:
            key = stack.pop()
            entry = self.entries.get(key)
            if entry is not None and entry.state is State.FAILED:
                self._remove(entry, Cause.DROP)
            elif key in wanted and (entry is None or entry.state in AVAILABLE):
                if entry is None:
                    entry = self._new(key, steps, request.rank, request.tenant)
                    entry.move(Cause.NEED)
                else:
                    entry.origin = steps
                    # The old value is let go here, but its row in Parquet stays until a newer one is written.
                    self._release_memory(entry)
                    entry.move(Cause.REFRESH)
                    for user in entry.dependents:
                        self._input_gone(self.entries[user])
                self._plan_inputs(entry, now)
            for need in steps[key].needs:
                if need not in seen:
                    seen.add(need)
                    stack.append(need)

    # --- making sure that a key will have an answer

    def _ensure(
        self, key: str, origin: Mapping[str, Step], rank: Rank, tenant: str, now: float, depth: int = 0
    ) -> Entry:
        """The entry of a key that someone is about to wait for, made and set going if there was none."""
        entry = self.entries.get(key)
        if entry is not None and self._forgotten(entry, now):
            self._remove(entry, Cause.EXPIRE)
            entry = None
        if entry is not None:
            if entry.origin is None:
                entry.origin = origin
            self._raise(entry, rank, tenant)
            return entry
        entry = self._new(key, origin, rank, tenant)
        if key in self.index:
            entry.move(Cause.FIND)
            entry.move(Cause.RESTORE)
            self._out.append(ev.Restore((key,)))
        else:
            entry.move(Cause.NEED)
            self._plan_inputs(entry, now)
        return entry

    def _new(self, key: str, origin: Mapping[str, Step], rank: Rank, tenant: str) -> Entry:
        self._seq += 1
        entry = self.entries[key] = Entry(origin[key], origin, rank, tenant, self._seq)
        return entry

    def _plan_inputs(self, entry: Entry, now: float) -> None:
        """Register a WAITING step with its inputs, and queue it if they are all there.

        Recursion through `_ensure` is as deep as the feature graph.
        """
        step = entry.step
        entry.missing = 0
        if step.home != self.shard:
            # Another shard owns it and its inputs: one question carries all such steps of this turn.
            self._foreign.setdefault(step.home, []).append(entry)
            return
        lacking = self.scheduler.lacking(step.recipe)
        if lacking is not None:
            self._fail(entry, _failure(entry, "system", "MissingResource", lacking, 503), now)
            return
        origin = entry.origin
        assert origin is not None
        blocked: Failure | None = None
        for need in step.needs:
            below = self._ensure(need, origin, entry.rank, entry.tenant, now)
            if below.state is State.FAILED:
                blocked = below.failure
                continue
            below.dependents.add(entry.key)
            self.budget.withhold(need)
            if below.state not in AVAILABLE:
                entry.missing += 1
        if blocked is not None:
            self._fail(entry, blocked, now)
        elif entry.missing == 0:
            entry.move(Cause.READY)
            self.scheduler.push(entry)

    def _raise(self, entry: Entry, rank: Rank, tenant: str) -> None:
        """Make a step, and what it waits for, at least as urgent as `rank` (I4)."""
        if rank <= entry.rank:
            return
        stack = [entry]
        while stack:
            one = stack.pop()
            if rank <= one.rank:
                continue
            one.rank, one.tenant = rank, tenant
            if one.state is State.QUEUED:
                self.scheduler.push(one)
            if one.state in LIVE and one.step.home == self.shard:
                stack.extend(e for e in map(self.entries.get, one.step.needs) if e and e.state in LIVE)

    def _lower(self, entry: Entry) -> None:
        """A waiter or dependent left: the rank is again the highest of those that remain."""
        stack = [entry]
        while stack:
            one = stack.pop()
            if one.state not in LIVE or not one.wanted:
                continue
            best, tenant = LEAST, one.tenant
            for id in one.waiters:
                request = self.requests[id]
                if request.rank > best:
                    best, tenant = request.rank, request.tenant
            for key in one.dependents:
                user = self.entries[key]
                if user.rank > best:
                    best, tenant = user.rank, user.tenant
            if best == one.rank:
                continue
            one.rank, one.tenant = best, tenant
            if one.state is State.QUEUED:
                self.scheduler.push(one)
            if one.step.home == self.shard:
                stack.extend(e for e in map(self.entries.get, one.step.needs) if e is not None)

    def _forgotten(self, entry: Entry, now: float) -> bool:
        return entry.state is State.FAILED and entry.until <= now

    # --- tasks end

    def _reported(self, event: ev.Reported, now: float) -> None:
        task = self.tasks.pop(event.task, None)
        if task is None:
            self.counters["superseded"] += 1
            return
        self._release(task)
        vanished: list[Entry] = []
        answered: set[str] = set()
        for report in event.reports:
            entry = self.entries.get(report.key)
            if entry is None or entry.task != event.task:
                # Dropped, cancelled or failed with its input meanwhile: an answer has been given already (I1).
                self.counters["superseded"] += 1
                continue
            answered.add(report.key)
            if report.failure is not None:
                self._fail(entry, report.failure, now)
                continue
            entry.task = 0
            entry.seconds = report.seconds
            if task.home is None:
                self.counters["computed"] += 1
                self.costs.learn(entry.step.recipe, report.seconds, report.bytes)
            if report.kept:
                self._arrived(entry, report.bytes, now)
            else:
                vanished.append(entry)
        for entry in vanished:
            self._consumed(entry, now)
        for entry in vanished:
            # Its users in the task are done. Whoever came while it ran gets it computed again.
            entry.move(Cause.VANISH)
            if not entry.wanted:
                del self.entries[entry.key]
            else:
                entry.move(Cause.NEED)
                self._plan_inputs(entry, now)
        for step in task.steps:
            entry = self.entries.get(step.key)
            if entry is not None and entry.task == task.id and step.key not in answered:
                self._again(
                    entry, _failure(entry, "system", "SystemFault", "the task did not report it", 503), now
                )

    def _arrived(self, entry: Entry, size: int, now: float) -> None:
        """A computed value is in memory: tell who waits, free what it was made from, plan its spill."""
        entry.move(Cause.DONE)
        entry.tries, entry.alone = 0, False
        entry.bytes = size
        self.hot_bytes += size + OVERHEAD
        if self._durable(entry):
            self.unspilled[entry.key] = size
            self.unspilled_bytes += size
            self._spill_due = min(self._spill_due, now + self.settings.spill_seconds)
        asked = bool(entry.waiters)
        self._available(entry, ev.Ready(cached=False, seconds=entry.seconds))
        self._consumed(entry, now)
        self._settle(entry, keep=asked)

    def _available(self, entry: Entry, outcome: ev.Ready) -> None:
        for key in entry.dependents:
            user = self.entries[key]
            if user.state is State.WAITING and not user.paused:
                user.missing -= 1
                if user.missing == 0:
                    user.move(Cause.READY)
                    self.scheduler.push(user)
        self._answer(entry, outcome)

    def _consumed(self, entry: Entry, now: float) -> None:
        """A step needs its inputs no longer."""
        if entry.step.home != self.shard:
            return
        for need in entry.step.needs:
            below = self.entries.get(need)
            if below is not None and entry.key in below.dependents:
                below.dependents.discard(entry.key)
                self._interest_lost(below, now)

    def _interest_lost(self, entry: Entry, now: float) -> None:
        if entry.state in AVAILABLE:
            self._settle(entry)
        elif entry.wanted:
            self._lower(entry)
        elif entry.state in LIVE:
            entry.orphaned = now
            self._timer(now + self.settings.grace_seconds, "orphan", entry.key)

    def _settle(self, entry: Entry, keep: bool = False) -> None:
        """A value in memory that no step is about to read may be evicted, or goes at once if it is transient.

        A transient value that a caller asked for by itself (`keep`) stays until evicted, so that it can be fetched.
        """
        if entry.wanted:
            return
        entry.origin = None
        if entry.doomed:
            self._remove(entry, Cause.DROP)
        elif self._durable(entry):
            if entry.state is State.KEPT:
                self.budget.offer(entry.key, entry.bytes)
        elif keep or entry.step.recipe.store == "memory" or entry.key in self.budget:
            self.budget.offer(entry.key, entry.bytes, entry.seconds or 0.0)
        else:
            self._remove(entry, Cause.DROP)

    def _durable(self, entry: Entry) -> bool:
        """Whether this shard writes it to Parquet."""
        return entry.step.recipe.store == "parquet" and entry.step.home == self.shard

    def _touch(self, entry: Entry) -> None:
        if entry.key in self.budget:
            cost = None if entry.state is State.KEPT else entry.seconds or 0.0
            self.budget.offer(entry.key, entry.bytes, cost)

    def _fail(self, entry: Entry, failure: Failure, now: float) -> None:
        """No value: remember why, tell who waits, and fail what depends on it with the same reason."""
        stack = [entry]
        while stack:
            one = stack.pop()
            if one.state is State.FAILED:
                continue
            one.move(Cause.FAIL)
            task, one.task, one.ticket, one.paused = one.task, 0, 0, False
            one.failure = dataclasses.replace(failure, attempts=max(failure.attempts, one.tries))
            one.until = now + self._remember(failure)
            self.counters["failed"] += 1
            self._timer(one.until, "forget", one.key)
            self._answer(one, one.failure)
            users, one.dependents = one.dependents, set()
            for user in map(self.entries.__getitem__, users):
                # A user that runs in another task has read this value before it was lost: its own report decides.
                if user.state is not State.RUNNING or (task and user.task == task):
                    stack.append(user)
            self._consumed(one, now)
            one.origin = None

    def _remember(self, failure: Failure) -> float:
        s = self.settings
        return {
            "input": s.input_failure_seconds,
            "feature": s.feature_failure_seconds,
            "system": s.system_failure_seconds,
        }[failure.kind]

    def _task_lost(self, event: ev.TaskLost, now: float) -> None:
        task = self.tasks.pop(event.task, None)
        if task is None:
            self.counters["superseded"] += 1
            return
        self._release(task)
        together = len(task.steps) > 1
        for step in task.steps:
            entry = self.entries.get(step.key)
            if entry is None or entry.task != event.task:
                continue
            failure = dataclasses.replace(
                event.failure, step=step.recipe.feature, key=step.key, unit=step.unit_id
            )
            if together and task.home is None and event.retry:
                # One of them brought the worker down; alone, the guilty one can't take the others along.
                entry.alone = True
                self._again(entry, failure, now, count=False)
            else:
                self._again(entry, failure, now, final=not event.retry)

    def _again(
        self, entry: Entry, failure: Failure, now: float, *, count: bool = True, final: bool = False
    ) -> None:
        """After a system fault: try again after a pause that doubles, or give up."""
        entry.tries += count
        entry.task = 0
        allowed = entry.step.recipe.retries if entry.step.home == self.shard else FOREIGN_TRIES
        if final or entry.tries > allowed:
            self._fail(entry, dataclasses.replace(failure, attempts=max(1, entry.tries)), now)
            return
        entry.move(Cause.RETRY)
        self.counters["retried"] += 1
        pause = self.settings.retry_seconds * 2 ** max(0, entry.tries - 1) if count else 0.0
        # It stays registered with its inputs, so that they are not let go; they are counted anew after the pause.
        entry.paused = True
        self._timer(now + pause, "retry", entry.key)

    def _release(self, task: ev.Task) -> None:
        if task.home is None:
            self.scheduler.release(task.needs)

    # --- storage answers

    def _stored(self, event: ev.Stored, now: float) -> None:
        for key in event.keys:
            self.spilling.discard(key)
            entry = self.entries.get(key)
            if entry is not None and entry.state is State.HOT:
                entry.move(Cause.STORE)
                self._settle(entry)

    def _store_failed(self, event: ev.StoreFailed, now: float) -> None:
        for key in event.keys:
            if key in self.spilling:
                self.spilling.discard(key)
                entry = self.entries.get(key)
                if entry is not None and entry.state is State.HOT and key not in self.unspilled:
                    self.unspilled[key] = entry.bytes
                    self.unspilled_bytes += entry.bytes
        if self.unspilled:
            self._spill_due = now + SPILL_RETRY_SECONDS

    def _restored(self, event: ev.Restored, now: float) -> None:
        for key, size in event.sizes.items():
            entry = self.entries.get(key)
            if entry is None or entry.state is not State.RESTORING:
                continue  # nobody waited for it any more
            self.counters["restored"] += 1
            entry.move(Cause.RESTORED)
            entry.bytes = size
            self.hot_bytes += size + OVERHEAD
            self._available(entry, ev.Ready(cached=True))
            self._settle(entry)

    def _restore_failed(self, event: ev.RestoreFailed, now: float) -> None:
        for key in event.keys:
            entry = self.entries.get(key)
            if entry is not None and entry.state is State.RESTORING:
                entry.move(Cause.MISS)
                self._plan_inputs(entry, now)

    def _lost(self, event: ev.Lost, now: float) -> None:
        for key in event.keys:
            entry = self.entries.get(key)
            if entry is None or entry.state not in AVAILABLE:
                continue
            self.counters["lost"] += 1
            kept = entry.state is State.KEPT
            self._release_memory(entry)
            entry.move(Cause.LOSE)
            if not entry.wanted:
                del self.entries[key]
                continue
            for user in entry.dependents:
                self._input_gone(self.entries[user])
            if kept:
                entry.move(Cause.RESTORE)
                self._out.append(ev.Restore((key,)))
            else:
                self._plan_inputs(entry, now)

    def _input_gone(self, user: Entry) -> None:
        """A value that a step was about to read has gone; a running task finds out by itself."""
        if user.state is State.QUEUED:
            user.move(Cause.LOSE)
            user.ticket = 0
            user.missing = 1
        elif user.state is State.WAITING and not user.paused:
            user.missing += 1

    def _purged(self, event: ev.Purged, now: float) -> None:
        for key in event.keys:
            entry = self.entries.get(key)
            if entry is None or entry.state in LIVE:
                continue  # it is being made now, so it is newer than the purge
            if entry.wanted:
                entry.doomed = True  # a step is about to read it; it goes right after
                self._unplan_spill(entry)
            else:
                self._remove(entry, Cause.DROP)

    # --- memory

    def _remove(self, entry: Entry, cause: Cause) -> None:
        """Forget a key that nobody waits for."""
        if entry.state in AVAILABLE:
            self._release_memory(entry)
        entry.move(cause)
        del self.entries[entry.key]

    def _release_memory(self, entry: Entry) -> None:
        self.hot_bytes -= entry.bytes + OVERHEAD
        self._unplan_spill(entry)
        self.budget.forget(entry.key)
        self._out.append(ev.Drop((entry.key,)))
        entry.bytes = 0

    def _unplan_spill(self, entry: Entry) -> None:
        size = self.unspilled.pop(entry.key, None)
        if size is not None:
            self.unspilled_bytes -= size
        self.spilling.discard(entry.key)

    def _evict(self) -> None:
        """Bring memory back to its budget as far as values may go now (I2, I5)."""
        while self.hot_bytes > self.settings.memory_bytes:
            key = self.budget.pop()
            if key is None:
                return
            entry = self.entries[key]
            self._release_memory(entry)
            entry.move(Cause.EVICT)
            del self.entries[key]
            self.counters["evicted"] += 1

    # --- time

    def _timer(self, when: float, what: str, key: str) -> None:
        self._seq += 1
        heapq.heappush(self._timers, (when, self._seq, what, key))

    def _tick(self, event: ev.Tick, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            _, _, what, key = heapq.heappop(self._timers)
            if what == "expire":
                self._expire(key, now)
                continue
            entry = self.entries.get(key)
            if entry is None:
                continue
            if what == "retry":
                if entry.paused:
                    entry.paused = False
                    self._unregister(entry)
                    self._plan_inputs(entry, now)
            elif what == "orphan":
                if not entry.wanted and now - entry.orphaned >= self.settings.grace_seconds:
                    self._abandon(entry, now)
            elif self._forgotten(entry, now):
                self._remove(entry, Cause.EXPIRE)

    def _unregister(self, entry: Entry) -> None:
        """Before planning a step's inputs anew: it is a dependent of none."""
        for need in entry.step.needs:
            below = self.entries.get(need)
            if below is not None:
                below.dependents.discard(entry.key)

    def _expire(self, id: str, now: float) -> None:
        request = self.requests.get(id)
        if request is None:
            return
        for key in sorted(request.pending):
            entry = self.entries[key]
            entry.waiters.discard(id)
            late = _failure(
                entry, "system", "Expired", "the request's deadline passed before this step was done", 504
            )
            self._deliver(request, key, late)
            self._interest_lost(entry, now)
        self._finish(request)

    def _abandon(self, entry: Entry, now: float) -> None:
        """Stop work that nobody has waited for throughout the grace period (I6)."""
        if entry.state is State.RUNNING:
            task = self.tasks[entry.task]
            mates = [self.entries[s.key] for s in task.steps if s.key in self.entries]
            mates = [m for m in mates if m.task == task.id]
            inside = {m.key for m in mates}
            if any(m.waiters or m.dependents - inside for m in mates):
                return  # someone needs another part of the task; what it makes of this one is kept
            self._out.append(ev.Cancel(task.id))
            for mate in mates:
                mate.task = 0
                mate.dependents -= inside
            for mate in mates:
                self._remove(mate, Cause.DROP)
                self._consumed(mate, now)
        elif entry.state in LIVE:
            self._remove(entry, Cause.DROP)
            if entry.step.home == self.shard:
                for need in entry.step.needs:
                    below = self.entries.get(need)
                    if below is not None and entry.key in below.dependents:
                        below.dependents.discard(entry.key)
                        if below.wanted or below.state in AVAILABLE:
                            self._interest_lost(below, now)
                        else:
                            self._abandon(below, now)

    # --- after every event

    def _pump(self, now: float) -> None:
        """What follows from the new state: spill, evict, ask other shards, hand over tasks."""
        over = self.hot_bytes > self.settings.memory_bytes
        if self.unspilled and (
            now >= self._spill_due
            or self.unspilled_bytes >= self.settings.spill_bytes
            or (over and not self.spilling)  # not at each value: what comes while one is written goes together
        ):
            keys, self.unspilled, self.unspilled_bytes = tuple(self.unspilled), {}, 0
            self.spilling.update(keys)
            self._out.append(ev.Spill(keys))
            self._spill_due = float("inf")
        elif not self.unspilled:
            self._spill_due = float("inf")
        if over:
            self._evict()
        foreign, self._foreign = self._foreign, {}
        for home, asked in foreign.items():
            asked = [e for e in asked if e.state is State.WAITING]
            if asked:
                needs: Mapping[str, float] = {}
                self._submit(Draft(asked, needs, asked[0].step.recipe, None), home)
        # While memory is far over its budget only because spills are on their way, they are let catch up:
        # their end is an event, so this never stops for good.
        if self.spilling and self.hot_bytes > 2 * self.settings.memory_bytes:
            return
        while (draft := self.scheduler.take(self.entries)) is not None:
            self._submit(draft, None)

    def _submit(self, draft: Draft, home: int | None) -> None:
        self._next_task += 1
        inside = {e.key for e in draft.entries}
        outputs: list[str] = []
        priority = 0
        small = True
        for entry in draft.entries:
            entry.move(Cause.START)
            entry.task = self._next_task
            priority = max(priority, entry.rank[0])
            if entry.step.recipe.store != "never" or entry.waiters or entry.dependents - inside:
                outputs.append(entry.key)
                size = self.costs.bytes(entry.step.recipe)
                small = small and size is not None and size * 2 < self.settings.inline_bytes
        task = ev.Task(
            id=self._next_task,
            steps=tuple(e.step for e in draft.entries),
            outputs=frozenset(outputs),
            needs=draft.needs,
            recipe=draft.recipe,
            pool=home is None and draft.recipe.is_class,
            home=home,
            priority=priority,
            small=small,
        )
        self.tasks[task.id] = task
        self._out.append(ev.Submit(task))

    def _capacity(self, event: ev.Capacity, now: float) -> None:
        if not self.scheduler.set_capacity(event.nodes, event.attainable):
            return
        for entry in list(self.entries.values()):
            if entry.state is State.QUEUED:
                lacking = self.scheduler.lacking(entry.step.recipe)
                if lacking is None:
                    self.scheduler.push(entry)
                else:
                    self._fail(entry, _failure(entry, "system", "MissingResource", lacking, 503), now)

    def _unfinished(self, key: str) -> bool:
        entry = self.entries.get(key)
        return entry is not None and entry.state in LIVE


def _failure(entry: Entry, kind: Any, type: str, message: str, status: int) -> Failure:
    return Failure(
        kind=kind,
        type=type,
        message=message,
        step=entry.step.recipe.feature,
        key=entry.key,
        unit=entry.step.unit_id,
        status=status,
    )
