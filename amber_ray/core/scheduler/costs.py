"""What a step of a feature costs: seconds, bytes, and how many ranges it finds; learned from every report.

Must not know: where the numbers are kept between runs (with the values: `store.parquet`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from amber_ray.core.model.units import Segment, Unit
from amber_ray.core.planning.plan import Recipe

WEIGHT = 1 / 8
"""Weight of the newest run in the exponential mean."""


class Means(NamedTuple):
    """What a value of one feature's version is expected to cost: seconds to make, and bytes.

    `ranges`: how many it has, if it is a list of ranges; None if that is not known.
    """

    seconds: float
    bytes: float
    ranges: float | None = None


def mean_of(each: Sequence[Means], weights: Sequence[float]) -> Means:
    """Return the weighted mean; of the ranges, that of those which are known."""
    total = sum(weights)
    known = [(one.ranges, w) for one, w in zip(each, weights, strict=True) if one.ranges is not None and w]
    return Means(
        sum(one.seconds * w for one, w in zip(each, weights, strict=True)) / total,
        sum(one.bytes * w for one, w in zip(each, weights, strict=True)) / total,
        sum(n * w for n, w in known) / sum(w for _, w in known) if known else None,
    )


LONGEST_CLASS = 24
"""The `length_class` of a window of two years."""


class Cost:
    """Exponential means of one feature's version: recent runs weigh more. None before the first run.

    `bytes` is None until a value was measured, `ranges` until one was a list of ranges. `also` learns what it
    learns, as the whole of which it is a part.
    """

    __slots__ = ("also", "bytes", "ranges", "seconds")

    def __init__(self, also: Cost | None = None) -> None:
        self.also = also
        self.seconds: float | None = None
        self.bytes: float | None = None
        self.ranges: float | None = None

    def learn(self, seconds: float, size: int | None, ranges: int | None = None) -> None:
        """Fold in one run. `size` is None where the value did not leave the worker and was not measured.

        `ranges`: how many ranges the value has, if it is a list of them.
        """
        self.seconds = _folded(self.seconds, seconds)
        if size is not None:
            self.bytes = _folded(self.bytes, size)
        if ranges is not None:
            self.ranges = _folded(self.ranges, ranges)
        if self.also is not None:
            self.also.learn(seconds, size, ranges)


def _folded(old: float | None, new: float) -> float:
    return float(new) if old is None else old + (new - old) * WEIGHT


def length_class(unit: Unit) -> int:
    """Return in which range of lengths a found unit is, each four times as long as the one before; else 0.

    What a window costs grows with its length for most features, and not for all: so windows of very different
    lengths are learned apart, and the grid's, which are all alike, are apart from them.
    """
    if isinstance(unit, Segment) and unit.found:
        return 1 + (unit.length_us >> 18).bit_length() // 2
    return 0


class Costs:
    """What is known of each feature and version: of all its steps, and of those for units of one kind."""

    def __init__(self, known: Mapping[tuple[str, str], tuple[float, float]] | None = None) -> None:
        self._known: dict[tuple[str, str], Cost] = {}
        self._kinds: dict[tuple[str, str, int], Cost] = {}
        for name, means in (known or {}).items():
            self.preset(*name, Means(*means))

    def of(self, recipe: Recipe, length: int = 0) -> Cost:
        """Return what is known of a recipe's feature and version, for units of one `length_class`.

        It goes on learning.
        """
        return self._of(recipe.feature, recipe.version, length)

    def expected(self, recipe: Recipe, length: int) -> float | None:
        """Return the seconds that a run for a unit of a `length_class` should take; None if nothing tells.

        Windows as long as none that has run take no more than longer ones, and as much more than shorter ones
        as they are longer.
        """
        own = self.of(recipe, length).seconds
        if own is not None or not length:
            return own
        for apart in range(1, LONGEST_CLASS):
            for other in (length + apart, length - apart):
                cost = self._kinds.get((recipe.feature, recipe.version, other)) if other > 0 else None
                if cost is not None and cost.seconds is not None:
                    return float(cost.seconds * 4 ** max(0, length - other))
        return None

    def preset(self, feature: str, version: str, means: Means) -> None:
        """Take what storage says of earlier runs, unless something was learned here already."""
        for cost in dict.fromkeys((self._of(feature, version, 0), self._known[feature, version])):
            if cost.seconds is None:
                cost.seconds = means.seconds
            if cost.bytes is None:
                cost.bytes = means.bytes
            if cost.ranges is None:
                cost.ranges = means.ranges

    def _of(self, feature: str, version: str, length: int) -> Cost:
        cost = self._kinds.get((feature, version, length))
        if cost is None and not length:
            cost = self._kinds[feature, version, 0] = self._known[feature, version] = Cost()
        elif cost is None:
            others = self._of(feature, version, 0)
            if others.also is None:  # until now they were all that is known
                others.also = self._known[feature, version] = copy.copy(others)
            cost = self._kinds[feature, version, length] = Cost(others.also)
        return cost

    def known(self) -> dict[tuple[str, str], Means]:
        """Return the means of each (feature, version) that has run; 0 bytes where none was measured."""
        return {
            name: Means(cost.seconds, cost.bytes or 0.0, cost.ranges)
            for name, cost in self._known.items()
            if cost.seconds is not None
        }
