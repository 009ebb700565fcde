"""Inline values of an answer: JSON becomes again what the feature returned, by the type it declares.

Only where nothing was lost on the way: for what JSON can't carry bit for bit (NaN in an array, an empty
array's shape, tables) the answer is MISSING, and the value is fetched as Arrow.
Must not know: HTTP.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from typing import Any

from amber_ray.core.model.request import MISSING
from amber_ray.core.model.service import FeatureInfo
from amber_ray.core.values.annotations import (
    Array,
    Bytes,
    Json,
    ListOf,
    Optional,
    Scalar,
    Struct,
    ValueType,
    from_spec,
)
from amber_ray.core.values.base import SAFE

_DIGITS = re.compile(r"-?[1-9][0-9]{15,19}")
NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})


class _Lost(Exception):
    """JSON does not say which value this was."""


class Decoder:
    """Decodes values of the features it was told of."""

    def __init__(self) -> None:
        self._types: dict[str, ValueType] = {}

    def learn(self, infos: Iterable[FeatureInfo]) -> None:
        """Know these features' types from now on."""
        self._types.update((info.name, from_spec(info.returns)) for info in infos)

    def knows(self, feature: str) -> bool:
        """Whether `learn` was told of the feature."""
        return feature in self._types

    def __call__(self, feature: str, data: Any) -> Any:
        """The value, or MISSING if it has to be fetched."""
        if feature not in self._types:
            return MISSING
        try:
            return decoded(self._types[feature], data)
        except (_Lost, TypeError, ValueError, KeyError, OverflowError):
            # A server whose feature has another type by now: the Arrow stream describes itself.
            return MISSING


def decoded(type: ValueType, data: Any) -> Any:
    """The value that `type.to_json` wrote as `data`. Raises `_Lost` where that can't be told."""
    match type:
        case Scalar("float"):
            return float(data)
        case Scalar("int"):
            return int(data)
        case Scalar():
            return data
        case Bytes():
            try:
                return base64.b64decode(data, validate=True)
            except binascii.Error as error:
                raise _Lost from error
        case Array():
            return _array(type, data)
        case Struct():
            return {name: decoded(field, data[name]) for name, field in type.fields}
        case ListOf():
            return [decoded(type.item, item) for item in data]
        case Optional():
            return None if data is None else decoded(type.item, data)
        case Json():
            if _has(data, _stands_for_a_number):
                raise _Lost
            return data
    raise _Lost


def _array(type: Array, data: Any) -> Any:
    """Numbers of a known dtype; a word among them stands for a NaN whose bits are not known."""
    if type.dtype is None or _has(data, NOT_FINITE.__contains__):
        raise _Lost
    import numpy as np

    whole = np.dtype(type.dtype).kind in "iu"
    array = np.array(_whole(data) if whole else data, dtype=type.dtype)
    if array.size == 0 or (type.shape is not None and array.ndim != len(type.shape)):
        raise _Lost
    return array


def _has(data: Any, told: Callable[[str], bool]) -> bool:
    """Whether a text of that kind stands anywhere in it."""
    if isinstance(data, str):
        return told(data)
    if isinstance(data, list):
        return any(_has(item, told) for item in data)
    return isinstance(data, dict) and any(_has(item, told) for item in data.values())


def _stands_for_a_number(text: str) -> bool:
    """Whether it is what `to_json` writes for a number that a double can't hold."""
    return text in NOT_FINITE or (_DIGITS.fullmatch(text) is not None and abs(int(text)) > SAFE)


def _whole(data: Any) -> Any:
    """Nested lists of whole numbers, of which those that a double can't hold come as text."""
    if isinstance(data, list):
        return [_whole(item) for item in data]
    return int(data) if isinstance(data, str) else data
