"""Many values as rows of an Arrow IPC stream: the answer to `POST /v1/values`, both ways.

| column | |
|---|---|
| `key` | text, as it was asked for |
| `feature`, `version` | whose value it is; of a key without a value, the feature that failed, if one did |
| `made` | when the value was made (UTC), if that is known |
| `value` | as a part of the store has it (`store.types`); null where there is none |
| `status` | 200, or the HTTP status that this key alone would be answered with |
| `error`, `message` | null, or the error's class in `amber_ray.errors` and its sentence |

A column has one type, so a stream has the values of one type: that of the first key with a value, which the
schema's metadata tells (`amber.type`). Keys whose values are of another type are answered with
`AnotherType` (422) and their feature, for a question of their own.

Must not know: HTTP, where values come from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from amber_ray import errors
from amber_ray.core.model.request import Failure
from amber_ray.core.model.service import AbsentValue, Answered, StoredValue
from amber_ray.core.values.annotations import Optional, ValueType, from_spec
from amber_ray.store import types as st
from amber_ray.store.rows import microseconds
from amber_ray.wire.problems import Reading

ANOTHER_TYPE = "AnotherType"
MADE = pa.timestamp("us")
"""Without a time zone in the type: DuckDB's Python package needs pytz to read one with it."""


def schema(type: ValueType | None) -> pa.Schema:
    """The schema of a stream of values of a type; without one its `value` is null everywhere."""
    metadata = None if type is None else {st.META: json.dumps(type.spec()).encode()}
    return pa.schema(
        [
            pa.field("key", pa.utf8(), nullable=False),
            pa.field("feature", pa.utf8()),
            pa.field("version", pa.utf8()),
            pa.field("made", MADE),
            pa.field("value", pa.null() if type is None else st.arrow_type(type)),
            pa.field("status", pa.int16(), nullable=False),
            pa.field("error", pa.utf8()),
            pa.field("message", pa.utf8()),
        ],
        metadata,
    )


def encode(answers: Sequence[Answered], type: ValueType | None) -> pa.RecordBatch:
    """Answers as rows of a stream of that type."""
    rows = [_another_type(a) if isinstance(a, StoredValue) and a.type != type else a for a in answers]
    values = [a if isinstance(a, StoredValue) else None for a in rows]
    failures = [a.failure if isinstance(a, AbsentValue) else None for a in rows]
    columns = [
        pa.array([a.key for a in rows], pa.utf8()),
        pa.array([_feature(a) for a in rows], pa.utf8()),
        pa.array([v.version if v is not None else None for v in values], pa.utf8()),
        pa.array([microseconds(v.made) if v is not None and v.made else None for v in values], MADE),
        _value_column(values, type),
        pa.array([f.status if f is not None else 200 for f in failures], pa.int16()),
        pa.array([f.type if f is not None else None for f in failures], pa.utf8()),
        pa.array([f.message if f is not None else None for f in failures], pa.utf8()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema(type))


def _value_column(values: Sequence[StoredValue | None], type: ValueType | None) -> pa.Array:
    if type is None:
        return pa.nulls(len(values))
    column = st.to_array(Optional(type), [v.value if v is not None else None for v in values])
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _feature(answer: Answered) -> str | None:
    if isinstance(answer, StoredValue):
        return answer.feature
    return answer.failure.step or None


def _another_type(stored: StoredValue) -> AbsentValue:
    text = (
        f"it is a value of {stored.feature} {stored.version}, of another type than the values before it: "
        "ask for it in a question of its own"
    )
    return AbsentValue(stored.key, Failure("system", ANOTHER_TYPE, text, stored.feature, stored.key, "", 422))


def decode(batch: pa.RecordBatch) -> list[Answered]:
    """What `encode` was given, but for `AnotherType`; dataclasses come back as dicts."""
    with Reading("a stream of values"):
        spec = (batch.schema.metadata or {}).get(st.META)
        type = None if spec is None else from_spec(json.loads(spec))
        names = ("key", "feature", "version", "status", "error", "message")
        rows = zip(*(batch.column(name).to_pylist() for name in names), strict=True)
        made = batch.column("made").cast(pa.int64()).to_pylist()
        column = batch.column("value")
        values = [None] * len(batch) if type is None else st.from_array(Optional(type), column)
        return [_answer(type, row, at, value) for row, at, value in zip(rows, made, values, strict=True)]


def _answer(type: ValueType | None, row: Sequence[Any], made: int | None, value: Any) -> Answered:
    key, feature, version, status, error, message = row
    if error is None and type is not None:
        return StoredValue(key, feature, version, type, value, 0.0 if made is None else made / 1e6)
    kind: Any = getattr(getattr(errors, error, None), "kind", None) or "system"
    return AbsentValue(key, Failure(kind, error, message, feature or "", key, "", status))
