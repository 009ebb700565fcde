"""Answers as data: JSON for programs, Arrow columns for tables, by the types that features declare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from amber_ray.client.results import Results
from amber_ray.client.row import Row
from amber_ray.core.model.service import FeatureInfo
from amber_ray.core.model.units import Segment
from amber_ray.core.values.annotations import ListOf, ValueType, from_spec, of_value
from amber_ray.wire import views


class Types:
    """The type of each feature's values: as declared, or as they are, of a version that is not made now."""

    def __init__(self, infos: Iterable[FeatureInfo]) -> None:
        self._types: dict[str, ValueType] = {}
        for info in infos:
            self._types[info.name] = self._types[f"{info.name}@{info.version}"] = from_spec(info.returns)

    def __contains__(self, feature: str) -> bool:
        """Whether the feature says of which type its values are."""
        return feature in self._types

    def of(self, feature: str, values: Sequence[Any]) -> ValueType:
        """The one type of some values of a feature."""
        known = self._types.get(feature)
        if known is not None:
            return known
        several = of_value(list(values))
        return several.item if isinstance(several, ListOf) else several

    def to_json(self, feature: str, value: Any) -> Any:
        """A value as JSON-able data: bytes in base64, NaN and infinities as text."""
        return self.of(feature, [value]).to_json(value)


def as_json(results: Results, types: Types) -> dict[str, Any]:
    """What `POST /v1/compute` answers, with the caller's names for assets and every value in place."""
    return {
        "id": results.id,
        "state": results.state,
        "results": [_row(row, types) for row in results.rows],
    }


def _row(row: Row, types: Types) -> dict[str, Any]:
    data: dict[str, Any] = {
        "feature": row.feature,
        "asset": row.asset,
        "unit": None if row.unit is None else views.encode_unit(row.unit),
        "key": row.key or None,
        "state": row.state,
        "error": None if row.failure is None else views.encode_failure(row.failure),
        "seconds": row.seconds,
        "cached": row.cached,
    }
    if row.failure is None and not row.nothing_found:
        data["value"] = types.to_json(row.feature, row.value)
    return data


def as_table(rows: Sequence[Row], types: Types) -> Any:
    """The rows of one feature as a `pyarrow.Table`.

    Columns: asset, start and end in seconds, key, value, seconds, cached. `value` has the feature's
    own Arrow type, as in the store; failed rows are left out.
    """
    import pyarrow as pa

    from amber_ray.store.types import to_array

    ready = [row for row in rows if row.failure is None and not row.nothing_found]
    spans = [(r.unit.start, r.unit.end) if isinstance(r.unit, Segment) else (None, None) for r in ready]
    type = types.of(rows[0].feature, [row.value for row in ready])
    return pa.table(
        {
            "asset": pa.array([r.asset for r in ready], pa.string()),
            "start": pa.array([a for a, _ in spans], pa.float64()),
            "end": pa.array([b for _, b in spans], pa.float64()),
            "key": pa.array([r.key for r in ready], pa.string()),
            "value": to_array(type, [r.value for r in ready]),
            "seconds": pa.array([r.seconds for r in ready], pa.float64()),
            "cached": pa.array([r.cached for r in ready], pa.bool_()),
        }
    )
