"""What is told of values beside the values themselves: what each is of, how it was made, where it is.

Shards tell it of what they have in memory, the first one of what is stored; `together` makes one of both.
Must not know: where values are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from amber_ray.core.model.kept import unit_per, window_of
from amber_ray.core.model.pages import Page, write_cursor

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
        """What it is of, in a word: `asset`, `segment` (of the grid), `window` (found) or `collection`."""
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
class Told:
    """Values that one place tells of, in order, up to the place `end`; None: there are no others."""

    values: tuple[ValueInfo, ...] = ()
    end: Place | None = None


EMPTY = Told()


def first(values: Iterable[ValueInfo], after: Place | None, most: int) -> Told:
    """Tell of the first values after a place."""
    its = sorted((v for v in values if after is None or v.place > after), key=lambda v: v.place)
    return Told(tuple(its[:most]), its[most - 1].place if len(its) > most else None)


def together(several: Iterable[Told]) -> Told:
    """Return what several places tell as one: in order, each key once, as far as all of them have told."""
    several = list(several)
    end = min((told.end for told in several if told.end is not None), default=None)
    every = merged(value for told in several for value in told.values)
    its = sorted((v for v in every.values() if end is None or v.place <= end), key=lambda v: v.place)
    return Told(tuple(its), end)


def values_page(told: Told, limit: int) -> Page[ValueInfo]:
    """Return the first values as a page; what `told` does not reach is on the pages after it."""
    its = told.values[:limit]
    end = its[-1].place if len(told.values) > limit else told.end
    return Page(its, None if end is None else write_cursor(VALUES, *end))


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
