from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from amber_ray.core.model.unit_codec import asset_from_json, asset_to_json, unit_from_json, unit_to_json
from amber_ray.core.model.units import Asset, Collection, Segment, Stream, Unit

FILM = Asset(
    "a" * 32,
    "s3://b/ü.mp4",
    "video/mp4",
    10,
    25.5,
    (
        Stream("video", "h264", 640, 360, "24000/1001", rotation=90),
        Stream("audio", "aac", sample_rate=48_000),
    ),
    "10:1:2:3:4",
)
PICTURE = Asset("b" * 32, "/b.png", "image/png", 20)


def through_json(data: Any) -> Any:
    return json.loads(json.dumps(data))


@pytest.mark.parametrize("asset", [FILM, PICTURE], ids=["film", "picture"])
def test_an_asset_comes_back_with_every_field(asset: Asset) -> None:
    back = asset_from_json(through_json(asset_to_json(asset)))
    # Assets are equal by their ids alone.
    assert [getattr(back, f.name) for f in fields(Asset)] == [getattr(asset, f.name) for f in fields(Asset)]


def test_what_does_not_apply_to_a_stream_is_not_written_and_was_once() -> None:
    written = asset_to_json(FILM)
    assert written["streams"][1] == {"kind": "audio", "codec": "aac", "sample_rate": 48_000}
    old = {**written, "streams": [{f.name: getattr(s, f.name) for f in fields(Stream)} for s in FILM.streams]}
    assert asset_from_json(through_json(old)).streams == FILM.streams


@pytest.mark.parametrize(
    "unit",
    [FILM, Segment(FILM, 10_000_000, 10_000_000), Segment(PICTURE, 0, 0), Collection.of([PICTURE, FILM])],
)
def test_a_unit_comes_back_with_its_assets(unit: Unit) -> None:
    back = unit_from_json(through_json(unit_to_json(unit)), {a.id: a for a in (FILM, PICTURE)})
    assert (back, back.unit_id) == (unit, unit.unit_id)
