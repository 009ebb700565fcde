"""The nodes of a value's type: each checks a value, says it as JSON, and describes itself.

A tree of them is read off an annotation by `core.values.annotations`, and mapped to Arrow by `store.types`.
Arrays are `core.values.array`'s and structures `core.values.compound`'s. Must not know: annotations, Arrow,
features.
"""

from __future__ import annotations

import base64
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amber_ray.errors import FeatureError

SCALARS: Mapping[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
INT64 = 1 << 63
SAFE = 2**53 - 1
"""The largest whole number that a double holds for certain: Number.MAX_SAFE_INTEGER, ECMA-262 21.1.2.6."""
MAX_DEPTH = 100
"""Levels that JSON data may have."""
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


class Unfit(Exception):
    """A value does not fit; each container on the way out adds the step that leads to the place."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.steps: list[str] = []

    def at(self, step: str) -> Unfit:
        """The same, one level further out."""
        self.steps.append(step)
        return self


def unfit(expected: str, value: Any) -> Unfit:
    """That a value is not of the expected kind."""
    return Unfit(f"must be {expected}, not {type(value).__name__} ({shown(value)})")


def shown(value: Any) -> str:
    """A value in a message: short, and safe whatever its `__repr__` does."""
    text = _REPR.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


class ValueType:
    """A node of the tree. Immutable, hashable, picklable."""

    __slots__ = ()

    @property
    def media_type(self) -> str | None:
        """The media type of encoded bytes; None for everything else."""
        return None

    def check(self, value: Any, path: str = "the value") -> Any:
        """The value, normalised. Raises `FeatureError` naming the place that does not fit."""
        try:
            return self.fit(value)
        except Unfit as problem:
            place = path + "".join(reversed(problem.steps))
            raise FeatureError(f"{place} {problem}") from None

    def fit(self, value: Any) -> Any:
        """`check`, raising `Unfit`."""
        raise NotImplementedError

    def to_json(self, value: Any) -> Any:
        """Plain JSON; bytes as base64, numbers that JSON's readers can't hold as text.

        NaN and infinities are "NaN", "Infinity" and "-Infinity"; whole numbers beyond 2^53 - 1, which a
        double would round, their decimal digits.
        """
        raise NotImplementedError

    def spec(self) -> dict[str, Any]:
        """A JSON description that `types.from_spec` reads back."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Scalar(ValueType):
    """bool, int (64 bits), float (64 bits) or str."""

    name: str

    def fit(self, value: Any) -> Any:
        """Numpy's scalars become Python's; an int is a float where one is declared."""
        kind = SCALARS[self.name]
        if type(value) is not kind:
            value = _item(value)
            if kind is float and type(value) is int:
                try:
                    value = float(value)
                except OverflowError:
                    raise unfit("float", value) from None
            if type(value) is not kind:
                raise unfit(self.name, value)
        if type(value) is int and not -INT64 <= value < INT64:
            raise Unfit(f"must fit 64 bits, not {shown(value)}")
        if type(value) is str:
            _utf8(value)
        return value

    def to_json(self, value: Any) -> Any:
        """See `ValueType.to_json`."""
        return plain(value)

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

    def fit(self, value: Any) -> Any:
        """Any bytes-like becomes bytes."""
        if type(value) is bytes:
            return value
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        raise unfit(f"bytes ({self.media})", value)

    def to_json(self, value: Any) -> Any:
        """Base64."""
        return base64.b64encode(value).decode()

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        return {"type": "bytes", "media": self.media}


@dataclass(frozen=True, slots=True)
class Json(ValueType):
    """Anything JSON can say: dicts with text keys, lists, scalars and None. All NaNs are one."""

    def fit(self, value: Any) -> Any:
        """Walk it; tuples become lists, numpy's scalars and subclasses Python's own."""
        return self._fit(value, MAX_DEPTH)

    def _fit(self, value: Any, depth: int) -> Any:
        if value is None or type(value) in (bool, int, float):
            return value
        if type(value) is str:
            return _utf8(value)
        if not depth:
            raise Unfit(f"must not be nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, (list, tuple)):
            made: list[Any] = []
            try:
                for item in value:
                    made.append(self._fit(item, depth - 1))
            except Unfit as problem:
                raise problem.at(f"[{len(made)}]") from None
            return made
        if isinstance(value, Mapping):
            parts = {}
            for key, item in value.items():
                if not isinstance(key, str):
                    raise unfit("str", key).at("'s keys")
                try:
                    parts[str.__str__(_utf8(key))] = self._fit(item, depth - 1)
                except Unfit as problem:
                    raise problem.at(f"[{key!r}]") from None
            return parts
        for kind in (int, float, str):
            if isinstance(value, kind):
                return self._fit(str.__str__(value) if kind is str else kind(value), depth - 1)
        if (item := _item(value)) is not value:
            return self._fit(item, depth - 1)
        raise unfit("JSON data", value)

    def to_json(self, value: Any) -> Any:
        """Itself, but for numbers that JSON's readers can't hold."""
        return plain(value)

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        return {"type": "json"}


@dataclass(frozen=True, slots=True)
class Table(ValueType):
    """A `pyarrow.Table` with any schema."""

    def fit(self, value: Any) -> Any:
        """Only a table will do."""
        if type(value).__module__.partition(".")[0] != "pyarrow" or type(value).__name__ != "Table":
            raise unfit("a pyarrow.Table", value)
        return value

    def to_json(self, value: Any) -> Any:
        """An object of columns; times in ISO 8601, and what JSON has no word for as text."""
        return plain({name: value.column(i).to_pylist() for i, name in enumerate(value.column_names)})

    def spec(self) -> dict[str, Any]:
        """See `ValueType.spec`."""
        return {"type": "table"}


def _item(value: Any) -> Any:
    """A numpy scalar (or an array or tensor of no dimension) as Python's own; anything else as it is."""
    return value.item() if hasattr(value, "dtype") and getattr(value, "shape", None) == () else value


def _utf8(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Unfit(f"must be text that UTF-8 can hold, not {ascii(text)[:60]}") from None
    return text


def number(value: float) -> Any:
    """A float, or the string that stands for one that JSON can't say."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def plain(value: Any) -> Any:
    """Any Python data as JSON."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, int) and not -SAFE <= value <= SAFE:
        return str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
