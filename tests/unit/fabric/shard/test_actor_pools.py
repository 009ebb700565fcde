"""Which warm actor takes a batch, and what becomes of the batches of one that ends. No real actors."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import ray

from amber_ray.core.declare.feature import Resources
from amber_ray.core.state import events as ev
from amber_ray.fabric.adapter import actor_pools as module
from amber_ray.fabric.adapter.actor_pools import Pool, Pools
from amber_ray.fabric.adapter.faults import NotStarted, Suspected
from amber_ray.fabric.transport.messages import Work
from tests.core_kit import chain, recipe

ONE_GPU = {"CPU": 4.0, "GPU": 1.0}


class Handle:
    """In place of a Ray actor's handle: `calls` are the batches it was given, ended by the test."""

    def __init__(self, feature: str) -> None:
        self.feature = feature
        self.calls: dict[int, asyncio.Future[Any]] = {}
        self.killed = False
        self.run = self

    def options(self, **_: Any) -> Handle:
        return self

    def remote(self, work: Work) -> list[asyncio.Future[Any]]:
        self.calls[work.task] = asyncio.get_running_loop().create_future()
        return [self.calls[work.task]]

    def dies(self) -> None:
        for call in self.calls.values():
            if not call.done():
                call.set_exception(ray.exceptions.ActorDiedError())


class Stage:
    """Pools over pretended actors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, total: dict[str, float]) -> None:
        self.handles: list[Handle] = []
        self.pools = Pools(60.0, self._launch)
        self.pools.set_total(total)
        self._last = 0
        monkeypatch.setattr(ray, "kill", self._kill)
        monkeypatch.setattr(ray, "cancel", lambda ref: ref.set_exception(ray.exceptions.TaskCancelledError()))

    def _launch(self, pool: Pool) -> Handle:
        self.handles.append(Handle(pool.recipe.feature))
        return self.handles[-1]

    def _kill(self, handle: Handle) -> None:
        handle.killed = True
        handle.dies()

    @property
    def alive(self) -> list[Handle]:
        return [h for h in self.handles if not h.killed]

    async def give(
        self, feature: str, *, isolated: bool = False, **needs: float
    ) -> tuple[int, asyncio.Task[Any]]:
        """One more batch, of which the pools have heard; its number and its end."""
        self._last += 1
        step = chain(feature, is_class=True, resources=Resources())[feature]
        made = recipe(feature, is_class=True)
        task = ev.Task(self._last, (step,), frozenset([feature]), needs, made, pool=True, isolated=isolated)
        work = Work(task.id, task.steps, task.outputs, {}, {}, 1, 0, "r", "n", "a")
        end = asyncio.ensure_future(self.pools.run(task, work, None, []))
        await self.turn()
        return task.id, end

    async def turn(self) -> None:
        """Everyone who can go on does."""
        for _ in range(5):
            await asyncio.sleep(0)

    async def done(self, task: int) -> None:
        next(h for h in self.handles if task in h.calls).calls[task].set_result([])
        await self.turn()

    def where(self, task: int) -> int | None:
        """The number of the actor that was given a batch."""
        return next((i for i, h in enumerate(self.handles) if task in h.calls), None)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 10))


def test_a_pool_grows_to_what_the_cluster_has_then_actors_get_a_second_batch_then_batches_wait(monkeypatch):
    async def story() -> None:
        stage = Stage(monkeypatch, {"CPU": 2.0})
        tasks = [(await stage.give("f", CPU=1.0))[0] for _ in range(5)]
        assert [stage.where(t) for t in tasks] == [0, 1, 0, 1, None]
        await stage.done(tasks[1])
        assert stage.where(tasks[4]) == 1
        assert stage.pools.counters == {"warm_batches": 5, "warm_items": 5, "warm_starts": 2}

    run(story())


def test_of_the_batches_of_an_actor_that_dies_the_oldest_is_suspected_and_the_others_are_innocent(
    monkeypatch,
):
    async def story() -> None:
        stage = Stage(monkeypatch, {"CPU": 1.0})
        (first, one), (_, two), (_, three) = [await stage.give("f", CPU=1.0) for _ in range(3)]
        await stage.done(first)
        stage.handles[0].dies()  # two ran, three stood behind it
        await stage.turn()
        assert one.exception() is None
        assert isinstance(two.exception(), Suspected)
        assert isinstance(three.exception(), NotStarted)
        task, end = await stage.give("f", CPU=1.0)
        await stage.done(task)
        assert (stage.where(task), end.exception()) == (1, None)
        _, end = await stage.give("f", CPU=1.0)
        stage.handles[1].dies()
        await stage.turn()
        assert isinstance(end.exception(), ray.exceptions.ActorDiedError)  # it was the only one

    run(story())


def test_a_step_that_is_suspected_has_an_actor_to_itself(monkeypatch):
    async def story() -> None:
        stage = Stage(monkeypatch, {"CPU": 1.0})
        first, _ = await stage.give("f", CPU=1.0)
        suspect, end = await stage.give("f", isolated=True, CPU=1.0)
        behind, _ = await stage.give("f", CPU=1.0)
        assert [stage.where(t) for t in (first, suspect, behind)] == [0, None, None]
        await stage.done(first)
        assert [stage.where(t) for t in (suspect, behind)] == [0, None]
        stage.handles[0].dies()
        await stage.turn()
        assert isinstance(end.exception(), ray.exceptions.ActorDiedError)
        assert stage.where(behind) == 1

    run(story())


def test_a_batch_that_can_not_be_stopped_takes_its_actor_along_and_spares_the_one_behind(monkeypatch):
    async def story() -> None:
        stage = Stage(monkeypatch, {"CPU": 1.0})
        (first, one), (second, two) = [await stage.give("f", CPU=1.0) for _ in range(2)]
        stage.pools.cancel(second, force=True)  # it does not run: its turn comes when the first is done
        assert not stage.handles[0].killed
        stage.pools.cancel(first, force=True)
        await stage.turn()
        assert stage.handles[0].killed
        assert isinstance(one.exception(), Suspected)
        assert isinstance(two.exception(), NotStarted)

    run(story())


def test_a_batch_that_waits_for_an_actor_can_be_taken_back(monkeypatch):
    async def story() -> None:
        stage = Stage(monkeypatch, {"CPU": 1.0})
        (first, _), (second, _), (third, end) = [await stage.give("f", CPU=1.0) for _ in range(3)]
        stage.pools.cancel(third, force=False)
        await stage.turn()
        assert isinstance(end.exception(), ray.exceptions.TaskCancelledError)
        await stage.done(first)
        await stage.done(second)
        assert stage.where(third) is None

    run(story())


def test_fractions_of_a_gpu_are_honoured_and_held_for_life(monkeypatch):
    async def story() -> None:
        stage = Stage(monkeypatch, ONE_GPU)
        for _ in range(6):
            await stage.give("f", GPU=0.5)
        assert len(stage.handles) == 2

    run(story())


def test_each_resource_shape_has_a_pool_of_its_own(monkeypatch):
    async def story() -> None:
        stage = Stage(monkeypatch, ONE_GPU)
        on_cpu, _ = await stage.give("f", CPU=1.0)
        await stage.done(on_cpu)
        on_gpu, _ = await stage.give("f", GPU=1.0)
        assert (stage.where(on_cpu), stage.where(on_gpu)) == (0, 1)
        assert len(stage.alive) == 2

    run(story())


def test_an_idle_actor_gives_way_and_is_not_ended_for_nothing(monkeypatch):
    async def story() -> None:
        stage = Stage(monkeypatch, {"CPU": 4.0, "GPU": 2.0})
        idle, _ = await stage.give("f", GPU=1.0)
        cheap, _ = await stage.give("c", CPU=1.0)
        busy, _ = await stage.give("g", GPU=1.0)
        await stage.done(idle)
        await stage.done(cheap)
        large, _ = await stage.give("h", GPU=2.0)  # the idle one's GPU would not do
        assert (stage.where(large), len(stage.alive)) == (None, 3)
        small, _ = await stage.give("i", GPU=1.0)
        assert [h.feature for h in stage.alive] == ["c", "g", "i"]  # that holds no GPU stays
        await stage.done(busy)
        await stage.done(small)
        assert stage.where(large) is not None

    run(story())


def test_a_busy_actor_gives_way_after_a_while_once_it_has_done_what_it_was_given(monkeypatch):
    async def story() -> None:
        stage = Stage(monkeypatch, ONE_GPU)
        (first, _), (second, _), (third, _) = [await stage.give("f", GPU=1.0) for _ in range(3)]
        starved, _ = await stage.give("g", GPU=1.0)
        await stage.done(first)
        assert (stage.where(third), stage.where(starved)) == (0, None)
        monkeypatch.setattr(module, "TENURE_SECONDS", 0.0)
        more, _ = await stage.give("f", GPU=1.0)
        await stage.done(second)
        assert (stage.where(more), stage.where(starved)) == (None, None)
        await stage.done(third)
        assert (stage.handles[0].killed, stage.where(starved)) == (True, 1)
        await stage.done(starved)
        assert stage.where(more) == 2

    run(story())


def test_idle_actors_are_let_go_after_their_time(monkeypatch):
    async def story() -> None:
        stage = Stage(monkeypatch, {"CPU": 2.0})
        (first, _), (_, _) = [await stage.give("f", CPU=1.0) for _ in range(2)]
        await stage.done(first)
        now = asyncio.get_running_loop().time()
        stage.pools.retire_idle(now)
        assert len(stage.alive) == 2
        stage.pools.retire_idle(now + 61.0)
        assert [h.killed for h in stage.handles] == [True, False]

    run(story())


def test_an_actor_for_what_an_autoscaler_can_add_is_asked_of_ray(monkeypatch):
    async def story() -> None:
        stage = Stage(monkeypatch, {"CPU": 2.0})
        await stage.give("f", GPU=1.0)
        await stage.give("f", GPU=1.0)
        assert len(stage.handles) == 1

    run(story())
