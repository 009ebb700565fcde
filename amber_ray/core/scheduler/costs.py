"""What a step of a feature costs: seconds and bytes, learned from every report.

Must not know: where the numbers are kept between runs (with the values: `store.parquet`).
"""

from __future__ import annotations

from collections.abc import Mapping

from amber_ray.core.planning.plan import Recipe

WEIGHT = 1 / 8
"""Weight of the newest run in the exponential mean."""


class Cost:
    """Exponential means of one feature's version: recent runs weigh more. None before the first run.

    `bytes` is None until a value was measured.
    """

    __slots__ = ("bytes", "seconds")

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.bytes: float | None = None

    def learn(self, seconds: float, size: int | None) -> None:
        """Fold in one run. `size` is None where the value did not leave the worker and was not measured."""
        old = self.seconds
        self.seconds = seconds if old is None else old + (seconds - old) * WEIGHT
        if size is not None:
            old = self.bytes
            self.bytes = float(size) if old is None else old + (size - old) * WEIGHT


class Costs:
    """What is known of each feature and version."""

    def __init__(self, known: Mapping[tuple[str, str], tuple[float, float]] | None = None) -> None:
        self._known: dict[tuple[str, str], Cost] = {}
        for name, (seconds, size) in (known or {}).items():
            self.preset(*name, seconds, size)

    def of(self, recipe: Recipe) -> Cost:
        """Return what is known of a recipe's feature and version; it goes on learning."""
        return self._of(recipe.feature, recipe.version)

    def preset(self, feature: str, version: str, seconds: float, size: float) -> None:
        """Take what storage says of earlier runs, unless something was learned here already."""
        cost = self._of(feature, version)
        if cost.seconds is None:
            cost.seconds = seconds
        if cost.bytes is None:
            cost.bytes = size

    def _of(self, feature: str, version: str) -> Cost:
        return self._known.setdefault((feature, version), Cost())

    def known(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Return (mean seconds, mean bytes) by (feature, version); 0 bytes where none was measured."""
        return {
            name: (cost.seconds, cost.bytes or 0.0)
            for name, cost in self._known.items()
            if cost.seconds is not None
        }
