"""Keys are the same for ever: golden digests, and what may and may not be in a key."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from typing import Any

import numpy as np
import pytest

from amber_ray.core.model.units import Asset, Collection, Segment, Unit
from amber_ray.core.planning.keys import FORMAT, canonical_scalar, prefix, step_key
from amber_ray.errors import BadParameter

A = Asset("a" * 32, "file:///a.mp4", "video/mp4", 1, 30.0)
B = Asset("b" * 32, "file:///b.mp4", "video/mp4", 1, 30.0)
CLIP = Segment(A, 60_000_000, 60_000_000)
ONE, TWO = "1" * 32, "2" * 32

# If one of these changes, no stored value is found again: raise FORMAT, and say so in the changelog.
GOLDEN: dict[str, tuple[str, str, tuple[tuple[str, Any], ...], Unit, tuple[tuple[str, Any], ...]]] = {
    "d021835fdd06623ebffa9995c13d70bf": ("probe", "1", (), A, ()),
    "847e7b37414e93291a7a37a1ef970897": ("frames", "1", (("fps", 2.0), ("size", 224)), CLIP, ()),
    "6d5f8a5dedd511d33199da2fb23f0cff": (
        "embed",
        "auto-0123456789abcdef",
        (("model", None), ("flip", True)),
        CLIP,
        (("frames", ONE),),
    ),
    "423152ae8421eb7cb7a8eb8f42d39a4b": (
        "film",
        "2",
        (("name", "é\n"),),
        A,
        (("scene", (ONE, TWO)), ("probe", TWO)),
    ),
    "8922c984cb8da12110cc999a110ff15f": (
        "match",
        "1",
        (),
        Collection.of([A, B]),
        (("scene", ((ONE, TWO), ())),),
    ),
}


@pytest.mark.parametrize(("key", "step"), GOLDEN.items())
def test_golden_keys(key: str, step: Any) -> None:
    assert FORMAT == 1
    assert step_key(*step) == key
    name, version, params, unit, inputs = step
    assert prefix(name, version, params).key(unit, inputs) == key


def test_the_encoding_written_out() -> None:
    data = b"\0\0\0\x09amber-key" + b"\0\0\0\x011" + b"\0\0\0\x05probe" + b"\0\0\0\x012"
    data += b"\0\0\0\x01" + b"\0\0\0\x03fps" + b"\0\0\0\x15f0x1.0000000000000p+1"
    data += f"32:{'a' * 32}6:frames={ONE}5:scene=[{ONE},{TWO}]".encode()
    key = step_key("probe", "2", [("fps", 2.0)], A, [("frames", ONE), ("scene", (ONE, TWO))])
    assert key == hashlib.blake2b(data, digest_size=16).hexdigest()


def test_a_key_covers_every_part_of_a_step() -> None:
    step = list(GOLDEN.values())[3]
    changes: list[tuple[Any, ...]] = [
        ("movie", *step[1:]),
        (step[0], "3", *step[2:]),
        (*step[:2], (("name", "e\n"),), *step[3:]),
        (*step[:2], (("title", "é\n"),), *step[3:]),
        (*step[:2], (), *step[3:]),
        (*step[:3], B, step[4]),
        (*step[:3], CLIP, step[4]),
        (*step[:3], Collection.of([A]), step[4]),
        (*step[:4], (("scene", (TWO, ONE)), ("probe", TWO))),
        (*step[:4], (("scene", (ONE,)), ("probe", TWO))),
        (*step[:4], (("scene", ((ONE, TWO),)), ("probe", TWO))),
        (*step[:4], (("scene", ((ONE,), (TWO,))), ("probe", TWO))),
        (*step[:4], (("scene", ()), ("probe", TWO))),
        (*step[:4], (("scene", (ONE, TWO)), ("shots", TWO))),
        (*step[:4], (("scene", (ONE, TWO)),)),
    ]
    keys = {step_key(*s) for s in (step, *changes)}
    assert len(keys) == len(changes) + 1


def test_a_key_does_not_cover_where_an_asset_lies_nor_what_is_said_about_it() -> None:
    moved = dataclasses.replace(A, uri="s3://bucket/b", media_type="video/webm", bytes=9, duration=None)
    assert step_key("f", "1", (), moved, ()) == step_key("f", "1", (), A, ())


def test_a_collection_is_a_set() -> None:
    assert step_key("f", "1", (), Collection.of([B, A, B]), ()) == step_key(
        "f", "1", (), Collection.of([A, B]), ()
    )


VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    0.0,
    1.0,
    0.1,
    "",
    "1",
    "n",
    "b1",
    "i1",
    "True",
    "None",
    "1.0",
    "é",
    "e\u0301",
]


def test_values_that_look_alike_are_told_apart() -> None:
    assert len({canonical_scalar(v) for v in VALUES}) == len(VALUES)
    assert len({step_key("f", "1", [("p", v)], A, ()) for v in VALUES}) == len(VALUES)


def test_zero_has_no_sign() -> None:
    assert canonical_scalar(-0.0) == canonical_scalar(0.0)


class Mode(enum.IntEnum):
    FAST = 1


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        1 << 63,
        -(1 << 63) - 1,
        pytest.param(10**5000, id="5000 digits"),
        b"1",
        (1,),
        [],
        {},
        1j,
        Mode.FAST,
        np.float64(1),
        np.int64(1),
        object(),
    ],
)
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(BadParameter, match=r"^a parameter must "):
        step_key("f", "1", [("p", value)], A, ())
    with pytest.raises(BadParameter):
        prefix("f", "1", [("p", value)])


def test_a_prefix_can_be_used_again_and_again() -> None:
    shared = prefix("f", "1", [("p", 1)])
    first = shared.key(A, ())
    assert shared.key(B, ()) != first
    assert shared.key(A, ()) == first
