from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from amber_ray.core.values.size import SAMPLE, SCALAR, size_of

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


@dataclass
class Shot:
    start: float
    picture: bytes


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (b"12345", 5),
        (bytearray(3), 3),
        (memoryview(bytes(7)), 7),
        ("h264", 4),
        (1.5, SCALAR),
        (None, SCALAR),
        (ARRAY, 24),
        (np.float32(1), 4),
        (pa.table({"a": [1, 2]}), 16),
        ([], 0),
        ([ARRAY] * 5, 120),
        ((1, "ab"), SCALAR + 2),
        ({"a": "xx", "bc": [1, 2]}, 3 + 2 + 2 * SCALAR),
        ([Shot(0.0, bytes(10)), Shot(1.0, bytes(30))], 2 * SCALAR + 40),
    ],
)
def test_a_small_value_is_measured_whole(value: Any, size: int) -> None:
    assert size_of(value) == size


@pytest.mark.parametrize("count", [SAMPLE + 1, 1000, 12_345])
def test_a_long_list_is_judged_by_items_from_all_over_it(count: int) -> None:
    # The first half is empty: a look at the beginning alone would be wrong by everything.
    value = [b""] * (count // 2) + [bytes(1000)] * (count - count // 2)
    assert size_of(value) == pytest.approx(1000 * count / 2, rel=0.2)
    assert size_of({f"{i:06}": item for i, item in enumerate(value)}) == pytest.approx(506 * count, rel=0.2)


def test_the_cost_is_not_that_of_the_length() -> None:
    looked_at = 0

    class Item:
        @property
        def nbytes(self) -> int:
            nonlocal looked_at
            looked_at += 1
            return 100

    assert size_of([Item()] * 100_000) == 10_000_000
    assert looked_at < 2 * SAMPLE + 1
