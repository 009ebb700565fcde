"""What goes wrong: failures, deaths, losses, callers who leave, purges, reports that come late or twice."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from amber_ray.core.ledger.graph import INPUT_TRIES
from amber_ray.core.model.request import Failure
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import State
from tests.core_kit import (
    Graph,
    Story,
    asset,
    broken,
    chain,
    clip,
    delivered,
    diamond,
    fault,
    keys_of,
    kinds,
    submitted,
)

WARM = {"is_class": True}


def failure(story: Story, id: str, key: str) -> Failure:
    answer = story.answer(id, key)
    assert isinstance(answer, Failure)
    return answer


# --- failures


def test_a_failure_is_told_to_all_who_wait_and_names_the_step_that_failed() -> None:
    story, steps = Story(), diamond(**WARM)
    story.ask("r1", steps, "top", "left")
    story.ask("r2", steps, "right")
    commands = story.fails("root")
    assert sorted(delivered(commands)) == [("r1", "left"), ("r1", "top"), ("r2", "right")]
    assert {failure(story, "r1", k).step for k in ("top", "left")} == {"root"}
    assert failure(story, "r2", "right").key == "root"
    assert sorted(story.finished) == ["r1", "r2"]


def test_a_failed_branch_does_not_stop_the_other_for_who_wants_it_alone() -> None:
    story, steps = Story(), diamond(**WARM)
    story.ask("r1", steps, "top", "right")
    story.done("root")
    story.fails("left")
    assert failure(story, "r1", "top").step == "left"
    assert delivered(story.done("right")) == [("r1", "right")]


@pytest.mark.parametrize(
    ("kind", "seconds"), [("input", 86_400.0), ("feature", 300.0), ("system", 10.0)], ids=lambda x: str(x)
)
def test_a_failure_is_remembered_as_long_as_its_class_says(kind: Any, seconds: float) -> None:
    story, steps = Story(), chain("a", retries=0)
    story.ask("r1", steps)
    story.fails("a", broken(steps["a"], kind))
    story.wait(seconds - 1)
    assert delivered(story.ask("r2", steps)) == [("r2", "a")]
    assert failure(story, "r2", "a").kind == kind
    story.wait(1.5)
    assert story.state("a") is State.ABSENT
    assert submitted(story.ask("r3", steps)) == [["a"]]


def test_a_remembered_failure_below_fails_a_new_request_without_running_anything() -> None:
    story, steps = Story(), chain("a", "b", **WARM)
    story.ask("r1", steps, "a")
    story.fails("a")
    assert kinds(story.ask("r2", steps, "b")) == ["Deliver", "Finished"]
    assert failure(story, "r2", "b").step == "a"


def test_a_failure_whose_time_is_over_is_forgotten_even_before_the_tick() -> None:
    story, steps = Story(), chain("a", "b", **WARM)
    story.ask("r1", steps, "a")
    story.fails("a")
    story.now += 301
    assert submitted(story.ask("r2", steps, "b")) == [["a"]]


def test_in_a_fused_task_only_what_is_behind_the_failure_fails() -> None:
    graph = Graph()
    graph.add("frames", store="never")
    graph.add("bad", "frames")
    graph.add("good", "frames")
    graph.add("behind", "bad")
    story = Story()
    story.ask("r1", graph.steps, "good", "behind")
    story.fails("bad")
    assert story.answer("r1", "good") == ev.Ready(cached=False, seconds=1.0)
    assert failure(story, "r1", "behind").key == "bad"


def failure_now(story: Story, id: str, steps: Any, target: str) -> Any:
    """What a new request is told at once."""
    story.ask(id, steps, target)
    return failure(story, id, target)


# --- retries


def test_a_dead_worker_is_retried_with_a_pause_that_doubles_then_the_step_fails() -> None:
    story, steps = Story(retry_seconds=1.0), chain("a", retries=2)
    story.ask("r1", steps)
    assert story.dies("a") == []
    assert story.wait(0.49) == []
    assert submitted(story.wait(0.51)) == [["a"]]
    story.dies("a")
    assert story.wait(0.99) == []
    assert submitted(story.wait(1.01)) == [["a"]]
    story.dies("a", fault("the node died"))
    told = failure(story, "r1", "a")
    assert (told.kind, told.step, told.key, told.attempts) == ("system", "a", "a", 3)
    assert story.ledger.counters["retried"] == 2


def test_pauses_differ_from_step_to_step_so_that_not_all_come_back_at_once() -> None:
    names = [f"s{i}" for i in range(20)]
    story, graph = Story(retry_seconds=1.0), Graph()
    for name in names:
        graph.add(name)
    story.ask("r1", graph.steps, *names)
    for name in names:
        story.dies(name)  # one CPU each: the next one starts when this one ends
    until = {story.ledger.entries[graph.steps[n].key].until - story.now for n in names}
    assert len(until) == 20
    assert 0.5 <= min(until) < max(until) <= 1.0


def test_a_step_that_kills_its_worker_each_time_is_set_aside_and_says_so() -> None:
    story, steps = Story(retry_seconds=1.0, quarantine_seconds=500.0), chain("a", "b", retries=1, **WARM)
    story.ask("r1", steps, "b")
    story.dies("a", fault("the worker process died"), crashed=True)
    story.wait(1)
    story.dies("a", fault("the worker process died"), crashed=True)
    told = failure(story, "r1", "b")
    assert (told.kind, told.type, told.step, told.attempts) == ("system", "Quarantined", "a", 2)
    assert "each of the 2 times it was tried alone" in told.message
    story.wait(499)
    assert failure_now(story, "r2", steps, "b").type == "Quarantined"
    story.wait(2)
    assert submitted(story.ask("r3", steps, "b")) == [["a"]]


def test_a_batch_that_stood_behind_one_that_crashed_its_actor_is_not_charged() -> None:
    graph = Graph()
    units = [graph.add("f", unit=clip(asset(), i), retries=0, batch=2, **WARM) for i in range(4)]
    story = Story(nodes=[{"CPU": 2.0}], lookahead=0)
    story.ask("r1", graph.steps, *units)
    _, behind = story.ledger.tasks.values()
    again = story.do(ev.TaskLost(behind.id, fault(), started=False))
    assert submitted(again) == [units[2:]]  # together: none of them is suspected
    for _ in range(3):
        story.do(ev.TaskLost(story.task_of(units[2]).id, fault(), started=False))
    assert submitted(story.dies(units[0], crashed=True)) == [[units[0]]]
    story.done(*units[2:])
    assert list(story.told["r1"]) == units[2:]


def test_a_step_that_was_one_of_several_at_its_actor_is_tried_alone_before_it_is_charged() -> None:
    story, steps = Story(), chain("a", retries=0, **WARM)
    story.ask("r1", steps)
    (again,) = story.do(ev.TaskLost(story.task_of("a").id, fault(), crashed=True, shared=True))
    assert isinstance(again, ev.Submit)
    assert again.task.isolated
    story.dies("a", crashed=True)
    assert failure(story, "r1", "a").attempts == 1


def test_refresh_tries_what_was_set_aside() -> None:
    story, steps = Story(), chain("a", retries=1)
    story.ask("r1", steps)
    for _ in range(2):
        story.dies("a", crashed=True)
        story.wait(1)
    assert failure(story, "r1", "a").type == "Quarantined"
    assert submitted(story.ask("r2", steps, refresh=True)) == [["a"]]


def test_one_crash_is_no_habit() -> None:
    story, steps = Story(), chain("a", retries=0)
    story.ask("r1", steps)
    story.dies("a", crashed=True)
    assert failure(story, "r1", "a").type == "SystemFault"


def test_a_success_clears_the_count_of_faults() -> None:
    story, steps = Story(memory_bytes=0), chain("a", retries=1, store="memory")
    for id in ("r1", "r2"):
        story.ask(id, steps)
        story.dies("a")
        story.wait(1)
        story.done("a")
        assert story.answer(id, "a") == ev.Ready(cached=False, seconds=1.0)


def test_a_fault_that_is_final_is_not_retried() -> None:
    story, steps = Story(), chain("a", "b")
    story.ask("r1", steps)
    assert kinds(story.dies("a", retry=False)) == ["Deliver", "Finished"]


def test_a_crash_of_a_fused_task_retries_its_steps_alone_at_once() -> None:
    graph = Graph()
    graph.add("frames", store="never")
    graph.add("look", "frames")
    graph.add("killer", "frames", retries=0)
    story = Story()
    story.ask("r1", graph.steps, "look", "killer")
    assert submitted(story.dies("frames")) == [["frames"]]
    assert submitted(story.done("frames")) == [["look"], ["killer"]]
    assert submitted(story.dies("killer")) == []
    assert failure(story, "r1", "killer").attempts == 1
    assert delivered(story.done("look")) == [("r1", "look")]


def test_a_crash_of_a_packed_task_retries_its_units_alone() -> None:
    graph = Graph()
    units = [graph.add("f", unit=clip(asset(), i)) for i in range(8)]
    story = Story(nodes=[{"CPU": 1.0}], lookahead=0, pack_seconds=10.0, costs={"f": 0.1})
    story.ask("r1", graph.steps, *units)
    assert len(story.task_of(units[0]).steps) == 8
    assert submitted(story.dies(units[0])) == [[units[0]]]
    assert submitted(story.done(units[0])) == [[units[1]]]


def test_a_step_whose_input_was_lost_on_the_way_is_not_to_blame() -> None:
    story, steps = Story(), chain("probe", "look", retries=0)
    steps["probe"].recipe = dataclasses.replace(steps["probe"].recipe, is_class=True)  # a task of its own
    story.ask("r1", steps)
    story.done("probe")
    story.lost("probe")  # its node died
    reading = story.task_of("look")
    story.do(ev.TaskLost(reading.id, fault(type="ObjectLost"), inputs_lost=True))
    story.wait(1)
    assert story.state("probe") is State.RUNNING
    story.done("probe")
    assert delivered(story.done("look")) == [("r1", "look")]


def test_losing_an_input_takes_no_try_from_a_step_beside_one_that_crashes() -> None:
    graph = Graph()
    units = [graph.add("f", unit=clip(asset(), i), retries=0) for i in range(2)]
    busy = graph.add("busy")
    story = Story(nodes=[{"CPU": 1.0}], lookahead=0, pack_seconds=10.0, costs={"f": 0.1})
    story.ask("r1", graph.steps, *units)
    story.ask("r2", graph.steps, busy)
    lost = ev.TaskLost(story.task_of(units[0]).id, fault(type="ObjectLost"), inputs_lost=True)
    assert submitted(story.do(lost)) == [[busy]]
    story.wait(1)  # their pauses end at different moments, and they are in one task again
    assert submitted(story.done(busy)) == [units]
    assert submitted(story.dies(units[0], crashed=True)) == [[units[0]]]
    assert submitted(story.dies(units[0], crashed=True)) == [[units[1]]]
    told = failure(story, "r1", units[0])
    assert (told.type, told.attempts) == ("SystemFault", 2)  # one crash is no habit
    assert delivered(story.done(units[1])) == [("r1", units[1])]


def test_inputs_that_are_lost_each_time_end_it() -> None:
    story, steps = Story(), chain("probe", "look", retries=0)
    steps["probe"].recipe = dataclasses.replace(steps["probe"].recipe, is_class=True)
    story.ask("r1", steps)
    story.done("probe")
    for _ in range(INPUT_TRIES + 1):
        story.do(ev.TaskLost(story.task_of("look").id, fault(type="ObjectLost"), inputs_lost=True))
        story.wait(60)
    assert failure(story, "r1", "look").attempts == INPUT_TRIES + 1


def test_a_system_fault_of_one_step_is_retried_and_the_step_behind_it_is_not_charged() -> None:
    story, steps = Story(), chain("a", "b", retries=1)
    steps["b"].recipe = dataclasses.replace(steps["b"].recipe, retries=0)
    story.ask("r1", steps)
    assert story.fails("a", broken(steps["a"], "system", "out of memory")) == []
    assert [story.state(k) for k in "ab"] == [State.WAITING, State.WAITING]
    assert submitted(story.wait(1)) == [["a", "b"]]
    story.fails("a", broken(steps["a"], "system", "out of memory"))
    assert failure(story, "r1", "b").message == "out of memory"


def test_a_step_that_the_report_leaves_out_is_tried_again() -> None:
    story, steps = Story(), chain("a", "b")
    story.ask("r1", steps)
    task = story.task_of("a")
    story.do(ev.Reported(task.id, [ev.StepReport("a", 100, 1.0)]))
    assert submitted(story.wait(1)) == [["b"]]


def test_a_paused_step_is_not_drawn_into_another_task() -> None:
    story, steps = Story(retry_seconds=10.0), chain("a", "b")
    graph = Graph()
    graph.add("a")
    graph.add("c", "a")
    story.ask("r1", steps, "a")
    story.dies("a")
    assert story.ask("r2", graph.steps, "c") == []
    assert submitted(story.wait(10)) == [["a", "c"]]


# --- late and repeated news


def test_everything_heard_twice_counts_once() -> None:
    story, steps = Story(), chain("a")
    story.ask("r1", steps)
    reported = ev.Reported(story.task_of("a").id, [ev.StepReport("a", 100, 1.0)])
    assert kinds(story.do(reported)) == ["Deliver", "Finished"]
    assert story.do(reported) == []
    assert story.do(ev.TaskLost(reported.task, fault())) == []
    assert keys_of(story.wait(1), ev.Spill) == ["a"]
    story.stored("a")
    for again in (ev.Stored(["a"]), ev.StoreFailed(["a"]), ev.Left("r1"), ev.Restored({"a": 100})):
        assert story.do(again) == []
    assert story.state("a") is State.KEPT
    story.lost("a")
    assert story.lost("a") == []
    assert story.purge("a") == []
    assert story.unreadable("a") == []
    assert story.state("a") is State.ABSENT


def test_the_late_report_of_a_superseded_attempt_is_dropped() -> None:
    story, steps = Story(grace_seconds=1.0), chain("a")
    story.ask("r1", steps)
    first = story.task_of("a").id
    story.leave("r1")
    assert story.wait(2) == [ev.Cancel(first)]
    assert submitted(story.ask("r2", steps)) == [["a"]]
    assert not story.ledger.accepts(first, "a")
    assert story.do(ev.Reported(first, [ev.StepReport("a", 100, 1.0)])) == []
    assert story.state("a") is State.RUNNING
    assert delivered(story.done("a")) == [("r2", "a")]


# --- callers who leave


def test_work_that_nobody_waits_for_is_stopped_after_the_grace_period() -> None:
    story, steps = Story(grace_seconds=2.0), chain("a", "b", **WARM)
    story.ask("r1", steps)
    story.leave("r1")
    assert story.state("b") is State.ABSENT  # not begun: let go at once
    assert story.wait(1.9) == []
    assert story.wait(0.2) == [ev.Cancel(1)]
    assert story.state("a") is State.ABSENT
    assert story.ledger.tasks  # it holds its place until its end is heard
    story.do(ev.TaskLost(1, fault(type="Cancelled"), retry=False))
    assert not story.ledger.tasks


def test_a_caller_who_comes_back_within_the_grace_period_joins_the_run() -> None:
    story, steps = Story(grace_seconds=2.0), chain("a")
    story.ask("r1", steps)
    story.leave("r1")
    story.wait(1)
    assert story.ask("r2", steps) == []
    assert story.wait(10) == []
    assert delivered(story.done("a")) == [("r2", "a")]


def test_who_leaves_again_has_a_whole_grace_period_again() -> None:
    story, steps = Story(grace_seconds=2.0), chain("a")
    story.ask("r1", steps)
    story.leave("r1")
    story.wait(1)
    story.ask("r2", steps)
    story.leave("r2")
    assert story.wait(1.5) == []
    assert story.wait(1) == [ev.Cancel(1)]


def test_the_alarm_of_an_earlier_pause_does_not_end_a_later_one() -> None:
    story, steps = Story(retry_seconds=4.0, grace_seconds=0.0), chain("a")
    story.ask("r1", steps)
    story.dies("a")
    story.leave("r1")
    story.wait(2)
    story.ask("r2", steps)
    story.dies("a")
    assert story.wait(3) == []
    assert submitted(story.wait(2)) == [["a"]]


def test_shared_work_goes_on_when_one_caller_leaves() -> None:
    story, steps = Story(grace_seconds=1.0), chain("a", "b", **WARM)
    story.ask("r1", steps)
    story.ask("r2", steps, "a")
    story.leave("r1")
    assert story.wait(10) == []
    assert delivered(story.done("a")) == [("r2", "a")]


def test_a_fused_task_goes_on_while_someone_wants_a_part_of_it() -> None:
    graph = Graph()
    graph.add("frames", store="never")
    graph.add("look", "frames")
    graph.add("hash", "frames")
    story = Story(grace_seconds=1.0)
    story.ask("r1", graph.steps, "look", "hash")
    story.ask("r2", graph.steps, "hash")
    story.leave("r1")
    assert story.wait(5) == []
    story.leave("r2")
    assert story.wait(0.5) == []
    assert story.wait(1.0) == [ev.Cancel(1)]
    assert not story.ledger.entries


def test_a_lost_task_that_nobody_waits_for_is_not_retried() -> None:
    story = Story()
    story.ask("r1", chain("a"))
    story.leave("r1")
    assert story.dies("a") == []
    assert story.wait(60) == []
    assert not story.ledger.entries


def test_a_deadline_answers_what_is_open_and_the_rest_stands() -> None:
    story, steps = Story(), chain("a", "b", **WARM)
    story.ask("r1", steps, "a", "b", deadline=story.now + 5)
    story.done("a")
    story.wait(6)
    assert story.answer("r1", "a") == ev.Ready(cached=False, seconds=1.0)
    assert (failure(story, "r1", "b").type, failure(story, "r1", "b").status) == ("Expired", 504)
    assert story.finished == ["r1"]


def test_a_deadline_that_has_passed_starts_nothing_but_gives_what_is_there() -> None:
    story, steps = Story(), chain("a", "b", **WARM)
    story.ask("r1", steps, "a")
    story.done("a")
    assert kinds(story.ask("r2", steps, "a", "b", deadline=story.now)) == ["Deliver", "Deliver", "Finished"]
    assert story.answer("r2", "a") == ev.Ready(cached=True, seconds=1.0)
    assert failure(story, "r2", "b").type == "Expired"


# --- assets that move


def elsewhere(steps: dict[str, Any]) -> dict[str, Any]:
    """The same steps, planned after their asset was moved."""
    there = dataclasses.replace(asset(), uri="file:///elsewhere.mp4")
    return {key: dataclasses.replace(step, unit=there) for key, step in steps.items()}


def not_there(key: str) -> Failure:
    return Failure("input", "MediaNotFound", "there is no file:///a.mp4", key, key, "a", 404)


def places(story: Story, key: str) -> list[str]:
    return [step.unit.uri for step in story.task_of(key).steps]  # type: ignore[union-attr]


def test_a_step_that_waits_reads_its_asset_where_the_newest_request_says() -> None:
    story, steps = Story(), chain("root", "top", **WARM)
    story.ask("r1", steps, "top")
    story.ask("r2", elsewhere(steps), "top", located=2.0)
    story.done("root")
    assert places(story, "top") == ["file:///elsewhere.mp4"]
    story.done("top")
    assert {"r1", "r2"} <= set(story.finished)


def test_a_failure_to_find_an_asset_is_forgotten_once_it_is_known_to_be_elsewhere() -> None:
    story, steps = Story(), chain("root", "top", **WARM)
    story.ask("r1", steps, "top")
    story.fails("root", not_there("root"))
    story.ask("r2", steps, "top")
    assert failure(story, "r2", "top").type == "MediaNotFound"
    story.ask("r3", elsewhere(steps), "top", located=2.0)
    assert places(story, "root") == ["file:///elsewhere.mp4"]
    story.done("root")
    story.done("top")
    assert isinstance(story.answer("r3", "top"), ev.Ready)


def test_a_task_that_looked_at_the_old_place_is_tried_again_at_the_new_one() -> None:
    story, steps = Story(), chain("root", "top", **WARM)
    story.ask("r1", steps, "top")
    story.ask("r2", elsewhere(steps), "top", located=2.0)
    story.fails("root", not_there("root"))
    assert places(story, "root") == ["file:///elsewhere.mp4"]
    story.done("root")
    story.done("top")
    assert isinstance(story.answer("r1", "top"), ev.Ready)
