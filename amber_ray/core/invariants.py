"""What is always true of a ledger, stated once. Tests and the simulation run `check` after every event."""

from __future__ import annotations

from amber_ray.core.budget import OVERHEAD
from amber_ray.core.ledger import Ledger
from amber_ray.core.states import AVAILABLE, LEAST, LIVE, State


class Broken(AssertionError):
    """An invariant does not hold."""


def check(ledger: Ledger) -> None:
    """Raise `Broken`, naming the key, unless I1 to I6 of `core.ledger` hold. O(entries + edges)."""
    entries = ledger.entries

    def want(condition: bool, message: str, *about: object) -> None:
        if not condition:
            raise Broken(f"{message}: {', '.join(map(str, about))}")

    # I1: one live attempt a key, known to its task.
    for entry in entries.values():
        want(entry.state not in (State.ABSENT, State.COLD), "an entry with nothing to say", entry)
        want((entry.state is State.RUNNING) == bool(entry.task), "task and state disagree", entry)
        if entry.task:
            task = ledger.tasks.get(entry.task)
            want(task is not None, "runs in a task that is not live", entry)
            assert task is not None
            want(any(s.key == entry.key for s in task.steps), "is not a step of its task", entry)

    # I3: a request waits exactly where it is registered.
    for request in ledger.requests.values():
        want(bool(request.pending), "a request with nothing pending is still live", request.id)
        for key in request.pending:
            want(key in entries, "a request waits for an unknown key", request.id, key)
            want(request.id in entries[key].waiters, "a waiter was forgotten", request.id, key)
    for entry in entries.values():
        for id in entry.waiters:
            want(id in ledger.requests, "a waiter without a request", id, entry)
            want(entry.key in ledger.requests[id].pending, "a waiter that is not pending", id, entry)
        want(not entry.waiters or entry.state in LIVE, "an answered key has waiters", entry)

    for entry in entries.values():
        own = entry.step.home == ledger.shard
        # Edges: a step on its way is registered with each input, and counts those that are not there.
        if own and entry.state in (State.WAITING, State.QUEUED) and not entry.paused:
            missing = 0
            for need in entry.step.needs:
                below = entries.get(need)
                want(below is not None, "an input has no entry", entry, need)
                assert below is not None
                want(entry.key in below.dependents, "not registered with its input", entry, below)
                missing += below.state not in AVAILABLE
            want(missing == entry.missing, f"counts {entry.missing} missing inputs, not {missing}", entry)
            want((missing == 0) == (entry.state is State.QUEUED), "ready and not queued, or unready", entry)
        for key in entry.dependents:
            want(key in entries, "a dependent without an entry", entry, key)
            want(entries[key].state in LIVE, "a dependent that is not on its way", entry, entries[key])
        # I4: as urgent as the most urgent that waits.
        if entry.state in LIVE and entry.wanted:
            ranks = [ledger.requests[id].rank for id in entry.waiters]
            ranks += [entries[key].rank for key in entry.dependents]
            want(entry.rank == max(ranks, default=LEAST), "rank is not inherited", entry, entry.rank, ranks)
        # I2: what may be evicted is in Parquet or is never written.
        if entry.key in ledger.budget:
            want(entry.state in AVAILABLE, "evictable without a value", entry)
            want(not entry.dependents, "evictable while a step is about to read it", entry)
            never_written = entry.step.recipe.store != "parquet" or not own
            want(entry.state is State.KEPT or never_written, "evictable before it is written", entry)
        if entry.state is State.HOT and own and entry.step.recipe.store == "parquet" and not entry.doomed:
            planned = entry.key in ledger.unspilled or entry.key in ledger.spilling
            want(planned, "a value that nobody will write", entry)
        # I6: nobody waits, and no timer is set to stop it.
        if entry.state in LIVE and not entry.wanted:
            timed = any(key == entry.key and what == "orphan" for _, _, what, key in ledger._timers)
            own_task = ledger.tasks.get(entry.task)
            shared = own_task is not None and len(own_task.steps) > 1
            want(timed or shared, "orphaned for ever", entry)

    # I5: the bytes are counted right, and in budget but for what is being written or about to be read.
    held = {k: e.bytes + OVERHEAD for k, e in entries.items() if e.state in AVAILABLE}
    want(sum(held.values()) == ledger.hot_bytes, "hot bytes are miscounted", ledger.hot_bytes)
    bound = sum(
        size
        for key, size in held.items()
        if entries[key].dependents or (entries[key].state is State.HOT and key not in ledger.budget)
    )
    want(
        ledger.hot_bytes - bound <= max(0, ledger.settings.memory_bytes),
        "memory is over budget with evictable values in it",
        ledger.hot_bytes,
        bound,
    )
    want(ledger.unspilled_bytes == sum(ledger.unspilled.values()), "unspilled bytes are miscounted")
