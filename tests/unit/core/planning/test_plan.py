"""A request becomes keyed steps: every input before its user, every step once, gathers in order."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from amber_ray.core.declare.feature import feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.kept import Kept, KeptRow
from amber_ray.core.model.units import Asset, Clip, Collection, Segment
from amber_ray.core.planning.homes import home_of
from amber_ray.core.planning.plan import Plan, Planner, closure, leaves
from amber_ray.errors import BadParameter, BadRequest, TooLarge, UnknownFeature, UnknownParameter, VersionGone


@feature(version="1")
def probe(asset: Asset) -> int:
    return 0


@feature(version="1", store="never")
def frames(clip: Clip, fps: float = 2.0) -> int:
    return 0


@feature(version="1", per="segment", num_gpus=0.5, gpu="preferred", batch=4)
class Embed:
    def __init__(self, model: str = "small") -> None:
        self.model = model

    def __call__(self, frames: int, scale: int = 1) -> int:
        return 0

    def batch(self, frames: list[int], scale: int = 1) -> list[int]:
        return frames


@feature(version="1", per="segment")
def scene(clip: Clip, embed: int, probe: int) -> int:
    return 0


@feature(version="1", per="asset")
def film(scene: list[int], probe: int) -> int:
    return 0


@feature(version="1", per="collection")
def match(film: list[int], scene: list[list[int]]) -> int:
    return 0


REGISTRY = Registry([f.__amber__ for f in (probe, frames, Embed, scene, film, match)])


def video(name: str = "a", seconds: float = 30.0) -> Asset:
    return Asset(name, f"file:///{name}.mp4", "video/mp4", 1, seconds)


def planner(*features: str, **changes: Any) -> Planner:
    return Planner(REGISTRY, **{"features": features, "params": {}, "segment_seconds": 10.0, **changes})


def plan(*features: str, assets: tuple[Asset, ...] = (video(),), span: Any = None, **changes: Any) -> Plan:
    made = planner(*features, **changes)
    for one in assets:
        made.add_asset(one, span)
    made.add_collection(assets)
    return made.plan()


def names(steps: Any) -> list[str]:
    return sorted(f"{s.recipe.feature}@{s.unit_id}" for s in steps.values())


def test_an_asset_feature_gathers_its_segments_in_order_and_shares_what_is_coarser() -> None:
    made = plan("film")
    (target,) = made.targets
    top = made.steps[target.key]
    scenes, shared = top.inputs
    assert [made.steps[k].unit.start for k in scenes] == [0.0, 10.0, 20.0]
    assert made.steps[shared].recipe.feature == "probe"
    assert {made.steps[k].inputs[1] for k in scenes} == {shared}
    assert len(made.steps) == 1 + 1 + 3 * 3


def test_every_input_comes_before_its_user_and_stands_below_it() -> None:
    steps = plan("match", assets=(video("a"), video("b", 15.0))).steps
    seen: set[str] = set()
    for key, step in steps.items():
        assert key == step.key
        assert set(step.needs) <= seen
        assert set(step.needs) == {k for nested in step.inputs for k in leaves(nested)}
        assert step.level == max((steps[n].level + 1 for n in step.needs), default=0)
        seen.add(key)


def test_a_collection_gathers_assets_and_their_segments_in_the_order_of_ids() -> None:
    made = plan("match", assets=(video("b", 15.0), video("a")))
    (target,) = made.targets
    films, scenes = made.steps[target.key].inputs
    assert [made.steps[k].unit.id for k in films] == ["a", "b"]
    assert [len(row) for row in scenes] == [3, 2]
    assert isinstance(target.unit, Collection)


def test_targets_are_in_the_order_asked_for() -> None:
    targets = plan("scene", "probe", assets=(video("b"), video("a"))).targets
    assert [(t.feature, t.unit.unit_id) for t in targets] == [
        ("scene", "b@0+10000000"),
        ("scene", "b@10000000+10000000"),
        ("scene", "b@20000000+10000000"),
        ("probe", "b"),
        ("scene", "a@0+10000000"),
        ("scene", "a@10000000+10000000"),
        ("scene", "a@20000000+10000000"),
        ("probe", "a"),
    ]


def test_a_feature_asked_for_twice_and_an_asset_under_two_names_are_planned_once() -> None:
    twin = Asset("a", "file:///copy.mp4", "video/mp4", 1, 30.0)
    once, twice = plan("scene"), plan("scene", "scene", assets=(video(), twin))
    assert twice.steps.keys() == once.steps.keys()
    assert [t.key for t in twice.targets] == [t.key for t in once.targets] * 2


def test_a_range_touches_only_its_segments() -> None:
    made = plan("scene", assets=(video("a", 300.0),), span=(60.0, 90.0))
    assert [t.unit.start for t in made.targets] == [60.0, 70.0, 80.0]
    assert names(closure(made.steps, [made.targets[0].key])) == [
        "embed@a@60000000+10000000",
        "frames@a@60000000+10000000",
        "probe@a",
        "scene@a@60000000+10000000",
    ]
    assert len(made.steps) == 3 * 3 + 1


def test_a_range_does_not_cut_what_a_whole_asset_needs() -> None:
    assert len(plan("film", span=(0.0, 10.0)).steps) == len(plan("film").steps)


def test_a_range_yields_the_keys_of_the_whole() -> None:
    whole = {t.key for t in plan("scene").targets}
    assert {t.key for t in plan("scene", span=(10.0, 20.0)).targets} < whole


@pytest.mark.parametrize(
    ("span", "words"),
    [((20.0, 10.0), "0 <= A < B"), ((-1.0, 5.0), "0 <= A < B"), ((40.0, 50.0), "the asset ends at 30 s")],
)
def test_a_range_that_the_asset_does_not_have_is_refused(span: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        plan("scene", span=span)


def test_keys_cover_parameters_of_the_step_and_what_is_under_it_and_nothing_else() -> None:
    plain, faster = plan("film"), plan("film", params={"frames.fps": 4.0})
    changed = {s.recipe.feature for k, s in faster.steps.items() if k not in plain.steps}
    assert changed == {"frames", "embed", "scene", "film"}
    assert plan("film", params={"frames.fps": 2}).steps.keys() == plain.steps.keys()


def test_keys_do_not_cover_where_an_asset_lies() -> None:
    moved = Asset("a", "s3://bucket/b.mov", "video/quicktime", 5, 30.0)
    assert plan("film", assets=(moved,)).steps.keys() == plan("film").steps.keys()


def test_a_recipe_is_shared_by_all_steps_of_its_feature_and_knows_its_pool() -> None:
    steps = plan("film", params={"embed.model": "large", "embed.scale": 3}).steps
    recipes = {id(s.recipe): s.recipe for s in steps.values() if s.recipe.feature == "embed"}
    (recipe,) = recipes.values()
    assert recipe.model == (("model", "large"),)
    assert recipe.params == (("scale", 3),)
    assert (recipe.batch, recipe.is_class, recipe.fusable) == (4, True, False)
    assert recipe.pool == (REGISTRY.digest, "embed", "1", (("model", "large"),), recipe.resources)


def test_only_plain_cpu_functions_are_fused() -> None:
    fusable = {s.recipe.feature for s in plan("film").steps.values() if s.recipe.fusable}
    assert fusable == {"probe", "frames", "scene", "film"}


def test_what_is_wrong_with_a_request_is_said_before_any_unit_is_planned() -> None:
    with pytest.raises(UnknownFeature, match="did you mean 'film'"):
        planner("fim")
    with pytest.raises(UnknownParameter, match=r"unknown parameter 'film.fps'"):
        planner("film", params={"film.fps": 1})
    with pytest.raises(BadParameter, match=r"'frames.fps' is float, not str"):
        planner("film", params={"frames.fps": "fast"})
    with pytest.raises(BadRequest, match="at least one feature"):
        planner()


def test_a_plan_that_is_too_large_stops_while_it_is_made() -> None:
    with pytest.raises(TooLarge, match="more than 10 steps"):
        plan("film", max_steps=10)
    assert len(plan("film", max_steps=11).steps) == 11


def test_a_plan_travels_with_each_recipe_once() -> None:
    made = plan("film", assets=tuple(video(f"a{i}") for i in range(50)))
    copy = pickle.loads(pickle.dumps(made))
    assert copy.targets == made.targets
    assert copy.steps.keys() == made.steps.keys()
    assert len({id(s.recipe) for s in copy.steps.values()}) == 5
    assert len(pickle.dumps(made)) < 500 * len(made.steps)


# --- shards


def test_an_asset_and_its_segments_have_one_home() -> None:
    made = plan("film", assets=tuple(video(f"a{i}") for i in range(20)), shards=3)
    homes = {
        (s.unit.asset.id if isinstance(s.unit, Segment) else s.unit.id, s.home) for s in made.steps.values()
    }
    assert len(homes) == 20
    assert {home for _, home in homes} == {0, 1, 2}


def test_one_more_shard_moves_only_what_it_takes_over() -> None:
    assets = [video(f"a{i}") for i in range(300)]
    before = [home_of(a, 3) for a in assets]
    after = [home_of(a, 4) for a in assets]
    moved = [(b, a) for b, a in zip(before, after, strict=True) if b != a]
    assert {a for _, a in moved} == {3}
    assert 40 < len(moved) < 110
    assert {home_of(a, 1) for a in assets} == {0}


# --- versions that are not made any more

KEPT = Kept(
    {
        "a" * 32: [
            KeptRow("1" * 32, "a" * 32, '{"n": 2, "base.k": 1}', 1.0),
            KeptRow("2" * 32, "a" * 32, '{"n": 2, "base.k": 7}', 3.0),
            KeptRow("3" * 32, "a" * 32, '{"n": 5, "base.k": 1}', 2.0),
        ]
    },
    "asset",
    ("1", "2"),
)


def kept_plan(*features: str, kept: Kept = KEPT, **params: Any) -> Plan:
    @feature(version="1")
    def base(asset: Asset, k: int = 1) -> float:
        return float(k)

    @feature(version="2")
    def score(base: float, n: int = 2) -> float:
        return base + n

    registry = Registry([base.__amber__, score.__amber__])  # type: ignore[attr-defined]
    named = {name: kept for name in features if name not in ("score", "score@2", "base")}
    named_params = {name.replace("__", "."): value for name, value in params.items()}
    planner = Planner(registry, features=features, params=named_params, segment_seconds=10.0, kept=named)
    planner.add_asset(Asset("a" * 32, "file:///a.mp4", "video/mp4", 1, 30.0))
    return planner.plan()


def test_the_version_that_is_made_is_asked_for_as_without() -> None:
    [named, plain] = kept_plan("score@2", "score").targets
    assert (named.feature, plain.feature) == ("score@2", "score")
    assert named.key == plain.key


def test_an_old_version_is_a_stored_row_and_can_not_run() -> None:
    plan = kept_plan("score@1", "score")
    old, new = plan.targets
    assert (old.feature, old.key) == ("score@1", "1" * 32)
    assert new.key not in {row.key for row in KEPT.rows["a" * 32]}
    recipe = plan.steps[old.key].recipe
    assert (recipe.feature, recipe.version, recipe.inputs) == ("score", "1", ())
    assert "its code is no longer here: version 2 is made now" in recipe.gone
    assert plan.steps[new.key].recipe.gone == ""


def test_of_several_old_values_the_parameters_choose_then_the_newest() -> None:
    assert kept_plan("score@1").targets[0].key == "1" * 32  # as today's defaults
    assert kept_plan("score@1", score__n=5).targets[0].key == "3" * 32
    assert kept_plan("score@1", base__k=7).targets[0].key == "2" * 32
    assert kept_plan("score@1", base__k=7.0).targets[0].key == "2" * 32
    assert kept_plan("score@1", base__k=True).targets[0].key not in {"1" * 32, "2" * 32, "3" * 32}
    rows = [KeptRow(str(i) * 32, "a" * 32, "{}", float(i)) for i in range(3)]
    assert kept_plan("score@1", kept=Kept({"a" * 32: rows}, "asset", ("1",))).targets[0].key == "2" * 32


def test_an_old_version_without_a_row_is_a_step_that_nobody_has() -> None:
    plan = kept_plan("score@1", score__n=6)
    [target] = plan.targets
    assert target.key not in {row.key for row in KEPT.rows["a" * 32]}
    assert "score@1 is not stored for this asset with these parameters" in plan.steps[target.key].recipe.gone


def test_a_version_of_which_nothing_is_stored_is_refused() -> None:
    with pytest.raises(VersionGone, match=r"nothing is stored of score@9, .*; stored are 1, 2"):
        kept_plan("score@9", kept=Kept({}, None, ("1", "2")))
    with pytest.raises(VersionGone, match="no feature 'nobody' is registered here any more"):
        kept_plan("nobody@1", kept=Kept())
    assert kept_plan("nobody@1").targets[0].key == "2" * 32  # nothing is usual of it
    with pytest.raises(UnknownParameter):
        kept_plan("score@1", scorex__n=1)


def test_rows_tell_the_parameters_of_all_they_are_made_from() -> None:
    [target] = (plan := kept_plan("score", base__k=3)).targets
    assert plan.steps[target.key].recipe.above == (("base.k", 3),)
