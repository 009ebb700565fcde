"""Assets and units as JSON-able data, whole: journals, records and the wire write them with these functions.

Fields that are None are left out of streams, so one that is added later needs no other format. What travels
between processes by the thousand is packed as tuples instead (`core.planning.codec`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from amber_ray.core.model.units import Asset, Collection, EachRange, Segment, Stream, Unit


def asset_to_json(asset: Asset) -> dict[str, Any]:
    """Return all fields of an asset."""
    fields: dict[str, Any] = {name: getattr(asset, name) for name in Asset.__slots__}
    fields["streams"] = streams_to_json(asset.streams)
    return fields


def asset_from_json(data: Mapping[str, Any]) -> Asset:
    """Return the asset that `asset_to_json` wrote; keys that are no fields are left aside.

    Raises `KeyError` and `TypeError` for data that is none.
    """
    return Asset(
        id=data["id"],
        uri=data["uri"],
        media_type=data["media_type"],
        bytes=data["bytes"],
        duration=data["duration"],
        streams=streams_from_json(data["streams"]),
        signature=data.get("signature", ""),
        note=data.get("note", ""),
    )


def streams_to_json(streams: Iterable[Stream]) -> list[dict[str, Any]]:
    """Return the fields of each stream that apply to it."""
    return [{n: v for n in Stream.__slots__ if (v := getattr(s, n)) is not None} for s in streams]


def streams_from_json(data: Iterable[Mapping[str, Any]]) -> tuple[Stream, ...]:
    """Return the streams that `streams_to_json` wrote."""
    return tuple(_stream(fields) for fields in data)


def _stream(fields: Mapping[str, Any]) -> Stream:
    crop = fields.get("crop")
    return Stream(**{**fields, "crop": None if crop is None else tuple(crop)})


def unit_to_json(unit: Unit) -> list[Any]:
    """Return a unit by the ids of its assets: its grain, then the ids and, of a segment, start and length.

    A segment that was found is a "window".
    """
    if isinstance(unit, Segment):
        return ["window" if unit.found else "segment", unit.asset.id, unit.start_us, unit.length_us]
    if isinstance(unit, EachRange):
        span = None if unit.span_us is None else list(unit.span_us)
        return ["each", unit.asset.id, unit.finder, unit.key, unit.grid_us, span]
    if isinstance(unit, Asset):
        return ["asset", unit.id]
    return ["collection", *(a.id for a in unit.assets)]


def unit_from_json(data: Sequence[Any], assets: Mapping[str, Asset]) -> Unit:
    """Return the unit that `unit_to_json` wrote; `assets` has its assets by id."""
    kind, first = data[0], data[1]
    if kind in ("segment", "window"):
        return Segment(assets[first], data[2], data[3], kind == "window")
    if kind == "each":
        return EachRange(
            assets[first], data[2], data[3], data[4], None if data[5] is None else tuple(data[5])
        )
    if kind == "asset":
        return assets[first]
    return Collection.of(assets[id] for id in data[1:])
