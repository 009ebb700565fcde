"""What is foreseen is what then happens: on random graphs, in whatever state a ledger can come to.

A history of events brings a ledger to some state: values in memory, written, evicted, purged, never stored;
steps waiting, running, paused for a retry, failed; reads and writes under way. Two copies of it then go on to
the end without faults, one of which is asked something first. What runs in that one only is what was foreseen
to run; of windows that a finder has found before also the steps of each.
"""

from __future__ import annotations

import collections
import copy

from hypothesis import given, settings
from hypothesis import strategies as st

from amber_ray.core.ledger.foresight import prospect
from amber_ray.core.model.request import Failure
from amber_ray.core.planning.plan import closure
from amber_ray.core.state import events as ev
from tests.core_kit import GPU_NODE, Graph, Story, asset, broken, clip, fault

STORES = ("parquet", "parquet", "memory", "never", "never")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Up to ten steps, each over some of those before it; some are another shard's.

    Some find windows, and some stand for each of them. Those are this shard's: its own finder would lend it
    the windows otherwise.
    """
    made = Graph()
    keys: list[str] = []
    fans = draw(st.booleans())
    for i in range(draw(st.integers(2, 10))):
        near = (
            st.lists(st.sampled_from(keys[-4:]), min_size=1, max_size=3, unique=True) if keys else st.just([])
        )
        needs = [] if rarely(draw) else draw(near)
        finders = [key for key in keys if key in FINDERS and not made.steps[key].home]
        if finders and draw(st.integers(0, 3)) < 2 * fans:
            finder = draw(st.sampled_from(finders))
            under = [
                key for key in keys if made.steps[key].needs == (finder,) and made.steps[key].is_template
            ]
            inputs = [draw(st.sampled_from(under))] if under and draw(st.booleans()) else []
            store = draw(st.sampled_from(STORES))
            keys.append(made.each(f"f{i}", finder, *inputs, store=store, retries=draw(st.integers(0, 1))))
            continue
        keys.append(
            made.add(
                f"f{i}",
                *needs,
                key=f"f{i}",
                unit=clip(asset(), 0) if rarely(draw) else asset(),
                home=int(rarely(draw) and not (fans and i == 0)),
                store=draw(st.sampled_from(STORES)),
                is_class=rarely(draw),
                retries=draw(st.integers(0, 1)),
            )
        )
    return made


FINDERS: dict[str, tuple[tuple[int, int], ...]] = {
    "f0": ((0, 2_000_000), (2_000_000, 7_000_000)),
    "f1": (),
    "f2": ((0, 2_000_000), (1_000_000, 2_000_000), (4_000_000, 5_000_000)),
}
"""What steps find, by their keys: `f0` and `f2` have a window in common."""


def rarely(draw: st.DrawFn) -> bool:
    return draw(st.integers(0, 9)) == 9


class World:
    """A ledger with its callers, tasks, reads and writes, all of which can be copied."""

    def __init__(self, graph: Graph, lookahead: int) -> None:
        self.steps = graph.steps
        self.keys = list(graph.steps)
        self.story = Story(
            nodes=[GPU_NODE],
            lookahead=lookahead,
            memory_bytes=6000,
            spill_bytes=3000,
            sizes=1000,
            pack_seconds=1.0,
            feature_failure_seconds=5.0,
        )
        self.writes: list[tuple[str, ...]] = []
        self.reads: list[tuple[str, ...]] = []
        self.runs: collections.Counter[str] = collections.Counter()
        self.count = 0

    def tell(self, event: ev.Event) -> None:
        for command in self.story.do(event):
            match command:
                case ev.Spill(keys):
                    self.writes.append(keys)
                case ev.Restore(keys):
                    self.reads.append(keys)
                case ev.Submit(task):
                    self.runs.update(step.key for step in task.steps)

    def request(self, keys: list[str], refresh: bool, load: bool) -> ev.Requested:
        self.count += 1
        return ev.Requested(f"r{self.count}", self.steps, keys, refresh=refresh, load=load)

    def something(self, data: st.DataObject) -> None:
        """One event of those that can happen now."""
        ledger = self.story.ledger
        can = ["ask"] * 3 + ["wait", "lose", "leave"]
        can += ["end", "end", "break", "die"] * bool(ledger.tasks)
        can += ["write"] * 2 * bool(self.writes) + ["read"] * bool(self.reads)
        can += ["purge"] * (not self.writes)
        some = st.lists(st.sampled_from(self.keys), min_size=1, max_size=3, unique=True)
        match data.draw(st.sampled_from(can)):
            case "ask":
                self.tell(self.request(data.draw(some), data.draw(st.booleans()), data.draw(st.booleans())))
            case "leave":
                if ledger.requests:
                    self.tell(ev.Left(data.draw(st.sampled_from(sorted(ledger.requests)))))
            case "end":
                self.end(data.draw(st.sampled_from(sorted(ledger.tasks))))
            case "break":
                task = ledger.tasks[data.draw(st.sampled_from(sorted(ledger.tasks)))]
                kind = data.draw(st.sampled_from(("feature", "system")))
                first = data.draw(st.sampled_from(task.steps))
                bad, reports = {first.key}, []
                for step in task.steps:
                    if step.key in bad or bad & set(step.needs):
                        bad.add(step.key)
                        reports.append(ev.StepReport(step.key, kept=False, failure=broken(first, kind)))
                    else:
                        reports.append(self.report(step.key, task))
                self.tell(ev.Reported(task.id, reports))
            case "die":
                self.tell(ev.TaskLost(data.draw(st.sampled_from(sorted(ledger.tasks))), fault()))
            case "write":
                self.written()
            case "read":
                self.read()
            case "lose":
                self.tell(ev.Lost(data.draw(some)))
            case "purge":
                keys = data.draw(some)
                self.story.index.difference_update(keys)
                self.tell(ev.Purged(keys))
            case "wait":
                self.story.now += data.draw(st.sampled_from((0.3, 2.5, 20.0)))
                self.tell(ev.Tick())

    def end(self, number: int) -> None:
        task = self.story.ledger.tasks[number]
        self.tell(ev.Reported(number, [self.report(step.key, task) for step in task.steps]))

    def report(self, key: str, task: ev.Task) -> ev.StepReport:
        return ev.StepReport(key, 1000, 0.5, key in task.outputs, windows=FINDERS.get(key))

    def written(self) -> None:
        keys = self.writes.pop(0)
        self.story.index.update(keys)
        self.tell(ev.Stored(keys))

    def read(self) -> None:
        keys = self.reads.pop(0)
        there = [key for key in keys if key in self.story.index]
        if gone := [key for key in keys if key not in self.story.index]:
            self.tell(ev.RestoreFailed(gone))
        if there:
            found = {key: FINDERS[key] for key in there if key in FINDERS}
            self.tell(ev.Restored(dict.fromkeys(there, 1000), found))

    def to_the_end(self) -> None:
        """No more faults: whatever is under way ends well, and time passes where nothing else does."""
        ledger = self.story.ledger
        for _ in range(500):
            if self.reads:
                self.read()
            elif ledger.tasks:
                self.end(min(ledger.tasks))
            elif self.writes:
                self.written()
            elif ledger.requests:
                self.story.now = max(self.story.now, ledger.wake_at())
                self.tell(ev.Tick())
            else:
                return
        raise AssertionError("it does not end")


def is_template(graph: Graph, key: str) -> bool:
    return key in graph.steps and graph.steps[key].is_template


@settings(max_examples=300, deadline=None)
@given(graph=graphs(), lookahead=st.sampled_from((0, 2)), steps=st.integers(0, 20), data=st.data())
def test_what_is_foreseen_to_run_is_what_then_runs(
    graph: Graph, lookahead: int, steps: int, data: st.DataObject
) -> None:
    world = World(graph, lookahead)
    lasting = [
        key for key, step in graph.steps.items() if step.recipe.store == "parquet" and not step.is_template
    ]
    if lasting:  # of an earlier run
        world.story.index.update(data.draw(st.lists(st.sampled_from(lasting), max_size=3)))
    for _ in range(steps):
        world.something(data)
    each = [key for key in world.keys if is_template(graph, key)]
    drawn = [*world.keys, *each, *each]
    targets = data.draw(st.lists(st.sampled_from(drawn), min_size=1, max_size=3, unique=True))
    request = world.request(targets, data.draw(st.booleans()), data.draw(st.booleans()))
    before = {key: entry.said() for key, entry in world.story.ledger.entries.items()}

    prospects = prospect(world.story.ledger, [request], world.story.now)
    windows = {key: FINDERS[key] for key in prospects.unread}
    fates, opened, _, unread = prospect(world.story.ledger, [request], world.story.now, windows=windows)
    assert not unread

    assert {key: entry.said() for key, entry in world.story.ledger.entries.items()} == before
    left, asked = world, copy.deepcopy(world)
    left.runs.clear()
    asked.runs.clear()
    asked.tell(request)
    read = {key for keys in asked.reads for key in keys}
    asked.to_the_end()
    left.to_the_end()
    # Steps above the targets may run too: others wait for them, and would have failed by what is made anew.
    units = {unit for expansion in opened.values() for unit in expansion.steps}
    about = closure(graph.steps, targets).keys() | units
    more = {key for key in about if asked.runs[key] > left.runs[key]}
    run = {key for key, fate in fates.items() if fate in ("run", "ask")}
    assert {key for key in run if not is_template(graph, key)} == more
    assert {key for key, fate in fates.items() if fate == "read" and not is_template(graph, key)} <= read
    for key in targets:
        if is_template(graph, key):
            continue
        answer = asked.story.told[request.id][key]
        assert (fates[key] == "fail") == isinstance(answer, Failure)
        if isinstance(answer, ev.Ready):
            assert (fates[key] == "use") <= answer.cached
