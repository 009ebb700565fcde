"""What is stored of versions of features, in words that the store, the planner and callers share.

Must not know: how features are declared, where values are stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from amber_ray.core.model.units import Per


class StoredVersion(NamedTuple):
    """What is stored of one version of a feature. Values that were made anew count until parts are joined."""

    feature: str
    version: str
    parts: int
    rows: int
    bytes: int


class KeptRow(NamedTuple):
    """A stored value of some version: its key, the unit and parameters (JSON) it is of, when it was made."""

    key: str
    unit: str
    params: str
    created: float


@dataclass(frozen=True, slots=True)
class Kept:
    """What is stored of one version of a feature, for the assets that were asked about.

    `per` is what its values are for, None if nothing at all is stored of this version; `versions` are all of
    the feature that something is stored of.
    """

    rows: Mapping[str, Sequence[KeptRow]] = field(default_factory=dict)
    per: Per | None = None
    versions: tuple[str, ...] = ()

    def best(self, unit: str, given: Mapping[str, Any], usual: Mapping[str, Any]) -> KeptRow | None:
        """Return the row of a unit that has the parameters given.

        Of several it is the one with the most of the usual parameters, and of these the newest.
        """
        fits = (row for row in self.rows.get(unit, ()) if _shared(row, given) == len(given))
        return max(fits, key=lambda row: (_shared(row, usual), row.created), default=None)

    def params(self) -> set[str]:
        """Return the names of all parameters that some row has."""
        return {name for rows in self.rows.values() for row in rows for name in json.loads(row.params)}


def unit_per(unit: str) -> Per:
    """Return what a unit is, by its text."""
    if unit.startswith("{"):
        return "collection"
    return "segment" if "@" in unit else "asset"


def window_of(unit: str) -> tuple[str, int, int] | None:
    """Return a window's asset, start and length in microseconds, by its text; None for another unit."""
    asset, _, window = unit.partition("@")
    start, _, length = window.partition("+")
    return (asset, int(start), int(length)) if start.isdecimal() and length.isdecimal() else None


def joined(several: Sequence[Kept]) -> Kept:
    """Return what several places have as one."""
    rows: dict[str, dict[str, KeptRow]] = {}
    for one in several:
        for unit, its in one.rows.items():
            rows.setdefault(unit, {}).update((row.key, row) for row in its)
    per = next((one.per for one in several if one.per is not None), None)
    versions = sorted({version for one in several for version in one.versions})
    return Kept({unit: list(by_key.values()) for unit, by_key in rows.items()}, per, tuple(versions))


def _shared(row: KeptRow, params: Mapping[str, Any]) -> int:
    """How many of some parameters a row has with the same value."""
    has = json.loads(row.params) if params else {}
    return sum(name in has and _same(has[name], value) for name, value in params.items())


def _same(one: Any, other: Any) -> bool:
    """Whether two parameters are the same: 1 is 1.0, as where a parameter is declared, and not True."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)
