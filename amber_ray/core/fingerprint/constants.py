"""Plain data as text: what a constant contributes to a code digest, the same in every process.

Sets and dicts are sorted, so neither the hash seed nor the order of insertion matters. What has no plain
form is told by its type's name, never by its address. Must not know: source, features.
"""

from __future__ import annotations

import enum
import hashlib
import re
import types
from collections.abc import Callable
from typing import Any

_PLAIN = (bool, int, float, complex, str, bytes, bytearray, range, slice, type(None), type(Ellipsis))
_BY_REPR = ("datetime", "decimal", "fractions", "uuid")
_ARRAY_BYTES = 64 << 20
_ITEMS = 100_000
_DEPTH = 32
_ROUTINES = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    staticmethod,
    classmethod,
)


def is_code(value: Any) -> bool:
    """Whether a value is a class or routine.

    By exact kinds: what is merely callable, such as a function that a compiler has replaced, is an object.
    """
    return isinstance(value, (type, *_ROUTINES))


class Constants:
    """Turns values into text. Functions and classes found in them are handed to `reach`, which names them.

    `root` is the folder that the code lies in; texts are taken relative to it.
    """

    def __init__(self, reach: Callable[[Any], str], root: str = "") -> None:
        self._reach = reach
        self._root = root
        self._items = 0
        self.opaque = False

    def text(self, value: Any) -> str:
        """The value's text; `opaque` then says whether something in it went by its type's name alone."""
        self._items, self.opaque = 0, False
        return self._text(value, 0)

    def _text(self, value: Any, depth: int) -> str:
        self._items += 1
        kind = type(value)
        if kind is str and self._root:
            # A path made from `__file__` differs from machine to machine, what lies there does not.
            value = value.replace(self._root, "")
        if kind in _PLAIN:
            return f"{kind.__name__}:{value!r}"
        # The depth also ends what contains itself.
        if self._items > _ITEMS or depth > _DEPTH:
            return self._type(value)
        depth += 1
        if isinstance(value, enum.Enum):
            return f"{self._reach(kind)}.{value.name}={self._text(value.value, depth)}"
        if is_code(value):
            return self._reach(value)
        if isinstance(value, (dict, types.MappingProxyType)):
            items = (f"{self._text(k, depth)}={self._text(v, depth)}" for k, v in value.items())
            return f"{kind.__name__}{_joined(sorted(items))}"
        if isinstance(value, (tuple, list)):
            return f"{kind.__name__}{_joined([self._text(v, depth) for v in value])}"
        if isinstance(value, (set, frozenset)):
            return f"{kind.__name__}{_joined(sorted(self._text(v, depth) for v in value))}"
        if isinstance(value, re.Pattern):
            return f"re({value.pattern!r},{value.flags})"
        home = kind.__module__.partition(".")[0]
        if home == "numpy" and hasattr(value, "tobytes"):
            return self._array(value, depth)
        if home in _BY_REPR:
            return f"{kind.__qualname__}:{value!r}"
        if fields := getattr(kind, "__dataclass_fields__", None):
            inner = [f"{n}={self._text(getattr(value, n, None), depth)}" for n in fields]
            return f"{self._reach(kind)}{_joined(inner)}"
        return self._type(value)

    def _array(self, value: Any, depth: int) -> str:
        head = f"array({value.dtype.str},{value.shape},"
        if value.dtype.hasobject:
            return f"{head}{self._text(value.tolist(), depth)})"
        if value.nbytes > _ARRAY_BYTES:
            self.opaque = True
            return f"{head})"
        return f"{head}{hashlib.blake2b(value.tobytes(), digest_size=16).hexdigest()})"

    def _type(self, value: Any) -> str:
        self.opaque = True
        return f"a {self._reach(type(value))}"


def _joined(parts: list[str]) -> str:
    """Each part with its length, so that no text inside one can look like the end of it."""
    return f"({','.join(f'{len(p)}:{p}' for p in parts)})"
