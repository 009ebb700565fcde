"""A shard's duties: one that fails or hangs keeps no other from its turn."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from amber_ray.errors import StoreBusy
from amber_ray.fabric.shard import maintenance as module
from amber_ray.fabric.shard.maintenance import PeriodicTask, Upkeep


def upkeep(*duties: PeriodicTask) -> Upkeep:
    actor = SimpleNamespace(shard=1, listing=SimpleNamespace(catch_up=None))
    made = Upkeep(actor, None, None)  # type: ignore[arg-type]
    made._duties = list(duties)
    return made


def test_a_duty_that_fails_comes_again_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[Exception | None] = [ConnectionError("the head is away"), ConnectionError("still"), None]
    turns = iter(outcomes)

    async def story() -> None:
        async def learn() -> None:
            outcome = next(turns, None)
            if outcome is not None:
                raise outcome
            done.set()

        done = asyncio.Event()
        running = asyncio.create_task(upkeep(PeriodicTask("learn", 0.0, learn)).run())
        await asyncio.wait_for(done.wait(), 5)
        running.cancel()

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())
    assert [r.getMessage() for r in caplog.records[:2]] == [
        "could not learn, and will try again: the head is away",
        "could learn again",
    ]


def test_a_duty_that_hangs_holds_up_no_other() -> None:
    async def story() -> None:
        async def hang() -> None:
            await asyncio.Event().wait()

        async def renew() -> None:
            renewed.set()

        renewed = asyncio.Event()
        running = asyncio.create_task(
            upkeep(PeriodicTask("hang", 0.0, hang), PeriodicTask("renew", 0.0, renew)).run()
        )
        await asyncio.wait_for(renewed.wait(), 5)
        running.cancel()

    asyncio.run(story())


def test_a_lost_lease_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(BaseException):
        pass

    def end(status: int) -> Any:
        raise Ended(status)

    async def renew() -> None:
        raise StoreBusy("the store is in use by another")

    monkeypatch.setattr(module.os, "_exit", end)
    with pytest.raises(Ended) as caught:
        asyncio.run(upkeep()._do(PeriodicTask("renew", 0.0, renew)))
    assert caught.value.args == (module.LOST_LEASE,)
