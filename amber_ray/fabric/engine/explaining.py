"""What a request would do, put together from what each shard foresees of the keys that it owns.

A shard says "ask" of a step that another one owns, and that one is then asked what it would do for it. A
step that can't have a value there has those above it fail here, which is asked again. So it goes back and
forth until nothing new is said: once where all is in one shard, and once more for each level of collections
over others.

Must not know: how a shard foresees.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from amber_ray.core.model.request import ExplainedStep, StepAction
from amber_ray.core.planning.plan import Plan, closure
from amber_ray.fabric.engine.shard_client import ShardClient
from amber_ray.fabric.transport.messages import Foreseen, PlanPart

_STRONGER: Sequence[StepAction] = ("run", "fail", "wait", "read", "use")
"""Two shards may do something with one key; what is told is what stands here first."""


@dataclass(slots=True)
class _Asked:
    """What one shard is asked, and what it said: about its part, and what it and others want of each other.

    `borrowed`: keys that others would ask it for. `broken`: keys that it would ask for in vain.
    """

    part: PlanPart
    borrowed: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    told: Foreseen | None = None


async def explained(
    plan: Plan, shards: Sequence[ShardClient], *, refresh: bool, load: bool, at: float, answered: bool
) -> list[ExplainedStep]:
    """Return the steps of a plan, inputs before their users, each with what asking would do with it.

    `load`: the values are wanted in memory. `at`: Unix time when the assets were located. `answered`: this
    process has all answers in its memory, and would ask no shard.
    """
    asked = _asked(plan)
    names = sorted({(s.recipe.feature, s.recipe.version) for s in plan.steps.values()})
    pending = set(asked)
    expected = asyncio.ensure_future(shards[0].call("expected", names))
    try:
        while pending:
            homes = sorted(pending)
            told = await asyncio.gather(
                *(
                    shards[home].call(
                        "foresee",
                        asked[home].part,
                        sorted(asked[home].borrowed),
                        sorted(asked[home].broken),
                        refresh,
                        load,
                        at,
                    )
                    for home in homes
                )
            )
            for home, foreseen in zip(homes, told, strict=True):
                asked[home].told = foreseen
            pending = _further(plan, asked)
        seconds = await expected
    finally:
        expected.cancel()
    targets = {target.key for target in plan.targets}
    states = {key: state for one in asked.values() if one.told for key, state in one.told.states.items()}
    actions = dict.fromkeys(targets, _STRONGER[-1]) if answered else _actions(asked)
    return [
        ExplainedStep(
            feature=step.recipe.feature,
            version=step.recipe.version,
            key=key,
            unit=step.unit,
            state=states[key],  # type: ignore[arg-type]
            inputs=step.needs,
            seconds=seconds.get((step.recipe.feature, step.recipe.version)),
            resources=step.recipe.resources.as_mapping(),
            target=key in targets,
            action=actions.get(key, "skip"),
        )
        for key, step in plan.steps.items()
    ]


def _asked(plan: Plan) -> dict[int, _Asked]:
    """Return what each shard is asked at first: about its own targets, and the states of what it owns."""
    owned: dict[int, list[str]] = {}
    for key, step in plan.steps.items():
        owned.setdefault(step.home, []).append(key)
    return {
        home: _Asked(
            PlanPart(
                plan.steps if len(owned) == 1 else closure(plan.steps, keys),
                [target for target in plan.targets if plan.steps[target.key].home == home],
            )
        )
        for home, keys in owned.items()
    }


def _further(plan: Plan, asked: Mapping[int, _Asked]) -> set[int]:
    """Pass on what the shards have said to those that it concerns; return which have something new to say."""
    news: set[int] = set()
    for home, one in asked.items():
        if one.told is None:
            continue
        # A found unit is in no plan: what stands for it is asked for.
        for key in [key for key, fate in one.told.fates.items() if fate == "ask" and key in plan.steps]:
            owner = asked[plan.steps[key].home]
            if key not in owner.borrowed:
                owner.borrowed.add(key)
                news.add(plan.steps[key].home)
            elif owner.told is not None and owner.told.fates.get(key) == "fail" and key not in one.broken:
                one.broken.add(key)
                news.add(home)
    return news


def _actions(asked: Mapping[int, _Asked]) -> dict[str, StepAction]:
    """Return what is done with each key by whichever shard does most with it."""
    found: dict[str, StepAction] = {}
    for one in asked.values():
        for key, fate in one.told.fates.items() if one.told else ():
            if fate != "ask" and (key not in found or _STRONGER.index(fate) < _STRONGER.index(found[key])):
                found[key] = fate
    return found
