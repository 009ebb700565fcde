"""Found units: templates, the keys above them, and the steps that come of them."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import pytest

from amber_ray.core.declare.feature import feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.model.kept import Kept, KeptRow
from amber_ray.core.model.request import Failure
from amber_ray.core.model.unit_codec import unit_from_json, unit_to_json
from amber_ray.core.model.units import Asset, Clip, Collection, EachRange, Segment
from amber_ray.core.planning.fanout import Widened, expand, segment_of, widened, windows_of
from amber_ray.core.planning.homes import home_of
from amber_ray.core.planning.plan import Plan, Planner, closure
from amber_ray.core.state import events as ev
from amber_ray.errors import BadRequest, FeatureError, TooLarge
from amber_ray.fabric.transport.messages import PlanPart
from amber_ray.settings import Settings

MICRO = 1_000_000


@dataclass
class Shot:
    start: float
    end: float


@feature(version="1")
def cuts(asset: Asset, threshold: float = 0.5) -> list[Shot]: ...


@feature(version="1")
def talk(asset: Asset) -> list[Shot]: ...


@feature(version="1")
def probe(asset: Asset) -> int: ...


@feature(version="1", store="never")
def frames(clip: Clip, fps: float = 2.0) -> int: ...


@feature(version="1", per="cuts")
def light(frames: int, probe: int) -> int: ...


@feature(version="1", per="cuts")
def tone(light: int, frames: int) -> int: ...


@feature(version="1", per="talk")
def loud(frames: int, probe: int) -> int: ...


@feature(version="1")
def film(tone: list[int], probe: int) -> int: ...


@feature(version="1", per="collection")
def match(tone: list[list[int]]) -> int: ...


REGISTRY = Registry([f.__amber__ for f in (cuts, talk, probe, frames, light, tone, loud, film, match)])  # type: ignore[attr-defined]
FOUND = ((0, 2 * MICRO), (2 * MICRO, 7 * MICRO))


def video(name: str = "a", seconds: float = 30.0) -> Asset:
    return Asset(name * 32, f"file:///{name}.mp4", "video/mp4", 1, seconds)


def plan(*features: str, assets: tuple[Asset, ...] = (video(),), span: Any = None, **changes: Any) -> Plan:
    made = Planner(REGISTRY, **{"features": features, "params": {}, "segment_seconds": 10.0, **changes})
    for one in assets:
        made.add_asset(one, span)
    made.add_collection(assets)
    return made.plan()


def names(steps: Any) -> list[str]:
    return [f"{s.recipe.feature}@{s.unit_id[32:]}" for s in steps.values()]


def test_a_plan_has_what_is_per_range_once_under_its_finder() -> None:
    made = plan("tone")
    [target] = made.targets
    assert isinstance(target.unit, EachRange)
    [finder] = [key for key, step in made.steps.items() if step.recipe.feature == "cuts"]
    assert (target.unit.finder, target.unit.key) == ("cuts", finder)
    each = f"@each:{finder}"
    assert names(made.steps) == ["cuts@", f"frames@{each}", "probe@", f"light@{each}", f"tone@{each}"]
    step = made.steps[target.key]
    assert step.is_template
    assert step.needs == (finder,)  # whatever is under it may not be needed
    assert closure(made.steps, [target.key]) == made.steps
    assert step.home == home_of(video(), 1)


def test_golden_keys_of_templates_and_what_gathers_them() -> None:
    # If one of these changes, no stored value is found again: raise FORMAT, and say so in the changelog.
    made = plan("light", "film", "match")
    assert {t.feature: t.key for t in made.targets} == GOLDEN
    steps = expand(made.steps, made.steps[GOLDEN["light"]], FOUND, 9).steps.values()
    assert {f"{s.recipe.feature} {s.unit_id[32:]}": s.key for s in steps} == GOLDEN_UNITS


GOLDEN_UNITS = {
    "frames @0+2000000": "349f18ad5fb758036c9c04d2e2305c08",
    "light @0+2000000": "6d4ef62c7707746da67957453e2acff8",
    "frames @2000000+5000000": "e1e12eb5b3dcfa7f96de40f3dde84e66",
    "light @2000000+5000000": "bd832747e405d2f5b51c4063155e70ff",
}
GOLDEN = {
    "light": "af2436c7478c0075a0ece702257c8884",
    "film": "08a4ed8b9c92d4699271a2082ebdf773",
    "match": "90c06fc70f8c505839f6b0fbc0d97e86",
}


def test_a_template_is_expanded_into_the_steps_of_each_window() -> None:
    made = plan("tone")
    template = made.steps[made.targets[0].key]
    found = expand(made.steps, template, FOUND, 10)
    assert found.units == (
        Segment(video(), 0, 2 * MICRO, found=True),
        Segment(video(), 2 * MICRO, 5 * MICRO, found=True),
    )
    assert [u.found for u in found.units] == [True, True]
    assert names(found.steps) == [
        *("frames@@0+2000000", "light@@0+2000000", "tone@@0+2000000"),
        *("frames@@2000000+5000000", "light@@2000000+5000000", "tone@@2000000+5000000"),
    ]
    both = {**made.steps, **found.steps}
    top = both[found.keys[0]]
    assert [both[need].recipe.feature for need in top.needs] == ["light", "frames"]
    below = both[top.needs[0]]
    assert [both[need].unit_id for need in below.needs] == [top.unit_id, video().id]
    assert top.level > below.level > both[below.needs[0]].level
    assert {s.unit for s in found.steps.values()} == set(found.units)


def test_windows_of_the_grid_are_the_grid_s_segments() -> None:
    film, grid = video(seconds=25.0), 10 * MICRO
    assert segment_of(film, 0, grid, grid) == Segment(film, 0, grid)
    assert not segment_of(film, 0, grid, grid).found
    last = segment_of(film, 20 * MICRO, 25 * MICRO, grid)
    assert (last, last.found) == (Segment(film, 20 * MICRO, grid), False)  # cut at the end, as the grid's is
    assert segment_of(film, 20 * MICRO, 26 * MICRO, grid) == last
    assert segment_of(film, 20 * MICRO, 24 * MICRO, grid).found
    assert segment_of(film, 10 * MICRO, 25 * MICRO, grid).found
    still = replace(film, duration=None)
    assert not segment_of(still, 0, 0, grid).found


def test_a_window_ends_with_the_film_and_one_past_its_end_is_left_out() -> None:
    def found(*windows: tuple[int, int], seconds: float = 30.0) -> list[tuple[int, int, bool]]:
        made = plan("light", assets=(video(seconds=seconds),))
        us = tuple((start * MICRO, end * MICRO) for start, end in windows)
        units = expand(made.steps, made.steps[made.targets[0].key], us, 9).units
        return [(u.start_us // MICRO, u.length_us // MICRO, u.found) for u in units]

    assert found((28, 30), (28, 35), (28, 40)) == [(28, 2, True)]
    assert found((28, 35), seconds=29.9999999) == [(28, 2, True)]  # durations are in whole microseconds
    almost = (28 * MICRO, 30 * MICRO - 1)  # the end of a film that lasts 29.9999999 s
    assert segment_of(video(seconds=29.9999999), *almost, 10 * MICRO).length_us == 2 * MICRO
    assert found((15, 40)) == [(15, 15, True)]
    assert found((20, 30), (20, 40)) == [(20, 10, False)]
    assert found((20, 30), (20, 25), seconds=25.0) == [(20, 10, False)]  # the grid's last is as long as any
    assert found((0, 10), (30, 40), (30, 31), (40, 50)) == [(0, 10, False)]
    assert found((40, 50)) == []
    assert found((0, 1), (0, 10), (0, 20), seconds=0.0) == [(0, 10, False)]  # its only segment


def test_a_still_image_has_its_one_window_whatever_range_is_asked_for() -> None:
    still = replace(video(), media_type="image/png", duration=None)
    for asset in (still, replace(still, duration=1.0)):
        for span in (None, (1.0, 4.0)):
            made = plan("light", assets=(asset,), span=span)
            units = expand(made.steps, made.steps[made.targets[0].key], ((0, 0),), 9).units
            assert [(u.start_us, u.length_us, u.found) for u in units] == [(0, 0, False)]
    assert plan("light", assets=(still,), span=(1.0, 4.0)).targets == plan("light", assets=(still,)).targets


@pytest.mark.parametrize("span", [None, (0.0, 2.0), (2.0, 4.0), (8.0, 9.0)])
def test_a_range_of_no_length_is_refused_whatever_range_is_asked_for(span: Any) -> None:
    made = plan("light", span=span)
    windows = ((0, 1 * MICRO), (3 * MICRO, 3 * MICRO), (8 * MICRO, 9 * MICRO))
    with pytest.raises(FeatureError, match="'cuts' found a range of no length at 3 s"):
        expand(made.steps, made.steps[made.targets[0].key], windows, 9)


def test_equal_windows_have_equal_keys_whoever_found_them_and_the_grid_s_keys() -> None:
    windows = ((0, 10 * MICRO), (10 * MICRO, 17 * MICRO))
    one, other, grid = plan("light"), plan("loud"), plan("frames")
    found = expand(one.steps, one.steps[one.targets[0].key], windows, 9)
    spoken = expand(other.steps, other.steps[other.targets[0].key], windows, 9)

    def of_frames(steps: Any) -> list[str]:
        return [key for key, step in steps.items() if step.recipe.feature == "frames"]

    assert of_frames(found.steps) == of_frames(spoken.steps)
    assert of_frames(found.steps)[0] == grid.targets[0].key
    assert set(found.keys).isdisjoint(spoken.keys)


def test_keys_above_change_with_the_finder_s_and_with_what_is_below() -> None:
    def key(**params: Any) -> str:
        return plan("film", params=params).targets[-1].key

    assert key() == key()
    assert key(**{"cuts.threshold": 0.6}) != key()
    assert key(**{"frames.fps": 1.0}) != key()
    moved = plan("tone", params={"cuts.threshold": 0.6})
    same = expand(moved.steps, moved.steps[moved.targets[0].key], FOUND, 9)
    usual = plan("tone")
    assert same.keys == expand(usual.steps, usual.steps[usual.targets[0].key], FOUND, 9).keys


def test_what_is_made_from_a_window_is_not_made_from_its_finder() -> None:
    recipe = plan("tone", params={"cuts.threshold": 0.6}).targets[0]
    step = plan("tone", params={"cuts.threshold": 0.6}).steps[recipe.key]
    assert dict(step.recipe.above) == {"frames.fps": 2.0}


def test_a_gather_is_widened_to_the_keys_of_the_list() -> None:
    made = plan("film", "match", assets=(video("a"), video("b")))
    [film, *_, match] = [made.steps[t.key] for t in made.targets]
    template = made.steps[film.inputs[0]]  # type: ignore[index]
    found = expand(made.steps, template, FOUND, 9)
    wide = widened(film, {template.key: found.keys})
    assert wide.key == film.key
    assert wide.inputs == (found.keys, film.inputs[1])
    assert wide.needs == (*found.keys, film.inputs[1])
    assert widened(match, {template.key: found.keys}).inputs == ((found.keys, match.inputs[0][1]),)
    assert widened(film, {template.key: ()}).needs == (film.inputs[1],)
    over = Widened(made.steps)
    over.add(found.steps)
    over.replace(wide)
    assert over[film.key] is wide
    assert closure(over, [film.key])[film.key] is wide
    assert set(closure(over, [film.key])) == {*found.steps, film.key, *closure(made.steps, [film.inputs[1]])}
    assert len(over) == len(dict(over)) == len(made.steps) + len(found.steps)


def test_a_range_keeps_the_windows_that_it_touches() -> None:
    made, whole = plan("light", span=(2.0, 5.0)), plan("light")
    template = made.steps[made.targets[0].key]
    assert made.targets[0].key != whole.targets[0].key
    found = expand(made.steps, template, ((0, 2 * MICRO), *FOUND[1:], (7 * MICRO, 9 * MICRO)), 9)
    assert found.units == (Segment(video(), 2 * MICRO, 5 * MICRO),)
    every = expand(whole.steps, whole.steps[whole.targets[0].key], FOUND, 9)
    assert found.keys == every.keys[1:]
    with pytest.raises(BadRequest, match="range starts at 40 s but the asset ends at 30 s"):
        plan("light", span=(40.0, 50.0))


def test_too_many_windows_and_ranges_that_are_none_are_refused_by_name() -> None:
    made = plan("light")
    template = made.steps[made.targets[0].key]
    with pytest.raises(TooLarge, match=r"'cuts' found 2 ranges in this asset; at most 1 .*units_per_asset"):
        expand(made.steps, template, FOUND, 1)
    wrong = windows_of([Shot(0.0, 1.0), Shot(3.0, 2.0)])
    assert isinstance(wrong, str)
    with pytest.raises(FeatureError, match=r"'cuts' .*its range number 1 is from 3 s to 2 s"):
        expand(made.steps, template, wrong, 9)
    with pytest.raises(FeatureError, match="'cuts' found a range of no length at 3 s"):
        expand(made.steps, template, ((3 * MICRO, 3 * MICRO),), 9)
    assert expand(made.steps, template, (), 9).keys == ()


def test_windows_of_a_value() -> None:
    shots = [Shot(2.0, 7.0), Shot(0.0, 2.0), Shot(2.0, 7.0)]
    assert windows_of(shots) == FOUND
    assert windows_of([{"start": 0.0, "end": 2.0, "score": 1.0}]) == FOUND[:1]  # read without its class
    assert windows_of([]) == ()
    assert windows_of([Shot(0.0, 1.0)] * 1_000_001) == "1000001 are more than 1000000"
    assert windows_of([0.5] * 1_000_001) is None
    for other in (
        None,
        5,
        "text",
        [1.0],
        [Asset("a", "u", "v", 1)],
        [{"start": 1, "end": 2}],
        {"start": 0.0},
    ):
        assert windows_of(other) is None
    for start, end in ((-1.0, 2.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))):
        assert isinstance(windows_of([Shot(start, end)]), str)


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30_000, 1001), Fraction(24_000, 1001), Fraction(25)])
def test_a_window_between_two_pictures_has_the_first_of_them_and_not_the_second(rate: Fraction) -> None:
    times = [n / rate for n in (0, *range(1, 100, 7), *range(200_000, 200_050, 3))]
    found = windows_of([Shot(float(a), float(b)) for a, b in itertools.pairwise(times)])
    assert found is not None
    for (start, end), first, after in zip(found, times[:-1], times[1:], strict=True):
        assert Fraction(start, MICRO) <= first < Fraction(end, MICRO) <= after  # type: ignore[arg-type]
    # What is a whole microsecond but for the error of a float is that microsecond.
    assert windows_of([Shot(0.1 + 0.2, 1.1 * 3)]) == ((300_000, 3_300_000),)
    assert windows_of([Shot(1.9999999999, 7.0)]) == ((2 * MICRO, 7 * MICRO),)


def test_bounds_within_one_microsecond_are_one() -> None:
    times = [0.0, 3.0, 3.0000004, 7.0, 7.0 + 1e-9, 9.0]
    shots = [Shot(a, b) for a, b in itertools.pairwise(times)]
    assert windows_of(shots) == ((0, 3 * MICRO), (3 * MICRO, 7 * MICRO), (7 * MICRO, 9 * MICRO))
    assert windows_of([Shot(3.0, 3.0)]) == ((3 * MICRO, 3 * MICRO),)  # none by rounding: it is refused


def test_windows_are_looked_for_in_any_value_and_never_fail_it() -> None:
    class Broken:
        end = 1.0

        @property
        def start(self) -> float:
            raise RuntimeError("not yet")

    assert windows_of([Broken()]) is None
    assert windows_of([Broken()] * 1_000_001) is None
    for end in (1.7e308, 1e303):
        assert windows_of([Shot(0.0, end)]) == f"its range number 0 is from 0 s to {end:g} s"
    assert windows_of([Shot(0.0, 1e300)]) == ((0, round(1e306)),)


def test_templates_travel_and_are_journaled() -> None:
    made = plan("tone", "film", span=(1.0, 4.0))
    part: PlanPart = pickle.loads(pickle.dumps(PlanPart(made.steps, made.targets)))
    assert list(part.steps) == list(made.steps)
    for key, step in part.steps.items():
        assert (step.unit, step.unit_id) == (made.steps[key].unit, made.steps[key].unit_id)
    assert [t.unit for t in part.targets] == [t.unit for t in made.targets]
    template = part.steps[part.targets[0].key]
    assert template.unit.grid_us == 10 * MICRO  # type: ignore[union-attr]
    assert expand(part.steps, template, FOUND, 9).keys == expand(made.steps, template, FOUND, 9).keys
    known = {video().id: video()}
    window = Segment(video(), 3, 4, found=True)
    for unit in (made.targets[0].unit, window, video(), Segment(video(), 3, 4), Collection.of([video()])):
        again = unit_from_json(unit_to_json(unit), known)
        assert (again, getattr(again, "found", None)) == (unit, getattr(unit, "found", None))


def test_an_old_version_said_to_be_of_found_windows_fails_by_its_code_that_is_gone() -> None:
    kept = {"light@0": Kept({}, "cuts", ("0",))}
    made = plan("light@0", "light", kept=kept)
    target, _ = made.targets
    ledger = Ledger(Settings(), set())
    ledger.handle(ev.CapacityChanged(({"CPU": 4.0},)), 0.0)
    [told, _] = ledger.handle(ev.Requested("r", made.steps, (target.key,)), 1.0)
    assert isinstance(told, ev.Deliver)
    assert isinstance(told.outcome, Failure)
    assert (told.outcome.type, told.outcome.status) == ("VersionGone", 410)


def test_an_old_version_is_of_the_windows_that_are_stored() -> None:
    asset = video()
    texts = [f"{asset.id}@{start}+{length}" for start, length in ((2_000_000, 5_000_000), (0, 2_000_000))]
    other = f"{video('b').id}@0+2000000"
    rows = {text: [KeptRow(str(i) * 32, text, "{}", 1.0)] for i, text in enumerate((*texts, other))}
    kept = {"light@0": Kept(rows, "segment", ("0", "1"))}
    made = plan("light@0", kept=kept)
    assert [(t.unit, t.key) for t in made.targets] == [
        (Segment(asset, 0, 2_000_000), "1" * 32),
        (Segment(asset, 2_000_000, 5_000_000), "0" * 32),
    ]
    assert [t.key for t in plan("light@0", kept=kept, span=(3.0, 4.0)).targets] == ["0" * 32]
    nothing = plan("light@0", kept={"light@0": Kept({}, "segment", ("0",))})
    assert all(nothing.steps[t.key].recipe.gone for t in nothing.targets)
