"""Nodes, tasks, warm actors and objects: what a shard's ports for work are bound to here.

Steps are run by the real worker code (`fabric.worker.tasks`, `fabric.worker.warm`). What goes wrong is around
it: workers and nodes die, reports are incomplete, objects are lost, cancelled work goes on, and hung work is
ended.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amber_ray.core.planning.plan import Recipe
from amber_ray.core.state import events as ev
from amber_ray.fabric.shard.ports import CallFailed, Fault, Ref, TaskResult, WarmActor
from amber_ray.fabric.transport.messages import Made, StepResult, Work
from amber_ray.fabric.worker import tasks
from amber_ray.fabric.worker.warm import WarmModel
from tests.simulation.loop import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

CANCELLED = Fault("Cancelled", "the step was stopped", 409, retry=False, cancelled=True)
CRASHED = Fault("SystemFault", "the worker process died while it ran the step", crashed=True)
NODE_DIED = Fault("SystemFault", "the node died while it ran the step")
LOST = Fault("SystemFault", "an input was lost with its node", inputs_lost=True)
GONE = Fault("SystemFault", "the warm worker died while it ran the step", crashed=True, gone=True)


@dataclass(slots=True, eq=False)
class Object:
    """An object in the object store; its items are pickled, so that every reader gets its own."""

    number: int
    data: bytes
    owner: Process
    node: int
    lost: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent as its number: there is one of it."""
        return _object, (self.number,)


class Objects:
    """All objects of the world that runs."""

    def __init__(self) -> None:
        self._objects: dict[int, Object] = {}
        self._world: World | None = None

    def begin(self, world: World) -> None:
        """Another world: no object is left of the last one."""
        self._objects = {}
        self._world = world

    def numbered(self, number: int) -> Object:
        """An object by its number."""
        return self._objects[number]

    def put(self, values: Sequence[Any], owner: Process, about: str, node: int | None = None) -> Object:
        """Make an object of some values."""
        assert self._world is not None
        number = len(self._objects) + 1
        place = self._world.nodes.place(about) if node is None else node
        made = self._objects[number] = Object(number, pickle.dumps(list(values), protocol=5), owner, place)
        return made

    def open(self, one: Object) -> list[Any] | None:
        """What is in it, read-only as Ray hands it out; None if it is lost."""
        if one.lost or not one.owner.alive:
            return None
        values: list[Any] = pickle.loads(one.data)
        for value in values:
            if hasattr(value, "flags"):
                value.flags.writeable = False
        return values

    def on(self, node: int) -> list[Object]:
        """The objects of a node."""
        return [o for o in self._objects.values() if o.node == node]


_OBJECTS = Objects()


def _object(number: int) -> Object:
    return _OBJECTS.numbered(number)


def objects() -> Objects:
    """The objects of the world that runs."""
    return _OBJECTS


class Nodes:
    """The machines of the cluster."""

    def __init__(self, world: World, nodes: Sequence[Mapping[str, float]]) -> None:
        self._world = world
        self.all: dict[int, Mapping[str, float]] = dict(enumerate(nodes))
        self._runs: dict[int, dict[Run, None]] = {}

    def place(self, about: str) -> int:
        """Any node."""
        return self._world.draws.pick("place", about, list(self.all))

    def fit(self, needs: Mapping[str, float], about: str) -> int | None:
        """A node that has what is needed, or None."""
        fit = [n for n, has in self.all.items() if all(has.get(r, 0.0) >= a for r, a in needs.items())]
        return self._world.draws.pick("node", about, fit) if fit else None

    def begins(self, run: Run, node: int) -> None:
        """Something runs on a node."""
        self._runs.setdefault(node, {})[run] = None

    def ends(self, run: Run, node: int) -> None:
        """It no longer does."""
        self._runs.get(node, {}).pop(run, None)

    def dies(self, number: int) -> Mapping[str, float]:
        """A node goes, with its objects and what it runs."""
        has = self.all.pop(number)
        for one in _OBJECTS.on(number):
            one.lost = True
        for run in list(self._runs.pop(number, ())):
            self._world.saw("a node died with a task")
            self._world.later(0.05, run.node_died)
        return has


class Run:
    """A task or a batch under way. Implements `Call[TaskResult]`.

    Its life: wait for a node, take what it reads, run, report. It goes on without its owner only until its
    next step, and then vanishes.
    """

    def __init__(
        self, cluster: SimCluster, work: Work, slots: Sequence[Ref], needs: Mapping[str, float]
    ) -> None:
        self.work = work
        self.cancelled = False
        self.over = False
        self.ended: Callable[[], None] = lambda: None
        self.node_died: Callable[[], None] = lambda: self.fail(NODE_DIED)
        self._cluster = cluster
        self._world = cluster.world
        self._slots = slots
        self._needs = needs
        self._node: int | None = None
        self._about = work.steps[0].key
        self._done: asyncio.Future[TaskResult] = self._world.loop.create_future()
        self._done.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def result(self) -> TaskResult:
        """See `Call.result`."""
        return await asyncio.shield(self._done)

    def cancel(self, *, force: bool) -> None:
        """See `Call.cancel`. Asking is a wish: the task may end at once, or as if nothing had been said."""
        self.cancelled = True
        if force or self._node is None or self._world.draws.unit("obeys", self._about) < 0.5:
            self._world.later(0.05, lambda: self.fail(CANCELLED))

    # --- life

    def begin(self, then: Callable[[], None]) -> None:
        """Find a node and go on with `then` once the run's time is over."""
        draws = self._world.draws
        seconds = 0.05 + draws.unit("seconds", self._about) * 3.0
        if self._world.chance("slow", self._about):
            seconds += 10.0
        self.later(seconds * 0.1, lambda: self._start(seconds * 0.9, then))

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something after a while, if this goes on by then."""

        def now() -> None:
            if not self.over and self._cluster.process.alive:
                what()

        self._world.later(seconds, now)

    def _start(self, seconds: float, then: Callable[[], None]) -> None:
        node = self._world.nodes.fit(self._needs, self._about)
        if node is None:
            self.later(1.0, lambda: self._start(seconds, then))
            return
        self._node = node
        self._world.nodes.begins(self, node)
        if any(_OBJECTS.open(slot) is None for slot in self._slots):
            self._world.saw("a task found its inputs gone")
            self.fail(LOST)
            return
        self.later(seconds, then)

    def in_worker(self, run: Callable[..., tuple[Any, ...]]) -> None:
        """The run's time is over: what came of it, in a worker of its own?"""
        world, work = self._world, self.work
        if any(world.media.poison(step.key) for step in work.steps):
            world.saw("a step killed its worker")
            self.fail(CRASHED)
        elif world.chance("die", self._about):
            world.saw("a worker died")
            self.fail(CRASHED)
        elif world.chance("hang", self._about):
            world.saw("a step ran past its timeout")
            world.tell(world.shards[work.steps[0].home], "timed_out", work.task, work.steps[-1].key)
            self.later(0.5, lambda: self.fail(CRASHED))
        else:
            self.work_off(run)

    def work_off(self, run: Callable[..., tuple[Any, ...]]) -> None:
        """Run the steps, and report."""
        opened = [_OBJECTS.open(slot) for slot in self._slots]
        if any(values is None for values in opened):
            self.fail(LOST)  # the node that held it died before it was read
        else:
            self._report(*run(opened))

    def _report(self, results: list[StepResult], *slots: list[Any]) -> None:
        world = self._world
        created = world.unix()
        report = [
            r
            if r.made is None
            else r._replace(made=Made(world.draws.unit("took", r.key), r.made.device, created))
            for r in results
        ]
        if len(report) > 1 and world.chance("mute", self._about):
            world.saw("a report was incomplete")
            report.pop(int(world.draws.unit("muted", self._about) * len(report)))
        if self.cancelled:
            world.saw("a result came after cancellation")
        owner = self._cluster.process
        refs = [_OBJECTS.put(values, owner, self._about, self._node) for values in slots]
        self._end(lambda: self._done.set_result((pickle.loads(pickle.dumps(report)), refs)))

    def fail(self, fault: Fault) -> None:
        """It ends without a result."""
        if not self.over:
            self._world.oracle.failed(self.work, self._cluster.process)
            self._end(lambda: self._done.set_exception(CallFailed(fault)))

    def _end(self, settle: Callable[[], None]) -> None:
        self.over = True
        if self._node is not None:
            self._world.nodes.ends(self, self._node)
        if not self._done.done():
            settle()
        self.ended()


class SimWarmActor:
    """A process with one model; it runs its batches one after the other. Implements `WarmActor`."""

    def __init__(self, cluster: SimCluster, recipe: Recipe, needs: Mapping[str, float]) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._needs = needs
        self._queue: list[Run] = []
        self._alive = True
        self._running: Run | None = None
        registry = cluster.registries[recipe.registry]
        self._model = WarmModel(registry.get(recipe.feature), recipe.model)
        self._about = f"actor of {recipe.feature}"

    def run(self, work: Work, slots: Sequence[Ref]) -> Run:
        """See `WarmActor.run`."""
        self._world.oracle.begins(work, self._cluster.process)
        run = Run(self._cluster, pickle.loads(pickle.dumps(work)), slots, self._needs)
        run.ended, run.node_died = self._next, self.kill
        if not self._alive:
            # It died with nothing to do, or unheard: nobody can tell this from a death by its first batch.
            self._world.oracle.turn(work, self._cluster.process)
            self._world.later(0.05, lambda: run.fail(GONE))
        else:
            self._queue.append(run)
            if len(self._queue) == 1:
                self._next()
        return run

    def _next(self) -> None:
        """Begin the oldest batch, unless it runs already."""
        while self._queue and self._queue[0].over:
            self._queue.pop(0)
        if not self._queue or not self._alive or self._queue[0] is self._running:
            return
        run = self._running = self._queue[0]
        self._world.oracle.turn(run.work, self._cluster.process)
        if self._world.chance("die", f"before {run.work.steps[0].key}"):
            self._world.saw("a warm actor died before a batch's turn")
            self._dies()
        else:
            run.begin(lambda: self._batch(run))

    def _batch(self, run: Run) -> None:
        world = self._world
        if not self._alive:
            return
        if any(world.media.poison(step.key) for step in run.work.steps):
            world.saw("a step killed its warm actor")
            self._dies()
            return
        if world.chance("die", f"actor with {run.work.steps[0].key}"):
            world.saw("a warm actor died")
            self._dies()
            return
        run.work_off(lambda opened: self._model.run(run.work, *opened))

    def _dies(self) -> None:
        self._alive = False
        queue, self._queue = self._queue, []
        for run in queue:
            self._world.later(
                0.02 + 0.1 * self._world.draws.unit("hears", self._about), lambda run=run: run.fail(GONE)
            )

    def kill(self) -> None:
        """See `WarmActor.kill`."""
        if self._alive:
            self._dies()


class SimCluster:
    """The cluster port of one shard's process. Implements `Cluster`."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self.registries: dict[str, Any] = {}
        self.callers: dict[Any, list[Any]] = {}

    def publish(self, digest: str, blob: bytes) -> None:
        """See `Cluster.publish`."""
        self.registries[digest] = self.world.registry(digest)

    def run(self, task: ev.Task, work: Work, slots: Sequence[Ref]) -> Run:
        """See `Cluster.run`."""
        self.world.oracle.begins(work, self.process)
        work = pickle.loads(pickle.dumps(work))
        run = self.make_run(work, slots, task.needs)
        self.world.oracle.turn(work, self.process)
        registry = self.registries[work.registry]
        run.begin(lambda: run.in_worker(lambda opened: tasks.run_steps(registry, work, opened)))
        return run

    def make_run(self, work: Work, slots: Sequence[Ref], needs: Mapping[str, float]) -> Run:
        """A task's life."""
        return Run(self, work, slots, needs)

    def start_actor(self, recipe: Recipe, needs: Mapping[str, float]) -> WarmActor:
        """See `Cluster.start_actor`."""
        if recipe.calls.concurrency:
            from tests.simulation.calls import CallPort, SimCallActor

            return CallPort(SimCallActor(self, recipe))
        return SimWarmActor(self, recipe, needs)

    async def nodes(self) -> list[Mapping[str, float]]:
        """See `Cluster.nodes`."""
        await asyncio.sleep(0.01)
        return list(self.world.nodes.all.values())
