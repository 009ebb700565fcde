"""`shot_embedding` and `shot_ends`: pooled vectors, with answers that can be told by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amber_ray.errors import FeatureError, MediaError
from amber_ray.features.shot_embedding import ShotEnds, frames_of, shot_embedding, shot_ends
from amber_ray.features.shots import Shot

TIMES = np.arange(6) / 2
VECTORS = np.array([[2, 0], [0, 2], [0, 4], [3, 0], [3, 4], [-1, 0]], np.float32)
HASHES = np.array([3, 1, 4, 1, 5, 9], np.uint64)
SHOTS = [Shot(0.0, 0.5, 0, 12, 0.9), Shot(0.5, 1.5, 12, 36, 0.8), Shot(1.5, 3.0, 36, 72, 1.0)]


def split(values: np.ndarray, *places: int) -> list[np.ndarray]:
    """As it arrives: a part for each segment."""
    return np.split(values, places)


def checked(feature: Any, *arguments: Any, **params: Any) -> Any:
    """A feature's value, which must fit the type that it declares."""
    return feature.__amber__.returns.check(feature(*arguments, **params))


def test_a_shot_points_where_its_frames_point_on_the_whole() -> None:
    value = checked(shot_embedding, SHOTS, [VECTORS], [TIMES])
    mean = np.array([5, 4]) / 41**0.5
    assert value.dtype == np.float32
    assert np.allclose(value, [[1, 0], [0, 1], mean], atol=1e-7)
    for places in ((3,), (0, 1, 1, 5), (6,)):
        parts = split(VECTORS, *places), split(TIMES, *places)
        assert np.array_equal(checked(shot_embedding, SHOTS, *parts), value)


def test_a_frame_at_a_cut_is_of_the_shot_that_begins() -> None:
    # Whatever the last bit of the division that made the times.
    for off in (-1e-9, 0.0, 1e-9):
        own = frames_of([Shot(s.start + off, s.end + off, 0, 0, 1.0) for s in SHOTS], TIMES)
        assert [o.tolist() for o in own] == [[0], [1, 2], [3, 4, 5]]


def test_a_shot_between_two_frames_has_the_nearest_ones_vector_and_no_ends() -> None:
    short = [
        Shot(0, 0.6, 0, 14, 1),
        Shot(0.6, 0.7, 14, 17, 1),
        Shot(0.7, 0.9, 17, 22, 1),
        Shot(0.9, 3, 22, 72, 1),
    ]
    each = np.eye(6, dtype=np.float32)
    value = checked(shot_embedding, short, [each], [TIMES])
    assert value[1:3].tolist() == each[1:3].tolist()  # of the frames at 0.5 and 1.0 s
    ends: ShotEnds = checked(shot_ends, short, [each], [HASHES], [TIMES])
    assert ends.shots.tolist() == [0, 3]
    assert ends.opening.tolist() == each[[0, 2]].tolist()
    assert ends.closing.tolist() == each[[1, 5]].tolist()


def test_the_ends_of_a_shot_are_its_first_and_last_frames() -> None:
    one: ShotEnds = checked(shot_ends, SHOTS, [VECTORS], [HASHES], [TIMES])
    assert one.shots.tolist() == [0, 1, 2]
    assert one.opening.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert one.closing.tolist() == [[1, 0], [0, 1], [-1, 0]]
    parts = split(VECTORS, 2, 2), split(HASHES, 2, 2), split(TIMES, 2, 2)
    two: ShotEnds = checked(shot_ends, SHOTS, *parts, at_cut=2)
    for ends in (one, two):
        assert ends.opening_hash.tolist() == [3, 1, 1]
        assert ends.closing_hash.tolist() == [3, 4, 9]
    assert np.allclose(two.opening[2], np.array([6, 4]) / 52**0.5)
    assert np.allclose(two.closing[2], np.array([2, 4]) / 20**0.5)
    for wrong in (0, 101):
        with pytest.raises(FeatureError, match=f"1 to 100 frames, not {wrong}"):
            shot_ends(SHOTS, [VECTORS], [HASHES], [TIMES], at_cut=wrong)


@pytest.mark.parametrize("end", [0.0, 0.04])
def test_a_still_is_one_shot_of_one_frame(end: float) -> None:
    still = [Shot(0.0, end, 0, 1, 1.0)]
    value = checked(shot_embedding, still, [VECTORS[:1]], [TIMES[:1]])
    assert value.tolist() == [[1, 0]]
    assert checked(shot_ends, still, [VECTORS[:1]], [HASHES[:1]], [TIMES[:1]]).shots.tolist() == [0]


def test_nothing_seen() -> None:
    none = [VECTORS[:0], VECTORS[:0]], [TIMES[:0], TIMES[:0]]
    assert checked(shot_embedding, [], *none).shape == (0, 2)
    assert checked(shot_embedding, [], [], []).shape == (0, 0)
    assert checked(shot_embedding, [], [VECTORS], [TIMES]).shape == (0, 2)
    with pytest.raises(MediaError, match="at least one frame"):
        shot_embedding(SHOTS, *none)
    assert checked(shot_ends, SHOTS, none[0], [HASHES[:0]] * 2, none[1]).opening.shape == (0, 2)
    # A picture whose vector is 0 points nowhere.
    assert checked(shot_embedding, SHOTS[:1], [np.zeros((1, 2), np.float32)], [TIMES[:1]]).tolist() == [
        [0, 0]
    ]
