"""What the cache actor writes and reads itself: small values that need no feature's code."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from jaxtyping import Float32

from amber_ray.core.declare.feature import feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.planning.plan import Planner, Recipe
from amber_ray.core.values.annotations import parse, plain
from amber_ray.fabric.transport import pickled
from amber_ray.fabric.transport.new_rows import NewRows
from amber_ray.fabric.worker import snapshot, store_tasks
from amber_ray.store.parquet import Row, ValueStore
from amber_ray.store.rows import Provenance
from tests import core_kit

MOST = 8192


@dataclass
class Shot:
    start: float


class Stored:
    """A store with one part of one feature."""

    def __init__(self, folder: Path, annotation: Any, *values: Any) -> None:
        self.store = ValueStore(str(folder))
        self.keys = [f"{i:032x}" for i in range(len(values))]
        rows = [
            Row(key, None, "whole", "{}", value, (), "c", 0.5, "cpu", 1.8e9)
            for key, value in zip(self.keys, values, strict=True)
        ]
        self.part = self.store.write("f", "1", parse(annotation), rows).name
        self.path = folder / self.part

    def read(self, *rows: int) -> store_tasks.ReadReport | None:
        wanted = {self.part: [(row, self.keys[row]) for row in rows]}
        return store_tasks.read_here(self.store, wanted, MOST)


def test_small_values_are_read_with_what_is_told_of_them(tmp_path: Path) -> None:
    vectors = [np.full(3, i, np.float32) for i in range(4)]
    report = Stored(tmp_path, Float32[np.ndarray, " d"], *vectors).read(3, 1)
    assert report is not None
    assert [r.key for r in report.results] == [f"{3:032x}", f"{1:032x}"]
    for result, number in zip(report.results, (3, 1), strict=True):
        assert result.made is not None
        assert (result.made.seconds, result.made.device) == (0.5, "cpu")
        assert result.inline is not None
        np.testing.assert_array_equal(pickled.loads(result.inline), vectors[number])


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Float32[np.ndarray, " d"], np.arange(3, dtype=np.float32)),
        (list[Float32[np.ndarray, " d"]], [np.arange(3, dtype=np.float32)]),
    ],
)
def test_arrays_that_are_read_back_are_read_only(tmp_path: Path, annotation: Any, value: Any) -> None:
    report = Stored(tmp_path, annotation, value).read(0)
    assert report is not None
    (result,) = report.results
    value = pickled.loads(result.inline or b"")
    with pytest.raises(ValueError, match="read-only"):
        (value[0] if isinstance(value, list) else value)[...] = 0


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (str, ["x" * (MOST + 1)]),
        (str, ["x" * (2 * MOST), *["x"] * 9]),  # small on average
        (Shot, [Shot(1.0)]),
        (list[Shot | None], [[Shot(1.0), None]]),
    ],
)
def test_values_that_are_large_or_of_a_features_class_are_left_to_a_task(
    tmp_path: Path, annotation: Any, values: list[Any]
) -> None:
    assert Stored(tmp_path, annotation, *values).read(0) is None


def test_what_can_not_be_read_is_told_apart(tmp_path: Path) -> None:
    damaged = Stored(tmp_path / "damaged", float, 1.0, 2.0)
    os.truncate(damaged.path, 100)
    report = damaged.read(0)
    assert report is not None
    assert list(report.damaged) == [damaged.part]
    assert not report.results
    gone = Stored(tmp_path / "gone", float, 1.0)
    gone.path.unlink()
    report = gone.read(0)
    assert report is not None
    assert report.vanished == [gone.part]
    aside = Stored(tmp_path / "aside", float, 1.0)
    aside.path.unlink()
    aside.path.mkdir()
    report = aside.read(0)
    assert report is not None
    assert list(report.unreadable) == [aside.part]


# --- written


def new_rows(*values: Any) -> NewRows:
    """Values on their way, as the cache actor has them."""
    made = [snapshot.take([value], MOST) for value in values]
    keys = [f"{i:032x}" for i in range(len(values))]
    told = Provenance(
        keys,
        [None if i % 3 == 2 else f"asset {i}" for i in range(len(values))],
        [f"unit \u00e4 {i}" for i in range(len(values))],
        ['{"size": 3}'] * len(values),
        [tuple(f"{n:032x}" for n in range(i % 3)) for i in range(len(values))],
        ["c"] * len(values),
        [0.25 * i for i in range(len(values))],
        ["cpu"] * len(values),
        [1.8e9 + i + 1e-6 for i in range(len(values))],
        [i % 2 == 1 for i in range(len(values))],
    )
    inline = {key: one.inline for key, one in zip(keys, made, strict=True) if one.inline is not None}
    return NewRows(told, [one.size for one in made], inline, {})


def recipe_of(annotation: Any) -> Recipe:
    """What steps of a feature with such values share."""
    type = parse(annotation)
    return core_kit.recipe("f", returns=type if plain(type) else None)


SMALL = [
    (Float32[np.ndarray, " d"], [np.full(5, i, np.float32) for i in range(700)]),
    (np.ndarray, [np.full((2, 3), i, np.int16) for i in range(9)]),
    (float, [1.5, float("nan"), -0.0]),
    (int, [1, -(1 << 63), (1 << 63) - 1]),
    (bool, [True, False, *[True] * 9]),
    (str, ["", "\u00e4\U0001f600\x00", "b" * 4000]),
    (bytes, [b"", b"\x00\xff", b"b" * 4000]),
]


@pytest.mark.parametrize(("annotation", "values"), SMALL)
def test_small_values_are_written_in_this_process_as_a_task_would(
    tmp_path: Path, annotation: Any, values: list[Any]
) -> None:
    store, rows, type = ValueStore(str(tmp_path)), new_rows(*values), parse(annotation)
    part = store_tasks.write_here(store, recipe_of(annotation), rows)
    assert part is not None
    told = rows.told
    each = zip(told.keys, told.assets, told.units, told.params, values, *told[4:], strict=True)
    by_rows = store.write("f", "1", type, [Row(*row) for row in each]).name
    here, there = (pq.read_table(tmp_path / name) for name in (part, by_rows))
    assert here.schema.equals(there.schema)
    assert here.to_pylist().__repr__() == there.to_pylist().__repr__()  # as text: NaN is NaN
    assert [row.key for row in store.read(part, range(len(values)))] == told.keys


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (Float32[np.ndarray, " d"], [np.zeros(5, np.float32), np.zeros(6, np.float32)]),
        (Float32[np.ndarray, " d"], [*[np.zeros(1500, np.float32)] * 400, np.zeros(6, np.float32)]),
        (Shot, [Shot(1.0)]),
        (list[float], [[1.0]]),
        (dict, [{"a": 1}]),
        (float | None, [1.0, None]),
    ],
)
def test_values_that_are_taken_apart_one_by_one_are_left_to_a_task(
    tmp_path: Path, annotation: Any, values: list[Any]
) -> None:
    store = ValueStore(str(tmp_path))
    assert store_tasks.write_here(store, recipe_of(annotation), new_rows(*values)) is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_values_in_the_object_store_are_left_to_a_task(tmp_path: Path) -> None:
    rows = new_rows(1.0)._replace(places={f"{0:032x}": (0, 0)})
    assert store_tasks.write_here(ValueStore(str(tmp_path)), recipe_of(float), rows) is None


def test_a_plan_says_what_values_are_where_no_features_class_makes_them() -> None:
    @feature(version="1")
    def number(asset: Any) -> float: ...

    @feature(version="1")
    def shot(asset: Any) -> Shot: ...

    registry = Registry([number.__amber__, shot.__amber__])
    planner = Planner(registry, features=["number", "shot"], params={}, segment_seconds=60.0)
    planner.add_asset(core_kit.asset())
    told = {step.recipe.feature: step.recipe.returns for step in planner.plan().steps.values()}
    assert told == {"number": parse(float), "shot": None}


def test_no_pandas_is_imported_for_it() -> None:
    """That takes half a second of the process that everybody waits for."""
    code = """if True:
        import sys, tempfile
        from amber_ray.fabric.worker import store_tasks
        from amber_ray.store.parquet import ValueStore
        from tests.unit.fabric.worker import test_store_tasks as t
        sys.modules.pop("pandas", None)
        for annotation, values in t.SMALL:
            store = ValueStore(tempfile.mkdtemp())
            assert store_tasks.write_here(store, t.recipe_of(annotation), t.new_rows(*values))
        assert "pandas" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
