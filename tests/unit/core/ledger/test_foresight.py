"""Stories of what is foreseen; `tests/property/test_foresight.py` has all others."""

from __future__ import annotations

from amber_ray.core.ledger.foresight import Fate, foresee
from amber_ray.core.model.request import Failure
from amber_ray.core.planning.plan import Step
from amber_ray.core.state import events as ev
from tests.core_kit import Graph, Story, chain, fault, submitted


def foreseen(story: Story, steps: dict[str, Step], *targets: str, refresh: bool = False) -> dict[str, Fate]:
    """What would become of the keys; by default of the last step."""
    asked = ev.Requested("foreseen", steps, targets or (list(steps)[-1],), refresh=refresh)
    return foresee(story.ledger, [asked], story.now)


def test_what_is_stored_is_read_and_what_is_under_it_is_not_needed() -> None:
    steps = chain("frames", "look", "top")
    story = Story(stored=["top"])
    assert foreseen(story, steps) == {"top": "read"}
    assert foreseen(story, steps, refresh=True) == {"top": "run", "look": "run", "frames": "run"}
    assert foreseen(Story(stored=["look"]), steps) == {"top": "run", "look": "read"}
    assert story.ledger.entries == {}


def test_what_others_wait_for_is_waited_for() -> None:
    steps = chain("frames", "look", "top", is_class=True)
    story = Story()
    story.ask("a", steps, "look")
    assert foreseen(story, steps) == {"top": "run", "look": "wait", "frames": "wait"}
    story.done("frames")
    story.done("look")
    assert foreseen(story, steps) == {"top": "run", "look": "use"}


def test_a_remembered_failure_is_failed_by_and_a_forgotten_one_runs_again() -> None:
    steps = chain("frames", "look", "top", is_class=True)
    story = Story(feature_failure_seconds=5.0)
    story.ask("a", steps)
    story.fails("frames")
    assert foreseen(story, steps) == {"top": "fail", "look": "fail", "frames": "fail"}
    assert set(foreseen(story, steps, refresh=True).values()) == {"run"}
    story.now += 6.0  # before the ledger has been told of it
    assert set(foreseen(story, steps).values()) == {"run"}


def test_a_value_that_its_task_keeps_for_itself_is_made_again() -> None:
    graph = Graph()
    graph.add("frames", store="never")
    graph.add("look", "frames")
    graph.add("other", "frames")
    story = Story()
    assert submitted(story.ask("a", graph.steps, "look")) == [["frames", "look"]]
    assert foreseen(story, graph.steps, "other") == {"other": "run", "frames": "run"}
    assert foreseen(story, graph.steps, "look") == {"look": "wait", "frames": "wait"}
    # Somebody else asked for it first, so it is made again in any case.
    story.ask("b", graph.steps, "frames")
    assert foreseen(story, graph.steps, "other") == {"other": "run", "frames": "wait"}
    story.ask("c", graph.steps, "other")
    assert submitted(story.done("frames", "look")) == [["frames", "other"]]


def test_another_shards_step_is_asked_for_and_fails_what_needs_it() -> None:
    graph = Graph()
    graph.add("near")
    graph.add("far", home=1)
    graph.add("set", "near", "far")
    story = Story()
    asked = ev.Requested("foreseen", graph.steps, ("set",))
    assert foreseen(story, graph.steps) == {"set": "run", "near": "run", "far": "ask"}
    why: Failure = fault()
    assert foresee(story.ledger, [asked], story.now, {"far": why}) == {"set": "fail", "far": "fail"}


def test_what_no_node_can_run_fails() -> None:
    steps = chain("frames", "look")
    assert foreseen(Story(nodes=[{"GPU": 1.0}]), steps) == {"look": "fail"}
