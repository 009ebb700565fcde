"""What is told of values beside the values themselves: what each is of, how it was made, where it is.

Shards tell it of what they have in memory, the first one of what is stored; `merged` makes one of both.
Must not know: where values are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from amber_ray.core.model.kept import unit_per, window_of
from amber_ray.core.model.units import Asset

VALUES = "values"
"""What cursors of listings of values say that they are of."""

Place: TypeAlias = tuple[str, str, int, int, str]
"""By what values of an asset are in order: feature, version, start and length in microseconds, key.

What is of the whole asset comes before its windows: it starts at -1.
"""
PLACE = (str, str, int, int, str)
"""The types of a place in a cursor."""


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """A value: its key, and what was noted when it was made.

    - `unit` is what it is of, as text: an asset's id, `id@start+length` in microseconds for a window, or
      `{id,id}` for a collection; `found`: the window was found by a feature, and is none of the grid;
    - `params`: by name, those of its own; by `feature.name` those of what it is made from;
    - `made` is Unix time, `seconds` how long it ran, `device` where: `cpu`, or the GPU's name;
    - `code` is the digest of the feature's code, empty where it was not noted; `inputs` are their keys;
    - `stored`: it is in Parquet; `memory`: it is in memory, so that it takes no reading.
    """

    key: str
    feature: str
    version: str
    unit: str
    params: Mapping[str, Any] = field(default_factory=dict)
    found: bool = False
    made: float = 0.0
    seconds: float = 0.0
    device: str = ""
    code: str = ""
    inputs: tuple[str, ...] = ()
    stored: bool = False
    memory: bool = False

    @property
    def per(self) -> str:
        """What it is of: `asset`, `segment` (of the grid), `window` (found) or `collection`."""
        return "window" if self.found else unit_per(self.unit)

    @property
    def assets(self) -> tuple[str, ...]:
        """The ids of the assets that it is of."""
        if self.unit.startswith("{"):
            return tuple(self.unit.strip("{}").split(","))
        return (self.unit.partition("@")[0],)

    @property
    def place(self) -> Place:
        """Where it comes in a listing."""
        _, start, length = window_of(self.unit) or ("", -1, 0)
        return self.feature, self.version, start, length, self.key


@dataclass(frozen=True, slots=True)
class ValueLineage:
    """What a value was made from, down to the media.

    - `nodes`: the value itself and all below it, each once, users before their inputs where they are on
      different levels. One that is neither stored nor in memory was found by planning again;
    - `unknown`: keys of inputs of which nothing is known any more;
    - `assets`: the media at the bottom, one for each place where it was found, the latest last.
    """

    key: str
    nodes: tuple[ValueInfo, ...]
    unknown: tuple[str, ...] = ()
    assets: tuple[Asset, ...] = ()


def merged(values: Iterable[ValueInfo]) -> dict[str, ValueInfo]:
    """Return values by key. Of one that several know of, what was made last is told, and all that have it."""
    found: dict[str, ValueInfo] = {}
    for one in values:
        other = found.get(one.key)
        if other is not None:
            newer = one if one.made > other.made else other
            one = replace(newer, stored=one.stored or other.stored, memory=one.memory or other.memory)
        found[one.key] = one
    return found
