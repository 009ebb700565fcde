"""An engine and its shards through what happens to calls: lost answers, restarts, batches, and the end."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from amber_ray.core.declare.feature import feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.request import RequestView
from amber_ray.core.model.units import Asset
from amber_ray.errors import (
    AmberError,
    Overloaded,
    StoreBusy,
    StoreError,
    Unavailable,
    UnknownKey,
    UnknownRequest,
)
from amber_ray.fabric.engine import shard_client
from amber_ray.fabric.engine.ports import ShardGone
from tests.unit.fabric.engine.kit import SECONDS, MemoryShard, ask, calling, run, until, values, world

LONG = 1000.0
"""Longer than a shard is waited for; it is virtual time."""


def ids(shard: MemoryShard) -> list[list[str]]:
    """The ids of each batch that a shard was sent."""
    return [[s.id for s in batch] for _, _, batch in shard.named("submit")]


# --- few calls


def test_requests_of_one_moment_go_out_together_and_plans_only_once() -> None:
    async def story() -> None:
        async with world() as w:
            films = w.films(*[0] * 5)
            engine = await w.engine()
            gate = w.shard.hold("submit")
            callers = [calling(engine, ask(films[0]), SECONDS, "0")]
            await until(lambda: gate.arrived)
            callers += [calling(engine, ask(films[i % 5]), SECONDS, str(i)) for i in range(1, 10)]
            gate.open()
            await until(lambda: len(w.shard.records) == 10)
            assert ids(w.shard) == [["0"], [str(i) for i in range(1, 10)]]
            assert [len(plans) for _, plans, _ in w.shard.named("submit")] == [1, 4]
            w.shard.make_all()
            views = await asyncio.gather(*callers)
            assert [values(v) for v in views] == [[films[i % 5].uri] for i in range(10)]

    run(story())


def test_a_shard_that_forgot_plans_or_code_is_told_them_again() -> None:
    async def story() -> None:
        async with world() as w:
            one, two = w.films(0, 0)
            engine = await w.engine()
            await engine.compute(ask(one), 0.0, "first")
            w.shard.plans.clear()
            w.shard.registries.clear()
            await engine.compute(ask(one, features="size"), 0.0, "second")
            await engine.compute(ask(one), 0.0, "third")
            await engine.compute(ask(two, one), 0.0, "fourth")
            assert set(w.shard.records) == {"first", "second", "third", "fourth"}
            assert len(w.shard.named("publish")) == 2

    run(story())


def test_a_long_plan_is_sent_only_to_a_shard_that_lacks_it() -> None:
    async def story() -> None:
        async with world() as w:
            films = w.films(*[0] * min(shard_client.NAMED_FIRST))
            one, other = await w.engine(), await w.engine()
            await one.compute(ask(*films), 0.0, "first")
            await other.compute(ask(*films), 0.0, "second")
            await other.compute(ask(*films[1:]), 0.0, "shorter")
            w.shard.plans.clear()
            await other.compute(ask(*films), 0.0, "forgotten")
            sent = [(batch[0].id, len(plans)) for _, plans, batch in w.shard.named("submit")]
            assert sent == [
                *(("first", 0), ("first", 1)),
                *(("second", 0), ("shorter", 1)),
                *(("forgotten", 0), ("forgotten", 1)),
            ]

    run(story())


def test_a_shard_that_forgets_at_once_is_not_told_for_ever() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            w.shard.forgetful = True
            with pytest.raises(Unavailable, match="forgets plans as fast as it is told"):
                await engine.compute(ask(*w.films(0)), SECONDS)

    run(story())


def test_one_bad_request_of_a_batch_fails_alone() -> None:
    async def story() -> None:
        async with world() as w:
            films = w.films(0, 0, 0)
            engine = await w.engine()
            gate = w.shard.hold("submit")
            first = calling(engine, ask(films[0], features="size"), SECONDS, "first")
            await until(lambda: gate.arrived)
            w.shard.poison = "1"
            callers = [calling(engine, ask(f), SECONDS, str(i)) for i, f in enumerate(films)]
            await asyncio.sleep(0)
            gate.open()
            await until(lambda: set(w.shard.records) == {"first", "0", "2"})
            w.shard.make_all()
            outcomes = await asyncio.gather(first, *callers, return_exceptions=True)
            assert [type(o) for o in outcomes] == [RequestView, RequestView, StoreError, RequestView]

    run(story())


# --- lost answers


def test_updates_whose_answer_was_lost_come_again() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            caller = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            gate = w.shard.hold_answer("poll")
            w.shard.make_all()
            await until(lambda: gate.arrived)
            w.shard.break_calls()
            began = asyncio.get_running_loop().time()
            assert values(await caller) == [one.uri]
            assert asyncio.get_running_loop().time() - began < 1.0
            # It had not started over, so nothing was told twice but the updates.
            assert ids(w.shard) == [["mine"]]

    run(story())


@pytest.mark.parametrize("method", ["submit", "accept", "progress", "cancel", "get", "purge"])
def test_a_call_whose_answer_was_lost_is_made_again(method: str) -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            w.shard.lose_answer(method)
            view = await engine.compute(ask(one), 0.01, "mine")
            assert view.state == "running"
            assert "mine" in w.shard.journal
            if method == "cancel":
                assert (await engine.cancel("mine")).state == "cancelled"
                return
            w.shard.make_all()
            view = await engine.status("mine", SECONDS)
            assert values(view) == [one.uri]
            assert [v.value for v in await engine.load([view.results[0].key])] == [one.uri]
            purged = await engine.purge(feature="name_of")
            assert purged == (0 if method == "purge" else 1)  # the second time there was nothing left
            with pytest.raises(UnknownKey):
                await engine.load([view.results[0].key])

    run(story())


def test_a_withdrawal_whose_answer_was_lost_is_made_again_and_ends_nothing_newer() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            caller = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            w.shard.lose_answer("withdraw")
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)
            again = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: len(w.shard.named("withdraw")) == 2 and "mine" in w.shard.records)
            w.shard.make_all()
            assert (await again).state == "done"

    run(story())


# --- restarts


def test_a_shard_that_started_over_is_told_all_that_is_unfinished() -> None:
    async def story() -> None:
        async with world(shards=2) as w:
            films = w.films(0, 1, 0)
            engine = await w.engine()
            waiting = calling(engine, ask(*films), LONG, "waiting")
            await engine.compute(ask(*films, features="size"), 0.0, "accepted")
            w.shard.restart()
            await until(lambda: all(len(r.interest) == 1 for r in w.shard.records.values()))
            await until(lambda: len(w.shard.records) == 2)
            records = {s.id: s.record for s in w.shard.named("submit")[-1][2]}
            assert records["waiting"] is None
            assert records["accepted"]  # so that it is journaled again if it never was
            for shard in w.shards:
                shard.make_all()
            assert values(await waiting) == [f.uri for f in films]
            assert values(await engine.status("accepted", SECONDS)) == [100, 100, 100]

    run(story())


def test_a_request_sent_just_before_a_restart_is_not_lost() -> None:
    async def story() -> None:
        async with world() as w:
            one, two = w.films(0, 0)
            engine = await w.engine()
            first = calling(engine, ask(one), SECONDS, "first")
            await until(lambda: "first" in w.shard.records)
            w.shard.restart()
            second = calling(engine, ask(two), SECONDS, "second")
            await until(lambda: set(w.shard.records) == {"first", "second"})
            w.shard.make_all()
            views = await asyncio.gather(first, second)
            assert [values(v) for v in views] == [[one.uri], [two.uri]]

    run(story())


def test_a_restart_that_no_call_met_is_noticed_by_the_numbers_of_updates() -> None:
    """The new incarnation knows the session already: a request came before the poll."""

    async def story() -> None:
        async with world() as w:
            one, two = w.films(0, 0)
            engine = await w.engine()
            first = calling(engine, ask(one), LONG, "first")
            await until(lambda: "first" in w.shard.records)
            gate = w.shard.hold("poll")
            w.shard.answer_polls()
            await until(lambda: gate.arrived)
            w.shard.restart(breaking=False)
            second = calling(engine, ask(two), LONG, "second")
            await until(lambda: set(w.shard.records) == {"second"})
            gate.open()
            async with asyncio.timeout(2 * shard_client.POLL_SECONDS):
                while set(w.shard.records) != {"first", "second"}:
                    await asyncio.sleep(0.1)
            w.shard.make_all()
            views = await asyncio.gather(first, second)
            assert [values(v) for v in views] == [[one.uri], [two.uri]]

    run(story(), LONG)


def test_features_that_are_registered_while_a_shard_starts_over_do_no_harm() -> None:
    @feature(version="2")
    def size(asset: Asset) -> int:
        return 2 * asset.bytes

    spec = size.__amber__  # type: ignore[attr-defined]

    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            await until(lambda: len(w.shard.named("poll")) == 2)  # one is under way
            publish = w.shard.hold("publish")
            w.shard.restart()
            await until(lambda: publish.arrived)  # the engine brings its code to the new incarnation
            registering = asyncio.create_task(engine.register("", [spec.sealed()], pickle.dumps(None)))
            await until(lambda: publish.arrived == 2)
            publish.open()
            view = await registering
            assert view.digest in w.shard.registries
            caller = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            w.shard.make_all()
            assert values(await caller) == [one.uri]  # told by the poll, which goes on

    run(story())


def test_a_follower_goes_on_after_a_restart() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            first, second = await w.engine(), await w.engine()
            await first.compute(ask(one), 0.0, "mine")
            following = asyncio.create_task(second.status("mine", SECONDS))
            await until(lambda: len(w.shard.records["mine"].followers) == 2)
            w.shard.restart()
            await until(lambda: len(w.shard.records["mine"].followers) == 2)
            w.shard.make_all()
            assert values(await following) == [one.uri]

    run(story())


def test_what_nobody_brings_again_is_over_for_its_followers_after_a_while() -> None:
    async def story() -> None:
        async with world() as w:
            first, second = await w.engine(), await w.engine()
            waiting = calling(first, ask(*w.films(0)), LONG, "mine")
            await until(lambda: "mine" in w.shard.records)
            following = asyncio.create_task(second.status("mine", LONG))
            await until(lambda: len(w.shard.records["mine"].followers) == 2)
            await first.aclose()
            with pytest.raises(Unavailable):
                await waiting
            w.shard.restart()
            began = asyncio.get_running_loop().time()
            assert (await following).state == "cancelled"
            took = asyncio.get_running_loop().time() - began
            assert shard_client.FOLLOW_SECONDS <= took < 2 * shard_client.FOLLOW_SECONDS

    run(story(), LONG)


def test_a_followed_request_that_its_callers_gave_up_is_over_at_once() -> None:
    async def story() -> None:
        async with world() as w:
            first, second = await w.engine(), await w.engine()
            waiting = calling(first, ask(*w.films(0)), LONG, "mine")
            await until(lambda: "mine" in w.shard.records)
            following = asyncio.create_task(second.status("mine", LONG))
            await until(lambda: len(w.shard.records["mine"].followers) == 2)
            waiting.cancel()
            began = asyncio.get_running_loop().time()
            assert (await following).state == "cancelled"
            assert asyncio.get_running_loop().time() - began < 1.0

    run(story())


def test_the_time_that_is_left_is_told_when_a_request_is_sent_again() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            waiting = calling(engine, ask(*w.films(0), deadline_seconds=60.0), LONG, "mine")
            await until(lambda: "mine" in w.shard.records)
            await asyncio.sleep(45.0)
            w.shard.restart()
            await until(lambda: "mine" in w.shard.records)
            sent = [s.deadline_seconds for _, _, batch in w.shard.named("submit") for s in batch]
            assert sent[0] == 60.0
            assert sent[1] == pytest.approx(15.0, abs=2.0)
            w.shard.make_all()
            await waiting

    run(story(), LONG)


def test_what_was_admitted_once_is_not_refused_after_a_restart() -> None:
    async def story() -> None:
        async with world() as w:
            one, two = w.films(0, 0)
            engine = await w.engine()
            waiting = calling(engine, ask(one), LONG, "mine")
            await until(lambda: "mine" in w.shard.records)
            w.shard.refuse = "tenant 'default' has 1 requests running, the limit"
            w.shard.restart()
            await until(lambda: len(w.shard.named("submit")) > 2)
            with pytest.raises(Overloaded):
                await engine.compute(ask(two), 1.0)
            w.shard.refuse = ""
            await until(lambda: "mine" in w.shard.records)
            w.shard.make_all()
            assert (await waiting).state == "done"

    run(story(), LONG)


def test_a_promise_that_was_not_durable_when_the_shard_died_is_made_durable() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            gate = w.shard.hold("accept")
            caller = calling(engine, ask(*w.films(0)), 0.01, "mine")
            await until(lambda: gate.arrived)
            w.shard.restart()
            gate.open()
            assert (await caller).state == "running"
            assert "mine" in w.shard.journal

    run(story())


def test_a_shard_that_stays_away_is_an_error_after_a_while_and_the_engine_goes_on() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            w.shard.down = True
            w.shard.break_calls()
            began = asyncio.get_running_loop().time()
            for call in (
                engine.compute(ask(one), 1.0),
                engine.status("unknown"),
                engine.load(["key"]),
                engine.stats(),
            ):
                with pytest.raises(Unavailable):
                    await call
            took = asyncio.get_running_loop().time() - began
            assert took < 4 * 3 * shard_client.REVIVE_SECONDS
            w.shard.down = False
            waiting = calling(engine, ask(one), LONG, "mine")
            await until(lambda: "mine" in w.shard.records)
            w.shard.make_all()
            assert (await waiting).state == "done"

    run(story(), 10 * LONG)


def test_a_call_that_is_never_answered_is_given_up() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            gate = w.shard.hold("stats")
            with pytest.raises(Unavailable, match="did not answer 'stats' within 300 s"):
                await engine.stats()
            gate.open()
            polls = w.shard.hold("poll")
            await until_passed(polls, 3)
            polls.open()

    async def until_passed(gate: Any, calls: int) -> None:
        async with asyncio.timeout(LONG):
            while gate.arrived < calls:
                await asyncio.sleep(1.0)

    run(story(), 2 * LONG)


def test_a_store_that_another_server_took_is_told_at_once() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            w.shard.raises["hello"] = StoreBusy("it is another's")
            w.shard.break_calls()
            w.shard.down_for_calls = True
            began = asyncio.get_running_loop().time()
            with pytest.raises(StoreBusy):
                await engine.compute(ask(*w.films(0)), SECONDS)
            assert asyncio.get_running_loop().time() - began < SECONDS / 2

    run(story())


# --- a shard's own errors


def test_an_error_of_the_shard_comes_through_as_it_is() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            w.shard.raises["get"] = StoreError("the store is away")
            with pytest.raises(StoreError, match="the store is away"):
                await engine.load(["key"])
            w.shard.raises["submit"] = AmberError("odd")
            with pytest.raises(AmberError, match="odd"):
                await engine.compute(ask(*w.films(0)), SECONDS)

    run(story())


def test_a_request_is_brought_before_anything_is_asked_about_an_earlier_try() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            w.shard.raises["submit"] = ShardGone("a call was lost")
            waiting = calling(engine, ask(*w.films(0)), SECONDS, "mine")
            await until(lambda: len(w.shard.named("submit")) > 0)
            for session in w.shard.sessions.values():
                session.updates.replaced.append("mine")  # of the earlier try, which another engine brought
                session.wake.set()
            await until(lambda: len(w.shard.named("submit")) > 1)
            assert w.shard.named("attach") == []
            del w.shard.raises["submit"]
            await until(lambda: "mine" in w.shard.records)
            w.shard.make_all()
            assert (await waiting).state == "done"

    run(story())


def test_updates_go_on_after_an_error_of_the_shard() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            w.shard.raises["poll"] = StoreError("it can't come up")
            w.shard.break_calls()
            waiting = calling(engine, ask(*w.films(0)), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records and len(w.shard.named("poll")) > 3)
            del w.shard.raises["poll"]
            w.shard.make_all()
            assert (await waiting).state == "done"

    run(story())


def test_an_engine_that_can_t_reach_all_shards_leaves_those_it_reached() -> None:
    async def story() -> None:
        async with world(shards=2) as w:
            w.shards[1].raises["hello"] = StoreBusy("it is another's")
            engine = w.unopened()
            with pytest.raises(StoreBusy):
                await engine.open()
            await until(lambda: not w.shards[0].sessions)

    run(story())


# --- following by id


def test_what_happens_while_shards_are_asked_about_a_request_is_not_missed() -> None:
    """One shard has told all it knew, and then its part ends, before the other one has answered at all."""

    async def story() -> None:
        async with world(shards=2) as w:
            films = w.films(0, 1)
            first, second = await w.engine(), await w.engine()
            await first.compute(ask(*films), 0.0, "mine")
            gate = w.shards[1].hold_answer("attach")
            following = asyncio.create_task(second.status("mine", SECONDS))
            await until(lambda: gate.arrived)
            await until(lambda: len(w.shards[0].records["mine"].followers) == 2)
            w.shards[0].make_all()
            await until(lambda: all(not s.updates and not s.sent for s in w.shards[0].sessions.values()))
            gate.open()
            w.shards[1].make_all()
            view = await following
            assert (view.state, values(view)) == ("done", [f.uri for f in films])

    run(story())


def test_an_id_that_no_shard_knows_is_unknown() -> None:
    async def story() -> None:
        async with world(shards=2) as w:
            engine = await w.engine()
            for asking in (
                engine.status("nothing"),
                engine.cancel("nothing"),
                anext(engine.events("nothing")),
            ):
                with pytest.raises(UnknownRequest, match="'nothing'"):
                    await asking

    run(story())


# --- what else is asked of shards


@feature(version="1")
def longer(name_of: str) -> str:
    """On top of another."""
    return name_of * 2


def test_explain_asks_each_shard_about_its_own_steps() -> None:
    from tests.unit.fabric.engine.kit import name_of

    registry = Registry([name_of.__amber__, longer.__amber__])  # type: ignore[attr-defined]

    async def story() -> None:
        async with world(shards=2) as w:
            engine = await w.engine(registry)
            steps = await engine.explain(ask(*w.films(0, 1), features="longer"))
            assert [(s.state, s.action) for s in steps] == [("missing", "run")] * 4
            assert sorted(s.feature for s in steps if s.target) == ["longer", "longer"]
            for shard in w.shards:
                ((part, borrowed, broken, *_),) = shard.named("foresee")
                assert [step.recipe.feature for step in part.steps.values()] == ["name_of", "longer"]
                assert [*borrowed, *broken] == []
            assert all(isinstance(s.unit, Asset) for s in steps)
            assert w.shard.named("submit") == []

    run(story())


def test_counters_are_summed_over_shards() -> None:
    async def story() -> None:
        async with world(shards=3) as w:
            engine = await w.engine()
            for shard in w.shards:
                shard.make("a", "b")
            stats = await engine.stats()
            assert (stats["shards"], stats["keys_hot"]) == (3.0, 6.0)
            assert await engine.failures() == []

    run(story())


def test_a_shard_that_is_made_again_is_told_as_starting_until_it_answers() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            assert await engine.troubles() == []
            w.shard.down = True
            starting = ["shard 0 is starting: its process is gone, and another one is made"]
            assert await engine.troubles() == starting
            began = asyncio.get_running_loop().time()
            assert await engine.troubles() == starting
            assert asyncio.get_running_loop().time() - began < 1.0  # nobody waits for what is known
            w.shard.down = False
            w.shard.restart()
            while await engine.troubles():
                await asyncio.sleep(0.1)

    run(story(), LONG)
