"""Hands the ledger's tasks to Ray, to warm actors or to other shards, and brings their ends back as events.

Part of the cache actor's shell (`fabric.shard.actor`): it runs on its event loop and shares its handles.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray

from amber_ray.core.planning.plan import Step
from amber_ray.core.state import events as ev
from amber_ray.fabric.adapter import faults
from amber_ray.fabric.adapter.actor_pools import Pools, ray_options
from amber_ray.fabric.shard import forwarding
from amber_ray.fabric.transport.messages import Inline, PlanPart, Slot, StepResult, Work
from amber_ray.fabric.transport.names import shard_name
from amber_ray.fabric.worker import tasks

if TYPE_CHECKING:
    from amber_ray.fabric.shard.actor import CacheActor

log = logging.getLogger("amber.dispatch")

MAX_SLOTS = 8
"""Most objects a task returns beside its report; more outputs than that share them."""
FORCE_SECONDS = 1.0
"""How long a cancelled step may take to notice before its process is ended."""


class Dispatch:
    """Runs tasks for one shard."""

    def __init__(self, actor: CacheActor) -> None:
        self._actor = actor
        self._options: dict[Any, Any] = {}
        self._refs: dict[int, Any] = {}
        self._started: dict[int, float] = {}
        self.timed_out: dict[int, str] = {}
        self.pools = Pools(actor.settings.idle_actor_seconds)

    def submit(self, task: ev.Task) -> None:
        """Start a task; its end is fed to the ledger whatever happens.

        What it reads is taken hold of now: by its first turn on the loop a value could be purged or evicted.
        """
        self._started[task.id] = time.monotonic()
        if task.home is not None:
            part = forwarding.part_of(self._actor, task)
            self._actor.spawn(self._guard(task, self._ask(task, task.home, part)))
        else:
            inputs = gather(self._actor.values, tasks.inputs_of(task.steps))
            self._actor.spawn(self._guard(task, self._run(task, *inputs)))

    async def _ask(self, task: ev.Task, home: int, part: PlanPart) -> tuple[list[StepResult], list[Any]]:
        """Have another shard make steps; its call can be cancelled like a task."""
        ref = forwarding.ask(self._actor, task, home, part)
        self._refs[task.id] = ref
        return forwarding.borrowed(await ref)

    def cancel(self, task_id: int) -> None:
        """Stop a task: first by asking, then by ending its process."""
        ref = self._refs.get(task_id)
        if ref is None:
            self.pools.cancel(task_id, force=False)
        else:
            ray.cancel(ref, force=False)
        self._actor.spawn(self._force(task_id))

    async def _force(self, task_id: int) -> None:
        await asyncio.sleep(FORCE_SECONDS)
        ref = self._refs.get(task_id)
        if ref is None:
            self.pools.cancel(task_id, force=True)
        elif task_id in self._started:
            try:
                ray.cancel(ref, force=True)
            except ValueError:
                ray.cancel(ref)  # a call of another shard's actor; it can only be asked

    async def _guard(self, task: ev.Task, body: Any) -> None:
        """Every way a task can end becomes one event."""
        try:
            results, refs = await body
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the task has ended and the ledger must know
            self._lost(task, error)
            return
        finally:
            self._refs.pop(task.id, None)
            self._started.pop(task.id, None)
        self._finish(task, results, refs)

    def _lost(self, task: ev.Task, error: Exception) -> None:
        fault = faults.translate(error)
        hung = self.timed_out.pop(task.id, None)
        if hung is not None:
            own = next((s.recipe.timeout for s in task.steps if s.key == hung), None)
            limit = self._actor.settings.limits.step_seconds if own is None else own
            step = next((s.recipe.feature for s in task.steps if s.key == hung), "")
            fault = faults.Fault("StepTimeout", f"feature {step!r} ran past its timeout of {limit:g} s", 504)
        elif fault.inputs_lost:
            self._actor.feed(ev.Lost([k for k in tasks.inputs_of(task.steps) if self._in_store(k)]))
        if not isinstance(error, ray.exceptions.TaskCancelledError):
            log.warning("task %d (%s) was lost: %s", task.id, ", ".join(_names(task.steps)), fault.message)
            log.debug("task %d", task.id, exc_info=error)
        self._actor.feed(
            ev.TaskLost(
                task.id,
                faults.as_failure(fault),
                retry=fault.retry,
                crashed=fault.crashed,
                inputs_lost=fault.inputs_lost,
                started=fault.started,
                shared=fault.shared,
            )
        )

    def _in_store(self, key: str) -> bool:
        return isinstance(self._actor.values.get(key), Slot)

    def _finish(self, task: ev.Task, results: Sequence[StepResult], refs: Sequence[Any]) -> None:
        """Keep the handles that the ledger will take, then report."""
        ledger = self._actor.ledger
        reports: list[ev.StepReport] = []
        for r in results:
            kept = r.failure is None and (r.inline is not None or r.slot >= 0)
            if kept and ledger.accepts(task.id, r.key):
                assert r.made is not None
                self._actor.values[r.key] = (
                    Inline(r.inline, r.made)
                    if r.inline is not None
                    else Slot(refs[r.slot], r.place, r.size, r.made)
                )
            seconds = r.made.seconds if r.made else 0.0
            reports.append(ev.StepReport(r.key, r.size, seconds, kept, r.failure))
        self._actor.feed(ev.Reported(task.id, reports))

    async def _run(
        self,
        task: ev.Task,
        inline: dict[str, bytes],
        places: dict[str, tuple[int, int]],
        slots: list[Any],
    ) -> tuple[list[StepResult], list[Any]]:
        """Run steps here: as a Ray task, or as a batch on a warm actor."""
        actor = self._actor
        returns = 1 if task.small else max(1, min(len(task.outputs), MAX_SLOTS))
        work = Work(
            task=task.id,
            steps=task.steps,
            outputs=task.outputs,
            inline=inline,
            slots=places,
            returns=returns,
            inline_bytes=actor.settings.inline_bytes,
            registry=task.recipe.registry,
            namespace=actor.settings.namespace,
            actor=shard_name(actor.shard),
            limits=actor.settings.limits,
        )
        blob = actor.blob(task.recipe.registry)
        if task.pool:
            refs = await self.pools.run(task, work, blob, slots)
            results = await refs[0]
        else:
            refs = self._function(task, returns).remote(blob, work, *slots)
            self._refs[task.id] = refs[0]
            results = await refs[0]
        return results, refs[1:]

    def _function(self, task: ev.Task, returns: int) -> Any:
        """The remote function with this task's options; built once per kind."""
        kind = (tuple(task.needs.items()), task.recipe.resources.accelerator_type, returns)
        function = self._options.get(kind)
        if function is None:
            # Ray's own retries are off: an attempt repeated in silence is one the ledger does not know.
            function = self._options[kind] = ray.remote(tasks.run).options(
                num_returns=1 + returns, max_retries=0, **ray_options(task.needs, task.recipe)
            )
        return function


def gather(
    values: dict[str, Any], keys: Sequence[str]
) -> tuple[dict[str, bytes], dict[str, tuple[int, int]], list[Any]]:
    """Inputs as a task gets them: small ones inline, the others as (argument, place) of the refs returned."""
    inline: dict[str, bytes] = {}
    places: dict[str, tuple[int, int]] = {}
    slots: dict[Any, int] = {}
    for key in keys:
        handle = values[key]
        if isinstance(handle, Inline):
            inline[key] = handle.data
        else:
            places[key] = slots.setdefault(handle.ref, len(slots)), handle.place
    return inline, places, list(slots)


def _names(steps: Sequence[Step]) -> list[str]:
    return sorted({s.recipe.feature for s in steps})
