"""`Row`: what is known of one feature for one unit, under the caller's name for the asset.

Must not know: tables of rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from amber_ray.client.params import ParamSet
from amber_ray.core.model.request import MISSING, Failure, ResultState
from amber_ray.core.model.units import EachRange, Unit


class Row(NamedTuple):
    """One feature for one unit. `asset` is the caller's name for it, None for a collection.

    `params` are those that it was asked with, where several sets of them were.
    """

    feature: str
    asset: str | None
    unit: Unit | None
    key: str
    state: ResultState
    value: Any = MISSING
    failure: Failure | None = None
    seconds: float | None = None
    cached: bool = False
    params: ParamSet | None = None

    @property
    def uncounted(self) -> bool:
        """Whether it stands for units of which nobody knows yet how many there are."""
        return self.state == "pending" and isinstance(self.unit, EachRange)

    @property
    def nothing_found(self) -> bool:
        """Whether it stands for no unit at all: the feature for each of whose ranges it is found none."""
        return self.failure is None and self.state == "ready" and isinstance(self.unit, EachRange)
