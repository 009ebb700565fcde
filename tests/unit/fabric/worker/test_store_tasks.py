"""What the cache actor reads itself: few small values that need no feature's code."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float32

from amber_ray.core.values.annotations import parse
from amber_ray.fabric.transport import pickled
from amber_ray.fabric.worker import store_tasks
from amber_ray.store.parquet import Row, ValueStore

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
