"""Assets and units on the wire, both ways.

A result names its asset by id and URI only, and its segment by index, start and end in seconds; that is
enough to rebuild the grid the segment lies on. Must not know: features, results, HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amber_ray.core.model.unit_codec import asset_from_json, asset_to_json
from amber_ray.core.model.units import MICRO, Asset, Collection, Segment, Unit
from amber_ray.wire.problems import Reading


def encode_asset(asset: Asset) -> dict[str, Any]:
    """An asset's fields, but for what its file looked like here."""
    data = asset_to_json(asset)
    del data["signature"]
    return data


def decode_asset(data: Mapping[str, Any]) -> Asset:
    """What `encode_asset` wrote."""
    with Reading("an asset"):
        return asset_from_json(data)


def encode_unit(unit: Unit) -> dict[str, Any] | None:
    """None for an asset, `{"index", "start", "end"}` (seconds) for a segment, `{"collection": [ids]}`."""
    if isinstance(unit, Asset):
        return None
    if isinstance(unit, Segment):
        return {"index": unit.index, "start": unit.start, "end": unit.end}
    return {"collection": [asset.id for asset in unit.assets]}


def decode_unit(asset: str | None, uri: str | None, data: Mapping[str, Any] | None) -> Unit:
    """The unit of a result. Its asset carries id and URI; one cut by its asset's end knows that end too."""
    if data is not None and "collection" in data:
        return Collection(tuple(_named(member) for member in data["collection"]))
    if asset is None:
        raise ValueError("a result without an asset must be of a collection")
    if data is None:
        return _named(asset, uri)
    start, end, index = (
        round(data["start"] * MICRO),
        round(data["end"] * MICRO),
        data["index"],
    )
    # The grid's step follows from where this window begins; the first one shows only how long it is.
    length = start // index if index else end - start
    cut = data["end"] if end < start + length else None
    return Segment(_named(asset, uri, cut), start, length)


def _named(id: str, uri: str | None = None, duration: float | None = None) -> Asset:
    return Asset(id=id, uri=uri or "", media_type="", bytes=0, duration=duration)


def place(unit: Unit) -> dict[str, Any]:
    """Which asset and which part of it: the fields that results and explained steps share."""
    if isinstance(unit, Collection):
        return {"asset": None, "uri": None, "unit": encode_unit(unit)}
    asset = unit.asset if isinstance(unit, Segment) else unit
    return {"asset": asset.id, "uri": asset.uri or None, "unit": encode_unit(unit)}
