"""Answers as data: JSON for programs, Arrow columns for tables, by the types that features declare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from amber_ray.client.results import Results
from amber_ray.client.row import Row
from amber_ray.core.model.service import FeatureInfo
from amber_ray.core.model.units import Segment
from amber_ray.core.values.annotations import ValueType, from_spec
from amber_ray.wire import views


class Types:
    """The declared type of each feature's value."""

    def __init__(self, infos: Iterable[FeatureInfo]) -> None:
        self._types = {info.name: from_spec(info.returns) for info in infos}

    def __getitem__(self, feature: str) -> ValueType:
        return self._types[feature]

    def to_json(self, feature: str, value: Any) -> Any:
        """A value as JSON-able data: bytes in base64, NaN and infinities as text."""
        return self._types[feature].to_json(value)


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
    if row.failure is None:
        data["value"] = types.to_json(row.feature, row.value)
    return data


def as_table(rows: Sequence[Row], types: Types) -> Any:
    """The rows of one feature as a `pyarrow.Table`.

    Columns: asset, start and end in seconds, key, value, seconds, cached. `value` has the feature's
    own Arrow type, as in the store; failed rows are left out.
    """
    import pyarrow as pa

    from amber_ray.store.types import to_array

    ready = [row for row in rows if row.failure is None]
    spans = [(r.unit.start, r.unit.end) if isinstance(r.unit, Segment) else (None, None) for r in ready]
    type = types[rows[0].feature]
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
