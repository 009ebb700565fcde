"""Pickles of small values: many arrays had at once, without making each."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from amber_ray.fabric.transport import pickled
from amber_ray.fabric.worker import snapshot


@dataclass
class Shot:
    start: float


def pickles(*values: Any) -> list[bytes]:
    """As workers send them."""
    made = [snapshot.take([value], 8192).inline for value in values]
    return [data for data in made if data is not None]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "float32", "int64", "float64"])
@pytest.mark.parametrize("shape", [(1,), (5,), (300,), (2, 3), (2, 3, 4)])
def test_arrays_of_one_shape_are_one_array(dtype: str, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    arrays = [(random.random(shape) * 3).astype(dtype) for _ in range(7)]
    arrays += [np.zeros(shape, dtype), np.full(shape, -1 if dtype != "bool" else 1).astype(dtype)]
    stack = pickled.stacked(pickles(*arrays))
    assert stack is not None
    assert stack.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(stack, np.stack(arrays))


def test_bits_are_kept() -> None:
    arrays = [np.array([bits, 7], np.uint32).view(np.float32) for bits in (0x7FC00001, 0xFFC12345, 1 << 31)]
    stack = pickled.stacked(pickles(*arrays))
    assert stack is not None
    assert stack.tobytes() == b"".join(a.tobytes() for a in arrays)


@pytest.mark.parametrize(
    "values",
    [
        (np.zeros(3), np.zeros(4)),
        (np.zeros(4, np.float32), np.zeros(4, np.int32)),
        (np.zeros(2, np.float64), np.zeros(4, np.float32)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros((2, 3)), np.zeros((2, 3), order="F")),
        (np.zeros((2, 3), order="F"), np.zeros((2, 3), order="F")),
        (np.zeros(0), np.zeros(0)),
        (np.array(1.0), np.array(2.0)),
        (np.zeros(3), None),
        ([np.zeros(3)], [np.zeros(3)]),
        (1.0, 2.0),
        ("a", "b"),
        (Shot(1.0), Shot(2.0)),
    ],
)
def test_what_is_not_alike_is_no_stack(values: tuple[Any, ...]) -> None:
    assert pickled.stacked(pickles(*values)) is None


class Trap:
    """Its unpickling is noticed."""

    sprung = False

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return spring, ()


def spring() -> None:
    Trap.sprung = True


def test_no_features_code_runs_to_find_that_out() -> None:
    assert pickled.stacked([pickle.dumps(Trap())] * 2) is None
    assert not Trap.sprung
