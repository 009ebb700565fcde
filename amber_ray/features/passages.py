"""Passages: what is heard together to tell words from it, from the probability of speech in each window.

A recogniser needs the words around a word: given the ranges of `speech` one by one, many of which are parts
of a sentence, it errs twice as often as on the whole (the passages of this module: as on the whole). So
ranges that are close are heard as one passage. Passages follow from the sound alone, not from the range that
is asked about: ranges of one passage are told from the same reading, and no word is heard twice or lost
between two of them. Must not know: how words are told, files.
"""

from __future__ import annotations

import numpy as np

SPOKEN = 0.35
"""The least probability of a window in speech: where `speech` leaves a range by its default threshold."""

REACH, APART = 8, 47
"""Windows: how far a passage goes beyond speech (0.26 s), and the silence between two passages (1.5 s)."""

LEAST, MOST = 437, 875
"""Windows: a passage that is longer than MOST (28 s) is cut, at the best pause that is LEAST (14 s) in."""

SMOOTH = 7
"""Windows over which the probability is averaged to find a pause (0.2 s)."""


def spoken(probability: np.ndarray, first: int, last: int) -> np.ndarray:
    """Which windows count as speech for a range of windows [first, last): bool[w].

    A range that reaches beyond all passages was found with a lower threshold: it counts as speech, whole.
    """
    mask = probability >= SPOKEN
    around = [p for p in _runs(mask) if p[0] < last and p[1] > first]
    if not around or first < around[0][0] or last > around[-1][1]:
        mask[first:last] = True
    return mask


def passages(probability: np.ndarray, mask: np.ndarray, first: int, last: int) -> list[tuple[int, int]]:
    """The passages that windows [first, last) touch, in order; each half-open, in windows.

    `probability` is float32[w], `mask` says which windows count as speech.
    """
    found: list[tuple[int, int]] = []
    for begin, end in _runs(mask):
        if begin < last and end > first:
            found += _cut(probability, begin, end)
    return [(a, b) for a, b in found if a < last and b > first]


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Speech with the shorter silences in it, and a little of what is around."""
    at = np.flatnonzero(mask)
    if not len(at):
        return []
    gaps = np.flatnonzero(np.diff(at) > APART)
    begins, ends = at[[0, *(gaps + 1)]], at[[*gaps, -1]] + 1
    return [
        (max(0, a - REACH), min(len(mask), b + REACH))
        for a, b in zip(begins.tolist(), ends.tolist(), strict=True)
    ]


def _cut(probability: np.ndarray, begin: int, end: int) -> list[tuple[int, int]]:
    """[begin, end) in pieces of MOST windows at most, cut where speech is least probable."""
    pieces = []
    while end - begin > MOST:
        low, high = begin + LEAST, min(begin + MOST, end - APART)
        half = SMOOTH // 2
        around = probability[low - half : high + half].astype(np.float64)
        quiet = np.convolve(around, np.ones(SMOOTH), "valid")
        at = low + len(quiet) - 1 - int(np.argmin(quiet[::-1]))
        pieces.append((begin, at))
        begin = at
    return [*pieces, (begin, end)]
