"""What a request would do, put together from what two shards foresee. The ledgers are the real ones."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from amber_ray.core.planning.plan import Plan, Target
from amber_ray.fabric.engine.explaining import explained
from amber_ray.fabric.engine.shard_client import ShardClient
from amber_ray.fabric.shard import inspection
from amber_ray.fabric.transport.messages import Foreseen, PlanPart
from tests.core_kit import Graph, Story

MICRO = 1_000_000
TWO = ((0, 2 * MICRO), (2 * MICRO, 7 * MICRO))


class Shard:
    """The part of a shard that is asked, without the way to it."""

    def __init__(self, story: Story) -> None:
        self.story = story

    async def call(self, method: str, *args: Any) -> Any:
        return getattr(self, method)(*args)

    def expected(self, names: Any) -> dict[tuple[str, str], float]:
        return inspection.expected(self.story.ledger, names)

    def foresee(
        self, part: PlanPart, borrowed: Any, broken: Any, refresh: bool, load: bool, at: float
    ) -> Foreseen:
        return inspection.foreseen(
            self.story.ledger,
            part,
            self.story.now,
            borrowed=borrowed,
            broken=broken,
            refresh=refresh,
            load=load,
            located=at,
        )


def actions(graph: Graph, target: str, *stories: Story) -> dict[str, str]:
    """What is done with each step for one target."""
    step = graph.steps[target]
    plan = Plan(graph.steps, (Target(step.recipe.feature, step.unit, target),))
    shards = cast("list[ShardClient]", [Shard(story) for story in stories])
    told = asyncio.run(explained(plan, shards, refresh=False, load=True, at=0.0, answered=False))
    return {step.key: step.action for step in told}


def story(shard: int) -> Story:
    made = Story(shard=shard)
    made.windows["cuts"] = TWO
    return made


def test_units_of_another_shard_that_no_plan_names_are_asked_of_it() -> None:
    graph = Graph()
    graph.add("cuts", home=1)
    graph.each("light", "cuts", home=1)
    graph.add("match", "each light", "cuts")
    first, second = story(0), story(1)
    second.ask("r", graph.steps, "cuts")
    second.done("cuts")
    first.ask("r", graph.steps, "match")
    first.done("cuts")  # lent, and kept while the collection waits for its units
    graph.each("dark", "cuts", home=1)
    graph.add("other", "each dark")
    told = actions(graph, "other", first, second)
    assert (told["other"], told["each dark"], told["match"]) == ("run", "run", "skip")
    second.ask("d", graph.steps, "each dark")
    while second.ledger.tasks:
        second.done(*(s.key for s in next(iter(second.ledger.tasks.values())).steps))
    assert actions(graph, "other", first, second)["each dark"] == "use"
    bad = second.expanded["d", "each dark"][0]
    second.purge(*second.expanded["d", "each dark"])
    second.ask("e", graph.steps, "each dark")
    second.fails(bad)
    while second.ledger.tasks:
        second.done(*(s.key for s in next(iter(second.ledger.tasks.values())).steps))
    told = actions(graph, "other", first, second)
    assert (told["other"], told["each dark"]) == ("fail", "fail")
