"""Decorated objects as features, as cells of a notebook define them: what each is, which inputs it means."""

from __future__ import annotations
import __future__

import linecache
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from amber_ray.client.declared import differences, meant, objects_of, sealed
from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.declare.registry import Registry, declaration, meaning
from amber_ray.core.model.service import FeatureInfo
from amber_ray.errors import BadRequest, DeclarationError
from amber_ray.features import phash


class Notebook:
    """A module whose names are bound by cells, each a source of its own, as IPython compiles them."""

    def __init__(self) -> None:
        self.module = types.ModuleType("notebook_of_this_test")
        sys.modules[self.module.__name__] = self.module
        self._cells = 0
        self.run("from amber_ray import Asset, Clip, feature")

    def run(self, text: str, *future: Any) -> None:
        self._cells += 1
        name = f"<cell-{self._cells}>"
        linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
        flags = sum(one.compiler_flag for one in future)
        exec(compile(text, name, "exec", flags, dont_inherit=True), vars(self.module))

    def __getitem__(self, name: str) -> Any:
        return vars(self.module)[name]

    def __setitem__(self, name: str, value: Any) -> None:
        vars(self.module)[name] = value


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    made = Notebook()
    yield made
    del sys.modules[made.module.__name__]


def one(target: Any) -> FeatureSpec:
    spec = declared_spec(target)
    return meant([target])[spec.name]


def declared_spec(target: Any) -> FeatureSpec:
    spec: FeatureSpec = target.__amber__
    return spec


COUNT = """
@feature
def count(asset: Asset) -> int:
    return helper(asset.bytes)
"""


def test_the_same_text_again_is_the_same_feature_and_so_is_one_with_other_comments(
    notebook: Notebook,
) -> None:
    notebook.run("def helper(n):\n    return n + 1")
    notebook.run(COUNT)
    first = meaning(one(notebook["count"]))
    for text in (COUNT, "\n\n# what it is\n" + COUNT.replace("helper(", "helper( ") + "    # the end\n"):
        notebook.run(text)
        assert meaning(one(notebook["count"])) == first
    notebook.run("def helper(n):\n    # one more\n    return n + 1")
    assert meaning(one(notebook["count"])) == first


def test_an_edited_body_and_an_edited_helper_are_other_features_and_the_old_object_stays(
    notebook: Notebook,
) -> None:
    notebook.run("def helper(n):\n    return n + 1")
    notebook.run(COUNT)
    old = notebook["count"]
    before = meaning(one(old))
    notebook.run(COUNT.replace("asset.bytes", "2 * asset.bytes"))
    edited = meaning(one(notebook["count"]))
    assert meaning(one(old)) == before != edited
    notebook.run("def helper(n):\n    return n + 2")
    assert len({before, edited, meaning(one(notebook["count"])), meaning(one(old))}) == 4


def test_a_class_is_another_feature_when_a_helper_of_its_methods_is(notebook: Notebook) -> None:
    notebook.run("def helper(n):\n    return n + 1")
    notebook.run(
        "@feature\nclass Count:\n    def __call__(self, asset: Asset) -> int:\n        return helper(1)"
    )
    before = meaning(one(notebook["Count"]))
    notebook.run("def helper(n):\n    return n + 2")
    assert meaning(one(notebook["Count"])) != before


def test_the_type_counts_in_a_cell_that_runs_under_a_future_of_an_earlier_one(notebook: Notebook) -> None:
    versions = set()
    for type in ("int", "float", "int"):
        notebook.run(f"@feature\ndef f(asset: Asset) -> {type}:\n    return 1", __future__.annotations)
        versions.add(one(notebook["f"]).version)
    assert len(versions) == 2


def test_resources_are_part_of_what_is_declared_and_not_of_what_is_meant(notebook: Notebook) -> None:
    notebook.run("@feature\ndef count(asset: Asset) -> int:\n    return 1")
    before = one(notebook["count"])
    notebook.run("@feature(num_cpus=2, timeout=5)\ndef count(asset: Asset) -> int:\n    return 1")
    after = one(notebook["count"])
    assert meaning(before) == meaning(after)
    assert declaration(before) != declaration(after)


def test_an_input_is_what_the_module_holds_under_its_own_name(notebook: Notebook) -> None:
    notebook.run("@feature\ndef low(asset: Asset) -> int:\n    return 1")
    notebook.run("@feature\ndef middle(low: int, phash: int) -> int:\n    return low")
    notebook.run(
        "@feature\nclass HighUp:\n    def __call__(self, middle: int) -> int:\n        return middle"
    )
    notebook.run("@feature\ndef top(high_up: int, elsewhere: int) -> int:\n    return high_up")
    specs = meant([notebook["top"]])
    assert set(specs) == {"top", "high_up", "middle", "low"}
    notebook["low_put_aside"] = notebook["low"]
    notebook.run("@feature\ndef low(asset: Asset) -> int:\n    return 2")
    again = meant([notebook["top"]])
    assert {n for n in specs if meaning(specs[n]) != meaning(again[n])} == {"low"}
    del vars(notebook.module)["low"]
    assert "low" not in meant([notebook["top"]])


def test_what_is_given_goes_before_what_the_module_holds(notebook: Notebook) -> None:
    notebook.run("@feature\ndef low(asset: Asset) -> int:\n    return 1")
    notebook.run("@feature\ndef high(low: int) -> int:\n    return low")
    old = notebook["low"]
    notebook.run("@feature\ndef low(asset: Asset) -> int:\n    return 2")
    assert meaning(meant([notebook["high"], old])["low"]) == meaning(one(old))
    assert meaning(meant([notebook["high"]])["low"]) == meaning(one(notebook["low"]))
    with pytest.raises(BadRequest, match="two different features named 'low'"):
        meant([old, notebook["low"]])
    assert list(meant([old, old])) == ["low"]


def test_installed_features_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = sealed(phash.phash)
    monkeypatch.setattr(FeatureSpec, "sealed", None)
    assert sealed(phash.phash) is first
    assert list(meant([phash.phash])) == ["phash"]


def test_what_is_no_feature_is_refused() -> None:
    with pytest.raises(BadRequest, match="print is not a feature: decorate it"):
        sealed(print)
    with pytest.raises(DeclarationError, match="declares no feature"):
        objects_of([types])


def test_modules_give_the_features_under_their_own_names(notebook: Notebook) -> None:
    notebook.run("@feature\ndef low(asset: Asset) -> int:\n    return 1")
    notebook["low_put_aside"] = notebook["low"]
    assert objects_of([notebook.module]) == [notebook["low"]]
    assert objects_of([notebook["low"], phash]) == [notebook["low"], phash.phash]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "@feature(version='2')\ndef f(asset: Asset, by: int = 1) -> int:\n    return by",
            ["version ('2' here, '1' there)"],
        ),
        ("@feature\ndef f(asset: Asset, by: int = 1) -> int:\n    return by", ["version"]),
        (
            "@feature(version='1')\ndef f(asset: Asset, by: int = 2) -> int:\n    return by",
            ["its parameters (by=2 here, by=1 there)", "its code"],
        ),
        (
            "@feature(version='1')\ndef f(clip: Clip, by: int = 1) -> int:\n    return by",
            ["its unit ('segment' here"],
        ),
        (
            "@feature(version='1')\ndef f(asset: Asset, by: int = 1) -> float:\n    return by",
            ["its type", "its code"],
        ),
        (
            "@feature(version='1')\ndef f(asset: Asset, g: int, by: int = 1) -> int:\n    return by",
            ["its inputs (g here, none there)"],
        ),
        ("@feature(version='1')\ndef f(asset: Asset, by: int = 1) -> int:\n    return -by", ["its code"]),
    ],
)
def test_differences_are_said_in_words(notebook: Notebook, text: str, said: list[str]) -> None:
    notebook.run("@feature(version='1')\ndef f(asset: Asset, by: int = 1) -> int:\n    return by")
    [there] = Registry([declared_spec(notebook["f"])]).info()
    assert differences(one(notebook["f"]), there) == []
    notebook.run(text)
    found = differences(one(notebook["f"]), there)
    for words in said:
        assert words in "; ".join(found)
    assert len(found) >= len(said)
    assert isinstance(there, FeatureInfo)
