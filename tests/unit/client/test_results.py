"""The client's table: each value under the name its caller used, in whatever order a service lists results.

Shards answer in an order of their own, so a list of results says nothing about the order of a request's
assets.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amber_ray.client import AsyncClient, Results
from amber_ray.client.exchange import loaded
from amber_ray.client.http import HttpService
from amber_ray.client.results import Identified, assigned
from amber_ray.client.row import Row
from amber_ray.core.model.absent import no_asset
from amber_ray.core.model.request import MISSING, Failure, RequestView, Result
from amber_ray.core.model.service import Answered
from amber_ray.core.model.units import Asset, EachRange, Segment
from amber_ray.core.values.annotations import Jpeg, parse
from amber_ray.serving.app import create_app
from amber_ray.settings import Settings
from tests.unit.gated_service import GatedService, digest

BOUND = 20.0
FEATURES = ("size", "vector", "broken", "similar")
TRANSPORTS = ("direct", "http")


def connected(service: GatedService, transport: str) -> AsyncClient:
    """A client of its own, as another process would have: it knows of no request but by its id."""
    if transport == "direct":
        return AsyncClient(service, timeout=BOUND)
    app = create_app(service, Settings())
    http = HttpService("http://127.0.0.1:8000", transport=httpx.ASGITransport(app))
    return AsyncClient(http, timeout=BOUND)


def run(story: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(BOUND):
            return await story()

    return asyncio.run(bounded())


def backwards(some: list[Any]) -> list[Any]:
    return some[::-1]


def plain(value: Any) -> Any:
    """A value, a list of arrays or a failure as what can be compared."""
    if isinstance(value, Failure):
        return f"{value.type}: {value.message}"
    return [v.tolist() for v in value] if isinstance(value, list) else value


def table(results: Results) -> list[tuple[tuple[str, str | None], Any]]:
    return [(key, plain(value)) for key, value in results.items()]


@dataclass
class World:
    """Media, the names that a caller has for them, and what the answer must be."""

    service: GatedService
    names: list[str]
    assets: dict[str, Asset]

    def expected(self, features: Sequence[str]) -> list[tuple[tuple[str, str | None], Any]]:
        known = {a.id for a in self.assets.values()}
        shared = [f for f in features if f == "similar" and known]
        found = [
            ((feature, name), self.value(feature, name))
            for name in dict.fromkeys(self.names)
            for feature in features
            if feature not in shared
        ]
        return [*found, *(((feature, None), {"assets": len(known)}) for feature in shared)]

    def value(self, feature: str, name: str) -> Any:
        if name not in self.assets:
            return (
                f"MediaNotFound: nothing is at {name}" if "/" in name else f"UnknownAsset: {no_asset(name)}"
            )
        asset = self.assets[name]
        if feature == "size":
            return asset.bytes
        if feature == "vector":
            return [[i, 0.5] for i in range(-int(-(asset.duration or 1.0) // 10))]
        return "FeatureError: ValueError: it broke"


@st.composite
def worlds(draw: st.DrawFn) -> World:
    service = GatedService()
    assets: dict[str, Asset] = {}
    names: list[str] = []
    for i in range(draw(st.integers(0, 4))):
        duration = draw(st.sampled_from([None, 5.0, 25.0, 40.0]))
        asset = service.put(f"/{'x' * i}.mp4", duration=duration)
        copy = service.put(f"/copies/{i}.mp4", content=asset.uri, duration=duration)
        # A name that the answer does not repeat, as of a symbolic link.
        service.assets[f"/links/{i}.mp4"] = asset
        all_names = (asset.uri, copy.uri, asset.id, f"/links/{i}.mp4")
        mine = draw(st.lists(st.sampled_from(all_names), min_size=1, max_size=4))
        names += mine
        assets |= dict.fromkeys(mine, asset)
    for i in range(draw(st.integers(0 if names else 1, 2))):
        names.append(draw(st.sampled_from([f"/none/{i}.mp4", digest(f"unknown {i}")])))
    return World(service, draw(st.permutations(names)), assets)


@pytest.mark.parametrize("transport", TRANSPORTS)
@given(
    world=worlds(),
    features=st.lists(st.sampled_from(FEATURES), min_size=1, unique=True),
    large=st.sets(st.sampled_from(FEATURES)),
    chance=st.randoms(use_true_random=False),
)
def test_results_in_any_order_are_the_same_table(
    transport: str, world: World, features: list[str], large: set[str], chance: random.Random
) -> None:
    world.service.large = large
    # Some results are listed twice.
    world.service.listed = lambda some: chance.sample(both := some + some[::3], len(both))
    expected = world.expected(features)

    async def story() -> None:
        client = connected(world.service, transport)
        future = await client.submit(features, world.names)
        assert table(await future.results()) == expected
        found = await (await connected(world.service, transport).future(future.id)).results()
        for (feature, name), value in expected:
            if name in world.assets:
                assert plain(found[feature, world.assets[name].id]) == value
            else:
                assert plain(found[feature, name]) == value
        for row in found.rows:
            if isinstance(row.unit, Asset) and row.feature == "size":
                assert found["size", row.unit.uri] == row.value
        ids = {world.assets[n].id if n in world.assets else n for n in world.names}
        assert {asset for _, asset in found} <= {*ids, None}

    run(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_values_are_not_paired_with_names_by_their_order(transport: str) -> None:
    service = GatedService()
    for uri in ("/a.mp4", "/long.mp4"):
        service.put(uri)
    service.listed = backwards

    async def story() -> None:
        results = await connected(service, transport).get_many("size", ["/a.mp4", "/long.mp4"])
        assert table(results) == [(("size", "/a.mp4"), 6), (("size", "/long.mp4"), 9)]
        # Each result says where its asset is: nobody had to be asked.
        assert service.added == []

    run(story)


def test_a_failure_of_two_files_with_the_same_bytes_names_each_as_its_row_does() -> None:
    asset = GatedService().put("/films/copy.mp4")
    told = "'copy.mp4' has no sound (/films/copy.mp4)"
    failure = Failure("input", "Unsuitable", told, "loudness", "k", asset.id)
    results = (Result("loudness", "k", asset, "failed", failure=failure),)
    view = RequestView("r", "failed", 1, 1, results)
    named = {name: Identified(asset.id) for name in ("/films/copy.mp4", "/other/ünï.mp4", asset.id)}
    assert [row.failure and row.failure.message for row in assigned(view, ["loudness"], named)] == [
        told,
        "'ünï.mp4' has no sound (/other/ünï.mp4)",
        told,
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_future_found_by_its_id_takes_the_asset_as_anyone_would_name_it(transport: str) -> None:
    service = GatedService()
    a = service.put("/a b.mp4")
    service.put("/long.mp4")
    service.listed = backwards

    async def story() -> None:
        asked = await connected(service, transport).submit(["size", "vector"], ["/a b.mp4", "/long.mp4"])
        results = await (await connected(service, transport).future(asked.id)).results()
        for name in (a, a.id, "/a b.mp4", "file:///a%20b.mp4", "file://localhost/a%20b.mp4"):
            assert results["size", name] == 8
            assert [v[0] for v in results["vector", name]] == [0, 1, 2]
        assert results["size", "/long.mp4"] == 9
        with pytest.raises(KeyError, match=r"no asset '/c\.mp4' was asked for"):
            results["size", "/c.mp4"]
        with pytest.raises(KeyError, match="no feature 'sise' was asked for; did you mean 'size'"):
            results["sise", "/a b.mp4"]
        with pytest.raises(KeyError, match="one set of parameters was asked for; leave it out"):
            results["size", "/a b.mp4", {"score.scale": 2}]

    run(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_future_found_by_its_id_tells_which_assets_failed_even_if_all_did(transport: str) -> None:
    service = GatedService()

    async def story() -> None:
        asked = await connected(service, transport).submit(["size", "vector"], ["/1.mp4", "/2.mp4"])
        results = await (await connected(service, transport).future(asked.id)).results()
        assert results.state == "failed"
        assert [key for key, _ in table(results)] == [
            (feature, name) for name in ("/1.mp4", "/2.mp4") for feature in ("size", "vector")
        ]
        assert results["vector", "/2.mp4"].type == "MediaNotFound"

    run(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_asset_that_the_range_refuses_is_named_by_path_and_by_id(transport: str) -> None:
    service = GatedService()
    short = service.put("/short.mp4", duration=25.0)
    service.put("/long.mp4", duration=100.0)
    service.listed = backwards

    async def story() -> None:
        client = connected(service, transport)
        for name in ("/short.mp4", short.id):
            results = await client.get_many("vector", [name, "/long.mp4"], range=(50, 60))
            assert "ends at 25" in results["vector", name].message
            assert len(results["vector", "/long.mp4"]) == 1
        future = await client.submit("vector", ["/short.mp4", "/long.mp4"], range=(50, 60))
        found = await (await connected(service, transport).future(future.id)).results()
        assert "ends at 25" in found["vector", short.id].message

    run(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("contents", [("first", "second"), ("second", "first")])
def test_a_place_that_two_assets_had_is_asked_for(transport: str, contents: tuple[str, str]) -> None:
    """A file that was replaced while a request was resolved: two results name one place."""
    service = GatedService()
    old = service.put("/a.mp4", content=contents[0])
    service.assets["known by its id only"] = old
    new = service.put("/a.mp4", content=contents[1])
    service.assets["/link.mp4"] = service.put("/target.mp4")

    async def story() -> None:
        client = connected(service, transport)
        results = await client.get_many("size", [old.id, "/a.mp4", "/link.mp4"])
        assert table(results) == [
            (("size", old.id), len(contents[0])),
            (("size", "/a.mp4"), len(contents[1])),
            (("size", "/link.mp4"), len("/target.mp4")),
        ]
        assert service.added == ["/a.mp4", "/link.mp4"]
        found = await connected(service, transport).future(results.id)
        by_id = await found.results()
        assert [by_id["size", id] for id in (old.id, new.id)] == list(map(len, contents))
        with pytest.raises(KeyError):
            by_id["size", "/a.mp4"]  # which of the two is meant nobody can say

    run(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_files_that_change_after_they_were_asked_for_get_no_other_files_values(transport: str) -> None:
    service = GatedService()
    service.put("/a.mp4", content="a")
    for i in (1, 2):
        service.assets[f"/link{i}.mp4"] = service.put(f"/target{i}.mp4", content="t" * (1 + i))

    async def story() -> None:
        client = connected(service, transport)
        future = await client.submit(["size"], ["/link2.mp4", "/a.mp4", "/link1.mp4"])
        for uri in ("/a.mp4", "/link1.mp4", "/link2.mp4"):
            service.put(uri, content="another file" + uri)
        results = await future.results()
        assert results["size", "/a.mp4"] == 1  # the answer tells where it was read when it was asked for
        for name in ("/link1.mp4", "/link2.mp4"):
            assert plain(results["size", name]) == (
                f"MediaChanged: {name} has other content than when it was asked for; ask again"
            )

    run(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_cancelled_request_asks_nobody_for_its_assets(transport: str) -> None:
    service = GatedService()
    service.put("/a.mp4")
    service.put("/b.mp4")

    async def story() -> None:
        client = connected(service, transport)
        future = await client.submit(["slow"], ["/a.mp4", "/b.mp4"])
        assert await future.cancel()
        assert {f.type for f in (await future.results()).failures.values()} == {"Cancelled"}
        assert service.added == []

    run(story)


def test_values_of_several_features_are_loaded_at_a_time() -> None:
    class Met(GatedService):
        """Answers once two questions for values are under way."""

        async def values(self, keys: Sequence[str]) -> AsyncGenerator[Sequence[Answered], None]:
            async with asyncio.timeout(30):
                await two.wait()
            async for batch in super().values(keys):
                yield batch

    async def story() -> list[Row]:
        rows = [Row(name, "a", None, digest(name), "ready") for name in ("left", "right")]
        return await loaded(Met(), rows)

    two = asyncio.Barrier(2)
    assert [row.failure.type for row in asyncio.run(story()) if row.failure] == ["UnknownKey", "UnknownKey"]


def test_a_list_of_windows_values_has_its_windows_too() -> None:
    """Also once its pictures are wrapped; a list in which nothing was found is empty, one not known none."""
    film = Asset("a" * 32, "/a.mp4", "video/mp4", 1, 30.0)
    each = EachRange(film, "shots", "K", 10_000_000)
    windows = [Segment(film, 0, 2_500_000, found=True), Segment(film, 2_500_000, 500_000, found=True)]
    rows = [Row("span", "a.mp4", unit, f"u{i}", "ready", i) for i, unit in enumerate(windows)]
    results = Results([*rows, Row("span", "b.mp4", each, "t", "ready", [])])
    found = results["span", "a.mp4"]
    assert (found, json.dumps(found), pickle.loads(pickle.dumps(found)).windows) == (
        [0, 1],
        "[0, 1]",
        windows,
    )
    assert [(w.start, w.end, value) for w, value in found.items()] == [(0.0, 2.5, 0), (2.5, 3.0, 1)]
    assert (results["span", "b.mp4"], [*results["span", "b.mp4"].items()]) == ([], [])
    results.typed({"span": parse(Jpeg)})
    assert results["span", "a.mp4"].windows == windows
    assert Results([Row("span", "c.mp4", each, "t", "pending")])["span", "c.mp4"] is MISSING
