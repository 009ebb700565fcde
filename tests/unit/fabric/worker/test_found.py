"""Which values a worker tells the windows of: those of features that another can be per, and no others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from amber_ray import Asset, Clip, feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.planning.fanout import Windows
from amber_ray.core.planning.plan import Planner
from amber_ray.fabric.transport.messages import Work
from amber_ray.fabric.worker.calls import CallMaker
from amber_ray.fabric.worker.tasks import run_steps
from amber_ray.fabric.worker.warm import WarmModel

LOOKED: list[str] = []


@dataclass
class Shot:
    start: float
    end: float


@dataclass
class Watched:
    """Notes that somebody looks at it; its `start` is no field of the declared type."""

    end: float

    @property
    def start(self) -> float:
        LOOKED.append("start")
        return 0.0


@feature(version="1")
def shots(asset: Asset) -> list[Shot]:
    return [Shot(0.0, 2.0)]


@feature(version="1")
def endless(asset: Asset) -> list[Shot]:
    return [Shot(0.0, 1.7e308)]


@feature(version="1", per="segment")
def here(clip: Clip) -> list[Shot]:
    return [Shot(0.0, 2.0)]


@feature(version="1")
def watched(asset: Asset) -> list[Watched]:
    return [Watched(2.0)]


@feature(version="1")
class Cuts:
    def __call__(self, asset: Asset) -> list[Shot]:
        return [Shot(0.0, 2.0)]


@feature(version="1")
class Marks:
    def __call__(self, asset: Asset) -> list[Watched]:
        return [Watched(2.0)]


@feature(version="1")
async def asked(asset: Asset) -> list[Shot]:
    return [Shot(0.0, 2.0)]


@feature(version="1")
async def heard(asset: Asset) -> list[Watched]:
    return [Watched(2.0)]


def windows(declared: Any) -> Windows | None:
    """What a worker tells of the one value of a feature."""
    spec = declared.__amber__
    registry = Registry([spec])
    planner = Planner(registry, features=[spec.name], params={}, segment_seconds=60.0)
    planner.add_asset(Asset("a" * 32, "/media/a", "video/mp4", 1, 30.0))
    steps = tuple(planner.plan().steps.values())
    work = Work(1, steps, frozenset(s.key for s in steps), {}, {}, 1, 8192, registry.digest, "", "")
    if steps[0].recipe.calls.concurrency:
        report, *_ = asyncio.run(CallMaker(registry.get(spec.name), ()).run(work))
    elif spec.is_class:
        report, *_ = WarmModel(registry.get(spec.name), ()).run(work)
    else:
        report, *_ = run_steps(registry, work, ())
    assert report[0].failure is None
    told: Windows | None = report[0].windows
    return told


@pytest.mark.parametrize("declared", [shots, Cuts, asked])
def test_a_list_of_ranges_in_an_asset_is_told_with_its_windows(declared: Any) -> None:
    assert windows(declared) == ((0, 2_000_000),)


@pytest.mark.parametrize("declared", [here, watched, Marks, heard])
def test_values_that_no_feature_can_be_per_are_not_looked_at(declared: Any) -> None:
    LOOKED.clear()
    assert windows(declared) is None
    assert not LOOKED


def test_a_range_that_is_none_is_told_and_does_not_fail_the_value() -> None:
    assert windows(endless) == "its range number 0 is from 0 s to 1.7e+308 s"
