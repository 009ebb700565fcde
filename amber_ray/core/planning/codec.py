"""Steps as plain tuples, for messages between processes: a request may have tens of thousands.

Pickle takes a dataclass apart in Python, field by field, but tuples of strings and numbers in C. What many
steps share (recipes, assets) is written once.

Must not know: what carries the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from amber_ray.core.model.units import Asset, Collection, EachRange, Segment, Stream, Unit
from amber_ray.core.planning.plan import Recipe, Step

Packed = tuple[list[Recipe], list[tuple[Any, ...]], list[Any], list[tuple[Any, ...]]]
"""Recipes, assets, units and steps; the later ones name the earlier ones by their place."""


def pack(steps: Iterable[Step]) -> Packed:
    """Return steps as tuples, in order. `unpack` returns equal steps, which share what these share."""
    recipes: dict[int, int] = {}
    shared: list[Recipe] = []
    table = _Units()
    rows: list[tuple[Any, ...]] = []
    for step in steps:
        recipe = recipes.get(id(step.recipe))
        if recipe is None:
            recipe = recipes[id(step.recipe)] = len(shared)
            shared.append(step.recipe)
        unit = table.place(step.unit)
        rows.append((step.key, recipe, unit, step.unit_id, step.inputs, step.level, step.home, step.needs))
    return shared, table.assets, table.units, rows


def unpack(packed: Packed) -> list[Step]:
    """Return the steps that `pack` was given."""
    recipes, asset_rows, unit_rows, rows = packed
    assets = [_asset(row) for row in asset_rows]
    units = [_unit(row, assets) for row in unit_rows]
    return [
        Step(key, recipes[recipe], units[unit], unit_id, inputs, level, home, needs)
        for key, recipe, unit, unit_id, inputs, level, home, needs in rows
    ]


_SEGMENT = 4
"""Fields of a segment's row."""


class _Units:
    """Each asset and unit once.

    A segment is (asset, start, length, found), each range of a finder (asset, finder, key, grid, span), an
    asset its place, a collection the list of its assets' places.
    """

    def __init__(self) -> None:
        self.assets: list[tuple[Any, ...]] = []
        self.units: list[Any] = []
        self._assets: dict[int, int] = {}
        self._units: dict[int, int] = {}

    def place(self, unit: Unit) -> int:
        """Where the unit is in the table. By identity: equal assets may be readable at different places."""
        known = self._units.get(id(unit))
        if known is None:
            known = self._units[id(unit)] = len(self.units)
            if isinstance(unit, Segment):
                self.units.append((self._asset(unit.asset), unit.start_us, unit.length_us, unit.found))
            elif isinstance(unit, EachRange):
                asset = self._asset(unit.asset)
                self.units.append((asset, unit.finder, unit.key, unit.grid_us, unit.span_us))
            elif isinstance(unit, Collection):
                self.units.append([self._asset(asset) for asset in unit.assets])
            else:
                self.units.append(self._asset(unit))
        return known

    def _asset(self, asset: Asset) -> int:
        known = self._assets.get(id(asset))
        if known is None:
            known = self._assets[id(asset)] = len(self.assets)
            streams = tuple(tuple(getattr(s, name) for name in Stream.__slots__) for s in asset.streams)
            self.assets.append(
                (
                    asset.id,
                    asset.uri,
                    asset.media_type,
                    asset.bytes,
                    asset.duration,
                    streams,
                    asset.signature,
                    asset.note,
                )
            )
        return known


def _asset(row: tuple[Any, ...]) -> Asset:
    id, uri, media_type, size, duration, streams, signature, note = row
    return Asset(id, uri, media_type, size, duration, tuple(Stream(*s) for s in streams), signature, note)


def _unit(row: Any, assets: list[Asset]) -> Unit:
    if isinstance(row, tuple):
        kind = Segment if len(row) == _SEGMENT else EachRange
        return kind(assets[row[0]], *row[1:])
    if isinstance(row, list):
        return Collection(tuple(assets[i] for i in row))
    asset: Asset = assets[row]
    return asset
