"""A value in few words, for tables: an array by its type, shape and mean, bytes by kind and size.

Works on values from anywhere: numpy and Arrow are recognised without being imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from amber_ray.core.values.base import SAFE

LONGEST = 72
_MAGIC = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG", "PNG"), (b"RIFF", "RIFF"), (b"GIF8", "GIF"))


def summary(value: Any, longest: int = LONGEST) -> str:
    """At most `longest` characters about a value.

    >>> summary({"a": 1, "b": [1.0, 2.5]})
    'a=1, b=[1, 2.5]'
    """
    text = _text(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.split()) or "''"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes | bytearray | memoryview):
        return _of_bytes(bytes(value))
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _of_array(value)
    if hasattr(value, "num_rows") and hasattr(value, "column_names"):
        return f"table of {value.num_rows} rows: {', '.join(value.column_names)}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={_nested(v)}" for k, v in value.items()) or "{}"
    if isinstance(value, Sequence):
        return _of_list(value)
    return str(value)


def _nested(value: Any) -> str:
    text = _text(value)
    structured = isinstance(value, Mapping) or dataclasses.is_dataclass(value)
    return f"({text})" if structured else text


def _of_list(value: Sequence[Any]) -> str:
    shown = [_nested(v) for v in value[:8]]
    if len(value) > 8:
        return f"{len(value)} items: [{', '.join(shown[:3])}, …]"
    return "[" + ", ".join(shown) + "]"


def _of_bytes(value: bytes) -> str:
    kind = next((name for magic, name in _MAGIC if value.startswith(magic)), "bytes")
    return f"{kind}, {size(len(value))}"


def _of_array(value: Any) -> str:
    shape = "×".join(map(str, value.shape)) or "scalar"
    text = f"{value.dtype}[{shape}]"
    if value.size and value.dtype.name == "uint64" and int(value.max()) > SAFE:
        # Hashes: their mean says nothing, and a rounded number names none.
        return f"{text} {int(value.flat[0]):016x}" + (" …" if value.size > 1 else "")
    if value.size and value.dtype.kind in "fiu":
        low, mean, high = (float(getattr(value, name)()) for name in ("min", "mean", "max"))
        text += f" {low:.4g} … {high:.4g}, mean {mean:.4g}" if value.size > 1 else f" {mean:.6g}"
    return text


def size(count: int) -> str:
    """Bytes for people."""
    number = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
