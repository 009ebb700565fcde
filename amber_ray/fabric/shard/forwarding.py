"""Shards among each other: a collection's steps need values of assets that other shards own.

The shard that needs them asks their owner as an engine would, with the graph under them; the owner makes or
finds them once for everybody, and the asker borrows the values while it needs them. Part of the cache
actor's shell.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray

from amber_ray.core.planning.plan import Step, Target, closure
from amber_ray.core.state import events as ev
from amber_ray.errors import AmberError
from amber_ray.fabric.transport.messages import (
    Answer,
    Found,
    Made,
    MissingPlans,
    PlanPart,
    StepResult,
    Submission,
)
from amber_ray.fabric.transport.names import shard_name

if TYPE_CHECKING:
    from amber_ray.fabric.shard.actor import CacheActor

FETCH_POLL_SECONDS = 15.0

Fetched = list[tuple[Answer, Found | None]]


def part_of(actor: CacheActor, task: ev.Task) -> PlanPart:
    """The foreign steps of a task and the graph under them, as their owner needs them."""
    origin: dict[str, Step] = {}
    for step in task.steps:
        entry = actor.ledger.entries.get(step.key)
        if entry is not None and entry.origin is not None:
            origin.update(closure(entry.origin, [step.key]))
    return PlanPart(origin, [Target(s.recipe.feature, s.unit, s.key) for s in task.steps])


def ask(actor: CacheActor, task: ev.Task, home: int, part: PlanPart) -> Any:
    """Send a foreign task to the shard that owns its steps; the ref of its `Fetched`."""
    peer: Any = ray.get_actor(shard_name(home), namespace=actor.settings.namespace)
    id = f"{actor.shard}-{actor.incarnation[:8]}-{task.id}"
    return peer.fetch.remote(id, part, task.priority, task.tenant)


def borrowed(fetched: Fetched) -> tuple[list[StepResult], list[Any]]:
    """What came of it, as a task's report and the refs of its slots."""
    results: list[StepResult] = []
    refs: list[Any] = []
    for answer, found in fetched:
        made = Made(answer.seconds or 0.0, "shard", time.time())
        if answer.failure is not None:
            results.append(StepResult(answer.key, failure=answer.failure))
        elif found is not None and found.inline is not None:
            results.append(StepResult(answer.key, answer.size, made, inline=found.inline))
        elif found is not None and found.ref:
            results.append(StepResult(answer.key, answer.size, made, slot=len(refs), place=found.place))
            refs.append(found.ref[0])
    return results, refs


async def fetch(actor: CacheActor, id: str, part: PlanPart, priority: int, tenant: str) -> Fetched:
    """The owner's side: wait for all the steps and hand over their places."""
    desk = actor.desk
    session = f"peer/{id}"
    submission = Submission(id, "p", priority, tenant, None, False, True, time.time())
    replies = await desk.submit(session, {"p": part}, [submission])
    if isinstance(replies, MissingPlans):
        raise AmberError(f"registry {replies.registry} is not known to shard {actor.shard}")
    try:
        record = desk.records[id]
        while record.state == "running":
            await desk.poll(session, FETCH_POLL_SECONDS)
    except asyncio.CancelledError:
        await desk.withdraw([id])
        raise
    finally:
        desk.end(session)
    answers: Sequence[Answer] = list(record.answers.values())
    places = await actor.get([a.key for a in answers if a.failure is None])
    by_key = {f.key: f for f in places if f is not None}
    desk.records.pop(id, None)
    return [(a, by_key.get(a.key)) for a in answers]
