"""Features of windows that another feature finds, in a test."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from amber_ray import Asset, Clip, Collection, errors, feature
from amber_ray.features.frames import Frames
from amber_ray.testing import run, write_video
from tests.media import flat


@dataclass
class Part:
    start: float
    end: float


@feature(version="1")
def parts(asset: Asset, at: str = "1,3") -> list[Part]:
    times = [0.0, *map(float, at.split(",") if at else ())]
    return [Part(a, b) for a, b in itertools.pairwise(times)]


@feature(version="1", per="parts")
def seen(frames: Frames, clip: Clip) -> list[float]:
    return [clip.start, clip.end, float(len(frames.times))]


@feature(version="1", per="parts")
def doubled(seen: list[float]) -> float:
    return 2 * seen[2]


@feature(version="1")
def total(doubled: list[float], parts: list[Part]) -> float:
    assert len(doubled) == len(parts)
    return sum(doubled)


@feature(version="1")
def halves(total: float) -> list[Part]:
    return [Part(0.0, total / 10), Part(total / 10, total / 5)]


@feature(version="1", per="halves")
def half(clip: Clip) -> float:
    return clip.end


@feature(version="1", per="collection")
def every(collection: Collection, doubled: list[list[float]]) -> list[list[float]]:
    return doubled


FEATURES = [parts, seen, doubled, total, halves, half, every]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", [flat((90, 90, 90))] * 96, fps=24)


def test_each_window_sees_its_own_pictures(film: Path) -> None:
    assert run(seen, film) == [[0.0, 1.0, 2.0], [1.0, 3.0, 4.0]]
    assert run(seen, [film], params={"parts.at": ""}) == [[]]
    assert run(seen, film, range=(0.0, 0.5)) == [[0.0, 1.0, 2.0]]
    assert run(doubled, film, segment_seconds=1.0) == [4.0, 8.0]


def test_gathers_finders_of_what_was_found_and_collections(film: Path) -> None:
    assert run(total, film) == 12.0
    assert run(half, film) == [pytest.approx(1.2), pytest.approx(2.4)]
    assert run(every, [film]) == [[4.0, 8.0]]


def test_given_inputs_are_of_one_window(film: Path) -> None:
    assert run(doubled, given={"seen": [0.0, 1.0, 3.0]}) == 6.0
    assert run(total, given={"doubled": [1.0, 2.0], "parts": [Part(0.0, 1.0), Part(1.0, 2.0)]}) == 3.0
    assert np.isfinite(run(total, film))


def test_ranges_that_are_none_are_a_failure_that_names_their_finder(film: Path) -> None:
    with pytest.raises(errors.FeatureError, match=r"'parts' found no ranges .*: its range number 0"):
        run(seen, film, params={"parts.at": "-1"})
