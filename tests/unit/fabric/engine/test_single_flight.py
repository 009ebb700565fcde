"""One request for one id: joined, answered alike, given up with its last caller, accepted for good."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from amber_ray.errors import (
    BadRequest,
    Overloaded,
    RequestMismatch,
    StoreError,
    Unavailable,
    UnknownFeature,
    UnknownRequest,
)
from tests.unit.fabric.engine.kit import SECONDS, Gate, ask, calling, run, until, values, world


async def hang_up(*tasks: asyncio.Task[Any]) -> None:
    """Cancel callers, as a broken connection does."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- joining


def test_the_same_id_twice_at_once_is_one_request_with_two_answers() -> None:
    async def story() -> None:
        async with world() as w:
            w.assets.near = False
            gate = w.assets.gate = Gate()
            (one,) = w.films(0)
            engine = await w.engine()
            first = calling(engine, ask(one), SECONDS, "mine")
            second = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: gate.arrived)
            gate.open()
            await until(lambda: "mine" in w.shard.records)
            w.shard.make_all()
            async with asyncio.timeout(SECONDS / 2):  # neither waits out its time
                views = await asyncio.gather(first, second)
            assert [values(v) for v in views] == [[one.uri]] * 2
            assert w.assets.resolved == 1
            assert len(w.shard.named("submit")) == 1

    run(story())


@pytest.mark.parametrize("near", [True, False])
def test_every_caller_of_an_id_is_told_the_same_error(near: bool) -> None:
    async def story() -> None:
        async with world() as w:
            w.assets.near = near
            (one,) = w.films(0)
            engine = await w.engine()
            request = ask(one, features="naem_of")
            callers = [calling(engine, request, SECONDS, "mine") for _ in range(3)]
            errors = await asyncio.gather(*callers, return_exceptions=True)
            assert [type(e) for e in errors] == [UnknownFeature] * 3
            # It came to nothing, so the id is free.
            w.shard.make_all()
            asked = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            w.shard.make_all()
            assert (await asked).state == "done"

    run(story())


def test_an_overloaded_shard_is_every_caller_s_error() -> None:
    async def story() -> None:
        async with world(shards=2) as w:
            one, two = w.films(0, 1)
            engine = await w.engine()
            w.shards[1].refuse = "tenant 'default' has 1 requests running, the limit"
            callers = [calling(engine, ask(one, two), SECONDS, "mine") for _ in range(2)]
            errors = await asyncio.gather(*callers, return_exceptions=True)
            assert [type(e) for e in errors] == [Overloaded] * 2
            # The other shard, which had taken it in, is told that nobody wants it.
            await until(lambda: not w.shards[0].records)

    run(story())


def test_a_finished_request_is_told_again_to_the_same_id_without_a_call() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            first = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            w.shard.make_all()
            view = await first
            before = len(w.shard.calls)
            assert values(await engine.compute(ask(one), SECONDS, "mine")) == values(view)
            assert [name for name, _ in w.shard.calls[before:] if name != "poll"] == []

    run(story())


@pytest.mark.parametrize("finished", [True, False])
def test_the_same_id_for_something_else_is_refused(finished: bool) -> None:
    async def story() -> None:
        async with world() as w:
            one, two = w.films(0, 0)
            engine = await w.engine()
            first = calling(engine, ask(one, two), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            if finished:
                w.shard.make_all()
                await first
            for other in (
                ask(one),
                ask(two, one),
                ask(one, two, features="size"),
                ask(one, two, refresh=True),
                ask(one, two, tenant="another"),
                ask(one, two, range=(0.0, 1.0)),
            ):
                with pytest.raises(
                    RequestMismatch, match="'mine' belongs to a request for something else"
                ) as e:
                    await engine.compute(other, SECONDS, "mine")
                assert isinstance(e.value, BadRequest)
                assert e.value.status == 422
            # How urgent it is and until when is not what it is for.
            again = calling(engine, ask(one, two, deadline_seconds=60.0, priority=0), SECONDS, "mine")
            w.shard.make_all()
            assert values(await again) == values(await first) == [one.uri, two.uri]

    run(story())


def test_another_engine_joins_by_id_and_is_refused_for_something_else() -> None:
    async def story() -> None:
        async with world() as w:
            one, two = w.films(0, 0)
            first, second = await w.engine(), await w.engine()
            waiting = calling(first, ask(one), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            with pytest.raises(RequestMismatch):
                await second.compute(ask(two), SECONDS, "mine")
            joined = calling(second, ask(one), SECONDS, "mine")
            await until(lambda: len(w.shard.records["mine"].interest) == 2)
            w.shard.make_all()
            assert values(await joined) == values(await waiting) == [one.uri]

    run(story())


@pytest.mark.parametrize("finished", [True, False])
def test_an_id_that_was_only_followed_here_can_be_joined_or_is_refused(finished: bool) -> None:
    async def story() -> None:
        async with world() as w:
            one, two = w.films(0, 0)
            first, second = await w.engine(), await w.engine()
            waiting = calling(first, ask(one), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            if finished:
                w.shard.make_all()
                await waiting
            assert (await second.status("mine")).state == ("done" if finished else "running")
            with pytest.raises(RequestMismatch):
                await second.compute(ask(two), SECONDS, "mine")
            # Whoever follows it here is not disturbed by that.
            follower = asyncio.create_task(second.status("mine", SECONDS))
            joined = calling(second, ask(one), SECONDS, "mine")
            if not finished:
                await until(lambda: len(w.shard.records["mine"].interest) == 2)
                # A caller of both engines keeps it alive; the first one leaves.
                await hang_up(waiting)
                await until(lambda: len(w.shard.records["mine"].interest) == 1)
                w.shard.make_all()
            assert values(await joined) == values(await follower) == [one.uri]

    run(story())


def test_a_follower_goes_on_when_those_who_joined_leave() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            first, second = await w.engine(), await w.engine()
            waiting = calling(first, ask(one), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            follower = asyncio.create_task(second.status("mine", SECONDS))
            await until(lambda: len(w.shard.records["mine"].followers) == 2)
            joined = calling(second, ask(one), SECONDS, "mine")
            await until(lambda: len(w.shard.records["mine"].interest) == 2)
            await hang_up(joined)
            await until(lambda: len(w.shard.records["mine"].interest) == 1)
            w.shard.make_all()
            assert values(await follower) == values(await waiting) == [one.uri]

    run(story())


@pytest.mark.parametrize("known", [True, False])
def test_who_follows_an_id_is_not_told_what_became_of_another_request_under_it(known: bool) -> None:
    """It is being asked for here when the followers come, who mean the one that was accepted elsewhere."""

    async def follow(engine: Any, events: bool) -> Any:
        if not events:
            return await engine.status("mine", SECONDS)
        async for event in engine.events("mine"):
            if event.kind == "done":
                return event.view
        raise AssertionError("the stream ended before its request")

    async def story() -> None:
        async with world() as w:
            one, two = w.films(0, 0)
            first, second = await w.engine(), await w.engine()
            if known:
                await first.compute(ask(one), 0.0, "mine")
            gate = w.shard.hold("submit")
            other = calling(second, ask(two), SECONDS, "mine")
            await until(lambda: gate.arrived)
            followers = [asyncio.create_task(follow(second, events)) for events in (False, True)]
            await asyncio.sleep(0.01)
            w.shard.refuse = "" if known else "there is no room"
            gate.open()
            with pytest.raises(RequestMismatch if known else Overloaded):
                await other
            if known:
                await until(lambda: len(w.shard.records["mine"].followers) == 2)
                w.shard.make_all()
            for follower in followers:
                if known:
                    assert values(await follower) == [one.uri]
                else:
                    with pytest.raises(Overloaded):
                        await follower

    run(story())


# --- leaving


def test_a_caller_that_hangs_up_only_leaves() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            first = calling(engine, ask(one), SECONDS, "mine")
            second = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            await hang_up(first)
            w.shard.make_all()
            assert values(await second) == [one.uri]
            assert w.shard.named("withdraw") == []

    run(story())


def test_with_the_last_caller_the_request_ends_and_is_forgotten() -> None:
    async def story() -> None:
        async with world(shards=2) as w:
            engine = await w.engine()
            callers = [calling(engine, ask(*w.films(0, 1)), SECONDS, "mine") for _ in range(2)]
            await until(lambda: all("mine" in s.records for s in w.shards))
            await hang_up(*callers)
            await until(lambda: not any(s.records for s in w.shards))
            with pytest.raises(UnknownRequest):
                await engine.status("mine")

    run(story())


def test_asked_again_after_a_hang_up_it_begins_anew() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            first = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            await hang_up(first)
            await until(lambda: not w.shard.records)
            again = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            w.shard.make_all()
            assert (await again).state == "done"

    run(story())


def test_asked_again_while_the_withdrawal_is_on_its_way_it_begins_anew() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            first = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            gate = w.shard.hold("withdraw")
            await hang_up(first)
            await until(lambda: gate.arrived)
            again = calling(engine, ask(one), SECONDS, "mine")
            gate.open()
            await until(lambda: len(w.shard.named("submit")) == 2)
            w.shard.make_all()
            view = await again
            assert (view.state, values(view)) == ("done", [one.uri])

    run(story())


def test_asked_again_at_once_before_the_first_was_even_taken() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            gate = w.shard.hold("submit")
            first = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: gate.arrived)
            first.cancel()
            again = calling(engine, ask(one), SECONDS, "mine")
            await asyncio.gather(first, return_exceptions=True)
            gate.open()
            await until(lambda: len(w.shard.named("withdraw")) == 1 and len(w.shard.named("submit")) == 2)
            await until(lambda: "mine" in w.shard.records)
            w.shard.make_all()
            assert (await again).state == "done"
            attempts = [s.attempt for _, _, batch in w.shard.named("submit") for s in batch]
            assert attempts == [1, 2]

    run(story())


def test_hung_up_while_assets_are_resolved_nothing_is_sent() -> None:
    async def story() -> None:
        async with world() as w:
            w.assets.near = False
            gate = w.assets.gate = Gate()
            (one,) = w.films(0)
            engine = await w.engine()
            first = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: gate.arrived)
            await hang_up(first)
            gate.open()
            again = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            w.shard.make_all()
            assert (await again).state == "done"
            assert len(w.shard.named("submit")) == 1

    run(story())


def test_a_reader_of_events_keeps_nothing_alive() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            caller = calling(engine, ask(*w.films(0)), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)

            async def read() -> list[str]:
                return [event.kind for event in [e async for e in engine.events("mine")]]

            reader = asyncio.create_task(read())
            await asyncio.sleep(0)
            await hang_up(caller)
            await until(lambda: not w.shard.records)
            async with asyncio.timeout(SECONDS / 2):
                assert (await reader)[-1] == "done"

    run(story())


# --- explicit cancellation


def test_a_cancelled_request_is_over_for_everyone_and_remembered() -> None:
    async def story() -> None:
        async with world(shards=2) as w:
            films = w.films(0, 1)
            first, second = await w.engine(), await w.engine()
            callers = [calling(engine, ask(*films), SECONDS, "mine") for engine in (first, second)]
            await until(lambda: all(len(s.records["mine"].interest) == 2 for s in w.shards if s.records))
            await until(lambda: all(s.records for s in w.shards))
            assert (await first.cancel("mine")).state == "cancelled"
            views = await asyncio.gather(*callers)
            assert [v.state for v in views] == ["cancelled"] * 2
            assert [r.state for r in views[0].results] == ["cancelled"] * 2
            assert (await first.compute(ask(*films), SECONDS, "mine")).state == "cancelled"
            assert (await second.status("mine")).state == "cancelled"

    run(story())


def test_what_was_done_before_the_cancellation_came_stays_done() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            caller = calling(engine, ask(one), SECONDS, "mine")
            await until(lambda: "mine" in w.shard.records)
            gate = w.shard.hold_answer("poll")
            w.shard.make_all()
            await until(lambda: gate.arrived)  # the end is not heard here yet
            assert (await engine.cancel("mine")).state == "done"
            assert values(await caller) == [one.uri]
            gate.open()

    run(story())


def test_cancelled_while_its_assets_are_resolved() -> None:
    async def story() -> None:
        async with world() as w:
            w.assets.near = False
            gate = w.assets.gate = Gate()
            engine = await w.engine()
            caller = calling(engine, ask(*w.films(0)), SECONDS, "mine")
            await until(lambda: gate.arrived)
            assert (await engine.cancel("mine")).state == "cancelled"
            assert (await caller).state == "cancelled"
            gate.open()
            assert (await engine.status("mine")).state == "cancelled"
            assert w.shard.named("submit") == []

    run(story())


def test_cancelled_while_it_is_asked_for_again_what_was_accepted_before_ends_too() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            first, second = await w.engine(), await w.engine()
            await first.compute(ask(one), 0.0, "mine")
            w.assets.near = False
            gate = w.assets.gate = Gate()
            caller = calling(second, ask(one), SECONDS, "mine")
            await until(lambda: gate.arrived)
            assert (await second.cancel("mine")).state == "cancelled"
            assert (await caller).state == "cancelled"
            assert w.shard.records["mine"].state == "cancelled"
            assert (await first.status("mine", SECONDS)).state == "cancelled"

    run(story())


# --- acceptance


@pytest.mark.parametrize("wait", [0.0, 0.01])
def test_when_time_is_up_the_request_is_accepted_and_goes_on_alone(wait: float) -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            view = await engine.compute(ask(*w.films(0), refresh=True, deadline_seconds=60.0), wait, "mine")
            assert (view.state, view.total) == ("running", 1)
            body = w.shard.journal["mine"].submission.record
            assert body is not None
            assert (body["refresh"], body["tenant"]) == (True, "default")
            assert body["deadline"] == pytest.approx(view.created + 60.0)
            assert body["registry"] == engine.registry.digest
            w.shard.make_all()
            assert (await engine.status("mine", SECONDS)).state == "done"

    run(story())


def test_an_accepted_request_stays_when_its_callers_leave() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            request = ask(*w.films(0))
            await engine.compute(request, 0.0, "mine")
            later = calling(engine, request, SECONDS, "mine")
            await asyncio.sleep(0)
            await hang_up(later)
            assert (await engine.status("mine")).state == "running"
            assert w.shard.named("withdraw") == []

    run(story())


def test_one_that_can_not_be_journaled_is_an_error_for_those_whose_time_is_up() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            w.shard.unsaved = "the disk is full"
            patient = calling(engine, ask(one), SECONDS, "mine")
            with pytest.raises(StoreError, match="the disk is full"):
                await engine.compute(ask(one), 0.01, "mine")
            w.shard.make_all()
            assert values(await patient) == [one.uri]
            with pytest.raises(StoreError, match="the disk is full"):
                await engine.compute(ask(one, features="size"), 0.0, "other")
            await until(lambda: "other" not in w.shard.records)

    run(story())


def test_a_part_that_was_done_before_is_journaled_too() -> None:
    async def story() -> None:
        async with world(shards=2) as w:
            one, two = w.films(0, 1)
            engine = await w.engine()
            caller = calling(engine, ask(one, two), 0.2, "mine")
            await until(lambda: all("mine" in s.records for s in w.shards))
            w.shards[0].make_all()
            view = await caller
            assert view.state == "running"
            assert all("mine" in shard.journal for shard in w.shards)

    run(story())


def test_a_promise_survives_a_restart_that_nobody_noticed() -> None:
    """The shard starts over just before it is told to journal a request, which it does not know any more."""

    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            polls = w.shard.hold("poll")
            accepts = w.shard.hold("accept")
            caller = calling(engine, ask(*w.films(0)), 0.01, "mine")
            await until(lambda: accepts.arrived)
            w.shard.records.clear()
            accepts.open()
            assert (await caller).state == "running"
            assert "mine" in w.shard.journal
            polls.open()

    run(story())


# --- the end of the engine


def test_closing_lets_a_promise_be_journaled_and_tells_everyone_else() -> None:
    async def story() -> None:
        async with world() as w:
            one, two = w.films(0, 0)
            engine = await w.engine()
            waiting = calling(engine, ask(one), SECONDS, "waiting")
            gate = w.shard.hold("accept")
            promised = calling(engine, ask(two), 0.01, "promised")
            await until(lambda: gate.arrived)
            closing = asyncio.create_task(engine.aclose())
            await asyncio.sleep(0)
            gate.open()
            assert (await promised).state == "running"
            with pytest.raises(Unavailable, match="closed"):
                await waiting
            await closing
            assert "promised" in w.shard.journal
            with pytest.raises(Unavailable, match="closed"):
                await engine.compute(ask(one), 0.0, "more")
            await engine.aclose()

    run(story())
