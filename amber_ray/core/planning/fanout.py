"""Found units: from the ranges that a finder found to the steps of each of them.

    template: caption of each range of K ──needs──→ K            before K has run
        │ inputs                                    │ its windows
    template: frames of each range of K             ↓
        └──────────────── expanded ──→ frames of [0, 2.5), caption of [0, 2.5), frames of [2.5, 4), ...

A template is a `Step` for the symbolic unit `EachRange`. Its key is a Merkle digest like any other, so it
stands for the whole list in the keys above, before anything has run. Nothing of the finder is in the keys of
the steps that come of it: the same window has the same key, whoever found it.

Must not know: what is stored, who asks.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from amber_ray.core.model.units import MICRO, Asset, EachRange, Segment
from amber_ray.core.planning import keys
from amber_ray.core.planning.plan import Nested, Step, leaves
from amber_ray.errors import FeatureError, TooLarge

Windows: TypeAlias = tuple[tuple[int, int], ...] | str
"""The ranges of a finder's value: (start, end) in microseconds, by time, each once; or why there are none."""


MOST = 1_000_000
"""Ranges of one value that are told beside it, at most; whoever finds more finds too many for any setting."""


class Expansion(NamedTuple):
    """What a template comes to: the unit and key for each window, by time, and all steps behind them."""

    units: tuple[Segment, ...]
    keys: tuple[str, ...]
    steps: dict[str, Step]


def windows_of(value: Any) -> Windows | None:
    """Return the windows of a value that is a list of ranges; None for any other value. Raises nothing.

    A range is anything with `start` and `end` in seconds, also a mapping, as one is read where its class is
    not known. An empty list finds nothing. A list of anything else costs a look at its first item.
    """
    if not isinstance(value, list):
        return None
    try:
        return _windows(value)
    except Exception:  # noqa: BLE001 - a property of somebody's class; the value is as good as before
        return None


def _windows(value: list[Any]) -> Windows | None:
    if len(value) > MOST:
        return None if _bounds(value[0])[0] is None else f"{len(value)} are more than {MOST}"
    found: set[tuple[int, int]] = set()
    for i, one in enumerate(value):
        start, end = _bounds(one)
        if start is None or end is None:
            return None
        if not (0 <= start <= end and math.isfinite(end * MICRO)):  # never so with NaN
            return f"its range number {i} is from {start:g} s to {end:g} s"
        found.add((_instant(start), _instant(end)))
    return tuple(sorted(found))


def _instant(seconds: float) -> int:
    """Return the whole microsecond at or before, give or take an error of the float.

    Rounded up, a window that begins with the picture at 2/3 s would lose it to the window before.
    """
    return math.floor(seconds * MICRO + 1e-3)


def _bounds(one: Any) -> tuple[float | None, float | None]:
    if isinstance(one, Mapping):
        start, end = one.get("start"), one.get("end")
    else:
        start, end = getattr(one, "start", None), getattr(one, "end", None)
    return (start if isinstance(start, float) else None), (end if isinstance(end, float) else None)


def segment_of(asset: Asset, start: int, end: int, grid: int) -> Segment:
    """Return the unit of a window in microseconds: the grid's segment if the window is one.

    It ends where the asset does, so what shows the same has one key; but the grid's last segment is as long
    as any, so a window that ends with the asset may be that one. A length that is no whole number of
    microseconds makes no difference. The window begins before the asset ends.
    """
    total = _length(asset)
    if total is None:
        return Segment(asset, start, end - start, found=(start, end) != (0, 0))
    assert start < total
    if end == total - 1:
        end = total
    if start % grid == 0 and (end == start + grid or (end >= total and start + grid >= total)):
        return Segment(asset, start, grid)
    return Segment(asset, start, min(end, total) - start, found=True)


def _length(asset: Asset) -> int | None:
    """Return the microseconds that an asset lasts, at least one; None if it has no length."""
    if asset.duration is None or not asset.timed:
        return None
    return max(1, round(asset.duration * MICRO))


def expand(origin: Mapping[str, Step], template: Step, windows: Windows, limit: int) -> Expansion:
    """Return the steps of a template for each window that touches the asset, and its span if it has one.

    `origin` has the template and what is under it. Raises `TooLarge` for more windows than `limit`, and
    `FeatureError` for ranges that are none; both name the finder.
    """
    each = template.unit
    assert isinstance(each, EachRange)
    if isinstance(windows, str):
        raise FeatureError(f"feature {each.finder!r} found no ranges to go on with: {windows}")
    if len(windows) > limit:
        raise TooLarge(
            f"feature {each.finder!r} found {len(windows)} ranges in this asset; "
            f"at most {limit} are gone on with (units_per_asset)"
        )
    made, length = _Instances(origin, each), _length(each.asset)
    units: dict[str, Segment] = {}
    for start, end in windows:
        if start == end and length is not None:
            raise FeatureError(f"feature {each.finder!r} found a range of no length at {start / MICRO:g} s")
        if each.span_us is not None and not (start < each.span_us[1] and end > each.span_us[0]):
            continue
        if length is not None and start >= length:
            continue
        unit = segment_of(each.asset, start, end, each.grid_us)
        units[made.step(template, unit).key] = unit
    return Expansion(tuple(units.values()), tuple(units), made.steps)


def under(steps: Mapping[str, Step], template: str) -> list[str]:
    """Return the keys of the templates that a template is made of, directly or not: each once."""
    found: dict[str, None] = {}
    stack = [template]
    while stack:
        below = [
            key for key in leaves(steps[stack.pop()].inputs) if steps[key].is_template and key not in found
        ]
        found.update(dict.fromkeys(below))
        stack.extend(below)
    return list(found)


class _Instances:
    """Steps of templates for windows, each made once."""

    def __init__(self, origin: Mapping[str, Step], each: EachRange) -> None:
        self._origin = origin
        self._key = each.key
        self._prefixes: dict[str, keys.Prefix] = {}
        self._made: dict[tuple[str, int, int], Step] = {}
        self.steps: dict[str, Step] = {}

    def step(self, template: Step, unit: Segment) -> Step:
        """Return the step of a template for a window. Recurses as deep as the feature graph."""
        name = template.key, unit.start_us, unit.length_us
        made = self._made.get(name)
        if made is None:
            inputs = tuple(self._input(nested, unit) for nested in template.inputs)
            key = self._prefix(template).key(unit, tuple(zip(template.recipe.inputs, inputs, strict=True)))
            needs = tuple(dict.fromkeys(inputs))
            made = Step(
                key, template.recipe, unit, unit.unit_id, inputs, template.level, template.home, needs
            )
            self._made[name] = self.steps[key] = made
        return made

    def _input(self, nested: Nested, unit: Segment) -> str:
        assert isinstance(nested, str)  # a window gathers nothing
        below = self._origin[nested]
        return self.step(below, unit).key if isinstance(below.unit, EachRange) else nested

    def _prefix(self, template: Step) -> keys.Prefix:
        found = self._prefixes.get(template.key)
        if found is None:
            recipe = template.recipe
            found = keys.prefix(recipe.feature, recipe.version, (*recipe.model, *recipe.params))
            self._prefixes[template.key] = found
        return found


class Opening:
    """A step that gathers templates, while not all of them have come to keys.

    A collection gathers thousands, each of which may be opened by itself: only its `needs` are kept up to
    date meanwhile, and the step with all keys is made once.
    """

    def __init__(self, step: Step, plan: Mapping[str, Step]) -> None:
        self.needs: dict[str, None] = dict.fromkeys(step.needs)
        self._closed = {need for need in step.needs if plan[need].is_template}
        self._found: dict[str, tuple[str, ...]] = {}

    def open(self, template: str, found: Sequence[str]) -> bool:
        """Put the keys of its list in the place of a template; return whether it was the last one."""
        del self.needs[template]
        self.needs.update(dict.fromkeys(found))
        self._found[template] = tuple(found)
        self._closed.discard(template)
        return not self._closed

    def widened(self, step: Step) -> Step:
        """Return the step with the keys of each list in its place."""
        return widened(step, self._found)

    def copied(self) -> Opening:
        """Return one that goes on by itself."""
        made = copy.copy(self)
        made.needs, made._closed, made._found = dict(self.needs), set(self._closed), dict(self._found)
        return made


def widened(step: Step, found: Mapping[str, tuple[str, ...]]) -> Step:
    """Return a step that gathers these templates, with the keys of each one's list in its place."""
    inputs = tuple(_in_place(nested, found) for nested in step.inputs)
    needs: dict[str, None] = {}
    for need in step.needs:
        needs.update(dict.fromkeys(found.get(need, (need,))))
    return dataclasses.replace(step, inputs=inputs, needs=tuple(needs))


def _in_place(nested: Nested, found: Mapping[str, tuple[str, ...]]) -> Nested:
    if isinstance(nested, str):
        return found.get(nested, nested)
    return tuple(_in_place(part, found) for part in nested)


class Widened(Mapping[str, Step]):
    """A plan with the steps over it that came of its templates; widened steps are found as they are now."""

    def __init__(self, plan: Mapping[str, Step]) -> None:
        self._plan = plan
        self._own: dict[str, Step] = {}

    @classmethod
    def over(cls, plan: Mapping[str, Step]) -> Widened:
        """Return the plan itself if it can take more steps already."""
        return plan if isinstance(plan, cls) else cls(plan)

    def add(self, steps: Mapping[str, Step]) -> None:
        """Put steps over the plan; inputs come before their users."""
        self._own.update(steps)

    def replace(self, step: Step) -> None:
        """Put a step in the place of an earlier form of it."""
        self._own.pop(step.key, None)
        self._own[step.key] = step

    def __getitem__(self, key: str) -> Step:
        own = self._own.get(key)
        return self._plan[key] if own is None else own

    def __iter__(self) -> Iterator[str]:
        yield from (key for key in self._plan if key not in self._own)
        yield from self._own

    def __len__(self) -> int:
        return len(self._own) + sum(key not in self._own for key in self._plan)
