"""What a request would do, put together from what two shards foresee. The ledgers are the real ones."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from amber_ray.core.model.request import ExplainedStep
from amber_ray.core.model.units import Segment
from amber_ray.core.planning.plan import Plan, Target
from amber_ray.core.scheduler.costs import Means
from amber_ray.fabric.engine.explaining import explained
from amber_ray.fabric.engine.shard_client import ShardClient
from amber_ray.fabric.shard import inspection
from amber_ray.fabric.transport.messages import Foreseen, FoundUnit, PlanPart
from tests.core_kit import Graph, Story

MICRO = 1_000_000
TWO = ((0, 2 * MICRO), (2 * MICRO, 7 * MICRO))


class Shard:
    """The part of a shard that is asked, without the way to it."""

    def __init__(self, story: Story) -> None:
        self.story = story

    async def call(self, method: str, *args: Any) -> Any:
        return getattr(self, method)(*args)

    def expected(self, names: Any) -> dict[tuple[str, str], Means]:
        return inspection.expected(self.story.ledger, names)

    def foresee(
        self, part: PlanPart, borrowed: Any, broken: Any, refresh: bool, load: bool, at: float
    ) -> Foreseen:
        told, _ = inspection.foreseen(
            self.story.ledger,
            part,
            self.story.now,
            borrowed=borrowed,
            broken=broken,
            refresh=refresh,
            load=load,
            located=at,
        )
        return told


def steps_of(graph: Graph, target: str, *stories: Story, answered: Any = None) -> list[ExplainedStep]:
    """What is told of each step for one target."""
    step = graph.steps[target]
    plan = Plan(graph.steps, (Target(step.recipe.feature, step.unit, target),))
    shards = cast("list[ShardClient]", [Shard(story) for story in stories])
    return asyncio.run(explained(plan, shards, refresh=False, load=True, at=0.0, answered=answered))


def actions(graph: Graph, target: str, *stories: Story) -> dict[str, str]:
    """What is done with each step for one target; the steps of windows by their feature and start."""

    def name(step: ExplainedStep) -> str:
        unit = step.unit
        return f"{step.feature} {unit.start:g}" if isinstance(unit, Segment) else step.key

    return {name(step): step.action for step in steps_of(graph, target, *stories)}


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
    assert (told["other"], told["dark 0"], told["dark 2"], told["match"]) == ("run", "run", "run", "skip")
    second.ask("d", graph.steps, "each dark")
    while second.ledger.tasks:
        second.done(*(s.key for s in next(iter(second.ledger.tasks.values())).steps))
    told = actions(graph, "other", first, second)
    assert (told["dark 0"], told["dark 2"]) == ("use", "use")
    bad = second.expanded["d", "each dark"][0]
    second.purge(*second.expanded["d", "each dark"])
    second.ask("e", graph.steps, "each dark")
    second.fails(bad)
    while second.ledger.tasks:
        second.done(*(s.key for s in next(iter(second.ledger.tasks.values())).steps))
    told = actions(graph, "other", first, second)
    assert (told["other"], told["dark 0"], told["dark 2"]) == ("fail", "fail", "use")


def test_units_stand_in_the_place_of_each_range_once_the_windows_are_known() -> None:
    graph = Graph()
    graph.add("cuts")
    graph.each("light", "cuts")
    graph.each("caption", "cuts", "each light")
    graph.add("film", "each caption")
    made = story(0)
    [cuts, light, caption, film] = steps_of(graph, "film", made)
    assert (cuts.expected, light.expected, caption.expected, film.expected) == (None, None, None, None)
    assert {step.action for step in (cuts, light, caption, film)} == {"run"}
    made.ask("r", graph.steps, "cuts")
    made.done("cuts")
    told = steps_of(graph, "film", made)
    assert [(s.feature, s.unit.start) for s in told if isinstance(s.unit, Segment)] == [
        *(("light", 0.0), ("caption", 0.0)),
        *(("light", 2.0), ("caption", 2.0)),
    ]
    assert {s.action for s in told if s.feature != "cuts"} == {"run"}
    captions = tuple(s.key for s in told if s.feature == "caption")
    assert told[-1].inputs == captions
    made.purge("cuts")
    [_, light, caption, _] = steps_of(graph, "film", made)  # by what was learned
    assert (light.expected, caption.expected) == (2, 2)
    assert (light.seconds, caption.target) == (None, False)


def test_units_of_a_finder_that_found_nothing_are_there_as_its_value_is() -> None:
    graph = Graph()
    graph.add("cuts")
    graph.each("light", "cuts")
    made = story(0)
    made.windows["cuts"] = ()
    made.ask("r", graph.steps, "cuts")
    made.done("cuts")
    [cuts, light] = steps_of(graph, "each light", made)
    assert (cuts.state, light.state, light.action, light.target) == ("hot", "hot", "use", True)
    assert light.expected is None


def test_units_that_a_process_remembers_are_explained_though_their_finder_s_value_is_gone() -> None:
    graph = Graph()
    graph.add("cuts")
    graph.each("light", "cuts")
    made = story(0)
    made.ask("r", graph.steps, "each light")
    made.done("cuts")
    keys = made.expanded["r", "each light"]
    made.done(keys[0])
    made.done(keys[1])
    made.lost("cuts")
    units = [FoundUnit(key, start, end - start, True) for key, (start, end) in zip(keys, TWO, strict=True)]
    told = steps_of(graph, "each light", made, answered={"each light": units})
    assert [(s.key, s.state, s.action, s.target) for s in told] == [
        ("cuts", "missing", "skip", False),
        (keys[0], "hot", "use", True),
        (keys[1], "hot", "use", True),
    ]
    [_, nothing] = steps_of(graph, "each light", made, answered={"each light": ()})
    assert (nothing.key, nothing.state, nothing.action, nothing.expected) == (
        "each light",
        "hot",
        "use",
        None,
    )
    [_, unknown] = steps_of(graph, "each light", made)
    assert (unknown.key, unknown.state, unknown.action) == ("each light", "missing", "run")
