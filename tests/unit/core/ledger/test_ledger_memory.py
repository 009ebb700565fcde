"""Values between memory and Parquet: spill, eviction, loss, refresh, purge."""

from __future__ import annotations

from amber_ray.core.ledger.memory import OVERHEAD
from amber_ray.core.model.request import Failure
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import State
from tests.core_kit import MIB, Graph, Story, asset, broken, chain, clip, delivered, keys_of, kinds, submitted

WARM = {"is_class": True}


def units(count: int) -> Graph:
    """One feature of as many segments."""
    graph = Graph()
    for i in range(count):
        graph.add("f", unit=clip(asset(), i))
    return graph


# --- spill and eviction


def test_values_are_written_together_after_a_short_while() -> None:
    graph, story = units(3), Story(spill_seconds=0.5)
    keys = list(graph.steps)
    story.ask("r1", graph.steps, *keys)
    for key in keys:
        assert keys_of(story.done(key), ev.Spill) == []
        story.wait(0.1)
    assert story.wait(0.5) == [ev.Spill(tuple(keys))]
    assert story.stored(*keys) == []
    assert {story.state(k) for k in keys} == {State.KEPT}


def test_enough_bytes_are_written_at_once() -> None:
    graph, story = units(3), Story(spill_bytes=2 * MIB, sizes=MIB)
    keys = list(graph.steps)
    story.ask("r1", graph.steps, *keys)
    assert keys_of(story.done(keys[0]), ev.Spill) == []
    assert keys_of(story.done(keys[1]), ev.Spill) == keys[:2]


def test_over_budget_a_value_leaves_memory_only_after_its_write() -> None:
    story, steps = Story(memory_bytes=1000, sizes=5000), chain("a")
    story.ask("r1", steps)
    commands = story.done("a")
    assert kinds(commands) == ["Deliver", "Finished", "Spill"]
    assert story.state("a") is State.HOT
    assert story.stored("a") == [ev.Drop(("a",))]
    assert story.state("a") is State.COLD
    assert story.ledger.hot_bytes == 0
    assert story.ask("r2", steps) == [ev.Restore(("a",))]
    assert kinds(story.restored("a")) == ["Deliver", "Finished", "Drop"]  # told first, dropped after


def test_a_write_that_fails_loses_nothing_and_is_tried_again_after_a_pause() -> None:
    story, steps = Story(memory_bytes=1000, sizes=5000), chain("a")
    story.ask("r1", steps)
    story.done("a")
    assert story.store_failed("a") == []
    assert story.wait(0.9) == []
    assert story.wait(0.2) == [ev.Spill(("a",))]
    assert delivered(story.ask("r2", steps)) == [("r2", "a")]
    assert keys_of(story.stored("a"), ev.Drop) == ["a"]


def test_the_value_that_is_cheapest_to_have_back_goes_first() -> None:
    graph = Graph()
    for name in ("cheap", "dear", "more"):
        graph.add(name, store="memory", **WARM)
    story = Story(memory_bytes=2 * (1000 + OVERHEAD), sizes=1000)
    story.ask("r1", graph.steps, "cheap", "dear", "more")
    story.done("dear", seconds=60.0)
    story.done("cheap", seconds=0.1)
    assert keys_of(story.done("more", seconds=1.0), ev.Drop) == ["cheap"]


def test_a_value_that_a_step_is_about_to_read_stays_though_memory_is_over_budget() -> None:
    graph = Graph()
    graph.add("a", **WARM)
    graph.add("b", **WARM)
    graph.add("c", "a", "b", **WARM)
    story = Story(memory_bytes=100, sizes=5000)
    story.ask("r1", graph.steps, "c")
    story.done("a")
    assert story.stored("a") == []
    assert story.state("a") is State.KEPT
    story.done("b")
    assert keys_of(story.stored("b"), ev.Drop) == []
    assert keys_of(story.done("c"), ev.Drop) == ["b", "a"]


def test_an_evictable_value_that_a_step_comes_to_need_is_no_longer_evictable() -> None:
    graph = Graph()
    graph.add("a", **WARM)
    graph.add("b", **WARM)
    graph.add("c", "a", "b", **WARM)
    story = Story(memory_bytes=7000, sizes=5000)
    story.ask("r1", graph.steps, "a")
    story.done("a")
    story.wait(1)
    story.stored("a")
    story.ask("r2", graph.steps, "c")
    story.done("b")
    assert keys_of(story.stored("b"), ev.Drop) == []  # over budget, and both are about to be read
    assert set(keys_of(story.done("c"), ev.Drop)) == {"a", "b"}


def test_far_over_budget_new_tasks_wait_for_the_writes() -> None:
    graph, story = units(9), Story(memory_bytes=1000, sizes=5000, lookahead=0)
    keys = list(graph.steps)
    story.ask("r1", graph.steps, *keys)
    assert submitted(story.done(keys[0])) == []
    story.store_failed(keys[0])
    assert submitted(story.wait(1)) == []
    assert submitted(story.stored(keys[0])) == [[keys[4]]]


def test_what_is_computed_during_a_write_is_written_together_after_it() -> None:
    graph, story = units(3), Story(memory_bytes=1000, sizes=600, spill_seconds=60.0)
    keys = list(graph.steps)
    story.ask("r1", graph.steps, *keys)
    assert keys_of(story.done(keys[0]), ev.Spill) == [keys[0]]
    assert keys_of(story.done(keys[1]), ev.Spill) == []
    assert keys_of(story.done(keys[2]), ev.Spill) == []
    assert keys_of(story.stored(keys[0]), ev.Spill) == keys[1:]


# --- lost


def test_a_lost_value_that_nobody_needs_is_forgotten() -> None:
    story, steps = Story(), chain("a")
    story.ask("r1", steps)
    story.done("a")
    assert story.lost("a") == [ev.Drop(("a",))]
    assert submitted(story.ask("r2", steps)) == [["a"]]


def test_a_lost_value_that_is_written_is_read_back_for_the_step_that_waits() -> None:
    graph = Graph()
    graph.add("a", **WARM)
    graph.add("b", **WARM)
    graph.add("c", "a", "b", **WARM)
    story = Story()
    story.ask("r1", graph.steps, "c")
    story.done("a")
    story.wait(1)
    story.stored("a")
    assert story.lost("a") == [ev.Restore(("a",)), ev.Drop(("a",))]
    story.done("b")
    assert submitted(story.restored("a")) == [["c"]]


def test_a_lost_unwritten_value_is_recomputed_once_for_all_who_have_not_read_it() -> None:
    graph = Graph()
    graph.add("a", **WARM)
    graph.add("slow", **WARM)
    graph.add("reading", "a", **WARM)
    graph.add("queued", "a", **WARM)
    graph.add("waiting", "a", "slow", **WARM)
    story = Story(nodes=[{"CPU": 2.0}], lookahead=0)
    story.ask("r1", graph.steps, "a")
    story.done("a")
    story.ask("r2", graph.steps, "slow", "reading", "queued", "waiting")
    assert story.state("reading") is State.RUNNING
    assert story.state("queued") is State.QUEUED
    assert story.lost("a") == [ev.Drop(("a",))]
    assert [story.state(k) for k in ("a", "queued", "waiting")] == [
        State.QUEUED,
        State.WAITING,
        State.WAITING,
    ]
    assert submitted(story.done("reading")) == [["a"]]  # it had the value in hand
    assert submitted(story.done("a")) == [["queued"]]
    assert submitted(story.done("slow")) == [["waiting"]]


def test_a_task_whose_input_was_lost_is_retried_after_the_input() -> None:
    story, steps = Story(), chain("a", "b", **WARM)
    story.ask("r1", steps)
    story.done("a")
    story.lost("a")
    assert story.state("a") is State.ABSENT  # the running task may have it; if not, it says so
    story.dies("b")
    assert submitted(story.wait(1)) == [["a"]]
    assert submitted(story.done("a")) == [["b"]]
    assert delivered(story.done("b")) == [("r1", "b")]


def test_a_recomputed_value_is_as_urgent_as_those_who_wait_now() -> None:
    graph = Graph()
    graph.add("a", **WARM)
    graph.add("slow", **WARM)
    graph.add("b", "a", "slow", **WARM)
    story = Story()
    story.ask("r1", graph.steps, "a", priority=2)
    story.done("a")
    story.ask("r2", graph.steps, "b", priority=0)
    story.lost("a")
    assert story.ledger.entries["a"].rank[0] == 0


# --- refresh


def test_a_refresh_recomputes_the_target_and_reuses_what_is_under_it() -> None:
    story, steps = Story(), chain("a", "b", **WARM)
    story.ask("r1", steps)
    story.done("a")
    story.done("b")
    commands = story.ask("r2", steps, refresh=True)
    assert keys_of(commands, ev.Drop) == ["b"]
    assert submitted(commands) == [["b"]]
    assert delivered(story.done("b")) == [("r2", "b")]


def test_a_refresh_of_a_cold_value_does_not_read_the_old_one() -> None:
    story = Story(stored=["a"])
    assert submitted(story.ask("r1", chain("a"), refresh=True)) == [["a"]]


def test_a_refresh_while_the_old_value_is_read_serves_all_with_the_new_one() -> None:
    story, steps = Story(stored=["a"]), chain("a")
    story.ask("r1", steps)
    assert submitted(story.ask("r2", steps, refresh=True)) == [["a"]]
    assert story.restored("a") == [ev.Drop(("a",))]  # too late
    assert delivered(story.done("a")) == [("r1", "a"), ("r2", "a")]


def test_a_refresh_forgets_failures_under_it() -> None:
    story, steps = Story(), chain("a", "b", "c", **WARM)
    story.ask("r1", steps)
    story.fails("a", broken(steps["a"], "input"))
    assert submitted(story.ask("r2", steps, refresh=True)) == [["a"]]


def test_a_refresh_joins_a_run_in_flight() -> None:
    story, steps = Story(), chain("a")
    story.ask("r1", steps)
    assert story.ask("r2", steps, refresh=True) == []
    assert delivered(story.done("a")) == [("r1", "a"), ("r2", "a")]


def test_the_end_of_an_old_write_says_nothing_of_a_refreshed_value() -> None:
    story, steps = Story(memory_bytes=1000, sizes=5000), chain("a")
    story.ask("r1", steps)
    assert keys_of(story.done("a"), ev.Spill) == ["a"]
    story.ask("r2", steps, refresh=True)
    assert keys_of(story.done("a"), ev.Spill) == []  # one writer a key at a time
    commands = story.stored("a")  # the first write
    assert (keys_of(commands, ev.Spill), keys_of(commands, ev.Drop)) == (["a"], [])
    assert story.state("a") is State.HOT
    assert keys_of(story.stored("a"), ev.Drop) == ["a"]


# --- purge


def test_a_purged_value_is_recomputed_when_asked_for() -> None:
    story, steps = Story(), chain("a")
    story.ask("r1", steps)
    story.done("a")
    story.wait(1)
    story.stored("a")
    assert story.purge("a") == [ev.Drop(("a",))]
    assert submitted(story.ask("r2", steps)) == [["a"]]


def test_a_purge_forgets_a_failure() -> None:
    story, steps = Story(), chain("a")
    story.ask("r1", steps)
    story.fails("a")
    story.purge("a")
    assert submitted(story.ask("r2", steps)) == [["a"]]


def test_a_value_purged_while_a_step_waits_to_read_it_is_made_anew_for_it() -> None:
    graph = Graph()
    graph.add("a", **WARM)
    graph.add("b", **WARM)
    graph.add("c", "a", "b", **WARM)
    story = Story()
    story.ask("r1", graph.steps, "c")
    story.done("a")
    commands = story.purge("a")
    assert keys_of(commands, ev.Drop) == ["a"]
    assert submitted(commands) == [["a"]]
    story.done("b")
    assert submitted(story.done("a")) == [["c"]]


def test_a_purge_does_not_disturb_a_task_that_has_the_value_in_hand() -> None:
    story, steps = Story(), chain("a", "b", **WARM)
    story.ask("r1", steps)
    story.done("a")
    assert story.purge("a") == [ev.Drop(("a",))]
    assert delivered(story.done("b")) == [("r1", "b")]
    assert story.state("a") is State.ABSENT


def test_a_value_purged_while_it_is_read_back_is_recomputed() -> None:
    story, steps = Story(stored=["a"]), chain("a")
    story.ask("r1", steps)
    assert submitted(story.purge("a")) == [["a"]]
    assert story.restored("a") == [ev.Drop(("a",))]
    assert delivered(story.done("a")) == [("r1", "a")]


def test_what_is_being_computed_is_newer_than_the_purge() -> None:
    story, steps = Story(), chain("a")
    story.ask("r1", steps)
    assert story.purge("a") == []
    assert delivered(story.done("a")) == [("r1", "a")]


def test_a_purged_value_that_is_being_written_stays_forgotten() -> None:
    story, steps = Story(), chain("a")
    story.ask("r1", steps)
    story.done("a")
    story.wait(1)
    story.purge("a")
    assert story.do(ev.Stored(["a"])) == []
    assert story.state("a") is State.ABSENT
    assert not isinstance(story.answer("r1", "a"), Failure)
