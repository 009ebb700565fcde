"""Warm actors for class features: one pool per model and resource shape.

A pool grows while batches wait and the cluster has room, and lets an actor go when it has been idle for a
while or when another pool needs what it holds. CPU actors hold no Ray CPUs, or idle models would starve
plain tasks: their batches are admitted by the scheduler, which counts them.

Must not know: the ledger, values.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from amber_ray.core.planning.plan import Recipe
from amber_ray.core.state.events import Task
from amber_ray.fabric.adapter.faults import NotStarted, Suspected
from amber_ray.fabric.transport.messages import Work
from amber_ray.fabric.worker.warm import Warm

DEPTH = 2
"""Batches an actor is given at once: one that runs and one whose inputs are fetched meanwhile."""

TENURE_SECONDS = 10.0
"""How long an actor that has work may keep what a pool without any actor waits for; loading has its price."""


@dataclass(slots=True, eq=False)
class Worker:
    """One warm actor. `batches`: the tasks it was given, oldest first; it runs them in that order.

    `full`: the newest of them tolerates no other beside it. `leaving`: it gets no more of them. `left`: those
    it had when it was ended.
    """

    handle: Any
    needs: Mapping[str, float]
    since: float
    idle_since: float
    batches: list[int] = field(default_factory=list)
    full: bool = False
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
    blob: Any
    needs: Mapping[str, float]
    workers: list[Worker] = field(default_factory=list)
    waiting: dict[int, Turn] = field(default_factory=dict)


class Pools:
    """All warm actors of one shard. Runs on the actor's event loop; not thread-safe.

    `counters`: batches handed to actors, their items, and actors started, each of which loads its model once.
    """

    def __init__(self, idle_seconds: float, launch: Callable[[Pool], Any] | None = None) -> None:
        self._idle_seconds = idle_seconds
        self._launch = launch or launched
        self._pools: dict[Any, Pool] = {}
        self._total: Mapping[str, float] = {}
        self._running: dict[int, tuple[Pool, Worker, Any]] = {}
        self.counters = {"warm_batches": 0, "warm_items": 0, "warm_starts": 0}

    def __len__(self) -> int:
        return sum(len(p.workers) for p in self._pools.values())

    def set_total(self, total: Mapping[str, float]) -> None:
        """The cluster's resources, summed over nodes."""
        self._total = total
        self._settle()

    async def run(self, task: Task, work: Work, blob: Any, slots: list[Any]) -> list[Any]:
        """Give a batch to a warm actor and wait for its report; returns the report's and the slots' refs.

        Raises what Ray raises, but for an actor that died with several batches: the oldest is `Suspected`
        (its report may have died with the actor, while the next one ran), the others are `NotStarted`. That
        actor is out of its pool by then.
        """
        kind = task.recipe.pool, tuple(sorted(task.needs.items()))
        pool = self._pools.setdefault(kind, Pool(task.recipe, blob, task.needs))
        worker = await self._worker(pool, task)
        try:
            returned = worker.handle.run.options(num_returns=1 + work.returns).remote(work, *slots)
            refs = returned if isinstance(returned, list) else [returned]
            self._running[task.id] = (pool, worker, refs[0])
            self.counters["warm_batches"] += 1
            self.counters["warm_items"] += len(task.steps)
            await refs[0]
        except (ray.exceptions.ActorDiedError, ray.exceptions.ActorUnavailableError) as error:
            self._bury(pool, worker)
            if len(worker.left) == 1:
                raise
            raise (Suspected if worker.left[0] == task.id else NotStarted) from error
        finally:
            worker.batches.remove(task.id)
            worker.full = False
            self._running.pop(task.id, None)
            worker.idle_since = time.monotonic()
            if worker.leaving and not worker.batches:
                self._bury(pool, worker)
            self._settle()
        return refs

    def cancel(self, task: int, force: bool) -> None:
        """Stop a batch: one that has not begun is taken back, one that runs ends its actor if `force`."""
        for pool in self._pools.values():
            turn = pool.waiting.pop(task, None)
            if turn is not None and not turn.worker.done():
                turn.worker.set_exception(ray.exceptions.TaskCancelledError())
        running = self._running.get(task)
        if running is None:
            return
        pool, worker, ref = running
        if not force:
            ray.cancel(ref)
        elif worker.batches[0] == task:
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
            while pool.waiting:
                task, turn = next(iter(pool.waiting.items()))
                if (worker := self._free(pool, 1 if turn.isolated else DEPTH)) is None:
                    break
                del pool.waiting[task]
                if not turn.worker.done():
                    worker.batches.append(task)
                    worker.full = turn.isolated
                    turn.worker.set_result(worker)

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
        ripe = time.monotonic() - TENURE_SECONDS
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
        now = time.monotonic()
        worker = Worker(self._launch(pool), pool.needs, since=now, idle_since=now)
        pool.workers.append(worker)
        self.counters["warm_starts"] += 1
        return worker

    def _bury(self, pool: Pool, worker: Worker) -> None:
        """End an actor: it runs its oldest batch, and has not begun the others."""
        if worker in pool.workers:
            pool.workers.remove(worker)
            worker.left = tuple(worker.batches)
            ray.kill(worker.handle)


def launched(pool: Pool) -> Any:
    """A new warm actor for a pool, as Ray makes it."""
    recipe = pool.recipe
    options = ray_options(pool.needs, recipe) | {"num_cpus": 0}
    warm = ray.remote(Warm).options(max_restarts=0, max_task_retries=0, **options)
    return warm.remote(pool.blob, recipe.registry, recipe.feature, recipe.model)


def _kept(needs: Mapping[str, float]) -> Mapping[str, float]:
    """What an actor holds as long as it lives."""
    return {name: amount for name, amount in needs.items() if name != "CPU" and amount}


def ray_options(needs: Mapping[str, float], recipe: Recipe) -> dict[str, Any]:
    """A task's needs as options of `.remote`."""
    custom = {
        name: amount
        for name, amount in needs.items()
        if name not in ("CPU", "GPU", "memory") and not name.startswith("accelerator_type:")
    }
    options: dict[str, Any] = {"num_cpus": needs.get("CPU", 0.0)}
    if needs.get("GPU"):
        options["num_gpus"] = needs["GPU"]
    if needs.get("memory"):
        options["memory"] = int(needs["memory"])
    if custom:
        options["resources"] = custom
    accelerator = recipe.resources.accelerator_type
    if accelerator and f"accelerator_type:{accelerator}" in needs:
        options["accelerator_type"] = accelerator
    return options
