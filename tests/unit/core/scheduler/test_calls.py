"""Calls of services: slots, rates and steps that ask for patience, as the ledger hands them over."""

from __future__ import annotations

import itertools
import random

import pytest

from amber_ray.core.declare.calls import Calls, Rate
from amber_ray.core.declare.feature import Resources
from amber_ray.core.scheduler.calls import LATE_SECONDS, Pace
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import State
from tests.core_kit import Graph, Story, asset, clip, fault, submitted

NO_CPU = Resources(num_cpus=0.0)


def called(count: int, feature: str = "call", **changes: object) -> Graph:
    """So many steps of a feature that calls a service, over clips of one asset."""
    graph = Graph()
    changes = {"calls": Calls(concurrency=2), "resources": NO_CPU, **changes}
    for i in range(count):
        graph.add(feature, unit=clip(asset(), i), key=f"{feature}{i}", **changes)
    return graph


def ask(story: Story, graph: Graph, id: str = "r", **changes: object) -> list[list[str]]:
    return submitted(story.ask(id, graph.steps, *graph.steps, **changes))


# --- slots


def test_as_many_calls_as_run_and_stand_in_line_are_handed_over_each_by_itself() -> None:
    story = Story(costs={"call": 0.001}, pack_seconds=5.0)
    assert ask(story, called(6)) == [["call0"], ["call1"], ["call2"], ["call3"]]
    assert story.task_of("call0").pool
    assert submitted(story.done("call1")) == [["call4"]]


def test_calls_take_nothing_from_those_who_compute_and_wait_for_nobody() -> None:
    story = Story(nodes=[{"CPU": 1.0}], lookahead=0)
    graph = called(4)
    for i in range(3):
        graph.add("plain", unit=clip(asset(), i), key=f"plain{i}", is_class=True)
    handed = [key for [key] in ask(story, graph)]
    assert sorted(handed) == ["call0", "call1", "call2", "call3", "plain0"]
    assert submitted(story.done("plain0")) == [["plain1"]]
    assert submitted(story.done("call0")) == []


def test_each_model_has_slots_of_its_own_and_all_parameters_of_a_call_share_them() -> None:
    story = Story()
    graph = Graph()
    for i in range(8):
        for model, params in (((("size", 1),), ()), ((), (("prompt", i % 2),))):
            graph.add(
                "call",
                unit=clip(asset(), i),
                key=f"{'model' if model else 'plain'}{i}",
                calls=Calls(concurrency=1),
                resources=NO_CPU,
                model=model,
                params=params,
            )
    handed = [key for [key] in ask(story, graph)]
    assert sorted(handed) == ["model0", "model1", "plain0", "plain1"]


def test_a_call_and_its_neighbours_are_never_fused() -> None:
    story = Story(pack_seconds=5.0)
    graph = Graph()
    graph.add("below")
    graph.add("call", "below", calls=Calls(concurrency=2), resources=NO_CPU)
    graph.add("above", "call")
    assert submitted(story.ask("r", graph.steps)) == [["below"]]
    assert submitted(story.done("below")) == [["call"]]
    assert submitted(story.done("call")) == [["above"]]


def test_a_slot_comes_back_however_a_call_ends() -> None:
    story = Story(retry_seconds=0.2, grace_seconds=1.0)
    ask(story, called(12))
    story.fails("call0")
    story.dies("call1")
    story.fails("call2", fault())
    assert len(story.ledger.tasks) == 4
    assert story.ledger.scheduler.calls.running == {story.task_of("call3").recipe.pool: 4}
    story.leave("r")
    story.wait(1.0)
    for task in list(story.ledger.tasks):
        story.do(ev.TaskLost(task, fault(), retry=False))
    assert story.ledger.scheduler.calls.running == {}


# --- rates


def starts(story: Story, seconds: float, feature: str = "call") -> list[float]:
    """When tasks of a feature are handed over, each of which ends at once."""
    end, found = story.now + seconds, []
    while True:
        for task in list(story.ledger.tasks.values()):
            if task.recipe.feature == feature:
                found.append(story.now)
            story.done(*(step.key for step in task.steps))
        if story.ledger.wake_at() > end:
            return found
        story.now = max(story.now, story.ledger.wake_at())
        story.do(ev.Tick())


@pytest.mark.parametrize("concurrency", [0, 50])
def test_a_rate_is_held_evenly_and_without_a_burst(concurrency: int) -> None:
    story = Story(spill_seconds=1000.0)
    calls = Calls(concurrency, Rate(5, 1.0))
    ask(story, called(330, calls=calls, resources=Resources(num_cpus=0.0 if concurrency else 1.0)))
    begun = starts(story, 60.0)
    assert 300 * 0.95 <= len(begun) <= 300 * 1.05
    apart = [later - sooner for sooner, later in itertools.pairwise(begun)]
    assert min(apart) == pytest.approx(0.2)
    assert max(apart) == pytest.approx(0.2)


def test_time_in_which_nobody_waited_is_not_made_up_for() -> None:
    story = Story()
    calls = Calls(8, Rate(1, 1.0))
    assert ask(story, called(1, calls=calls)) == [["call0"]]
    story.done("call0")
    story.wait(100.0)
    graph = called(4, "call", calls=calls)
    assert ask(story, graph, "s") == [["call1"]]
    assert submitted(story.wait(0.99)) == []
    assert submitted(story.wait(0.01)) == [["call2"]]


def test_a_rate_is_over_all_requests_versions_and_parameters_of_a_feature() -> None:
    story = Story()
    calls = Calls(8, Rate(60, 60.0))
    graph = Graph()
    for i, changes in enumerate(({}, {"version": "2"}, {"params": (("n", 1),)}, {"model": (("n", 1),)})):
        graph.add("call", unit=clip(asset(), i), key=f"call{i}", calls=calls, resources=NO_CPU, **changes)
    ask(story, graph)
    assert len(story.ledger.tasks) == 1
    ask(story, called(9, "call", calls=calls), "s")
    story.wait(3.0)
    assert len(story.ledger.tasks) == 4


def test_each_shard_has_its_share_of_a_rate() -> None:
    story = Story(shards=4)
    ask(story, called(100, calls=Calls(50, Rate(20, 1.0))))
    assert len(starts(story, 9.9)) == 50


def test_a_start_that_is_late_is_caught_up_on_by_a_tenth_of_a_second() -> None:
    rng = random.Random(4)
    pace, now, begun = Pace(), 1000.0, []
    while now < 1060.0:
        if pace.open(now):
            pace.start(now, 0.05)
            begun.append(now)
        else:
            now = pace.opens_at + rng.random() * 0.04  # the loop was busy with something else
    assert 1190 <= len(begun) <= (60 + LATE_SECONDS) * 20 + 1
    for i, first in enumerate(begun):
        within = sum(1 for start in begun[i : i + 60] if start < first + 1.0)
        assert within <= (1.0 + LATE_SECONDS) * 20 + 1


def test_whoever_waits_for_a_rate_keeps_nothing_from_others() -> None:
    story = Story(nodes=[{"CPU": 1.0}], lookahead=0, overtakes=2)
    slow = called(3, "slow", calls=Calls(rate=Rate(1, 3600.0)), resources=Resources(num_cpus=1.0))
    ask(story, slow, "backfill", priority=0)
    story.done("slow0")
    graph = Graph()
    for i in range(20):
        graph.add("plain", unit=clip(asset(), i), key=f"plain{i}")
    ask(story, graph)
    for _ in range(20):
        [task] = story.ledger.tasks.values()
        story.done(*(step.key for step in task.steps))
    assert not story.ledger.tasks
    assert submitted(story.wait(3600.0)) == [["slow1"]]


def test_of_calls_that_wait_for_a_rate_the_urgent_one_is_next_and_the_others_have_their_turn() -> None:
    story = Story(overtakes=4, spill_seconds=10_000.0)
    calls = Calls(8, Rate(1, 1.0))
    ask(story, called(5, "call", calls=calls), "backfill", priority=0)
    graph = Graph()
    for i in range(40):
        graph.add("call", unit=clip(asset(), i), key=f"urgent{i}", calls=calls, resources=NO_CPU)
    ask(story, graph)
    order: list[str] = []
    for _ in range(30):
        for task in list(story.ledger.tasks.values()):
            order.append(task.steps[0].key)
            story.done(order[-1])
        story.wait(1.0)
    assert order[:2] == ["call0", "urgent0"]
    assert [key for key in order if key.startswith("call")] == ["call0", "call1", "call2", "call3", "call4"]
    assert order.index("call1") <= 6


# --- later


def later(story: Story, key: str, seconds: float) -> list[ev.Command]:
    """The task that runs a key ends: it asks to be tried again."""
    task = story.task_of(key)
    failure = fault("the service is busy", key=key, step=task.recipe.feature)
    return story.do(ev.Reported(task.id, [ev.StepReport(key, kept=False, failure=failure, later=seconds)]))


def test_a_step_that_asks_for_patience_is_tried_when_it_said_and_is_charged_with_nothing() -> None:
    story = Story()
    ask(story, called(1, retries=0))
    for _ in range(20):
        assert submitted(later(story, "call0", 10.0)) == []
        assert story.state("call0") is State.WAITING
        assert submitted(story.wait(9.99)) == []
        assert submitted(story.wait(0.01)) == [["call0"]]
    story.done("call0")
    assert isinstance(story.answer("r", "call0"), ev.Ready)
    assert story.ledger.counters["put_off"] == 20
    assert story.ledger.counters["retried"] == 0


def test_a_step_that_does_not_say_when_waits_longer_each_time() -> None:
    story = Story()
    ask(story, called(1))
    pauses = []
    for _ in range(10):
        later(story, "call0", 0.0)
        began = story.now
        story.now = story.ledger.wake_at()
        story.do(ev.Tick())
        pauses.append(story.now - began)
    for n, pause in enumerate(pauses):
        assert min(60.0, 2.0**n) / 2 <= pause <= min(60.0, 2.0**n)


def test_a_step_can_not_be_put_off_for_ever() -> None:
    story = Story(retry_later_seconds=60.0)
    ask(story, called(2))
    for _ in range(6):
        later(story, "call0", 10.0)
        story.wait(10.0)
    later(story, "call0", 10.0)
    failure = story.answer("r", "call0")
    assert not isinstance(failure, ev.Ready)
    assert failure.message == (
        "the service is busy (it was put off 6 times before; a step is tried again later for 60 s in all)"
    )
    later(story, "call1", 3600.0)  # no use in waiting
    assert "put off 0 times" in story.answer("r", "call1").message  # type: ignore[union-attr]


def test_a_step_that_has_run_may_be_put_off_for_as_long_again() -> None:
    story = Story(retry_later_seconds=15.0)
    ask(story, called(1))
    for id in ("a", "b"):
        later(story, "call0", 10.0)
        story.wait(10.0)
        story.done("call0")
        story.ask(id, called(1).steps, refresh=True)
    assert story.ledger.entries["call0"].put_off is None


def test_nobody_waits_for_a_step_that_was_put_off_and_it_is_forgotten() -> None:
    story = Story()
    ask(story, called(1))
    later(story, "call0", 10.0)
    story.leave("r")
    assert "call0" not in story.ledger.entries
    assert submitted(story.wait(20.0)) == []


def test_what_was_fused_behind_a_step_that_is_put_off_waits_with_it() -> None:
    story = Story(pack_seconds=5.0)
    graph = Graph()
    graph.add("below", retries=0)
    graph.add("above", "below", retries=0)
    assert submitted(story.ask("r", graph.steps)) == [["below", "above"]]
    task = story.task_of("below")
    failure = fault("busy", key="below", step="below")
    story.do(
        ev.Reported(
            task.id,
            [
                ev.StepReport("below", kept=False, failure=failure, later=5.0),
                ev.StepReport("above", kept=False, failure=failure),
            ],
        )
    )
    assert submitted(story.wait(4.9)) == []
    assert submitted(story.wait(0.1)) == [["below", "above"]]
    story.done("below", "above")
    assert isinstance(story.answer("r", "above"), ev.Ready)
