"""Assets and units on the wire, both ways.

A result names its asset by id and URI only, and by its note if there is one, and its segment by index, start
and end in seconds. The grid is rebuilt from that, but for the only segment of an asset that is shorter than
the grid's step: its `length_us` is the asset's. A window that was found has no index. Must not know:
features, results, HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amber_ray.core.model.unit_codec import asset_from_json, asset_to_json
from amber_ray.core.model.units import MICRO, Asset, Collection, EachRange, Segment, Unit
from amber_ray.wire.problems import Reading


def encode_asset(asset: Asset) -> dict[str, Any]:
    """Return an asset's fields, without the signature of its file."""
    data = asset_to_json(asset)
    del data["signature"]
    return data


def decode_asset(data: Mapping[str, Any]) -> Asset:
    """Return the asset that `encode_asset` wrote. Raises `AmberError` for data that is none."""
    with Reading("an asset"):
        return asset_from_json(data)


def encode_unit(unit: Unit) -> dict[str, Any] | None:
    """Return None for an asset, `{"index", "start", "end"}` (seconds) or `{"collection": [ids]}`.

    A window that was found is `{"start", "end"}`; before any is known it is `{"each": finder}`.
    """
    if isinstance(unit, Asset):
        return None
    if isinstance(unit, EachRange):
        return {"each": unit.finder}
    if isinstance(unit, Segment):
        if unit.found:
            return {"start": unit.start, "end": (unit.start_us + unit.length_us) / MICRO}
        return {"index": unit.index, "start": unit.start, "end": unit.end}
    return {"collection": [asset.id for asset in unit.assets]}


def decode_unit(asset: str | None, uri: str | None, data: Mapping[str, Any] | None, note: str = "") -> Unit:
    """Return the unit of a result. Its asset has id, URI and note, and a duration if it cuts the segment."""
    if data is not None and "collection" in data:
        return Collection(tuple(_named(member) for member in data["collection"]))
    if asset is None:
        raise ValueError("a result without an asset must be of a collection")
    if data is None:
        return _named(asset, uri, note=note)
    if "each" in data:
        return EachRange(_named(asset, uri, note=note), data["each"], "", 0)
    start, end = round(data["start"] * MICRO), round(data["end"] * MICRO)
    if "index" not in data:
        return Segment(_named(asset, uri, note=note), start, end - start, found=True)
    index = data["index"]
    # The grid's step follows from where this window begins; the first one shows only how long it is.
    length = start // index if index else end - start
    cut = data["end"] if end < start + length else None
    return Segment(_named(asset, uri, cut, note), start, length)


def _named(id: str, uri: str | None = None, duration: float | None = None, note: str = "") -> Asset:
    return Asset(id=id, uri=uri or "", media_type="", bytes=0, duration=duration, note=note)


def place(unit: Unit) -> dict[str, Any]:
    """Return the fields that results and explained steps share: which asset, and which part of it.

    `note` is left out of assets that have none.
    """
    if isinstance(unit, Collection):
        return {"asset": None, "uri": None, "unit": encode_unit(unit)}
    asset = unit if isinstance(unit, Asset) else unit.asset
    fields = {"asset": asset.id, "uri": asset.uri or None, "unit": encode_unit(unit)}
    return fields | {"note": asset.note} if asset.note else fields
