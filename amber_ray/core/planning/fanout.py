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
import itertools
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
    not known. An empty list finds nothing. A list of anything else costs a look at its first item. A range
    that begins and ends within one microsecond is left out: the windows beside it meet there. One that ends
    where it begins stays, and is a mistake in whatever has a length.
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
        window = _instant(start), _instant(end)
        # Else it is shorter than time is told: nothing is seen in it.
        if window[0] < window[1] or start == end:
            found.add(window)
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
    return _segment(asset, _length(asset), start, end, grid)


def _segment(asset: Asset, total: int | None, start: int, end: int, grid: int) -> Segment:
    """`segment_of` an asset of this length."""
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
    whole = Unrolling(origin, template, windows, limit)
    whole.go_on()
    return whole.expansion()


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


class Unrolling:
    """A template on its way to the steps of its windows, so many at a time as its owner likes.

    A hundred thousand windows take the better part of a second, in which nobody else would be heard. Nothing
    comes of an unrolling that is given up, so it may be, at any time. `windows`: those that it was begun
    with. Raises like `expand`, at its beginning and at each window.
    """

    def __init__(self, origin: Mapping[str, Step], template: Step, windows: Windows, limit: int) -> None:
        each = template.unit
        assert isinstance(each, EachRange)
        if isinstance(windows, str):
            raise FeatureError(f"feature {each.finder!r} found no ranges to go on with: {windows}")
        if len(windows) > limit:
            raise TooLarge(
                f"feature {each.finder!r} found {len(windows)} ranges in this asset; "
                f"at most {limit} are gone on with (units_per_asset)"
            )
        self.windows = windows
        self._each = each
        self._length = _length(each.asset)
        self._make = _Maker(origin, template.key)
        self._next = 0
        self._units: dict[str, Segment] = {}

    @property
    def left(self) -> int:
        """How many windows it has yet to come to."""
        return len(self.windows) - self._next

    def go_on(self, steps: float = math.inf) -> int:
        """Come to so many steps more, or to the last window; return how many steps those were."""
        each, length, make, units = self._each, self._length, self._make, self._units
        before = len(make.steps)
        windows = itertools.islice(self.windows, self._next, None)
        for start, end in windows:
            self._next += 1
            if start == end and length is not None:
                raise FeatureError(
                    f"feature {each.finder!r} found a range of no length at {start / MICRO:g} s"
                )
            if each.span_us is not None and not (start < each.span_us[1] and end > each.span_us[0]):
                continue
            if length is not None and start >= length:
                continue
            unit = _segment(each.asset, length, start, end, each.grid_us)
            units[make(unit)] = unit
            if len(make.steps) - before >= steps:
                break
        return len(make.steps) - before

    def expansion(self) -> Expansion:
        """Return what it came to; no window is left."""
        assert not self.left
        return Expansion(tuple(self._units.values()), tuple(self._units), self._make.steps)


class _Maker:
    """Makes the steps of templates for windows, each once. Calling it returns the topmost one's key.

    What the steps of a template share is looked up once: it is called a hundred thousand times.
    """

    def __init__(self, origin: Mapping[str, Step], template: str) -> None:
        self._templates = _inputs_first(origin, template)
        self._made: dict[tuple[int, int], str] = {}
        self.steps: dict[str, Step] = {}

    def __call__(self, unit: Segment) -> str:
        window = unit.start_us, unit.length_us
        known = self._made.get(window)
        if known is not None:
            return known
        unit_id = unit.unit_id
        keys_of: dict[str, str] = {}  # by the template's
        key = ""
        for template, prefix, takes in self._templates:
            pairs = [(name, keys_of.get(below, below)) for name, below in takes]
            key = keys_of[template.key] = prefix.of(unit_id, pairs)
            inputs = tuple([below for _, below in pairs])
            needs = tuple(dict.fromkeys(inputs)) if len(inputs) > 1 else inputs
            self.steps[key] = Step(
                key, template.recipe, unit, unit_id, inputs, template.level, template.home, needs
            )
        self._made[window] = key
        return key


_Takes: TypeAlias = list[tuple[str, str]]
"""(input, key) of each input of a template: another template's key, or a step's."""


def _inputs_first(origin: Mapping[str, Step], template: str) -> list[tuple[Step, keys.Prefix, _Takes]]:
    """Return a template and those under it, inputs before their users, with what their keys begin with."""
    templates = [origin[key] for key in (template, *under(origin, template))]
    return [(step, _prefix(step), _takes(step)) for step in sorted(templates, key=lambda s: s.level)]


def _prefix(template: Step) -> keys.Prefix:
    recipe = template.recipe
    return keys.prefix(recipe.feature, recipe.version, (*recipe.model, *recipe.params))


def _takes(template: Step) -> _Takes:
    takes: _Takes = []
    for name, nested in zip(template.recipe.inputs, template.inputs, strict=True):
        assert isinstance(nested, str)  # a window gathers nothing
        takes.append((name, nested))
    return takes


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
