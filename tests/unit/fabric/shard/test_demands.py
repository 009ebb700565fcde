"""The desk of demands: which places are told to the steward, and what callbacks are told, whatever dies."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import uuid
from collections import Counter
from pathlib import Path

import pytest

from amber_ray.core.deliveries.record import Delivery
from amber_ray.core.model.callback import EVENTS, Callback
from amber_ray.core.model.demands import Demand, DemandState, DemandStatus, Findings, Noticed
from amber_ray.errors import StoreError
from amber_ray.fabric.adapter.shard_ports import FileDemands
from amber_ray.fabric.shard.deliveries import Deliveries
from amber_ray.fabric.shard.demands import TELL_SECONDS, WAITING, DemandDesk
from amber_ray.settings import Limits
from amber_ray.store.demands import DemandBook, DemandRecord
from tests.unit.fabric.shard.kit import Bench, Notes, run
from tests.unit.fabric.shard.test_deliveries import URL, bench
from tests.unit.fabric.shard.test_requests import table

FILMS = Demand("films", ("size",), ("/films", "s3://b/new/"), tenant="mine")
CALLED = dataclasses.replace(FILMS, callback=Callback(URL, EVENTS))


class Named:
    """Remembers which steward is wanted."""

    name = ""

    async def start(self, name: str) -> None:
        self.name = name

    async def stop(self) -> None:
        self.name = ""


def desk_at(at: Bench, demands: FileDemands) -> tuple[DemandDesk, Named, Deliveries]:
    stewards, deliveries = Named(), Deliveries(at.context, table(at))
    return DemandDesk(at.context, demands, stewards, deliveries), stewards, deliveries


async def desk(folder: Path) -> tuple[DemandDesk, Named]:
    made, stewards, _ = desk_at(Bench(), FileDemands(DemandBook(str(folder))))
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


# --- what callbacks are told


class Died(BaseException):
    """The process is no more."""


class Deaths:
    """Counts writes; the one with the number `at` is the last, and is carried out or not."""

    def __init__(self, at: int = -1, *, carried_out: bool = False) -> None:
        self.at, self.carried_out, self.count = at, carried_out, 0

    def before(self) -> None:
        if self.count == self.at and not self.carried_out:
            self.at = -1
            raise Died

    def after(self) -> None:
        self.count += 1
        if self.count - 1 == self.at:
            self.at = -1
            raise Died


class MortalDemands(FileDemands):
    """Records of demands whose writer may die, or meet a full disk."""

    def __init__(self, store: str, deaths: Deaths) -> None:
        super().__init__(DemandBook(store))
        self._deaths = deaths

    async def note(self, record: DemandRecord, state: DemandState) -> None:
        self._deaths.before()
        await super().note(record, state)
        self._deaths.after()


class MortalNotes(Notes):
    """Deliveries whose writer may die."""

    def __init__(self, deaths: Deaths) -> None:
        super().__init__()
        self._deaths = deaths

    async def write(self, delivery: Delivery) -> None:
        self._deaths.before()
        await super().write(delivery)
        self._deaths.after()


STEPS = ((2, "", False), (1, "a", True), (0, "b", True), (1, "", True), (3, "", False), (0, "", True))
"""Assets that become true, those that fail then, and whether a look ends there."""


def stepped(state: DemandState, number: int) -> DemandState:
    """The state that a steward notes next; its runs say which it is."""
    became, failing, ends = STEPS[number]
    became += state.became
    status, found = state.status, state.findings
    if ends:
        status = DemandStatus(seen=9, true=9 - len(failing), failed=len(failing), ended=1.0)
        found = Findings(became, not failing, len(failing), tuple(failing))
    # A steward knows what was told as it was at its own start, if at all.
    return DemandState((*state.runs, f"{number}"), state.by, state.since, status, became, found)


async def noted(made: DemandDesk, stewards: Named, number: int) -> None:
    """One step, by a steward that begins with what the desk knows, unless that has it already."""
    told = await made.tend(stewards.name, {}, 0.0)
    assert told is not None
    [(record, state)] = told.demands
    if len(state.runs) <= number:
        assert await made.note(stewards.name, record.id, number + 1, stepped(state, number))


def bodies(notes: Notes) -> list[tuple[str, dict[str, int]]]:
    told = [json.loads(one.body) for one in notes.records.values() if one.demand]
    return [(one["type"], one["data"]["assets"]) for one in told]


NEWS = {"demand.result": 4, "demand.failed": 2, "demand.done": 2}


@pytest.mark.parametrize("carried_out", [False, True])
def test_whatever_write_is_the_last_everything_is_told_once_by_one_id_with_the_same_bytes(
    carried_out: bool,
) -> None:
    async def story(deaths: Deaths) -> list[tuple[str, dict[str, int]]]:
        at = bench()
        at.notes = MortalNotes(deaths)
        at.context.ports = dataclasses.replace(at.ports, deliveries=at.notes)
        store = f"memory://{uuid.uuid4().hex}/store"
        demands = MortalDemands(store, deaths)
        made, stewards, _ = desk_at(at, demands)
        await made.load()
        await made.keep(CALLED, "1")
        sent: dict[str, str] = {}
        for number in range(len(STEPS)):
            while True:
                try:
                    await noted(made, stewards, number)
                    break
                except Died:
                    sent |= {one.id: one.body for one in at.notes.records.values()}
                    made, stewards, _ = desk_at(at, demands)
                    with_none = await asyncio.gather(made.load(), return_exceptions=True)
                    assert with_none == [None]
        assert {id: at.notes.records[id].body for id in sent} == sent
        assert DemandBook(store).read()[0][1].telling.unsent == ()
        return bodies(at.notes)

    async def stories() -> None:
        never = Deaths()
        plain = await story(never)
        assert Counter(kind for kind, _ in plain) == NEWS
        assert sum(numbers.get("became_true", 0) for _, numbers in plain) == 7
        assert never.count > 12
        for at in range(1, never.count):
            deaths = Deaths(at, carried_out=carried_out)
            assert await story(deaths) == plain, f"it died at write {at}"
            assert deaths.at == -1

    run(stories())


def test_a_tenant_at_its_bound_is_told_when_there_is_room_and_no_note_waits_for_that(tmp_path: Path) -> None:
    async def story() -> None:
        at = bench(limits=Limits(deliveries_per_tenant=3))
        made, stewards, deliveries = desk_at(at, MortalDemands(str(tmp_path), Deaths()))
        for number in range(2):
            await deliveries.announce(
                Delivery(f"d{number}_x", "", "mine", URL, EVENTS, 1.0).pending("demand.done", "{}", 1.0)
            )
        await made.load()
        await made.keep(CALLED, "1")
        for number in range(len(STEPS)):
            await noted(made, stewards, number)
        [view] = made.views()
        assert "'mine' has 3 callbacks that are still to be made" in view.status.untold
        assert view.status.all_true
        for id in list(at.notes.records):
            await deliveries.replay(id, None)
        await deliveries.look()
        for task in list(at.tasks):
            await task
        await made.load()  # it was tried a moment ago
        assert made.views()[0].status.untold
        at.clock.time += TELL_SECONDS
        await made.load()
        assert made.views()[0].status.untold == ""
        told = bodies(at.notes)
        assert sum(numbers.get("became_true", 0) for _, numbers in told) == 7
        assert told[-1] == ("demand.done", {"seen": 9, "true": 9})

    run(story())


def test_a_message_that_can_not_be_written_stops_no_note_and_is_made_good(tmp_path: Path) -> None:
    async def story() -> None:
        at = bench()
        made, stewards, _ = desk_at(at, MortalDemands(str(tmp_path), Deaths()))
        await made.load()
        await made.keep(CALLED, "1")
        at.notes.full = True
        await noted(made, stewards, 0)
        assert made.views()[0].status.untold == "No space left on device"
        assert at.notes.records == {}
        with pytest.raises(StoreError):
            await made.stop("films", "2")
        at.notes.full = False
        await noted(made, stewards, 1)
        assert made.views()[0].status.untold == ""
        assert sum(numbers.get("became_true", 0) for _, numbers in bodies(at.notes)) == 3

    run(story())


def test_a_demand_that_is_said_anew_or_stopped_leaves_what_is_to_be_told(tmp_path: Path) -> None:
    async def story() -> None:
        at = bench()
        demands = MortalDemands(str(tmp_path), Deaths())
        made, stewards, _ = desk_at(at, demands)
        await made.load()
        await made.keep(CALLED, "1")
        at.notes.full = True
        await noted(made, stewards, 0)
        at.notes.full = False
        other = dataclasses.replace(CALLED, callback=Callback(URL + "/other", ("done",)))
        await made.keep(other, "2")
        assert [(one.url, one.demand) for one in at.notes.records.values()] == [(URL, "films")]
        [(record, state)] = await demands.read()
        assert (record.demand, state.runs, state.became) == (other, ("0",), 0)
        await noted(made, stewards, 1)
        assert len(at.notes.records) == 1
        await noted(made, stewards, 2)
        await noted(made, stewards, 3)
        assert [one.type for one in at.notes.records.values()] == ["demand.result", "demand.done"]
        assert len({one.partition("_")[2] for one in at.notes.records}) == 2
        assert await made.stop("films", "3")
        assert [one.state for one in at.notes.records.values()] == ["pending"] * 2

    run(story())
