"""Which sound is heard together: passages of known probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amber_ray.features.passages import APART, LEAST, MOST, REACH, passages, spoken


def series(*runs: tuple[int, float]) -> np.ndarray:
    """Windows in a row of one probability, several times."""
    return np.concatenate([np.full(n, p, np.float32) for n, p in runs])


def heard(probability: np.ndarray, first: int, last: int) -> list[tuple[int, int]]:
    return passages(probability, spoken(probability, first, last), first, last)


def test_ranges_that_are_close_are_one_passage_and_others_are_not() -> None:
    close = series((100, 0.0), (50, 0.9), (APART - 1, 0.0), (50, 0.9), (100, 0.0))
    whole = [(100 - REACH, 100 + 50 + APART - 1 + 50 + REACH)]
    assert heard(close, 100, 150) == heard(close, 196, 246) == whole
    apart = series((100, 0.0), (50, 0.9), (APART + 1, 0.0), (50, 0.9), (100, 0.0))
    assert heard(apart, 100, 150) == [(100 - REACH, 150 + REACH)]
    assert heard(apart, 198, 248) == [(198 - REACH, 248 + REACH)]


def test_a_long_passage_is_cut_at_its_pause_not_at_a_length() -> None:
    probability = series((600, 0.9), (20, 0.1), (600, 0.9))
    (begin, cut), (again, end) = heard(probability, 0, len(probability))
    assert (begin, end) == (0, len(probability))
    assert cut == again
    assert 600 <= cut < 620
    assert heard(probability, 0, 100) == [(begin, cut)]
    assert heard(probability, 700, 800) == [(cut, end)]


def test_speech_without_a_pause_is_cut_all_the_same() -> None:
    pieces = heard(series((3 * MOST, 0.9)), 0, 3 * MOST)
    assert [a for a, _ in pieces[1:]] == [b for _, b in pieces[:-1]]
    assert max(b - a for a, b in pieces) <= MOST
    assert min(b - a for a, b in pieces[:-1]) >= LEAST


@pytest.mark.parametrize("level", [0.0, 0.2])
def test_a_range_that_no_window_speaks_for_is_a_passage_by_itself(level: float) -> None:
    probability = series((500, level))
    assert heard(probability, 200, 240) == [(200 - REACH, 240 + REACH)]


def test_a_range_that_reaches_beyond_is_heard_to_its_ends() -> None:
    probability = series((200, 0.1), (50, 0.9), (200, 0.1))
    assert heard(probability, 100, 300) == [(100 - REACH, 300 + REACH)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.sampled_from([0.0, 0.2, 0.4, 0.9])), min_size=1, max_size=30),
    st.data(),
)
def test_passages_cover_the_speech_of_a_range_and_are_the_same_for_all_in_them(
    runs: list[tuple[int, float]], data: st.DataObject
) -> None:
    probability = series(*runs)
    first = data.draw(st.integers(0, len(probability) - 1))
    last = data.draw(st.integers(first + 1, len(probability)))
    mask = spoken(probability, first, last)
    found = passages(probability, mask, first, last)
    covered = np.zeros(len(probability), bool)
    for a, b in found:
        assert 0 <= a < b <= len(probability)
        assert b - a <= MOST
        assert not covered[a:b].any()
        covered[a:b] = True
    assert covered[first:last][mask[first:last]].all()
    usual = probability >= 0.35
    if (mask == usual).all():
        for a, b in found:
            inside = a + np.flatnonzero(usual[a:b])
            if len(inside):
                assert heard(probability, int(inside[0]), int(inside[-1]) + 1) == [(a, b)]
