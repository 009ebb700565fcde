"""Steps on their way between processes: what arrives equals what was sent, and is shared as it was."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from ray import cloudpickle

from amber_ray.core.model.units import Asset, Stream
from amber_ray.core.planning.codec import pack, unpack
from amber_ray.core.planning.plan import Plan, Planner, Step
from amber_ray.fabric.engine.planner import split
from amber_ray.fabric.transport import registry_blob
from amber_ray.fabric.transport.messages import PlanPart, Work
from amber_ray.settings import Settings

REGISTRY = registry_blob.build(Settings())
FILMS = [
    Asset(
        f"{i:032x}",
        f"/media/{i}.mp4",
        "video/mp4",
        1000 + i,
        25.0,
        (Stream("video", "h264", 640, 360, "24000/1001"), Stream("audio", "aac", sample_rate=48_000)),
        f"{i}:1:2:3",
    )
    for i in range(3)
]


def plan(shards: int = 1) -> Plan:
    """Segments, assets and a collection, with parameters."""
    planner = Planner(
        REGISTRY,
        features=["brightness", "probe", "match_cuts"],
        params={"frames.fps": 1.0},
        segment_seconds=10.0,
        shards=shards,
    )
    for film in FILMS:
        planner.add_asset(film)
    planner.add_collection(FILMS)
    return planner.plan()


def fields(step: Step) -> dict[str, object]:
    """All of a step: steps are compared by identity."""
    return {f.name: getattr(step, f.name) for f in dataclasses.fields(step)}


def whole(asset: Asset) -> tuple[object, ...]:
    """All of an asset: `==` looks at the id only."""
    return tuple(getattr(asset, f.name) for f in dataclasses.fields(asset))


def test_steps_come_back_as_they_were_and_share_what_they_shared() -> None:
    steps = list(plan().steps.values())
    again = unpack(pickle.loads(pickle.dumps(pack(steps))))
    assert [fields(s) for s in again] == [fields(s) for s in steps]
    assert {type(s.unit).__name__ for s in again} == {"Segment", "Asset", "Collection"}
    assert len({id(s.recipe) for s in again}) == len({id(s.recipe) for s in steps})
    assert len({id(s.unit) for s in again}) == len({id(s.unit) for s in steps})
    assets = {id(s.unit): s.unit for s in again if isinstance(s.unit, Asset)}
    assert [whole(a) for a in assets.values()] == [whole(f) for f in FILMS]


def test_equal_assets_at_different_places_stay_apart() -> None:
    here, there = FILMS[0], dataclasses.replace(FILMS[0], uri="/elsewhere/0.mp4")
    first = next(s for s in plan().steps.values() if s.unit is here)
    second = dataclasses.replace(first, unit=there)
    uris = [s.unit.uri for s in unpack(pack([first, second])) if isinstance(s.unit, Asset)]
    assert uris == ["/media/0.mp4", "/elsewhere/0.mp4"]


@pytest.mark.parametrize("shards", [1, 3])
def test_a_part_of_a_plan_travels(shards: int) -> None:
    parts = split(plan(shards))
    assert len(parts) <= shards
    for part in (named.plan for named in parts.values()):
        again: PlanPart = pickle.loads(cloudpickle.dumps(part))
        assert list(again.steps) == list(part.steps)
        assert again.targets == part.targets
        assert all(t.unit is again.steps[t.key].unit for t in again.targets)


def test_a_task_travels() -> None:
    steps = tuple(plan().steps.values())
    work = Work(7, steps, frozenset({steps[0].key}), {"a": b"x"}, {"b": (0, 1)}, 2, 100, "r", "n", "actor")
    again: Work = pickle.loads(cloudpickle.dumps(work))
    assert [fields(s) for s in again.steps] == [fields(s) for s in steps]
    assert dataclasses.replace(again, steps=()) == dataclasses.replace(work, steps=())
