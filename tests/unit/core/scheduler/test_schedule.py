"""Which ready steps form the next task, told through the ledger where that is how it is seen."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from amber_ray.core.declare.feature import Resources
from amber_ray.core.model.request import Failure
from amber_ray.core.model.units import Segment
from amber_ray.core.scheduler.capacity import Capacity
from amber_ray.core.scheduler.costs import Costs, Means, length_class
from amber_ray.core.scheduler.queues import Tenants
from amber_ray.core.scheduler.schedule import MAX_UNITS
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import State
from tests.core_kit import GPU_NODE, NODE, Graph, Story, asset, chain, clip, recipe, submitted

ONE = {"CPU": 1.0}
WARM = {"is_class": True}


def units(count: int, feature: str = "f", **changes: object) -> Graph:
    """One feature of as many segments."""
    graph = Graph()
    for i in range(count):
        graph.add(feature, unit=clip(asset(), i), **changes)
    return graph


def running(story: Story) -> list[str]:
    return [s.key for t in story.ledger.tasks.values() for s in t.steps]


# --- admission


def test_no_more_is_handed_over_than_the_cluster_runs_and_a_small_look_ahead() -> None:
    graph, story = units(10), Story(nodes=[NODE], lookahead=2)
    story.ask("r1", graph.steps, *graph.steps)
    assert len(running(story)) == 6
    assert len(submitted(story.done(running(story)[0]))) == 1
    assert len(running(story)) == 6


def test_features_that_hold_no_cpu_are_bounded_too() -> None:
    graph, story = units(500, resources=Resources(num_cpus=0)), Story(nodes=[ONE], lookahead=0)
    story.ask("r1", graph.steps, *graph.steps)
    assert len(running(story)) == 100


def test_fractions_of_a_gpu_are_counted() -> None:
    graph = units(9, resources=Resources(num_gpus=0.5))
    story = Story(nodes=[{**GPU_NODE, "CPU": 16.0, "GPU": 2.0}], lookahead=0)
    story.ask("r1", graph.steps, *graph.steps)
    assert len(running(story)) == 4


def test_a_full_gpu_does_not_hold_up_cpu_steps() -> None:
    graph = units(3, "g", resources=Resources(num_gpus=1), **WARM)
    cheap = graph.add("f", unit=clip(asset(), 0))
    story = Story(nodes=[GPU_NODE], lookahead=0)
    story.ask("r1", graph.steps, *graph.steps)
    assert running(story) == ["g@a@0+10000000", cheap]


def test_before_the_cluster_is_known_only_the_look_ahead_is_handed_over() -> None:
    graph, story = units(9), Story(nodes=[], lookahead=2)
    story.ask("r1", graph.steps, *graph.steps)
    assert len(running(story)) == 2
    assert len(submitted(story.nodes({"CPU": 4.0}))) == 4


def test_what_an_autoscaler_can_add_waits_for_it_instead_of_failing() -> None:
    story = Story(lookahead=1)
    story.nodes(NODE, GPU=8.0, CPU=32.0)
    story.ask("r1", chain("g", resources=Resources(num_gpus=4)))
    assert running(story) == ["g"]  # the look-ahead is the demand that the autoscaler sees


# --- order


def test_an_urgent_class_overtakes() -> None:
    graph, story = units(4), Story(nodes=[ONE], lookahead=0)
    a, b, c, d = graph.steps
    story.ask("r1", graph.steps, a, b, priority=0)
    story.ask("r2", graph.steps, c, priority=1)
    story.ask("r3", graph.steps, d, priority=2)
    assert [submitted(story.done(k)) for k in (a, d, c)] == [[[d]], [[c]], [[b]]]


def test_within_a_class_the_nearer_deadline_goes_first_and_none_goes_last() -> None:
    graph, story = units(4), Story(nodes=[ONE], lookahead=0)
    a, b, c, d = graph.steps
    story.ask("r1", graph.steps, a)
    story.ask("r2", graph.steps, b)
    story.ask("r3", graph.steps, c, deadline=story.now + 60)
    story.ask("r4", graph.steps, d, deadline=story.now + 30)
    assert [submitted(story.done(k)) for k in (a, d, c)] == [[[d]], [[c]], [[b]]]


def test_an_urgent_caller_lends_its_rank_to_all_that_it_waits_for_and_takes_it_back() -> None:
    graph = Graph()
    first, other, below = (graph.add("f", unit=clip(asset(), i)) for i in range(3))
    top = graph.add("top", below, **WARM)
    story = Story(nodes=[ONE], lookahead=0)
    story.ask("r1", graph.steps, first, other, below, priority=0)
    story.ask("r2", graph.steps, top, priority=2)
    assert story.ledger.entries[below].rank == (2, float("-inf"))
    story.leave("r2")
    assert story.ledger.entries[below].rank == (0, float("-inf"))
    story.ask("r3", graph.steps, top, priority=1)
    assert submitted(story.done(first)) == [[below]]


def test_a_tenant_with_a_thousand_steps_does_not_hold_up_one_with_few() -> None:
    graph, story = units(40), Story(nodes=[ONE], lookahead=0, costs={"f": 1.0})
    keys = list(graph.steps)
    story.ask("r1", graph.steps, *keys[:30], tenant="big")
    story.ask("r2", graph.steps, *keys[30:34], tenant="small")
    turns = []
    for _ in range(8):
        key = running(story)[0]
        turns.append(story.ledger.entries[key].tenant)
        story.done(key)
    assert turns.count("small") == 4


def test_a_tenant_who_was_away_does_not_own_the_cluster_when_it_comes_back() -> None:
    tenants = Tenants()
    tenants.queued("stays")
    for _ in range(100):
        tenants.turn_of("stays")
        tenants.charge("stays", 1.0)
    tenants.queued("back")
    assert tenants.served["back"] == 99.0


def test_tenants_without_number_are_not_remembered() -> None:
    tenants = Tenants()
    tenants.queued("always")
    for i in range(10_000):
        for tenant in ("always", f"t{i}"):
            tenants.queued(tenant)
            tenants.turn_of(tenant)
            tenants.unqueued(tenant)
            tenants.charge(tenant, 1.0)
    assert len(tenants.served) < 200


def test_steps_that_are_re_ranked_again_and_again_leave_nothing_behind() -> None:
    graph, story = units(3), Story(nodes=[ONE], lookahead=0)
    a, b, c = graph.steps
    story.ask("r1", graph.steps, a, b, c, priority=0)
    for i in range(500):
        story.ask(f"x{i}", graph.steps, c, priority=1)
        story.leave(f"x{i}")
    (lane,) = story.ledger.scheduler.lanes.values()
    assert lane.size == 2
    assert lane._items < 200


# --- packing and fusion


def test_cheap_units_are_packed_up_to_the_target_duration() -> None:
    graph = units(60)
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=1.0, costs={"f": 0.1})
    story.ask("r1", graph.steps, *graph.steps)
    assert len(running(story)) == 10


def test_units_are_not_packed_before_their_cost_is_known_and_are_once_it_is() -> None:
    graph = units(20)
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=1.0)
    story.ask("r1", graph.steps, *graph.steps)
    assert len(running(story)) == 1
    (task,) = submitted(story.done(*running(story), seconds=0.25))
    assert len(task) == 4


def test_units_are_spread_over_idle_workers_before_they_are_packed() -> None:
    graph = units(9)
    story = Story(nodes=[{"CPU": 4.0}], lookahead=0, pack_seconds=60.0, costs={"f": 0.1})
    story.ask("r1", graph.steps, *graph.steps)
    assert [len(t.steps) for t in story.ledger.tasks.values()] == [3, 2, 1, 1]


def test_a_worker_that_is_free_early_leaves_the_others_their_share() -> None:
    graph = units(13)
    story = Story(nodes=[{"CPU": 4.0}], lookahead=0, pack_seconds=60.0)
    story.ask("r1", graph.steps, *graph.steps)
    assert len(running(story)) == 4  # one each, until it is known what they cost
    assert [len(task) for task in submitted(story.done(running(story)[0], seconds=0.1))] == [3]


def test_dear_units_go_alone_and_a_task_never_grows_without_end() -> None:
    graph = units(3)
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=1.0, costs={"f": 5.0})
    story.ask("r1", graph.steps, *graph.steps)
    assert len(running(story)) == 1
    graph = units(MAX_UNITS + 50)
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=1e9, costs={"f": 0.1})
    story.ask("r1", graph.steps, *graph.steps)
    assert len(running(story)) == MAX_UNITS


def test_packs_hold_one_tenant_and_one_class() -> None:
    graph = units(12)
    keys = list(graph.steps)
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=60.0, costs={"f": 0.1, "x": 1.0})
    story.ask("r0", chain("x"))
    story.ask("r1", graph.steps, *keys[:4], tenant="a")
    story.ask("r2", graph.steps, *keys[4:8], tenant="b")
    story.ask("r3", graph.steps, *keys[8:], tenant="a", priority=0)
    packs = []
    for _ in range(3):
        story.done(*running(story))
        packs.append(running(story))
    assert [sorted(p) for p in packs] == [sorted(keys[:4]), sorted(keys[4:8]), sorted(keys[8:])]


def gathered(**top: object) -> tuple[Graph, list[str]]:
    """`sum` over `f` of the two segments of an asset, and `last` over `sum`."""
    graph = Graph()
    parts = [graph.add("f", unit=clip(asset(), i)) for i in range(2)]
    graph.add("sum", *parts, **top)
    graph.add("last", "sum")
    return graph, parts


def test_what_an_assets_last_segment_completes_runs_in_its_task_if_it_is_cheap() -> None:
    graph, (first, second) = gathered()
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=1.0, costs={"f": 0.6, "sum": 0.2, "last": 0.1})
    story.ask("r1", graph.steps, "last")
    assert running(story) == [first]
    assert submitted(story.done(first)) == [[second, "sum", "last"]]
    story.done(second, "sum", "last")
    assert story.finished == ["r1"]


def test_a_pack_that_has_all_segments_of_an_asset_runs_what_gathers_them() -> None:
    graph, (first, second) = gathered()
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=1.0, costs={"f": 0.3, "sum": 0.2, "last": 0.3})
    story.ask("r1", graph.steps, "last")
    assert running(story) == [first, second, "sum"]
    assert submitted(story.done(first, second, "sum")) == [["last"]]  # all in one would be no pack any more


def test_beside_a_long_step_a_short_one_counts_as_cheap() -> None:
    graph = Graph()
    only = graph.add("f", unit=clip(asset(), 0))
    graph.add("sum", only)
    story = Story(nodes=[ONE], lookahead=0, costs={"f": 5.0, "sum": 0.4})
    story.ask("r1", graph.steps, "sum")
    assert running(story) == [only, "sum"]


@pytest.mark.parametrize(
    ("costs", "changes"),
    [
        ({"f": 0.6, "sum": 0.5}, {}),
        ({"f": 0.6}, {}),
        ({"f": 0.6, "sum": 0.1}, {"is_class": True}),
        ({"f": 0.6, "sum": 0.1}, {"resources": Resources(num_cpus=2)}),
        ({"f": 0.6, "sum": 0.1}, {"registry": "another"}),
    ],
    ids=["dear", "of unknown cost", "of a model", "needs more", "of other code"],
)
def test_what_would_delay_a_task_or_does_not_fit_it_is_a_task_of_its_own(
    costs: dict[str, float], changes: dict[str, object]
) -> None:
    graph = Graph()
    only = graph.add("f", unit=clip(asset(), 0))
    graph.add("sum", only, **changes)
    story = Story(nodes=[NODE], lookahead=0, pack_seconds=1.0, costs=costs)
    story.ask("r1", graph.steps, only, "sum")
    assert running(story) == [only]
    assert submitted(story.done(only)) == [["sum"]]


def test_a_task_takes_nothing_along_for_another_tenant_or_a_lower_class() -> None:
    graph = Graph()
    only = graph.add("f", unit=clip(asset(), 0))
    graph.add("low", only)
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=1.0, costs={"f": 0.6, "low": 0.1, "g": 0.1})
    busy = Graph()
    busy.add("g")
    story.ask("r0", busy.steps, "g")
    story.ask("r1", graph.steps, "low", priority=0)
    story.ask("r2", graph.steps, only, priority=2)
    assert submitted(story.done("g")) == [[only]]
    assert submitted(story.done(only)) == [["low"]]


def test_less_urgent_steps_of_the_unit_stay_behind_and_get_the_shared_value_later() -> None:
    graph = Graph()
    graph.add("x", unit=asset("other"))
    graph.add("frames", store="never")
    graph.add("look", "frames")
    graph.add("slow", "frames")
    story = Story(nodes=[ONE], lookahead=0)
    story.ask("r0", graph.steps, "x@other")
    story.ask("r1", graph.steps, "slow", priority=0)
    story.ask("r2", graph.steps, "look", priority=2)
    (task,) = submitted(story.done("x@other"))
    assert task == ["frames", "look"]
    assert story.task_of("frames").outputs == {"frames", "look"}
    assert submitted(story.done("frames", "look")) == [["slow"]]


def test_steps_that_together_fit_no_node_are_not_fused() -> None:
    graph = Graph()
    graph.add("a", resources=Resources(num_cpus=8))
    graph.add("b", "a", resources=Resources(num_cpus=1, memory=64 << 30))
    story = Story(nodes=[{"CPU": 8.0, "memory": 1 << 30}, {"CPU": 1.0, "memory": 64 << 30}])
    story.ask("r1", graph.steps)
    assert running(story) == ["a"]


def test_ready_steps_that_look_at_the_pictures_of_one_unit_share_a_task() -> None:
    graph = Graph()
    here, there = clip(asset(), 0), clip(asset(), 1)
    for unit in (here, there):
        for name in ("frames", "changes"):
            graph.add(name, unit=unit, looks=True)
        graph.add("sound", unit=unit)
    graph.add("light", f"frames@{here.unit_id}", unit=here)
    story = Story(nodes=[NODE], lookahead=0)
    tasks = submitted(story.ask("r1", graph.steps, *graph.steps))
    assert sorted(map(sorted, tasks)) == [
        [f"changes@{here.unit_id}", f"frames@{here.unit_id}", f"light@{here.unit_id}"],
        [f"changes@{there.unit_id}", f"frames@{there.unit_id}"],
        [f"sound@{here.unit_id}"],
        [f"sound@{there.unit_id}"],
    ]


def test_a_look_that_is_less_urgent_does_not_hold_up_an_urgent_one() -> None:
    graph = units(1, "frames", looks=True)
    graph.add("changes", unit=clip(asset(), 0), looks=True)
    frames, changes = graph.steps
    busy = units(1, "busy")
    story = Story(nodes=[ONE], lookahead=0)
    story.ask("r0", busy.steps, *busy.steps)
    story.ask("r1", graph.steps, changes, priority=0)
    story.ask("r2", graph.steps, frames, priority=2)
    assert submitted(story.done(*busy.steps)) == [[frames]]
    assert submitted(story.done(frames)) == [[changes]]


# --- windows of one film


def shots(*cuts: float, of: str = "a") -> list[Segment]:
    """Windows that were found between these seconds of an asset."""
    ends = [round(cut * 1e6) for cut in cuts]
    return [Segment(asset(of), a, b - a, found=True) for a, b in itertools.pairwise(ends)]


def looking(windows: Sequence[Segment], feature: str = "frames") -> Graph:
    """A look at each window, and what is made of it."""
    graph = Graph()
    for one in windows:
        graph.add(feature, unit=one, looks=True, store="never")
        graph.add("caption", f"{feature}@{one.unit_id}", unit=one)
    return graph


def about(story: Story) -> list[list[float]]:
    """Of which windows each task makes captions, by their beginnings, in order."""
    told = []
    for task in story.ledger.tasks.values():
        captions = [s.unit for s in task.steps if s.recipe.feature == "caption"]
        told.append([unit.start for unit in captions if isinstance(unit, Segment)])
    return told


def learned(story: Story, seconds: float) -> None:
    """Have the task that runs end, each of whose steps has taken so long."""
    story.done(*running(story), seconds=seconds)


def test_windows_of_one_reel_share_a_task_though_they_are_no_pack() -> None:
    graph = looking(shots(*range(0, 131, 5)))
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=1.0)
    story.ask("r1", graph.steps, *[key for key in graph.steps if key.startswith("caption")])
    assert about(story) == [[0.0]]  # of windows that long nothing is known yet
    learned(story, 0.4)
    assert about(story) == [[float(s) for s in range(5, 60, 5)]]
    story.done(*running(story), seconds=0.4)
    assert about(story) == [[float(s) for s in range(60, 120, 5)]]


def test_a_reel_that_takes_long_is_several_tasks() -> None:
    graph = looking(shots(*range(0, 61, 5)))
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=0.5)
    story.ask("r1", graph.steps, *[key for key in graph.steps if key.startswith("caption")])
    learned(story, 1.0)
    assert about(story) == [[5.0, 10.0, 15.0, 20.0, 25.0]]


def test_a_second_look_at_a_window_is_counted_once() -> None:
    windows = shots(*range(0, 61, 5))
    graph = looking(windows)
    for one in windows:
        graph.add("strip", unit=one, looks=True)
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=0.6)
    story.ask("r1", graph.steps, *[key for key in graph.steps if not key.startswith("frames")])
    learned(story, 0.3)
    assert about(story) == [[float(s) for s in range(5, 60, 5)]]  # 9.9 s of 12


def test_looks_that_hold_more_are_no_part_of_a_reel_that_holds_less() -> None:
    windows = shots(*range(0, 56, 5))
    graph = looking(windows[::2])
    for one in windows[1::2]:
        graph.add("heavy", unit=one, looks=True, resources=Resources(num_cpus=2))
    heavy = [key for key in graph.steps if key.startswith("heavy")]
    story = Story(nodes=[{"CPU": 2.0}], lookahead=0, pack_seconds=1.0)
    story.ask("r1", graph.steps, heavy[0])
    learned(story, 0.1)  # so that it is known to be cheap
    story.ask("r2", graph.steps, *[key for key in graph.steps if key.startswith("caption")], *heavy)
    while story.ledger.tasks:
        for task in list(story.ledger.tasks.values()):
            assert len({step.recipe.feature == "heavy" for step in task.steps}) == 1
            story.done(*(step.key for step in task.steps), seconds=0.1)


def test_idle_workers_have_their_share_of_a_reel() -> None:
    graph = looking(shots(*range(0, 61, 5)))
    story = Story(nodes=[{"CPU": 3.0}], lookahead=0, pack_seconds=1.0)
    story.ask("r1", graph.steps, *[key for key in graph.steps if key.startswith("caption")])
    (first, *_) = story.ledger.tasks.values()
    story.done(*(step.key for step in first.steps), seconds=0.1)
    assert about(story) == [[5.0], [10.0], [15.0, 20.0, 25.0]]


def test_windows_are_looked_at_by_time_whoever_found_them_and_whenever_they_were_asked_for() -> None:
    graph = looking(shots(0, 5, 10, 15, 20, 25))
    more = looking(shots(2, 7, 12, 17))
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=1.0)
    story.ask("r1", graph.steps, list(graph.steps)[-1])
    for key in list(graph.steps)[-3::-2]:
        story.ask(key, graph.steps, key)
    story.ask("r2", more.steps, *list(more.steps)[1::2])
    learned(story, 0.1)
    assert about(story) == [[0.0, 2.0, 5.0, 7.0, 10.0, 12.0, 15.0]]


def test_what_gathers_windows_runs_behind_all_of_them() -> None:
    graph = looking(shots(0, 5, 10, 15))
    windows = [key for key in graph.steps if key.startswith("caption")]
    graph.add("summary", *windows[1:])
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=1.0, costs={"summary": 0.1})
    story.ask("r1", graph.steps, windows[0])
    story.ask("r2", graph.steps, windows[2])
    story.ask("r3", graph.steps, "summary")
    learned(story, 0.1)
    assert [key.partition("@")[0] for key in running(story)] == ["frames", "caption"] * 2 + ["summary"]


def test_a_reel_is_of_one_asset_one_tenant_one_class_and_one_deadline() -> None:
    graph = looking(shots(*range(0, 36, 5)))
    other = looking(shots(0, 5, 10, of="b"))
    captions = [key for key in graph.steps if key.startswith("caption")]
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=0.2)
    story.ask("r1", graph.steps, captions[0])
    story.ask("r2", graph.steps, captions[1], captions[4])
    story.ask("r3", graph.steps, captions[2], priority=0)
    story.ask("r4", graph.steps, captions[3], tenant="other")
    story.ask("r5", graph.steps, captions[5], deadline=story.now + 1000)
    story.ask("r6", other.steps, *list(other.steps)[1::2])
    packs = []
    while story.ledger.tasks:
        packs += about(story)
        learned(story, 0.1)
    assert sorted(packs) == [[0.0], [0.0, 5.0], [5.0, 20.0], [10.0], [15.0], [25.0]]


def test_a_window_that_kills_its_worker_is_tried_alone_and_the_others_of_its_task_are_made() -> None:
    graph = looking(shots(*range(0, 21, 5)))
    captions = [key for key in graph.steps if key.startswith("caption")]
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=1.0)
    story.ask("r1", graph.steps, *captions)
    learned(story, 0.1)
    assert about(story) == [[5.0, 10.0, 15.0]]
    story.dies(running(story)[0])
    alone = []
    while story.ledger.tasks:
        (task,) = story.ledger.tasks.values()
        alone.append([step.key for step in task.steps])
        if captions[2] in alone[-1]:
            story.dies(captions[2], crashed=True)
            story.wait(60)
        else:
            story.done(*alone[-1])
    assert max(map(len, alone)) == 1
    failed = {key: told.type for key, told in story.told["r1"].items() if isinstance(told, Failure)}
    assert failed == {captions[2]: "Quarantined"}
    assert story.finished == ["r1"]


def test_a_window_that_is_tried_alone_joins_no_other() -> None:
    graph = looking(shots(*range(0, 61, 5)))
    captions = {one.start_us // 1_000_000: f"caption@{one.unit_id}" for one in shots(*range(0, 61, 5))}
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=0.031)
    for at in (30, 50, 55, 0, 5):
        story.ask(f"r{at}", graph.steps, captions[at])
    learned(story, 0.1)
    assert about(story) == [[0.0, 5.0, 50.0]]
    story.dies(running(story)[0])
    turns = []
    while story.ledger.tasks:
        turns.append([key.partition("@")[0] for key in running(story)])
        learned(story, 0.1)
    assert sorted(turns) == [["caption"]] * 3 + [["frames"]] * 3 + [["frames", "caption"]]


def test_windows_that_nobody_waits_for_any_more_leave_the_queue_and_others_stay() -> None:
    graph = looking(shots(*range(0, 31, 5)))
    captions = [key for key in graph.steps if key.startswith("caption")]
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=1.0)
    story.ask("r1", graph.steps, *captions[:4])
    story.ask("r2", graph.steps, *captions[3:])
    story.leave("r1")
    learned(story, 0.1)
    assert about(story) == [[15.0, 20.0, 25.0]]


def test_windows_of_very_different_lengths_are_learned_apart() -> None:
    graph = looking(shots(0, 5, 10, 15, 20))
    grid = looking([clip(asset("b"), i) for i in range(4)])
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=1.0)
    story.ask("r1", grid.steps, *list(grid.steps)[1::2])
    for _ in range(4):
        learned(story, 60.0)
    story.ask("r2", graph.steps, *list(graph.steps)[1::2])
    learned(story, 0.1)
    assert about(story) == [[5.0, 10.0, 15.0]]  # though segments take longer than a pack
    story.done(*running(story), seconds=0.1)
    again = looking([clip(asset("c"), i) for i in range(4)])
    story.ask("r3", again.steps, *list(again.steps)[1::2])
    assert about(story) == [[0.0]]  # though the windows took no time
    known = story.ledger.costs.known()
    assert known["caption", "1"][0] < 60.0


def test_of_windows_as_long_as_none_that_has_run_the_nearest_ones_tell() -> None:
    costs, f = Costs(), recipe("f")
    short, other, long = (length_class(one) for one in shots(0, 1, 11, 300))
    assert (short, other, long) == (2, 4, 6)
    assert costs.expected(f, short) is None
    costs.of(f).learn(60.0, None)  # a segment of the grid tells nothing of windows
    assert costs.expected(f, short) is None
    costs.of(f, other).learn(0.5, None)
    assert [costs.expected(f, n) for n in (short, other, long)] == [0.5, 0.5, 8.0]
    costs.of(f, short).learn(0.25, None)
    assert costs.expected(f, 1 + short) == 0.5  # the longer one, of two as near
    assert 0.25 < costs.known()["f", "1"].seconds < 60.0
    assert costs.of(f).seconds == 60.0


def test_a_model_on_a_gpu_sees_full_batches_over_windows_assets_and_requests() -> None:
    story = Story(nodes=[GPU_NODE], lookahead=0, pack_seconds=0.5, costs={"model": 0.2})
    keys = []
    for number in range(4):
        graph = Graph()
        for one in shots(0, 2, 3, 10, 11, 40, of=f"v{number}"):
            gpu = Resources(num_gpus=1)
            keys.append(graph.add("model", unit=one, batch=8, resources=gpu, **WARM))
        story.ask(f"r{number}", graph.steps, *graph.steps, tenant=f"t{number % 2}")
    sizes = []
    while story.ledger.tasks:
        sizes.append(len(running(story)))
        story.done(*running(story))
    assert sizes == [5, 8, 7]
    assert sorted(story.finished) == [f"r{number}" for number in range(4)]


def test_a_fused_task_holds_the_most_that_any_of_its_steps_needs() -> None:
    graph = Graph()
    graph.add("a", resources=Resources(num_cpus=1, memory=5))
    graph.add("b", "a", resources=Resources(num_cpus=3, memory=2))
    story = Story()
    story.ask("r1", graph.steps)
    (task,) = story.ledger.tasks.values()
    assert task.needs == {"CPU": 3.0, "memory": 5.0}
    story.done("a", "b")
    assert story.ledger.scheduler.capacity.held == {}


# --- threads that decode


def threads(story: Story) -> dict[str, int]:
    return {task.steps[0].recipe.feature: task.threads for task in story.ledger.tasks.values()}


@pytest.mark.parametrize(("cpus", "wanted"), [(1, 1), (2, 2), (3, 3), (16, 4)])
def test_a_lone_task_that_decodes_is_lent_idle_cpus_until_it_ends(cpus: int, wanted: int) -> None:
    graph, story = units(1, decodes=True), Story(nodes=[{"CPU": float(cpus)}])
    story.ask("r1", graph.steps, *graph.steps)
    assert threads(story) == {"f": wanted}
    (task,) = story.ledger.tasks.values()
    assert task.needs == ONE  # Whoever comes meanwhile is not made to wait.
    assert story.ledger.scheduler.capacity.lent == wanted - 1
    story.done(*graph.steps)
    assert story.ledger.scheduler.capacity.lent == 0


def test_none_are_lent_where_other_shards_may_use_them() -> None:
    graph, story = units(1, decodes=True), Story(nodes=[{"CPU": 16.0}], shards=2)
    story.ask("r1", graph.steps, *graph.steps)
    assert threads(story) == {"f": 1}


def test_cpus_are_lent_only_beside_what_else_is_ready() -> None:
    graph, story = units(5, decodes=True), Story(nodes=[NODE], lookahead=0)
    a, b, c, d, _ = graph.steps
    story.ask("r1", graph.steps, a, b, c)
    assert [task.threads for task in story.ledger.tasks.values()] == [1, 1, 2]
    story.ask("r2", graph.steps, d)
    assert [task.threads for task in story.ledger.tasks.values()] == [1, 1, 2, 1]


def test_cpus_that_are_lent_are_not_lent_again() -> None:
    graph, story = units(3, decodes=True), Story(nodes=[NODE], lookahead=0)
    for number, key in enumerate(graph.steps):
        story.ask(f"r{number}", graph.steps, key)
    assert [task.threads for task in story.ledger.tasks.values()] == [4, 1, 1]
    first, second, _ = graph.steps
    story.done(first)
    story.ask("r4", graph.steps, second)
    more = units(4, "g", decodes=True)
    story.ask("r5", more.steps, list(more.steps)[3])
    assert [task.threads for task in story.ledger.tasks.values()] == [1, 1, 2]


def test_nothing_is_lent_to_what_nobody_waits_for_or_decodes_nothing() -> None:
    story = Story(nodes=[NODE])
    for number, (name, changes) in enumerate({"f": {"decodes": True}, "g": {}}.items()):
        graph = units(1, name, **changes)
        story.ask(name, graph.steps, *graph.steps, priority=0 if not number else 2)
        assert threads(story) == {name: 1}
        story.done(*graph.steps)


def test_a_task_that_runs_on_some_node_is_lent_what_each_has() -> None:
    graph, story = units(2, decodes=True), Story(nodes=[{"CPU": 4.0}, {"CPU": 2.0}, {"memory": 1.0}])
    first, second = graph.steps
    story.ask("r1", graph.steps, first)
    assert threads(story) == {"f": 2}
    # Ray may run both on the smaller one.
    story.ask("r2", graph.steps, second)
    assert [task.threads for task in story.ledger.tasks.values()] == [2, 1]


def test_what_is_asked_of_a_lost_worker_gives_its_cpus_back() -> None:
    graph, story = units(1, decodes=True), Story(nodes=[NODE])
    story.ask("r1", graph.steps, *graph.steps)
    story.dies(*graph.steps)
    assert story.ledger.scheduler.capacity.lent == 0


def test_a_class_feature_takes_a_batch_across_requests_and_units() -> None:
    graph = units(7, batch=4, is_class=True)
    keys = list(graph.steps)
    story = Story(nodes=[ONE], lookahead=0, pack_seconds=0.5)
    story.ask("r0", graph.steps, keys[0])
    story.ask("r1", graph.steps, *keys[1:4], tenant="a")
    story.ask("r2", graph.steps, *keys[4:], tenant="b")
    (command,) = [c for c in story.done(keys[0], seconds=0.1) if isinstance(c, ev.Submit)]
    assert len(command.task.steps) == 4
    assert command.task.pool


@pytest.mark.parametrize(("resources", "size"), [(Resources(), 2), (Resources(num_gpus=1), 8)])
def test_a_batch_on_a_cpu_is_no_longer_than_a_pack_and_one_on_a_gpu_is_full(
    resources: Resources, size: int
) -> None:
    graph = units(20, batch=8, resources=resources, **WARM)
    story = Story(nodes=[{"CPU": 1.0, "GPU": 1.0}], lookahead=0, pack_seconds=0.5, costs={"f": 0.2})
    story.ask("r1", graph.steps, *graph.steps)
    assert len(running(story)) == size


def test_steps_with_other_parameters_are_not_in_one_batch() -> None:
    graph = units(2, batch=4, is_class=True)
    graph.add("f", unit=clip(asset(), 9), key="big", batch=4, is_class=True, params=(("size", 512),))
    story = Story(nodes=[ONE], lookahead=0)
    story.ask("r0", graph.steps, *graph.steps)
    assert running(story) == list(graph.steps)[:2]
    story.done(*running(story))
    assert running(story) == ["big"]


# --- resources


def test_a_preferred_gpu_falls_back_to_cpu_and_a_required_one_says_what_is_missing() -> None:
    capacity = Capacity(2)
    capacity.set([NODE], {})
    wish = Resources(num_gpus=0.5, accelerator_type="H200", gpu="preferred")
    assert capacity.needs(wish) == {"CPU": 1.0}
    capacity.set([GPU_NODE], {})
    assert capacity.needs(wish) == {"CPU": 1.0, "GPU": 0.5, "accelerator_type:H200": 0.001}


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (Resources(num_gpus=2), "requires 2 GPUs, but the largest node of this cluster has 1 GPU; gpu="),
        (
            Resources(memory=1 << 40),
            "requires 1024.0 GiB memory, but the largest node of this cluster has 64.0",
        ),
        (
            Resources(custom=(("tape", 1.0),)),
            "requires 1 tape, but the largest node of this cluster has 0 tape",
        ),
        (Resources(num_cpus=64, num_gpus=1), "requires 64 CPUs and 1 GPU, and no single node"),
    ],
)
def test_what_is_lacking_is_said_in_a_sentence(resources: Resources, words: str) -> None:
    capacity = Capacity(2)
    capacity.set([GPU_NODE, {"CPU": 64.0}], {})
    sentence = capacity.lacking("f", capacity.needs(resources))
    assert sentence is not None
    assert sentence.startswith(f"feature 'f' {words}")


def test_costs_follow_recent_runs_and_ignore_the_size_of_what_never_left_the_worker() -> None:
    costs, f = Costs({("f", "1"): (1.0, 100.0)}), recipe("f")
    for _ in range(40):
        costs.of(f).learn(3.0, None)
    assert costs.of(f).seconds == pytest.approx(3.0, rel=0.01)
    assert costs.of(f).bytes == 100.0
    costs.preset("f", "1", Means(9.0, 9.0, 14.0))
    costs.preset("g", "1", Means(9.0, 8.0))
    assert costs.known() == {("f", "1"): (costs.of(f).seconds, 100.0, 14.0), ("g", "1"): (9.0, 8.0, None)}
    costs.of(f).learn(1.0, 100, 6)
    assert costs.known()["f", "1"].ranges == 13.0
    assert costs.of(recipe("unknown")).seconds is None


def test_a_queued_step_is_not_run_after_its_caller_left() -> None:
    graph, story = units(2), Story(nodes=[ONE], lookahead=0)
    a, b = graph.steps
    story.ask("r1", graph.steps, a)
    story.ask("r2", graph.steps, b)
    story.leave("r2")
    assert submitted(story.done(a)) == []
    assert story.state(b) is State.ABSENT
