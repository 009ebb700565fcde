"""Deliberate mistakes in the core, each of which the simulation must notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """In `file` of `amber_ray/core`, `old` (there exactly once) becomes `new`."""

    name: str
    file: str
    old: str
    new: str


MUTATIONS = (
    Mutation("drop the look into the index", "graph.py", "if key in self.index:", "if False:"),
    Mutation("forget a waiter", "callers.py", "        entry.waiters[request.id] = None\n", "        pass\n"),
    Mutation(
        "deliver twice",
        "callers.py",
        "            self.tell(request, entry.key, outcome)\n",
        "            self.tell(request, entry.key, outcome)\n" * 2,
    ),
    Mutation(
        "a request never ends", "callers.py", "            if not request.pending:", "            if False:"
    ),
    Mutation(
        "accept a stale attempt",
        "attempts.py",
        "if entry is None or entry.task != task.id:\n                graph",
        "if entry is None or not entry.task:\n                graph",
    ),
    Mutation(
        "leak a slot",
        "attempts.py",
        "            self._scheduler.release(task.needs)\n",
        "            pass\n",
    ),
    Mutation(
        "keep a step that the report left out",
        "attempts.py",
        "            graph.again(entry, silent, now)\n",
        "            pass\n",
    ),
    Mutation(
        "stop shared work",
        "attempts.py",
        "if mate.waiters or not mate.dependents.keys() <= inside:",
        "if False:",
    ),
    Mutation(
        "ignore the grace period",
        "graph.py",
        '                    self.alarms.set(entry.until, "grace", key)\n',
        "                    pass\n",
    ),
    Mutation(
        "lose retries", "graph.py", '            self.alarms.set(entry.until, "retry", entry.key)\n', ""
    ),
    Mutation(
        "blame a step for its lost input",
        "attempts.py",
        '"input_losses" if event.inputs_lost else "tries"',
        '"tries"',
    ),
    Mutation(
        "keep a failure after its time",
        "graph.py",
        '            self.alarms.set(one.until, "forget", one.key)\n',
        "",
    ),
    Mutation(
        "skip priority inheritance",
        "urgency.py",
        "                self._set(one, rank, tenant)\n"
        "                stack.extend(self.inputs(one))\n\n    def lower",
        "                self._set(one, rank, tenant)\n\n    def lower",
    ),
    Mutation(
        "keep the rank of who has left",
        "graph.py",
        "            elif entry.wanted:\n                self.urgency.lower(entry)",
        "            elif entry.wanted:\n                pass",
    ),
    Mutation(
        "count bytes wrong",
        "memory.py",
        "        self.held -= size + OVERHEAD",
        "        self.held -= size",
    ),
    Mutation(
        "evict what a step is about to read",
        "memory.py",
        "        self.budget.withhold(key)",
        "        pass",
    ),
    Mutation(
        "evict before it is written",
        "graph.py",
        "            pass  # until it is written",
        "            self.memory.may_go(entry.key, entry.bytes, None)",
    ),
    Mutation(
        "take a stale write for a new one",
        "memory.py",
        "            self.stale.add(key)",
        "            self.spilling.discard(key)",
    ),
    Mutation(
        "forget a write that failed",
        "memory.py",
        "            self.write(key, size, self._not_before)\n",
        "            pass\n",
    ),
    Mutation(
        "drop nothing", "ledger.py", "            graph.out.append(ev.Drop(tuple(graph.to_drop)))\n", ""
    ),
    Mutation(
        "let a read of a purged value in",
        "ledger.py",
        "                self.graph.to_drop.append(key)  # purged",
        "                pass  # purged",
    ),
    Mutation(
        "leave a lost value's readers in the queue",
        "graph.py",
        "                self.scheduler.pull(user)\n                user.move(Cause.LOSE)",
        "                user.move(Cause.LOSE)",
    ),
    Mutation(
        "compute what can't be read only if nobody waits",
        "graph.py",
        "            entry.move(Cause.MISS)\n            self.plan(entry, now)\n        else:",
        "            entry.move(Cause.MISS)\n        else:",
    ),
    Mutation(
        "refresh nothing",
        "ledger.py",
        "        if event.refresh:",
        "        if False:",
    ),
    Mutation(
        "a deadline that never comes",
        "ledger.py",
        'self.graph.alarms.set(request.deadline, "deadline", request.id)',
        "pass",
    ),
    Mutation(
        "charge all of a task with a crash",
        "attempts.py",
        "if together or not event.started:",
        "if not event.started:",
    ),
    Mutation(
        "never suspect anyone of a crash",
        "attempts.py",
        "            entry.isolated = entry.isolated or together\n",
        "",
    ),
    Mutation(
        "make anew what can't be read now",
        "ledger.py",
        """                self.graph.fail(entry, failure_of(entry, "StoreUnavailable", why, 503), now)""",
        """                self.graph.unreadable(entry, now)""",
    ),
    Mutation(
        "miscount the queue",
        "lane.py",
        "        self.size -= 1\n",
        "        pass\n",
    ),
)

QUICK = ("forget a waiter", "accept a stale attempt", "leak a slot", "evict before it is written")
