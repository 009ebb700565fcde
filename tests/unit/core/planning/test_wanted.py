"""What a demand asks of every asset: another digest exactly when another value would be true."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from amber_ray.core.declare.feature import feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.demands import Demand
from amber_ray.core.model.units import Asset
from amber_ray.core.planning.wanted import wanted
from amber_ray.errors import BadParameter, BadRequest, UnknownFeature, UnknownParameter


def registry(base: str = "1", other: str = "1") -> Registry:
    @feature(version=base)
    def probe(asset: Asset, rate: float = 2.0) -> int:
        return 0

    @feature(version="1")
    def look(probe: int) -> int:
        return 0

    @feature(version=other)
    def unrelated(asset: Asset) -> int:
        return 0

    @feature(version="1", per="collection")
    def match(look: list[int]) -> int:
        return 0

    @feature(version="1", store="memory")
    def passing(asset: Asset) -> int:
        return 0

    return Registry([f.__amber__ for f in (probe, look, unrelated, match, passing)])  # type: ignore[attr-defined]


FILMS = Demand("films", ("look",), ("/films",))


def digest(of: Registry | None = None, **changes: Any) -> str:
    return wanted(of or registry(), dataclasses.replace(FILMS, **changes), 60.0)


def test_where_how_often_and_for_whom_is_not_part_of_it() -> None:
    same = digest(name="other", prefixes=("/x",), every=1.0, gone="purge", tenant="y", settle_seconds=9.0)
    assert digest() == same == digest(registry(other="2"))


def test_features_parameters_and_what_they_stand_on_are() -> None:
    different = [
        digest(),
        digest(features=("look", "unrelated")),
        digest(params={"probe.rate": 3.0}),
        digest(registry(base="2")),
        wanted(registry(), FILMS, 30.0),
    ]
    assert len(set(different)) == len(different)
    assert digest(params={"probe.rate": 2.0}) == digest()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"features": ("lok",)}, UnknownFeature),
        ({"params": {"probe.rat": 1}}, UnknownParameter),
        ({"params": {"probe.rate": "fast"}}, BadParameter),
        ({"features": ("match",)}, BadRequest),
        ({"features": ("passing",)}, BadRequest),
    ],
)
def test_what_can_not_be_kept_is_refused(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        digest(**changes)
