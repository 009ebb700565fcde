"""A Hypothesis machine over the ledger: any order of events that a shell could tell, with a model beside it.

Unlike the simulation it has no clock of its own and no habits: a write may end before a later one began,
a task may end hours later, and every sequence that breaks a promise is shrunk to the shortest one.
The model is small: what each caller was told, which writes, reads and tasks are under way.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amber_ray.core.declare.calls import Calls, Rate
from amber_ray.core.declare.feature import Resources
from amber_ray.core.planning.fanout import Windows
from amber_ray.core.planning.plan import Step
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import AVAILABLE, State
from tests.core_kit import GPU_NODE, Graph, Story, asset, broken, clip, fault

KEYS = (
    *("probe", "frames", "look", "embed", "hash", "film", "far", "match", "ask0", "ask1", "ask2", "told"),
    *("cuts", "each take", "each take in 6..8", "reel", "far cuts", "montage"),
)
EACH = "each take"
PART = "each take in 6..8"
FOUND = (
    (),
    ((0, 10_000_000),),
    ((0, 5), (5, 9)),
    ((0, 5), (7, 9), (9, 12)),
    "a range that is none",
)
"""What finders find, one time or another."""


def graph() -> Graph:
    """Never-stored, memory-only, class, GPU and foreign steps over one asset; and calls, at a rate."""
    made = Graph()
    made.add("probe", looks=True, decodes=True)
    made.add("frames", store="never", looks=True, decodes=True)
    made.add("look", "frames")
    made.add("embed", "frames", is_class=True, resources=Resources(num_gpus=1, gpu="preferred"))
    made.add("hash", "look", "probe", store="memory", retries=0)
    made.add("film", "look", "embed", "probe", unit=clip(asset(), 0), key="film")
    made.add("far", home=1)
    made.add("match", "film", "far", resources=Resources(num_gpus=1))
    calls = Calls(1, Rate(1, 1.0))
    asked = [
        made.add("ask", "look", unit=clip(asset(), i), key=f"ask{i}", calls=calls, resources=Resources(0.0))
        for i in range(3)
    ]
    made.add("told", *asked, calls=Calls(rate=Rate(1, 1.0)))
    made.add("cuts", "probe")
    made.each("shade", "cuts", store="never")
    made.each("take", "cuts", "each shade", "probe")
    made.each("take", "cuts", "each shade", "probe", span=(6, 8))  # some of the same units
    made.add("reel", "each take", "probe")
    made.add("far cuts", home=1)
    made.each("cast", "far cuts", home=1)
    made.add("montage", "each cast", "each take")
    return made


LOSSES: tuple[dict[str, bool], ...] = (
    {},
    {"retry": False},
    {"crashed": True},
    {"crashed": True, "shared": True},
    {"inputs_lost": True},
    {"started": False},
)
"""How a task can end without a report."""


class LedgerMachine(RuleBasedStateMachine):
    """One shard."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = graph().steps
        self.story = Story(
            nodes=[],
            lookahead=0,
            memory_bytes=4000,
            spill_bytes=1500,
            sizes=1000,
            pack_seconds=1.0,
            feature_failure_seconds=5.0,
            retry_later_seconds=10.0,
        )
        self.asked: dict[str, set[str]] = {}
        self.turn = 0
        self.left: set[str] = set()
        self.writes: list[tuple[str, ...]] = []
        self.reads: list[tuple[str, ...]] = []
        self.ended: list[ev.Reported] = []
        self.count = 0
        self.cpus = 0.0

    @initialize(
        nodes=st.sampled_from(([GPU_NODE], [{"CPU": 1.0, "GPU": 1.0}])), at_once=st.sampled_from((1, 3, 100))
    )
    def begin(self, nodes: list[dict[str, float]], at_once: int) -> None:
        self.story.ledger.expanded_at_once = at_once
        self.tell(ev.CapacityChanged(nodes))

    def windows(self, key: str) -> Windows | None:
        """What a value of a finder finds, another thing each time."""
        if not key.endswith("cuts"):
            return None
        self.turn += 1
        return FOUND[self.turn % len(FOUND)]

    def report(self, task: ev.Task, step: Step) -> ev.StepReport:
        """A step of a task came to a value."""
        kept = step.key in task.outputs
        return ev.StepReport(step.key, 1000, 0.5, kept, windows=self.windows(step.key) if kept else None)

    def restored(self, keys: Sequence[str]) -> ev.Restored:
        """Values were read back."""
        windows = {key: self.windows(key) for key in keys}
        return ev.Restored(
            dict.fromkeys(keys, 1000), {key: found for key, found in windows.items() if found is not None}
        )

    def tell(self, event: ev.Event) -> None:
        story = self.story
        if isinstance(event, ev.CapacityChanged):
            self.cpus = min(node["CPU"] for node in event.nodes)
        for command in story.do(event):
            if isinstance(command, ev.Expanded):
                asked = self.asked[command.request]
                asked.discard(command.key)
                asked.update(command.keys)
            if isinstance(command, ev.Spill):
                under_way = {key for keys in self.writes for key in keys}
                assert not under_way & set(command.keys), "two writers of one key"
                self.writes.append(command.keys)
            elif isinstance(command, ev.Restore):
                self.reads.append(command.keys)
            elif isinstance(command, ev.Submit) and command.task.threads > 1:
                capacity = story.ledger.scheduler.capacity
                assert capacity.held["CPU"] + capacity.lent <= self.cpus, "CPUs are lent that are not idle"

    # --- callers

    @rule(
        keys=st.lists(st.sampled_from(KEYS), max_size=3),
        priority=st.integers(0, 2),
        tenant=st.sampled_from("ab"),
        patience=st.sampled_from((None, None, None, 0.0, 3.0)),
        refresh=st.booleans(),
        load=st.sampled_from((True, True, False)),
    )
    def ask(
        self,
        keys: list[str],
        priority: int,
        tenant: str,
        patience: float | None,
        refresh: bool,
        load: bool,
    ) -> None:
        self.count += 1
        id = f"r{self.count}"
        self.asked[id] = set(keys)
        deadline = None if patience is None else self.story.now + patience
        self.tell(ev.Requested(id, self.steps, keys, priority, tenant, deadline, refresh, load))

    @precondition(lambda self: self.story.ledger.requests)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.story.ledger.requests)))
        self.left.add(id)
        self.tell(ev.Left(id))

    # --- tasks

    @precondition(lambda self: self.story.ledger.tasks)
    @rule(data=st.data())
    def task_ends(self, data: st.DataObject) -> None:
        task = self.story.ledger.tasks[data.draw(st.sampled_from(sorted(self.story.ledger.tasks)))]
        kind = data.draw(st.sampled_from((None, None, None, "input", "feature", "system", "later")))
        first = data.draw(st.sampled_from(task.steps))
        bad = {first.key} if kind is not None else set()
        reports = []
        for step in task.steps:
            if step.key in bad or bad & set(step.needs):
                bad.add(step.key)
                later = kind == "later"
                failure = broken(first, "system" if later else kind)
                seconds = data.draw(st.sampled_from((0.0, 0.3, 20.0))) if later and step is first else None
                reports.append(ev.StepReport(step.key, kept=False, failure=failure, later=seconds))
            else:
                reports.append(self.report(task, step))
        if len(reports) > 1 and data.draw(st.booleans()):
            reports.pop()
        event = ev.Reported(task.id, reports)
        self.ended.append(event)
        self.tell(event)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def report_comes_again(self, data: st.DataObject) -> None:
        before = self.story.ledger.counters["superseded"]
        self.tell(data.draw(st.sampled_from(self.ended)))
        assert self.story.ledger.counters["superseded"] == before + 1

    @precondition(lambda self: self.story.ledger.tasks)
    @rule(data=st.data(), how=st.sampled_from(LOSSES))
    def task_is_lost(self, data: st.DataObject, how: dict[str, bool]) -> None:
        id = data.draw(st.sampled_from(sorted(self.story.ledger.tasks)))
        self.tell(ev.TaskLost(id, fault(), **how))

    # --- storage

    @precondition(lambda self: self.writes)
    @rule(data=st.data(), well=st.booleans())
    def write_ends(self, data: st.DataObject, well: bool) -> None:
        keys = self.writes.pop(data.draw(st.integers(0, len(self.writes) - 1)))
        if well:
            self.story.index.update(keys)
        self.tell(ev.Stored(keys) if well else ev.StoreFailed(keys))

    @precondition(lambda self: self.reads)
    @rule(data=st.data(), how=st.sampled_from(("well", "unreadable", "gone")))
    def read_ends(self, data: st.DataObject, how: str) -> None:
        keys = self.reads.pop(data.draw(st.integers(0, len(self.reads) - 1)))
        if how == "well":
            self.tell(self.restored(keys))
        elif how == "unreadable":
            self.tell(ev.Unreadable(dict.fromkeys(keys, "the disk is slow")))
        else:
            self.story.index.difference_update(keys)
            self.tell(ev.RestoreFailed(keys))

    @rule(keys=st.lists(st.sampled_from(KEYS), max_size=3))
    def values_are_lost(self, keys: list[str]) -> None:
        self.tell(ev.Lost(keys))

    @precondition(lambda self: not self.writes)
    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))
    def values_are_purged(self, keys: list[str]) -> None:
        self.story.index.difference_update(keys)
        self.tell(ev.Purged(keys))

    # --- time and room

    @rule(seconds=st.sampled_from((0.0, 0.3, 2.5, 20.0)))
    def time_passes(self, seconds: float) -> None:
        self.story.now += seconds
        self.tell(ev.Tick())

    @rule(nodes=st.sampled_from(([GPU_NODE], [{"CPU": 1.0, "GPU": 1.0}], [{"CPU": 1.0}])))
    def nodes_change(self, nodes: list[dict[str, float]]) -> None:
        self.tell(ev.CapacityChanged(nodes))

    # --- what must be so; `Story` runs `check` and forbids a second answer

    @invariant()
    def finished_means_told_of_everything(self) -> None:
        story = self.story
        for id, targets in self.asked.items():
            told = story.told.get(id, {}).keys()
            if id in story.finished:
                assert told == targets
            elif id not in self.left:
                assert story.ledger.requests[id].pending.keys() == targets - told

    @invariant()
    def reads_and_writes_are_of_what_the_ledger_says(self) -> None:
        ledger = self.story.ledger
        assert {k for keys in self.writes for k in keys} == ledger.spilling
        reading = {k for k, e in ledger.entries.items() if e.state is State.RESTORING}
        assert reading <= {k for keys in self.reads for k in keys}

    def teardown(self) -> None:
        """Without further faults everything comes to rest: all told, memory within its budget."""
        story = self.story
        self.tell(ev.CapacityChanged([GPU_NODE]))
        for _ in range(300):
            if self.writes:
                self.story.index.update(self.writes[0])
                self.tell(ev.Stored(self.writes.pop(0)))
            elif self.reads:
                self.tell(self.restored(self.reads.pop(0)))
            elif story.ledger.tasks:
                task = next(iter(story.ledger.tasks.values()))
                self.tell(ev.Reported(task.id, [self.report(task, step) for step in task.steps]))
            elif story.ledger.wake_at() < float("inf"):
                story.now = max(story.now, story.ledger.wake_at())
                self.tell(ev.Tick())
            else:
                break
        assert not story.ledger.requests
        assert not story.ledger.tasks
        failed = {k for k, e in story.ledger.entries.items() if e.state is State.FAILED}
        assert failed <= {EACH, PART, "each cast", "reel", "montage"}  # by ranges that are none
        assert {e.state for k, e in story.ledger.entries.items() if k not in failed} <= AVAILABLE
        assert story.ledger.hot_bytes <= 4000
        self.finished_means_told_of_everything()


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=200, stateful_step_count=50)
