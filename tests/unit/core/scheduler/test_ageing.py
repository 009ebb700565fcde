"""No class of urgency waits for ever: after `overtakes` tasks of more urgent ones the next is its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amber_ray.core.declare.feature import Resources
from amber_ray.core.state import events as ev
from amber_ray.errors import BadRequest
from amber_ray.settings import Settings
from tests.core_kit import Graph, Story, asset, clip

ONE = {"CPU": 1.0}


def flood(story: Story, count: int, **changes: object) -> Iterator[None]:
    """Interactive work that never ends: one more step whenever it is asked for, and `count` to begin with."""
    made = 0
    while True:
        graph = Graph()
        while made < count:
            graph.add("urgent", unit=clip(asset(f"u{made}"), 0), **changes)
            made += 1
        count += 1
        story.ask(f"flood{made}", graph.steps, *graph.steps, priority=2)
        yield


def waiting(story: Story, count: int, priority: int, feature: str = "slow", **changes: object) -> list[str]:
    """As many steps of a class, asked for at once."""
    graph = Graph()
    for i in range(count):
        graph.add(feature, unit=clip(asset(f"p{priority}"), i), **changes)
    story.ask(f"{feature}{priority}", graph.steps, *graph.steps, priority=priority)
    return list(graph.steps)


def served(story: Story, more: Iterator[None], tasks: int) -> list[int]:
    """The classes of the next tasks on a cluster that runs one; with each comes another interactive step."""
    classes = []
    for _ in range(tasks):
        next(more)
        task = next(iter(story.ledger.tasks.values()))
        classes.append(task.priority)
        story.done(*(s.key for s in task.steps))
    return classes


def test_after_so_many_overtakings_the_class_has_its_turn() -> None:
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=0.0, overtakes=4)
    more = flood(story, 3)
    next(more)
    waiting(story, 2, 0)
    assert served(story, more, 16) == [2] * 5 + [0] + [2] * 4 + [0] + [2] * 5


def test_until_then_it_is_overtaken() -> None:
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=0.0)
    more = flood(story, 3)
    next(more)
    waiting(story, 2, 0)
    assert 0 not in served(story, more, Settings().overtakes)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 9))
@settings(max_examples=40)
def test_every_class_is_handed_a_task_within_the_bound(
    overtakes: int, backfill: int, batch: int, urgent: int
) -> None:
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=0.0, overtakes=overtakes)
    more = flood(story, urgent)
    next(more)
    waiting(story, backfill, 0)
    waiting(story, batch, 1, "middling")
    bound = overtakes + 3
    tasks = served(story, more, bound * (max(backfill, batch) + 1))
    for tier, count in ((0, backfill), (1, batch)):
        turns = [i for i, of in enumerate(tasks) if of == tier]
        assert len(turns) == count
        assert all(turn <= bound * (k + 1) for k, turn in enumerate(turns))


def test_a_large_step_is_left_the_room_it_needs() -> None:
    """Two CPUs are never free at once while others take each as it comes; when it is owed, they are kept."""
    story = Story(nodes=[{"CPU": 2.0}], lookahead=0, pack_seconds=0.0, overtakes=3)
    more = flood(story, 5)
    next(more)
    (large,) = waiting(story, 1, 0, resources=Resources(num_cpus=2))
    started = 0
    while large not in {s.key for t in story.ledger.tasks.values() for s in t.steps}:
        next(more)
        started += 1
        assert started <= 3 + 2 + 2
        first = next(iter(story.ledger.tasks.values()))
        story.done(*(s.key for s in first.steps))


def test_what_it_does_not_need_is_not_kept_from_others() -> None:
    """A backfill that is owed the GPU waits for it; steps for the CPU go on meanwhile."""
    story = Story(nodes=[{"CPU": 3.0, "GPU": 1.0}], lookahead=0, pack_seconds=0.0, overtakes=1)
    graph = Graph()
    gpu = Resources(num_cpus=0, num_gpus=1)
    for i in range(3):
        graph.add("train", unit=clip(asset(), i), resources=gpu)
    story.ask("gpu", graph.steps, *graph.steps, priority=2)
    waiting(story, 1, 0, resources=gpu)
    more = flood(story, 5)
    next(more)
    running = [s.recipe.feature for t in story.ledger.tasks.values() for s in t.steps]
    assert sorted(running) == ["train", "urgent", "urgent"]  # of three CPUs one is kept for its 0.01
    trained = next(t for t in story.ledger.tasks.values() if t.recipe.feature == "train")
    story.done(*(s.key for s in trained.steps))
    assert "slow" in [t.recipe.feature for t in story.ledger.tasks.values()]


def test_a_tenants_share_is_within_a_class() -> None:
    """Interactive work that was served to it is not held against its backfill."""
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=0.0, overtakes=1, costs={"urgent": 1.0, "slow": 1.0})
    graph = Graph()
    for i in range(40):
        graph.add("urgent", unit=clip(asset("u"), i))
    for tenant in "ab":
        for i in range(10):
            graph.add("slow", unit=clip(asset(tenant), i))
    steps = list(graph.steps)
    story.ask("r1", graph.steps, *steps[:40], priority=2, tenant="a")
    story.ask("r2", graph.steps, *steps[40:50], priority=0, tenant="a")
    story.ask("r3", graph.steps, *steps[50:], priority=0, tenant="b")
    turns = []
    for _ in range(20):
        task: ev.Task = next(iter(story.ledger.tasks.values()))
        if task.priority == 0:
            turns.append(task.tenant)
        story.done(*(s.key for s in task.steps))
    assert abs(turns.count("a") - turns.count("b")) <= 1 < len(turns)


def test_at_least_one_may_overtake() -> None:
    with pytest.raises(BadRequest, match="overtakes must be at least 1, not 0"):
        Settings(overtakes=0)
