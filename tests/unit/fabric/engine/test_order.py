"""Results stand in the order of the request, whichever shards answer and whichever engine is asked."""

from __future__ import annotations

import asyncio

import pytest

from amber_ray.core.planning.plan import Target
from tests.unit.fabric.engine.kit import SECONDS, ask, run, until, values, world


@pytest.mark.parametrize("features", ["name_of", "size,name_of"])
def test_an_engine_that_did_not_submit_it_tells_results_in_the_order_of_the_request(features: str) -> None:
    async def story() -> None:
        async with world(shards=3) as w:
            films = w.films(2, 0, 1, 1, 0, 2, 0)
            first, second = await w.engine(), await w.engine()
            waiting = asyncio.create_task(first.compute(ask(*films, features=features), SECONDS, "mine"))
            await until(lambda: all("mine" in s.records for s in w.shards))
            running = await second.status("mine")
            for shard in w.shards:
                shard.make_all()
            done = await second.status("mine", SECONDS)
            mine = await waiting
            for view in (running, done, mine):
                assert [r.key for r in view.results] == [r.key for r in mine.results]
            assert values(done) == values(mine)
            assert [v for v in values(done) if isinstance(v, str)] == [f.uri for f in films]

    run(story())


def test_equal_parts_of_different_requests_have_positions_of_their_own() -> None:
    async def story() -> None:
        async with world(shards=2) as w:
            here, there = w.films(0, 1)
            first, second = await w.engine(), await w.engine()
            await first.compute(ask(here, there), 0.0, "one")
            await first.compute(ask(there, here), 0.0, "two")
            for shard in w.shards:
                shard.make_all()
            assert len(w.shards[0].plans) == 1
            assert values(await second.status("one", SECONDS)) == [here.uri, there.uri]
            assert values(await second.status("two", SECONDS)) == [there.uri, here.uri]

    run(story())


@pytest.mark.parametrize("attached", [False, True])
def test_targets_that_were_replaced_are_followed_and_those_of_other_shards_kept(attached: bool) -> None:
    """A shard resumed its part with newer code: other keys, of which the caller hears values all the same."""

    async def story() -> None:
        async with world(shards=2) as w:
            one, two, three = w.films(0, 1, 0)
            first, second = await w.engine(), await w.engine()
            await first.compute(ask(one, two, three), 0.0, "mine")
            engine = second if attached else first
            before = await engine.status("mine")
            waiting = asyncio.create_task(engine.status("mine", SECONDS))
            kinds = asyncio.create_task(told(engine))
            await asyncio.sleep(0)
            shard = w.shards[0]
            newer = [Target("name_of", film, f"newer-{film.id}") for film in (one, three)]
            shard.replace("mine", newer, (0, 2))
            await until(lambda: shard.named("attach") and shard.named("attach")[-1][1] == "mine")
            for each in w.shards:
                each.make_all()
            view = await waiting
            assert view.state == "done"
            assert values(view) == [one.uri, two.uri, three.uri]
            keys = [r.key for r in view.results]
            assert (keys[0], keys[2]) == (newer[0].key, newer[1].key)
            assert keys[1] == before.results[1].key
            assert sorted(await kinds) == sorted([one.uri, two.uri, three.uri])

    async def told(engine) -> list[str]:  # type: ignore[no-untyped-def]
        return [e.result.value async for e in engine.events("mine") if e.result is not None]

    run(story())


def test_a_part_that_ends_with_answers_to_other_keys_is_asked_about() -> None:
    """The shard says "done" and says nothing of what was asked for: it is asked what it is about."""

    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            waiting = asyncio.create_task(engine.compute(ask(one), SECONDS, "mine"))
            await until(lambda: "mine" in w.shard.records)
            record = w.shard.records["mine"]
            record.targets = [Target("name_of", one, "newer")]
            w.shard.make("newer", value=one.uri)
            view = await waiting
            assert (view.state, values(view)) == ("done", [one.uri])

    run(story())
