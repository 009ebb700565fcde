"""The rows of a part: a value, its key, and what is told beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from amber_ray.core.values import annotations as vt
from amber_ray.store import types as st

KEY = pa.binary(16)
READ = ("key", "value", "seconds", "device", "created")
"""What `stored` needs."""


class Row(NamedTuple):
    """A value to write and what is told beside it. `created` is Unix time, `seconds` the run time."""

    key: str
    asset: str | None
    unit: str
    params: str
    value: Any
    inputs: tuple[str, ...]
    code: str
    seconds: float
    device: str
    created: float


class StoredRow(NamedTuple):
    """A value read back."""

    key: str
    value: Any
    seconds: float
    device: str
    created: float


def table_of(type: vt.ValueType, rows: Sequence[Row]) -> pa.Table:
    """Rows as Arrow, in order."""
    counts = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(r.inputs) for r in rows], out=counts[1:])
    inputs = _keys([i for r in rows for i in r.inputs])
    return pa.table(
        {
            "key": _keys([r.key for r in rows]),
            "asset": pa.array([r.asset for r in rows], pa.utf8()),
            "unit": pa.array([r.unit for r in rows], pa.large_utf8()),
            "params": pa.array([r.params for r in rows], pa.utf8()),
            "value": st.to_array(type, [r.value for r in rows]),
            "inputs": pa.ListArray.from_arrays(pa.array(counts), inputs),
            "code": pa.array([r.code for r in rows], pa.utf8()),
            "seconds": pa.array([r.seconds for r in rows], pa.float64()),
            "device": pa.array([r.device for r in rows], pa.utf8()),
            # UTC, without saying so: DuckDB's Python package wants pytz for times that do.
            "created": pa.array([round(r.created * 1e6) for r in rows], pa.timestamp("us")),
        }
    )


def _keys(keys: Sequence[str]) -> pa.Array:
    data = bytes.fromhex("".join(keys))
    if len(data) != 16 * len(keys):
        raise ValueError("a key is 32 hex digits")
    return pa.Array.from_buffers(KEY, len(keys), [None, pa.py_buffer(data)])


def stored(type: vt.ValueType, table: pa.Table) -> list[StoredRow]:
    """Rows of a table with the columns `READ`."""
    keys, seconds, devices = (table.column(name).to_pylist() for name in ("key", "seconds", "device"))
    created = table.column("created").cast(pa.int64()).to_pylist()
    values = st.from_array(type, table.column("value"))
    return [
        StoredRow(key.hex(), value, took, device, at / 1e6)
        for key, value, took, device, at in zip(keys, values, seconds, devices, created, strict=True)
    ]


def about(table: pa.Table, asset: str) -> np.ndarray:
    """Which rows are about an asset, or a collection that it is in; needs the columns `asset` and `unit`."""
    column = table.column("asset")
    found = np.asarray(pc.fill_null(pc.equal(column, asset), False), bool)
    for i in np.flatnonzero(np.asarray(column.is_null(), bool)):
        members = table.column("unit")[int(i)].as_py()
        found[i] = asset in members.strip("{}").split(",")
    return found
