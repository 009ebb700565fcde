"""The invariants of a ledger as code. Tests and the simulation run `check` after every event."""

from __future__ import annotations

from collections.abc import Mapping

from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.ledger.memory import OVERHEAD
from amber_ray.core.model.units import Segment
from amber_ray.core.scheduler.calls import slots
from amber_ray.core.scheduler.capacity import charged
from amber_ray.core.state.entry import AVAILABLE, LIVE, Entry, State

# Names of this module: to look up a member of an enumeration takes five times as long.
_ABSENT = State.ABSENT
_COLD = State.COLD
_FAILED = State.FAILED
_HOT = State.HOT
_KEPT = State.KEPT
_QUEUED = State.QUEUED
_RUNNING = State.RUNNING
_WAITING = State.WAITING


class Broken(AssertionError):
    """An invariant does not hold."""


def check(ledger: Ledger) -> None:
    """Raise `Broken`, naming the key, unless I1 to I6 of `core.ledger` hold. Takes O(entries + edges)."""
    _attempts(ledger)
    _waiters(ledger)
    _edges(ledger)
    _urgency(ledger)
    _memory(ledger)
    _interest(ledger)
    _queue(ledger)
    _fan_outs(ledger)


def _broken(message: str, *about: object) -> Broken:
    return Broken(f"{message}: {', '.join(map(str, about))}")


def _attempts(ledger: Ledger) -> None:
    """I1: a RUNNING key is a step of one live task; the resources held are those of the live tasks."""
    for key, entry in ledger.entries.items():
        state = entry.state
        if key != entry.key or state is _ABSENT or state is _COLD:
            raise _broken("nothing to say", entry)
        if (state is _RUNNING) != bool(entry.task):
            raise _broken("task and state disagree", entry, entry.task)
        if entry.task:
            task = ledger.tasks.get(entry.task)
            if task is None:
                raise _broken("runs in a task that is not live", entry, entry.task)
            if sum(s.key == key for s in task.steps) != 1:
                raise _broken("is not a step of its task", entry, entry.task)
        if (state is _FAILED) != (entry.failure is not None):
            raise _broken("failure and state differ", entry)
    held: dict[str, float] = {}
    calls: dict[object, int] = {}
    for task in ledger.tasks.values():
        if task.home is None and task.recipe.calls.concurrency:
            calls[task.recipe.pool] = calls.get(task.recipe.pool, 0) + 1
            if calls[task.recipe.pool] > slots(task.recipe.calls.concurrency):
                raise _broken("more calls than slots", task.recipe.feature, calls[task.recipe.pool])
        elif task.home is None:
            for name, amount in charged(task.needs).items():
                held[name] = held.get(name, 0.0) + amount
    counted = ledger.scheduler.capacity.held
    for name in held.keys() | counted.keys():
        if abs(held.get(name, 0) - counted.get(name, 0)) >= 1e-6:
            raise _broken("a slot leaks", name, held, counted)
    lent = sum(task.threads - 1 for task in ledger.tasks.values())
    if ledger.scheduler.capacity.lent != lent:
        raise _broken("a lent CPU leaks", lent, ledger.scheduler.capacity.lent)
    if calls != ledger.scheduler.calls.running:
        raise _broken("a call's slot leaks", calls, ledger.scheduler.calls.running)


def _waiters(ledger: Ledger) -> None:
    """I3: a request waits exactly where it is registered, and only for LIVE keys."""
    for id, request in ledger.requests.items():
        if id != request.id or not request.pending:
            raise _broken("live with nothing pending", id)
        for key, entry in request.pending.items():
            if ledger.entries.get(key) is not entry:
                raise _broken("a request waits for an unknown key", id, key)
            if id not in entry.waiters:
                raise _broken("a waiter was forgotten", id, entry)
    for entry in ledger.entries.values():
        if not entry.waiters:
            continue
        if entry.state not in LIVE:
            raise _broken("an answered key has waiters", entry)
        for id in entry.waiters:
            if id not in ledger.requests:
                raise _broken("a waiter without a request", id, entry)
            if entry.key not in ledger.requests[id].pending:
                raise _broken("a waiter that is not pending", id, entry)


def _edges(ledger: Ledger) -> None:
    """Each step on its way is registered with its inputs and counts those without a value."""
    entries = ledger.entries
    for entry in entries.values():
        if entry.state is _WAITING or entry.state is _QUEUED:
            if entry.step.home == ledger.shard or entry.step.is_template:
                if not entry.paused:
                    _counted(entry, entries)
            elif not entry.paused:
                raise _broken("nobody was asked for it", entry)
        if not entry.dependents:
            continue
        if entry.state is _FAILED:
            raise _broken("steps wait for a failed one", entry)
        for key, user in entry.dependents.items():
            if entries.get(key) is not user:
                raise _broken("a dependent without an entry", entry, key)
            if user.state not in LIVE:
                raise _broken("a dependent that is not on its way", entry, user)
            if entry.key not in user.needs:
                raise _broken("a dependent that does not need it", entry, user)
            running = user.state is _RUNNING
            if running and entry.state not in AVAILABLE and entry.task != user.task:
                raise _broken("runs without its input", user, entry)


def _counted(entry: Entry, entries: Mapping[str, Entry]) -> None:
    """Check the edges and the count of a step that waits for its inputs or for its turn."""
    missing = 0
    for need in entry.needs:
        below = entries.get(need)
        if below is None:
            raise _broken("an input has no entry", entry, need)
        if below.dependents.get(entry.key) is not entry:
            raise _broken("not registered with its input", entry, below)
        missing += below.state not in AVAILABLE
    if (missing == 0) != (entry.state is _QUEUED) and not entry.step.is_template:
        raise _broken("ready and not queued, or unready", entry)
    if missing != (entry.missing if entry.state is _WAITING else 0):
        raise _broken(f"counts {entry.missing} missing inputs, not {missing}", entry)


def _urgency(ledger: Ledger) -> None:
    """I4: a rank is the highest of those that wait."""
    requests = ledger.requests
    for entry in ledger.entries.values():
        if entry.state in LIVE and (entry.waiters or entry.dependents):
            ranks = [requests[id].rank for id in entry.waiters]
            ranks += [user.rank for user in entry.dependents.values()]
            if entry.rank != max(ranks):
                raise _broken("rank is not inherited", entry, entry.rank, ranks)


def _memory(ledger: Ledger) -> None:
    """I2: only values that are safe are evictable. I5: bytes are counted right and within budget."""
    entries, memory = ledger.entries, ledger.memory
    held = 0
    writing = memory.spilling - memory.stale
    for key, entry in entries.items():
        evictable = key in memory.budget
        written_here = entry.step.home == ledger.shard and entry.step.recipe.store == "parquet"
        to_write = key in memory.unspilled or key in writing
        if to_write != (written_here and entry.state is _HOT):
            raise _broken("written for nothing, or never", entry)
        if entry.state in AVAILABLE:
            held += entry.bytes + OVERHEAD
            wanted = entry.wanted
            if not wanted and not to_write and not evictable:
                raise _broken("a value that can never leave memory", entry)
            if evictable and wanted:
                raise _broken("evictable while a step is about to read it", entry)
            if evictable and written_here and entry.state is not _KEPT:
                raise _broken("evictable before it is written", entry)
        elif evictable:
            raise _broken("evictable without a value", entry)
    for key in (*memory.unspilled, *writing):
        if key not in entries:
            raise _broken("writes a value that is not in memory", key)
    if not memory.stale <= memory.spilling:
        raise _broken("a stale write that is not under way", memory.stale)
    if memory.unspilled_bytes != sum(memory.unspilled.values()):
        raise _broken("unspilled bytes are miscounted", memory.unspilled_bytes, memory.unspilled)
    if held != memory.held:
        raise _broken("bytes in memory are miscounted", held, memory.held)
    if memory.held > ledger.settings.memory_bytes and len(memory.budget):
        raise _broken("over budget with evictable values", memory.held)


def _interest(ledger: Ledger) -> None:
    """I6: work that is not wanted has an alarm or shares its task; every pause has an alarm."""
    alarms = {(what, about) for _, _, what, about in ledger.graph.alarms.pending()}
    for entry in ledger.entries.values():
        state = entry.state
        if state is _WAITING or state is _QUEUED:
            if not entry.wanted:
                raise _broken("waits for nobody", entry)
        elif state is _FAILED:
            if ("forget", entry.key) not in alarms:
                raise _broken("failed for ever", entry)
        elif state is _RUNNING and not entry.wanted:
            mates = list(ledger.attempts.held_by(ledger.tasks[entry.task]))
            if not any(mate.wanted or ("grace", mate.key) in alarms for mate in mates):
                raise _broken("runs for nobody", entry)
        if entry.paused and (state is not _WAITING or ("retry", entry.key) not in alarms):
            raise _broken("paused for ever", entry)
    for request in ledger.requests.values():
        if request.deadline is not None and ("deadline", request.id) not in alarms:
            raise _broken("a deadline without an alarm", request.id)


def _queue(ledger: Ledger) -> None:
    """A step is in the queue exactly while it is QUEUED, and the queue moves."""
    scheduler = ledger.scheduler
    queued = lookers = 0
    for entry in ledger.entries.values():
        ready = entry.state is _QUEUED
        if ready != bool(entry.ticket):
            raise _broken("lost from the queue, or left in it", entry)
        queued += ready
        lookers += ready and entry.step.recipe.looks
    if scheduler.lookers != lookers:
        raise _broken("steps that look at pictures are miscounted", lookers)
    if sum(lane.size for lane in scheduler.lanes.values()) != queued:
        raise _broken("the queue's length is miscounted", queued)
    if not all(lane.size for lane in scheduler.lanes.values()):
        raise _broken("an empty lane", scheduler.lanes)
    if ledger.memory.choked(ledger.settings):
        return
    if queued and not ledger.tasks and ledger.wake_at() == float("inf"):
        raise _broken("steps are ready and nothing runs", queued)
    for lane in scheduler.lanes.values():
        caller = lane.caller
        if caller is None or not caller.calls.concurrency or not scheduler.calls.has_slot(caller):
            continue
        if ledger.wake_at() > scheduler.calls.opens_at(caller):
            raise _broken("a call could start and nothing will start it", caller.feature)


def _fan_outs(ledger: Ledger) -> None:
    """A template waits for its finder and nothing else, and is expanded as soon as the windows are there."""
    segments: dict[str, set[str]] = {}
    for entry in ledger.entries.values():
        unit = entry.step.unit
        if isinstance(unit, Segment):
            segments.setdefault(unit.asset.id, set()).add(entry.key)
    windows = ledger.graph.windows
    if segments.keys() != windows.keys() or any(windows[id].keys() != segments[id] for id in segments):
        raise _broken("segments are not noted by their asset", segments)
    to_expand = ledger.graph.to_expand
    if to_expand and ledger.wake_at() != float("-inf"):
        raise _broken("windows are there and nobody goes on to expand", *to_expand)
    for entry in ledger.entries.values():
        step = entry.step
        if entry.windows is not None and entry.state not in AVAILABLE:
            raise _broken("windows without a value", entry)
        if entry.opening is not None and entry.state is not _WAITING:
            raise _broken("runs before all that it gathers is known", entry)
        if entry.unrolling is not None and not (step.is_template and entry.state is _WAITING):
            raise _broken("comes to units of windows that it does not wait for", entry)
        if not step.is_template:
            if len(set(entry.needs)) < len(entry.needs):
                raise _broken("needs an input twice", entry)
            continue
        if entry.state is not _WAITING and entry.state is not _FAILED:
            raise _broken("a template has a state of a step", entry)
        due = entry.state is _WAITING and not entry.missing
        if due and to_expand.get(entry.key) is not entry:
            raise _broken("windows are there and nobody expands", entry)
        if len(step.needs) != 1 or entry.paused or entry.task:
            raise _broken("a template waits for more than its finder", entry)
    for task in ledger.tasks.values():
        if any(step.is_template for step in task.steps):
            raise _broken("a template runs", task.id)
