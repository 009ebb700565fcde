"""Features of windows that another feature found, on a real Ray: engine, Python client, decoded pictures."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray

from amber_ray.core.model.request import AssetRef, ComputeRequest
from amber_ray.core.model.units import Asset, Collection, EachRange
from amber_ray.core.planning.homes import home_of
from amber_ray.fabric.transport.names import shard_name
from amber_ray.media.decode import pictures
from amber_ray.testing import asset as identified
from tests.integration.conftest import CLIP, KIT

pytestmark = pytest.mark.timeout(180)
FOUND = [[0.0, 3.0], [3.0, 17.0], [17.0, 20.0]]


def ask(features: str, *uris: str, **more: Any) -> ComputeRequest:
    return ComputeRequest(tuple(features.split(",")), tuple(AssetRef(uri=u) for u in uris), **more)


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 150))


def test_each_window_is_computed_once_and_only_those_that_moved_again(amber, traces, clip, tmp_path):
    async def story():
        async with amber() as engine:
            first = await engine.compute(ask("mark_span", clip), 60)
            assert [r.value for r in first.results] == FOUND
            assert [(r.unit.start, r.unit.end) for r in first.results] == [tuple(f) for f in FOUND]
            assert traces.lines("marks") == ["3,17,20"]
            again = await engine.compute(ask("mark_span", clip), 60)
            assert [r.value for r in again.results] == FOUND
            assert (traces.runs("marks"), traces.runs("mark_span")) == (1, 3)
            moved = await engine.compute(ask("mark_span", clip, params={"marks.at": "3,16,20"}), 60)
            assert [r.value for r in moved.results] == [[0.0, 3.0], [3.0, 16.0], [16.0, 20.0]]
            assert sorted(traces.lines("mark_span")[3:]) == ["16-20", "3-16"]
            part = await engine.compute(ask("mark_span", clip, range=(2.0, 4.0)), 60)
            assert [r.value for r in part.results] == FOUND[:2]
            none = await engine.compute(ask("mark_span", clip, params={"marks.at": ""}), 60)
            [nothing] = none.results
            assert (none.state, nothing.state) == ("done", "ready")
            assert isinstance(nothing.unit, EachRange)
        async with amber() as engine:  # what was stored is found by a new one, and nothing runs
            runs = traces.runs("marks"), traces.runs("mark_span")
            stored = await engine.compute(ask("mark_span", clip), 60)
            assert [r.value for r in stored.results] == FOUND
            assert (traces.runs("marks"), traces.runs("mark_span")) == runs

    run(story())


def test_two_hundred_callers_find_the_windows_once_and_make_each_once(amber, traces, clip):
    async def story():
        async with amber() as engine:
            asked = ask("mark_span", clip, params={"mark_span.gated": True})
            callers = [asyncio.create_task(engine.compute(asked, 60)) for _ in range(150)]
            await traces.until(lambda: traces.runs("mark_span") > 0)
            callers += [asyncio.create_task(engine.compute(asked, 60)) for _ in range(50)]
            traces.open("mark_span")
            for view in await asyncio.gather(*callers):
                assert [r.value for r in view.results] == FOUND
            assert (traces.runs("marks"), traces.runs("mark_span")) == (1, 3)

    run(story())


def test_one_window_that_fails_fails_alone_and_what_gathers_it_names_it(amber, traces, clip):
    async def story():
        async with amber() as engine:
            view = await engine.compute(ask("mark_span,mark_list", clip, params={"mark_span.bad": 3.0}), 60)
            states = [(r.feature, r.state) for r in view.results]
            assert states == [
                *(("mark_span", "ready"), ("mark_span", "failed"), ("mark_span", "ready")),
                ("mark_list", "failed"),
            ]
            bad, gather = view.results[1], view.results[3]
            assert gather.failure.key == bad.key
            assert "this one is bad" in gather.failure.message
            assert gather.failure.unit.endswith("@3000000+14000000")

    run(story())


def test_gathers_and_collections_over_two_shards(amber, traces, clip, many_clips):
    async def story():
        async with amber(shards=2) as engine:
            view = await engine.compute(ask("mark_list,mark_lists", clip, *many_clips(3)), 60)
            assert (view.state, view.failed_assets) == ("done", ()), view
            values = {r.feature: r.value for r in view.results}
            assert values["mark_list"][0] == [0.0, 1.0]  # of one that is a second long
            assert FOUND in values["mark_lists"]
            assert len(values["mark_lists"]) == traces.runs("marks") == 4
            # Three of the long clip; of each short one the others begin where it has ended.
            assert traces.runs("mark_span") == 3 + 3

    run(story())


def test_the_shard_of_a_set_or_of_its_asset_dies_before_or_after_the_windows_are_known(
    amber, traces, tmp_path
):
    """The set's shard borrows the windows from the asset's, and asks that for each unit."""
    numbers = itertools.count()
    each = [[0.0, 3.0], [3.0, 17.0], [17.0, 20.0]]

    def film() -> tuple[str, Asset]:
        while True:
            path = tmp_path / f"{next(numbers)}.mp4"
            path.write_bytes(CLIP.read_bytes() + (12).to_bytes(4, "big") + b"free" + path.name[:4].encode())
            found = identified(path)
            if home_of(found, 2) != home_of(Collection.of([found]), 2):
                return str(path), found

    async def killed(engine: Any, shard: int) -> None:
        actor = ray.get_actor(shard_name(shard), namespace=engine.settings.namespace)
        os.kill(await actor.pid.remote(), signal.SIGKILL)

    async def written(engine: Any) -> None:
        async with asyncio.timeout(30):
            while True:
                stats = await engine.stats()
                if not (stats["keys_hot"] or stats["spilling_keys"]):
                    return
                await asyncio.sleep(0.02)

    def runs(name: str, asset: Asset) -> list[str]:
        return [line.split()[-1] for line in traces.lines(name) if asset.id in line]

    async def story():
        async with amber(shards=2, spill_seconds=0.0) as engine:
            for known in (False, True):
                for of_asset in (True, False):
                    path, asset = film()
                    gate = f"acts-{asset.id}"
                    traces.open(f"act-{asset.id}-0")
                    if known:
                        traces.open(gate)
                    params = {"acts.gated": gate}
                    callers = [
                        asyncio.create_task(engine.compute(ask(name, path, params=params), 90))
                        for name in ("plays", "act")
                    ]
                    promised = await engine.compute(ask("plays,act", path, params=params), 0)
                    await traces.until(lambda a=asset, k=known: runs("act" if k else "acts", a) != [])
                    if known:
                        await written(engine)
                    await killed(engine, home_of(asset if of_asset else Collection.of([asset]), 2))
                    for name in (gate, f"act-{asset.id}-3", f"act-{asset.id}-17"):
                        traces.open(name)
                    plays, act = await asyncio.gather(*callers)
                    assert [r.value for r in plays.results] == [[each]]
                    assert [r.value for r in act.results] == each
                    view = await engine.status(promised.id, 90)
                    assert [r.value for r in view.results] == [*each, [each]]
                    assert len(runs("acts", asset)) == (2 if of_asset and not known else 1)
                    assert set(runs("act", asset)) == {"0", "3", "17"}
                    assert of_asset or len(runs("act", asset)) == 3

    run(story())


def test_windows_of_the_grid_are_the_grid_s_values_and_the_store_tells_the_others(
    amber, traces, clip, tmp_path
):
    async def story():
        async with amber() as engine:
            await engine.compute(ask("mark_double", clip, params={"marks.at": "10,24"}), 60)
            assert sorted(traces.lines("left")) == ["", ""]
            grid = await engine.compute(ask("left", clip, range=(0.0, 20.0)), 60)
            assert [r.state for r in grid.results] == ["ready", "ready"]
            assert traces.runs("left") == 3  # [0, 10) was there
            await traces.until(lambda: len(_rows(tmp_path / "store/values/left/1")) == 3)
        assert _rows(tmp_path / "store/values/left/1") == {
            ("0+10000000", False),
            ("10000000+10000000", False),
            ("10000000+14000000", True),
        }
        async with amber() as engine:  # two finders find the same windows: each is computed once
            both = await engine.compute(ask("mark_double,act_double", clip), 60)
            assert [r.value for r in both.results] == [10] * 6
            assert (traces.runs("marks"), traces.runs("acts")) == (2, 1)
            assert traces.runs("left") == 3 + 3

    run(story())


def _rows(folder: Path) -> set[tuple[str, bool]]:
    """The windows that have a row, and whether they were found; parts may be joined meanwhile."""
    found: set[tuple[str, bool]] = set()
    for part in folder.glob("*.parquet"):
        with contextlib.suppress(FileNotFoundError):
            for row in pq.read_table(part, columns=["unit", "found"]).to_pylist():
                found.add((row["unit"].partition("@")[2], row["found"]))
    return found


TIMES = """
from amber_ray import feature
from amber_ray.features.frames import Frames

@feature(per="marks", version="1")
def mark_times(frames: Frames) -> list[float]:
    return [float(t) for t in frames.times]
"""


def test_a_window_over_several_segments_sees_the_pictures_of_its_own(amber, traces, clip, tmp_path):
    (tmp_path / "times.py").write_text(TIMES)

    async def story():
        async with amber(builtins=True, features=(KIT, str(tmp_path / "times.py")), segment_seconds=5.0) as e:
            view = await e.compute(ask("mark_times", clip, params={"marks.at": "3,17.2"}), 90)
            film = identified(clip)
            assert [r.value for r in view.results] == [
                [p.time for p in pictures(film, start, end, fps=2.0)]
                for start, end in ((0.0, 3.0), (3.0, 17.2))
            ]

    run(story())


def test_a_client_gets_lists_in_order_tables_and_a_future_that_grows(amber, traces, clip):
    from amber_ray.client.api import AsyncClient

    async def story():
        async with amber() as engine:
            client = AsyncClient(engine)
            assert await client.get("mark_span", clip) == FOUND
            assert await client.get("mark_span", clip, params={"marks.at": ""}) == []
            results = await client.get_many(["mark_span", "size"], [clip])
            assert results["mark_span", clip] == FOUND
            table = results.to_pandas()
            spans = table.dropna(subset=["start"])[["start", "end"]].to_numpy().tolist()
            assert spans == FOUND
            empty = await client.get_many(["mark_span"], [clip], params={"marks.at": ""})
            assert empty["mark_span", clip] == []
            assert len(empty.to_pandas()) == 0

    run(story())
