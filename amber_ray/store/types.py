"""Value types as Arrow: one column type each, there and back bit for bit.

Columns are typed so that DuckDB, polars and pandas read them without Amber: scalars as themselves,
dataclasses as structs, arrays of which only the first dimension is free as lists of fixed-size lists
(`store.arrays`), JSON as its text, tables as Arrow IPC streams.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from amber_ray.core.values import annotations as vt
from amber_ray.errors import StoreError
from amber_ray.store import arrays, columns

META = b"amber.type"
_SCALARS = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "str": pa.large_utf8()}


def arrow_type(type: vt.ValueType) -> pa.DataType:
    """Return the Arrow type of a column of such values."""
    match type:
        case vt.Scalar(name):
            return _SCALARS[name]
        case vt.Bytes() | vt.Table():
            return pa.large_binary()
        case vt.Json():
            return pa.large_utf8()
        case vt.Optional(item):
            return arrow_type(item)
        case vt.ListOf(item):
            return pa.large_list(pa.field("item", arrow_type(item)))
        case vt.Struct(_, fields):
            # Parquet has no group without members: an empty dataclass has one that says nothing.
            return pa.struct([pa.field(n, arrow_type(t)) for n, t in fields] or [pa.field("_", pa.bool_())])
        case vt.Array():
            return arrays.arrow_type(type)
    raise StoreError(f"values of type {type} can't be stored")


def to_array(type: vt.ValueType, values: Sequence[Any]) -> pa.Array:
    """Return a column of values, which must have passed the type's `check`. Arrays may be `arrays.Arrays`."""
    match type:
        case vt.Scalar("str"):
            return columns.texts(values, arrow_type(type))
        case vt.Scalar("bool"):
            return columns.truths(values)
        case vt.Scalar():
            return columns.numbers(values, arrow_type(type))
        case vt.Bytes():
            return columns.blobs(values, arrow_type(type))
        case vt.Json():
            return pa.array([json.dumps(v) for v in values], pa.large_utf8())
        case vt.Table():
            return pa.array([table_bytes(v) for v in values], pa.large_binary())
        case vt.Optional(item):
            return _optional(item, values)
        case vt.ListOf(item):
            flat = to_array(item, [x for v in values for x in v])
            return pa.LargeListArray.from_arrays(offsets(map(len, values)), flat, type=arrow_type(type))
        case vt.Struct(_, fields):
            if not fields:
                return pa.array([{"_": True}] * len(values), arrow_type(type))
            get = type.getter(values[0]) if values else getattr
            members = [to_array(t, [get(v, n) for v in values]) for n, t in fields]
            return pa.StructArray.from_arrays(members, fields=list(arrow_type(type)))
        case vt.Array():
            return arrays.to_array(type, values)
    raise StoreError(f"values of type {type} can't be stored")


def _optional(item: vt.ValueType, values: Sequence[Any]) -> pa.Array:
    """Return a column of the values, with nulls in place of those that are None."""
    if isinstance(item, vt.Optional):
        return _optional(item.item, values)
    if isinstance(item, (vt.Scalar, vt.Bytes)):
        return pa.array(values, arrow_type(item))
    present = np.array([v is not None for v in values], bool)
    inner = to_array(item, [v for v in values if v is not None])
    return inner if present.all() else inner.take(pa.array(np.cumsum(present) - 1, mask=~present))


def offsets(lengths: Iterable[int]) -> pa.Array:
    """Return where each list begins, and where the last one ends."""
    return pa.array(np.fromiter(itertools.accumulate(lengths, initial=0), np.int64))


def _numbers(array: pa.Array) -> list[Any]:
    """Return numbers or truths, none of them null.

    Not by `to_numpy`: where pandas is installed pyarrow imports it for that, which takes half a second.
    """
    if not len(array):
        return []
    data, first, last = array.buffers()[1], array.offset, array.offset + len(array)
    if pa.types.is_boolean(array.type):
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return list(bits[first:last].astype(bool).tolist())
    return list(np.frombuffer(data, array.type.to_pandas_dtype())[first:last].tolist())


def from_array(type: vt.ValueType, array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the values of a column, in order. Arrays are read-only views of its memory."""
    if isinstance(array, pa.ChunkedArray):
        return [v for chunk in array.chunks for v in from_array(type, chunk)]
    match type:
        case vt.Scalar(name):
            if name == "str" or array.null_count:
                return list(array.to_pylist())
            return _numbers(array)
        case vt.Bytes():
            return list(array.to_pylist())
        case vt.Json():
            return [json.loads(v) for v in array.to_pylist()]
        case vt.Table():
            return [bytes_table(v) for v in array.to_pylist()]
        case vt.Optional(item):
            if not array.null_count:
                return from_array(item, array)
            inner = iter(from_array(item, array.drop_null()))
            return [next(inner) if there else None for there in array.is_valid().to_pylist()]
        case vt.ListOf(item):
            ends = array.offsets.to_pylist()
            first, last = ends[0], ends[-1]
            flat = from_array(item, array.values.slice(first, last - first))
            return [flat[a - first : b - first] for a, b in itertools.pairwise(ends)]
        case vt.Struct(_, fields):
            columns = [from_array(t, array.field(i)) for i, (_, t) in enumerate(fields)]
            names = [n for n, _ in fields]
            rows: Iterable[tuple[Any, ...]] = zip(*columns, strict=True) if fields else [()] * len(array)
            return [type.make(dict(zip(names, row, strict=True))) for row in rows]
        case vt.Array():
            return arrays.from_array(type, array)
    raise StoreError(f"values of type {type} can't be read")


def table_bytes(table: pa.Table) -> bytes:
    """Return a table as an Arrow IPC stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def bytes_table(data: bytes) -> pa.Table:
    """Read what `table_bytes` wrote."""
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()


def to_arrow_table(type: vt.ValueType, value: Any) -> pa.Table:
    """Return one value as a table of one row and one column, `value`; the schema's metadata has its type."""
    column = to_array(type, [value])
    schema = pa.schema([pa.field("value", column.type)], {META: json.dumps(type.spec()).encode()})
    return pa.Table.from_arrays([column], schema=schema)


def from_arrow_table(table: pa.Table) -> Any:
    """Read what `to_arrow_table` made; dataclasses come back as dicts."""
    meta = (table.schema.metadata or {}).get(META)
    if meta is None:
        raise StoreError("this Arrow table holds no Amber value: its schema has no 'amber.type'")
    return from_array(vt.from_spec(json.loads(meta)), table.column("value"))[0]
