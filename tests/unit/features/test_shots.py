"""`timeline`, `transitions`, `shots` and `shot_frames`: the answers of the reference, whatever the grid."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import iscc_samples
import numpy as np
import pytest
import torch
from PIL import Image

from amber_ray.core.model.units import Asset, segments
from amber_ray.errors import FeatureError, MediaError
from amber_ray.features.shots import Shot, shot_sheet, shots
from amber_ray.features.transitions import (
    SIZE,
    Strip,
    Timeline,
    TransitionDetector,
    Transitions,
    strip,
    timeline,
)
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.decode import pictures
from amber_ray.media.locate import Locator
from amber_ray.media.scale import exactly
from amber_ray.samples import clip
from tests.media import catalogue, flat, textured, tone, write_picture, write_sound, write_video

torch.set_num_threads(1)

CUTS = (35, 128)
"""Frames of `film` with which its second and third shot begin."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Asset:
    """Frames 250 to 399 of the shipped clip: meadow, stream, bird."""
    folder = tmp_path_factory.mktemp("film")
    bunny = Catalogue(str(folder), Locator([str(clip().parent)])).add(str(clip()))
    shown = [p.rgb for p in pictures(bunny, 250 / 24 - 1e-4, 400 / 24 - 1e-4, size=exactly(160, 90))]
    assert len(shown) == 150
    return catalogue(folder).add(str(write_video(folder / "film.mp4", shown, gop=48)))


@pytest.fixture(scope="module")
def detector() -> TransitionDetector:
    return TransitionDetector()


@pytest.fixture(scope="module")
def reference(film: Asset, detector: TransitionDetector) -> tuple[np.ndarray, list[list[int]]]:
    """The scores and scenes by the network's authors' own code over the whole film at once."""
    network: Any = detector._network
    whole = np.stack([p.rgb for p in pictures(film, size=SIZE, scaler="bicubic")])
    scores = network.predict_frames(torch.from_numpy(whole), quiet=True)[0].numpy()
    return scores, network.predictions_to_scenes(scores).tolist()


def checked(feature: Any, value: Any) -> Any:
    """A feature's value, which must fit the type that it declares."""
    return feature.__amber__.returns.check(value)


def strips(asset: Asset, seconds: float) -> list[Strip]:
    when = timeline(asset)
    return [checked(strip, strip(segment, when)) for segment in segments(asset, seconds)]


@pytest.mark.parametrize("seconds", [1.0, 10.0, 60.0])
def test_shots_are_the_references_whatever_the_grid(
    film: Asset, detector: TransitionDetector, reference: tuple[np.ndarray, list[list[int]]], seconds: float
) -> None:
    found = [checked(TransitionDetector, detector(s)) for s in strips(film, seconds)]
    scores, scenes = reference
    assert np.abs(np.concatenate([t.scores for t in found]) - scores).max() < 1e-5
    value = checked(shots, shots(timeline(film), found))
    assert [[s.first, s.stop - 1] for s in value] == scenes
    assert [s.first for s in value[1:]] == list(CUTS)
    assert [s.start for s in value] == [0.0, *(n / 24 for n in CUTS)]
    assert [s.end for s in value] == pytest.approx([*(n / 24 for n in CUTS), 150 / 24])


@pytest.mark.parametrize("seconds", [0.7, 1.0, 2.5, 60.0])
def test_every_window_is_looked_at_once_and_whole(film: Asset, seconds: float) -> None:
    whole = np.stack([p.rgb for p in pictures(film, size=SIZE, scaler="bicubic")])
    padded = np.concatenate([whole[:1]] * 25 + [whole] + [whole[-1:]] * 25)
    made = [s for s in strips(film, seconds) if s.count]
    assert [n for s in made for n in range(s.first, s.first + s.count)] == list(range(150))
    for s in made:
        assert np.array_equal(s.images, padded[s.first : s.first + len(s.images)])
        assert len(s.images) == -(-s.count // 50) * 50 + 50


def test_the_content_detector_finds_the_hard_cuts_without_a_model(film: Asset) -> None:
    content = TransitionDetector("content")
    assert content.provenance() == "cpu; content"
    found = [shots(timeline(film), [content(s) for s in strips(film, seconds)]) for seconds in (1.0, 60.0)]
    assert found[0] == found[1]
    assert [s.first for s in found[0]] == [0, *CUTS]
    assert all(0.5 < s.score <= 1 for s in found[0])
    with pytest.raises(FeatureError, match='must be "transnet" or "content", not \'ffmpeg\''):
        TransitionDetector("ffmpeg")


def test_provenance_names_the_weights_and_other_models_are_left_alone(detector: TransitionDetector) -> None:
    assert detector.provenance() == "cpu; transnetv2/authors"
    assert not torch.are_deterministic_algorithms_enabled()


def told(scores: list[float], threshold: float = 0.5) -> list[tuple[int, int, float]]:
    """(first, stop, score) of the shots of a film with these scores."""
    when = Timeline(np.arange(len(scores)) / 10, len(scores) / 10)
    half = len(scores) // 2
    parts = [
        Transitions(0, np.array(scores[:half], np.float32)),
        Transitions(half, np.array(scores[half:], np.float32)),
    ]
    found: list[Shot] = checked(shots, shots(when, parts, threshold))
    return [(s.first, s.stop, round(s.score, 3)) for s in found]


def test_shots_are_what_lies_between_transitions() -> None:
    assert told([0, 0, 0.9, 0, 0, 0]) == [(0, 3, 0.9), (3, 6, 1.0)]
    # The pictures within a gradual transition belong to no shot.
    assert told([0, 0, 0.6, 0.8, 0.7, 0, 0, 0]) == [(0, 3, 0.8), (5, 8, 1.0)]
    assert told([0.9, 0.9, 0, 0, 0, 0]) == [(2, 6, 1.0)]
    assert told([0, 0, 0, 0.9]) == [(0, 4, 0.9)]
    assert told([0.9, 0.9, 0.9, 0.9]) == [(0, 4, 1.0)]
    assert told([0, 0.4, 0, 0]) == [(0, 4, 1.0)]
    assert told([0, 0.4, 0, 0], threshold=0.3) == [(0, 2, 0.4), (2, 4, 1.0)]
    assert told([]) == []
    with pytest.raises(FeatureError, match=r"shots\.threshold"):
        told([0.0], threshold=1.0)


def test_scores_agree_with_the_references_rule_on_any_run(detector: TransitionDetector) -> None:
    network: Any = detector._network
    draw = np.random.default_rng(3)
    for _ in range(200):
        scores = draw.random(int(draw.integers(2, 12))).round(2)
        scores[0] = 0.0  # Where a film begins in a transition the reference reports a shot that has no frame.
        scenes = network.predictions_to_scenes(scores.astype(np.float32)).tolist()
        assert [[first, stop - 1] for first, stop, _ in told(scores.tolist())] == scenes


def test_a_still_is_one_shot_and_sound_has_none(tmp_path: Path) -> None:
    photo = catalogue(tmp_path).add(str(write_picture(tmp_path / "photo.png", textured(1))))
    (segment,) = segments(photo, 10.0)
    when = checked(timeline, timeline(photo))
    content = TransitionDetector("content")
    found = shots(when, [content(strip(segment, when))])
    assert found == [Shot(0.0, 0.0, 0, 1, 1.0)]
    song = catalogue(tmp_path).add(str(write_sound(tmp_path / "song.mp3", tone(1.0))))
    with pytest.raises(MediaError, match=r"'song\.mp3' has no pictures, only sound"):
        timeline(song)


def test_a_shot_sheet_shows_each_shot_once(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    path = write_video(tmp_path / "three.mp4", [flat(c) for c in colours for _ in range(24)])
    asset = catalogue(tmp_path).add(str(path))
    three = [Shot(float(i), i + 1.0, 24 * i, 24 * i + 24, 1.0) for i in range(3)]
    sheet = np.asarray(Image.open(io.BytesIO(checked(shot_sheet, shot_sheet(asset, three, width=512)))))
    assert sheet.shape[1] == 512
    thirds = [sheet[20:60, 30 + 165 * i : 130 + 165 * i] for i in range(3)]
    assert [int(t.mean(axis=(0, 1)).argmax()) for t in thirds] == [0, 1, 2]
    many = [Shot(i / 300, (i + 1) / 300, i, i + 1, 1.0) for i in range(900)]
    # 400 of them, in 20 rows.
    assert Image.open(io.BytesIO(shot_sheet(asset, many, columns=20, width=1280))).size[1] < 20 * 64
    with pytest.raises(FeatureError, match=r"shot_sheet\.columns must be 1 to 20"):
        shot_sheet(asset, three, columns=0)
    with pytest.raises(MediaError, match="at least one shot"):
        shot_sheet(asset, [])


@pytest.mark.parametrize("name", ["demo.avi", "demo.mkv", "demo.mpg", "demo.wmv", "demo.flv", "demo.3gp"])
def test_the_timeline_is_that_of_decoding(tmp_path: Path, name: str) -> None:
    path = next(p for p in map(Path, iscc_samples.videos()) if p.name == name)
    asset = Catalogue(str(tmp_path), Locator([str(path.parent)])).add(str(path))
    when = checked(timeline, timeline(asset))
    decoded = [p.time for p in pictures(asset, size=exactly(16, 16))]
    assert when.times.tolist() == decoded
    assert when.end >= decoded[-1]
