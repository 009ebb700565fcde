"""A shard's periodic tasks: one that fails or hangs keeps no other from its turn."""

from __future__ import annotations

import asyncio
import logging

import pytest

import amber_ray.fabric.shard.maintenance as module
from amber_ray.errors import StoreBusy
from amber_ray.fabric.shard.maintenance import LOST_LEASE, Maintenance, PeriodicTask
from tests.unit.fabric.shard.kit import Ended, This, run


def maintenance(*tasks: PeriodicTask) -> Maintenance:
    return Maintenance(tasks, This())


def test_a_task_that_fails_comes_again_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[Exception | None] = [ConnectionError("the head is away"), ConnectionError("still"), None]
    turns = iter(outcomes)

    async def story() -> None:
        async def learn() -> None:
            outcome = next(turns, None)
            if outcome is not None:
                raise outcome
            done.set()

        done = asyncio.Event()
        running = asyncio.create_task(maintenance(PeriodicTask("learn", 0.0, learn)).run())
        await asyncio.wait_for(done.wait(), 5)
        running.cancel()

    with caplog.at_level(logging.WARNING):
        run(story())
    assert [r.getMessage() for r in caplog.records[:2]] == [
        "could not learn, and will try again: the head is away",
        "could learn again",
    ]


def test_what_is_vital_and_fails_or_hangs_is_told_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HANGS_SECONDS", 0.0)

    async def story() -> None:
        failing = asyncio.Event()
        going = asyncio.Event()

        async def learn() -> None:
            if not failing.is_set():
                failing.set()
                raise ConnectionError("the head is away")
            await going.wait()
            done.set()

        async def fail() -> None:
            raise ConnectionError("nobody minds")

        done = asyncio.Event()
        upkeep = maintenance(
            PeriodicTask("learn", 0.0, learn, vital=True), PeriodicTask("note", 9.0, fail, soon=True)
        )
        assert upkeep.troubles() == []
        running = asyncio.create_task(upkeep.run())
        await asyncio.wait_for(failing.wait(), 5)
        for _ in range(5):
            await asyncio.sleep(0)
        assert upkeep.troubles() == ["it could not learn"]
        going.set()
        await asyncio.wait_for(done.wait(), 5)
        running.cancel()
        await asyncio.wait([running])
        assert upkeep.troubles() == []

    run(story())


def test_a_task_that_hangs_holds_up_no_other() -> None:
    async def story() -> None:
        async def hang() -> None:
            await asyncio.Event().wait()

        async def renew() -> None:
            renewed.set()

        renewed = asyncio.Event()
        tasks = PeriodicTask("hang", 0.0, hang), PeriodicTask("renew", 0.0, renew)
        running = asyncio.create_task(maintenance(*tasks).run())
        await asyncio.wait_for(renewed.wait(), 5)
        running.cancel()

    run(story())


def test_a_first_turn_may_be_at_once_and_fail() -> None:
    async def story() -> None:
        async def join() -> None:
            joined.set()
            raise ConnectionError("the store is away")

        joined = asyncio.Event()
        running = asyncio.create_task(maintenance(PeriodicTask("join", 3600.0, join, soon=True)).run())
        await asyncio.wait_for(joined.wait(), 5)
        assert not running.done()
        running.cancel()

    run(story())


def test_no_more_turns_after_the_end() -> None:
    async def story() -> None:
        async def count() -> None:
            turns.append(1)
            if len(turns) == 2:
                made.stop()

        turns: list[int] = []
        made = maintenance(PeriodicTask("count", 0.0, count))
        await asyncio.wait_for(made.run(), 5)
        assert len(turns) == 2

    run(story())


def test_a_lost_lease_ends_the_process() -> None:
    async def renew() -> None:
        raise StoreBusy("the store is in use by another")

    with pytest.raises(Ended) as caught:
        asyncio.run(maintenance(PeriodicTask("renew", 0.0, renew)).run())
    assert caught.value.args == (LOST_LEASE,)
