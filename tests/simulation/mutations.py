"""Deliberate mistakes in the core, the shell and the engine, each of which the simulation must notice.

In a world time stands still while a ledger works, and nobody there minds which steps share a task. So a few
mistakes are for the unit tests that they name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """In `file` of `amber_ray`, `old` (there exactly once) becomes `new`.

    `tests`: the file of unit tests that must notice it, if it is not for the simulation; `demands`: it is for
    worlds with demands.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str = ""
    demands: bool = False


_FANOUT = "tests/unit/core/ledger/test_ledger_fanout.py"
_SCHEDULE = "tests/unit/core/scheduler/test_schedule.py"
_NEAR = "tests/unit/fabric/engine/test_near.py"
_ROWS = "tests/unit/fabric/shard/test_inspection.py"


MUTATIONS = (
    Mutation("drop the look into the index", "core/ledger/graph.py", "if key in self.index:", "if False:"),
    Mutation(
        "forget a waiter",
        "core/ledger/requests.py",
        "        entry.waiters[request.id] = None\n",
        "        pass\n",
    ),
    Mutation(
        "deliver twice",
        "core/ledger/requests.py",
        "            self.tell(request, entry.key, outcome)\n",
        "            self.tell(request, entry.key, outcome)\n" * 2,
    ),
    Mutation(
        "a request never ends",
        "core/ledger/requests.py",
        "            if not request.pending:",
        "            if False:",
    ),
    Mutation(
        "accept a stale attempt",
        "core/ledger/attempts.py",
        "if entry is None or entry.task != task.id:\n                graph",
        "if entry is None or not entry.task:\n                graph",
    ),
    Mutation(
        "leak a slot",
        "core/ledger/attempts.py",
        "            self._scheduler.release(task.recipe, task.needs, task.threads)\n",
        "            pass\n",
    ),
    Mutation(
        "lend CPUs twice",
        "core/scheduler/schedule.py",
        "        self.capacity.lent += threads - 1\n",
        "        pass\n",
    ),
    Mutation(
        "keep a step that the report left out",
        "core/ledger/attempts.py",
        "            graph.again(entry, silent, now)\n",
        "            pass\n",
    ),
    Mutation(
        "stop shared work",
        "core/ledger/attempts.py",
        "if mate.waiters or not mate.dependents.keys() <= inside:",
        "if False:",
    ),
    Mutation(
        "ignore the grace period",
        "core/ledger/graph.py",
        '                    self.alarms.set(entry.until, "grace", key)\n',
        "                    pass\n",
    ),
    Mutation(
        "lose retries",
        "core/ledger/graph.py",
        '        self.alarms.set(until, "retry", entry.key)\n',
        "",
    ),
    Mutation(
        "ignore a rate",
        "core/scheduler/calls.py",
        "        if now >= self.opens_at:",
        "        if True:",
    ),
    Mutation(
        "make up for the time in which nobody called",
        "core/scheduler/calls.py",
        "if self._awaited else now",
        "if self._awaited else self.opens_at",
    ),
    Mutation(
        "let every shard have the whole rate",
        "core/scheduler/calls.py",
        "rate.apart * self.shards",
        "rate.apart",
    ),
    Mutation(
        "count the calls of each registry by themselves",
        "core/scheduler/calls.py",
        "self._paces.setdefault(recipe.feature, Pace())",
        "self._paces.setdefault((recipe.feature, recipe.registry), Pace())",
    ),
    Mutation(
        "hand over calls without a slot",
        "core/scheduler/calls.py",
        "self.running.get(recipe.pool, 0) < slots(calls.concurrency)",
        "True",
    ),
    Mutation(
        "leak a call's slot",
        "core/scheduler/calls.py",
        "            self.running[recipe.pool] -= 1\n",
        "            pass\n",
    ),
    Mutation(
        "never wake for a rate",
        "core/ledger/ledger.py",
        "        self._opens_at = self.scheduler.opens_at(now)\n",
        "",
    ),
    Mutation(
        "charge a step for its patience",
        "core/ledger/graph.py",
        "        entry.laters += 1\n",
        "        entry.laters += 1\n        entry.tries += 1\n",
    ),
    Mutation(
        "take a wish to be tried later for a fault",
        "core/ledger/attempts.py",
        "        if report.later is not None and task.home is None:",
        "        if False:",
    ),
    Mutation(
        "try a step before the time that it asked for",
        "core/ledger/graph.py",
        "        until = now + max(pause, self.settings.retry_seconds)\n",
        "        until = now + self.settings.retry_seconds\n",
    ),
    Mutation(
        "put a step off for ever",
        "core/ledger/graph.py",
        "        if until > entry.put_off + allowed:",
        "        if False:",
    ),
    Mutation(
        "make more calls at once than declared",
        "fabric/worker/calls.py",
        "asyncio.Semaphore(spec.calls.concurrency)",
        "asyncio.Semaphore(1000)",
    ),
    Mutation(
        "have more calls in flight while some are suspected",
        "fabric/shard/actor_pools.py",
        "if pool.in_flight >= pool.concurrency or (worker",
        "if (worker",
    ),
    Mutation(
        "make calls as they arrive",
        "fabric/worker/calls.py",
        "                await self._paced(work.apart)\n",
        "",
    ),
    Mutation(
        "stop a call by ending its actor",
        "fabric/shard/actor_pools.py",
        "elif worker.sent[0] == task and not pool.concurrency:",
        "elif worker.sent[0] == task:",
    ),
    Mutation(
        "blame a step for its lost input",
        "core/ledger/attempts.py",
        '"input_losses" if event.inputs_lost else "tries"',
        '"tries"',
    ),
    Mutation(
        "keep a failure after its time",
        "core/ledger/graph.py",
        '            self.alarms.set(one.until, "forget", one.key)\n',
        "",
    ),
    Mutation(
        "skip priority inheritance",
        "core/ledger/priority.py",
        "                self._set(one, rank, tenant)\n"
        "                stack.extend(self.inputs(one))\n\n    def lower",
        "                self._set(one, rank, tenant)\n\n    def lower",
    ),
    Mutation(
        "keep the rank of who has left",
        "core/ledger/graph.py",
        "            elif entry.wanted:\n                self.urgency.lower(entry)",
        "            elif entry.wanted:\n                pass",
    ),
    Mutation(
        "count bytes wrong",
        "core/ledger/memory.py",
        "        self.held -= size + OVERHEAD",
        "        self.held -= size",
    ),
    Mutation(
        "evict what a step is about to read",
        "core/ledger/memory.py",
        "        self.budget.withhold(key)",
        "        pass",
    ),
    Mutation(
        "evict before it is written",
        "core/ledger/graph.py",
        "            pass  # until it is written",
        "            self.memory.may_go(entry.key, entry.bytes, None)",
    ),
    Mutation(
        "take a stale write for a new one",
        "core/ledger/memory.py",
        "            self.stale.add(key)",
        "            self.spilling.discard(key)",
    ),
    Mutation(
        "forget a write that failed",
        "core/ledger/memory.py",
        "            self.write(key, size, self._not_before)\n",
        "            pass\n",
    ),
    Mutation(
        "drop nothing",
        "core/ledger/ledger.py",
        "            graph.out.append(ev.Drop(tuple(graph.to_drop)))\n",
        "",
    ),
    Mutation(
        "let a read of a purged value in",
        "core/ledger/ledger.py",
        "                self.graph.to_drop.append(key)  # purged",
        "                pass  # purged",
    ),
    Mutation(
        "leave a lost value's readers in the queue",
        "core/ledger/graph.py",
        "                self.scheduler.pull(user)\n                user.move(LOSE)",
        "                user.move(LOSE)",
    ),
    Mutation(
        "compute what can't be read only if nobody waits",
        "core/ledger/graph.py",
        "            entry.move(MISS)\n            self.plan(entry, now)\n        else:",
        "            entry.move(MISS)\n        else:",
    ),
    Mutation(
        "refresh nothing",
        "core/ledger/ledger.py",
        "        if event.refresh:",
        "        if False:",
    ),
    Mutation(
        "a deadline that never comes",
        "core/ledger/ledger.py",
        'self.graph.alarms.set(request.deadline, "deadline", request.id)',
        "pass",
    ),
    Mutation(
        "charge all of a task with a crash",
        "core/ledger/attempts.py",
        "if together or not event.started:",
        "if not event.started:",
    ),
    Mutation(
        "never suspect anyone of a crash",
        "core/ledger/attempts.py",
        "            entry.isolated = entry.isolated or together\n",
        "",
    ),
    Mutation(
        "make anew what can't be read now",
        "core/ledger/ledger.py",
        """                self.graph.fail(entry, failure_of(entry, "StoreUnavailable", why, 503), now)""",
        """                self.graph.unreadable(entry, now)""",
    ),
    Mutation(
        "miscount the queue",
        "core/scheduler/queues.py",
        "        self.size -= 1\n",
        "        pass\n",
    ),
    # --- the shell
    Mutation(
        "hand a peer's values over only at the end",
        "fabric/shard/requests.py",
        "            record.held[key] = handle\n",
        "            pass\n",
    ),
    Mutation(
        "forget refresh and deadline when a request is resumed",
        "fabric/shard/records.py",
        '            refresh=data.get("refresh", False),\n',
        "",
    ),
    Mutation(
        "resume a request where its asset was",
        "fabric/shard/requests.py",
        "        assets.update({i: asset for i, asset in moved.items() if i in assets})\n",
        "",
    ),
    Mutation(
        "let a late withdrawal end a newer attempt",
        "fabric/shard/requests.py",
        "            if record is not None and record.interest.get(session) == attempt:",
        "            if record is not None and session in record.interest:",
    ),
    Mutation(
        "forget a withdrawal that came first",
        "fabric/shard/requests.py",
        "            box.withdrawn[attempt] = self._context.clock.now()\n",
        "",
    ),
    Mutation(
        "keep a withdrawn request's record",
        "fabric/shard/requests.py",
        "        del self._records[record.id]  # so that the same id begins it anew\n",
        "",
    ),
    Mutation(
        "hand updates out once",
        "fabric/shard/requests.py",
        "        if known and box.sent.number == seen:\n",
        "        if True:\n",
    ),
    Mutation(
        "take the updates of a session made anew for those of the old one",
        "fabric/engine/shard_client.py",
        "                    if updates.stream != self._stream:\n",
        "                    if False:\n",
    ),
    Mutation(
        "let a resumed request keep its own keys",
        "fabric/shard/requests.py",
        "        if record is not None and not _same_keys(record, part):",
        "        if False:",
    ),
    Mutation(
        "do not journal the end of a request",
        "fabric/shard/requests.py",
        "        if record.accepted:\n"
        "            self._context.spawn(self._journal_again(record))\n\n    def _count",
        "\n    def _count",
    ),
    Mutation(
        "journal only what still runs",
        "fabric/shard/requests.py",
        'return record.state == "running" or len(record.shards) > 1 or called',
        'return record.state == "running" or called',
    ),
    Mutation(
        "call no copies back when a value is made anew",
        "fabric/shard/dispatch.py",
        "            context.changed(anew)\n",
        "            pass\n",
    ),
    Mutation(
        "keep values that the ledger does not take",
        "fabric/shard/dispatch.py",
        "            if kept and context.ledger.accepts(task.id, r.key):",
        "            if kept:",
    ),
    Mutation(
        "say nothing of a task that was lost",
        "fabric/shard/dispatch.py",
        "            self._lost(task, fault)\n",
        "            pass\n",
    ),
    Mutation(
        "never cancel a question to another shard",
        "fabric/shard/dispatch.py",
        "            call.cancel(force=force)\n",
        "            pass\n",
    ),
    Mutation(
        "write while parts are purged",
        "fabric/shard/spill.py",
        "        if self._holds:\n",
        "        if False:\n",
    ),
    Mutation(
        "purge without waiting for writes",
        "fabric/shard/spill.py",
        "        await self._idle.wait()\n",
        "",
    ),
    Mutation(
        "forget what a purge held off",
        "fabric/shard/spill.py",
        "            self._context.feed(ev.StoreFailed(held))\n",
        "            pass\n",
    ),
    Mutation(
        "index before it is written",
        "fabric/shard/spill.py",
        "            self._listing.add(PartKeys(part, packed(keys)))\n"
        "            context.feed(ev.Stored(keys))\n",
        "            context.feed(ev.Stored(keys))\n",
    ),
    Mutation(
        "say nothing of a write that failed",
        "fabric/shard/spill.py",
        "            context.feed(ev.StoreFailed(keys))\n",
        "            pass\n",
    ),
    Mutation(
        "compute anew what can't be read now",
        "fabric/shard/restore.py",
        "                    read.update((key, reason) for _, key in wanted[part])\n",
        "                    left = [key for key in left if key not in {k for _, k in wanted[part]}]\n",
    ),
    Mutation(
        "tell what a read brings though it was overtaken",
        "fabric/shard/restore.py",
        "                if place != look.places.get(key) and",
        "                if False and",
    ),
    Mutation(
        "believe copies while the shard is not heard",
        "fabric/engine/shard_client.py",
        "            self._doubt = loop.call_later(DOUBT_SECONDS, self._listener.doubted, self.number)\n",
        "            pass\n",
    ),
    Mutation(
        "let a read that is done be joined for ever",
        "fabric/shard/restore.py",
        "                del self._reading[key]\n",
        "                pass\n",
    ),
    Mutation(
        "believe whatever part is listed last",
        "fabric/shard/listing.py",
        '        if place >= self._newest.get(folder, ""):',
        "        if True:",
    ),
    Mutation(
        "list parts again that were rewritten",
        "fabric/shard/listing.py",
        "            self._removed.add(name)\n",
        "            pass\n",
    ),
    Mutation(
        "tell only the first shard of a purge",
        "fabric/shard/purging.py",
        "            for number in range(self._context.settings.shards)\n",
        "            for number in range(1)\n",
    ),
    Mutation(
        "settle a purge twice",
        "fabric/shard/purging.py",
        "            self._settled[token] = self._context.clock.now()\n",
        "            pass\n",
    ),
    Mutation(
        "purge once and for all",
        "fabric/shard/purging.py",
        "            for purge in await self._context.parts.purges():\n",
        "            for purge in []:\n",
    ),
    Mutation(
        "blame the batch behind for an actor's death",
        "fabric/shard/actor_pools.py",
        "raise CallFailed(SUSPECTED if task.id in suspects else NOT_STARTED) from failed",
        "raise CallFailed(failed.fault) from failed",
    ),
    Mutation(
        "give every request about a key the newest answer",
        "fabric/shard/requests.py",
        "            session.updates.about.append((id, shared))\n",
        "            told = [(i, shared if a.key == key else a) for i, a in session.updates.about]\n"
        "            session.updates.about[:] = [*told, (id, shared)]\n",
    ),
    Mutation(
        "lend what is lost again",
        "fabric/shard/dispatch.py",
        "            forwarding.tell_lost(context, lost)\n",
        "            pass\n",
    ),
    Mutation(
        "keep an asset where it was",
        "core/ledger/ledger.py",
        "        self.graph.relocate(event.steps, targets, event.located)\n",
        "",
    ),
    # --- the engine
    Mutation(
        "list results shard by shard",
        "fabric/engine/request.py",
        "    return tuple(parts[shard].targets[place] for _, shard, place in sorted(placed))\n",
        "    return tuple(parts[shard].targets[place] for _, shard, place in placed)\n",
    ),
    Mutation(
        "follow a request that has not reached all of its shards",
        "fabric/engine/requests.py",
        "        while lacking := _lacking(replies):",
        "        while lacking := []:",
    ),
    Mutation(
        "read what any shard finds",
        "fabric/engine/value_reader.py",
        "newest or newest[found.key][1].rank < found.rank",
        "newest",
    ),
    Mutation(
        "remember plans by their assets' ids alone",
        "fabric/engine/planner.py",
        "            tuple([(a.id, a.uri, a.signature) for a in assets]),\n",
        "            tuple([a.id for a in assets]),\n",
    ),
    Mutation(
        "name a plan by its keys alone",
        "fabric/engine/planner.py",
        "            name.update(repr((asset.id, asset.uri, asset.signature)).encode())\n",
        "            pass\n",
    ),
    Mutation(
        "forget nothing that changed",
        "fabric/engine/requests.py",
        "        self.forget_values(changed)\n",
        "        pass\n",
    ),
    Mutation(
        "keep what was read before it changed",
        "fabric/engine/shard_client.py",
        "        return mark.epoch == self._epoch and mark.changes >= self._changes\n",
        "        return True\n",
    ),
    Mutation(
        "accept without the journal",
        "fabric/engine/shard_client.py",
        '            await self.call("accept", {id: submission.record})\n',
        "",
    ),
    Mutation(
        "accept only where a part still runs",
        "fabric/engine/shard_client.py",
        "                self.submit(part, submission)\n"
        "                sent = self._requests[id]\n                continue\n",
        "                return\n",
    ),
    Mutation(
        "leave a request's work when its callers leave",
        "fabric/engine/requests.py",
        "                self._shards[number].withdraw(tracked.id, interest.attempt)\n",
        "                pass\n",
    ),
    Mutation(
        "keep targets that are others now",
        "fabric/engine/request.py",
        "            self.retarget(shard, Part(tuple(reply.positions), tuple(reply.targets)))\n",
        "            pass\n",
    ),
    Mutation(
        "forget a unit that was found",
        "core/ledger/ledger.py",
        "        for one in found.keys:\n",
        "        for one in found.keys[1:]:\n",
    ),
    Mutation(
        "tell units under each other's keys",
        "core/ledger/ledger.py",
        "ev.Expanded(request.id, key, found.units, found.keys)",
        "ev.Expanded(request.id, key, found.units[::-1], found.keys)",
    ),
    Mutation(
        "tell of no units",
        "core/ledger/ledger.py",
        "        graph.out.append(ev.Expanded(request.id, key, found.units, found.keys))\n",
        "",
    ),
    Mutation(
        "keep what stood for units that are known",
        "core/ledger/ledger.py",
        "            graph.consumed(entry)\n            graph.remove(entry, DROP)\n        return used",
        "            graph.consumed(entry)\n        return used",
    ),
    Mutation(
        "go on with the windows of a value that is gone",
        "core/ledger/ledger.py",
        " or entry.unrolling.windows is not windows:",
        ":",
        _FANOUT,
    ),
    Mutation(
        "forget that there are more windows",
        "core/ledger/ledger.py",
        "                elif entry.unrolling is not None:\n                    waiting[entry.key] = entry\n",
        "",
    ),
    Mutation(
        "forget that others wait for the same windows",
        "core/ledger/ledger.py",
        "                graph.to_expand[entry.key] = entry\n                graph.release",
        "                graph.release",
    ),
    Mutation(
        "never ask to go on with windows",
        "core/ledger/ledger.py",
        '        if self.graph.to_expand:\n            return float("-inf")\n',
        "",
    ),
    Mutation(
        "use the units of a request that wants them new as they are",
        "core/ledger/ledger.py",
        "        if request.refresh:\n            self._refresh(request, found",
        "        if False:\n            self._refresh(request, found",
    ),
    Mutation(
        "forget who waits for windows",
        "core/ledger/ledger.py",
        "(*users, *graph.callers.waiting(entry))",
        "(*users, *graph.callers.waiting(entry)[1:])",
    ),
    Mutation(
        "never let a request go from its template",
        "core/ledger/ledger.py",
        "        graph.callers.handed_over(request, key)\n",
        "",
    ),
    Mutation(
        "end a request and have it wait for its template",
        "core/ledger/requests.py",
        "        del request.pending[key]\n        if not",
        "        if not",
    ),
    Mutation(
        "forget a unit in what gathers it",
        "core/ledger/graph.py",
        "        self._register(entry, found.keys, now, entry.missing - 1)\n",
        "        self._register(entry, found.keys[1:], now, entry.missing - 1)\n",
    ),
    Mutation(
        "gather units in another order",
        "core/ledger/graph.py",
        "opening.open(template, found.keys)",
        "opening.open(template, found.keys[::-1])",
    ),
    Mutation(
        "count a template that is gone",
        "core/ledger/graph.py",
        "now, entry.missing - 1)",
        "now, entry.missing)",
    ),
    Mutation(
        "run what stands for each range",
        "core/ledger/graph.py",
        "        if entry.step.is_template:\n            self.to_expand[entry.key] = entry\n",
        "        if False:\n            pass\n",
    ),
    Mutation(
        "run what stands for each range in its finder's task",
        "core/scheduler/schedule.py",
        "        and not other.step.is_template\n",
        "",
    ),
    Mutation(
        "expand with the windows of a value from before",
        "core/ledger/graph.py",
        "        entry.windows = windows\n",
        "        entry.windows = self.__dict__.setdefault('before', {}).setdefault(entry.key, windows)\n",
    ),
    Mutation(
        "keep windows without their value",
        "core/ledger/graph.py",
        "        entry.windows = None\n",
        "",
    ),
    Mutation(
        "make what a template needs before its windows are known",
        "core/ledger/graph.py",
        "            self._register(entry, step.needs, now)\n            return\n",
        "            self._register(entry, (*step.needs, *step.inputs), now)\n            return\n",
    ),
    Mutation(
        "forget the windows of what was made",
        "fabric/shard/dispatch.py",
        "r.failure, r.later, r.windows)",
        "r.failure, r.later)",
    ),
    Mutation(
        "forget the windows of what was read back",
        "fabric/shard/spill.py",
        "            context.feed(ev.Restored(sizes, windows))\n",
        "            context.feed(ev.Restored(sizes))\n",
    ),
    Mutation(
        "lend a finder's value without its windows",
        "fabric/shard/forwarding.py",
        "place=at[1], windows=found)",
        "place=at[1])",
    ),
    Mutation(
        "tell engines of no units",
        "fabric/shard/records.py",
        "            expanded=tuple(self.expanded.items()),\n",
        "",
    ),
    Mutation(
        "count a looker that has left the queue",
        "core/scheduler/schedule.py",
        "            del beside[entry.key]\n",
        "",
    ),
    Mutation(
        "take a step along twice",
        "core/scheduler/schedule.py",
        "                if one.ticket:  # else it was taken along meanwhile\n",
        "                if True:\n",
        _SCHEDULE,
    ),
    Mutation(
        "take along windows that kill",
        "core/scheduler/schedule.py",
        "            and not one.isolated\n            and one.step",
        "            and one.step",
        _SCHEDULE,
    ),
    Mutation(
        "take along windows that hold other resources",
        "core/scheduler/schedule.py",
        "            and self._shape(one.step.recipe).lane == lane\n",
        "",
        _SCHEDULE,
    ),
    Mutation(
        "take along windows of other urgency",
        "core/scheduler/schedule.py",
        "            if one.rank == head.rank\n",
        "            if True\n",
        _SCHEDULE,
    ),
    Mutation(
        "take along windows of other tenants",
        "core/scheduler/schedule.py",
        "            and one.tenant == head.tenant\n            and not one",
        "            and not one",
        _SCHEDULE,
    ),
    Mutation(
        "run what gathers windows before them",
        "core/scheduler/schedule.py",
        "key=lambda e: _by_time(e.step) if e.key in fused else _LAST)",
        "key=lambda e: _by_time(e.step))",
    ),
    Mutation(
        "look at windows in the order in which they were asked for",
        "core/scheduler/schedule.py",
        "        return sorted(found, key=lambda one: _by_time(one.step))\n",
        "        return found\n",
        _SCHEDULE,
    ),
    Mutation(
        "pack a reel without end",
        "core/scheduler/schedule.py",
        "                    yield one, self.pack_seconds * REEL_PACKS\n",
        '                    yield one, float("inf")\n',
        _SCHEDULE,
    ),
    Mutation(
        "leave idle workers no share of a reel",
        "core/scheduler/schedule.py",
        "            if groups >= share or len",
        "            if len",
        _SCHEDULE,
    ),
    Mutation(
        "learn of all windows as of one length",
        "core/scheduler/costs.py",
        "        return 1 + (unit.length_us >> 18).bit_length() // 2\n",
        "        return 1\n",
        _SCHEDULE,
    ),
    Mutation(
        "expect of longer windows what shorter ones took",
        "core/scheduler/costs.py",
        " * 4 ** max(0, length - other))",
        ")",
        _SCHEDULE,
    ),
    Mutation(
        "learn of windows and not of their feature",
        "core/scheduler/costs.py",
        "            self.also.learn(seconds, size, ranges)\n",
        "            pass\n",
        _SCHEDULE,
    ),
    Mutation(
        "read from where a value was before it was made anew",
        "fabric/engine/near.py",
        "        self._index.remove(keys)\n",
        "        pass\n",
        _NEAR,
    ),
    Mutation(
        "know where values were before a purge",
        "fabric/engine/requests.py",
        "        self._near.clear()\n",
        "",
        _NEAR,
    ),
    Mutation(
        "tell what was read across a purge",
        "fabric/engine/near.py",
        "return found if changes == self._changes else None",
        "return found",
        _NEAR,
    ),
    Mutation(
        "believe rows that were told before a purge",
        "fabric/engine/near.py",
        "        if changes != self._changes:\n",
        "        if False:\n",
        _NEAR,
    ),
    Mutation(
        "read an open part that is gone",
        "store/parquet.py",
        "if not self.files.local or self.files.exists(name):",
        "if True:",
        _NEAR,
    ),
    Mutation(
        "send a message that is not on paper",
        "fabric/shard/deliveries.py",
        " and one.id not in self._sending and one.id not in self._unsaved",
        " and one.id not in self._sending",
    ),
    Mutation(
        "promise what is not on paper",
        "fabric/shard/deliveries.py",
        "await self._keep(made, None)",
        "self._set(made)",
    ),
    Mutation(
        "tell of an end while another part goes on",
        "fabric/shard/deliveries.py",
        '("running", "cancelled", "done")',
        '("cancelled", "done", "running")',
    ),
    Mutation(
        "forget what became of a message",
        "fabric/shard/deliveries.py",
        "            self._set(tried)\n",
        "            pass\n",
    ),
    Mutation(
        "leave news on paper and make no delivery of it",
        "fabric/shard/demands.py",
        "            await self._deliveries.announce(self._delivery(record.demand, message))\n",
        "            pass\n",
        demands=True,
    ),
    Mutation(
        "forget news that there was no room for",
        "core/model/demand_news.py",
        "findings=kept))",
        "findings=state.findings))",
        demands=True,
    ),
    Mutation(
        "answer a change before its line is written",
        "fabric/engine/audit.py",
        "await asyncio.shield(self._spawn(self._written(self._made(line, detail, outcome))))",
        "self._made(line, detail, outcome)",
        demands=True,
    ),
    Mutation(
        "tell rows of what is made anew",
        "fabric/shard/inspection.py",
        "return key not in context.refreshing and (",
        "return (",
        _ROWS,
    ),
    Mutation(
        "tell rows of what is not written yet",
        "fabric/shard/inspection.py",
        "(entry is None or entry.state in AS_STORED)",
        "True",
        _ROWS,
    ),
    Mutation(
        "tell rows while newer parts can't be listed",
        "fabric/shard/inspection.py",
        "    if len(keys) > TOLD_ROWS or late:\n",
        "    if len(keys) > TOLD_ROWS:\n",
        _ROWS,
    ),
)

QUICK = ("forget a waiter", "accept a stale attempt", "leak a slot", "evict before it is written")
