"""Values to Arrow and back, and to Parquet and back, bit for bit."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from amber_ray.core.values import annotations as vt
from amber_ray.store import types
from tests import values as gen


@st.composite
def columns(draw: st.DrawFn, max_size: int = 5) -> tuple[vt.ValueType, list[Any]]:
    type = draw(gen.types)
    return type, draw(st.lists(gen.values(type), max_size=max_size))


@given(columns())
def test_a_column_comes_back(column: tuple[vt.ValueType, list[Any]]) -> None:
    type, values = column
    array = types.to_array(type, [type.check(v) for v in values])
    array.validate(full=True)
    assert array.type == types.arrow_type(type)
    assert len(array) == len(values)
    assert gen.same(types.from_array(type, array), values)


@given(columns(), st.data())
def test_any_slice_of_a_column_comes_back(
    column: tuple[vt.ValueType, list[Any]], data: st.DataObject
) -> None:
    type, values = column
    array = types.to_array(type, values)
    start = data.draw(st.integers(0, len(values)))
    stop = data.draw(st.integers(start, len(values)))
    assert gen.same(types.from_array(type, array.slice(start, stop - start)), values[start:stop])
    chunks = pa.chunked_array([array.slice(0, start), array.slice(start)], array.type)
    assert gen.same(types.from_array(type, chunks), values)
    picked = data.draw(st.lists(st.integers(0, max(0, len(values) - 1)), max_size=4 if values else 0))
    taken = array.take(pa.array(picked, pa.int64()))
    assert gen.same(types.from_array(type, taken), [values[i] for i in picked])


@given(columns())
def test_a_column_comes_back_from_parquet(column: tuple[vt.ValueType, list[Any]]) -> None:
    type, values = column
    table = pa.table({"value": types.to_array(type, values)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=2)
    read = pq.read_table(pa.BufferReader(sink.getvalue()))
    assert read.schema.equals(table.schema)
    assert gen.same(types.from_array(type, read.column("value")), values)


@given(columns(max_size=1))
def test_one_value_comes_back_from_an_arrow_stream(column: tuple[vt.ValueType, list[Any]]) -> None:
    type, values = column
    for value in values:
        table = types.bytes_table(types.table_bytes(types.to_arrow_table(type, value)))
        assert gen.same(types.from_arrow_table(table), value)


@given(gen.types)
def test_a_type_comes_back_from_its_description(type: vt.ValueType) -> None:
    assert vt.from_spec(type.spec()) == type


@given(columns())
def test_a_checked_value_is_told_as_json(column: tuple[vt.ValueType, list[Any]]) -> None:
    type, values = column
    for value in values:
        json.dumps(type.to_json(type.check(value)), allow_nan=False)
