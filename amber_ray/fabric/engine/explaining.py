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
from amber_ray.core.model.units import MICRO, EachRange
from amber_ray.core.planning.fanout import Expansion, expand, under
from amber_ray.core.planning.plan import Plan, Step, Target, closure
from amber_ray.core.scheduler.costs import Means
from amber_ray.fabric.engine.shard_client import ShardClient
from amber_ray.fabric.transport.messages import Foreseen, FoundUnit, PlanPart

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
    plan: Plan,
    shards: Sequence[ShardClient],
    *,
    refresh: bool,
    load: bool,
    at: float,
    answered: Mapping[str, Sequence[FoundUnit]] | None,
) -> list[ExplainedStep]:
    """Return the steps of a plan, inputs before their users, each with what asking would do with it.

    Where the windows of a finder are known, its units' steps stand in the place of their template.

    `load`: the values are wanted in memory. `at`: Unix time when the assets were located. `answered`: the
    units that this process remembers in the place of targets, if its memory has all answers and it would ask
    no shard; else None.
    """
    asked = _asked(plan)
    names = sorted(set(map(_name, plan.steps.values())))
    pending = set(asked)
    expected = asyncio.ensure_future(_means(shards, names))
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
        means = await expected
    finally:
        expected.cancel()
    states = {key: state for one in asked.values() if one.told for key, state in one.told.states.items()}
    opened = _opened(plan, asked)
    remembered = {key: its for key, its in (answered or {}).items() if key not in opened.found}
    if any(remembered.values()):  # by this process alone: the finder's value is not to be had any more
        named = _in_place(plan, remembered)
        others = {key: its for key, its in (answered or {}).items() if not remembered.get(key)}
        return await explained(named, shards, refresh=refresh, load=load, at=at, answered=others)
    states |= dict.fromkeys(remembered, "hot")  # nothing was found, and that is the answer
    targets = {unit for target in plan.targets for unit in opened.units(target.key)}
    actions = dict.fromkeys(targets, _STRONGER[-1]) if answered is not None else _actions(asked)
    return [
        ExplainedStep(
            feature=step.recipe.feature,
            version=step.recipe.version,
            key=key,
            unit=step.unit,
            state=states[key],  # type: ignore[arg-type]
            inputs=tuple(unit for need in step.needs for unit in opened.units(need)),
            seconds=means[name].seconds if (name := _name(step)) in means else None,
            resources=step.recipe.resources.as_mapping(),
            target=key in targets,
            action=actions.get(key, "skip"),
            expected=None if key in opened.found or key in remembered else _expected(step, plan, means),
        )
        for key, step in opened.steps.items()
    ]


def _in_place(plan: Plan, found: Mapping[str, Sequence[FoundUnit]]) -> Plan:
    """Return a plan of the units that are known in the place of targets, and of their finders."""
    steps, targets, finders = dict(plan.steps), list[Target](), list[str]()
    for target in plan.targets:
        units = found.get(target.key)
        if not units:
            targets.append(target)
            continue
        template = plan.steps[target.key]
        windows = tuple((unit.start_us, unit.start_us + unit.length_us) for unit in units)
        steps.update(expand(plan.steps, template, windows, len(windows)).steps)
        targets.extend(unit.target(target) for unit in units)
        finders.extend(template.needs)
    return Plan(closure(steps, (*(target.key for target in targets), *finders)), tuple(targets))


@dataclass(slots=True)
class _Opened:
    """A plan with the steps of each window in the place of the templates whose windows are known."""

    steps: dict[str, Step]
    found: dict[str, Expansion]

    def units(self, key: str) -> tuple[str, ...]:
        """Return a key, or those of the units that stand in its place; it stays where there are none."""
        expansion = self.found.get(key)
        return expansion.keys if expansion is not None and expansion.keys else (key,)


def _opened(plan: Plan, asked: Mapping[int, _Asked]) -> _Opened:
    """Open the templates that their owners would open, by the windows that those have told."""
    found: dict[str, Expansion] = {}
    for one in asked.values():
        for key in one.told.opened if one.told else ():
            template = plan.steps[key]
            windows = one.told.windows[template.needs[0]] if one.told else ()
            found[key] = expand(plan.steps, template, windows, len(windows))
    opened = [key for key, expansion in found.items() if expansion.keys]
    # What they are made of stands in the steps of their windows.
    over = {below for key in opened for below in under(plan.steps, key)}
    steps: dict[str, Step] = {}
    for key, step in plan.steps.items():
        expansion = found.get(key)
        if expansion is not None and expansion.keys:
            for unit, made in expansion.steps.items():
                steps.setdefault(unit, made)
        elif expansion is not None or key not in over:
            steps.setdefault(key, step)
    return _Opened(steps, found)


def _name(step: Step) -> tuple[str, str]:
    return step.recipe.feature, step.recipe.version


def _expected(step: Step, plan: Plan, means: Mapping[tuple[str, str], Means]) -> int | None:
    """Return how many steps a template may stand for: a share of the ranges of an asset, if it has a span."""
    each = step.unit
    if not isinstance(each, EachRange):
        return None
    found = means.get(_name(plan.steps[each.key]))
    if found is None or found.ranges is None:
        return None
    share = 1.0
    if each.span_us is not None and each.asset.duration:
        whole = each.asset.duration * MICRO
        share = (min(each.span_us[1], whole) - each.span_us[0]) / whole
    return round(found.ranges * share)


async def _means(
    shards: Sequence[ShardClient], names: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Means]:
    """Return what a step of each feature costs, by the first shard that knows."""
    found: dict[tuple[str, str], Means] = {}
    for told in await asyncio.gather(*(shard.call("expected", names) for shard in shards)):
        found = told | found
    return found


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
    """Return what is done with each key by whichever shard does most with it.

    Whether it fails is its owner's to say: others count all units behind a template as failed by one.
    """
    owners = {key: one.told for one in asked.values() if one.told for key in one.told.states}
    found: dict[str, StepAction] = {}
    for one in asked.values():
        for key, fate in one.told.fates.items() if one.told else ():
            owner = owners.get(key)
            hearsay = fate == "fail" and owner is not None and owner is not one.told and key in owner.fates
            if fate == "ask" or hearsay:
                continue
            if key not in found or _STRONGER.index(fate) < _STRONGER.index(found[key]):
                found[key] = fate
    return found
