"""The desk of demands: whose places are told to the steward, how many wait, and what becomes of the rest."""

from __future__ import annotations

import asyncio
from pathlib import Path

from amber_ray.core.model.demands import Demand, Noticed
from amber_ray.fabric.adapter.shard_ports import FileDemands
from amber_ray.fabric.shard.demands import WAITING, DemandDesk
from amber_ray.store.demands import DemandBook
from tests.unit.fabric.shard.kit import Bench, run

FILMS = Demand("films", ("size",), ("/films", "s3://b/new/"), tenant="mine")


class Named:
    """Remembers which steward is wanted."""

    name = ""

    async def start(self, name: str) -> None:
        self.name = name

    async def stop(self) -> None:
        self.name = ""


async def desk(folder: Path) -> tuple[DemandDesk, Named]:
    stewards = Named()
    made = DemandDesk(Bench().context, FileDemands(DemandBook(str(folder))), stewards)
    await made.load()
    await made.keep(FILMS, "1")
    told = await made.tend(stewards.name, {}, 0.0)
    assert told is not None
    assert [record.demand for record, _ in told.demands] == [FILMS]
    return made, stewards


def test_an_event_is_told_once_and_at_once_to_the_steward_whose_demand_covers_it(tmp_path: Path) -> None:
    async def story() -> None:
        made, stewards = await desk(tmp_path)
        waiting = asyncio.create_task(made.tend(stewards.name, {}, 3600.0))
        await asyncio.sleep(0)
        assert made.notify(["/films/a", "/films/a", "/songs/a", "s3://b/new/x"], None) == Noticed(3, 1, 0)
        told = await waiting
        assert told is not None
        assert told.places == ("/films/a", "s3://b/new/x")
        again = await made.tend(stewards.name, {}, 0.0)
        assert again is not None
        assert again.places == ()
        assert made.stats()['events_total{outcome="uncovered"}'] == 1

    run(story())


def test_events_of_another_tenant_are_of_what_no_demand_covers(tmp_path: Path) -> None:
    async def story() -> None:
        made, _ = await desk(tmp_path)
        assert made.notify(["/films/a"], "other") == Noticed(0, 1, 0)
        assert made.notify(["/films/a"], "mine") == Noticed(1, 0, 0)
        assert made.notify(["/films/a"], "other") == Noticed(0, 1, 0)

    run(story())


def test_a_burst_waits_up_to_a_bound_and_what_is_dropped_is_counted(tmp_path: Path) -> None:
    async def story() -> None:
        made, stewards = await desk(tmp_path)
        burst = [f"/films/{number}" for number in range(WAITING + 5)]
        assert made.notify(burst, None) == Noticed(WAITING, 0, 5)
        assert made.notify(burst[:3], None) == Noticed(3, 0, 0)
        assert made.stats()["events_waiting"] == WAITING
        assert made.stats()['events_total{outcome="dropped"}'] == 5
        told = await made.tend(stewards.name, {}, 0.0)
        assert told is not None
        assert len(told.places) == WAITING
        assert made.notify(burst[-5:], None) == Noticed(5, 0, 0)

    run(story())


def test_only_the_present_steward_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        made, stewards = await desk(tmp_path)
        made.notify(["/films/a"], None)
        assert await made.tend("another", {}, 3600.0) is None
        before = stewards.name
        waits = asyncio.create_task(made.tend(before, {}, 0.0))
        await made.stop("films", "2")
        await made.watch()
        assert await made.tend(before, {}, 3600.0) is None
        await waits

    run(story())
