"""The columns that values become: the types that others see, and no copy more than needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from amber_ray.core.values import annotations as vt
from amber_ray.errors import StoreError
from amber_ray.store import types
from tests import values as gen

BOX = vt.Struct("Box", (("x", vt.Scalar("float")), ("n", vt.Optional(vt.Scalar("int")))))


@pytest.mark.parametrize(
    ("type", "words"),
    [
        (vt.Scalar("bool"), "bool"),
        (vt.Scalar("int"), "int64"),
        (vt.Scalar("float"), "double"),
        (vt.Scalar("str"), "large_string"),
        (vt.Bytes("image/jpeg"), "large_binary"),
        (vt.Json(), "large_string"),
        (vt.Table(), "large_binary"),
        (BOX, "struct<x: double, n: int64>"),
        (vt.ListOf(BOX), "large_list<item: struct<x: double, n: int64>>"),
        (vt.Struct("Nothing", ()), "struct<_: bool>"),
        (vt.Array("float32", (512,)), "fixed_size_list<item: float not null>[512]"),
        (vt.Array("float32", (None,)), "large_list<item: float not null>"),
        (
            vt.Array("float16", (None, 2, 3)),
            "large_list<item: fixed_size_list<item: fixed_size_list<item: halffloat not null>[3] not null>[2]"
            " not null>",
        ),
        (
            vt.Array("uint8", (None, 64)),
            "large_list<item: fixed_size_list<item: uint8 not null>[64] not null>",
        ),
        (vt.Array("bool", (4,)), "fixed_size_list<item: uint8 not null>[4]"),
        (vt.Array("uint8", (None, 4, 3)), "struct<shape: list<item: int64>, data: large_binary>"),
        (vt.Array("uint8", (None, None, 3)), "struct<shape: list<item: int64>, data: large_binary>"),
        (
            vt.Array("int32", (None, None)),
            "struct<shape: list<item: int64>, data: large_list<item: int32 not null>>",
        ),
        (
            vt.Array("float64", ()),
            "struct<shape: list<item: int64>, data: large_list<item: double not null>>",
        ),
        (vt.Array("int16", (0,)), "struct<shape: list<item: int64>, data: large_list<item: int16 not null>>"),
        (vt.Array(), "struct<dtype: string, shape: list<item: int64>, data: large_binary>"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_the_type_that_others_see(type: vt.ValueType, words: str) -> None:
    assert str(types.arrow_type(type)) == words
    assert types.arrow_type(vt.Optional(type)) == types.arrow_type(type)


def bits(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(text), dtype)


NAN32 = bits(
    "010080 7f 000080 80 efbeadff", "f4"
)  # a signalling NaN, the smallest below zero, a NaN with a payload
SPECIAL: list[tuple[vt.ValueType, list[Any]]] = [
    (vt.Scalar("float"), [bits("010000000000f8ff", "f8")[0].item(), -0.0]),
    (vt.Array("float32", (None,)), [NAN32, NAN32[:0]]),
    (vt.Array("float32", (None, 512)), [np.zeros((0, 512), "f4"), np.ones((2, 512), "f4")]),
    (vt.Array("float32", (None, 0)), [np.zeros((3, 0), "f4")]),
    (vt.Array("float16", (2,)), [bits("017e00fc", "f2")]),
    (vt.Array("bool", (None, None)), [np.array([[True, False], [False, True]])]),
    (vt.Array("uint8", (None, None, 3)), [np.arange(24, dtype="u1").reshape(2, 4, 3)]),
    (vt.Array("int64", ()), [np.array(7)]),
    (vt.Array(), [np.array(True), np.zeros((0, 3, 0), "f2"), np.arange(3.0), np.array([[1]], "u8")]),
    (vt.Optional(vt.Array("float32", (2,))), [None, NAN32[:2], None]),
    (vt.Optional(vt.Array("float32", (2,))), [None, None]),
    (vt.Optional(vt.Array("uint8", (None, None, 3))), [None, np.zeros((1, 2, 3), "u1")]),
    (vt.Optional(vt.ListOf(vt.Optional(vt.Json()))), [None, [], [None, {"a": [1, None]}], [[]]]),
    (vt.Json(), [None, {}, "é", 10**30, 0.1]),
    (vt.ListOf(vt.Optional(BOX)), [[None, {"x": 1.0, "n": None}], []]),
    (vt.ListOf(vt.Struct("Nothing", ())), [[{}, {}], []]),
    (vt.Scalar("str"), ["", "naïve\0\n", "𝄞"]),
    (vt.Bytes(), [b"", b"\0\xff"]),
]


@pytest.mark.parametrize(("type", "values"), SPECIAL, ids=str)
def test_values_come_back_bit_for_bit(type: vt.ValueType, values: list[Any]) -> None:
    column = types.to_array(type, values)
    assert gen.same(types.from_array(type, column), values)
    for i in range(len(values)):
        assert gen.same(types.from_array(type, column.slice(i, 1)), values[i : i + 1])
        assert gen.same([types.from_arrow_table(types.to_arrow_table(type, values[i]))], values[i : i + 1])
    assert types.from_array(type, column.slice(0, 0)) == []
    assert types.from_array(type, types.to_array(type, [])) == []


@pytest.mark.parametrize("shape", [(3, 4), (None, 4), (None, None), None])
def test_arrays_in_any_memory_order_come_back(shape: tuple[int | None, ...] | None) -> None:
    base = np.arange(48, dtype="f4").reshape(6, 8)
    type = vt.Array("float32", shape)
    for value in (np.asfortranarray(base[:3, :4]), base[::2, ::2], base[2::-1, :4], base.T[:3, :4]):
        assert not value.flags.c_contiguous
        assert gen.same(types.from_array(type, types.to_array(type, [value])), [np.ascontiguousarray(value)])


@pytest.mark.parametrize("shape", [(None, 4), (1000, 4), (None, None), None])
def test_arrays_are_not_copied(shape: tuple[int | None, ...] | None) -> None:
    type = vt.Array(None if shape is None else "float32", shape)
    value = np.ones((1000, 4), "f4")
    column = types.to_array(type, [value])
    (back,) = types.from_array(type, column)
    assert np.shares_memory(back, value)
    assert not back.flags.writeable


def test_arrays_of_mixed_types_are_aligned() -> None:
    values = [np.array([True]), np.arange(4.0), np.zeros(3, "u1"), np.arange(3, dtype="i4")]
    back = types.from_array(vt.Array(), types.to_array(vt.Array(), values))
    assert gen.same(back, values)
    assert all(v.flags.aligned and not v.flags.writeable for v in back)


def test_a_value_of_an_unknown_class_comes_back_as_a_dict() -> None:
    box = vt.Struct("Box", BOX.fields, dict)
    assert types.from_array(vt.from_spec(BOX.spec()), types.to_array(box, [{"x": 1.0, "n": 2}])) == [
        {"x": 1.0, "n": 2}
    ]


def test_a_table_that_holds_no_value_says_so() -> None:
    with pytest.raises(StoreError, match=r"holds no Amber value: its schema has no 'amber\.type'"):
        types.from_arrow_table(pa.table({"value": [1]}))


def test_a_type_that_arrow_does_not_know_is_refused() -> None:
    other = vt.ValueType()
    for call in (
        types.arrow_type,
        lambda t: types.to_array(t, []),
        lambda t: types.from_array(t, pa.array([1])),
    ):
        with pytest.raises(StoreError, match="can't be"):
            call(other)


def test_columns_over_parts_of_other_columns() -> None:
    numbers = pa.array(np.arange(24, dtype="f4")).slice(4)
    ends = pa.array([0, 2, 3], pa.int64())
    rows = types.arrow_type(vt.Array("float32", (None,)))
    expected = [np.array([4, 5], "f4"), np.array([6], "f4")]
    column = pa.LargeListArray.from_arrays(ends, numbers, type=rows)
    assert gen.same(types.from_array(vt.Array("float32", (None,)), column), expected)
    grid = vt.Array("float32", (None, 2))
    pairs = pa.FixedSizeListArray.from_arrays(numbers, type=types.arrow_type(grid).value_type).slice(3)
    column = pa.LargeListArray.from_arrays(ends, pairs, type=types.arrow_type(grid))
    expected = [np.array([[10, 11], [12, 13]], "f4"), np.array([[14, 15]], "f4")]
    assert gen.same(types.from_array(grid, column), expected)


def test_a_null_where_none_was_declared_is_none() -> None:
    assert types.from_array(vt.Scalar("int"), pa.array([1, None])) == [1, None]
