"""`amber stale`, `prune` and `diff` over a real store, with no Ray: nothing here computes or deletes."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from amber_ray import samples
from amber_ray.cli import main
from amber_ray.core.model.units import Asset
from amber_ray.core.values.annotations import parse
from amber_ray.store.assets import AssetPacks
from amber_ray.store.parquet import Row, ValueStore
from tests.core_kit import key_of

CLIP = str(samples.clip())
Amber = Callable[..., tuple[int, str, str]]
A, B, C = ("a" * 32, "b" * 32, "c" * 32)
FEATURES = '''
from amber_ray import Asset, feature

@feature(version="3")
def score(asset: Asset, n: int = 1) -> float:
    """What it is worth."""
    return 0.0
'''


@pytest.fixture
def amber(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Amber]:
    monkeypatch.chdir(tmp_path)
    # A file of features stays imported, and its folder on the path: not in the tests that follow.
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine.py").write_text(FEATURES)

    def run(*words: str) -> tuple[int, str, str]:
        status = main(list(words))
        out, err = capsys.readouterr()
        return status, out, err

    yield run
    sys.modules.pop("mine", None)


def write(
    path: Path,
    feature: str,
    version: str,
    values: Mapping[str, Any],
    params: str = "{}",
    created: float = 1.0,
) -> None:
    type = parse(float) if all(isinstance(v, float) for v in values.values()) else parse(str)
    rows = [
        Row(
            key_of(f"{feature}{version}{unit}{params}"),
            None if unit.startswith("{") else unit.partition("@")[0],
            unit,
            params,
            value,
            (),
            "code",
            0.5,
            "cpu",
            created,
        )
        for unit, value in values.items()
    ]
    ValueStore(str(path)).write(feature, version, type, rows)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "amber-store"
    write(path, "score", "1", {A: 1.0, B: 2.0})
    write(path, "score", "2", {A: 1.0, B: 4.0, C: 5.0})
    write(path, "score", "3", {A: 1.0})
    write(path, "other", "auto-1", {A: 1.0})
    return path


def test_stale_lists_what_the_code_does_not_make(amber: Amber, store: Path) -> None:
    status, out, _ = amber("stale", "--features", "mine.py")
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["score", "1", "2"] in [line[:3] for line in lines]
    assert ["score", "2", "3"] in [line[:3] for line in lines]
    assert not any(line[:2] == ["score", "3"] for line in lines)
    assert "version 3 is made now" in out
    assert "no such feature is registered" in out
    assert "3 versions, 6 values" in out
    listed = json.loads(amber("stale", "--features", "mine.py", "--feature", "score", "--format", "json")[1])
    assert [(s["feature"], s["version"], s["made"], s["rows"], s["parts"]) for s in listed] == [
        ("score", "1", "3", 2, 1),
        ("score", "2", "3", 3, 1),
    ]
    assert all(s["bytes"] > 0 for s in listed)
    assert "nobody" in amber("stale", "--feature", "nobody")[2]


def test_a_store_that_is_not_there_is_not_made(amber: Amber, tmp_path: Path) -> None:
    for words in (("stale",), ("prune",), ("diff", "score", "1", "2")):
        status, _, err = amber(*words)
        assert status == 2
        assert "there is no store at" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.py"]


def test_prune_deletes_nothing_before_it_is_told_to(amber: Amber, store: Path) -> None:
    before = sorted(store.rglob("*.parquet"))
    status, out, err = amber("prune", "--features", "mine.py")
    assert status == 0
    assert "nothing was deleted: say it again with --yes" in out
    assert "2 versions, 5 values" in out
    assert "other" not in out
    assert "1 version of features that are not registered here stays" in err
    # A feature that is not registered may be one whose module was forgotten: it has to be named.
    out = amber("prune", "--features", "mine.py", "--feature", "other")[1]
    assert ["other", "auto-1", "1"] in [line.split()[:3] for line in out.splitlines()]
    assert "1 version, 1 value," in out
    assert sorted(store.rglob("*.parquet")) == before


def test_an_old_version_is_read_from_the_store_as_it_was_made(amber: Amber, store: Path) -> None:
    with open(CLIP, "rb") as clip:
        id = hashlib.blake2b(clip.read(), digest_size=16).hexdigest()
    write(store, "score", "1", {id: 7.0}, '{"n": 1}')
    write(store, "score", "1", {id: 8.0}, '{"n": 2}')
    write(store, "old", "4", {id: 9.0})

    def get(*words: str) -> tuple[int, str, str]:
        return amber("get", *words, "--features", "mine.py", "--quiet", "--format", "json")

    status, out, _ = get("score@1,old@4", CLIP)
    assert status == 0
    assert [(r["feature"], r["value"]) for r in json.loads(out)["results"]] == [
        ("score@1", 7.0),
        ("old@4", 9.0),
    ]
    assert json.loads(get("score@1", CLIP, "--param", "score.n=2")[1])["results"][0]["value"] == 8.0
    status, out, err = get("score@2", CLIP)
    assert status == 1
    assert json.loads(out)["results"][0]["error"]["status"] == 410
    assert err == (
        f"amber: score@2 of {CLIP} failed: score: score@2 is not stored for this asset, and its code is no "
        "longer here: version 3 is made now\n"
    )
    status, _, err = get("score@9", CLIP)
    assert status == 2
    assert "nothing is stored of score@9" in err
    assert "stored are 1, 2, 3" in err
    steps = json.loads(amber("explain", "score@1", CLIP, "--features", "mine.py", "--format", "json")[1])
    assert [(s["feature"], s["version"], s["action"]) for s in steps] == [("score", "1", "read")]


def test_diff_compares_the_values_of_the_same_units(amber: Amber, store: Path) -> None:
    AssetPacks(str(store)).add([Asset(B, "/media/b.mp4", "video/mp4", 1, 30.0)])
    status, out, _ = amber("diff", "score", "1", "2")
    assert status == 0
    assert "score 1 → 2: 2 values compared, 1 equal, 1 changed; 0 units only in 1, 1 only in 2" in out
    assert ["abs", "1", "2", "2"] in [line.split() for line in out.splitlines()]
    assert ["/media/b.mp4", "whole", "2", "4", "0.5"] in [line.split() for line in out.splitlines()]
    told = json.loads(amber("diff", "score", "1", "2", "--format", "json")[1])
    assert (told["compared"], told["equal"], told["changed"], told["only_old"], told["only_new"]) == (
        *(2, 1, 1),
        *(0, 1),
    )
    assert told["measures"] == {"abs": {"mean": 2.0, "worst": 2.0, "values": 1}}
    [worst] = told["worst"]
    assert (worst["asset"], worst["uri"], worst["unit"]) == (B, "/media/b.mp4", B)
    assert (worst["old"]["value"], worst["new"]["value"], worst["distance"]) == ("2", "4", 0.5)
    assert worst["old"]["key"] == key_of(f"score1{B}{{}}")
    assert json.loads(amber("diff", "score", "1", "2", "--format", "json", "--worst", "0")[1])["worst"] == []


def test_diff_compares_like_with_like(amber: Amber, store: Path) -> None:
    path = store
    write(path, "cut", "1", {f"{A}@0+10000000": 1.0}, '{"n": 1}')
    write(path, "cut", "1", {f"{A}@0+10000000": 9.0}, '{"n": 2}', created=2.0)
    write(path, "cut", "2", {f"{A}@0+10000000": 1.0}, '{"n": 1}')
    assert "1 values compared, 1 equal" in amber("diff", "cut", "1", "2")[1]
    # Without a parameter in common the newest of each counts; of one made anew, the later one.
    write(path, "cut", "3", {f"{A}@0+10000000": 9.0}, '{"m": 1}')
    assert "1 values compared, 1 equal" in amber("diff", "cut", "1", "3")[1]
    write(path, "cut", "3", {f"{A}@0+10000000": 18.0}, '{"m": 1}', created=3.0)
    out = amber("diff", "cut", "1", "3")[1]
    assert [A, "0-10", "s", "9", "18", "0.5"] in [line.split() for line in out.splitlines()]


def test_diff_names_what_is_stored(amber: Amber, store: Path) -> None:
    status, _, err = amber("diff", "score", "1", "9")
    assert status == 2
    assert err == "amber: nothing is stored of score@9; stored are 1, 2, 3\n"
    assert "did you mean 'score'?" in amber("diff", "scor", "1", "2")[2]
    assert "nothing is stored of this feature" in amber("diff", "nobody", "1", "2")[2]


def test_diff_takes_the_two_that_were_made_last(amber: Amber, store: Path) -> None:
    for version, made in (("auto-2b", 3.0), ("auto-2a", 9.0), ("auto-1", 5.0)):
        write(store, "mine", version, {A: made}, created=made)
    assert "mine auto-1 → auto-2a: 1 values" in amber("diff", "mine")[1]
    assert "mine auto-2b → auto-2a: 1 values" in amber("diff", "mine", "auto-2b")[1]
    assert "mine auto-2a → auto-1: 1 values" in amber("diff", "mine", "auto-2a")[1]
    assert (
        amber("diff", "other")[2]
        == "amber: of other only version auto-1 is stored: nothing to compare it with\n"
    )


def test_diff_takes_the_beginning_of_a_version_that_follows_the_code(amber: Amber, store: Path) -> None:
    for version in ("auto-2b5", "auto-2a7", "auto-1"):
        write(store, "mine", version, {A: 1.0})
    assert "mine auto-2a7 → auto-2b5" in amber("diff", "mine", "auto-2a", "auto-2b")[1]
    assert "stored are auto-1, auto-2a7, auto-2b5" in amber("diff", "mine", "auto-2", "auto-1")[2]
    assert "nothing is stored of mine@1;" in amber("diff", "mine", "1", "auto-1")[2]


def test_diff_shows_segments_that_end_with_their_film(amber: Amber, store: Path) -> None:
    AssetPacks(str(store)).add([Asset(B, "/media/b.mp4", "video/mp4", 1, 12.5)])
    for version, value in (("1", 1.0), ("2", 2.0)):
        write(store, "cut", version, {f"{B}@10000000+5000000": value})
    assert "10-12.5 s" in amber("diff", "cut")[1]
