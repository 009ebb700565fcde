"""What a step of a feature costs: seconds and bytes, learned from every report.

Must not know: where the numbers are kept between runs (with the values: `store.parquet`).
"""

from __future__ import annotations

from collections.abc import Mapping

from amber_ray.core.planning.plan import Recipe

WEIGHT = 1 / 8
"""Weight of the newest run in the exponential mean."""


class Costs:
    """Exponential means per feature and version: recent runs weigh more."""

    def __init__(self, known: Mapping[tuple[str, str], tuple[float, float]] | None = None) -> None:
        self._seconds: dict[tuple[str, str], float] = {}
        self._bytes: dict[tuple[str, str], float] = {}
        for name, (seconds, size) in (known or {}).items():
            self._seconds[name] = seconds
            self._bytes[name] = size

    def preset(self, feature: str, version: str, seconds: float, size: float) -> None:
        """Take what storage says of earlier runs, unless something was learned here already."""
        self._seconds.setdefault((feature, version), seconds)
        self._bytes.setdefault((feature, version), size)

    def learn(self, recipe: Recipe, seconds: float, size: int | None) -> None:
        """Fold in one run. `size` is None where the value did not leave the worker and was not measured."""
        name = recipe.feature, recipe.version
        old = self._seconds.get(name)
        self._seconds[name] = seconds if old is None else old + (seconds - old) * WEIGHT
        if size is not None:
            old = self._bytes.get(name)
            self._bytes[name] = float(size) if old is None else old + (size - old) * WEIGHT

    def seconds(self, recipe: Recipe) -> float | None:
        """Return the expected run time of one step; None before the first."""
        return self._seconds.get((recipe.feature, recipe.version))

    def bytes(self, recipe: Recipe) -> float | None:
        """Return the expected size of one value; None before the first."""
        return self._bytes.get((recipe.feature, recipe.version))

    def known(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Return (mean seconds, mean bytes) by (feature, version); 0 bytes where none was measured."""
        return {name: (seconds, self._bytes.get(name, 0.0)) for name, seconds in self._seconds.items()}
