"""The key of a step: a 128-bit digest that fully describes its value.

`blake2b-128(tag, format, feature, version, parameters, unit, input keys)` is a Merkle digest. It covers the
keys of the inputs, never their values, so all keys of a plan are known before anything runs. Parts carry
their length, and keys all have the same one, so no two different descriptions have the same encoding. A
changed encoding must change `FORMAT`; golden digests in the tests pin it.

Must not know: URIs, times, hosts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from amber_ray.core.model.units import Unit
from amber_ray.errors import BadParameter

FORMAT = 1
TAG = b"amber-key"
_SIZE = 16
_INT64 = 1 << 63


def canonical_scalar(value: Any) -> bytes:
    """Return a parameter's value with its type, so that 1, 1.0, True and "1" differ; -0.0 is 0.0.

    Raises `BadParameter` for what is not None, a bool, an int of 64 bits, a finite float or a str.
    """
    if value is None:
        return b"n"
    if value is True or value is False:
        return b"b1" if value else b"b0"
    if type(value) is int:
        if not -_INT64 <= value < _INT64:
            raise BadParameter(f"a parameter must fit in 64 bits, not {value.bit_length()}")
        return b"i" + str(value).encode()
    if type(value) is float:
        if not math.isfinite(value):
            raise BadParameter(f"a parameter must be a finite number, not {value!r}")
        return b"f" + (value + 0.0).hex().encode()
    if type(value) is str:
        return b"s" + value.encode("utf-8", "surrogatepass")
    raise BadParameter(f"a parameter must be bool, int, float, str or null, not {type(value).__name__}")


class Prefix:
    """The part of a key that all steps of one feature with one set of parameters share, hashed once.

    A key then costs a copy of the hash's state and the few bytes that differ: microseconds.
    """

    __slots__ = ("_state",)

    def __init__(self, name: str, version: str, params: Sequence[tuple[str, Any]]) -> None:
        self._state = hashlib.blake2b(_shared(name, version, params), digest_size=_SIZE)

    def key(self, unit: Unit, input_keys: Sequence[tuple[str, Any]]) -> str:
        """Return the key of the step for `unit`: 32 hex digits.

        `input_keys` pairs an input's name with its key, or with a tuple of keys (or of tuples) for a gather.
        """
        return self.of(unit.unit_id, input_keys)

    def of(self, unit_id: str, input_keys: Iterable[tuple[str, Any]]) -> str:
        """The same for a unit by its text."""
        state = self._state.copy()
        text = f"{len(unit_id)}:{unit_id}"
        for name, nested in input_keys:
            text += f"{len(name)}:{name}={nested if type(nested) is str else _nested(nested)}"
        state.update(text.encode())
        return state.hexdigest()


def prefix(name: str, version: str, params: Sequence[tuple[str, Any]]) -> Prefix:
    """Hash what the steps of one feature share. The order of `params` does not matter."""
    return Prefix(name, version, params)


def step_key(
    name: str,
    version: str,
    params: Sequence[tuple[str, Any]],
    unit: Unit,
    input_keys: Sequence[tuple[str, Any]],
) -> str:
    """Return the key of one step in one go; `prefix(...).key(...)` returns the same, faster."""
    own = f"{len(unit.unit_id)}:{unit.unit_id}" + "".join(
        f"{len(name_)}:{name_}={_nested(keys)}" for name_, keys in input_keys
    )
    return hashlib.blake2b(_shared(name, version, params) + own.encode(), digest_size=_SIZE).hexdigest()


def _shared(name: str, version: str, params: Sequence[tuple[str, Any]]) -> bytes:
    parts = [TAG, str(FORMAT).encode(), name.encode(), version.encode()]
    values = [
        _part(param.encode()) + _part(canonical_scalar(value)) for param, value in sorted(params, key=_name)
    ]
    return b"".join(map(_part, parts)) + len(params).to_bytes(4, "big") + b"".join(values)


def _name(param: tuple[str, Any]) -> str:
    return param[0]


def _part(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _nested(nested: Any) -> str:
    return nested if isinstance(nested, str) else "[" + ",".join(map(_nested, nested)) + "]"
