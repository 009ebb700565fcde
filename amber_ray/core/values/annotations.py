"""The types a feature's value can have: an annotation becomes a tree that can check, describe and encode.

A tree describes itself as JSON (`spec`) and is rebuilt from that without the user's classes, so a stored
value can be read where its feature's code is not. `store.types` maps the same tree to Arrow. Must not know:
Arrow, features.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from amber_ray.core.values.array import DTYPES, Array
from amber_ray.core.values.base import SCALARS, Bytes, Json, Scalar, Table, ValueType
from amber_ray.core.values.compound import ListOf, Optional, Struct
from amber_ray.errors import DeclarationError

__all__ = [
    "Array",
    "Bytes",
    "Jpeg",
    "Json",
    "ListOf",
    "MediaType",
    "Optional",
    "Png",
    "Scalar",
    "Struct",
    "Table",
    "ValueType",
    "from_spec",
    "of_value",
    "parse",
]


@dataclass(frozen=True, slots=True)
class MediaType:
    """Marks bytes as an encoded medium: `Annotated[bytes, MediaType("image/jpeg")]`."""

    name: str


Jpeg = Annotated[bytes, MediaType("image/jpeg")]
Png = Annotated[bytes, MediaType("image/png")]
OBJECT = "object"
"""Stands for the name of a dataclass where there was only a dict."""


def parse(annotation: Any) -> ValueType:
    """Read an annotation. Raises `DeclarationError` for what can't be a value's type."""
    return _parse(annotation, ())


def _parse(annotation: Any, inside: tuple[type, ...]) -> ValueType:
    """`inside` are the dataclasses that this annotation stands in: none may come again."""
    if annotation in (bool, int, float, str):
        return Scalar(annotation.__name__)
    if annotation is bytes:
        return Bytes()
    if annotation in (dict, Any, list):
        return Json()
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        marks = [a for a in arguments[1:] if isinstance(a, MediaType)]
        return Bytes(marks[0].name) if arguments[0] is bytes and marks else _parse(arguments[0], inside)
    if origin in (typing.Union, types.UnionType):
        rest = [a for a in arguments if a is not type(None)]
        if len(rest) == 1 and len(rest) < len(arguments):
            item = _parse(rest[0], inside)
            return item if isinstance(item, Optional) else Optional(item)
        raise DeclarationError(f"a value can't be one of several types ({annotation}); choose one")
    if origin is list or origin is Sequence:
        return ListOf(_parse(arguments[0], inside))
    if origin is dict:
        return Json()
    if hasattr(annotation, "dim_str") and hasattr(annotation, "dtypes"):
        return _jaxtyping(annotation)
    if _is(origin, "numpy", "ndarray"):
        return _numpy(annotation, arguments)
    if _is(annotation, "numpy", "ndarray"):
        return Array()
    if _is(annotation, "pyarrow", "Table"):
        return Table()
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return _struct(annotation, inside)
    raise DeclarationError(
        f"{_name(annotation)} can't be a value's type; use bool, int, float, str, bytes with a media type, "
        "a dataclass, a list of these, a numpy array (jaxtyping), dict for JSON, or pyarrow.Table"
    )


def _struct(cls: type, inside: tuple[type, ...]) -> Struct:
    if cls in inside:
        raise DeclarationError(f"dataclass {cls.__name__} contains itself; a value's type must have an end")
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise DeclarationError(
            f"dataclass {cls.__name__}: an annotation can't be resolved: {error}"
        ) from error
    fields = []
    known = dataclasses.fields(cls)
    for name, hint in hints.items():
        if isinstance(hint, dataclasses.InitVar):
            raise DeclarationError(f"dataclass {cls.__name__}: {name} is an InitVar, which can't be stored")
    for one in known:
        try:
            fields.append((one.name, _parse(hints[one.name], (*inside, cls))))
        except DeclarationError as error:
            raise DeclarationError(f"{cls.__name__}.{one.name}: {error}") from error
    return Struct(cls.__name__, tuple(fields), cls)


def _jaxtyping(annotation: Any) -> Array:
    """`Float32[np.ndarray, "t 512"]`: dtypes of which one or more are ours, and words for the dimensions."""
    if not _is(getattr(annotation, "array_type", None), "numpy", "ndarray"):
        raise DeclarationError(f"{_name(annotation)} can't be a value's type; declare it of np.ndarray")
    dtype, among = _dtypes(annotation.dtypes, annotation)
    words = tuple(str(annotation.dim_str).split())
    if any("..." in w or w.startswith("*") for w in words):
        return Array(dtype, among=among)
    shape = tuple(_length(w) for w in words)
    return Array(dtype, shape, words, among)


def _dtypes(dtypes: Any, annotation: Any) -> tuple[str | None, tuple[str, ...]]:
    if not isinstance(dtypes, (list, tuple)):
        return None, ()
    ours = tuple(d for d in dtypes if d in DTYPES)
    if not ours:
        raise _elements(annotation)
    return (ours[0], ()) if len(ours) == 1 else (None, ours)


def _length(word: str) -> int | None:
    """`512` or `channels=3`; None where any length will do."""
    digits = word.rpartition("=")[2]
    return int(digits) if digits.isdigit() else None


def _numpy(annotation: Any, arguments: tuple[Any, ...]) -> Array:
    """`np.ndarray[shape, np.dtype[np.float32]]`, which `NDArray[np.float32]` stands for."""
    scalar = typing.get_args(arguments[1])[:1] if len(arguments) > 1 else ()
    name = getattr(scalar[0], "__name__", "") if scalar else ""
    name = {"bool_": "bool"}.get(name, name)
    if name in DTYPES:
        return Array(name)
    if name in ("generic", "") or (scalar and scalar[0] is Any):
        return Array()
    raise _elements(annotation)


def _elements(annotation: Any) -> DeclarationError:
    return DeclarationError(
        f"{_name(annotation)} can't be a value's type; an array is of {', '.join(sorted(DTYPES))}"
    )


def _is(thing: Any, home: str, name: str) -> bool:
    """Whether this is a class of another library, told by name so that nothing is imported."""
    return isinstance(thing, type) and thing.__name__ == name and thing.__module__.partition(".")[0] == home


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else repr(annotation)


def from_spec(spec: Mapping[str, Any]) -> ValueType:
    """Rebuild a type from its description; structs then make dicts."""
    kind = spec["type"]
    if kind in SCALARS:
        return Scalar(kind)
    if kind == "bytes":
        return Bytes(spec["media"])
    if kind == "array":
        shape = spec["shape"]
        return Array(spec["dtype"], None if shape is None else tuple(shape), (), tuple(spec.get("among", ())))
    if kind == "struct":
        return Struct(spec["name"], tuple((n, from_spec(t)) for n, t in spec["fields"]))
    if kind == "list":
        return ListOf(from_spec(spec["item"]))
    if kind == "optional":
        return Optional(from_spec(spec["item"]))
    if kind == "json":
        return Json()
    if kind == "table":
        return Table()
    raise DeclarationError(f"{kind!r} is no value type that this version of Amber knows")


def plain(type: ValueType) -> bool:
    """Whether values of a type are made without any class of a feature's module."""
    match type:
        case Struct():
            return False
        case ListOf(item) | Optional(item):
            return plain(item)
        case _:
            return True


def of_value(value: Any) -> ValueType:
    """A type read off a value, for values whose feature is no longer registered."""
    return _collapsed(_of(value))


def _of(value: Any) -> ValueType:
    if type(value) in (bool, int, float, str):
        return Scalar(type(value).__name__)
    if isinstance(value, bytes):
        return Bytes()
    if _is(type(value), "numpy", "ndarray"):
        return Array(value.dtype.name, (None,) * value.ndim)
    if _is(type(value), "pyarrow", "Table"):
        return Table()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]
        return Struct(type(value).__name__, tuple((n, _of(getattr(value, n))) for n in names))
    if isinstance(value, list) and value:
        return ListOf(functools.reduce(_common, map(_of, value)))
    if isinstance(value, Mapping):
        return Struct(OBJECT, tuple((str(n), _of(v)) for n, v in value.items()))
    return Json()


def _collapsed(type: ValueType) -> ValueType:
    """Dicts of what JSON can say are JSON; those with arrays or bytes in them are structures."""
    match type:
        case ListOf(item):
            item = _collapsed(item)
            return Json() if item == Json() else ListOf(item)
        case Optional(item):
            item = _collapsed(item)
            return Json() if item == Json() else Optional(item)
        case Struct(name, fields):
            if name == OBJECT and _is_json(type):
                return Json()
            return Struct(name, tuple((n, _collapsed(t)) for n, t in fields))
    return type


def _is_json(type: ValueType) -> bool:
    """Whether JSON text holds such a value whole."""
    match type:
        case Scalar() | Json():
            return True
        case ListOf(item) | Optional(item):
            return _is_json(item)
        case Struct(name, fields):
            return name == OBJECT and all(_is_json(t) for _, t in fields)
    return False


def _common(a: ValueType, b: ValueType) -> ValueType:
    """A type for values of both: optional if one may be None, open where shapes or dtypes differ."""
    match a, b:
        case _ if a == b:
            return a
        case Json(), Json():
            return a
        case (Json(), other) | (other, Json()) if not _is_json(other):
            return other if isinstance(other, Optional) else Optional(other)
        case (Optional(item), other) | (other, Optional(item)):
            inner = _common(item, other.item if isinstance(other, Optional) else other)
            return inner if isinstance(inner, Optional) else Optional(inner)
        case Array(dtype, shape), Array(other_dtype, other_shape):
            return Array(dtype if dtype == other_dtype else None, shape if shape == other_shape else None)
        case ListOf(item), ListOf(other):
            return ListOf(_common(item, other))
        case Struct(name, fields), Struct(_, others) if [n for n, _ in fields] == [n for n, _ in others]:
            pairs = zip(fields, others, strict=True)
            return Struct(name, tuple((n, _common(s, t)) for (n, s), (_, t) in pairs))
    return Json()
