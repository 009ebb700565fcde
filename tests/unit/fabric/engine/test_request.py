"""A request as an engine tracks it, and as it is remembered when it is over."""

from __future__ import annotations

import asyncio
import gc
import pickle

import pytest

from amber_ray.core.model.request import AssetRef, ComputeRequest, Failure
from amber_ray.core.planning.plan import Target
from amber_ray.errors import BadRequest
from amber_ray.fabric.engine.request import Ended, Part, TrackedRequest, merged, same_request
from amber_ray.fabric.transport.messages import Answer, Reply
from tests.core_kit import asset, clip
from tests.unit.fabric.engine.kit import ask, film, run, until, world

TARGETS = tuple(Target("look", clip(asset(), i), f"k{i}") for i in range(3))
BAD = Failure("input", "MediaError", "it is damaged", "look", "k2", "a", 422)


def answers() -> list[Answer]:
    good = [Answer(f"k{i}", seconds=1.5, inline=pickle.dumps(i)) for i in range(2)]
    return [*good, Answer("k2", failure=BAD)]


def tracked(id: str = "r1") -> TrackedRequest:
    made = TrackedRequest(id, "me", 12.5, features=("look",))
    made.plan({0: Part((0, 1, 2), TARGETS)})
    return made


def finished() -> TrackedRequest:
    made = tracked()
    made.answer(answers()[::-1])
    made.progress[0] = 3, 3
    made.finish(0, "done")
    return made


def test_a_request_that_is_over_is_told_as_it_was() -> None:
    one = finished()
    ended = one.ended(now=5.0)
    assert ended.view() == one.view()
    again = ended.tracked()
    assert again.view() == one.view()
    assert (again.running, again.order, ended.since) == (False, ["k2", "k1", "k0"], 5.0)
    assert asyncio.run(again.wait(0.0))


def test_one_that_was_cancelled_says_so() -> None:
    one = tracked()
    one.answer(answers()[:1])
    one.finish(0, "cancelled")
    for view in (one.view(), one.ended(0.0).view(), one.ended(0.0).tracked().view()):
        assert view.state == "cancelled"
        assert [r.state for r in view.results] == ["ready", "cancelled", "cancelled"]


def test_only_what_is_new_is_a_change() -> None:
    one = tracked()
    before = one.version
    one.answer(answers())
    changed = one.version
    one.answer(answers())
    one.answer([Answer("of another request")])
    assert before < changed == one.version


def test_a_change_before_the_wait_is_not_waited_for() -> None:
    async def story() -> None:
        one = tracked()
        seen = one.version
        one.answer(answers())
        async with asyncio.timeout(1.0):
            assert await one.change(seen, 30.0)
            assert not await one.change(one.version, 0.0)

    asyncio.run(story())


def test_many_who_wait_are_woken_by_one_change() -> None:
    async def story() -> None:
        one = tracked()
        waiting = [asyncio.create_task(one.wait(30.0)) for _ in range(3)]
        await asyncio.sleep(0)
        one.answer(answers())
        one.finish(0, "done")
        async with asyncio.timeout(1.0):
            assert await asyncio.gather(*waiting) == [True] * 3

    asyncio.run(story())


def test_what_a_request_came_to_nothing_by_is_raised_to_who_waits() -> None:
    async def story() -> None:
        one = tracked()
        waiting = asyncio.create_task(one.wait(30.0))
        await asyncio.sleep(0)
        one.fail(BadRequest("no"))
        with pytest.raises(BadRequest):
            await waiting

    asyncio.run(story())


def test_parts_are_merged_by_their_positions() -> None:
    parts = {0: Part((1,), (TARGETS[1],)), 1: Part((0, 2), (TARGETS[0], TARGETS[2]))}
    assert merged(parts) == TARGETS


def test_a_part_with_other_targets_takes_the_place_of_the_old_one() -> None:
    one = tracked()
    one.answer(answers()[:2])
    newer = Target("look", TARGETS[1].unit, "newer")
    reply = Reply("r1", "running", [Answer("newer", inline=pickle.dumps("new"))])
    reply.targets, reply.positions = (TARGETS[0], newer), (0, 1)
    one.reply(0, reply)
    assert [r.key for r in one.view().results] == ["k0", "newer"]
    assert [r.value for r in one.view().results] == [0, "new"]
    assert not one.lacks(0)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"deadline_seconds": 5.0}, True),
        ({"priority": 0}, True),
        ({"features": ("size",)}, False),
        ({"assets": (AssetRef(id=film("a").id),)}, False),
        ({"params": {"size.x": True}}, False),
        ({"params": {"size.x": 1.0}}, False),
        ({"range": (0.0, 2.0)}, False),
        ({"refresh": True}, False),
        ({"tenant": "you"}, False),
    ],
)
def test_what_makes_a_request_another(change: dict[str, object], same: bool) -> None:
    one = ask(film("a"), params={"size.x": 1}, range=(0.0, 1.0), tenant="me")
    fields = {name: getattr(one, name) for name in ComputeRequest.__dataclass_fields__}
    assert same_request(one, ComputeRequest(**{**fields, **change})) is same  # type: ignore[arg-type]


def test_what_is_answered_from_memory_leaves_little_for_the_garbage_collector() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            (one,) = w.films(0)
            first = asyncio.create_task(engine.compute(ask(one), 20.0, "first"))
            await until(lambda: w.shard.records)
            w.shard.make_all()
            await first

            async def many(name: str) -> None:
                for i in range(1000):
                    await engine.compute(ask(one), 20.0, f"{name}{i}")

            await many("warm")
            gc.collect()
            before = len(gc.get_objects())
            await many("r")
            gc.collect()
            # A tuple each, and the answers and the question that all of them share.
            assert len(gc.get_objects()) - before <= 4 * 1000
            assert len(w.shard.named("submit")) == 1
            view = await engine.status("r7")
            assert (view.state, [r.value for r in view.results]) == ("done", [one.uri])

    run(story())


def test_a_remembered_request_is_a_tuple() -> None:
    assert issubclass(Ended, tuple)
