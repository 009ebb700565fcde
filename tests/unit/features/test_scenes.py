"""`scenes`: which shots belong together, on vectors whose likeness is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from amber_ray.errors import FeatureError
from amber_ray.features.scenes import Scene, scenes
from amber_ray.features.shots import Shot


def told(kinds: str, ahead: int = 8, alike: float = 0.65) -> list[str]:
    """The scenes of shots of these kinds: one letter looks the same, two have nothing in common."""
    vectors = np.eye(26, dtype=np.float32)[[ord(k) - ord("a") for k in kinds]]
    shots = [Shot(float(i), i + 0.9, 24 * i, 24 * i + 21, 0.9) for i in range(len(kinds))]
    found: list[Scene] = scenes.__amber__.returns.check(scenes(shots, vectors, alike, ahead))
    assert [s.start for s in found] == [float(s.first) for s in found]
    # Half-open, and without a gap.
    assert all(a.end == b.start for a, b in itertools.pairwise(found))
    return [kinds[s.first : s.stop] for s in found]


def test_a_scene_holds_all_shots_that_links_span() -> None:
    assert told("aabbb") == ["aa", "bbb"]
    assert told("abab") == ["abab"]
    assert told("abac") == ["aba", "c"]
    # Links overlap: a ... a and b ... b are one scene, though a and b have nothing in common.
    assert told("abacbd") == ["abacb", "d"]
    assert told("abc") == ["a", "b", "c"]


def test_links_do_not_reach_further_than_ahead() -> None:
    assert told("abca", ahead=3) == ["abca"]
    assert told("abca", ahead=2) == ["a", "b", "c", "a"]


def test_the_threshold_is_a_cosine() -> None:
    shots = [Shot(0.0, 1.0, 0, 24, 0.9), Shot(1.0, 2.0, 24, 48, 1.0)]
    vectors = np.array([[1, 0], [0.6, 0.8]], np.float32)
    assert len(scenes(shots, vectors, alike=0.59)) == 1
    assert scenes(shots, vectors, alike=0.61) == [Scene(0.0, 1.0, 0, 1), Scene(1.0, 2.0, 1, 2)]


def test_edges() -> None:
    assert scenes([], np.zeros((0, 4), np.float32)) == []
    assert told("a") == ["a"]
    with pytest.raises(FeatureError, match=r"scenes\.alike is a cosine"):
        told("a", alike=2.0)
    with pytest.raises(FeatureError, match=r"scenes\.ahead must be 1 to 1000"):
        told("a", ahead=0)
