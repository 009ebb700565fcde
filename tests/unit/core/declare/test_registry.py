"""A registry is a checked graph: what is wrong with it is said when it is made, with the names."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amber_ray.core.declare.feature import FeatureSpec, feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.units import Asset, Clip, Collection
from amber_ray.core.planning.plan import Planner
from amber_ray.errors import BadParameter, DeclarationError, UnknownFeature, UnknownParameter


def made(
    name: str,
    *inputs: str,
    per: str | None = None,
    returns: Any = int,
    version: str | None = "1",
    hints: dict[str, Any] | None = None,
    **params: Any,
) -> FeatureSpec:
    """A spec by its inputs; with none it takes its unit."""
    unit = {"segment": "clip", None: "asset"}.get(per, per)
    text = ", ".join([*(inputs or [str(unit)]), *(f"{n}={v!r}" for n, v in params.items())])
    space: dict[str, Any] = {"__name__": "made"}
    exec(f"def {name}({text}): return 1", space)
    space[name].__annotations__ = {"return": returns, **(hints or {})}
    spec = feature(version=version, per=per)(space[name]).__amber__  # type: ignore[arg-type]
    assert isinstance(spec, FeatureSpec)
    return spec


PROBE = made("probe")
FRAMES = made("frames", per="segment", fps=2.0, size=224)
SHOTS = made("shots", "frames", "probe", per="segment", hints={"frames": int, "probe": int}, level=1)
FILM = made("film", "shots", "probe", hints={"shots": list[int]})
MATCH = made("match", "film", "shots", per="collection", hints={"film": list[int], "shots": list[list[int]]})
GRAPH = Registry([MATCH, FILM, SHOTS, FRAMES, PROBE])


def test_names_are_sorted_and_iteration_puts_inputs_before_users() -> None:
    assert GRAPH.names() == ["film", "frames", "match", "probe", "shots"]
    assert len(GRAPH) == 5
    assert "film" in GRAPH
    assert "flim" not in GRAPH
    order = [s.name for s in GRAPH]
    assert all(order.index(i) < order.index(s.name) for s in GRAPH for i in s.inputs)


def test_the_order_of_registration_does_not_matter() -> None:
    turned = Registry([PROBE, FRAMES, SHOTS, FILM, MATCH])
    assert [s.name for s in turned] == [s.name for s in GRAPH]
    assert turned.digest == GRAPH.digest


def test_an_unknown_feature_is_answered_with_its_neighbours() -> None:
    assert GRAPH.get("film").name == "film"
    with pytest.raises(UnknownFeature, match=r"unknown feature 'flim'; did you mean 'film'\?"):
        GRAPH.get("flim")
    with pytest.raises(UnknownFeature, match=r"unknown feature 'zzzz'$"):
        GRAPH.get("zzzz")


def test_ancestors_and_dependents() -> None:
    assert [s.name for s in GRAPH.ancestors("shots")] == ["frames", "probe", "shots"]
    assert {s.name for s in GRAPH.ancestors("match")} == set(GRAPH.names())
    assert [s.name for s in GRAPH.ancestors("match")][-1] == "match"
    assert {s.name for s in GRAPH.dependents("shots")} == {"film", "match"}
    assert GRAPH.dependents("match") == []


def test_edges() -> None:
    edges = {(s.name, i): GRAPH.edge(s, i) for s in GRAPH for i in s.inputs}
    assert edges == {
        ("shots", "frames"): "same",
        ("shots", "probe"): "broadcast",
        ("film", "shots"): "gather",
        ("film", "probe"): "same",
        ("match", "film"): "gather",
        ("match", "shots"): "gather",
    }


def test_specs_are_sealed_and_stay_as_they_were_sent() -> None:
    loose = made("loose", version=None)
    registry = Registry([loose])
    sealed = registry.get("loose")
    assert sealed.version == f"auto-{sealed.code_digest[:16]}"
    again = Registry([sealed])
    assert again.get("loose") is sealed
    assert again.digest == registry.digest
    assert Registry([PROBE]).get("probe").code_digest


@pytest.mark.parametrize(
    "change",
    [{"version": "2"}, {"per": "segment"}, {"returns": float}, {"level": 2}, {"returns": list[int]}],
)
def test_the_digest_covers_what_is_declared(change: dict[str, Any]) -> None:
    before = made("f", level=1)
    after = made("f", **{"level": 1, **change})
    assert Registry([before]).digest != Registry([after]).digest


# --- what is refused


def refused(*specs: FeatureSpec) -> str:
    with pytest.raises(DeclarationError) as error:
        Registry(specs)
    return str(error.value)


def test_a_cycle_is_told_as_a_path() -> None:
    message = refused(made("a", "b"), made("b", "c"), made("c", "a"), made("d", "a"))
    assert message == "features depend on each other in a circle: a -> b -> c -> a"
    assert refused(made("a", "a")).endswith("a -> a")


def test_a_cycle_that_is_reached_from_outside_is_told_without_the_way_there() -> None:
    assert refused(made("a", "m"), made("m", "n"), made("n", "m")).endswith("in a circle: m -> n -> m")


def test_a_diamond_is_no_cycle() -> None:
    assert len(Registry([made("a"), made("b", "a"), made("c", "a"), made("d", "b", "c", "a")])) == 4


def test_a_deep_chain_is_sorted() -> None:
    chain = [made("f0"), *(made(f"f{i}", f"f{i - 1}") for i in range(1, 300))]
    assert [s.name for s in Registry(reversed(chain))] == [s.name for s in chain]


def test_an_unknown_input_is_named_with_what_may_be_meant() -> None:
    assert refused(made("film", "shot"), made("shots")) == (
        "feature 'film' takes 'shot', which is no feature here; did you mean 'shots'?"
    )
    assert "did you mean 'asset'?" in refused(made("film", "aset"))
    assert refused(made("film", "zzz")).endswith("which is no feature here; there are film")


def test_two_features_of_one_name_are_told_with_where_they_are() -> None:
    @feature(name="probe", version="1")
    def measure(asset: Asset) -> int:
        return 2

    message = refused(PROBE, measure.__amber__)
    assert message.startswith("two features are named 'probe': probe in made and ")
    assert message.endswith(f"measure in {__name__}; rename one")


def test_one_feature_twice_counts_once() -> None:
    assert len(Registry([PROBE, PROBE, PROBE.sealed()])) == 1


CACHE: dict[str, int] = {}


def test_one_feature_counts_once_though_what_it_reaches_has_changed() -> None:
    @feature
    def cached(asset: Asset) -> int:
        return CACHE.setdefault(asset.id, 1)

    sealed = cached.__amber__.sealed()
    CACHE["a"] = 1
    assert cached.__amber__.sealed() != sealed
    assert Registry([sealed, cached.__amber__]).get("cached") is sealed


@dataclass
class Point:
    x: float


@pytest.mark.parametrize("per", ["asset", "segment"])
def test_a_collection_is_no_input_of_what_may_be_in_many(per: str) -> None:
    message = refused(made("film", "all_of", per=per), made("all_of", per="collection"))
    assert message == (
        f"feature 'film' is per {per} and can't take 'all_of', which is per collection: "
        f"a {per} may be in many collections"
    )


@pytest.mark.parametrize(
    ("per", "source", "own", "hint", "arrives"),
    [
        ("asset", "segment", int, int, "list[int]"),
        ("asset", "segment", int, list[list[int]], "list[int]"),
        ("asset", "segment", np.ndarray, np.ndarray, "list[array]"),
        ("collection", "asset", int, int, "list[int]"),
        ("collection", "segment", int, list[int], "list[list[int]]"),
        ("asset", "segment", list[int], list[int], "list[list]"),
        ("asset", "asset", int, list[int], "int"),
        ("asset", "segment", Point, Point, "list[Point]"),
        ("asset", "asset", list[int], int, "list"),
        ("segment", "asset", np.ndarray, list[float], "array"),
        ("asset", "segment", dict, dict, "list[json]"),
        ("collection", "segment", int, list[list[list[Any]]], "list[list[int]]"),
    ],
)
def test_an_annotation_that_contradicts_the_graph(
    per: str, source: str, own: Any, hint: Any, arrives: str
) -> None:
    message = refused(
        made("user", "below", per=per, hints={"below": hint}), made("below", per=source, returns=own)
    )
    assert message.startswith(f"feature 'user' is per {per} and takes 'below', which is per {source}, as ")
    assert message.endswith(f"; it arrives as {arrives}")


@pytest.mark.parametrize(
    ("per", "source", "own", "hint"),
    [
        ("asset", "segment", int, list[int]),
        ("asset", "segment", int, list),
        ("asset", "segment", int, None),
        ("asset", "segment", int, Any),
        ("asset", "segment", list[int], list[list[int]]),
        ("asset", "segment", list[int], list),
        ("asset", "segment", list[int] | None, list[list[int] | None]),
        ("collection", "segment", int, list[list[int]]),
        ("collection", "segment", int, list[list]),  # type: ignore[type-arg]
        ("asset", "asset", list[int], list[int]),
        ("asset", "asset", dict, list[int]),
        ("asset", "asset", dict, dict),
        ("segment", "asset", list[int], list[int]),
        ("asset", "segment", dict, list[dict]),  # type: ignore[type-arg]
    ],
)
def test_an_annotation_that_fits(per: str, source: str, own: Any, hint: Any) -> None:
    hints = {} if hint is None else {"below": hint}
    Registry([made("user", "below", per=per, hints=hints), made("below", per=source, returns=own)])


# --- parameters


def test_every_parameter_of_what_is_asked_for_and_under_it() -> None:
    assert GRAPH.params_for(["film"], {}) == {
        "frames": (("fps", 2.0), ("size", 224)),
        "probe": (),
        "shots": (("level", 1),),
        "film": (),
    }
    assert GRAPH.params_for(["probe"], {}) == {"probe": ()}
    assert GRAPH.params_for(["frames", "probe"], {"frames.size": 3})["frames"] == (("fps", 2.0), ("size", 3))


def test_numbers_are_told_apart_and_brought_together() -> None:
    def fps(value: Any) -> Any:
        return dict(GRAPH.params_for(["frames"], {"frames.fps": value})["frames"])["fps"]

    assert (fps(3), type(fps(3))) == (3.0, float)
    assert (fps(np.float64(3)), type(fps(np.float64(3)))) == (3.0, float)
    assert str(fps(-0.0)) == "0.0"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("frames.fps", "fast", "'frames.fps' is float, not str ('fast')"),
        ("frames.fps", True, "'frames.fps' is float, not bool (True)"),
        (
            "frames.fps",
            [1, 2],
            "is float, not list ([1, 2]); get_many takes several sets: params=[{'frames.fps': 1}, ...]",
        ),
        ("frames.fps", None, "'frames.fps' is float, not NoneType"),
        ("frames.fps", float("nan"), "'frames.fps' must be a finite number, not nan"),
        ("frames.fps", float("-inf"), "'frames.fps' must be a finite number, not -inf"),
        ("frames.fps", 10**400, "'frames.fps' is too large for a float"),
        ("frames.size", 2.0, "'frames.size' is int, not float (2.0)"),
        ("frames.size", True, "'frames.size' is int, not bool (True)"),
        ("frames.size", 1 << 63, "'frames.size' must fit in 64 bits"),
        pytest.param("frames.size", 10**5000, "'frames.size' must fit in 64 bits", id="5000 digits"),
        ("frames.size", [1], "'frames.size' is int, not list ([1])"),
    ],
)
def test_a_value_that_does_not_fit(name: str, value: Any, message: str) -> None:
    with pytest.raises(BadParameter) as error:
        GRAPH.params_for(["frames"], {name: value})
    assert message in str(error.value)


def test_texts_choices_and_nothing() -> None:
    from typing import Literal

    kinds = {"mode": Literal["fast", "good"], "note": str | None, "text": str}
    registry = Registry([made("f", hints=kinds, mode="fast", note="x", text="")])

    def given(name: str, value: Any) -> Any:
        return dict(registry.params_for(["f"], {f"f.{name}": value})["f"])[name]

    assert given("mode", "good") == "good"
    assert given("note", None) is None
    assert given("text", "é" * 4096) == "é" * 4096
    for name, value, message in [
        ("mode", "best", "'f.mode' is one of 'fast', 'good', not 'best'"),
        ("note", 1, "'f.note' is str or None, not int"),
        ("text", 10**5000, "'f.text' is str, not int (of 16610 bits)"),
        ("text", "x" * 4097, "'f.text' may have 4096 characters, not 4097"),
        ("text", "\ud800", "'f.text' must be valid Unicode"),
    ]:
        with pytest.raises(BadParameter) as error:
            given(name, value)
        assert message in str(error.value)


@pytest.mark.parametrize(
    ("features", "name", "message"),
    [
        (["film"], "frames.pfs", "unknown parameter 'frames.pfs'; did you mean 'frames.fps'"),
        (["film"], "fps", "unknown parameter 'fps'; write it with its feature: 'frames.fps'"),
        (
            ["probe"],
            "frames.fps",
            "unknown parameter 'frames.fps': nothing that was asked for needs 'frames'",
        ),
        (["film"], "zzz", "; the parameters here are frames.fps, frames.size, shots.level"),
        (["probe"], "zzz", "; nothing here takes one"),
        (["film"], "", "unknown parameter ''; the parameters here are"),
    ],
)
def test_an_unknown_parameter_is_answered_with_its_neighbours(
    features: list[str], name: str, message: str
) -> None:
    with pytest.raises(UnknownParameter) as error:
        GRAPH.params_for(features, {name: 1})
    assert message in str(error.value)


def test_info_tells_all_that_a_caller_may_know() -> None:
    infos = {i.name: i for i in GRAPH.info()}
    assert list(infos) == GRAPH.names()
    frames = infos["frames"]
    assert frames.params == {"fps": ("float", 2.0), "size": ("int", 224)}
    assert frames.returns == {"type": "int"}
    assert (frames.per, frames.pinned, frames.is_class) == ("segment", True, False)
    assert frames.code_digest == GRAPH.get("frames").code_digest


# --- modules


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write files of features."""

    def to(name: str, text: str = "") -> str:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("from amber_ray import Asset, feature\n" + textwrap.dedent(text))
        importlib.invalidate_caches()
        return str(file)

    return to


ONE = "@feature(version='1')\ndef one(asset: Asset) -> int: return 1\n"
THREE = ONE.replace("def one", "def three")
TWO = "@feature(version='1')\ndef two(one: int) -> int: return 1\n"


def test_modules_by_name_and_by_path(write: Callable[..., str]) -> None:
    registry = Registry.from_modules([__name__, write("mine.py", ONE)])
    assert {"one", "here"} <= set(registry.names())
    assert registry.get("one").module == "mine"


@feature(version="1", per="collection")
def here(collection: Collection) -> int:
    return 1


def test_what_a_module_imports_counts_once(write: Callable[..., str]) -> None:
    first = write("first.py", ONE)
    second = write("second.py", f"from first import one\n{TWO}")
    for files in ([first, second], [second, first], [second], [second, second]):
        assert Registry.from_modules(files).names() == ["one", "two"]


def test_one_file_by_two_ways_of_writing_it(
    write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(write("some/mine.py", ONE))
    monkeypatch.chdir(file.parent)
    ways = [str(file), "mine.py", "./mine.py", f"../{file.parent.name}/mine.py"]
    assert len({id(Registry.from_modules([way]).get("one").target) for way in ways}) == 1
    assert len(Registry.from_modules(ways)) == 1


def test_one_file_loaded_under_two_names_counts_once(write: Callable[..., str]) -> None:
    file = write("package/mine.py", ONE)
    write("package/__init__.py")
    sys.path.insert(0, str(Path(file).parents[1]))
    registry = Registry.from_modules(["package.mine", file])
    assert registry.names() == ["one"]


def test_a_file_whose_name_is_taken_gets_one_of_its_own(write: Callable[..., str]) -> None:
    registry = Registry.from_modules(
        [write("a/json.py", ONE), write("b/json.py", TWO), write("my-own.py", THREE)]
    )
    assert registry.names() == ["one", "three", "two"]
    assert registry.get("two").module.startswith("json_")
    assert sys.modules["json"].__name__ == "json"
    assert hasattr(sys.modules["json"], "dumps")
    for spec in registry:
        assert pickle.loads(pickle.dumps(spec.target)) is spec.target


def test_a_file_that_has_changed_is_loaded_again(
    write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As large as before and as old: cached bytecode would not notice.
    monkeypatch.setattr(sys, "dont_write_bytecode", False)

    def registry(number: int) -> Registry:
        file = write("mine.py", f"@feature\ndef one(asset: Asset) -> int: return {number}\n")
        os.utime(file, (1e9, 1e9))
        return Registry.from_modules([file])

    before, same, after = registry(1), registry(1), registry(2)
    assert before.get("one").target is same.get("one").target
    assert before.get("one").version != after.get("one").version
    assert before.get("one").target(None) == 1
    assert after.get("one").target(None) == 2


def test_a_changed_helper_gives_new_keys_to_what_reaches_it_and_stands_above_it(
    write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # it goes by whole seconds
    file = write(
        "mine.py",
        """
        import helper_of_mine
        @feature
        def near(asset: Asset) -> int: return helper_of_mine.level()
        @feature
        def far(asset: Asset) -> int: return helper_of_mine.other()
        @feature
        def above(near: int, far: int) -> int: return near + far
        @feature(version="1")
        def pinned(asset: Asset) -> int: return helper_of_mine.level()
        """,
    )

    def keys(level: int) -> dict[str, str]:
        write("helper_of_mine.py", f"def level(): return {level}\ndef other(): return 0\n")
        for name in ("mine", "helper_of_mine"):
            sys.modules.pop(name, None)
        planner = Planner(Registry.from_modules([file]), features=NAMES, params={}, segment_seconds=10.0)
        return {t.feature: t.key for t in planner.add_asset(Asset("a", "", "video/mp4", 1, 1.0))}

    before, after = keys(1), keys(2)
    assert {name for name in NAMES if before[name] != after[name]} == {"near", "above"}
    assert keys(1) == before


NAMES = ("near", "far", "above", "pinned")


def test_a_subclass_of_a_class_feature_is_no_feature(write: Callable[..., str]) -> None:
    text = (
        "@feature\nclass One:\n    def __call__(self, asset: Asset) -> int: return 1\nclass Two(One): pass\n"
    )
    registry = Registry.from_modules([write("mine.py", text)])
    assert [s.target.__qualname__ for s in registry] == ["One"]


def test_a_base_class_that_is_a_feature_does_not_make_its_subclass_one(write: Callable[..., str]) -> None:
    text = "@feature\nclass One:\n    def __call__(self, asset: Asset) -> int: return 1\n"
    write("base.py", text)
    file = write("mine.py", "import base\nclass Two(base.One): pass\n")
    assert "declares no feature" in broken(file)


def test_the_same_code_in_two_files_is_two_features(write: Callable[..., str]) -> None:
    files = [write("mine.py", ONE), write("yours.py", ONE)]
    with pytest.raises(DeclarationError, match="named 'one': one in mine and one in yours; rename one"):
        Registry.from_modules(files)


def broken(name: str) -> str:
    with pytest.raises(DeclarationError) as error:
        Registry.from_modules([name])
    return str(error.value)


def test_a_module_that_is_not_there(tmp_path: Path) -> None:
    assert broken("no_such_module_at_all") == (
        "there is no feature module 'no_such_module_at_all'; "
        "give a module that can be imported, or a .py file"
    )
    assert "there is no feature module 'no_such.thing'" in broken("no_such.thing")
    missing = str(tmp_path / "missing.py")
    assert broken(missing) == f"feature module {missing!r} can't be read: No such file or directory"
    (tmp_path / "folder.py").mkdir()
    assert "can't be read: Is a directory" in broken(str(tmp_path / "folder.py"))


def test_a_module_without_features(write: Callable[..., str]) -> None:
    file = write("empty.py")
    assert broken(file) == f"module {file!r} declares no feature; decorate a function with @feature"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\ny = 1 / 0\n", 3, "ZeroDivisionError: division by zero"),
        ("def f(:\n", 2, "SyntaxError: invalid syntax"),
        ("import no_such_module_at_all\n", 2, "No module named 'no_such_module_at_all'"),
        ("import sys\nsys.exit(3)\n", 3, "SystemExit: 3"),
        ("import json\njson.loads('{')\n", 3, "JSONDecodeError"),
        (
            "@feature(retries=-1)\ndef f(asset: Asset) -> int: return 1\n",
            2,
            "retries must be 0 or more, not -1",
        ),
        ("def f(asset: Asset): return 1\n\nfeature(f)\n", 4, "'f' needs a return annotation"),
    ],
)
def test_an_error_in_a_module_is_told_with_its_line(
    write: Callable[..., str], text: str, line: int, message: str
) -> None:
    file = write("broken.py", text)
    said = broken(file)
    assert said.startswith(f"{file}:{line}: ")
    assert message in said
    assert "broken" not in sys.modules


def test_an_error_in_a_neighbour_is_told_where_it_is(write: Callable[..., str]) -> None:
    neighbour = write("neighbour.py", "1 / 0\n")
    assert broken(write("mine.py", "import neighbour\n")).startswith(f"{neighbour}:2: ")


def test_a_broken_change_leaves_the_module_as_it_was(write: Callable[..., str]) -> None:
    file = write("mine.py", ONE)
    before = Registry.from_modules([file]).get("one").target
    write("mine.py", "1 / 0\n")
    broken(file)
    assert sys.modules["mine"].one is before


def test_a_clip_may_be_the_unit() -> None:
    @feature(version="1")
    def pace(clip: Clip) -> float:
        return 1.0

    assert Registry([pace.__amber__]).get("pace").per == "segment"


def test_the_built_in_features_make_a_registry() -> None:
    from amber_ray.features import BUILTINS

    registry = Registry.from_modules(BUILTINS)
    assert {"probe", "frames", "embedding"} <= set(registry.names())
    assert all(s.pinned for s in registry)


# --- found units


@dataclass
class Shot:
    start: float
    end: float


@dataclass
class Counted:
    start: int
    end: int


FINDER = made("cuts", returns=list[Shot])
LIGHT = made("light", "frames", per="cuts", hints={"frames": int})


def test_a_feature_may_be_per_what_another_one_finds() -> None:
    tone = made("tone", "light", "probe", "cuts", per="cuts", hints={"light": int, "probe": int})
    cast = made("cast", "tone", "cuts", hints={"tone": list[int], "cuts": list[Shot]})
    many = made("many", "tone", per="collection", hints={"tone": list[list[int]]})
    graph = Registry([many, cast, tone, LIGHT, FINDER, FRAMES, PROBE])
    assert [s.name for s in graph.ancestors("light")] == ["frames", "cuts", "light"]
    assert [s.name for s in graph.sources("light")] == ["frames", "light"]
    assert {s.name for s in graph.dependents("cuts")} == {"light", "tone", "cast"}
    edges = {(s.name, i): graph.edge(s, i) for s in (tone, cast, many, LIGHT) for i in s.inputs}
    assert edges == {
        ("tone", "light"): "same",
        ("tone", "probe"): "broadcast",
        ("tone", "cuts"): "broadcast",
        ("cast", "tone"): "gather",
        ("cast", "cuts"): "same",
        ("many", "tone"): "gather",
        ("light", "frames"): "same",
    }
    assert graph.params_for(["light"], {})["cuts"] == ()


def test_a_clip_is_the_window_that_was_found() -> None:
    @feature(version="1", per="cuts")
    def frame(clip: Clip) -> int:
        return 1

    assert Registry([FINDER, frame.__amber__]).get("frame").per == "cuts"  # type: ignore[attr-defined]


NO_FINDERS: dict[str, tuple[list[FeatureSpec], str]] = {
    "one that is unknown": (
        [FRAMES, made("light", "frames", per="cutz"), FINDER],
        "'light' is per 'cutz', which is neither segment, asset nor collection, nor a feature here; "
        "did you mean 'cuts'",
    ),
    "one per segment": (
        [FRAMES, made("cuts", "frames", per="segment", returns=list[Shot]), LIGHT],
        "'light' is per 'cuts', which is per segment; only a feature per asset finds windows",
    ),
    "one per windows itself": (
        [
            *(FRAMES, FINDER, made("spark", "frames", per="light")),
            made("light", "frames", per="cuts", hints={"frames": int}, returns=list[Shot]),
        ],
        "'spark' is per 'light', which is per cuts; only a feature per asset finds windows",
    ),
    "one per collection": (
        [FRAMES, PROBE, made("cuts", "probe", per="collection", returns=list[Shot]), LIGHT],
        "'light' is per 'cuts', which is per collection; only a feature per asset finds windows",
    ),
    "one whose ranges are counted in whole numbers": (
        [FRAMES, made("cuts", returns=list[Counted]), LIGHT],
        "'light' is per 'cuts', which returns list and no ranges; a feature that finds windows returns a "
        "list of a dataclass with start: float and end: float, in seconds",
    ),
    "one with one range": (
        [FRAMES, made("cuts", returns=Shot), LIGHT],
        "'light' is per 'cuts', which returns Shot and no ranges",
    ),
    "one of two that are made of each other's": (
        [
            FRAMES,
            made("cuts", "loud", hints={"loud": list[int]}, returns=list[Shot]),
            made("talk", "light", hints={"light": list[int]}, returns=list[Shot]),
            LIGHT,
            made("loud", "frames", per="talk", hints={"frames": int}),
        ],
        "features depend on each other in a circle: cuts -> loud -> talk -> light -> cuts",
    ),
    "one without ranges": (
        [FRAMES, made("cuts", returns=list[float]), LIGHT],
        "'light' is per 'cuts', which returns list and no ranges",
    ),
    "one that may return nothing": (
        [FRAMES, made("cuts", returns=list[Shot] | None), LIGHT],
        "'light' is per 'cuts', which returns optional and no ranges",
    ),
    "one that is made of it": (
        [FRAMES, LIGHT, made("cuts", "light", hints={"light": list[int]}, returns=list[Shot])],
        "features depend on each other in a circle: cuts -> light -> cuts",
    ),
    "another one's": (
        [FRAMES, FINDER, LIGHT, made("talk", returns=list[Shot]), made("loud", "light", per="talk")],
        "'loud' is per talk and can't take 'light', which is per cuts: those are other windows",
    ),
    "it, by a feature of the grid": (
        [FRAMES, FINDER, LIGHT, made("loud", "light", per="segment")],
        "'loud' is per segment and can't take 'light', which is per cuts: those are other windows",
    ),
    "it with a collection's": (
        [FINDER, PROBE, made("all", "probe", per="collection"), made("loud", "all", per="cuts")],
        "'loud' is per cuts and can't take 'all', which is per collection",
    ),
}


def test_a_feature_can_not_be_per_itself() -> None:
    with pytest.raises(DeclarationError, match=r"'cuts' can't be per 'cuts': .* what it finds itself"):

        @feature(version="1", per="cuts")
        def cuts(clip: Clip) -> list[Shot]:
            return []


@pytest.mark.parametrize(("specs", "message"), NO_FINDERS.values(), ids=NO_FINDERS)
def test_a_feature_can_not_be_per(specs: list[FeatureSpec], message: str) -> None:
    with pytest.raises(DeclarationError) as error:
        Registry(specs)
    assert message in str(error.value)
