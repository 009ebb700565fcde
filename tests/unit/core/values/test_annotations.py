"""What may be declared as a value's type, what it accepts, and how it is told as JSON."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Optional

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from jaxtyping import Bool, Complex64, Float, Float16, Float32, Int, Num, Shaped, UInt8

from amber_ray.core.values import annotations as vt
from amber_ray.core.values.annotations import Jpeg, MediaType, Png, from_spec, of_value, parse
from amber_ray.errors import DeclarationError, FeatureError


@dataclass(frozen=True, slots=True)
class Box:
    x: float
    y: float


@dataclass
class Face:
    box: Box
    score: float
    vector: Float32[np.ndarray, "4"]
    name: str | None = None
    tags: list[str] = field(default_factory=list)


BOX = vt.Struct("Box", (("x", vt.Scalar("float")), ("y", vt.Scalar("float"))))
GOOD = [
    (bool, vt.Scalar("bool")),
    (int, vt.Scalar("int")),
    (float, vt.Scalar("float")),
    (str, vt.Scalar("str")),
    (bytes, vt.Bytes()),
    (Jpeg, vt.Bytes("image/jpeg")),
    (Png, vt.Bytes("image/png")),
    (Annotated[bytes, "a note", MediaType("audio/wav")], vt.Bytes("audio/wav")),
    (Annotated[int, "a note"], vt.Scalar("int")),
    (dict, vt.Json()),
    (dict[str, float], vt.Json()),
    (Any, vt.Json()),
    (list, vt.Json()),
    (list[int], vt.ListOf(vt.Scalar("int"))),
    (Sequence[list[str]], vt.ListOf(vt.ListOf(vt.Scalar("str")))),
    (int | None, vt.Optional(vt.Scalar("int"))),
    (Optional[Jpeg], vt.Optional(vt.Bytes("image/jpeg"))),  # noqa: UP045
    (Annotated[int | None, "a note"] | None, vt.Optional(vt.Scalar("int"))),
    (Box, BOX),
    (list[Box], vt.ListOf(BOX)),
    (pa.Table, vt.Table()),
    (np.ndarray, vt.Array()),
    (npt.NDArray[np.float32], vt.Array("float32")),
    (npt.NDArray[np.bool_], vt.Array("bool")),
    (npt.NDArray[Any], vt.Array()),
    (Float32[np.ndarray, "t 512"], vt.Array("float32", (None, 512))),
    (Float16[np.ndarray, ""], vt.Array("float16", ())),
    (Bool[np.ndarray, "*batch 3"], vt.Array("bool")),
    (UInt8[np.ndarray, "h w channels=3"], vt.Array("uint8", (None, None, 3))),
    (Int[np.ndarray, "..."], vt.Array(among=("int8", "int16", "int32", "int64"))),
    (Float[np.ndarray, "_ a+1"], vt.Array(None, (None, None), (), ("float16", "float32", "float64"))),
    (Shaped[np.ndarray, "2"], vt.Array(None, (2,))),
]


@pytest.mark.parametrize(("annotation", "type"), GOOD, ids=str)
def test_an_annotation_becomes_a_type_that_describes_itself(annotation: Any, type: vt.ValueType) -> None:
    parsed = parse(annotation)
    assert parsed == type
    assert from_spec(json.loads(json.dumps(parsed.spec()))) == type
    assert pickle.loads(pickle.dumps(parsed)) == type
    assert hash(parsed) == hash(type)


@dataclass
class Tree:
    left: Tree | None


@dataclass
class Lost:
    where: Nowhere  # noqa: F821


@dataclass
class Hidden:
    seed: dataclasses.InitVar[int]


@dataclass
class Bad:
    when: set[int]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (set, "set can't be a value's type; use bool, int, float, str, bytes with a media type, a dataclass"),
        (tuple[int, int], "tuple[int, int] can't be a value's type"),
        (int | str, "a value can't be one of several types (int | str); choose one"),
        (int | str | None, "choose one"),
        (Tree, "Tree.left: dataclass Tree contains itself; a value's type must have an end"),
        (list[Tree], "contains itself"),
        (Lost, "dataclass Lost: an annotation can't be resolved: name 'Nowhere' is not defined"),
        (Hidden, "dataclass Hidden: seed is an InitVar, which can't be stored"),
        (Bad, "Bad.when: set[int] can't be a value's type"),
        (Complex64[np.ndarray, "3"], "an array is of bool, float16"),
        (npt.NDArray[np.str_], "an array is of bool, float16"),
        (None, "None can't be a value's type"),
        ("int", "'int' can't be a value's type"),
    ],
)
def test_what_can_not_be_a_type_is_refused_with_a_sentence(annotation: Any, words: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        parse(annotation)
    assert words in str(caught.value)


def test_arrays_of_other_libraries_are_refused() -> None:
    class Tensor:
        pass

    with pytest.raises(DeclarationError, match=r"declare it of np\.ndarray"):
        parse(Float32[Tensor, "3"])


class Colour(enum.IntEnum):
    RED = 1


class Word(str, enum.Enum):  # noqa: UP042 - as users write it
    YES = "yes"


def face(**changes: Any) -> Face:
    return dataclasses.replace(Face(Box(1.0, 2.0), 0.5, np.zeros(4, np.float32)), **changes)


@pytest.mark.parametrize(
    ("annotation", "value", "normal"),
    [
        (int, np.int16(3), 3),
        (float, 3, 3.0),
        (float, np.float32(0.1), float(np.float32(0.1))),
        (float, np.array(1.5), 1.5),
        (bool, np.True_, True),
        (str, np.str_("é"), "é"),
        (bytes, bytearray(b"ab"), b"ab"),
        (bytes, memoryview(b"ab"), b"ab"),
        (list[int], (1, np.int64(2)), [1, 2]),
        (int | None, None, None),
        (dict, {"a": (1, [None])}, {"a": [1, [None]]}),
        (dict, {Word.YES: Word.YES, "n": np.float32(2), "c": Colour.RED}, {"yes": "yes", "n": 2.0, "c": 1}),
        (Box, Box(1, np.float64(2)), Box(1.0, 2.0)),
    ],
)
def test_a_value_is_normalised(annotation: Any, value: Any, normal: Any) -> None:
    checked = parse(annotation).check(value)
    assert checked == normal
    assert exact(checked) == exact(normal)


def exact(value: Any) -> Any:
    """Types all the way down."""
    if isinstance(value, dict):
        return [(type(k), exact(v)) for k, v in value.items()]
    if isinstance(value, list):
        return [exact(v) for v in value]
    if dataclasses.is_dataclass(value):
        return type(value), [exact(getattr(value, f.name)) for f in dataclasses.fields(value)]
    return type(value)


DEEP: list[Any] = []
DEEP.append(DEEP)


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (int, "x", "the value must be int, not str ('x')"),
        (int, 1.0, "the value must be int, not float (1.0)"),
        (int, True, "the value must be int, not bool (True)"),
        (int, 1 << 63, "the value must fit 64 bits, not 9223372036854775808"),
        (float, 10**400, "the value must be float, not int"),
        (bool, 1, "the value must be bool, not int (1)"),
        (str, "\ud800", "the value must be text that UTF-8 can hold, not '\\ud800'"),
        (bytes, "x", "the value must be bytes (application/octet-stream), not str ('x')"),
        (Jpeg, None, "the value must be bytes (image/jpeg), not NoneType (None)"),
        (list[int], np.zeros(2), "the value must be a list, not ndarray"),
        (list[list[float]], [[], [0.0, "x"]], "the value[1][1] must be float, not str ('x')"),
        (list[Face], [face(), face(box=Box(0, None))], "the value[1].box.y must be float, not NoneType"),
        (Box, {"x": 1.0, "y": 2.0}, "the value must be a Box, not dict"),
        (dict, {"a": [1, {2: 3}]}, "the value['a'][1]'s keys must be str, not int (2)"),
        (dict, {"a": np.zeros(2)}, "the value['a'] must be JSON data, not ndarray"),
        (dict, {"a": {1, 2}}, "the value['a'] must be JSON data, not set"),
        (dict, DEEP, "must not be nested deeper than 100 levels"),
        (pa.Table, {"a": [1]}, "the value must be a pyarrow.Table, not dict"),
        (np.ndarray, [1], "the value must be a numpy array of numbers or booleans, not list ([1])"),
        (
            np.ndarray,
            np.array(["a"]),
            "the value must be a numpy array of numbers or booleans, not an array of str",
        ),
        (np.ndarray, np.array([None]), "not an array of object"),
        (np.ndarray, np.zeros(2, np.longdouble), "not an array of float128"),
        (np.ndarray, np.ma.masked_array([1, 2], [0, 1]), "not MaskedArray"),
        (
            Float32[np.ndarray, "t 512"],
            np.zeros((3, 512)),
            "the value must be a numpy array of shape (t, 512) of float32, not an array of float64",
        ),
        (Float32[np.ndarray, "t 512"], np.zeros((3, 511), "f4"), "not an array of shape (3, 511)"),
        (Float32[np.ndarray, "t 512"], np.zeros(512, "f4"), "not an array of shape (512,)"),
        (
            Float32[np.ndarray, "n n"],
            np.zeros((2, 3), "f4"),
            "of shape (n, n) of float32, not an array of shape (2, 3)",
        ),
        (Float[np.ndarray, "..."], np.zeros(2, int), "of float16, float32 or float64, not an array of int64"),
        (Num[np.ndarray, "a"], np.zeros(2, bool), "not an array of bool"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(annotation: Any, value: Any, words: str) -> None:
    with pytest.raises(FeatureError) as caught:
        parse(annotation).check(value)
    assert words in str(caught.value)


def test_a_message_is_short_however_large_the_value() -> None:
    with pytest.raises(FeatureError) as caught:
        parse(int).check(["x" * 1000] * 100_000)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Float32[np.ndarray, "n n"], np.zeros((2, 2), "f4")),
        (Float32[np.ndarray, "_ _"], np.zeros((2, 3), "f4")),
        (Float32[np.ndarray, "0 4"], np.zeros((0, 4), "f4")),
        (Float32[np.ndarray, "*b 4"], np.zeros((1, 2, 4), "f4")),
        (Bool[np.ndarray, ""], np.array(True)),
    ],
)
def test_an_array_that_fits_is_seen_through_a_read_only_view(annotation: Any, value: np.ndarray) -> None:
    checked = parse(annotation).check(value)
    assert type(checked) is np.ndarray
    assert np.array_equal(checked, value)
    assert checked.__array_interface__["data"] == (value.__array_interface__["data"][0], True)  # no copy
    assert value.flags.writeable  # its maker's still
    assert parse(annotation).check(checked) is checked


@pytest.mark.parametrize("value", [np.zeros((4, 4), "f4")[:, ::2], np.broadcast_to(np.float32(1), (4, 2))])
def test_an_array_with_gaps_is_copied_and_one_in_fortrans_order_is_not(value: np.ndarray) -> None:
    checked = parse(Float32[np.ndarray, "4 2"]).check(value)
    assert checked.flags.c_contiguous
    assert not checked.flags.writeable
    assert np.array_equal(checked, value)
    assert not np.shares_memory(checked, value)
    turned = np.zeros((2, 4), "f4").T
    assert np.shares_memory(parse(Float32[np.ndarray, "4 2"]).check(turned), turned)


@dataclass
class Holder:
    one: Float32[np.ndarray, "2"]
    some: list[Float32[np.ndarray, "2"]]
    maybe: Float32[np.ndarray, "2"] | None


def test_arrays_are_read_only_wherever_they_are_and_their_makers_are_not() -> None:
    arrays = [np.zeros(2, "f4") for _ in range(3)]
    made = Holder(arrays[0], [arrays[1]], arrays[2])
    (checked,) = parse(list[Holder]).check([made])
    for found in (checked.one, checked.some[0], checked.maybe):
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 1
    for array in (made.one, made.some[0], made.maybe):
        array[0] = 1
    assert all(np.array_equal(a, [1, 0]) for a in (checked.one, checked.some[0], checked.maybe))


def test_arrays_become_plain_and_native(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "a", dtype="f4", mode="w+", shape=(2,))
    swapped = np.array([1.5, 2.5], ">f4")
    for value in (mapped, swapped):
        checked = parse(Float32[np.ndarray, "2"]).check(value)
        assert type(checked) is np.ndarray
        assert checked.dtype.isnative
        assert np.array_equal(checked, value)
    assert parse(Float32[np.ndarray, ""]).check(np.float32(2)).shape == ()


def test_a_dataclass_is_copied_only_if_a_field_had_to_be_normalised() -> None:
    made = []

    @dataclass
    class Counted:
        a: int
        b: int = field(default=0, init=False)

        def __post_init__(self) -> None:
            made.append(self)

    type = parse(Counted)
    value = Counted(1)
    assert type.check(value) is value
    value.b = np.int8(7)
    copy = type.check(value)
    assert (copy, copy.b, type_of(copy.b)) == (value, 7, int)
    assert type_of(value.b) is np.int8
    assert len(made) == 1
    assert isinstance(type, vt.Struct)
    assert type.make({"a": 2, "b": 3}).b == 3


def type_of(value: Any) -> type:
    return type(value)


def test_a_class_that_refuses_its_fields_says_so() -> None:
    @dataclass
    class Strict:
        a: int

        def __post_init__(self) -> None:
            raise ValueError("never")

    type = parse(Strict)
    assert isinstance(type, vt.Struct)
    with pytest.raises(FeatureError, match="Strict can't be made from its own fields: never"):
        type.make({"a": 1})


def test_a_dict_stands_for_a_dataclass_whose_class_is_not_known() -> None:
    type = from_spec(parse(Box).spec())
    assert type.check({"x": 1, "y": 2.0}) == {"x": 1.0, "y": 2.0}
    assert type.to_json({"x": 1.0, "y": math.nan}) == {"x": 1.0, "y": "NaN"}
    with pytest.raises(FeatureError, match="must be a Box"):
        type.check({"x": 1.0})


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (float, math.nan, "NaN"),
        (float, -math.inf, "-Infinity"),
        (list[float], [1.5, math.inf], [1.5, "Infinity"]),
        (bytes, b"\x00\xff", "AP8="),
        (int | None, None, None),
        (dict, {"a": [math.nan, True, "é"]}, {"a": ["NaN", True, "é"]}),
        (np.ndarray, np.array([[1, 2]], np.uint8), [[1, 2]]),
        (np.ndarray, np.array([True, False]), [True, False]),
        (np.ndarray, np.array([1, math.nan], np.float16), [1.0, "NaN"]),
        (np.ndarray, np.array(0.5), 0.5),
        (np.ndarray, np.zeros((0, 512)), []),
        (
            pa.Table,
            pa.table({"a": [1.0, math.nan], "b": [b"x", None]}),
            {"a": [1.0, "NaN"], "b": ["eA==", None]},
        ),
        (
            pa.Table,
            pa.table(
                {"t": pa.array([0], pa.timestamp("s", "UTC")), "d": pa.array([1]).cast(pa.decimal128(19, 0))}
            ),
            {"t": ["1970-01-01T00:00:00+00:00"], "d": ["1"]},
        ),
        (int, 2**53 - 1, 2**53 - 1),
        (int, -(2**53), "-9007199254740992"),
        (np.ndarray, np.array([5, 2**64 - 1], np.uint64), [5, "18446744073709551615"]),
        (np.ndarray, np.array([[-(2**63)]]), [["-9223372036854775808"]]),
        (dict[str, int], {"hash": 2**60}, {"hash": "1152921504606846976"}),
    ],
)
def test_json(annotation: Any, value: Any, said: Any) -> None:
    assert parse(annotation).to_json(value) == said
    json.dumps(said, allow_nan=False)


def test_json_of_structures() -> None:
    assert parse(list[Face]).to_json([face(name="a")]) == [
        {
            "box": {"x": 1.0, "y": 2.0},
            "score": 0.5,
            "vector": [0.0] * 4,
            "name": "a",
            "tags": [],
        }
    ]


def test_media_types() -> None:
    assert parse(Jpeg).media_type == "image/jpeg"
    assert parse(Jpeg | None).media_type == "image/jpeg"
    assert parse(list[Jpeg]).media_type is None


@pytest.mark.parametrize(
    ("value", "type"),
    [
        (True, vt.Scalar("bool")),
        ("x", vt.Scalar("str")),
        (None, vt.Json()),
        (b"x", vt.Bytes()),
        (np.zeros((2, 3), np.float16), vt.Array("float16", (None, None))),
        (Box(1.0, 2.0), BOX),
        ([], vt.Json()),
        ([1, 2], vt.ListOf(vt.Scalar("int"))),
        ([1, "x"], vt.Json()),
        ([1, None], vt.Json()),
        ({"a": [1, "x"]}, vt.Json()),
        ([np.zeros(2), None], vt.ListOf(vt.Optional(vt.Array("float64", (None,))))),
        ([None, np.zeros(2), None, np.zeros((2, 2))], vt.ListOf(vt.Optional(vt.Array("float64")))),
        ([np.zeros(2), np.zeros(2, np.int8)], vt.ListOf(vt.Array(None, (None,)))),
        ({"a": np.zeros(2)}, vt.Struct("object", (("a", vt.Array("float64", (None,))),))),
        (
            [{"a": b"", "b": [b""]}, {"a": None, "b": [None]}],
            vt.ListOf(
                vt.Struct(
                    "object", (("a", vt.Optional(vt.Bytes())), ("b", vt.ListOf(vt.Optional(vt.Bytes()))))
                )
            ),
        ),
    ],
)
def test_a_type_is_read_off_a_value_and_encodes_it(value: Any, type: vt.ValueType) -> None:
    assert of_value(value) == type
    json.dumps(type.to_json(value), allow_nan=False)


def test_an_unknown_description_is_refused() -> None:
    with pytest.raises(
        DeclarationError, match="'quaternion' is no value type that this version of Amber knows"
    ):
        from_spec({"type": "quaternion"})


def test_types_load_neither_numpy_nor_arrow() -> None:
    script = (
        "import sys, amber_ray.core.values.annotations as t;"
        "t.parse(list[int]).check([1]); t.parse(dict).check({});"
        "print(*{'numpy', 'pyarrow'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []
