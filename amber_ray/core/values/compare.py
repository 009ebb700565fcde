"""How much two values of a feature differ, each in the way of its type.

    numbers           the difference, and its share of the larger one
    arrays            shapes, the largest difference of an element, the cosine
    ranges            lists of what has a start and an end: the share of time that both cover
    text              the share of characters in common
    bytes, tables     equal or not, and by how many bytes the sizes differ
    dataclasses       each field by its own type

A value that was read without its feature's code is a dict where a dataclass was written; both compare alike.

Must not know: features, where values are from.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TEXT = 4_000
"""Characters of each text that are compared one by one, which takes time by the square: some 0.2 s for texts
in a language. Longer ones are compared by their words."""
BETTER_HIGH = frozenset({"cosine", "overlap", "similarity"})
"""Measures of which less is worse."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How two values differ.

    `distance` is 0 for equal values and at most 1. `measures` are by name, those of a field as `field.name`.
    """

    distance: float
    measures: Mapping[str, float] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether the two are the same value."""
        return not self.distance


EQUAL = Difference(0.0)
_OTHER = Difference(1.0)


def compare(old: Any, new: Any) -> Difference:
    """Return how two values differ.

    >>> compare(2.0, 1.0)
    Difference(distance=0.5, measures={'abs': 1.0})
    """
    old, new = _plain(old), _plain(new)
    if _is_number(old) and _is_number(new):
        return _numbers(old, new)
    if _is_array(old) and _is_array(new):
        return _arrays(old, new)
    if isinstance(old, str) and isinstance(new, str):
        return _texts(old, new)
    if isinstance(old, bytes) and isinstance(new, bytes):
        return EQUAL if old == new else Difference(1.0, {"bytes": float(abs(len(old) - len(new)))})
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return _fields(old, new)
    if isinstance(old, list) and isinstance(new, list):
        return _lists(old, new)
    if type(old) is type(new) and hasattr(old, "equals"):
        return EQUAL if old.equals(new) else Difference(1.0, {"rows": float(abs(len(old) - len(new)))})
    return EQUAL if old is None and new is None else _OTHER


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return list(value) if isinstance(value, tuple) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _numbers(old: float, new: float) -> Difference:
    if old == new or (old != old and new != new):
        return EQUAL
    apart = abs(old - new)
    if not math.isfinite(apart):
        return Difference(1.0, {"abs": math.inf})
    return Difference(min(1.0, apart / max(abs(old), abs(new))), {"abs": float(apart)})


def _arrays(old: Any, new: Any) -> Difference:
    import numpy as np

    if old.shape != new.shape:
        return Difference(1.0, {"shape": 1.0})
    if old.dtype.kind not in "biuf" or new.dtype.kind not in "biuf":
        return EQUAL if np.array_equal(old, new) else _OTHER
    if np.array_equal(old, new, equal_nan=old.dtype.kind == new.dtype.kind == "f"):
        return EQUAL
    a, b = old.astype(np.float64).ravel(), new.astype(np.float64).ravel()
    both = np.isfinite(a) & np.isfinite(b)
    same = both | (a == b) | (np.isnan(a) & np.isnan(b))
    a, b = a[both], b[both]
    apart = np.abs(a - b)
    sizes = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    measures = {"abs": float(apart.max(initial=0.0)) if same.all() else math.inf}
    if all(sizes):
        measures["cosine"] = float(np.clip(a @ b / (sizes[0] * sizes[1]), -1.0, 1.0))
    distance = float(np.linalg.norm(apart)) / (max(sizes) or 1.0) if same.all() else 1.0
    return Difference(min(1.0, max(distance, 1e-9)), measures)


def _texts(old: str, new: str) -> Difference:
    if old == new:
        return EQUAL
    if max(len(old), len(new)) <= TEXT:
        ratio = difflib.SequenceMatcher(None, old, new, autojunk=False).ratio()
    else:
        ratio = difflib.SequenceMatcher(None, old.split(), new.split()).ratio()
    return Difference(max(1.0 - ratio, 1e-9), {"similarity": ratio})


def _fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    distance = 0.0 if old.keys() == new.keys() else 1.0
    measures: dict[str, float] = {}
    for name in (name for name in old if name in new):
        one = compare(old[name], new[name])
        distance = max(distance, one.distance)
        measures.update((f"{name}.{measure}", value) for measure, value in one.measures.items())
    return Difference(distance, measures)


def _lists(old: Sequence[Any], new: Sequence[Any]) -> Difference:
    old, new = [_plain(item) for item in old], [_plain(item) for item in new]
    if (old or new) and all(map(_is_range, (*old, *new))):
        return _ranges(old, new)
    if len(old) != len(new):
        return Difference(1.0, {"length": float(abs(len(old) - len(new)))})
    if old and all(map(_is_number, (*old, *new))):
        import numpy as np

        return _arrays(np.asarray(old, np.float64), np.asarray(new, np.float64))
    distance = 0.0
    measures: dict[str, float] = {}
    for a, b in zip(old, new, strict=True):
        one = compare(a, b)
        distance = max(distance, one.distance)
        for name, value in one.measures.items():
            measures[name] = worse(name, value, measures.get(name, value))
    return Difference(distance, measures)


def worse(measure: str, one: float, other: float) -> float:
    """Return the worse one of two values of a measure."""
    return min(one, other) if measure.rpartition(".")[2] in BETTER_HIGH else max(one, other)


def _is_range(item: Any) -> bool:
    return isinstance(item, Mapping) and _is_number(item.get("start")) and _is_number(item.get("end"))


def _ranges(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Difference:
    count = float(abs(len(old) - len(new)))
    if not count and all(compare(dict(a), dict(b)).equal for a, b in zip(old, new, strict=True)):
        return EQUAL
    either = _covered([*old, *new])
    shared = _covered(old) + _covered(new) - either
    overlap = shared / either if either else float(not count)
    measures = {"overlap": overlap, "count": count}
    if not count:
        pairs = [(a[edge], b[edge]) for a, b in zip(old, new, strict=True) for edge in ("start", "end")]
        measures["edge"] = max(abs(float(a) - float(b)) for a, b in pairs)
    # The same time may be cut, or named, in another way.
    return Difference(min(1.0, max(1.0 - overlap, count / max(len(old), len(new)), 1e-9)), measures)


def _covered(ranges: Sequence[Mapping[str, Any]]) -> float:
    """Return the seconds that are in at least one of the ranges."""
    total, reached = 0.0, -math.inf
    for start, end in sorted((float(r["start"]), float(r["end"])) for r in ranges):
        if end > max(start, reached):
            total += end - max(start, reached)
            reached = max(reached, end)
    return total
