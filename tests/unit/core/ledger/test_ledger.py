"""Requests and the graph: these events, exactly these commands. `core_kit.Story` checks every invariant."""

from __future__ import annotations

import pytest

from amber_ray.core.declare.feature import Resources
from amber_ray.core.ledger import story as stories
from amber_ray.core.model.request import Failure
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import Cause, IllegalTransition, State
from tests.core_kit import (
    Graph,
    Story,
    asset,
    chain,
    clip,
    delivered,
    diamond,
    keys_of,
    submitted,
)

WARM = {"is_class": True}  # a warm actor's steps are never fused with others


# --- one flight


def test_two_requests_for_one_key_run_it_once_and_both_are_answered() -> None:
    story, steps = Story(), chain("a")
    assert submitted(story.ask("r1", steps)) == [["a"]]
    assert story.ask("r2", steps) == []
    commands = story.done("a", seconds=2.0)
    answer = ev.Ready(cached=False, seconds=2.0)
    assert commands == [
        ev.Deliver("r1", "a", answer),
        ev.Finished("r1"),
        ev.Deliver("r2", "a", answer),
        ev.Finished("r2"),
    ]
    assert story.ledger.counters["joined"] == 1
    assert story.ledger.counters["computed"] == 1


def test_a_value_in_memory_is_a_hit() -> None:
    story, steps = Story(), chain("a")
    story.ask("r1", steps)
    story.done("a", seconds=2.0)
    assert story.ask("r2", steps) == [
        ev.Deliver("r2", "a", ev.Ready(cached=True, seconds=2.0)),
        ev.Finished("r2"),
    ]


def test_a_request_without_targets_is_finished_at_once() -> None:
    story = Story()
    assert story.do(ev.Requested("r1", {}, ())) == [ev.Finished("r1")]


def test_a_target_named_twice_is_answered_once() -> None:
    story, steps = Story(), chain("a")
    story.ask("r1", steps, "a", "a")
    assert delivered(story.done("a")) == [("r1", "a")]
    assert delivered(story.ask("r2", steps, "a", "a")) == [("r2", "a")]


def test_a_request_id_that_is_live_is_refused_and_nothing_changes() -> None:
    story, steps = Story(), chain("a")
    story.ask("r1", steps)
    with pytest.raises(ValueError, match="already live"):
        story.ask("r1", steps)
    with pytest.raises(ValueError, match="priority must be 0, 1 or 2, not 3"):
        story.ask("r2", steps, priority=3)
    assert delivered(story.done("a")) == [("r1", "a")]


def test_a_finished_id_may_come_again_and_an_old_deadline_does_not_end_it() -> None:
    story, steps = Story(), chain("a")
    story.ask("r1", steps, deadline=story.now + 5)
    story.leave("r1")
    story.wait(1)
    story.ask("r1", steps, deadline=story.now + 60)
    story.wait(10)
    assert delivered(story.done("a")) == [("r1", "a")]


# --- cold values and pruning


def test_a_cold_value_is_read_back_once_for_all_who_ask() -> None:
    story, steps = Story(stored=["a"]), chain("a")
    assert story.ask("r1", steps) == [ev.Restore(("a",))]
    assert story.ask("r2", steps) == []
    assert story.state("a") is State.RESTORING
    assert delivered(story.restored("a")) == [("r1", "a"), ("r2", "a")]
    assert story.state("a") is State.KEPT


def test_cold_targets_of_one_request_are_read_back_together() -> None:
    graph = Graph()
    keys = [graph.add("f", unit=clip(asset(), i)) for i in range(3)]
    story = Story(stored=keys)
    assert story.ask("r1", graph.steps, *keys) == [ev.Restore(tuple(keys))]


def test_a_stored_leaf_prunes_everything_under_it() -> None:
    story, steps = Story(stored=["c"]), chain("a", "b", "c")
    assert story.ask("r1", steps) == [ev.Restore(("c",))]
    story.restored("c")
    assert story.ledger.entries.keys() == {"c"}


def test_a_stored_input_prunes_what_is_under_it() -> None:
    story, steps = Story(stored=["b"]), chain("a", "b", "c")
    assert story.ask("r1", steps) == [ev.Restore(("b",))]
    assert submitted(story.restored("b")) == [["c"]]


def test_a_backfill_does_not_load_what_is_stored() -> None:
    story, steps = Story(stored=["a"]), chain("a")
    assert story.ask("r1", steps, load=False) == [
        ev.Deliver("r1", "a", ev.Ready(cached=True)),
        ev.Finished("r1"),
    ]
    assert story.state("a") is State.COLD


def test_a_value_that_cannot_be_read_back_is_recomputed_with_all_that_is_under_it() -> None:
    story, steps = Story(stored=["c"]), chain("a", "b", "c")
    story.ask("r1", steps)
    assert submitted(story.unreadable("c")) == [["a", "b", "c"]]
    assert delivered(story.done("a", "b", "c")) == [("r1", "c")]


def test_nobody_waits_any_more_for_a_value_that_cannot_be_read() -> None:
    story = Story(stored=["b"])
    story.ask("r1", chain("a", "b"))
    story.leave("r1")
    assert story.unreadable("b") == []
    assert story.state("b") is State.ABSENT


def test_a_read_that_nobody_waits_for_any_more_still_serves_the_next() -> None:
    story, steps = Story(stored=["a"]), chain("a")
    story.ask("r1", steps)
    story.leave("r1")
    assert story.ask("r2", steps, priority=0) == []
    assert delivered(story.restored("a")) == [("r2", "a")]


# --- the graph


def test_a_diamond_runs_each_node_once() -> None:
    story = Story()
    assert submitted(story.ask("r1", diamond(**WARM))) == [["root"]]
    assert submitted(story.done("root")) == [["left"], ["right"]]
    assert submitted(story.done("left")) == []
    assert submitted(story.done("right")) == [["top"]]
    assert delivered(story.done("top")) == [("r1", "top")]
    assert story.ledger.counters["computed"] == 4


def test_a_second_leaf_over_a_diamond_in_flight_shares_its_nodes() -> None:
    graph = Graph()
    graph.add("root", **WARM)
    graph.add("left", "root", **WARM)
    graph.add("right", "root", **WARM)
    graph.add("other", "left", "right", **WARM)
    story = Story()
    story.ask("r1", diamond(**WARM))
    story.done("root")
    assert story.ask("r2", graph.steps) == []
    story.done("left")
    assert submitted(story.done("right")) == [["top"], ["other"]]


def test_steps_of_one_unit_are_fused_and_a_never_stored_root_stays_inside() -> None:
    graph = Graph()
    graph.add("frames", store="never")
    graph.add("look", "frames")
    graph.add("hash", "frames")
    story = Story()
    (command,) = story.ask("r1", graph.steps, "look", "hash")
    assert isinstance(command, ev.Submit)
    assert [s.key for s in command.task.steps] == ["frames", "look", "hash"]
    assert command.task.outputs == {"look", "hash"}
    story.done("frames", "look", "hash")
    assert story.state("frames") is State.ABSENT


def test_a_never_stored_value_that_was_made_in_passing_is_recomputed_when_asked_for() -> None:
    graph = Graph()
    graph.add("frames", store="never")
    graph.add("look", "frames")
    story = Story()
    story.ask("r1", graph.steps)
    story.done("frames", "look")
    assert submitted(story.ask("r2", graph.steps, "frames")) == [["frames"]]
    story.done("frames")
    assert delivered(story.ask("r3", graph.steps, "frames")) == [
        ("r3", "frames")
    ]  # it was asked for: it stays


def test_who_comes_while_a_never_stored_value_is_made_in_passing_gets_it_made_again() -> None:
    graph = Graph()
    graph.add("frames", store="never")
    graph.add("look", "frames")
    graph.add("embed", "frames", **WARM)
    story = Story()
    story.ask("r1", graph.steps, "look")
    assert story.ask("r2", graph.steps, "embed") == []
    story.ask("r3", graph.steps, "frames")
    assert submitted(story.done("frames", "look")) == [["frames"]]
    assert story.task_of("frames").outputs == {"frames"}
    assert submitted(story.done("frames")) == [["embed"]]
    story.done("embed")
    assert story.state("frames") is State.HOT  # r3 was told that it is there


def test_a_transient_value_goes_when_its_last_reader_is_done() -> None:
    story, steps = Story(), chain("frames", "embed", store="never", **WARM)
    story.ask("r1", steps)
    story.done("frames")
    assert story.state("frames") is State.HOT
    assert keys_of(story.done("embed"), ev.Drop) == ["frames"]


def test_a_deep_graph_of_settled_values_keeps_no_plan_alive() -> None:
    story = Story()
    story.ask("r1", chain("a", "b"))
    story.done("a", "b")
    assert [e.origin for e in story.ledger.entries.values()] == [None, None]


def test_progress_counts_what_a_request_brought_about() -> None:
    story, steps = Story(), chain("a", "b", "c", **WARM)
    story.ask("r1", steps)
    assert story.ledger.progress("r1") == (0, 3)
    story.done("a")
    assert story.ledger.progress("r1") == (1, 3)
    story.ask("r2", steps, "a", "c")
    assert story.ledger.progress("r2") == (1, 2)


# --- missing resources


def test_a_resource_that_no_node_has_fails_the_request_at_once_by_name() -> None:
    story = Story()
    steps = chain("embed", "mean", resources=Resources(num_gpus=1))
    (answer, finished) = story.ask("r1", steps)
    assert isinstance(answer, ev.Deliver)
    assert isinstance(answer.outcome, Failure)
    assert answer.outcome.type == "MissingResource"
    assert answer.outcome.step == "mean"
    assert answer.outcome.message.startswith("feature 'mean' requires 1 GPU, but the largest node")
    assert finished == ev.Finished("r1")


def test_a_missing_resource_below_names_the_step_that_lacks_it() -> None:
    graph = Graph()
    graph.add("embed", resources=Resources(num_gpus=1))
    graph.add("mean", "embed")
    graph.add("other", "embed")
    story = Story()
    story.ask("r1", graph.steps, "mean", "other")
    failures = story.told["r1"]
    assert {f.step for f in failures.values() if isinstance(f, Failure)} == {"embed"}
    assert story.finished == ["r1"]


def test_an_illegal_transition_tells_the_story_of_its_key() -> None:
    told = Story()
    told.ask("r", chain("a", "b", **WARM))
    told.now += 1
    told.done("a")
    told.ask("s", chain("z"))
    told.ledger.entries["b"].state = State.HOT  # as a fault of the core would have it
    with pytest.raises(IllegalTransition) as caught:
        told.done("b")
    message, event, *about = str(caught.value).splitlines()
    assert message == "b b: no way from HOT by DONE"
    assert event.startswith("in Reported(task=2, reports=[StepReport(key='b', bytes=100")
    assert event.endswith("at 1001.0")
    key, need, *lines = about
    assert key.startswith("b b of a is HOT: task 0, ")
    assert "waiters (r)" in key
    assert need.startswith("a a of a is HOT: ")
    assert lines == [
        "1000.0 Requested: b NEED (WAITING), a NEED (WAITING), a READY (QUEUED), a START (RUNNING)",
        "1001.0 Reported: a DONE (HOT), b READY (QUEUED), b START (RUNNING)",
    ]


def test_a_story_goes_back_as_far_as_the_ring() -> None:
    ring = stories.Story()
    for i in range(2 * stories.KEPT):
        ring.note(ev.Tick)
        ring.note(float(i))
        for key in ("a", "b", "c"):
            ring.note(key)
            ring.note(Cause.RETRY if i % 2 else Cause.LOSE)
    lines = ring.of({"a", "c"})
    assert len(lines) == stories.TOLD
    last = 2 * stories.KEPT - 1
    assert lines[-1] == f"{float(last)} Tick: a RETRY (WAITING), c RETRY (WAITING)"
    assert lines[-2] == f"{float(last - 1)} Tick: a LOSE (WAITING/COLD), c LOSE (WAITING/COLD)"
    assert ring.of({"d"}) == []


def test_what_a_ring_has_of_an_event_that_fell_out_of_it_is_told_as_earlier() -> None:
    ring = stories.Story()
    ring.note(ev.Tick)
    ring.note(0.0)
    for i in range(stories.KEPT):
        ring.note("a" if i == stories.KEPT - 1 else "b")
        ring.note(Cause.NEED)
    assert ring.of({"a"}) == ["earlier: a NEED (WAITING)"]


# --- versions whose code is not here


def test_what_can_not_run_is_read_or_fails_and_that_is_not_remembered() -> None:
    gone = Graph()
    gone.add("old", gone="old@1 is not stored")
    story = Story(stored=["old"])
    story.ask("a", gone.steps)
    story.restored("old")
    assert isinstance(story.answer("a", "old"), ev.Ready)
    story.purge("old")
    story.ask("b", gone.steps)
    failure = story.answer("b", "old")
    assert isinstance(failure, Failure)
    assert (failure.type, failure.status, failure.kind) == ("VersionGone", 410, "input")
    assert failure.message == "old@1 is not stored"
    # Somebody who has the code makes it, also while it is being read for one who has not.
    has = Graph()
    has.add("old")
    assert submitted(story.ask("c", has.steps)) == [["old"]]
    story = Story(stored=["old"])
    story.ask("a", gone.steps)
    story.ask("b", has.steps)
    assert submitted(story.unreadable("old")) == [["old"]]
