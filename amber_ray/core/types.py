"""The types a feature's value can have: an annotation becomes a small tree that can check, describe and encode.

`store.types` maps the same tree to Arrow. A tree describes itself as JSON (`spec`) and is rebuilt from that
without the user's classes, so a stored value can be read where its feature's code is not. Arrays are numpy's;
numpy is imported only when one is met. Must not know: Arrow, features.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from amber_ray.errors import DeclarationError, FeatureError

SCALARS: Mapping[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class MediaType:
    """Marks bytes as an encoded medium: `Annotated[bytes, MediaType("image/jpeg")]`."""

    name: str


Jpeg = Annotated[bytes, MediaType("image/jpeg")]
Png = Annotated[bytes, MediaType("image/png")]


class ValueType:
    """A node of the tree. Immutable, hashable, picklable."""

    __slots__ = ()

    @property
    def media_type(self) -> str | None:
        """The media type of encoded bytes; None for everything else."""
        return None

    def check(self, value: Any, path: str = "the value") -> Any:
        """The value, normalised. Raises `FeatureError` naming the place that does not fit."""
        raise NotImplementedError

    def to_json(self, value: Any) -> Any:
        """Plain JSON; NaN and infinities as the strings "NaN", "Infinity", "-Infinity", bytes as base64."""
        raise NotImplementedError

    def spec(self) -> dict[str, Any]:
        """A JSON description that `from_spec` reads back."""
        raise NotImplementedError


def _wrong(path: str, expected: str, value: Any) -> FeatureError:
    return FeatureError(f"{path} must be {expected}, not {type(value).__name__} ({value!r:.60})")


@dataclass(frozen=True, slots=True)
class Scalar(ValueType):
    """bool, int (64 bits), float (64 bits) or str."""

    name: str

    def check(self, value: Any, path: str = "the value") -> Any:
        """Numpy's scalars become Python's; an int is a float where one is declared."""
        if hasattr(value, "dtype") and getattr(value, "shape", None) == ():
            value = value.item()
        kind = SCALARS[self.name]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise _wrong(path, self.name, value)
        if kind is int and not -INT64 <= value < INT64:
            raise FeatureError(f"{path} must fit 64 bits, not {value}")
        return value

    def to_json(self, value: Any) -> Any:
        """See `ValueType.to_json`."""
        return _number(value) if isinstance(value, float) else value

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        return {"type": self.name}


@dataclass(frozen=True, slots=True)
class Bytes(ValueType):
    """Encoded media, or plain bytes."""

    media: str = "application/octet-stream"

    @property
    def media_type(self) -> str | None:
        """The media type of encoded bytes."""
        return self.media

    def check(self, value: Any, path: str = "the value") -> Any:
        """Any bytes-like becomes bytes."""
        if isinstance(value, (bytearray, memoryview)):
            value = bytes(value)
        if not isinstance(value, bytes):
            raise _wrong(path, f"bytes ({self.media})", value)
        return value

    def to_json(self, value: Any) -> Any:
        """Base64."""
        return base64.b64encode(value).decode()

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        return {"type": "bytes", "media": self.media}


@dataclass(frozen=True, slots=True)
class Array(ValueType):
    """A numpy array. `dtype` None is any; `shape` None is any, and in it None is any length."""

    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None
    names: tuple[str, ...] = field(default=(), compare=False)

    def check(self, value: Any, path: str = "the value") -> Any:
        """The array itself; a torch tensor on the CPU is taken as one."""
        import numpy as np

        if not isinstance(value, np.ndarray):
            raise _wrong(path, self._words(), value)
        if self.dtype is not None and value.dtype != np.dtype(self.dtype):
            raise FeatureError(f"{path} must be {self._words()}, not an array of {value.dtype}")
        if value.dtype.hasobject or value.dtype.kind not in "biuf":
            raise FeatureError(f"{path} must be an array of numbers or booleans, not of {value.dtype}")
        if self.shape is not None:
            fits = value.ndim == len(self.shape) and all(
                want is None or want == have for want, have in zip(self.shape, value.shape, strict=True)
            )
            if not fits:
                raise FeatureError(f"{path} must be {self._words()}, not an array of shape {value.shape}")
        return value

    def _words(self) -> str:
        shape = (
            ""
            if self.shape is None
            else f" of shape ({', '.join('any' if n is None else str(n) for n in self.shape)})"
        )
        return f"a numpy array{shape}" + ("" if self.dtype is None else f" of {self.dtype}")

    def to_json(self, value: Any) -> Any:
        """Nested lists."""
        nested = value.tolist()
        return _numbers(nested) if value.dtype.kind == "f" else nested

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        return {
            "type": "array",
            "dtype": self.dtype,
            "shape": None if self.shape is None else list(self.shape),
        }


@dataclass(frozen=True, slots=True)
class Struct(ValueType):
    """A dataclass, or the plain dict that stands for one where its class is not known."""

    name: str
    fields: tuple[tuple[str, ValueType], ...]
    cls: type | None = field(default=None, compare=False)

    def check(self, value: Any, path: str = "the value") -> Any:
        """Every field, by its own type."""
        if (
            self.cls is None
            or not dataclasses.is_dataclass(value)
            or type(value).__qualname__ != self.cls.__qualname__
        ):
            raise _wrong(path, f"a {self.name}", value)
        parts = {n: t.check(getattr(value, n), f"{path}.{n}") for n, t in self.fields}
        return self.make(parts)

    def make(self, parts: Mapping[str, Any]) -> Any:
        """An instance from its fields, or a dict."""
        return dict(parts) if self.cls is None else self.cls(**parts)

    def get(self, value: Any, name: str) -> Any:
        """One field of an instance or of a dict."""
        return value[name] if isinstance(value, Mapping) else getattr(value, name)

    def to_json(self, value: Any) -> Any:
        """An object."""
        return {n: t.to_json(self.get(value, n)) for n, t in self.fields}

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        return {"type": "struct", "name": self.name, "fields": [[n, t.spec()] for n, t in self.fields]}


@dataclass(frozen=True, slots=True)
class ListOf(ValueType):
    """A list of one type."""

    item: ValueType

    def check(self, value: Any, path: str = "the value") -> Any:
        """A list or tuple, each item by its type."""
        if not isinstance(value, (list, tuple)):
            raise _wrong(path, "a list", value)
        return [self.item.check(v, f"{path}[{i}]") for i, v in enumerate(value)]

    def to_json(self, value: Any) -> Any:
        """An array."""
        return [self.item.to_json(v) for v in value]

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        return {"type": "list", "item": self.item.spec()}


@dataclass(frozen=True, slots=True)
class Optional(ValueType):
    """A type or None."""

    item: ValueType

    def check(self, value: Any, path: str = "the value") -> Any:
        """None passes."""
        return None if value is None else self.item.check(value, path)

    def to_json(self, value: Any) -> Any:
        """Null for None."""
        return None if value is None else self.item.to_json(value)

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        return {"type": "optional", "item": self.item.spec()}


@dataclass(frozen=True, slots=True)
class Json(ValueType):
    """Anything JSON can say: dicts with text keys, lists, scalars and None."""

    def check(self, value: Any, path: str = "the value") -> Any:
        """Walk it; tuples become lists."""
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (list, tuple)):
            return [self.check(v, f"{path}[{i}]") for i, v in enumerate(value)]
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise _wrong(f"{path}'s keys", "str", key)
            return {k: self.check(v, f"{path}[{k!r}]") for k, v in value.items()}
        if hasattr(value, "dtype") and getattr(value, "shape", None) == ():
            return value.item()
        raise _wrong(path, "JSON data", value)

    def to_json(self, value: Any) -> Any:
        """Itself, but for NaN and infinities."""
        return _numbers(value)

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        return {"type": "json"}


@dataclass(frozen=True, slots=True)
class Table(ValueType):
    """A `pyarrow.Table` with any schema."""

    def check(self, value: Any, path: str = "the value") -> Any:
        """Only a table will do."""
        if type(value).__module__.partition(".")[0] != "pyarrow" or type(value).__name__ != "Table":
            raise _wrong(path, "a pyarrow.Table", value)
        return value

    def to_json(self, value: Any) -> Any:
        """An object of columns."""
        return _numbers(value.to_pydict())

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        return {"type": "table"}


def _number(value: float) -> Any:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _numbers(value: Any) -> Any:
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, (list, tuple)):
        return [_numbers(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _numbers(v) for k, v in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def parse(annotation: Any) -> ValueType:
    """Read an annotation. Raises `DeclarationError` for what can't be a value's type."""
    if annotation in (bool, int, float, str):
        return Scalar(annotation.__name__)
    if annotation is bytes:
        return Bytes()
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        marks = [a for a in arguments[1:] if isinstance(a, MediaType)]
        return Bytes(marks[0].name) if arguments[0] is bytes and marks else parse(arguments[0])
    if origin in (typing.Union, types.UnionType):
        rest = [a for a in arguments if a is not type(None)]
        if len(rest) == 1 and len(rest) < len(arguments):
            return Optional(parse(rest[0]))
        raise DeclarationError(f"a value can't be one of several types ({annotation}); choose one")
    if origin is list or origin is Sequence:
        return ListOf(parse(arguments[0]))
    if annotation in (dict, Any, list) or origin is dict:
        return Json()
    if hasattr(annotation, "dim_str") and hasattr(annotation, "dtypes"):
        return _jaxtyping(annotation)
    if isinstance(annotation, type):
        if dataclasses.is_dataclass(annotation):
            hints = typing.get_type_hints(annotation, include_extras=True)
            fields = tuple((f.name, parse(hints[f.name])) for f in dataclasses.fields(annotation))
            return Struct(annotation.__name__, fields, annotation)
        home = annotation.__module__.partition(".")[0]
        if home == "numpy" and annotation.__name__ == "ndarray":
            return Array()
        if home == "pyarrow" and annotation.__name__ == "Table":
            return Table()
    if getattr(origin, "__module__", "") == "numpy":
        return Array()
    raise DeclarationError(
        f"{annotation!r} can't be a value's type; use bool, int, float, str, bytes with a media type, a dataclass, "
        "a list of these, a numpy array (jaxtyping), dict for JSON, or pyarrow.Table"
    )


def _jaxtyping(annotation: Any) -> Array:
    dtypes = annotation.dtypes
    dtype = dtypes[0] if isinstance(dtypes, (list, tuple)) and len(dtypes) == 1 else None
    words = str(annotation.dim_str).split()
    if "..." in words or any(w.startswith("*") for w in words):
        return Array(dtype)
    shape = tuple(int(w) if w.isdigit() else None for w in words)
    return Array({"bool_": "bool"}.get(dtype or "", dtype), shape, tuple(words))


def from_spec(spec: Mapping[str, Any]) -> ValueType:
    """Rebuild a type from its description; structs then make dicts."""
    kind = spec["type"]
    if kind in SCALARS:
        return Scalar(kind)
    if kind == "bytes":
        return Bytes(spec["media"])
    if kind == "array":
        shape = spec["shape"]
        return Array(spec["dtype"], None if shape is None else tuple(shape))
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


def of_value(value: Any) -> ValueType:
    """A type read off a value, for values whose feature is no longer registered."""
    if isinstance(value, (bool, int, float, str)):
        return Scalar(type(value).__name__)
    if isinstance(value, bytes):
        return Bytes()
    if type(value).__name__ == "ndarray":
        return Array(str(value.dtype), tuple(None for _ in value.shape))
    if type(value).__name__ == "Table":
        return Table()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return Struct(
            type(value).__name__,
            tuple((f.name, of_value(getattr(value, f.name))) for f in dataclasses.fields(value)),
        )
    if isinstance(value, list) and value:
        return ListOf(of_value(value[0]))
    return Json()
