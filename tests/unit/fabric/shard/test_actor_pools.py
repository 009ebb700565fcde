"""Which warm actor takes a batch, and what becomes of the batches of one that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from amber_ray.core.declare.calls import Calls
from amber_ray.core.declare.feature import Resources
from amber_ray.core.state import events as ev
from amber_ray.fabric.shard.actor_pools import TENURE_SECONDS, ActorPools
from amber_ray.fabric.shard.ports import CallFailed, Fault
from amber_ray.fabric.transport.messages import Work
from tests.core_kit import chain, recipe
from tests.unit.fabric.shard.kit import GONE, Actor, Machines, Still, turns

ONE_GPU = {"CPU": 4.0, "GPU": 1.0}


class Stage:
    """Pools over actors that the test ends."""

    def __init__(self, total: dict[str, float]) -> None:
        self.machines = Machines()
        self.clock = Still()
        self.pools = ActorPools(self.machines, self.clock.now, 60.0)
        self.pools.set_total(total)
        self._last = 0

    @property
    def actors(self) -> list[Actor]:
        return self.machines.actors

    @property
    def alive(self) -> list[Actor]:
        return [a for a in self.actors if not a.killed]

    async def give(
        self, feature: str, *, isolated: bool = False, concurrency: int = 0, **needs: float
    ) -> tuple[int, asyncio.Task[Any]]:
        """One more batch, or call, of which the pools have heard; its number and its end."""
        self._last += 1
        step = chain(feature, is_class=True, resources=Resources())[feature]
        made = recipe(feature, is_class=True, calls=Calls(concurrency))
        task = ev.Task(self._last, (step,), frozenset([feature]), needs, made, pool=True, isolated=isolated)
        work = Work(task.id, task.steps, task.outputs, {}, {}, 1, 0, "r", "n", "a")
        end = asyncio.ensure_future(self.pools.run(task, work, []))
        await turns()
        return task.id, end

    async def done(self, task: int) -> None:
        next(a for a in self.actors if task in a.calls).calls[task].ends(([], []))
        await turns()

    def where(self, task: int) -> int | None:
        """The number of the actor that was given a batch."""
        return next((i for i, a in enumerate(self.actors) if task in a.calls), None)


def fault_of(end: asyncio.Task[Any]) -> Fault:
    error = end.exception()
    assert isinstance(error, CallFailed)
    return error.fault


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 10))


def test_a_pool_grows_to_what_the_cluster_has_then_actors_get_a_second_batch_then_batches_wait() -> None:
    async def story() -> None:
        stage = Stage({"CPU": 2.0})
        tasks = [(await stage.give("f", CPU=1.0))[0] for _ in range(5)]
        assert [stage.where(t) for t in tasks] == [0, 1, 0, 1, None]
        await stage.done(tasks[1])
        assert stage.where(tasks[4]) == 1
        assert stage.pools.counters == {"warm_batches": 5, "warm_items": 5, "warm_starts": 2}

    run(story())


def test_of_the_batches_of_an_actor_that_dies_the_oldest_is_suspected_and_the_others_are_innocent() -> None:
    async def story() -> None:
        stage = Stage({"CPU": 1.0})
        (first, one), (_, two), (_, three) = [await stage.give("f", CPU=1.0) for _ in range(3)]
        await stage.done(first)
        stage.actors[0].dies()  # two ran, three stood behind it
        await turns()
        assert one.exception() is None
        assert fault_of(two).shared
        assert not fault_of(three).started
        task, end = await stage.give("f", CPU=1.0)
        await stage.done(task)
        assert (stage.where(task), end.exception()) == (1, None)
        _, end = await stage.give("f", CPU=1.0)
        stage.actors[1].dies()
        await turns()
        assert fault_of(end) == GONE  # it was the only one

    run(story())


# A call that is suspected waits for the one actor, too, where there is no room for another.
@pytest.mark.parametrize(("feature", "needs"), [("f", {"CPU": 1.0}), ("asks", {"concurrency": 2})])
def test_a_step_that_is_suspected_has_an_actor_to_itself(feature: str, needs: dict[str, Any]) -> None:
    async def story() -> None:
        stage = Stage({"CPU": 1.0})
        first, _ = await stage.give(feature, **needs)
        suspect, end = await stage.give(feature, isolated=True, **needs)
        behind, _ = await stage.give(feature, **needs)
        assert [stage.where(t) for t in (first, suspect, behind)] == [0, None, None]
        await stage.done(first)
        assert [stage.where(t) for t in (suspect, behind)] == [0, None]
        stage.actors[0].dies()
        await turns()
        assert fault_of(end) == GONE
        assert stage.where(behind) == 1

    run(story())


def test_a_batch_that_can_not_be_stopped_takes_its_actor_along_and_spares_the_one_behind() -> None:
    async def story() -> None:
        stage = Stage({"CPU": 1.0})
        (first, one), (second, two) = [await stage.give("f", CPU=1.0) for _ in range(2)]
        stage.pools.cancel(second, force=True)  # it does not run: its turn comes when the first is done
        assert not stage.actors[0].killed
        stage.pools.cancel(first, force=True)
        await turns()
        assert stage.actors[0].killed
        assert fault_of(one).shared
        assert not fault_of(two).started

    run(story())


def test_a_batch_that_waits_for_an_actor_can_be_taken_back() -> None:
    async def story() -> None:
        stage = Stage({"CPU": 1.0})
        (first, _), (second, _), (third, end) = [await stage.give("f", CPU=1.0) for _ in range(3)]
        stage.pools.cancel(third, force=False)
        await turns()
        assert fault_of(end).cancelled
        await stage.done(first)
        await stage.done(second)
        assert stage.where(third) is None

    run(story())


def test_fractions_of_a_gpu_are_honoured_and_held_for_life() -> None:
    async def story() -> None:
        stage = Stage(ONE_GPU)
        for _ in range(6):
            await stage.give("f", GPU=0.5)
        assert len(stage.actors) == 2

    run(story())


def test_each_resource_shape_has_a_pool_of_its_own() -> None:
    async def story() -> None:
        stage = Stage(ONE_GPU)
        on_cpu, _ = await stage.give("f", CPU=1.0)
        await stage.done(on_cpu)
        on_gpu, _ = await stage.give("f", GPU=1.0)
        assert (stage.where(on_cpu), stage.where(on_gpu)) == (0, 1)
        assert len(stage.alive) == 2

    run(story())


def test_an_idle_actor_gives_way_and_is_not_ended_for_nothing() -> None:
    async def story() -> None:
        stage = Stage({"CPU": 4.0, "GPU": 2.0})
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


def test_a_busy_actor_gives_way_after_a_while_once_it_has_done_what_it_was_given() -> None:
    async def story() -> None:
        stage = Stage(ONE_GPU)
        (first, _), (second, _), (third, _) = [await stage.give("f", GPU=1.0) for _ in range(3)]
        starved, _ = await stage.give("g", GPU=1.0)
        await stage.done(first)
        assert (stage.where(third), stage.where(starved)) == (0, None)
        stage.clock.time += TENURE_SECONDS
        more, _ = await stage.give("f", GPU=1.0)
        await stage.done(second)
        assert (stage.where(more), stage.where(starved)) == (None, None)
        await stage.done(third)
        assert (stage.actors[0].killed, stage.where(starved)) == (True, 1)
        await stage.done(starved)
        assert stage.where(more) == 2

    run(story())


def test_idle_actors_are_let_go_after_their_time() -> None:
    async def story() -> None:
        stage = Stage({"CPU": 2.0})
        (first, _), (_, _) = [await stage.give("f", CPU=1.0) for _ in range(2)]
        await stage.done(first)
        now = stage.clock.now()
        stage.pools.retire_idle(now)
        assert len(stage.alive) == 2
        stage.pools.retire_idle(now + 61.0)
        assert [h.killed for h in stage.actors] == [True, False]

    run(story())


def test_an_actor_for_what_an_autoscaler_can_add_is_asked_of_ray() -> None:
    async def story() -> None:
        stage = Stage({"CPU": 2.0})
        await stage.give("f", GPU=1.0)
        await stage.give("f", GPU=1.0)
        assert len(stage.actors) == 1

    run(story())


# --- calls


def test_one_actor_is_given_as_many_calls_as_run_and_as_stand_in_line() -> None:
    async def story() -> None:
        stage = Stage({"CPU": 8.0})
        tasks = [(await stage.give("asks", concurrency=2))[0] for _ in range(5)]
        assert [stage.where(t) for t in tasks] == [0, 0, 0, 0, None]
        await stage.done(tasks[2])
        assert stage.where(tasks[4]) == 0
        assert len(stage.actors) == 1

    run(story())


def test_of_the_calls_of_an_actor_that_dies_those_in_flight_are_suspected() -> None:
    async def story() -> None:
        stage = Stage({"CPU": 8.0})
        calls = [await stage.give("asks", concurrency=2) for _ in range(4)]
        await stage.done(calls[0][0])  # so the second and the third are in flight
        stage.actors[0].dies()
        await turns()
        faults = [fault_of(end) for _, end in calls[1:]]
        assert [(f.crashed, f.shared, f.started) for f in faults] == [
            (True, True, True),
            (True, True, True),
            (False, False, False),
        ]
        _, end = await stage.give("asks", concurrency=2)
        stage.actors[1].dies()
        await turns()
        assert fault_of(end) == GONE  # it was the only one

    run(story())


def test_suspected_calls_have_an_actor_of_their_own_and_all_together_are_no_more_in_flight() -> None:
    async def story() -> None:
        stage = Stage({"CPU": 2.0})
        plain = [(await stage.give("asks", concurrency=3))[0] for _ in range(2)]
        suspects = [(await stage.give("asks", isolated=True, concurrency=3))[0] for _ in range(2)]
        behind = [(await stage.give("asks", concurrency=3))[0] for _ in range(5)]
        assert [stage.where(t) for t in plain] == [0, 0]
        assert [stage.where(t) for t in suspects] == [1, None]
        assert [stage.where(t) for t in behind] == [None] * 5  # three are in flight, and none stands in line
        await stage.done(plain[0])
        assert [stage.where(t) for t in behind] == [None] * 5  # nor before the one that is suspected
        await stage.done(suspects[0])
        assert [stage.where(t) for t in suspects] == [1, 1]
        assert [stage.where(t) for t in behind] == [0] + [None] * 4
        await stage.done(suspects[1])
        assert [stage.where(t) for t in behind] == [0] * 5
        assert stage.pools.counters["warm_starts"] == 2

    run(story())


def test_a_call_that_kills_its_own_actor_spares_the_others() -> None:
    async def story() -> None:
        stage = Stage({"CPU": 2.0})
        _, others = await stage.give("asks", concurrency=4)
        suspect, end = await stage.give("asks", isolated=True, concurrency=4)
        assert stage.where(suspect) == 1
        stage.actors[1].dies()
        await turns()
        assert fault_of(end) == GONE
        assert not others.done()
        assert not stage.actors[0].killed

    run(story())


def test_a_call_is_asked_to_end_and_takes_no_other_along() -> None:
    async def story() -> None:
        stage = Stage({"CPU": 8.0})
        (first, one), (_, two) = [await stage.give("asks", concurrency=2) for _ in range(2)]
        stage.pools.cancel(first, force=False)
        stage.pools.cancel(first, force=True)
        await turns()
        assert not stage.actors[0].killed
        assert not one.done()
        assert not two.done()
        assert stage.actors[0].calls[first].cancels == [False]

    run(story())
