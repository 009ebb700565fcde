"""Shards among each other: a collection's steps need values of assets that other shards own.

The shard that needs them asks their owner with the graph under them; the owner makes or finds them once for
everybody, and the asker borrows the values while it needs them.

    asker                                    owner
    Submit(task with home) ─ ask ──fetch──→  begin_for_peer → its ledger
    Reported ← borrowed ←─── answers and places of the values ── all answered

Must not know: Ray, how the owner comes to a value.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from amber_ray.core.model.request import Failure
from amber_ray.core.planning.plan import Step, Target, few_of
from amber_ray.core.state import events as ev
from amber_ray.errors import AmberError
from amber_ray.fabric.shard.context import ShardContext
from amber_ray.fabric.shard.ports import Call, CallFailed, Fault, Ref, TaskResult
from amber_ray.fabric.shard.requests import RequestTable
from amber_ray.fabric.transport.messages import Answer, Handle, Inline, Made, PlanPart, Slot, StepResult

log = logging.getLogger("amber.forwarding")

Fetched: TypeAlias = list[tuple[Answer, Handle | None]]
"""What an owner says of each step that it was asked for, and its value."""


def part_of(context: ShardContext, task: ev.Task) -> PlanPart:
    """The foreign steps of a task and the graph under them, as their owner needs them."""
    origins: dict[int, tuple[Mapping[str, Step], list[str]]] = {}
    for step in task.steps:
        entry = context.ledger.entries.get(step.key)
        if entry is not None and entry.origin is not None:
            origins.setdefault(id(entry.origin), (entry.origin, []))[1].append(step.key)
    steps: dict[str, Step] = {}
    for origin, wanted in origins.values():
        steps.update(few_of(origin, wanted))
    return PlanPart(steps, [Target(s.recipe.feature, s.unit, s.key) for s in task.steps])


def ask(context: ShardContext, task: ev.Task, home: int, part: PlanPart) -> Call[Fetched]:
    """Send a foreign task to the shard that owns its steps."""
    id = f"{context.shard}-{context.incarnation[:8]}-{task.id}"
    trace = context.traces.of(task.id)
    return context.ports.peers.fetch(home, id, part, task.priority, task.tenant, trace)


def borrowed(context: ShardContext, fetched: Fetched) -> TaskResult:
    """What came of it, as a task's report and the objects of its values."""
    results: list[StepResult] = []
    refs: list[Ref] = []
    for answer, handle in fetched:
        made = Made(answer.seconds or 0.0, "shard", context.clock.unix())
        if answer.failure is not None:
            results.append(StepResult(answer.key, failure=answer.failure))
        elif isinstance(handle, Inline):
            found = handle.windows
            results.append(StepResult(answer.key, answer.size, made, inline=handle.data, windows=found))
        elif isinstance(handle, Slot):
            at, found = (len(refs), handle.place), handle.windows
            results.append(StepResult(answer.key, answer.size, made, slot=at[0], place=at[1], windows=found))
            refs.append(handle.ref)
    return results, refs


async def fetch(
    context: ShardContext,
    requests: RequestTable,
    id: str,
    part: PlanPart,
    priority: int,
    tenant: str,
    trace: str,
) -> Fetched:
    """The owner's side: wait until all steps are answered, and hand over their values.

    Cancelling this ends the question.
    """
    for step in part.steps.values():
        if step.recipe.registry not in context.registries:
            # An engine brings it: this shard was restarted, and the engine has not noticed yet.
            raise AmberError(f"registry {step.recipe.registry} is not known to shard {context.shard} yet")
        break
    end = requests.begin_for_peer(id, part, priority, tenant, trace)
    record = requests.record(id)
    assert record is not None
    try:
        await end.wait()
    finally:
        requests.forget(id)
    return [(answer, record.held.get(answer.key)) for answer in record.answers.values()]


def tell_lost(context: ShardContext, keys: Sequence[str]) -> None:
    """Tell other shards which values that they lent are lost: else they would lend them again."""
    homes: dict[int, list[str]] = {}
    for key in keys:
        entry = context.ledger.entries.get(key)
        if entry is not None and entry.step.home != context.shard:
            homes.setdefault(entry.step.home, []).append(key)
    for home, lent in homes.items():
        context.spawn(_tell_lost(context, home, lent))


async def _tell_lost(context: ShardContext, home: int, keys: list[str]) -> None:
    try:
        await context.ports.peers.call(home, "lost", keys)
    except CallFailed as failed:  # the next task that reads them will say so again
        log.info(
            "shard %d was not told of %d values that it lent and that are lost: %s", home, len(keys), failed
        )


def as_failure(fault: Fault) -> Failure:
    """A fault as a failure without its step, which the ledger fills in."""
    return Failure(
        kind="system", type=fault.type, message=fault.message, step="", key="", unit="", status=fault.status
    )
