"""Other shards, and a cluster whose nodes come and go."""

from __future__ import annotations

from amber_ray.core.declare.feature import Resources
from amber_ray.core.model.request import Failure
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import State
from tests.core_kit import GPU_NODE, NODE, Graph, Story, asset, chain, clip, keys_of, kinds, submitted

# --- other shards


def test_steps_of_another_shard_are_asked_for_in_one_question() -> None:
    graph = Graph()
    films = [graph.add("film", unit=asset(f"a{i}"), home=i % 2) for i in range(4)]
    graph.add("match", *films)
    story = Story(nodes=[{"CPU": 8.0}])
    commands = story.ask("r1", graph.steps, tenant="t", priority=1)
    asked = [c.task for c in commands if isinstance(c, ev.Submit) and c.task.home is not None]
    assert [([s.key for s in t.steps], t.home, t.tenant, t.priority) for t in asked] == [
        (["film@a1", "film@a3"], 1, "t", 1)
    ]
    assert submitted(commands)[1:] == [["film@a0"], ["film@a2"]]
    story.done("film@a0")
    story.done("film@a2")
    assert submitted(story.done("film@a1", "film@a3")) == [["match"]]


def test_a_borrowed_value_is_not_written_and_goes_when_it_was_read() -> None:
    graph = Graph()
    graph.add("film", unit=asset("far"), home=1)
    graph.add("match", "film@far")
    story = Story()
    story.ask("r1", graph.steps)
    story.done("film@far")
    commands = story.done("match")
    assert keys_of(commands, ev.Drop) == ["film@far"]
    assert keys_of(story.wait(10), ev.Spill) == ["match"]


def test_the_failure_of_another_shard_is_final_and_a_lost_question_is_asked_again() -> None:
    graph = Graph()
    graph.add("film", unit=asset("far"), home=1, retries=0)
    graph.add("match", "film@far")
    story = Story()
    story.ask("r1", graph.steps)
    assert story.dies("film@far") == []
    assert submitted(story.wait(1)) == [["film@far"]]
    failure = Failure(
        "system", "SystemFault", "out of memory", "frames", "frames@far", "far", 503, attempts=3
    )
    commands = story.fails("film@far", failure)
    assert kinds(commands) == ["Deliver", "Finished"]
    assert story.answer("r1", "match") == failure


def test_questions_of_different_classes_are_not_mixed() -> None:
    graph = Graph()
    graph.add("film", unit=asset("x"), home=1)
    graph.add("film", unit=asset("y"), home=1)
    story = Story()
    story.ask("r1", graph.steps, "film@x", priority=0)
    story.ask("r2", graph.steps, "film@y", priority=2)
    story.dies("film@x")
    story.dies("film@y")
    (first, second) = story.wait(1)  # jitter decides which pause ends first
    assert isinstance(first, ev.Submit)
    assert isinstance(second, ev.Submit)
    assert {first.task.priority, second.task.priority} == {0, 2}


# --- the cluster changes


def test_queued_gpu_steps_fail_by_name_when_the_last_gpu_node_leaves() -> None:
    graph = Graph()
    keys = [graph.add("f", unit=clip(asset(), i), resources=Resources(num_gpus=1)) for i in range(4)]
    graph.add("mean", *keys)
    story = Story(nodes=[GPU_NODE], lookahead=1)
    story.ask("r1", graph.steps, *keys, "mean")
    running = {t.steps[0].key for t in story.ledger.tasks.values()}
    assert len(running) == 2
    commands = story.nodes(NODE)
    assert kinds(commands).count("Cancel") == 2  # they would pend for ever
    for failure in story.told["r1"].values():
        assert isinstance(failure, Failure)
        assert (failure.type, failure.step) == ("MissingResource", "f")
    assert story.told["r1"].keys() == {*keys, "mean"}


def test_queued_steps_that_prefer_a_gpu_move_to_cpu_and_back_with_the_nodes() -> None:
    graph = Graph()
    wish = Resources(num_gpus=1, gpu="preferred")
    keys = [graph.add("f", unit=clip(asset(), i), resources=wish, is_class=True) for i in range(12)]
    story = Story(nodes=[NODE], lookahead=0)
    story.ask("r1", graph.steps, *keys)
    assert [t.needs for t in story.ledger.tasks.values()] == [{"CPU": 1.0}] * 4
    assert story.nodes(NODE, {**GPU_NODE, "CPU": 1.0}) != []
    assert story.tasks[5].needs == {"CPU": 1.0, "GPU": 1.0}
    commands = story.nodes(NODE)
    assert kinds(commands).count("Cancel") == 1
    key = story.tasks[5].steps[0].key
    assert story.state(key) is State.QUEUED  # again, as a CPU step


def test_an_unchanged_cluster_changes_nothing() -> None:
    story = Story()
    story.ask("r1", chain("a"))
    assert story.nodes(NODE) == []
