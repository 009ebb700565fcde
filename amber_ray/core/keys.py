"""The key of a step: a 128-bit digest that fully describes its value.

`blake2b-128(tag, format, feature, version, parameters, unit, input keys)`, a Merkle digest: it covers inputs,
never the values they have, so all keys of a plan are known before anything runs. Parts are length-prefixed,
so no two different descriptions share an encoding. A changed encoding changes `FORMAT`; golden digests in
the tests hold it still. Must not know: URIs, times, hosts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

from amber_ray.core.units import Unit
from amber_ray.errors import BadParameter

FORMAT = 1
TAG = b"amber-key"
_SIZE = 16


def _part(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def canonical_scalar(value: Any) -> bytes:
    """A parameter's value with its type; -0.0 is 0.0, and what is not a plain scalar is refused."""
    if value is None:
        return b"n"
    if value is True or value is False:
        return b"b1" if value else b"b0"
    if type(value) is int:
        return b"i" + str(value).encode()
    if type(value) is float:
        if not math.isfinite(value):
            raise BadParameter(f"a parameter must be a finite number, not {value!r}")
        return b"f" + (value + 0.0 if value else 0.0).hex().encode()
    if type(value) is str:
        return b"s" + value.encode("utf-8", "surrogatepass")
    raise BadParameter(f"a parameter must be bool, int, float, str or null, not {type(value).__name__}")


class Prefix:
    """The part of a key that all steps of one feature with one set of parameters share, hashed once."""

    __slots__ = ("_state",)

    def __init__(self, name: str, version: str, params: Sequence[tuple[str, Any]]) -> None:
        state = hashlib.blake2b(digest_size=_SIZE)
        state.update(
            _part(TAG) + _part(str(FORMAT).encode()) + _part(name.encode()) + _part(version.encode())
        )
        state.update(len(params).to_bytes(4, "big"))
        for param, value in sorted(params):
            state.update(_part(param.encode()) + _part(canonical_scalar(value)))
        self._state = state

    def key(self, unit: Unit, input_keys: Sequence[tuple[str, Any]]) -> str:
        """The key of the step for `unit`: 32 hex digits. `input_keys` pairs an input's name with its key or keys."""
        state = self._state.copy()
        text = [f"{len(u)}:{u}" for u in (unit.unit_id,)]
        for name, nested in input_keys:
            text.append(f"{len(name)}:{name}={_nested(nested)}")
        state.update("".join(text).encode())
        return state.hexdigest()


def _nested(nested: Any) -> str:
    return nested if isinstance(nested, str) else "[" + ",".join(map(_nested, nested)) + "]"


def prefix(name: str, version: str, params: Sequence[tuple[str, Any]]) -> Prefix:
    """Hash what the steps of one feature share."""
    return Prefix(name, version, params)


def step_key(
    name: str,
    version: str,
    params: Sequence[tuple[str, Any]],
    unit: Unit,
    input_keys: Sequence[tuple[str, Any]],
) -> str:
    """The key of one step; `prefix(...).key(...)` in one call."""
    return Prefix(name, version, params).key(unit, input_keys)
