"""Small things to tell a story of the ledger with: steps from one line of words, and a ledger under watch."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from amber_ray.core.declare.feature import Resources
from amber_ray.core.ledger.invariants import check
from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.model.request import Failure
from amber_ray.core.model.units import Asset, EachRange, Segment, Unit
from amber_ray.core.planning.fanout import Windows
from amber_ray.core.planning.plan import Recipe, Step
from amber_ray.core.scheduler.costs import Costs
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import State
from amber_ray.settings import Settings

MIB = 1 << 20
NODE = {"CPU": 4.0, "memory": 64.0 * (1 << 30)}
GPU_NODE = {**NODE, "GPU": 1.0, "accelerator_type:H200": 1.0}


def asset(name: str = "a") -> Asset:
    """An asset by a name in place of a digest."""
    return Asset(name, f"file:///{name}.mp4", "video/mp4", 1000, 30.0)


def clip(of: Asset, index: int) -> Segment:
    """The asset's segment of 10 seconds."""
    return Segment(of, index * 10_000_000, 10_000_000)


def recipe(feature: str, *inputs: str, **changes: Any) -> Recipe:
    """A plain CPU feature that is written to Parquet, unless `changes` say otherwise."""
    base = Recipe(
        registry="r",
        feature=feature,
        version="1",
        per="asset",
        params=(),
        model=(),
        resources=Resources(),
        store="parquet",
        timeout=None,
        retries=2,
        batch=1,
        is_class=False,
        inputs=inputs,
        code="c",
    )
    return dataclasses.replace(base, **changes)


class Graph:
    """Steps made one by one, inputs first; a step's key is `feature` or `feature@unit`."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self._recipes: dict[Any, Recipe] = {}

    def add(
        self,
        feature: str,
        *needs: str,
        unit: Unit | None = None,
        key: str | None = None,
        home: int = 0,
        **changes: Any,
    ) -> str:
        """One more step over steps that were added before; returns its key."""
        named = recipe(feature, *(n.partition("@")[0] for n in needs), **changes)
        made = self._recipes.setdefault((named.feature, named), named)
        key = key or (feature if unit is None else f"{feature}@{unit.unit_id}")
        unit = asset() if unit is None else unit
        level = max((self.steps[n].level + 1 for n in needs), default=0)
        self.steps[key] = Step(key, made, unit, unit.unit_id, needs, level, home, tuple(dict.fromkeys(needs)))
        return key

    def each(
        self,
        feature: str,
        finder: str,
        *inputs: str,
        home: int = 0,
        span: tuple[int, int] | None = None,
        **changes: Any,
    ) -> str:
        """One template over a finder, and over templates and steps that are under it; returns its key.

        With a `span` it is for the windows that this touches, and its key says so.
        """
        named = recipe(feature, *(n.removeprefix("each ") for n in inputs), per=finder, **changes)
        key = f"each {feature}" if span is None else f"each {feature} in {span[0]}..{span[1]}"
        unit = EachRange(asset(), finder, finder, 10_000_000, span)
        level = max(self.steps[n].level + 1 for n in (finder, *inputs))
        self.steps[key] = Step(key, named, unit, unit.unit_id, inputs, level, home, (finder,))
        return key


def chain(*features: str, **changes: Any) -> dict[str, Step]:
    """Steps over one asset, each reading the one before."""
    graph = Graph()
    below: tuple[str, ...] = ()
    for feature in features:
        below = (graph.add(feature, *below, **changes),)
    return graph.steps


def diamond(**changes: Any) -> dict[str, Step]:
    """`root` is read by `left` and `right`, which `top` reads."""
    graph = Graph()
    graph.add("root", **changes)
    graph.add("left", "root", **changes)
    graph.add("right", "root", **changes)
    graph.add("top", "left", "right", **changes)
    return graph.steps


def fault(message: str = "the worker died", **changes: Any) -> Failure:
    """A system failure without its step, as the shell tells it."""
    return dataclasses.replace(Failure("system", "SystemFault", message, "", "", "", 503), **changes)


def broken(step: Step, kind: Any = "feature", message: str = "boom") -> Failure:
    """A step's own failure."""
    return Failure(kind, "FeatureError", message, step.recipe.feature, step.key, step.unit_id)


class Story:
    """A ledger, its clock, and what it was told to do; `check` runs after every event.

    `index` is what Parquet has: `Stored` adds to it, and `windows` what each finder finds. Each method is one
    event and returns its commands.
    """

    def __init__(
        self,
        *,
        nodes: Sequence[Mapping[str, float]] = (NODE,),
        stored: Iterable[str] = (),
        costs: Mapping[str, float] | None = None,
        sizes: int = 100,
        shard: int = 0,
        **settings: Any,
    ) -> None:
        self.now = 1000.0
        self.index = set(stored)
        self.told: dict[str, dict[str, ev.Ready | Failure]] = {}
        self.finished: list[str] = []
        self.tasks: dict[int, ev.Task] = {}
        self.windows: dict[str, Windows] = {}
        self.expanded: dict[tuple[str, str], tuple[str, ...]] = {}
        self._size = sizes
        known = {(name, "1"): (seconds, 100.0) for name, seconds in (costs or {}).items()}
        self.ledger = Ledger(
            Settings(**{"pack_seconds": 0.0, **settings}), self.index, shard=shard, costs=Costs(known)
        )
        self.do(ev.CapacityChanged(nodes))

    # --- events

    def do(self, event: ev.Event) -> list[ev.Command]:
        """Any event."""
        commands = self.ledger.handle(event, self.now)
        for command in commands:
            match command:
                case ev.Submit(task):
                    self.tasks[task.id] = task
                case ev.Expanded(request, template, _, keys):
                    assert (request, template) not in self.expanded, f"{request} was expanded twice"
                    self.expanded[request, template] = keys
                case ev.Deliver(request, key, outcome):
                    answers = self.told.setdefault(request, {})
                    assert key not in answers, f"{request} was told twice of {key}"
                    answers[key] = outcome
                case ev.Finished(request):
                    self.finished.append(request)
        check(self.ledger)
        return commands

    def ask(self, id: str, steps: Mapping[str, Step], *targets: str, **changes: Any) -> list[ev.Command]:
        """A request; by default for the last step."""
        return self.do(ev.Requested(id, steps, targets or (list(steps)[-1],), **changes))

    def leave(self, id: str) -> list[ev.Command]:
        return self.do(ev.Left(id))

    def done(self, *keys: str, size: int | None = None, seconds: float = 1.0) -> list[ev.Command]:
        """The task that runs these keys ends well; values that must come back do."""
        task = self.task_of(keys[0])
        assert {s.key for s in task.steps} == set(keys), [s.key for s in task.steps]
        reports = []
        for step in task.steps:
            kept = step.key in task.outputs
            size_, found = (size or self._size) if kept else 0, self.windows.get(step.key)
            reports.append(ev.StepReport(step.key, size_, seconds, kept, windows=found))
        return self.do(ev.Reported(task.id, reports))

    def fails(self, key: str, failure: Failure | None = None) -> list[ev.Command]:
        """The task that runs this key ends; this step and those behind it failed, the others did not."""
        task = self.task_of(key)
        step = next(s for s in task.steps if s.key == key)
        failure = failure or broken(step)
        bad = {key}
        reports = []
        for s in task.steps:
            if s.key in bad or bad & set(s.needs):
                bad.add(s.key)
                reports.append(ev.StepReport(s.key, kept=False, failure=failure))
            else:
                reports.append(ev.StepReport(s.key, self._size, 1.0, s.key in task.outputs))
        return self.do(ev.Reported(task.id, reports))

    def dies(
        self, key: str, failure: Failure | None = None, *, retry: bool = True, crashed: bool = False
    ) -> list[ev.Command]:
        """The task that runs this key ends without a word."""
        return self.do(ev.TaskLost(self.task_of(key).id, failure or fault(), retry, crashed))

    def stored(self, *keys: str) -> list[ev.Command]:
        self.index.update(keys)
        return self.do(ev.Stored(keys))

    def store_failed(self, *keys: str) -> list[ev.Command]:
        return self.do(ev.StoreFailed(keys))

    def restored(self, *keys: str) -> list[ev.Command]:
        found = {key: self.windows[key] for key in keys if key in self.windows}
        return self.do(ev.Restored(dict.fromkeys(keys, self._size), found))

    def unreadable(self, *keys: str) -> list[ev.Command]:
        self.index.difference_update(keys)
        return self.do(ev.RestoreFailed(keys))

    def lost(self, *keys: str) -> list[ev.Command]:
        return self.do(ev.Lost(keys))

    def purge(self, *keys: str) -> list[ev.Command]:
        self.index.difference_update(keys)
        return self.do(ev.Purged(keys))

    def wait(self, seconds: float) -> list[ev.Command]:
        """Time passes, with a tick whenever the ledger wants one."""
        end, commands = self.now + seconds, []
        while self.ledger.wake_at() <= end:
            self.now = max(self.now, self.ledger.wake_at())
            commands += self.do(ev.Tick())
        self.now = end
        return commands

    def nodes(self, *nodes: Mapping[str, float], **attainable: float) -> list[ev.Command]:
        return self.do(ev.CapacityChanged(nodes, attainable))

    # --- what is the case

    def state(self, key: str) -> State:
        return self.ledger.state_of(key)

    def task_of(self, key: str) -> ev.Task:
        """The live task that runs a key."""
        return self.ledger.tasks[self.ledger.entries[key].task]

    def answer(self, id: str, key: str) -> ev.Ready | Failure:
        return self.told[id][key]


def submitted(commands: Iterable[ev.Command]) -> list[list[str]]:
    """The keys of each task handed over, in order."""
    return [[s.key for s in c.task.steps] for c in commands if isinstance(c, ev.Submit)]


def delivered(commands: Iterable[ev.Command]) -> list[tuple[str, str]]:
    """(request, key) of each answer, in order."""
    return [(c.request, c.key) for c in commands if isinstance(c, ev.Deliver)]


def keys_of(commands: Iterable[ev.Command], kind: type[ev.Spill | ev.Restore | ev.Drop]) -> list[str]:
    """The keys of all commands of a kind."""
    return [key for c in commands if isinstance(c, kind) for key in c.keys]


def kinds(commands: Iterable[ev.Command]) -> list[str]:
    """The commands' names, in order."""
    return [type(c).__name__ for c in commands]


def key_of(name: str) -> str:
    """A name as a key is spelt: 32 hex digits."""
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
