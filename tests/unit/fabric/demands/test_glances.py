"""A glance leaves a demand's numbers at what a whole look finds; events are glances where looks are slow.

Files, listings and notes are real; values come from a stand-in that has them at once, and none of a file that
says it is bad.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

import pytest

from amber_ray.core.model.demands import Demand, DemandState, DemandStatus, Findings
from amber_ray.core.model.request import AssetRef, ComputeRequest, Failure, RequestView, Result, ResultState
from amber_ray.core.model.units import Asset
from amber_ray.errors import AmberError, MediaNotFound, UnknownFeature
from amber_ray.fabric.adapter.listings import StoreListings
from amber_ray.fabric.adapter.machine import MachineClock
from amber_ray.fabric.demands import keeper as under_test
from amber_ray.fabric.demands.keeper import Keeper
from amber_ray.fabric.demands.ports import Ports
from amber_ray.fabric.demands.sweep import Sweep, Untrue
from amber_ray.fabric.transport.messages import Tended
from amber_ray.settings import Settings
from amber_ray.store.demands import DemandRecord


class Media:
    """A folder; the catalogue, the values and the desk of a demand over it. Implements several ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "media"
        self.folder.mkdir()
        self.listings = StoreListings(Settings(store=str(folder / "store"), media_roots=(str(self.folder),)))
        self.computed: list[str] = []
        self.purged: list[str] = []
        self.lost: set[str] = set()
        self.noted: list[DemandState] = [DemandState()]
        self.ports = Ports(self, self, self, self.listings, self, MachineClock())

    def demand(self, **more: object) -> DemandRecord:
        given = Demand("films", ("size",), (str(self.folder),), settle_seconds=0.0)
        return DemandRecord(dataclasses.replace(given, **more), "1", 0.0)  # type: ignore[arg-type]

    def write(self, name: str, text: str) -> str:
        path = self.folder / f"{name}.png"
        path.write_text(text)
        return str(path)

    def _asset(self, uri: str) -> Asset:
        data = Path(uri).read_bytes()
        return Asset(hashlib.blake2b(data, digest_size=16).hexdigest(), uri, "image/png", len(data))

    async def resolve(self, refs: Sequence[AssetRef]) -> list[Asset | AmberError]:
        found: list[Asset | AmberError] = []
        for uri in (ref.uri or "" for ref in refs):
            found.append(self._asset(uri) if os.path.exists(uri) else MediaNotFound(f"there is no {uri}"))
        return found

    async def somewhere(self, ids: Sequence[str]) -> frozenset[str]:
        there = {self._asset(str(path)).id for path in self.folder.iterdir()}
        return frozenset(ids) & there

    async def compute(self, request: ComputeRequest, wait: float = 0.0, id: str | None = None) -> RequestView:
        results = []
        for asset in (self._asset(ref.uri or "") for ref in request.assets):
            words = Path(asset.uri).read_bytes()
            bad = b"bad" in words
            self.lost |= {asset.id} if b"lost" in words else set()
            failure = (
                Failure("feature", "ValueError", "it is bad", "size", asset.id, asset.id) if bad else None
            )
            cached = asset.id in self.computed
            self.computed += [] if bad or cached else [asset.id]
            state: ResultState = "failed" if bad else "ready"
            results.append(Result("size", asset.id, asset, state, failure=failure, cached=cached))
        return RequestView("r", "done", 1, 1, tuple(results))

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        raise AssertionError("every request has ended when it is answered")

    async def unstored(self, keys: Sequence[str]) -> frozenset[str]:
        return frozenset(self.lost.intersection(keys))

    async def purge_assets(self, assets: Sequence[str]) -> int:
        self.purged += assets
        return len(assets)

    async def tend(self, live: Mapping[str, DemandStatus], wait: float) -> Tended | None:
        raise AssertionError("a keeper asks nobody what is wanted")

    async def note(self, id: str, state: DemandState) -> bool:
        self.noted.append(state)
        return True

    @property
    def state(self) -> DemandState:
        return self.noted[-1]

    async def places(self, prefixes: Sequence[str]) -> AsyncGenerator[Sequence[str], None]:
        for prefix in prefixes[:0]:
            yield (prefix,)


WORDS = ("good", "bad", "lost")
"""What becomes of a file that says so: a value, a failure, a value that is lost before it is stored."""


def numbers(status: DemandStatus) -> tuple[object, ...]:
    failing = sorted(one.uri for one in status.failing)
    return status.seen, status.true, status.failed, status.settling, status.oldest is None, failing


@pytest.mark.parametrize("seed", range(6))
def test_after_glances_the_numbers_are_those_of_a_whole_look(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    media = Media(tmp_path)
    record = media.demand()

    async def story() -> None:
        for name in range(8):
            media.write(str(name), f"{name} {rng.choice(WORDS)}")
        sweep = Sweep(media.ports, record, DemandState(), "by")
        await sweep.run()
        for turn in range(12):
            places = [media.write(str(rng.randrange(12)), f"{turn} {rng.choice(WORDS)}")]
            gone = media.folder / f"{rng.randrange(12)}.png"
            gone.unlink(missing_ok=True)
            told = [*places, str(gone), str(media.folder / "never.png")]
            sweep = Sweep(media.ports, record, sweep.state, "by", sweep.untrue)
            assert await sweep.glance(told)
            assert media.state == sweep.state
        whole = Sweep(media.ports, record, sweep.state, "by")
        await whole.run()
        assert numbers(sweep.state.status) == numbers(whole.state.status)
        assert whole.state.status.failed == len(whole.state.status.failing)  # what was lost has not failed
        assert sweep.state.findings == whole.state.findings == media.state.findings
        assert len(set(media.computed)) == len(media.computed)

    asyncio.run(story())


@pytest.mark.parametrize("glancing", [False, True])
def test_what_became_true_is_found_by_the_end_of_the_look_also_where_the_numbers_are_as_before(
    tmp_path: Path, glancing: bool
) -> None:
    media = Media(tmp_path)
    record = media.demand()

    async def look(state: DemandState, untrue: Mapping[str, Untrue] | None = None) -> Sweep:
        sweep = Sweep(media.ports, record, state, "by", untrue)
        await (sweep.run() if untrue is None else sweep.glance([path]))
        return sweep

    async def story() -> None:
        first = await look(DemandState())
        assert media.state.findings == Findings(1, True)
        media.write("a", "a good one")
        before = len(media.noted)
        await look(first.state, first.untrue if glancing else None)
        assert media.noted[before].became == 2
        *_, between, last = media.noted
        assert (between.became, between.findings) == (2, Findings(1, True))
        assert (last.became, last.findings, last.status.seen) == (2, Findings(2, True), 1)
        # A steward that died between the two is followed by one that finds nothing to do, and says so.
        await look(between)
        assert media.state.findings == Findings(2, True)
        quiet = len(media.noted)
        await look(media.state)
        assert len(media.noted) == quiet
        media.write("a", "a bad one")
        await look(media.state)
        assert (media.state.findings.failed, media.state.findings.all_true) == (1, False)

    path = media.write("a", "a good")
    asyncio.run(story())


def test_what_is_gone_is_purged_at_once_and_by_one_purge_but_not_all_of_a_prefix(tmp_path: Path) -> None:
    media = Media(tmp_path)
    record = media.demand(gone="purge")

    async def story() -> None:
        paths = [media.write(str(name), f"{name} good") for name in range(5)]
        sweep = Sweep(media.ports, record, DemandState(), "by")
        await sweep.run()
        for path in paths[:3]:
            os.unlink(path)
        glance = Sweep(media.ports, record, sweep.state, "by", sweep.untrue)
        assert await glance.glance(paths[:3])
        assert sorted(media.purged) == sorted(media.computed[:3])
        for path in paths[3:]:
            os.unlink(path)
        last = Sweep(media.ports, record, glance.state, "by", glance.untrue)
        assert await last.glance(paths[3:])
        assert len(media.purged) == 3

    asyncio.run(story())


def test_what_is_purged_as_gone_while_another_demand_finds_it_elsewhere_is_not_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = Media(tmp_path)
    purging, purged = asyncio.Event(), asyncio.Event()
    asked: list[Sequence[str]] = []

    async def unstored(keys: Sequence[str]) -> frozenset[str]:
        asked.append(keys)
        return frozenset(keys) & set(media.purged)

    async def purge(ids: Sequence[str]) -> int:
        purging.set()
        await purged.wait()
        media.purged += ids
        return len(ids)

    async def story() -> None:
        media.write("other", "another good one")
        one = media.write("one", "the same good one")
        first = Sweep(media.ports, media.demand(gone="purge"), DemandState(), "by")
        await first.run()
        monkeypatch.setattr(media, "unstored", unstored)
        monkeypatch.setattr(media, "purge_assets", purge)
        os.unlink(one)
        looks = [asyncio.create_task(Sweep(media.ports, media.demand(gone="purge"), first.state, "by").run())]
        await purging.wait()
        two = media.write("two", "the same good one")
        second = Sweep(media.ports, media.demand(name="second"), DemandState(), "by")
        looks.append(asyncio.create_task(second.run()))
        while not asked and not media.ports.purging._waiters:
            await asyncio.sleep(0.01)
        purged.set()
        await asyncio.gather(*looks)
        assert second.untrue.keys() == {two}  # it is asked for again
        assert not second.state.findings.all_true

    asyncio.run(asyncio.wait_for(story(), 30))


def test_where_a_look_is_slow_an_event_is_a_glance_and_a_file_is_taken_when_it_has_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "QUICK_SECONDS", 0.0)
    media = Media(tmp_path)
    record = media.demand(every=3600.0, settle_seconds=0.3)

    async def story() -> None:
        media.write("old", "old good")
        keeper = Keeper(media.ports, record, DemandState(), lambda demand: "by")
        task = asyncio.create_task(keeper.run())

        async def until(seen: int) -> DemandStatus:
            while not (keeper.status.all_true and keeper.status.seen == seen):
                await asyncio.sleep(0.01)
            return keeper.status

        await until(1)
        wrote = time.time()
        new = media.write("new", "new good")
        keeper.happened([new, "/elsewhere/a.png"])
        status = await until(2)
        assert time.time() - wrote >= 0.3
        assert status.sweeps == 1
        os.unlink(new)
        keeper.happened([new])
        assert (await until(1)).sweeps == 1
        # A folder is only told by a whole look.
        (media.folder / "season").mkdir()
        media.write("season/a", "a good")
        keeper.happened([str(media.folder / "season")])
        assert (await until(2)).sweeps == 2
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(story(), 30))


@pytest.mark.parametrize("superseded", [True, False])
def test_a_glance_ends_its_keeper_where_another_has_taken_over_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, superseded: bool
) -> None:
    """Or a feature may be gone: then the next sweep says so in the status, as it would without the event."""
    monkeypatch.setattr(under_test, "QUICK_SECONDS", 0.0)
    media = Media(tmp_path)
    known = True

    async def another(id: str, state: DemandState) -> bool:
        return False

    def by(demand: Demand) -> str:
        if not known:
            raise UnknownFeature("there is no feature 'size'")
        return "by"

    async def story() -> None:
        nonlocal known
        media.write("old", "old good")
        keeper = Keeper(media.ports, media.demand(every=3600.0), DemandState(), by)
        task = asyncio.create_task(keeper.run())
        while not keeper.status.all_true:
            await asyncio.sleep(0.01)
        if superseded:
            monkeypatch.setattr(media, "note", another)
        known = superseded
        keeper.happened([media.write("new", "new good")])
        while not (task.done() or keeper.status.error):
            await asyncio.sleep(0.01)
        assert task.done() == superseded
        if superseded:
            await task
        else:
            assert keeper.status.error == "there is no feature 'size'"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(story(), 30))
