"""How large a value is, in bytes, told without copying or encoding it.

Caches, batches and the choice between the event loop and a thread go by it. It is exact for arrays, tables,
bytes and text in ASCII. A long list is judged by a sample of its items, so the cost is bounded by a value's
shape and not by its length. Must not know: what a value is of, Arrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SCALAR = 8
"""Bytes that a number, None, or anything without a size of its own counts for."""
SAMPLE = 16
"""Items of a list or mapping that are looked at."""


def size_of(value: Any) -> int:
    """Return about how many bytes a value holds."""
    if isinstance(value, (bytes, bytearray, str)):
        return len(value)
    size = getattr(value, "nbytes", None)
    if size is not None:
        return int(size)
    if isinstance(value, Mapping):
        return _sampled(list(value)) + _sampled(list(value.values()))
    if isinstance(value, (list, tuple)):
        return _sampled(value)
    fields: Iterable[str] | None = getattr(value, "__dataclass_fields__", None)
    return SCALAR if fields is None else sum(size_of(getattr(value, name)) for name in fields)


def _sampled(items: Sequence[Any]) -> int:
    """The size of the items together; of many, some that lie evenly among them stand for all."""
    if len(items) <= SAMPLE:
        return sum(map(size_of, items))
    sample = items[:: len(items) // SAMPLE]
    return round(sum(map(size_of, sample)) * len(items) / len(sample))
