"""`amber diff FEATURE [OLD [NEW]]`: the stored values of two versions, compared by their type.

The store is read directly: it takes no Ray, no lock and no code of either version. A unit's values are
compared where both versions have the same parameters, else the newest of each. Held in memory are what the
values are of and a batch of them, never all.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from amber_ray.cli.options import there
from amber_ray.cli.summary import summary
from amber_ray.cli.terminal import cell, console, say, table
from amber_ray.core.model.kept import window_of
from amber_ray.core.model.units import MICRO
from amber_ray.core.values.compare import Difference, compare, worse
from amber_ray.errors import UnknownFeature, did_you_mean

if TYPE_CHECKING:
    from amber_ray.store.parquet import ValueStore

BATCH = 256
"""Pairs of values that are read together."""


class Place(NamedTuple):
    """Where a value is: its part and row, its key, and when it was made."""

    created: int
    part: str
    row: int
    key: str


Units = dict[str, dict[str, Place]]
"""The newest value of each unit, by unit and by parameters."""


class Example(NamedTuple):
    """Two values of a unit that differ."""

    asset: str
    unit: str
    keys: tuple[str, str]
    told: tuple[str, str]
    difference: Difference


class Compared:
    """What was seen so far: counts, each measure's mean and worst value, and the worst examples."""

    def __init__(self, worst: int) -> None:
        self.equal = self.changed = 0
        self.sums: dict[str, tuple[int, float, float]] = {}
        self._worst = worst
        self._heap: list[tuple[float, int, Example]] = []

    def add(self, example: Example) -> None:
        """One more pair of values."""
        difference = example.difference
        self.equal += difference.equal
        self.changed += not difference.equal
        for name, value in difference.measures.items():
            count, total, last = self.sums.get(name, (0, 0.0, value))
            self.sums[name] = count + 1, total + value, worse(name, value, last)
        if not difference.equal and self._worst:
            heapq.heappush(self._heap, (difference.distance, -self.changed, example))
            if len(self._heap) > self._worst:
                heapq.heappop(self._heap)

    def worst(self) -> list[Example]:
        """The examples that differ most, the worst one first."""
        return [example for _, _, example in sorted(self._heap, key=lambda item: item[:2], reverse=True)]


def run(args: argparse.Namespace) -> int:
    """Compare and show."""
    from amber_ray.store.assets import AssetPacks
    from amber_ray.store.parquet import ValueStore

    url = there(args.store)
    store = ValueStore(url, make=False)
    (args.old, old), (args.new, new) = _two(store, args.feature, [v for v in (args.old, args.new) if v])
    both = sorted(old.keys() & new.keys())
    compared = Compared(args.worst)
    for example in _examples(store, _pairs(both, old, new)):
        compared.add(example)
    counts = {
        "compared": compared.equal + compared.changed,
        "equal": compared.equal,
        "changed": compared.changed,
        "only_old": len(old) - len(both),
        "only_new": len(new) - len(both),
    }
    packs = AssetPacks(url)
    names = {example.asset: _place(packs, example.asset) for example in compared.worst()}
    if args.format == "json":
        say(json.dumps(_as_json(args, counts, compared, names), indent=1))
    else:
        _show(args, counts, compared, names)
    return 0


def _two(store: ValueStore, feature: str, given: Sequence[str]) -> list[tuple[str, Units]]:
    """The versions to compare, with their units: those that are given, else those made last."""
    stored = store.versions()
    known = [one.version for one in stored if one.feature == feature]
    if not known:
        near = did_you_mean(feature, {one.feature for one in stored}, "nothing is stored of this feature")
        of = f"{feature}@{given[0]}" if given else feature
        raise UnknownFeature(f"nothing is stored of {of}; {near}")
    found = [(version, _units(store, feature, version)) for version in (_full(v, known) for v in given)]
    for version, units in found:
        if not units:
            raise UnknownFeature(
                f"nothing is stored of {feature}@{version}; stored are {', '.join(sorted(known))}"
            )
    if len(found) == 2:
        return found
    others = [(v, _units(store, feature, v)) for v in known if v not in dict(found)]
    others = sorted((one for one in others if one[1]), key=lambda one: _made(one[1]))
    if len(found) + len(others) < 2:
        raise UnknownFeature(f"of {feature} only version {known[0]} is stored: nothing to compare it with")
    return [*found, *others[len(found) - 2 :]]


def _full(version: str, known: Sequence[str]) -> str:
    """A version that is stored, also by its beginning where it follows the code (`auto-3f`)."""
    begun = [one for one in known if version.startswith("auto-") and one.startswith(version)]
    return begun[0] if len(begun) == 1 and version not in known else version


def _made(units: Units) -> int:
    return max(place.created for of in units.values() for place in of.values())


def _units(store: ValueStore, feature: str, version: str) -> Units:
    """The newest value of each unit, by unit and by parameters."""
    found: Units = {}
    for part, rows in store.listed(feature, version):
        made = rows.column("created").cast("int64").to_pylist()
        columns = (rows.column(name).to_pylist() for name in ("key", "unit", "params"))
        for row, (at, key, unit, params) in enumerate(zip(made, *columns, strict=True)):
            # Parts come oldest first, so of the same value made twice the later row counts.
            place = Place(at, part, row, key.hex())
            known = found.setdefault(unit, {})
            if params not in known or known[params].created <= at:
                known[params] = place
    return found


def _pairs(
    units: Sequence[str], old: Mapping[str, Mapping[str, Place]], new: Mapping[str, Mapping[str, Place]]
) -> Iterator[tuple[str, Place, Place]]:
    for unit in units:
        before, after = old[unit], new[unit]
        alike = before.keys() & after.keys()
        if alike:
            for params in sorted(alike):
                yield unit, before[params], after[params]
        else:
            yield unit, max(before.values()), max(after.values())


def _examples(store: ValueStore, pairs: Iterator[tuple[str, Place, Place]]) -> Iterator[Example]:
    while some := list(itertools.islice(pairs, BATCH)):
        values = _read(store, [place for _, *two in some for place in two])
        for unit, before, after in some:
            a, b = values[before], values[after]
            yield Example(
                _asset(unit), unit, (before.key, after.key), (summary(a, 48), summary(b, 48)), compare(a, b)
            )


def _read(store: ValueStore, places: Sequence[Place]) -> dict[Place, Any]:
    by_part: dict[str, list[Place]] = {}
    for place in places:
        by_part.setdefault(place.part, []).append(place)
    found: dict[Place, Any] = {}
    for part, its in by_part.items():
        rows = store.read(part, [place.row for place in its])
        found.update((place, row.value) for place, row in zip(its, rows, strict=True))
    return found


def _asset(unit: str) -> str:
    return "" if unit.startswith("{") else unit.partition("@")[0]


def _place(packs: Any, asset: str) -> tuple[str, float]:
    """Where an asset was found last, and how long it is; its id, and no end, if that is not known."""
    known = packs.of(asset) if asset else []
    if not known:
        return asset, math.inf
    return str(known[-1].asset.uri), known[-1].asset.duration or math.inf


def _span(unit: str, duration: float) -> str:
    if unit.startswith("{"):
        return f"{unit.count(',') + 1} assets"
    _, start, length = window_of(unit) or ("", 0, 0)
    if not length:
        return "whole"
    return f"{start / MICRO:g}-{min((start + length) / MICRO, duration):g} s"


def _as_json(
    args: argparse.Namespace,
    counts: Mapping[str, int],
    compared: Compared,
    names: Mapping[str, tuple[str, float]],
) -> dict[str, Any]:
    return {
        "feature": args.feature,
        "old": args.old,
        "new": args.new,
        **counts,
        "measures": {
            name: {"mean": total / count, "worst": worst, "values": count}
            for name, (count, total, worst) in compared.sums.items()
        },
        "worst": [
            {
                "asset": example.asset or None,
                "uri": names[example.asset][0],
                "unit": example.unit,
                "old": {"key": example.keys[0], "value": example.told[0]},
                "new": {"key": example.keys[1], "value": example.told[1]},
                "distance": example.difference.distance,
                "measures": dict(example.difference.measures),
            }
            for example in compared.worst()
        ],
    }


def _show(
    args: argparse.Namespace,
    counts: Mapping[str, int],
    compared: Compared,
    names: Mapping[str, tuple[str, float]],
) -> None:
    say(
        f"{args.feature} {args.old} → {args.new}: {counts['compared']:,} values compared, "
        f"{counts['equal']:,} equal, {counts['changed']:,} changed; {counts['only_old']:,} units only in "
        f"{args.old}, {counts['only_new']:,} only in {args.new}"
    )
    if compared.sums:
        rows = table("of those that changed", ">values", ">mean", ">worst")
        for name, (count, total, worst) in compared.sums.items():
            rows.add_row(name, f"{count:,}", f"{total / count:.6g}", f"{worst:.6g}")
        console().print(rows)
    if compared.changed and args.worst:
        rows = table("worst", "unit", args.old, args.new, ">distance")
        for example in compared.worst():
            before, after = map(cell, example.told)
            distance = f"{example.difference.distance:.4g}"
            name, duration = names[example.asset]
            rows.add_row(cell(name or "all"), _span(example.unit, duration), before, after, distance)
        console().print(rows)
