"""The actor of an `async def` feature: calls side by side, by the real worker code (`fabric.worker.calls`).

What is watched here: never more calls in flight than declared, never more of them begun than the rate lets,
and nothing of a call goes on once it was cancelled.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from amber_ray.core.planning.plan import Recipe, Step
from amber_ray.core.scheduler.calls import LATE_SECONDS
from amber_ray.fabric.shard.ports import Ref
from amber_ray.fabric.transport.messages import Work
from amber_ray.fabric.worker.calls import CallMaker
from tests.simulation.cluster import CANCELLED, GONE, LOST, Run, objects

if TYPE_CHECKING:
    from amber_ray.fabric.worker.snapshot import Snapshot
    from amber_ray.fabric.worker.tasks import Inputs
    from tests.simulation.cluster import SimCluster


class Starts:
    """When calls of one feature were begun or handed over: no faster than its rate."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def one(self, now: float, apart: float, about: str) -> None:
        """One more. In T seconds there may be (T + LATE_SECONDS) / apart + 1."""
        self._times.append(now)
        for n, first in enumerate(reversed(self._times), 1):
            most = (now - first + LATE_SECONDS) / apart + 1
            assert n <= most + 1e-6, f"{n} calls of {about} in {now - first:.3f} s, {apart:g} s apart"


class NoWatchdog:
    """Virtual time: what never ends is not waited for."""

    def arm(self, seconds: float, act: Callable[[], None]) -> int:
        """See `Watchdog.arm`."""
        return 0

    def disarm(self, number: int) -> None:
        """See `Watchdog.disarm`."""


class CallRun(Run):
    """A call that an actor was given. Its life: arrive with what it reads, stand in line, be made, report."""

    call: asyncio.Task[None] | None = None

    def cancel(self, *, force: bool) -> None:
        """See `Call.cancel`. A coroutine is stopped; a call that has not arrived may be heard of or not."""
        self.cancelled = True
        if force:
            self._world.fail(AssertionError("one call is stopped by ending its actor"))
        if self.call is not None:
            self.call.cancel()
        elif self._world.draws.unit("obeys", self._about) < 0.5:
            self._world.later(0.05, lambda: self.fail(CANCELLED))

    def arrive(self, maker: SimCallActor, node: int) -> None:
        """The actor is told of it."""
        self._node = node
        self._world.nodes.begins(self, node)
        opened = [objects().open(slot) for slot in self._slots]
        if any(values is None for values in opened):
            self._world.saw("a task found its inputs gone")
            self.fail(LOST)
        else:
            self.call = self._world.loop.create_task(self._make(maker, opened))

    async def _make(self, maker: SimCallActor, opened: Sequence[Any]) -> None:
        try:
            made = await maker.run(self.work, *opened)
        except asyncio.CancelledError:
            self._world.saw("a call was cancelled")
            self._world.later(0.01, lambda: self.fail(CANCELLED))
        else:
            if maker.alive and not self.over:
                self._report(*made)


class SimCallActor(CallMaker):
    """A process that makes calls. Not a `WarmActor` itself, as `run` is the worker's: see `CallPort`."""

    def __init__(self, cluster: SimCluster, recipe: Recipe) -> None:
        super().__init__(cluster.registries[recipe.registry].get(recipe.feature), recipe.model, NoWatchdog())
        self._cluster = cluster
        self._world = cluster.world
        self._given: list[CallRun] = []
        self._up = True
        self._in_flight = 0
        self._begun = Starts()
        self._last_arrival = 0.0
        self._node = self._world.nodes.place(f"actor of {recipe.feature}")
        self._pool = cluster.callers.setdefault(recipe.pool, [])
        self._pool.append(self)

    @property
    def alive(self) -> bool:
        """Whether anything of it goes on."""
        return self._up and self._cluster.process.alive

    def give(self, work: Work, slots: Sequence[Ref]) -> CallRun:
        """See `WarmActor.run`. Calls arrive in the order in which they were given."""
        world = self._world
        world.oracle.begins(work, self._cluster.process)
        run = CallRun(self._cluster, pickle.loads(pickle.dumps(work)), slots, {})
        run.node_died = self.die
        if not self._up:
            world.oracle.turn(work, self._cluster.process)  # as for batches: nobody can tell
            world.later(0.05, lambda: run.fail(GONE))
            return run
        self._given.append(run)
        run.ended = lambda: self._given.remove(run)
        now = world.loop.time()
        delay = 0.2 * world.draws.unit("arrives", work.steps[0].key)
        self._last_arrival = max(self._last_arrival + 1e-4, now + delay)
        run.later(self._last_arrival - now, lambda: run.arrive(self, self._node))
        return run

    def ends(self) -> None:
        """The shard ends it."""
        if self._up and not all(run.over or run.cancelled for run in self._given):
            self._world.fail(AssertionError(f"an actor is ended in the midst of {len(self._given)} calls"))
        self.die()

    def die(self) -> None:
        """The process is gone. What was in flight is never heard of again."""
        if not self._up:
            return
        self._up = False
        for n, run in enumerate(self._given):
            if n < self._spec.calls.concurrency:  # it may have begun
                self._world.oracle.turn(run.work, self._cluster.process)
            hears = 0.02 + 0.1 * self._world.draws.unit("hears", run.work.steps[0].key)
            self._world.later(hears, lambda run=run: run.fail(GONE))

    async def _call(self, work: Work, step: Step, values: Inputs) -> Snapshot:
        """One call, in flight."""
        world = self._world
        if not self.alive:
            await asyncio.Event().wait()
        world.oracle.turn(work, self._cluster.process)
        self._in_flight += 1
        try:
            self._check(work)
            if world.media.poison(step.key) or world.chance("die", f"call {step.key}"):
                await asyncio.sleep(world.draws.unit("dies", step.key))
                world.saw("an actor died with calls in flight")
                self.die()
                await asyncio.Event().wait()
            return await super()._call(work, step, values)
        finally:
            self._in_flight -= 1

    def _check(self, work: Work) -> None:
        calls, world = self._spec.calls, self._world
        others = sum(actor._in_flight for actor in self._pool if actor is not self and actor.alive)
        if self._in_flight > 1:
            world.saw("calls were in flight side by side")
        if others:
            world.saw("a suspected call was made beside others")
        try:
            now, most = self._in_flight + others, calls.concurrency
            assert now <= most, f"{now} of {most} calls at once"
            if calls.rate is not None:
                self._begun.one(world.loop.time(), work.apart, self._spec.name)
        except AssertionError as error:
            world.fail(error)


class CallPort:
    """An actor that makes calls, as a shard sees it. Implements `WarmActor`."""

    def __init__(self, actor: SimCallActor) -> None:
        self._actor = actor

    def run(self, work: Work, slots: Sequence[Ref]) -> CallRun:
        """See `WarmActor.run`."""
        return self._actor.give(work, slots)

    def kill(self) -> None:
        """See `WarmActor.kill`. Never while somebody waits for a call."""
        self._actor.ends()
