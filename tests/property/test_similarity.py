"""Blockwise search against brute force, and its promise that blocks and order change not a single bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amber_ray.errors import FeatureError
from amber_ray.features import similarity
from amber_ray.features.similarity import Pairs, cosines, hamming, nearest_bits, top_pairs, unit

# Vectors whose cosines are exact in any arithmetic and often equal: 0, ±1/4, ±1/2, ±3/4, ±1.
EXACT = [
    [1, 0, 0, 0],
    [0, -1, 0, 0],
    [1, 1, 1, 1],
    [1, -1, 1, -1],
    [3, 3, -3, -3],
    [0, 0, 0, 0],
    [-1, -1, -1, -1],
]
vector = st.sampled_from(EXACT)
some_bits = st.sampled_from([0, 1, 3, 2**63, 2**64 - 1])
rows = st.lists(st.tuples(vector, vector, st.integers(0, 3), some_bits, some_bits), max_size=12)


def plain(vectors: Any) -> np.ndarray:
    """Rows of length 1, the plain way."""
    wide = np.asarray(vectors, np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-300)


def brute(
    scores: np.ndarray, barred: Callable[[int, int], bool], count: int, least: float = -1.0
) -> list[tuple[int, int, float]]:
    """All pairs, filtered and sorted in Python."""
    pairs = [(i, j, float(scores[i, j])) for i, j in np.ndindex(scores.shape) if not barred(i, j)]
    return sorted((p for p in pairs if p[2] >= least), key=lambda p: (-p[2], p[0], p[1]))[:count]


def listed(pairs: Pairs) -> list[tuple[int, int, float]]:
    return list(zip(pairs.left.tolist(), pairs.right.tolist(), pairs.cosine.tolist(), strict=True))


@settings(max_examples=300, deadline=None)
@given(
    rows,
    st.integers(1, 200),
    st.sampled_from([-1.0, 0.0, 0.5]),
    st.sampled_from([-1, 0, 1, 2]),
    st.booleans(),
    st.integers(1, 5),
)
def test_the_best_pairs_are_those_of_brute_force(
    given: list[Any], count: int, least: float, bits: int, mirrored: bool, block: int
) -> None:
    ours, theirs, groups, marks, marks_too = [list(c) for c in zip(*given, strict=True)] or [[]] * 5
    left = np.array(ours, np.float32).reshape(-1, 4)
    right = left if mirrored else np.array(theirs, np.float32).reshape(-1, 4)
    found = top_pairs(
        left,
        right,
        np.array(groups, np.int64),
        count=count,
        least=least,
        hashes=(np.array(marks, np.uint64), np.array(marks_too, np.uint64)),
        bits=bits,
        mirrored=mirrored,
        block=block,
    )

    def barred(i: int, j: int) -> bool:
        same = (marks[i] ^ marks_too[j]).bit_count() <= bits
        return groups[i] == groups[j] or same or (mirrored and i >= j)

    assert listed(found) == brute(plain(left) @ plain(right).T, barred, count, least)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.sampled_from([9, 16, 37, 59]))
def test_blocks_and_order_change_not_a_bit(seed: int, count: int, block: int) -> None:
    """Vectors of which many are the same but for the last bit, so that any rounding would reorder them."""
    random = np.random.default_rng(seed)
    base = random.normal(size=(3, 300)).astype(np.float32)
    many = base[random.integers(0, 3, 60)]
    many = np.where(random.random(many.shape) < 0.02, np.nextafter(many, np.float32(9)), many)
    groups = random.integers(0, 4, 60)
    whole = listed(top_pairs(many, many[::-1], groups, count=count))
    assert listed(top_pairs(many, many[::-1], groups, count=count, block=block)) == whole
    same = groups[:, None] == groups[None]
    assert whole == brute(cosines(unit(many), unit(many[::-1])), lambda i, j: bool(same[i, j]), count)
    # The same pairs of vectors score the same wherever they stand.
    order = random.permutation(60)
    moved = top_pairs(many[order], many[::-1][order], groups[order], count=count, block=block)
    assert moved.cosine.tolist() == [s for _, _, s in whole]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1.0, 1e30]))
def test_cosines_are_those_of_numpy(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    one, other = random.normal(size=(5, 1280)) * scale, random.normal(size=(7, 1280))
    one, other = one.astype(np.float32), other.astype(np.float32)
    exact = plain(one) @ plain(other).T
    assert np.abs(cosines(unit(one), unit(other)) - exact).max() < similarity.ROUNDING
    assert np.abs(cosines(unit(one), unit(one)).diagonal() - 1).max() < similarity.ROUNDING


def test_cosines_have_no_rounding_at_all() -> None:
    random = np.random.default_rng(0)
    one, other = unit(random.normal(size=(3, 1280))), unit(random.normal(size=(4, 1280)))
    grain = int(similarity.GRAIN)
    whole = [[int(x) for x in row * grain] for row in np.concatenate([one, other])]
    expected = [
        [sum(a * b for a, b in zip(x, y, strict=True)) / grain**2 for y in whole[3:]] for x in whole[:3]
    ]
    assert cosines(one, other).tolist() == expected


def test_what_is_no_direction_has_no_cosine() -> None:
    assert cosines(unit(np.zeros((1, 3))), unit(np.ones((2, 3)))).tolist() == [[0.0, 0.0]]
    assert unit(np.zeros((0, 3))).shape == (0, 3)
    with pytest.raises(FeatureError, match="not finite"):
        unit(np.array([[1.0, np.nan]]))


hashes = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9)


@settings(deadline=None)
@given(hashes, hashes, st.integers(1, 4))
def test_bits_that_differ_are_counted(one: list[int], other: list[int], block: int) -> None:
    expected = [[(a ^ b).bit_count() for b in other] for a in one]
    left, right = np.array(one, np.uint64), np.array(other, np.uint64)
    assert hamming(left, right).tolist() == expected
    assert nearest_bits(left, right, block).tolist() == [min(row) for row in expected]
