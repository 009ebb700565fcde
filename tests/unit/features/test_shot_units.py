"""Features of each shot that look at its own pictures, against films whose every picture is known."""

from __future__ import annotations

import io
import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from amber_ray.core.model.units import Asset, Segment, segments
from amber_ray.errors import FeatureError, MediaError
from amber_ray.features.changes import Changes, changes, every_picture
from amber_ray.features.embedding import Embedding
from amber_ray.features.frames import Frames, frames, sampled
from amber_ray.features.labels import Labels, ShotLabels
from amber_ray.features.motion import ShotMotion, shot_motion
from amber_ray.features.shot_embedding import shot_embedding
from amber_ray.features.shot_vector import ShotSample, ShotSampleEmbedding, shot_sample, shot_vector
from amber_ray.features.shots import Shot, middle, shot_frames, shot_picture
from amber_ray.media.looks import Sharing, expecting
from tests.media import (
    catalogue,
    counted_pictures,
    flat,
    found,
    shown,
    textured,
    tone,
    write_picture,
    write_sound,
    write_video,
)

torch.set_num_threads(1)
FPS = Fraction(24_000, 1001)
CUTS = (0, 16, 17, 20, 66, 150)
"""Frames with which shots begin, and the film's length: 16 pictures, 1, 3, 46 and 84."""


def grey(number: int) -> int:
    """How bright picture `number` is: neighbours are 8 levels apart, shots begin 60 off."""
    shot = sum(number >= cut for cut in CUTS[1:])
    return 20 + 60 * (shot % 3) + 8 * (number % 2)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Asset:
    folder = tmp_path_factory.mktemp("shots")
    pictures = [np.full((36, 64, 3), grey(n), np.uint8) for n in range(CUTS[-1])]
    options = {"qp": "0", "preset": "ultrafast"}
    path = write_video(
        folder / "film.mp4",
        pictures,
        FPS,
        gop=40,
        options=options,
        time_base=Fraction(1, 24_000),
        stamp=lambda n: 1001 * n,
    )
    return catalogue(folder).add(str(path))


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Asset:
    folder = tmp_path_factory.mktemp("still")
    return catalogue(folder).add(str(write_picture(folder / "still.png", textured(3))))


def shots_of(film: Asset) -> list[Segment]:
    return found(film, *(cut / FPS for cut in CUTS))


def checked(feature: Any, value: Any) -> Any:
    """A feature's value, which must fit the type that it declares."""
    return feature.__amber__.returns.check(value)


def number_of(time: float) -> int:
    return round(time * FPS)


# --- shot_picture


def test_a_shots_picture_is_the_one_in_its_middle(film: Asset) -> None:
    levels = [
        np.asarray(Image.open(io.BytesIO(checked(shot_picture, shot_picture(shot))))).mean()
        for shot in shots_of(film)
    ]
    middles = [(a + b) // 2 for a, b in itertools.pairwise(CUTS)]
    assert middles == [8, 16, 18, 43, 108]
    assert levels == pytest.approx([grey(n) for n in middles], abs=3)


@pytest.mark.parametrize("seconds", [0, 2])
def test_a_last_picture_that_stays_is_that_of_the_shot(tmp_path: Path, seconds: int) -> None:
    # The middle of the shot lies behind the last picture: the film's only one, or one that stays.
    levels = [40] * 24 * seconds + [200]
    shown = [np.full((36, 64, 3), level, np.uint8) for level in levels]
    path = write_video(tmp_path / "film.mp4", shown, sound=tone(seconds + 4.0))
    asset = catalogue(tmp_path).add(str(path))
    [shot] = found(asset, float(seconds), asset.duration or 0.0)
    for coming in ([], [middle(shot)], [every_picture(shot), middle(shot)]):
        with expecting(Sharing(coming)):
            image = Image.open(io.BytesIO(shot_picture(shot)))
        assert np.asarray(image).mean() == pytest.approx(200, abs=3)
    [behind] = found(asset, seconds + 1.0, seconds + 2.0)
    assert shot_sample(behind, frames(behind)).times.tolist() == [float(seconds)]


def test_a_shots_picture_has_the_size_that_is_asked_for(film: Asset, still: Asset, tmp_path: Path) -> None:
    shot = shots_of(film)[3]
    sizes = [Image.open(io.BytesIO(shot_picture(shot, size=size))).size for size in (16, 64, 320)]
    assert sizes == [(16, 9), (64, 36), (64, 36)]
    assert Image.open(io.BytesIO(shot_picture(segments(still, 60.0)[0]))).size == (64, 48)
    for wrong in (15, 4097):
        with pytest.raises(FeatureError, match=rf"shot_picture\.size must be 16 to 4096 pixels, not {wrong}"):
            shot_picture(shot, size=wrong)
    song = catalogue(tmp_path).add(str(write_sound(tmp_path / "song.mp3", tone(1.0))))
    with pytest.raises(MediaError, match=r"'song\.mp3' has no pictures, only sound"):
        shot_picture(found(song, 0.0, 0.5)[0])


def test_the_pictures_of_all_shots_are_those_of_each() -> None:
    assert checked(shot_frames, shot_frames([b"a", b"b"])) == [b"a", b"b"]


def test_what_looks_at_shots_that_follow_each_other_shares_one_pass(
    film: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> list[Any]:
        each = [
            (shot_picture(s), changes(s).amount.tolist(), frames(s, size=36).times.tolist()) for s in shots
        ]
        return [*each, shot_picture(shots[0])]  # once more, when the pass is over it

    shots = shots_of(film)
    alone = told()
    count = counted_pictures(monkeypatch)
    coming = [look for s in shots for look in (middle(s), every_picture(s), sampled(s, 2.0, 36))]
    with expecting(Sharing(coming)):
        assert told() == alone
    assert count() <= CUTS[-1] + 10  # but for the last one


# --- shot_sample, shot_sample_embedding, shot_vector


def samples_of(film: Asset, **params: Any) -> list[ShotSample]:
    return [checked(shot_sample, shot_sample(shot, frames(shot, **params))) for shot in shots_of(film)]


def test_a_shot_has_its_own_frames_and_one_between_two_of_them_its_middle(film: Asset) -> None:
    # At 2 a second the slots' first pictures are numbers 0, 12, 24, 36, 48, 60, 72, 84, ...
    seen = [[number_of(t) for t in sample.times] for sample in samples_of(film, size=36)]
    assert seen == [[0, 12], [16], [18], [24, 36, 48, 60], [72, 84, 96, 108, 120, 132, 144]]
    for sample in samples_of(film, size=36):
        assert sample.images.shape[1:] == (36, 64, 3)
        levels = sample.images.mean(axis=(1, 2, 3))
        assert levels == pytest.approx([grey(number_of(t)) for t in sample.times], abs=2)
    assert [s.images.shape[1:3] for s in samples_of(film, size=0)] == [(36, 64)] * 5
    assert [s.images.shape[1:3] for s in samples_of(film, size=18)] == [(18, 32)] * 5


def test_a_picture_at_a_cut_is_of_the_shot_that_begins(film: Asset) -> None:
    all_of_them = samples_of(film, fps=100.0, size=36)
    assert [number_of(t) for s in all_of_them for t in s.times] == list(range(150))
    assert [number_of(s.times[0]) for s in all_of_them] == list(CUTS[:-1])


def test_the_last_shot_goes_on_to_the_films_end(film: Asset) -> None:
    [short] = found(film, CUTS[4] / FPS, film.duration or 0.0)
    assert number_of(shot_sample(short, frames(short, fps=100.0)).times[-1]) == 149


def test_a_still_is_one_shot_of_its_picture(still: Asset) -> None:
    [shot] = segments(still, 60.0)
    sample = shot_sample(shot, frames(shot))
    assert (sample.times.tolist(), len(sample.images)) == ([0.0], 1)


def test_a_shots_vector_is_the_mean_direction_of_its_pictures() -> None:
    vectors = np.array([[3, 0], [0, 0], [0, 4]], np.float32)
    value = checked(shot_vector, shot_vector(vectors))
    assert value.dtype == np.float32
    assert value.tolist() == pytest.approx([0.6, 0.8])
    assert shot_vector(vectors[1:2]).tolist() == [0.0, 0.0]


def test_shots_that_share_a_batch_have_the_vectors_that_they_have_alone(film: Asset) -> None:
    network, other = ShotSampleEmbedding(weights="random"), Embedding(weights="random")
    assert network.provenance() == "cpu; efficientnet_lite0/random"
    samples = samples_of(film, size=36)
    together = [checked(ShotSampleEmbedding, vectors) for vectors in network.batch(samples)]
    for vectors, sample in zip(together, samples, strict=True):
        own = other(
            Frames(sample.times, sample.images, np.zeros((len(sample.times), 2, 36, 64, 3), np.uint8))
        )
        assert np.allclose(vectors, own, atol=1e-5)
        assert np.allclose(vectors, network(sample), atol=1e-5)
    # It is the row of `shot_embedding`, wherever the shot has frames of its own.
    whole = frames(segments(film, 60.0)[0], size=36)
    shots = [Shot(s.start, s.end, 0, 0, 1.0) for s in shots_of(film)]
    rows = shot_embedding(shots, [other(whole)], [whole.times])
    for i in (0, 3, 4):
        assert np.allclose(shot_vector(together[i]), rows[i], atol=1e-5)


# --- shot_motion


def motions_of(film: Asset) -> list[ShotMotion]:
    return [checked(shot_motion, shot_motion(changes(shot))) for shot in shots_of(film)]


def test_the_cuts_at_a_shots_ends_do_not_count_as_motion(film: Asset) -> None:
    # Neighbours are 8 levels apart, shots 60.
    for motion, cut in zip(motions_of(film), CUTS, strict=False):
        if cut == 16:  # one picture
            assert motion == ShotMotion(0.0, 0.0, pytest.approx(float(16 / FPS)))
        else:
            assert (motion.mean, motion.peak) == pytest.approx((8 / 255, 8 / 255), abs=1 / 255)


def test_a_shots_motion_is_told_from_its_pictures() -> None:
    amount = np.array([0.9, 0.1, 0.4, 0.1], np.float32)
    seen = Changes(np.array([2.0, 2.1, 2.2, 2.3]), amount, np.zeros(4, np.float32))
    assert shot_motion(seen) == ShotMotion(pytest.approx(0.2), pytest.approx(0.4), 2.2)
    none = Changes(np.zeros(0), np.zeros(0, np.float32), np.zeros(0, np.float32))
    with pytest.raises(MediaError, match="at least one picture"):
        shot_motion(none)


def test_a_still_does_not_move(still: Asset) -> None:
    assert shot_motion(changes(segments(still, 60.0)[0])) == ShotMotion(0.0, 0.0, 0.0)


# --- shot_labels


def test_a_shots_labels_are_the_mean_of_its_pictures() -> None:
    made = ShotLabels("resnet18", "random")
    assert made.provenance() == "cpu; resnet18/random"
    vectors = Embedding("resnet18", "random")(
        shown(textured(1, 64, 64), textured(2, 64, 64), flat((9, 9, 9), 64, 64))
    )
    each = Labels("resnet18", "random")(vectors, top=1000)
    mean = np.zeros(1000)
    for row in each:
        mean[[label.number for label in row]] += np.array([label.score for label in row]) / 3
    labels = checked(ShotLabels, made(vectors, top=1000))
    assert [label.score for label in labels] == pytest.approx(sorted(mean.tolist(), reverse=True))
    assert [label.number for label in labels[:3]] == np.argsort(-mean)[:3].tolist()
    some = made.batch([vectors[:1], vectors], top=2)
    assert some == [made(vectors[:1], top=2), labels[:2]]
    with pytest.raises(FeatureError, match=r"shot_labels\.top must be 1 to 1000, not 0"):
        made(vectors, top=0)
    with pytest.raises(
        FeatureError, match=r"shot_labels\.backbone 'resnet18' reads vectors of 512 numbers, not of 7"
    ):
        made(np.zeros((1, 7), np.float32))
