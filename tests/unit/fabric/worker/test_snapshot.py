"""Snapshots of values: whose memory is copied, and what readers get."""

from __future__ import annotations

import gc
import mmap
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from jaxtyping import Float64

from amber_ray.core.values.annotations import ValueType, parse
from amber_ray.errors import FeatureError
from amber_ray.fabric.worker import snapshot
from amber_ray.fabric.worker.snapshot import Snapshot

LENGTH = 4096
MOST = 8192
"""Bytes that travel inline: an array of `LENGTH` is larger."""
ARRAY = parse(Float64[np.ndarray, "*any"])
KEPT: list[Any] = []


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    before: Float64[np.ndarray, " n"]
    samples: Float64[np.ndarray, " n"]
    after: Float64[np.ndarray, " n"]


def taken(type: ValueType, make: Callable[[], Any]) -> Snapshot:
    """A snapshot of what a feature returns, taken as a worker takes it."""
    return snapshot.take([type.check(make())], MOST)


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


PLACES: list[int] = []


def fresh() -> np.ndarray:
    made = np.ones(LENGTH)
    PLACES.append(address(made))
    return made


def view_of_fresh() -> np.ndarray:
    return fresh()[LENGTH // 4 :].reshape(-1, 2)[1:]


def turned() -> np.ndarray:
    return fresh().reshape(2, -1).T


def parts_of_one() -> Sound:
    whole = np.ones(4 * LENGTH)
    PLACES.append(address(whole))
    return Sound(whole[:LENGTH], whole[LENGTH : 3 * LENGTH], whole[3 * LENGTH :])


def list_of_two() -> list[np.ndarray]:
    return [fresh(), fresh()]


def same_twice() -> list[np.ndarray]:
    return [fresh()] * 2


def on_bytes() -> np.ndarray:
    made = np.frombuffer(bytes(8 * LENGTH), np.float64)
    PLACES.append(address(made))
    return made


def constant() -> np.ndarray:
    CONSTANT.flags.writeable = False
    PLACES.append(address(CONSTANT))
    return CONSTANT


CONSTANT = np.ones(LENGTH)


def arrays_in(value: Any) -> list[np.ndarray]:
    if isinstance(value, Sound):
        return [value.before, value.samples, value.after]
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize(
    ("type", "make"),
    [
        (ARRAY, fresh),
        (ARRAY, view_of_fresh),
        (ARRAY, turned),
        (ARRAY, on_bytes),
        (ARRAY, constant),
        (parse(Sound), parts_of_one),
        (parse(list[Float64[np.ndarray, " n"]]), list_of_two),
        (parse(list[Float64[np.ndarray, " n"]]), same_twice),
    ],
)
def test_memory_that_nobody_else_can_write_into_is_not_copied(type: ValueType, make: Any) -> None:
    PLACES.clear()
    made = taken(type, make)
    first, second = arrays_in(made.open()), arrays_in(made.open())
    assert PLACES
    for place in PLACES:
        assert any(place <= address(a) < place + 4 * 8 * LENGTH for a in first)
    for one, two in zip(first, second, strict=True):
        assert address(one) == address(two)
        assert one is not two
        for array in (one, two):
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.flags.writeable = True
            assert np.all(array == array.flat[0])


def test_a_part_of_an_input_is_not_copied_either() -> None:
    for make, type in ((fresh, ARRAY), (parts_of_one, parse(Sound))):
        whole = arrays_in(taken(type, make).open())[-1]
        part = taken(ARRAY, lambda whole=whole: whole[LENGTH // 2 :]).open()
        assert np.shares_memory(part, whole)


def kept() -> np.ndarray:
    KEPT.append(np.ones(LENGTH))
    return KEPT[-1]


def base_kept() -> np.ndarray:
    KEPT.append(np.ones(LENGTH))
    return KEPT[-1][:]


def view_kept() -> np.ndarray:
    made = np.ones(LENGTH)
    KEPT.append(made[1:])
    return made


def other_view_kept() -> np.ndarray:
    made = np.ones(2 * LENGTH)
    KEPT.append(made[LENGTH - 1 :])
    return made[:LENGTH]


def memory_kept() -> np.ndarray:
    made = np.ones(LENGTH)
    KEPT.append(memoryview(made))
    return made


def list_kept() -> list[np.ndarray]:
    KEPT.append([np.ones(LENGTH), np.ones(LENGTH)])
    return KEPT[-1]  # type: ignore[no-any-return]


def one_of_list_kept() -> list[np.ndarray]:
    made = np.ones(2 * LENGTH)
    KEPT.append(made[1 : LENGTH + 1])
    return [made[:LENGTH], made[LENGTH:], KEPT[-1]]


def sound_kept() -> Sound:
    KEPT.append(Sound(np.ones(LENGTH), np.ones(LENGTH), np.ones(LENGTH)))
    return KEPT[-1]  # type: ignore[no-any-return]


def tensor_kept() -> np.ndarray:
    KEPT.append(torch.ones(LENGTH, dtype=torch.float64))
    return KEPT[-1].numpy()  # type: ignore[no-any-return]


def tensor_storage_kept() -> np.ndarray:
    tensor = torch.ones(LENGTH, dtype=torch.float64)
    KEPT.append(tensor[1:])
    return tensor.numpy()


def on_bytearray() -> np.ndarray:
    KEPT.append(bytearray(np.ones(LENGTH).tobytes()))
    return np.frombuffer(memoryview(KEPT[-1]).toreadonly(), np.float64)


def mapped() -> np.ndarray:
    KEPT.append(mmap.mmap(-1, 8 * LENGTH))
    made = np.frombuffer(KEPT[-1], np.float64)
    made[:] = 1
    return made


def overwrite(thing: Any) -> None:
    if isinstance(thing, list):
        for item in thing:
            overwrite(item)
    elif isinstance(thing, Sound):
        overwrite([thing.before, thing.samples, thing.after])
    elif isinstance(thing, (bytearray, mmap.mmap)):
        thing[:] = bytes(len(thing))
    elif isinstance(thing, memoryview):
        thing[:] = memoryview(np.zeros(len(thing)))
    else:
        thing[:] = 0


@pytest.mark.parametrize(
    ("type", "make"),
    [
        (ARRAY, kept),
        (ARRAY, base_kept),
        (ARRAY, view_kept),
        (ARRAY, other_view_kept),
        (ARRAY, memory_kept),
        (ARRAY, tensor_kept),
        (ARRAY, tensor_storage_kept),
        (ARRAY, on_bytearray),
        (ARRAY, mapped),
        (parse(list[Float64[np.ndarray, " n"]]), list_kept),
        (parse(list[Float64[np.ndarray, " n"]]), one_of_list_kept),
        (parse(Sound), sound_kept),
    ],
)
def test_memory_that_its_maker_can_still_write_into_is_copied(type: ValueType, make: Any) -> None:
    KEPT.clear()
    made = taken(type, make)
    overwrite(KEPT)  # as it always could
    assert all((array == 1).all() for array in arrays_in(made.open()))
    assert all((array == 1).all() for array in arrays_in(pickle.loads(pickle.dumps(made.sent(), protocol=5))))


def test_a_table_on_an_array_is_copied() -> None:
    column = np.ones(LENGTH)
    made = taken(parse(pa.Table), lambda: pa.table({"n": column}))
    column[:] = 0
    assert made.open().column("n").to_pylist() == [1.0] * LENGTH


@pytest.mark.parametrize("most", [0, MOST, 1 << 20])
@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 3),
        (str, "x" * 3 * MOST),
        (bytes, b"x" * 3 * MOST),
        (float | None, None),
        (list[str], ["a"] * MOST),
        (dict, {"a": [1, {"b": None}]}),
        (Float64[np.ndarray, "a b"], np.arange(6.0).reshape(2, 3)),
        (Float64[np.ndarray, "a b"], np.arange(6.0).reshape(2, 3).T),
        (Float64[np.ndarray, ""], np.array(1.5)),
        (Float64[np.ndarray, "0 3"], np.zeros((0, 3))),
        (list[Float64[np.ndarray, " n"]], [np.ones(3), np.zeros(0), np.arange(2.0 * LENGTH)]),
    ],
)
def test_what_arrives_is_the_value(annotation: Any, value: Any, most: int) -> None:
    made = snapshot.take([parse(annotation).check(value)], most)
    arrived = [made.open(), pickle.loads(pickle.dumps(made.sent(), protocol=5))]
    if made.inline is not None:
        assert len(made.inline) <= most
        arrived.append(pickle.loads(made.inline))
    for one in arrived:
        np.testing.assert_equal(one, value)
        for array in arrays_in(one):
            assert not (isinstance(array, np.ndarray) and array.flags.writeable)
    assert made.size >= len(pickle.dumps(value, protocol=5)) - 200


@dataclass
class Shot:
    start: float
    names: list[str]


def test_a_class_that_no_other_process_knows_travels_with_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shot, "__module__", "only_here")  # as of a user's module that travelled by value
    shot = Shot(1.5, ["a"])
    for most in (0, MOST):
        made = snapshot.take([shot], most)
        assert (made.inline is not None) == (most > 0)
        for one in (made.open(), pickle.loads(made.inline or pickle.dumps(made.sent(), protocol=5))):
            assert (type(one), one.start, one.names) == (Shot, 1.5, ["a"])
            one.names.append("b")
    assert shot.names == ["a"]


@pytest.mark.parametrize("wrap", [lambda shot: shot, lambda shot: [shot, shot], lambda shot: {"in": shot}])
def test_what_stays_in_the_process_needs_no_class_that_can_be_imported(
    monkeypatch: pytest.MonkeyPatch, wrap: Callable[[Any], Any]
) -> None:
    monkeypatch.setattr(Shot, "__module__", "only_here")
    shot = Shot(1.5, ["a"])
    made = snapshot.take([wrap(shot)], MOST, sent=False)
    assert made.inline is None
    for value in (made.open(), made.open()):
        assert value == wrap(shot)
        (one, *_) = (
            value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        )
        assert type(one) is Shot
        one.names.append("b")
    assert shot.names == ["a"]


def test_a_class_lives_as_long_as_a_snapshot_of_its_values() -> None:
    def made_here() -> Snapshot:
        @dataclass
        class Passing:
            start: float

        return snapshot.take([Passing(1.5)], MOST, sent=False)

    made = made_here()
    gc.collect()
    assert made.open().start == 1.5


def test_a_function_in_a_value_is_pickled_with_its_code() -> None:
    shot = Shot(1.5, ["a"])
    shot.when = lambda: 3  # type: ignore[attr-defined]
    for sent in (True, False):
        assert snapshot.take([shot], MOST, sent=sent).open().when() == 3


def test_what_can_not_be_pickled_is_a_fault_of_the_feature() -> None:
    with pytest.raises(FeatureError, match="can't be pickled, so it can't leave the worker: TypeError"):
        snapshot.take([[(n for n in range(2))]], MOST)


def test_a_mapped_file_that_changes_changes_no_value(tmp_path: Path) -> None:
    path = tmp_path / "numbers.npy"
    np.save(path, np.ones(LENGTH))
    made = taken(ARRAY, lambda: np.load(path, mmap_mode="r"))
    writer = np.load(path, mmap_mode="r+")
    writer[:] = 0
    writer.flush()
    assert (made.open() == 1).all()
