"""Plans by what they are of: keys, code, and where assets are; and what the journal is told."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import pytest

from amber_ray.core.declare.feature import feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.kept import Kept
from amber_ray.core.model.request import AssetRef, ComputeRequest, Priority
from amber_ray.core.model.units import Asset, Clip
from amber_ray.errors import BadRequest, TooLarge, VersionGone
from amber_ray.fabric.engine.planner import Planned, RequestPlanner
from amber_ray.fabric.engine.registries import Registries
from amber_ray.settings import Limits, Settings
from tests.unit.fabric.engine.kit import REGISTRY, SECONDS, MemoryAssets, ask, film, run, until, world


@feature(version="1")
def start(clip: Clip) -> float:
    """Where it begins."""
    return clip.start


async def nothing_kept(feature: str, version: str, units: Sequence[str]) -> Kept:
    return Kept()


def planner(**settings: object) -> RequestPlanner:
    registries = Registries(REGISTRY, {})
    return RequestPlanner(Settings(**settings), registries, MemoryAssets(), nothing_kept)  # type: ignore[arg-type]


def places(planned: Planned) -> list[str]:
    units = [step.unit for part in planned.parts.values() for step in part.plan.steps.values()]
    return [unit.uri for unit in units if isinstance(unit, Asset)]


@pytest.mark.parametrize("change", [{"uri": "/elsewhere/a.mp4"}, {"signature": "100:1:2:3"}])
def test_a_plan_is_of_where_its_assets_are_now(change: dict[str, str]) -> None:
    plans = planner()
    before = film("a")
    after = dataclasses.replace(before, **change)
    request = ask(before)
    old, _ = plans.plan(request, [before])
    new, _ = plans.plan(request, [after])
    assert places(new) == [after.uri]
    assert [t.key for t in new.plan.targets] == [t.key for t in old.plan.targets]
    assert new.parts[0].name != old.parts[0].name  # a shard that remembers the old plan is sent the new one
    assert plans.plan(request, [before])[0] is old


def test_a_shard_is_sent_the_plan_again_after_an_asset_moved() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            await engine.compute(ask(one), 0.0, "before")
            moved = dataclasses.replace(one, uri="/elsewhere/film-0.mp4")
            w.assets.put(moved)
            request = ComputeRequest(("name_of",), (AssetRef(id=one.id),), refresh=True)
            await engine.compute(request, 0.0, "after")
            sent = [part for _, plans, _ in w.shard.named("submit") for part in plans.values()]
            assert [t.unit.uri for part in sent for t in part.targets] == [one.uri, moved.uri]

    run(story())


def test_the_body_holds_all_that_the_request_is() -> None:
    asset = film("a")
    request = ask(asset, refresh=True, deadline_seconds=30.0, tenant="them", priority=Priority.INGEST)
    body = planner().body(request, [asset], (), 1000.0)
    assert {k: body[k] for k in ("refresh", "deadline", "tenant", "registry", "priority_rank")} == {
        "refresh": True,
        "deadline": 1030.0,
        "tenant": "them",
        "registry": REGISTRY.digest,
        "priority_rank": 1,
    }
    assert planner().body(ask(asset), [asset], (), 1000.0)["deadline"] is None


def test_an_asset_without_a_name_fails_alone() -> None:
    plans = planner()
    assets, failed = asyncio.run(plans.resolve([AssetRef(), AssetRef(uri="/nowhere")]))
    assert assets == []
    assert [f.failure.type for f in failed] == ["BadRequest", "MediaNotFound"]


def test_too_many_assets_are_refused_before_any_is_looked_at() -> None:
    plans = planner(limits=Limits(assets_per_request=2))
    with pytest.raises(TooLarge, match="2 assets, not 3"):
        plans.at_hand([AssetRef(uri=f"/{i}") for i in range(3)])


def test_finished_requests_share_what_they_were_asked() -> None:
    plans = planner()
    asset = film("a")
    planned, _ = plans.plan(ask(asset), [asset])
    assert planned.asked(ask(asset)) is planned.request
    other = ask(asset, refresh=True)
    assert planned.asked(other) is other


def test_a_range_that_fits_no_asset_is_an_error_and_one_that_fits_some_is_not() -> None:
    plans = RequestPlanner(
        Settings(segment_seconds=10.0),
        Registries(Registry([start.__amber__]), {}),  # type: ignore[attr-defined]
        MemoryAssets(),
        nothing_kept,
    )
    short, long = film("a"), dataclasses.replace(film("b"), duration=100.0)
    request = ask(short, long, features="start", range=(50.0, 60.0))
    with pytest.raises(BadRequest, match="ends at 5 s"):
        plans.plan(request, [short])
    planned, refused = plans.plan(request, [short, long])
    assert [f.ref.id for f in refused] == [short.id]
    assert len(planned.plan.targets) == 1


def test_what_is_wrong_with_an_asset_is_told_with_the_others_values() -> None:
    async def story() -> None:
        async with world() as w:
            (one,) = w.films(0)
            engine = await w.engine()
            waiting = asyncio.create_task(engine.compute(ask(one, film("nowhere")), SECONDS, "mine"))
            await until(lambda: "mine" in w.shard.records)
            w.shard.make_all()
            view = await waiting
            assert [r.value for r in view.results] == [one.uri]
            assert [f.failure.type for f in view.failed_assets] == ["MediaNotFound"]

    run(story())


def test_an_old_version_is_found_in_the_shards_and_read_by_its_key() -> None:
    async def story() -> None:
        async with world(shards=2) as w:
            engine = await w.engine()
            [one] = w.films(0)
            key = "e" * 32
            for shard in w.shards:
                shard.values[key] = "as it was"
            w.shards[1].kept_rows["name_of", "0"] = {one.unit_id: key}
            view = await engine.compute(ask(one, features="name_of@0"), 5.0)
            [result] = view.results
            assert (result.feature, result.key, result.value) == ("name_of@0", key, "as it was")
            [step] = await engine.explain(ask(one, features="name_of@0"))
            assert (step.feature, step.version, step.key) == ("name_of", "0", key)
            with pytest.raises(BadRequest, match="can't be made anew"):
                await engine.compute(ask(one, features="name_of@0", refresh=True), 5.0)
            with pytest.raises(VersionGone, match="nothing is stored of name_of@7"):
                await engine.compute(ask(one, features="name_of@7"), 5.0)
            [now] = (await engine.compute(ask(one, features="name_of@1"), 0.0)).results
            assert now.feature == "name_of@1"
            assert now.key != key

    run(story())
