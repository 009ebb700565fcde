"""How much two values differ, each in the way of its type."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amber_ray.core.values.compare import Difference, compare
from tests.values import types, values


@dataclasses.dataclass
class Shot:
    start: float
    end: float
    label: str = ""


@pytest.mark.parametrize(
    ("old", "new", "distance", "measures"),
    [
        (1.0, 1.0, 0.0, {}),
        (math.nan, math.nan, 0.0, {}),
        (2.0, 1.0, 0.5, {"abs": 1.0}),
        (1.0, -1.0, 1.0, {"abs": 2.0}),
        (1.0, math.inf, 1.0, {"abs": math.inf}),
        (True, False, 1.0, {"abs": 1.0}),
        (2**60, 2**60 + 2**59, 1 / 3, {"abs": float(2**59)}),
        ("a dog", "a dog", 0.0, {}),
        ("abcd", "abce", 0.25, {"similarity": 0.75}),
        (b"abc", b"abd", 1.0, {"bytes": 0.0}),
        (b"abc", b"abc", 0.0, {}),
        (None, None, 0.0, {}),
        (None, 1.0, 1.0, {}),
        ("1", 1.0, 1.0, {}),
        ([], [], 0.0, {}),
        ([1, 2], [1, 2, 3], 1.0, {"length": 1.0}),
        (["a", "b"], ["a", "b"], 0.0, {}),
        ({"x": 1.0, "y": 2.0}, {"x": 1.0, "y": 4.0}, 0.5, {"y.abs": 2.0}),
        ({"x": 1.0}, {"y": 1.0}, 1.0, {}),
    ],
)
def test_values_differ_by_their_type(old: Any, new: Any, distance: float, measures: dict[str, float]) -> None:
    assert compare(old, new) == Difference(pytest.approx(distance), pytest.approx(measures))


def test_arrays_differ_by_shape_element_and_angle() -> None:
    ones = np.ones(4, np.float32)
    assert compare(ones, np.ones((2, 2))) == Difference(1.0, {"shape": 1.0})
    assert compare(ones, ones.astype(np.float64)).equal
    assert compare(ones, 2 * ones) == Difference(0.5, {"abs": 1.0, "cosine": 1.0})
    turned = compare(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert (turned.distance, turned.measures) == (1.0, {"abs": 1.0, "cosine": 0.0})
    holes = np.array([1.0, np.nan])
    assert compare(holes, holes.copy()).equal
    assert compare(holes, np.array([1.0, 2.0])).measures["abs"] == math.inf
    assert compare([1, 2], [1.0, 3.0]).measures["abs"] == 1.0
    assert compare(np.array([2**63], np.uint64), np.array([1], np.uint64)).distance == pytest.approx(1.0)


def test_ranges_differ_by_the_time_that_both_cover() -> None:
    old = [Shot(0.0, 4.0), Shot(4.0, 10.0)]
    assert compare(old, [{"start": 0.0, "end": 4.0, "label": ""}, Shot(4.0, 10.0)]).equal
    moved = compare(old, [Shot(0.0, 4.0), Shot(4.0, 8.0)])
    assert moved.distance == pytest.approx(0.2)
    assert moved.measures == pytest.approx({"overlap": 0.8, "count": 0.0, "edge": 2.0})
    cut = compare(old, [Shot(0.0, 10.0)])
    assert cut.measures == {"overlap": 1.0, "count": 1.0}
    assert cut.distance == 0.5
    named = compare(old, [Shot(0.0, 4.0, "day"), Shot(4.0, 10.0)])
    assert not named.equal
    assert named.measures["overlap"] == 1.0
    assert compare(old, []).measures == {"overlap": 0.0, "count": 2.0}


def test_long_texts_are_compared_by_their_words() -> None:
    words = [f"word{i}" for i in range(5_000)]
    told = compare(" ".join(words), " ".join([*words[:-1], "other"]))
    assert told.measures["similarity"] == pytest.approx(1 - 1 / 5_000)


@given(typed=types.flatmap(lambda type: st.tuples(values(type), values(type))))
def test_a_value_is_equal_to_itself_alone(typed: tuple[Any, Any]) -> None:
    old, new = typed
    assert compare(old, copy.deepcopy(old)).equal
    told = compare(old, new)
    assert 0.0 <= told.distance <= 1.0
    assert compare(new, old).distance == pytest.approx(told.distance)


def test_tables_are_equal_or_not() -> None:
    table = pa.table({"a": [1, 2]})
    assert compare(table, pa.table({"a": [1, 2]})).equal
    assert compare(table, pa.table({"a": [1]})).measures == {"rows": 1.0}
