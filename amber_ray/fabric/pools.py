"""Warm actors for class features: one pool per feature, version and model parameters.

A pool grows while batches wait and the cluster has room, and lets an actor go when it has been idle for a
while or when another pool needs its GPU. CPU actors hold no Ray CPUs, or idle models would starve plain
tasks: their batches are admitted by the scheduler, which counts them.

Must not know: the ledger, values.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from amber_ray.core.events import Task
from amber_ray.core.plan import Recipe
from amber_ray.fabric.messages import Work
from amber_ray.fabric.warm import Warm

DEPTH = 2
"""Batches an actor is given at once: one that runs and one whose inputs are fetched meanwhile."""


@dataclass(slots=True, eq=False)
class Worker:
    """One warm actor."""

    handle: Any
    needs: Mapping[str, float]
    busy: int = 0
    idle_since: float = 0.0


@dataclass(slots=True, eq=False)
class Pool:
    """The warm actors of one model, and the batches that wait for one."""

    recipe: Recipe
    blob: Any
    workers: list[Worker] = field(default_factory=list)
    waiting: collections.deque[tuple[asyncio.Future[Worker], Mapping[str, float]]] = field(
        default_factory=collections.deque
    )


class Pools:
    """All warm actors of one shard. Runs on the actor's event loop; not thread-safe."""

    def __init__(self, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._pools: dict[Any, Pool] = {}
        self._total: Mapping[str, float] = {}
        self._running: dict[int, tuple[Pool, Worker, Any]] = {}

    def __len__(self) -> int:
        return sum(len(p.workers) for p in self._pools.values())

    def set_total(self, total: Mapping[str, float]) -> None:
        """The cluster's resources, summed over nodes."""
        self._total = total

    async def run(self, task: Task, work: Work, blob: Any, slots: list[Any], now: float) -> list[Any]:
        """Give a batch to a warm actor and wait for its report; returns the report's and the slots' refs.

        Raises what Ray raises; an actor that died is out of its pool by then.
        """
        pool = self._pools.setdefault(task.recipe.pool, Pool(task.recipe, blob))
        worker = await self._worker(pool, task.needs, now)
        worker.busy += 1
        returned = worker.handle.run.options(num_returns=1 + work.returns).remote(work, *slots)
        refs = returned if isinstance(returned, list) else [returned]
        self._running[task.id] = (pool, worker, refs[0])
        try:
            await refs[0]
        except (ray.exceptions.ActorDiedError, ray.exceptions.ActorUnavailableError):
            self._bury(pool, worker)
            raise
        finally:
            worker.busy -= 1
            worker.idle_since = time.monotonic()
            self._running.pop(task.id, None)
            self._serve_waiting(pool)
        return refs

    def cancel(self, task: int, force: bool) -> None:
        """Stop a batch: a waiting one is taken out of the actor's queue, a running one ends the actor."""
        running = self._running.get(task)
        if running is None:
            return
        pool, worker, ref = running
        if force:
            self._bury(pool, worker)
        else:
            ray.cancel(ref)

    def retire_idle(self, now: float) -> None:
        """Let go of actors that have had nothing to do for `idle_seconds`."""
        for pool in self._pools.values():
            for worker in list(pool.workers):
                if not worker.busy and now - worker.idle_since >= self._idle_seconds:
                    self._bury(pool, worker)

    def close(self) -> None:
        """End every warm actor."""
        for pool in self._pools.values():
            for worker in list(pool.workers):
                self._bury(pool, worker)

    async def _worker(self, pool: Pool, needs: Mapping[str, float], now: float) -> Worker:
        idle = next((w for w in pool.workers if not w.busy), None)
        if idle is not None:
            return idle
        if self._room(pool, needs):
            return self._start(pool, needs, now)
        free = min(pool.workers, key=lambda w: w.busy, default=None)
        if free is not None and free.busy < DEPTH:
            return free
        if free is None and self._make_room(needs):
            return self._start(pool, needs, now)
        # Every actor is busy and there is no room for more: the next one that is done takes this batch.
        turn: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        pool.waiting.append((turn, needs))
        return await turn

    def _room(self, pool: Pool, needs: Mapping[str, float]) -> bool:
        """Whether one more actor fits: GPUs are held for life, CPUs bound the number per pool."""
        cpus = needs.get("CPU", 0.0) or 1.0
        if len(pool.workers) >= max(1.0, self._total.get("CPU", 1.0) // cpus) and not needs.get("GPU"):
            return False
        return all(
            self._held(name) + amount <= self._total.get(name, 0.0) + 1e-9
            for name, amount in needs.items()
            if name not in ("CPU", "memory")
        )

    def _held(self, name: str) -> float:
        return sum(w.needs.get(name, 0.0) for p in self._pools.values() for w in p.workers)

    def _make_room(self, needs: Mapping[str, float]) -> bool:
        """End the longest idle actors of other pools until one with `needs` fits."""
        idle = [(w.idle_since, p, w) for p in self._pools.values() for w in p.workers if not w.busy]
        idle.sort(key=lambda item: item[0])
        for _, pool, worker in idle:
            self._bury(pool, worker)
            if all(
                self._held(n) + a <= self._total.get(n, 0.0) + 1e-9
                for n, a in needs.items()
                if n not in ("CPU", "memory")
            ):
                return True
        return False

    def _start(self, pool: Pool, needs: Mapping[str, float], now: float) -> Worker:
        recipe = pool.recipe
        options = ray_options(needs, recipe)
        options["num_cpus"] = 0
        handle = (
            ray.remote(Warm)
            .options(max_restarts=0, max_task_retries=0, **options)
            .remote(pool.blob, recipe.registry, recipe.feature, recipe.model)
        )
        worker = Worker(handle, needs, idle_since=now)
        pool.workers.append(worker)
        return worker

    def _bury(self, pool: Pool, worker: Worker) -> None:
        if worker in pool.workers:
            pool.workers.remove(worker)
            ray.kill(worker.handle)
        for other in self._pools.values():
            self._serve_waiting(other)

    def _serve_waiting(self, pool: Pool) -> None:
        while pool.waiting:
            turn, needs = pool.waiting[0]
            if not turn.done():
                worker = next((w for w in pool.workers if w.busy < DEPTH), None)
                if worker is None and not self._room(pool, needs):
                    return
                turn.set_result(worker or self._start(pool, needs, time.monotonic()))
                pool.waiting.popleft()
                return
            pool.waiting.popleft()


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
