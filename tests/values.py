"""Values of every declared type, generated, and equality down to the last bit."""

from __future__ import annotations

import dataclasses
import math
import struct
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from amber_ray.core.values import annotations as vt
from amber_ray.core.values.array import DTYPES

FLOATS = [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, struct.unpack("<d", b"\x01\0\0\0\0\0\xf8\xff")[0]]
floats = st.sampled_from(FLOATS) | st.floats()
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": floats,
    "str": text,
}
dims = st.none() | st.integers(0, 3)


@st.composite
def array_types(draw: st.DrawFn) -> vt.Array:
    dtype = draw(st.none() | st.sampled_from(sorted(DTYPES)))
    shape = draw(st.none() | st.lists(dims, max_size=4).map(tuple))
    among = ("float32", "int8") if dtype is None and draw(st.booleans()) else ()
    return vt.Array(dtype, shape, (), among)


def struct_of(fields: list[vt.ValueType]) -> vt.Struct:
    names = [f"f{i}" for i in range(len(fields))]
    cls = dataclasses.make_dataclass("Made", [(n, object) for n in names])
    return vt.Struct("Made", tuple(zip(names, fields, strict=True)), cls)


types = st.recursive(
    st.sampled_from(sorted(SCALARS)).map(vt.Scalar)
    | array_types()
    | st.just(vt.Json())
    | st.just(vt.Bytes())
    | st.just(vt.Table()),
    lambda inner: inner.map(vt.ListOf) | inner.map(vt.Optional) | st.lists(inner, max_size=3).map(struct_of),
    max_leaves=5,
)


@st.composite
def arrays(draw: st.DrawFn, type: vt.Array) -> np.ndarray:
    """Any bits; in C order, Fortran order, or a part of something larger."""
    dtype = np.dtype(type.dtype or draw(st.sampled_from(sorted(type.among or DTYPES))))
    wanted = type.shape if type.shape is not None else draw(st.lists(st.none(), max_size=3))
    shape = tuple(draw(st.integers(0, 3)) if n is None else n for n in wanted)
    size = math.prod(shape)
    if dtype.kind == "b":
        flat = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), bool)
    else:
        bits = draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
        flat = np.frombuffer(bits, dtype)
    value = flat.reshape(shape)
    layout = draw(st.integers(0, 2))
    if layout == 1:
        return np.asfortranarray(value).reshape(shape)
    if layout == 2 and shape:
        return np.repeat(value, 2, axis=0)[::2][::-1][::-1]
    return value


def values(type: vt.ValueType) -> st.SearchStrategy[Any]:
    """Values that pass the type's check."""
    match type:
        case vt.Scalar(name):
            return SCALARS[name]
        case vt.Array():
            return arrays(type)
        case vt.Json():
            return json_data
        case vt.Bytes():
            return st.binary(max_size=5)
        case vt.Table():
            return st.lists(floats | st.none(), max_size=3).map(
                lambda column: pa.table({"a": pa.array(column, pa.float64())}, metadata={"k": "v"})
            )
        case vt.ListOf(item):
            return st.lists(values(item), max_size=3)
        case vt.Optional(item):
            return st.none() | values(item)
        case vt.Struct(_, fields):
            return st.fixed_dictionaries({n: values(t) for n, t in fields}).map(type.make)
    raise AssertionError(type)


def same(a: Any, b: Any) -> bool:
    """Of one type and one bit pattern; a dict stands for a dataclass with its fields."""
    if dataclasses.is_dataclass(a):
        a = {f.name: getattr(a, f.name) for f in dataclasses.fields(a)}
    if dataclasses.is_dataclass(b):
        b = {f.name: getattr(b, f.name) for f in dataclasses.fields(b)}
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(map(same, a.values(), b.values()))
    if isinstance(a, pa.Table):
        schemas = a.schema.equals(b.schema, check_metadata=True)
        return schemas and same(a.to_pylist(), b.to_pylist())
    return bool(a == b)
