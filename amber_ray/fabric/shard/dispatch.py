"""Hands the ledger's tasks to workers, warm actors or other shards, and feeds their ends back as events.

Must not know: Ray, requests, storage.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from amber_ray.core.planning.plan import Step, leaves
from amber_ray.core.state import events as ev
from amber_ray.fabric.shard import forwarding
from amber_ray.fabric.shard.actor_pools import CANCELLED, ActorPools
from amber_ray.fabric.shard.context import ShardContext
from amber_ray.fabric.shard.ports import Call, CallFailed, Fault, Ref, TaskResult
from amber_ray.fabric.transport.messages import Handle, Inline, PlanPart, StepResult, Work
from amber_ray.fabric.transport.names import shard_name

log = logging.getLogger("amber.dispatch")

MAX_SLOTS = 8
"""Most objects a task returns beside its report; more outputs than that share them."""
FORCE_SECONDS = 1.0
"""How long a cancelled step may take to notice before its process is ended."""


class Dispatcher:
    """Runs tasks for one shard."""

    def __init__(self, context: ShardContext) -> None:
        self._context = context
        self._calls: dict[int, Call[Any]] = {}
        self._running: set[int] = set()
        self._cancelled: set[int] = set()
        self._timed_out: dict[int, str] = {}
        self.pools = ActorPools(context.cluster, context.clock.now, context.settings.idle_actor_seconds)

    def submit(self, task: ev.Task) -> None:
        """Start a task; its end is fed to the ledger whatever happens.

        What it reads is taken hold of now: by its first turn on the loop a value could be purged or evicted.
        """
        self._running.add(task.id)
        self._context.traces.submitted(task)
        body: Coroutine[Any, Any, TaskResult]
        if task.home is not None:
            body = self._ask(task, task.home, forwarding.part_of(self._context, task))
        else:
            body = self._run(task, *gather(self._context.values, inputs_of(task.steps)))
        self._context.spawn(self._guard(task, body))

    def timed_out(self, task: int, key: str) -> None:
        """A worker is about to end itself because this step ran past its timeout."""
        if task in self._running:
            self._timed_out[task] = key

    def cancel(self, task: int) -> None:
        """Stop a task: before it begins if it has not, else first by asking, then by ending its process."""
        if task in self._running:
            self._cancelled.add(task)
        self._cancel(task, force=False)
        self._context.spawn(self._force(task))

    async def _force(self, task: int) -> None:
        await asyncio.sleep(FORCE_SECONDS)
        if task in self._running:
            self._cancel(task, force=True)

    def _cancel(self, task: int, *, force: bool) -> None:
        call = self._calls.get(task)
        if call is None:
            self.pools.cancel(task, force=force)
        else:
            call.cancel(force=force)

    async def _guard(self, task: ev.Task, body: Coroutine[Any, Any, TaskResult]) -> None:
        """Every way in which a task can end becomes one event."""
        fault: Fault | None = None
        results: Sequence[StepResult] = ()
        refs: Sequence[Ref] = ()
        try:
            if task.id in self._cancelled:
                body.close()
                raise CallFailed(CANCELLED)
            results, refs = await body
        except CallFailed as failed:
            fault = failed.fault
        except Exception as error:
            log.exception("task %d ended in an unexpected way", task.id)
            fault = Fault("SystemFault", f"{type(error).__name__}: {error}")
        finally:
            self._calls.pop(task.id, None)
            self._running.discard(task.id)
            self._cancelled.discard(task.id)
        hung = self._timed_out.pop(task.id, None)
        if fault is None:
            self._context.traces.ended(task, results, "")
            self._finish(task, results, refs)
        else:
            fault = fault if hung is None else self._timeout(task, hung)
            self._context.traces.ended(task, (), fault.message)
            self._lost(task, fault)

    def _timeout(self, task: ev.Task, key: str) -> Fault:
        """The fault of a task whose process ended itself because of one of its steps."""
        recipe = next((s.recipe for s in task.steps if s.key == key), task.recipe)
        limit = self._context.settings.limits.step_seconds if recipe.timeout is None else recipe.timeout
        return Fault("StepTimeout", f"feature {recipe.feature!r} ran past its timeout of {limit:g} s", 504)

    def _lost(self, task: ev.Task, fault: Fault) -> None:
        context = self._context
        if fault.inputs_lost:
            lost = [k for k in inputs_of(task.steps) if context.in_object_store(k)]
            forwarding.tell_lost(context, lost)
            context.feed(ev.Lost(lost))
        if not fault.cancelled:
            log.warning(
                "task %d (%s) was lost: %s",
                task.id,
                ", ".join(_names(task.steps)),
                fault.message,
                extra={"request": self._for(task)},
            )
        context.feed(
            ev.TaskLost(
                task.id,
                forwarding.as_failure(fault),
                retry=fault.retry,
                crashed=fault.crashed,
                inputs_lost=fault.inputs_lost,
                started=fault.started,
                shared=fault.shared,
            )
        )

    def _finish(self, task: ev.Task, results: Sequence[StepResult], refs: Sequence[Ref]) -> None:
        """Keep the handles that the ledger will take, then report."""
        context = self._context
        reports: list[ev.StepReport] = []
        anew: list[str] = []
        for r in results:
            kept = r.failure is None and (r.inline is not None or r.slot >= 0)
            if kept and context.ledger.accepts(task.id, r.key):
                context.keep(r, refs[r.slot] if r.slot >= 0 else None)
                if r.key in context.refreshing:
                    context.refreshing.discard(r.key)
                    anew.append(r.key)
            seconds = r.made.seconds if r.made else 0.0
            reports.append(ev.StepReport(r.key, r.size, seconds, kept, r.failure, r.later, r.windows))
        if anew:
            # Readers got the old value from the store until now, and may hold it.
            context.changed(anew)
        context.feed(ev.Reported(task.id, reports))

    def _for(self, task: ev.Task) -> str:
        """A request that a task is for, as lines of the log name it."""
        return next(self._context.ledger.wanted_by([task.steps[0].key]), "")

    async def _ask(self, task: ev.Task, home: int, part: PlanPart) -> TaskResult:
        """Have another shard make steps; its call can be cancelled like a task."""
        call = self._calls[task.id] = forwarding.ask(self._context, task, home, part)
        return forwarding.borrowed(self._context, await call.result())

    async def _run(
        self,
        task: ev.Task,
        inline: dict[str, bytes],
        places: dict[str, tuple[int, int]],
        slots: list[Ref],
    ) -> TaskResult:
        """Run steps here: as a task, or as a batch or a call on a warm actor."""
        context, rate = self._context, task.recipe.calls.rate
        work = Work(
            task=task.id,
            steps=task.steps,
            outputs=task.outputs,
            inline=inline,
            slots=places,
            returns=1 if task.small else max(1, min(len(task.outputs), MAX_SLOTS)),
            inline_bytes=context.settings.inline_bytes,
            registry=task.recipe.registry,
            namespace=context.settings.namespace,
            actor=shard_name(context.shard),
            limits=context.settings.limits,
            apart=0.0 if rate is None else rate.apart * context.settings.shards,
            threads=max(task.threads, int(task.needs.get("CPU", 0.0))),
            gpu=context.settings.gpu_decoding and task.needs.get("GPU", 0.0) > 0,
            traced=bool(context.traces.of(task.id)),
            request=self._for(task),
            lines=(context.settings.console, context.settings.log_format),
        )
        if task.pool:
            return await self.pools.run(task, work, slots)
        call = self._calls[task.id] = context.cluster.run(task, work, slots)
        return await call.result()


def inputs_of(steps: Sequence[Step]) -> list[str]:
    """The keys that a task's steps read from outside it, in order, each once."""
    inside = {s.key for s in steps}
    found: dict[str, None] = {}
    for step in steps:
        for nested in step.inputs:
            for key in leaves(nested):
                if key not in inside:
                    found[key] = None
    return list(found)


def gather(
    values: Mapping[str, Handle], keys: Sequence[str]
) -> tuple[dict[str, bytes], dict[str, tuple[int, int]], list[Ref]]:
    """Inputs as a task gets them: small ones inline, the others as (argument, place) of the refs returned."""
    inline: dict[str, bytes] = {}
    places: dict[str, tuple[int, int]] = {}
    slots: dict[Ref, int] = {}
    for key in keys:
        handle = values[key]
        if isinstance(handle, Inline):
            inline[key] = handle.data
        else:
            places[key] = slots.setdefault(handle.ref, len(slots)), handle.place
    return inline, places, list(slots)


def _names(steps: Sequence[Step]) -> list[str]:
    return sorted({s.recipe.feature for s in steps})
