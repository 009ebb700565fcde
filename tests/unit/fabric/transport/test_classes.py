"""Classes that can't be imported: sent with each value of theirs, pickled and made once."""

from __future__ import annotations

import enum
import pickle
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import ray.cloudpickle as cloudpickle

from amber_ray.fabric.transport import classes


def declared() -> tuple[type, type]:
    """Two classes, of which the first refers to the second and to itself."""

    class Kind(enum.Enum):
        CUT = 1
        FADE = 2

    @dataclass(frozen=True)
    class Shot:
        start: float
        kind: Kind = Kind.CUT

        def later(self) -> Shot:
            return type(self)(self.start + 1, Kind.FADE)

    return Shot, Kind


def test_another_process_makes_values_whose_classes_it_lacks() -> None:
    shot, kind = declared()
    data = classes.dumps([shot(1.5), shot(2.5, kind.FADE), kind.CUT])
    program = """
import pickle, sys
one, other, kind = pickle.loads(sys.stdin.buffer.read())
assert type(one) is type(other) and type(one.kind) is type(kind) and one.kind is kind
print(one.later(), other.kind is one.later().kind)
"""
    told = subprocess.run(
        [sys.executable, "-c", program], input=data, capture_output=True, timeout=60, check=False
    )
    assert told.returncode == 0, told.stderr.decode()
    assert told.stdout.decode().split() == [
        "Shot(start=2.5,",
        "kind=<Kind.FADE:",
        "2>)",
        "True",
    ]


def test_a_class_is_pickled_once_and_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shot, _ = declared()
    pickled: list[type] = []
    dumps = cloudpickle.dumps

    def counted(thing: type) -> bytes:
        pickled.append(thing)
        return bytes(dumps(thing))

    monkeypatch.setattr(cloudpickle, "dumps", counted)
    several = [classes.dumps(shot(float(number))) for number in range(5)]
    assert pickled.count(shot) == 1
    classes._class.cache_clear()
    made = [pickle.loads(data) for data in several]
    assert made == [shot(float(number)) for number in range(5)]
    assert classes._class.cache_info().misses == 2  # the class and the enumeration


def test_another_class_in_the_place_of_one_that_is_gone_is_another() -> None:
    def values() -> list[Any]:
        found = []
        for number in range(50):

            @dataclass
            class Shot:
                start: float

                def told(self, number: int = number) -> int:
                    return number

            found.append(pickle.loads(classes.dumps(Shot(0.0))).told())
        return found

    assert values() == list(range(50))


def test_no_more_than_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "KEPT", 4)
    shots = [declared()[0] for _ in range(9)]
    for shot in shots:
        assert pickle.loads(classes.dumps(shot(3.0))) == shot(3.0)
        assert len(classes._PICKLED) <= 4


def test_what_can_be_imported_travels_by_its_name() -> None:
    assert pickle.loads(classes.dumps(np.float32(1))) == 1
    assert b"_make_skeleton" not in classes.dumps([dataclass, enum.Enum, int, type(None)])
    buffers: list[pickle.PickleBuffer] = []
    head = classes.dumps({"a": np.arange(9)}, buffer_callback=buffers.append)
    assert len(buffers) == 1
    assert pickle.loads(head, buffers=buffers)["a"].sum() == 36
