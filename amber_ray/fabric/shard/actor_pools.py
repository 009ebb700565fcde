"""Warm actors for class features: one pool per model and resource shape.

A pool grows while batches wait and the cluster has room, and ends an actor when it has been idle for a while
or when another pool needs what it holds. CPU actors hold no CPUs of the cluster, or idle models would starve
plain tasks: their batches are admitted by the scheduler, which counts them.

A feature that is `async def` has one actor, which is given many calls at once: as many as the scheduler has
slots for (`core.scheduler.calls`). It runs the oldest of them side by side. Calls that are suspected of a
crash are made by actors that have nothing else, if there is room for such, so that the others go on.

Must not know: the ledger, values, Ray.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amber_ray.core.model.stats import series
from amber_ray.core.planning.plan import Recipe
from amber_ray.core.scheduler.calls import slots
from amber_ray.core.state.events import Task
from amber_ray.fabric.shard.ports import Call, CallFailed, Cluster, Fault, Ref, TaskResult, WarmActor
from amber_ray.fabric.transport.messages import Work

NOT_STARTED = Fault("SystemFault", "the warm worker died before it began the step", started=False)
SUSPECTED = Fault("SystemFault", "the warm worker died while it had the step", crashed=True, shared=True)
CANCELLED = Fault("Cancelled", "the step was stopped", 409, retry=False, cancelled=True)

DEPTH = 2
"""Batches an actor is given at once: one that runs and one whose inputs are fetched meanwhile."""

TENURE_SECONDS = 10.0
"""How long an actor that has work may keep what a pool without any actor waits for; loading has its price."""


@dataclass(slots=True, eq=False)
class Worker:
    """One warm actor.

    - `batches`: the tasks that are meant for it; `sent`: those it was given, oldest first, the order in which
      it runs them; `taken_back`: those that it is not to be given any more;
    - `full`: the newest of them tolerates no other beside it; `solo`: it makes suspected calls, one by one;
    - `leaving`: it gets no more of them; `left`: those it had been given when it was ended.
    """

    actor: WarmActor
    needs: Mapping[str, float]
    since: float
    idle_since: float
    batches: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    taken_back: set[int] = field(default_factory=set)
    full: bool = False
    solo: bool = False
    leaving: bool = False
    left: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """A batch that waits for an actor, if `isolated` for one that has nothing else to do."""

    worker: asyncio.Future[Worker]
    isolated: bool


@dataclass(slots=True, eq=False)
class Pool:
    """The warm actors of one model, and the batches that wait for one, by task."""

    recipe: Recipe
    needs: Mapping[str, float]
    workers: list[Worker] = field(default_factory=list)
    waiting: dict[int, Turn] = field(default_factory=dict)

    @property
    def concurrency(self) -> int:
        """Calls that its actor runs side by side; 0 if it runs batches, one after the other."""
        return self.recipe.calls.concurrency

    @property
    def main(self) -> Worker | None:
        """The actor that makes calls side by side."""
        return next((w for w in self.workers if not (w.solo or w.leaving)), None)

    @property
    def solos(self) -> list[Worker]:
        """The actors that make suspected calls."""
        return [w for w in self.workers if w.solo and not w.leaving]

    @property
    def in_flight(self) -> int:
        """Calls that are made now, at most: the others of those that were given stand in line."""
        return sum(min(len(w.batches), self.concurrency) for w in self.workers)


class ActorPools:
    """All warm actors of one shard. Belongs to one event loop.

    `counters`: batches handed to actors, their items, and actors started, each of which loads its model once.
    """

    def __init__(self, cluster: Cluster, now: Callable[[], float], idle_seconds: float) -> None:
        self._cluster = cluster
        self._now = now
        self._idle_seconds = idle_seconds
        self._pools: dict[Any, Pool] = {}
        self._total: Mapping[str, float] = {}
        self._running: dict[int, tuple[Pool, Worker, Call[TaskResult]]] = {}
        self.counters = {"warm_batches": 0, "warm_items": 0, "warm_starts": 0}
        self._batches: Counter[str] = Counter()
        self._items: Counter[str] = Counter()
        self._places: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(len(p.workers) for p in self._pools.values())

    def stats(self) -> dict[str, float]:
        """What was counted, of all features and of each."""
        told = {f"{name}_total": float(n) for name, n in self.counters.items()}
        for name, counts in (
            ("batches_total", self._batches),
            ("batch_items_total", self._items),
            ("batch_places_total", self._places),
        ):
            told |= {series(name, feature=feature): float(n) for feature, n in counts.items()}
        warm = Counter(
            (pool.recipe.feature, "working" if worker.batches else "idle") for pool, worker in self._workers()
        )
        for (feature, state), n in warm.items():
            told[series("warm_actors_of", feature=feature, state=state)] = float(n)
        return told

    @property
    def held(self) -> Mapping[str, float]:
        """What actors hold as long as they live."""
        held: dict[str, float] = {}
        for _, worker in self._workers():
            for name, amount in _kept(worker.needs).items():
                held[name] = held.get(name, 0.0) + amount
        return held

    def set_total(self, total: Mapping[str, float]) -> None:
        """The cluster's resources, summed over nodes."""
        self._total = total
        self._settle()

    async def run(self, task: Task, work: Work, refs: Sequence[Ref]) -> TaskResult:
        """Give a batch to a warm actor and wait for its result.

        Raises `CallFailed`. Of the batches that an actor had when it died, the oldest is suspected: its
        report may have died with the actor while the next one ran. The others have not begun. Of calls, those
        are suspected that ran side by side. That actor is out of its pool by then.
        """
        kind = task.recipe.pool, tuple(sorted(task.needs.items()))
        pool = self._pools.setdefault(kind, Pool(task.recipe, task.needs))
        worker = await self._worker(pool, task)
        try:
            if task.id in worker.taken_back:
                raise CallFailed(CANCELLED)
            worker.sent.append(task.id)
            call = worker.actor.run(work, refs)
            self._running[task.id] = (pool, worker, call)
            self.counters["warm_batches"] += 1
            self.counters["warm_items"] += len(task.steps)
            if not pool.concurrency:
                feature = task.recipe.feature
                self._batches[feature] += 1
                self._items[feature] += len(task.steps)
                self._places[feature] += max(task.recipe.batch, len(task.steps))
            return await call.result()
        except CallFailed as failed:
            if not failed.fault.gone:
                raise
            self._bury(pool, worker)
            if worker.left == (task.id,):
                raise
            suspects = worker.left[: max(1, pool.concurrency)]
            raise CallFailed(SUSPECTED if task.id in suspects else NOT_STARTED) from failed
        finally:
            worker.batches.remove(task.id)
            worker.taken_back.discard(task.id)
            if task.id in worker.sent:
                worker.sent.remove(task.id)
            worker.full = False
            self._running.pop(task.id, None)
            worker.idle_since = self._now()
            if worker.leaving and not worker.batches:
                self._bury(pool, worker)
            self._settle()

    def cancel(self, task: int, force: bool) -> None:
        """Stop a batch: one that has not begun is taken back, one that runs ends its actor if `force`.

        A call is only asked to end: its actor is in the middle of others.
        """
        for pool in self._pools.values():
            turn = pool.waiting.pop(task, None)
            if turn is not None and not turn.worker.done():
                turn.worker.set_exception(CallFailed(CANCELLED))
        running = self._running.get(task)
        if running is None:
            # Its turn has come, and its coroutine has not gone on yet.
            for _, worker in self._workers():
                if task in worker.batches:
                    worker.taken_back.add(task)
            return
        pool, worker, call = running
        if not force:
            call.cancel(force=False)
        elif worker.sent[0] == task and not pool.concurrency:
            self._bury(pool, worker)
            self._settle()

    def retire_idle(self, now: float) -> None:
        """Let go of actors that have had nothing to do for `idle_seconds`."""
        for pool, worker in list(self._workers()):
            if not worker.batches and now - worker.idle_since >= self._idle_seconds:
                self._bury(pool, worker)
        for kind in [k for k, p in self._pools.items() if not p.workers and not p.waiting]:
            del self._pools[kind]
        self._settle()

    def close(self) -> None:
        """End every warm actor."""
        for pool, worker in list(self._workers()):
            self._bury(pool, worker)

    def _workers(self) -> Iterator[tuple[Pool, Worker]]:
        return ((pool, worker) for pool in self._pools.values() for worker in pool.workers)

    # --- which actor takes a batch

    async def _worker(self, pool: Pool, task: Task) -> Worker:
        """An actor for a batch, which is in its `batches` from then on."""
        turn = pool.waiting[task.id] = Turn(asyncio.get_running_loop().create_future(), task.isolated)
        self._settle()
        return await turn.worker

    def _settle(self) -> None:
        """Hand waiting batches to actors that can take them.

        Pools without an actor come first, or they might never get one; then whose batch is the oldest.
        """
        waiting = [pool for pool in self._pools.values() if pool.waiting]
        for pool in sorted(waiting, key=lambda p: (len(p.workers) > 0, next(iter(p.waiting)))):
            if pool.concurrency:
                self._settle_calls(pool)
                continue
            while pool.waiting:
                task, turn = next(iter(pool.waiting.items()))
                if (worker := self._free(pool, 1 if turn.isolated else DEPTH)) is None:
                    break
                self._hand(pool, task, turn, worker)

    def _hand(self, pool: Pool, task: int, turn: Turn, worker: Worker) -> None:
        """A batch's turn has come."""
        del pool.waiting[task]
        if not turn.worker.done():
            worker.batches.append(task)
            worker.full = turn.isolated
            turn.worker.set_result(worker)

    def _settle_calls(self, pool: Pool) -> None:
        """Hand waiting calls over, suspected ones first. All actors together have `concurrency` in flight.

        While calls are suspected none stands in line, so a place in flight becomes free for each of them.
        """
        if pool.main is None and (self._room(pool) or (not pool.workers and self._make_room(pool))):
            self._start(pool)
        main = pool.main
        suspected = [task for task, turn in pool.waiting.items() if turn.isolated]
        for task in suspected:
            if pool.in_flight >= pool.concurrency or (worker := self._solo(pool)) is None:
                break
            self._hand(pool, task, pool.waiting[task], worker)
        if main is None or main.full:
            return
        left = any(turn.isolated for turn in pool.waiting.values())
        most = slots(pool.concurrency)
        if left or any(w.batches for w in pool.solos):
            # Without actors of their own, suspected calls wait until this one has nothing else.
            most = pool.concurrency - pool.in_flight + len(main.batches) - left if pool.solos else 0
        for task, turn in list(pool.waiting.items()):
            if len(main.batches) >= most:
                break
            if not turn.isolated:
                self._hand(pool, task, turn, main)

    def _solo(self, pool: Pool) -> Worker | None:
        """An idle actor for a suspected call: one of those that make such, a new one, else the main one."""
        idle = next((w for w in pool.solos if not w.batches), None)
        if idle is None and pool.main is not None and self._room(pool):
            idle = self._start(pool)
            idle.solo = True
        if idle is None and not pool.solos and pool.main is not None and not pool.main.batches:
            idle = pool.main
        return idle

    def _free(self, pool: Pool, depth: int) -> Worker | None:
        """An idle actor, else a new one, else one with fewer than `depth` batches; None if there is none."""
        open_ones = (w for w in pool.workers if not (w.leaving or w.full))
        found = min(open_ones, key=lambda w: len(w.batches), default=None)
        if found is not None and not found.batches:
            return found
        if self._room(pool) or (not pool.workers and self._make_room(pool)):
            return self._start(pool)
        return found if found is not None and len(found.batches) < depth else None

    def _room(self, pool: Pool) -> bool:
        """Whether one more actor fits: CPUs bound the number per pool, all else is held for life."""
        needs = pool.needs
        if not needs.get("GPU"):
            most = self._total.get("CPU", 1.0) // (needs.get("CPU", 0.0) or 1.0)
            if len(pool.workers) >= max(1.0, most):
                return False
        # What the cluster does not have at all is to be attained: Ray shows an actor that waits for it as
        # demand, to which an autoscaler answers.
        attain = not pool.workers and any(a > self._total.get(n, 0.0) for n, a in _kept(needs).items())
        return attain or not self._lacking(needs)

    def _lacking(self, needs: Mapping[str, float], without: tuple[Worker, ...] = ()) -> list[str]:
        """The resources of which too little would be left without these actors."""
        held: dict[str, float] = {}
        for _, worker in self._workers():
            if worker not in without:
                for name, amount in _kept(worker.needs).items():
                    held[name] = held.get(name, 0.0) + amount
        total = self._total
        return [n for n, a in _kept(needs).items() if held.get(n, 0.0) + a > total.get(n, 0.0) + 1e-9]

    def _make_room(self, pool: Pool) -> bool:
        """For a pool without any actor: end the longest idle ones of others, or have busy ones leave."""
        lacking = self._lacking(pool.needs)
        ripe = self._now() - TENURE_SECONDS
        chosen: tuple[tuple[Pool, Worker], ...] = ()
        for other, worker in sorted(self._workers(), key=lambda o: (bool(o[1].batches), o[1].idle_since)):
            useful = any(worker.needs.get(name) for name in lacking)
            if useful and (worker.leaving or not worker.batches or worker.since <= ripe):
                chosen = (*chosen, (other, worker))
                if not self._lacking(pool.needs, tuple(w for _, w in chosen)):
                    break
        else:
            return False
        for other, worker in chosen:
            worker.leaving = True
            if not worker.batches:
                self._bury(other, worker)
        return not self._lacking(pool.needs)

    def _start(self, pool: Pool) -> Worker:
        now = self._now()
        actor = self._cluster.start_actor(pool.recipe, pool.needs)
        worker = Worker(actor, pool.needs, since=now, idle_since=now)
        pool.workers.append(worker)
        self.counters["warm_starts"] += 1
        return worker

    def _bury(self, pool: Pool, worker: Worker) -> None:
        """End an actor: it runs the oldest batch it was given, and has not begun the others."""
        if worker in pool.workers:
            pool.workers.remove(worker)
            worker.left = tuple(worker.sent)
            worker.actor.kill()


def _kept(needs: Mapping[str, float]) -> Mapping[str, float]:
    """What an actor holds as long as it lives."""
    return {name: amount for name, amount in needs.items() if name != "CPU" and amount}
