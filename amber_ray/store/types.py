"""Value types as Arrow: one column type each, there and back bit for bit.

Columns are typed so that DuckDB, polars and pandas read them without Amber: scalars as themselves, dataclasses
as structs, arrays of which only the first dimension is free as lists of fixed-size lists, other arrays as a
struct of shape and data. Arrays are moved as whole buffers, never element by element.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from amber_ray.core import types as vt
from amber_ray.errors import StoreError

META = b"amber.type"
_SCALARS = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "str": pa.large_utf8()}


def arrow_type(type: vt.ValueType) -> pa.DataType:
    """The Arrow type of a column of such values."""
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
            return pa.large_list(_item(item))
        case vt.Struct(_, fields):
            return pa.struct([pa.field(n, arrow_type(t)) for n, t in fields] or [pa.field("_", pa.bool_())])
        case vt.Array(dtype, shape):
            if dtype is None:
                return pa.struct(
                    [("dtype", pa.utf8()), ("shape", pa.list_(pa.int64())), ("data", pa.large_binary())]
                )
            item = _element(dtype)
            if _grid(type):
                assert shape is not None
                for n in reversed(shape[1:]):
                    item = pa.list_(pa.field("item", item, nullable=False), n)
                if shape[0] is None:
                    return pa.large_list(pa.field("item", item, nullable=False))
                return pa.list_(pa.field("item", item, nullable=False), shape[0])
            return pa.struct([("shape", pa.list_(pa.int64())), ("data", pa.large_list(item))])
    raise StoreError(f"values of type {type} can't be stored")


def _item(item: vt.ValueType) -> pa.Field:
    return pa.field("item", arrow_type(item))


def _element(dtype: str) -> pa.DataType:
    return pa.uint8() if dtype == "bool" else pa.from_numpy_dtype(np.dtype(dtype))


def _grid(type: vt.Array) -> bool:
    """Only the first dimension is free, and no later one is zero (a list of nothing could not be counted)."""
    shape = type.shape
    return bool(shape) and all(n for n in shape[1:]) and shape[0] != 0


def to_array(type: vt.ValueType, values: Sequence[Any]) -> pa.Array:
    """A column of values."""
    match type:
        case vt.Scalar() | vt.Bytes():
            return pa.array(values, arrow_type(type))
        case vt.Json():
            return pa.array([None if v is _NULL else json.dumps(v) for v in values], pa.large_utf8())
        case vt.Table():
            return pa.array([None if v is None else table_bytes(v) for v in values], pa.large_binary())
        case vt.Optional(vt.Optional(item)):
            return to_array(vt.Optional(item), values)
        case vt.Optional(item):
            present = [v is not None for v in values]
            if all(present):
                return to_array(item, values)
            inner = to_array(item, [v for v in values if v is not None])
            places = np.cumsum(present) - 1
            return inner.take(pa.array(places, pa.int64(), mask=~np.array(present, bool)))
        case vt.ListOf(item):
            offsets = np.zeros(len(values) + 1, np.int64)
            np.cumsum([len(v) for v in values], out=offsets[1:])
            flat = to_array(item, [x for v in values for x in v])
            return pa.LargeListArray.from_arrays(pa.array(offsets), flat, type=arrow_type(type))
        case vt.Struct(_, fields):
            if not fields:
                return pa.array([{"_": True}] * len(values), arrow_type(type))
            get = type.getter(values[0]) if values else getattr
            columns = [to_array(t, [get(v, n) for v in values]) for n, t in fields]
            return pa.StructArray.from_arrays(columns, fields=list(arrow_type(type)))
        case vt.Array():
            return _arrays_to(type, values)
    raise StoreError(f"values of type {type} can't be stored")


_NULL = object()


def _flat(value: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(value).reshape(-1)
    return flat.view(np.uint8) if flat.dtype == bool else flat


def _joined(values: Sequence[np.ndarray], dtype: str) -> np.ndarray:
    flats = [_flat(v) for v in values]
    if len(flats) == 1:
        return flats[0]
    return np.concatenate(flats) if flats else np.empty(0, np.uint8 if dtype == "bool" else dtype)


def _buffer(flat: np.ndarray, type: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(type, len(flat), [None, pa.py_buffer(np.ascontiguousarray(flat))])


def _arrays_to(type: vt.Array, values: Sequence[np.ndarray]) -> pa.Array:
    target = arrow_type(type)
    if type.dtype is None:
        parts = [
            {"dtype": v.dtype.str, "shape": list(v.shape), "data": np.ascontiguousarray(v).tobytes()}
            for v in values
        ]
        return pa.array(parts, target)
    flat = _joined(values, type.dtype)
    data = _buffer(flat, _element(type.dtype))
    if _grid(type):
        assert type.shape is not None
        for n in reversed(type.shape[1:]):
            inner = pa.list_(pa.field("item", data.type, nullable=False), n)
            data = pa.FixedSizeListArray.from_arrays(data, type=inner)
        if type.shape[0] is not None:
            return pa.FixedSizeListArray.from_arrays(data, type=target)
        offsets = np.zeros(len(values) + 1, np.int64)
        np.cumsum([len(v) for v in values], out=offsets[1:])
        return pa.LargeListArray.from_arrays(pa.array(offsets), data, type=target)
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([v.size for v in values], out=offsets[1:])
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), data, type=target.field("data").type)
    shapes = pa.array([list(v.shape) for v in values], pa.list_(pa.int64()))
    return pa.StructArray.from_arrays([shapes, lists], fields=list(target))


def from_array(type: vt.ValueType, array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The values of a column, in order."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
        if isinstance(array, pa.ChunkedArray):
            return [v for chunk in array.chunks for v in from_array(type, chunk)]
    match type:
        case vt.Scalar() | vt.Bytes():
            return list(array.to_pylist())
        case vt.Json():
            return [None if v is None else json.loads(v) for v in array.to_pylist()]
        case vt.Table():
            return [None if v is None else bytes_table(v) for v in array.to_pylist()]
        case vt.Optional(item):
            if not array.null_count:
                return from_array(item, array)
            valid = array.is_valid().to_pylist()
            inner = iter(from_array(item, array.drop_null()))
            return [next(inner) if ok else None for ok in valid]
        case vt.ListOf(item):
            offsets = array.offsets.to_pylist()
            flat = (
                from_array(item, array.values.slice(offsets[0], offsets[-1] - offsets[0]))
                if len(array)
                else []
            )
            return [flat[a - offsets[0] : b - offsets[0]] for a, b in zip(offsets, offsets[1:], strict=False)]
        case vt.Struct(_, fields):
            columns = {
                n: from_array(t, array.field(i) if array.offset == 0 else array.flatten()[i])
                for i, (n, t) in enumerate(fields)
            }
            return [type.make({n: c[i] for n, c in columns.items()}) for i in range(len(array))]
        case vt.Array():
            return _arrays_from(type, array)
    raise StoreError(f"values of type {type} can't be read")


def _arrays_from(type: vt.Array, array: pa.Array) -> list[np.ndarray]:
    if type.dtype is None:
        rows = array.to_pylist()
        return [np.frombuffer(r["data"], np.dtype(r["dtype"])).reshape(r["shape"]) for r in rows]
    dtype = np.dtype(type.dtype)
    if not _grid(type):
        shapes = array.flatten()[0].to_pylist()
        lists = array.flatten()[1]
        offsets = lists.offsets.to_pylist()
        flat = _numbers(lists.values, dtype)
        return [flat[a:b].reshape(shape) for a, b, shape in zip(offsets, offsets[1:], shapes, strict=False)]
    assert type.shape is not None
    tail = tuple(n for n in type.shape[1:] if n is not None)
    each = int(np.prod(tail, dtype=np.int64)) if tail else 1
    if type.shape[0] is None:
        offsets = array.offsets.to_pylist()
        inner = array.values
    else:
        offsets = [(array.offset + i) * type.shape[0] for i in range(len(array) + 1)]
        inner = array.values
    for _ in tail:
        inner_offset = inner.offset
        size = inner.type.list_size
        inner = inner.values
        if inner_offset:
            inner = inner.slice(inner_offset * size)
    flat = _numbers(inner, dtype)
    return [
        flat[a * each : b * each].reshape((b - a, *tail)) for a, b in zip(offsets, offsets[1:], strict=False)
    ]


def _numbers(array: pa.Array, dtype: np.dtype) -> np.ndarray:
    """The buffer of a primitive array as numpy, without a copy."""
    buffer = array.buffers()[1]
    width = 1 if dtype == bool else dtype.itemsize
    if buffer is None or not len(array):
        return np.empty(0, dtype)
    raw = np.frombuffer(buffer, np.uint8, len(array) * width, array.offset * width)
    return raw.view(dtype)


def table_bytes(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def bytes_table(data: bytes) -> pa.Table:
    """Read what `table_bytes` wrote."""
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()


def to_arrow_table(type: vt.ValueType, value: Any) -> pa.Table:
    """One value as a table of one row and one column, `value`, whose type is told in the schema."""
    column = to_array(type, [value])
    schema = pa.schema([pa.field("value", column.type)], {META: json.dumps(type.spec()).encode()})
    return pa.Table.from_arrays([column], schema=schema)


def from_arrow_table(table: pa.Table) -> Any:
    """Read what `to_arrow_table` made; dataclasses come back as dicts."""
    meta = (table.schema.metadata or {}).get(META)
    if meta is None:
        raise StoreError("this Arrow table holds no Amber value: its schema has no 'amber.type'")
    return from_array(vt.from_spec(json.loads(meta)), table.column("value"))[0]
