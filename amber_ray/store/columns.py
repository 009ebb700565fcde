"""Python's texts, bytes and numbers as Arrow columns.

Not by `pa.array`: where pandas is installed pyarrow imports it for that, which takes half a second of a
process that others wait for. Must not know: what the columns are of.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def numbers(values: Sequence[float] | np.ndarray, type: pa.DataType) -> pa.Array:
    """Return numbers of 8 bytes or less as a column of `type`, which is no type of truths."""
    width = type.bit_width // 8
    data = np.ascontiguousarray(values, np.dtype(f"{'f' if pa.types.is_floating(type) else 'i'}{width}"))
    return pa.Array.from_buffers(type, len(data), [None, pa.py_buffer(data)])


def numbers_or_none(values: Sequence[float | None], type: pa.DataType) -> pa.Array:
    """Return numbers, some of which are missing, as a column of `type`."""
    return _with_gaps(values, numbers([0 if value is None else value for value in values], type))


def truths(values: Sequence[bool]) -> pa.Array:
    """Return truths as a column of bits."""
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, _bits(values)])


def texts(values: Sequence[str], type: pa.DataType) -> pa.Array:
    """Return texts as a column of `type`, utf8 or large_utf8."""
    together = "".join(values)
    data = together.encode()
    if len(data) == len(together):
        return _runs(list(map(len, values)), data, type)
    return blobs([value.encode() for value in values], type)


def texts_or_none(values: Sequence[str | None], type: pa.DataType) -> pa.Array:
    """Return texts, some of which are missing, as a column of `type`."""
    return _with_gaps(values, texts([value or "" for value in values], type))


def blobs(values: Sequence[bytes], type: pa.DataType) -> pa.Array:
    """Return bytes as a column of `type`, which says how long they may be together."""
    return _runs(list(map(len, values)), b"".join(values), type)


def lists(lengths: Sequence[int], items: pa.Array) -> pa.Array:
    """Return a column of lists, of so many of the `items` each."""
    ends = np.fromiter(itertools.accumulate(lengths, initial=0), np.int32, len(lengths) + 1)
    return pa.ListArray.from_arrays(numbers(ends, pa.int32()), items)


def _runs(lengths: list[int], data: bytes, type: pa.DataType) -> pa.Array:
    width = np.int64 if pa.types.is_large_unicode(type) or pa.types.is_large_binary(type) else np.int32
    ends = np.fromiter(itertools.accumulate(lengths, initial=0), width, len(lengths) + 1)
    return pa.Array.from_buffers(type, len(lengths), [None, pa.py_buffer(ends), pa.py_buffer(data)])


def _with_gaps(values: Sequence[object], made: pa.Array) -> pa.Array:
    """The column that was made of values, without those that are None."""
    if None not in values:
        return made
    there = _bits([value is not None for value in values])
    return pa.Array.from_buffers(made.type, len(values), [there, *made.buffers()[1:]])


def _bits(values: Sequence[bool]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(np.array(values, bool), bitorder="little"))
