"""What is always true of a ledger, stated once. Tests and the simulation run `check` after every event."""

from __future__ import annotations

from amber_ray.core.budget import OVERHEAD
from amber_ray.core.capacity import charged
from amber_ray.core.ledger import Ledger
from amber_ray.core.states import AVAILABLE, LEAST, LIVE, State


class Broken(AssertionError):
    """An invariant does not hold."""


def check(ledger: Ledger) -> None:
    """Raise `Broken`, naming the key, unless I1 to I6 of `core.ledger` hold. O(entries + edges)."""
    _attempts(ledger)
    _waiters(ledger)
    _edges(ledger)
    _urgency(ledger)
    _memory(ledger)
    _interest(ledger)
    _queue(ledger)


def _want(condition: bool, message: str, *about: object) -> None:
    if not condition:
        raise Broken(f"{message}: {', '.join(map(str, about))}")


def _attempts(ledger: Ledger) -> None:
    """I1: a key has one live attempt, a step of that task; resources held are those of live tasks."""
    for key, entry in ledger.entries.items():
        _want(key == entry.key and entry.state not in (State.ABSENT, State.COLD), "nothing to say", entry)
        _want(
            (entry.state is State.RUNNING) == bool(entry.task), "task and state disagree", entry, entry.task
        )
        if entry.task:
            task = ledger.tasks.get(entry.task)
            _want(task is not None, "runs in a task that is not live", entry, entry.task)
            steps = () if task is None else task.steps
            _want(sum(s.key == key for s in steps) == 1, "is not a step of its task", entry, entry.task)
        _want((entry.state is State.FAILED) == (entry.failure is not None), "failure and state differ", entry)
    held: dict[str, float] = {}
    for task in ledger.tasks.values():
        if task.home is None:
            for name, amount in charged(task.needs).items():
                held[name] = held.get(name, 0.0) + amount
    counted = ledger.scheduler.capacity.held
    for name in held.keys() | counted.keys():
        _want(abs(held.get(name, 0) - counted.get(name, 0)) < 1e-6, "a slot leaks", name, held, counted)


def _waiters(ledger: Ledger) -> None:
    """I3: a request waits exactly where it is registered, and only for what is on its way."""
    for id, request in ledger.requests.items():
        _want(id == request.id and bool(request.pending), "live with nothing pending", id)
        for key, entry in request.pending.items():
            _want(ledger.entries.get(key) is entry, "a request waits for an unknown key", id, key)
            _want(id in entry.waiters, "a waiter was forgotten", id, entry)
    for entry in ledger.entries.values():
        for id in entry.waiters:
            _want(id in ledger.requests, "a waiter without a request", id, entry)
            _want(entry.key in ledger.requests[id].pending, "a waiter that is not pending", id, entry)
        _want(not entry.waiters or entry.state in LIVE, "an answered key has waiters", entry)


def _edges(ledger: Ledger) -> None:
    """Each step on its way is registered with its inputs and counts those without a value."""
    entries = ledger.entries
    for entry in entries.values():
        own = entry.step.home == ledger.shard
        if entry.state in (State.WAITING, State.QUEUED):
            _want(own or entry.paused, "nobody was asked for it", entry)
        if own and entry.state in (State.WAITING, State.QUEUED) and not entry.paused:
            missing = 0
            for need in entry.step.needs:
                below = entries.get(need)
                _want(below is not None, "an input has no entry", entry, need)
                assert below is not None
                _want(below.dependents.get(entry.key) is entry, "not registered with its input", entry, below)
                missing += below.state not in AVAILABLE
            _want((missing == 0) == (entry.state is State.QUEUED), "ready and not queued, or unready", entry)
            counted = entry.missing if entry.state is State.WAITING else 0
            _want(missing == counted, f"counts {counted} missing inputs, not {missing}", entry)
        _want(entry.state is not State.FAILED or not entry.dependents, "steps wait for a failed one", entry)
        for key, user in entry.dependents.items():
            _want(entries.get(key) is user, "a dependent without an entry", entry, key)
            _want(user.state in LIVE, "a dependent that is not on its way", entry, user)
            _want(entry.key in user.step.needs, "a dependent that does not need it", entry, user)
            if user.state is State.RUNNING:
                ready = entry.state in AVAILABLE or entry.task == user.task
                _want(ready, "runs without its input", user, entry)


def _urgency(ledger: Ledger) -> None:
    """I4: as urgent as the most urgent that waits."""
    for entry in ledger.entries.values():
        if entry.state in LIVE and entry.wanted:
            ranks = [ledger.requests[id].rank for id in entry.waiters]
            ranks += [user.rank for user in entry.dependents.values()]
            _want(entry.rank == max(ranks, default=LEAST), "rank is not inherited", entry, entry.rank, ranks)


def _memory(ledger: Ledger) -> None:
    """I2: only what is safe may go. I5: bytes are counted right, and over budget only by what may not go."""
    entries, memory = ledger.entries, ledger.memory
    held = 0
    for entry in entries.values():
        own = entry.step.home == ledger.shard
        if entry.key in memory.budget:
            _want(entry.state in AVAILABLE, "evictable without a value", entry)
            _want(not entry.wanted, "evictable while a step is about to read it", entry)
            safe = entry.state is State.KEPT or entry.step.recipe.store != "parquet" or not own
            _want(safe, "evictable before it is written", entry)
        written_here = own and entry.step.recipe.store == "parquet"
        to_write = entry.key in memory.unspilled or entry.key in memory.spilling - memory.stale
        _want(to_write == (written_here and entry.state is State.HOT), "written for nothing, or never", entry)
        if entry.state in AVAILABLE:
            held += entry.bytes + OVERHEAD
            stuck = not entry.wanted and not to_write and entry.key not in memory.budget
            _want(not stuck, "a value that can never leave memory", entry)
    for key in (*memory.unspilled, *(memory.spilling - memory.stale)):
        _want(key in entries, "writes a value that is not in memory", key)
    _want(memory.stale <= memory.spilling, "a stale write that is not under way", memory.stale)
    _want(memory.unspilled_bytes == sum(memory.unspilled.values()), "unspilled bytes are miscounted")
    _want(held == memory.held, "bytes in memory are miscounted", held, memory.held)
    over = memory.held > ledger.settings.memory_bytes
    _want(not (over and len(memory.budget)), "over budget with evictable values", memory.held)


def _interest(ledger: Ledger) -> None:
    """I6: what nobody waits for is stopped: an alarm is set, or its task is shared. Nothing waits unheard."""
    alarms = {(what, about) for _, _, what, about in ledger.graph.pending_alarms()}
    for entry in ledger.entries.values():
        if entry.state in (State.WAITING, State.QUEUED):
            _want(entry.wanted, "waits for nobody", entry)
        if entry.paused:
            _want(entry.state is State.WAITING and ("retry", entry.key) in alarms, "paused for ever", entry)
        if entry.state is State.FAILED:
            _want(("forget", entry.key) in alarms, "failed for ever", entry)
        if entry.state is State.RUNNING and not entry.wanted:
            mates = list(ledger.attempts.held_by(ledger.tasks[entry.task]))
            heard = any(mate.wanted or ("grace", mate.key) in alarms for mate in mates)
            _want(heard, "runs for nobody", entry)
    for request in ledger.requests.values():
        timed = request.deadline is None or ("deadline", request.id) in alarms
        _want(timed, "a deadline without an alarm", request.id)


def _queue(ledger: Ledger) -> None:
    """A step is in the queue exactly while it is QUEUED, and the queue moves."""
    scheduler = ledger.scheduler
    queued = 0
    for entry in ledger.entries.values():
        _want(
            (entry.state is State.QUEUED) == bool(entry.ticket), "lost from the queue, or left in it", entry
        )
        queued += entry.state is State.QUEUED
    _want(sum(lane.size for lane in scheduler.lanes.values()) == queued, "the queue's length is miscounted")
    _want(all(lane.size for lane in scheduler.lanes.values()), "an empty lane")
    waits = bool(ledger.tasks) or ledger.memory.choked(ledger.settings)
    _want(not queued or waits, "steps are ready and nothing runs")
