"""Numpy arrays as Arrow, moved as whole buffers and never element by element.

Where only the first dimension is free, a value is a list of fixed-size lists, as others like to read it.
Other shapes are a struct of `shape` and the elements in C order as `data`; where the dtype is free too, the
struct says it. Bytes (images, masks) are binary in such a struct: Parquet has no numbers below 32 bits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from amber_ray.core.values.annotations import Array
from amber_ray.store import columns

Arrays: TypeAlias = Sequence[np.ndarray] | np.ndarray
"""Arrays, or one array of them all where they have one shape."""
_SHAPE = pa.field("shape", pa.list_(pa.int64()))
_PICTURE = 3
"""Dimensions from which an array of bytes is a picture or a stack of them, not rows of numbers."""


def arrow_type(type: Array) -> pa.DataType:
    """Return the Arrow type of a column of such arrays, as the module's docstring says."""
    if type.dtype is None:
        return pa.struct([pa.field("dtype", pa.utf8()), _SHAPE, pa.field("data", pa.large_binary())])
    grid = _grid(type)
    if grid is None:
        data = pa.large_binary() if _is_bytes(type) else pa.large_list(_item(_element(type.dtype)))
        return pa.struct([_SHAPE, pa.field("data", data)])
    made = _element(type.dtype)
    for n in reversed(grid[1:]):
        made = pa.list_(_item(made), n)
    return pa.large_list(_item(made)) if grid[0] is None else pa.list_(_item(made), grid[0])


def _item(type: pa.DataType) -> pa.Field:
    return pa.field("item", type, nullable=False)


def _element(dtype: str) -> pa.DataType:
    """Return the Arrow type of one element. Booleans are bytes of 0 and 1, as in numpy."""
    return pa.uint8() if dtype == "bool" else pa.from_numpy_dtype(np.dtype(dtype))


def _is_bytes(type: Array) -> bool:
    return np.dtype(type.dtype).itemsize == 1


def _grid(type: Array) -> tuple[int | None, ...] | None:
    """Return the shape if it can be lists in lists, else None: empty inner lists could not be counted."""
    shape = type.shape
    if not shape or None in shape[1:] or 0 in shape or (_is_bytes(type) and len(shape) >= _PICTURE):
        return None
    return shape


def to_array(type: Array, values: Arrays) -> pa.Array:
    """Return a column of arrays. They are copied once; a single one, or one array of them all, not at all."""
    target = arrow_type(type)
    if type.dtype is None:
        dtypes = columns.texts([v.dtype.str for v in values], pa.utf8())
        members = [dtypes, _shapes(values), _blobs(values)]
        return pa.StructArray.from_arrays(members, fields=list(target))
    if pa.types.is_struct(target):
        data = _blobs(values) if _is_bytes(type) else _lists(values, type.dtype, target.field("data").type)
        return pa.StructArray.from_arrays([_shapes(values), data], fields=list(target))
    made = _elements(values, type.dtype)
    nested = _nested(target)
    for inner in reversed(nested[1:]):
        made = pa.FixedSizeListArray.from_arrays(made, type=inner)
    if pa.types.is_fixed_size_list(target):
        return pa.FixedSizeListArray.from_arrays(made, type=target)
    return pa.LargeListArray.from_arrays(_offsets([len(v) for v in values]), made, type=target)


def _nested(type: pa.DataType) -> list[pa.DataType]:
    """Return the list types from the outermost inwards."""
    found = []
    while pa.types.is_fixed_size_list(type) or pa.types.is_large_list(type):
        found.append(type)
        type = type.value_type
    return found


def _offsets(lengths: Sequence[int]) -> pa.Array:
    made = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=made[1:])
    return columns.numbers(made, pa.int64())


def _shapes(values: Arrays) -> pa.Array:
    lengths = [length for v in values for length in v.shape]
    return columns.lists([v.ndim for v in values], columns.numbers(lengths, pa.int64()))


def _flat(values: Arrays, dtype: str) -> np.ndarray:
    """Return all elements in C order, one value after the other."""
    if isinstance(values, np.ndarray):
        return np.ascontiguousarray(values).reshape(-1).view(dtype)
    flats = [np.ascontiguousarray(v).reshape(-1).view(dtype) for v in values]
    return flats[0] if len(flats) == 1 else np.concatenate(flats or [np.empty(0, dtype)])


def _elements(values: Arrays, dtype: str) -> pa.Array:
    flat = _flat(values, "uint8" if dtype == "bool" else dtype)
    return pa.Array.from_buffers(_element(dtype), len(flat), [None, pa.py_buffer(flat)])


def _lists(values: Arrays, dtype: str, type: pa.DataType) -> pa.Array:
    return pa.LargeListArray.from_arrays(
        _offsets([v.size for v in values]), _elements(values, dtype), type=type
    )


def _blobs(values: Arrays) -> pa.Array:
    """Return a column of the bytes of each array."""
    ends = _offsets([v.nbytes for v in values]).buffers()[1]
    return pa.Array.from_buffers(
        pa.large_binary(), len(values), [None, ends, pa.py_buffer(_flat(values, "uint8"))]
    )


def from_array(type: Array, array: pa.Array) -> list[np.ndarray]:
    """Return the arrays of a column: read-only views of its memory."""
    if type.dtype is None or pa.types.is_struct(array.type):
        shapes = array.field("shape").to_pylist()
        data = array.field("data")
        if type.dtype is None:
            dtypes = [np.dtype(name) for name in array.field("dtype").to_pylist()]
        else:
            dtypes = [np.dtype(type.dtype)] * len(array)
        flats = _binaries(data) if pa.types.is_large_binary(data.type) else _runs(data)
        return [_aligned(f.view(d)).reshape(s) for f, d, s in zip(flats, dtypes, shapes, strict=True)]
    dtype, grid = np.dtype(type.dtype), type.shape
    assert grid is not None
    tail = tuple(n for n in grid[1:] if n is not None)
    each = math.prod(tail)
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        ends = [(array.offset + i) * size for i in range(len(array) + 1)]
    else:
        ends = array.offsets.to_pylist()
    flat, start = array.values, 0
    while pa.types.is_fixed_size_list(flat.type):
        start = (start + flat.offset) * flat.type.list_size
        flat = flat.values
    numbers = _numbers(flat)[start:].view(dtype)
    return [numbers[a * each : b * each].reshape(b - a, *tail) for a, b in itertools.pairwise(ends)]


def _aligned(flat: np.ndarray) -> np.ndarray:
    """Return an aligned array: one of several of different dtypes in a buffer may begin anywhere."""
    return flat if flat.flags.aligned else _read_only(flat.copy())


def _read_only(flat: np.ndarray) -> np.ndarray:
    """Make an array read-only, as Ray's are: a value may be shared by all who asked for it."""
    flat.flags.writeable = False
    return flat


def _numbers(array: pa.Array) -> np.ndarray:
    """Return the elements of a primitive array, without a copy."""
    dtype = np.dtype(array.type.to_pandas_dtype())
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.empty(0, dtype)
    return _read_only(np.frombuffer(buffer, dtype, len(array), array.offset * dtype.itemsize))


def _runs(array: pa.Array) -> list[np.ndarray]:
    flat = _numbers(array.values)
    return [flat[a:b] for a, b in itertools.pairwise(array.offsets.to_pylist())]


def _binaries(array: pa.Array) -> list[np.ndarray]:
    _, ends, data = array.buffers()
    if not len(array):
        return []
    places = np.frombuffer(ends, np.int64, len(array) + 1, array.offset * 8).tolist()
    flat = np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)
    flat = _read_only(flat)
    return [flat[a:b] for a, b in itertools.pairwise(places)]
