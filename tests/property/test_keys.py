"""Two steps have one key if, and only if, they are the same step."""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from amber_ray.core.declare.feature import feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.units import Asset, Collection, Segment, Unit
from amber_ray.core.planning.fanout import Expansion, expand, widened, windows_of
from amber_ray.core.planning.keys import prefix, step_key
from amber_ray.core.planning.plan import Plan, Planner
from amber_ray.errors import FeatureError, TooLarge

ids = st.sampled_from([f"{i:032x}" for i in range(4)])
assets = st.builds(lambda i, uri: Asset(i, uri, "video/mp4", 1), ids, st.text(max_size=3))
units = st.one_of(
    assets,
    st.builds(Segment, assets, st.integers(0, 3), st.integers(0, 3)),
    st.lists(assets, min_size=1, max_size=3).map(Collection.of),
)
# Few letters, and those of the encoding itself, so that parts can be taken for one another.
texts = st.text("1:=[],a@+{}", max_size=5)
names = st.text("ab1_", min_size=1, max_size=3)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([-1.0, -0.0, 0.0, 1.0, 0.5, 2.0]), texts
)
params = st.dictionaries(texts, scalars, max_size=3)
keys = ids
nested = st.one_of(
    keys,
    st.lists(keys, max_size=3).map(tuple),
    st.lists(st.lists(keys, max_size=2).map(tuple), max_size=2).map(tuple),
)
inputs = st.lists(st.tuples(names, nested), max_size=3, unique_by=lambda pair: pair[0])
steps = st.tuples(names, names, params, units, inputs)
Step = tuple[str, str, dict[str, Any], Unit, list[tuple[str, Any]]]


def meaning(step: Step) -> Any:
    """What a key is about, compared with types: 1, 1.0 and True differ, -0.0 and 0.0 do not."""
    name, version, given, unit, above = step
    values = sorted(
        (p, type(v).__name__, repr(v + 0.0) if isinstance(v, float) else repr(v)) for p, v in given.items()
    )
    return name, version, values, type(unit).__name__, unit.unit_id, above


def key(step: Step) -> str:
    name, version, given, unit, above = step
    return step_key(name, version, list(given.items()), unit, above)


@given(steps, steps)
def test_keys_are_equal_exactly_when_steps_are(one: Step, other: Step) -> None:
    assert (key(one) == key(other)) == (meaning(one) == meaning(other))


@given(st.data(), steps)
def test_one_change_changes_the_key(data: st.DataObject, step: Step) -> None:
    place = data.draw(st.integers(0, 4))
    part = data.draw([names, names, params, units, inputs][place])  # type: ignore[index]
    changed: Any = (*step[:place], part, *step[place + 1 :])
    assert (key(step) == key(changed)) == (meaning(step) == meaning(changed))


@given(steps, st.randoms(use_true_random=False))
def test_the_order_of_parameters_does_not_matter(step: Step, random: random.Random) -> None:
    name, version, given, unit, above = step
    items = list(given.items())
    random.shuffle(items)
    assert step_key(name, version, items, unit, above) == key(step)


@given(st.lists(assets, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_a_collection_does_not_matter(many: list[Asset], random: random.Random) -> None:
    turned = [*many, many[0]]
    random.shuffle(turned)
    one, other = Collection.of(many), Collection.of(turned)
    assert step_key("f", "1", (), one, ()) == step_key("f", "1", (), other, ())


@given(steps)
def test_a_prefix_makes_the_same_keys(step: Step) -> None:
    name, version, given, unit, above = step
    shared = prefix(name, version, list(given.items()))
    assert shared.key(unit, above) == key(step)
    assert shared.key(unit, above) == key(step)


@given(st.integers(-(2**53), 2**53))
def test_a_whole_float_is_not_an_int(number: int) -> None:
    asset = Asset("a", "u", "video/mp4", 1)
    assert step_key("f", "1", [("p", number)], asset, ()) != step_key(
        "f", "1", [("p", float(number))], asset, ()
    )


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_floats_have_one_key_each(one: float, other: float) -> None:
    asset = Asset("a", "u", "video/mp4", 1)
    same = step_key("f", "1", [("p", one)], asset, ()) == step_key("f", "1", [("p", other)], asset, ())
    assert same == (one == other)


# --- found units

FILM = Asset("f" * 32, "u", "video/mp4", 1, 60.0)
MICRO = 1_000_000
ranges = st.lists(
    st.tuples(st.integers(0, 59), st.integers(1, 20)).map(lambda r: (float(r[0]), float(r[0] + r[1]))),
    max_size=6,
)


@dataclass
class Range:
    start: float
    end: float


@feature(version="1")
def cuts(asset: Asset, threshold: float = 0.5) -> list[Range]: ...


@feature(version="1")
def talk(asset: Asset) -> list[Range]: ...


@feature(version="1")
def look(clip: Segment, size: int = 1) -> int: ...


@feature(version="1", per="cuts")
def light(look: int) -> int: ...


@feature(version="1", per="talk")
def loud(look: int) -> int: ...


@feature(version="1", per="cuts")
def pair(light: int, cuts: list[Range]) -> int: ...


@feature(version="1")
def film(light: list[int]) -> int: ...


@feature(version="1", per="collection")
def reel(pair: list[list[int]]) -> int: ...


SPECS = [f.__amber__ for f in (cuts, talk, look, light, loud, pair, film, reel)]  # type: ignore[attr-defined]
REGISTRY = Registry(SPECS)


def planned(name: str, registry: Registry = REGISTRY, **params: Any) -> Plan:
    planner = Planner(
        registry,
        features=[name],
        params={n.replace("_", "."): v for n, v in params.items()},
        segment_seconds=10.0,
    )
    planner.add_asset(FILM)
    planner.add_collection([FILM])
    return planner.plan()


def expanded(
    name: str, found: list[tuple[float, float]], registry: Registry = REGISTRY, **params: Any
) -> Expansion:
    plan = planned(name, registry, **params)
    windows = windows_of([Range(a, b) for a, b in found])
    assert windows is not None
    return expand(plan.steps, plan.steps[plan.targets[0].key], windows, 1000)


@given(ranges, st.randoms(use_true_random=False))
def test_the_order_and_repetition_of_ranges_change_nothing(
    found: list[tuple[float, float]], random: random.Random
) -> None:
    turned = [*found, *found[:2]]
    random.shuffle(turned)
    assert expanded("light", found).keys == expanded("light", turned).keys
    assert list(expanded("light", found).steps) == list(expanded("light", turned).steps)


@given(ranges, ranges)
def test_equal_windows_of_two_finders_are_one_step(
    one: list[tuple[float, float]], other: list[tuple[float, float]]
) -> None:
    def of_look(name: str, found: list[tuple[float, float]]) -> dict[str, Unit]:
        steps = expanded(name, found).steps
        return {key: step.unit for key, step in steps.items() if step.recipe.feature == "look"}

    mine, theirs = of_look("light", one), of_look("loud", other)
    assert {key for key in mine if key in theirs} == {k for k, u in mine.items() if u in theirs.values()}
    grid = {step.key for step in planned("look").steps.values()}
    segments = {(t.unit.start_us, t.unit.length_us) for t in planned("look").targets}  # type: ignore[union-attr]
    for key, unit in mine.items():
        window = unit.start_us, unit.length_us  # type: ignore[union-attr]
        assert (key in grid) == (window in segments) == (not unit.found)  # type: ignore[union-attr]


@given(ranges, st.floats(0, 1), st.integers(0, 3))
def test_units_do_not_depend_on_their_finder_and_what_gathers_them_does(
    found: list[tuple[float, float]], threshold: float, size: int
) -> None:
    usual, moved = planned("film"), planned("film", cuts_threshold=threshold, look_size=size)
    same = (threshold, size) == (0.5, 1)
    assert (usual.targets[-1].key == moved.targets[-1].key) == same
    assert expanded("light", found).keys == expanded("light", found, cuts_threshold=threshold).keys
    other = expanded("light", found, look_size=size).keys
    assert (other == expanded("light", found).keys) == (size == 1 or not found)


@pytest.mark.parametrize("changed", [spec.name for spec in SPECS])
@given(ranges)
def test_keys_change_exactly_with_what_they_are_made_from(
    changed: str, found: list[tuple[float, float]]
) -> None:
    """Those above a fan-out are known before it, and name its finder; those of its units do not."""
    other = Registry([dataclasses.replace(s, version="2") if s.name == changed else s for s in SPECS])
    for spec in SPECS:
        below = {one.name for one in REGISTRY.ancestors(spec.name)}
        same = planned(spec.name).targets[-1].key == planned(spec.name, other).targets[-1].key
        assert same == (changed not in below), spec.name
    for name in ("light", "loud", "pair"):
        below = {one.name for one in REGISTRY.sources(name)}
        same = expanded(name, found).keys == expanded(name, found, other).keys
        assert same == (changed not in below or not found), name


@given(ranges)
def test_what_gathers_units_has_the_same_key_before_and_after_they_are_known(
    found: list[tuple[float, float]],
) -> None:
    plan = planned("film")
    step = plan.steps[plan.targets[-1].key]
    [template] = step.needs
    units = expanded("light", found)
    assert plan.steps[template].unit == planned("light").targets[0].unit
    wide = widened(step, {template: units.keys})
    assert wide.key == step.key
    assert wide.inputs == (units.keys,)
    assert set(wide.needs) == set(units.keys)


# Whatever floats a feature can return: NaN, infinities, negative ones, those that are nearly the same.
seconds = st.one_of(
    st.floats(),
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 60.0]),
    st.floats(-1.0, 70.0),
    st.builds(lambda n, e: n / 3 + e, st.integers(0, 200), st.sampled_from([0.0, 1e-12, -1e-12, 1e-7])),
)


@given(st.lists(st.tuples(seconds, seconds), max_size=8), st.randoms(use_true_random=False))
def test_ranges_of_any_floats_are_windows_or_a_sentence(
    found: list[tuple[float, float]], random: random.Random
) -> None:
    windows = windows_of([Range(a, b) for a, b in found])
    if isinstance(windows, str):
        assert any(not (0 <= a <= b) or not math.isfinite(b * MICRO) for a, b in found)
        number = int(windows.split()[3])
        assert windows.startswith(f"its range number {number} is from {found[number][0]:g} s to ")
        return
    assert windows is not None
    assert list(windows) == sorted(set(windows))
    assert all(type(a) is type(b) is int and 0 <= a <= b for a, b in windows)
    turned = [*found, *found[:2]]
    random.shuffle(turned)
    assert windows_of([{"start": a, "end": b} for a, b in turned]) == windows
    # No further from what was found than a float is exact and a microsecond is long.
    for a, b in found:
        near = [w for w in windows if _near(w[0], a) and _near(w[1], b)]
        assert near, (a, b)


def _near(us: int, at: float) -> bool:
    return -1.1 - abs(at * MICRO) * 1e-15 <= us - at * MICRO <= 0.1 + abs(at * MICRO) * 1e-15


inside = st.one_of(
    st.floats(0.0, 70.0), st.integers(0, 70).map(float), st.integers(0, 200).map(lambda n: n / 3 + 1e-12)
)


@given(
    st.one_of(
        st.lists(st.tuples(seconds, seconds), max_size=8),
        st.lists(st.tuples(inside, inside).map(sorted).map(tuple), min_size=1, max_size=6),
    ),
    st.sampled_from([10.0, 60.0, 0.25]),
)
def test_what_is_made_of_any_windows_lies_within_the_asset_and_is_made_once(
    found: list[tuple[float, float]], grid: float
) -> None:
    windows = windows_of([Range(a, b) for a, b in found])
    assume(windows is not None)
    assert windows is not None
    planner = Planner(REGISTRY, features=["pair"], params={}, segment_seconds=grid)
    planner.add_asset(FILM)
    plan = planner.plan()
    template = plan.steps[plan.targets[0].key]
    if isinstance(windows, str) or any(a == b for a, b in windows[:5]) or len(windows) > 5:
        with pytest.raises((FeatureError, TooLarge), match=r"^feature 'cuts' found "):
            expand(plan.steps, template, windows, 5)
        return
    made = expand(plan.steps, template, windows, 5)
    assert len(set(made.keys)) == len(made.keys) == len(made.units)
    segments = {(t.unit.start_us, t.unit.length_us) for t in _grid(grid).targets}  # type: ignore[union-attr]
    for unit in made.units:
        assert 0 <= unit.start_us < 60 * MICRO
        assert unit.length_us > 0
        assert not unit.found or unit.start_us + unit.length_us <= 60 * MICRO
        assert unit.found == ((unit.start_us, unit.length_us) not in segments)
    assert [u.start_us for u in made.units] == sorted(u.start_us for u in made.units)
    touching = [(a, b) for a, b in windows if a < 60 * MICRO]
    assert len({(u.start_us, u.length_us) for u in made.units}) == len(made.units) <= len(touching)
    assert bool(made.units) == bool(touching)


def _grid(seconds: float) -> Plan:
    planner = Planner(REGISTRY, features=["look"], params={}, segment_seconds=seconds)
    planner.add_asset(FILM)
    return planner.plan()
