"""What engines count by themselves: summed over all of them, once each, whoever dies or returns."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from amber_ray.core.model.stats import MOST_TENANTS, OTHERS, series
from amber_ray.fabric.shard import requests, tallies
from amber_ray.fabric.shard.requests import RequestTable
from amber_ray.fabric.shard.tallies import Tallies
from amber_ray.fabric.transport.messages import Counts, Updates
from tests.unit.fabric.shard.kit import Bench, run, turns


def told(**totals: int) -> Counts:
    return Counts("one", totals)


class Polling:
    """An engine that polls again as soon as it is answered, until it dies; `total` is what it has counted."""

    def __init__(self, made: RequestTable, name: str, total: int = 0) -> None:
        self.made, self.name, self.total = made, name, total
        self.task = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        updates = Updates()
        while True:
            updates = await self.made.poll(
                self.name, updates.stream, updates.number, 3600.0, told(hits=self.total)
            )

    async def die(self) -> None:
        """As by `kill -9`: the shard is told nothing, and goes on waiting for the poll that it has."""
        self.task.cancel()
        await asyncio.wait({self.task})


def test_totals_are_added_up_by_session_and_late_ones_change_nothing() -> None:
    made = Tallies("one")
    made.note("a", told(hits=3, reads=1))
    made.note("b", told(hits=4))
    made.note("a", told(hits=7, reads=1))
    made.note("a", told(hits=3, reads=1))  # it was overtaken
    made.note("a", Counts("zero", {"hits": 99}))  # meant for the incarnation before
    assert made.total() == {"hits": 11, "reads": 1}


def test_sessions_that_are_no_longer_kept_apart_stay_in_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "SESSIONS", 2)
    made = Tallies("one")
    for name in "abcd":
        made.note(name, told(hits=5))
        made.note("a", told(hits=6))
    assert made.total() == {"hits": 6 + 3 * 5}


def test_engines_that_wait_are_asked_and_say_what_they_have_counted() -> None:
    async def story() -> None:
        made = RequestTable(Bench().context)
        others = [Polling(made, name) for name in "bc"]
        await turns()
        for other in others:
            other.total = 10
        assert await made.counted("a", told(hits=1)) == {"hits": 21}
        others[0].total = 15
        assert await made.counted("a", told(hits=2)) == {"hits": 27}
        for other in others:
            await other.die()

    run(story())


def test_an_engine_that_dies_is_waited_for_once_and_keeps_what_it_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        made = RequestTable(Bench().context)
        other = Polling(made, "b", 10)
        await turns()
        await other.die()
        monkeypatch.setattr(requests, "CENSUS_SECONDS", 0.01)
        assert await made.counted("a", told(hits=1)) == {"hits": 11}
        monkeypatch.setattr(requests, "CENSUS_SECONDS", 3600.0)
        async with asyncio.timeout(5):
            assert await made.counted("a", told(hits=2)) == {"hits": 12}
        made.end("b")
        assert await made.counted("a", told(hits=2)) == {"hits": 12}
        # It was only cut off, and comes back after it was given up.
        other = Polling(made, "b", 12)
        await turns()
        assert await made.counted("a", told(hits=2)) == {"hits": 14}
        await other.die()

    run(story())


def test_an_engine_that_leaves_says_what_it_counted_last() -> None:
    async def story() -> None:
        made: Any = RequestTable(Bench().context)
        await made.poll("b", "", 0, 0.0, told(hits=1))
        made.end("b", told(hits=5))
        assert await made.counted("a", told(hits=1)) == {"hits": 6}

    run(story())


def test_what_an_engine_measures_goes_with_it_and_what_it_has_counted_stays() -> None:
    made: Any = RequestTable(Bench().context)
    tallies = made._tallies
    tallies.note("a", Counts(made._context.incarnation, {"hits": 3}, {"bytes": 70}))
    tallies.note("b", Counts(made._context.incarnation, {"hits": 1}, {"bytes": 5}))
    tallies.note("a", Counts(made._context.incarnation, {"hits": 3}, {"bytes": 60}))  # less than it was
    assert tallies.total() == {"hits": 4, "bytes": 65}
    made.end("a")
    assert tallies.total() == {"hits": 4, "bytes": 5}


def test_engines_that_come_and_go_name_no_more_tenants_than_a_bound_says() -> None:
    made = Tallies("one")
    for number in range(500):
        made.note(f"e{number}", Counts("one", {series("requests_total", tenant=f"t{number}"): 1}))
        assert sum(made.total().values()) == number + 1
    told = made.total()
    assert len(told) == 2 * MOST_TENANTS + 1
    assert told[series("requests_total", tenant=OTHERS)] == 500 - 2 * MOST_TENANTS
