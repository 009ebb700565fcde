"""Speech of known text: a recording that ships, and how far from the text a transcript is.

The recording is `tests/speech/sense-and-sensibility.opus`; its `ATTRIBUTION.md` says where it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

RECORDING = Path(__file__).parent / "speech/sense-and-sensibility.opus"
RATE = 16_000

SAID: tuple[tuple[str, float], ...] = (
    *(("and", 0.2), ("mister", 0.37), ("john", 0.63), ("dashwood", 0.98), ("had", 1.58), ("then", 1.84)),
    *(("leisure", 2.25), ("to", 2.71), ("consider", 2.89), ("how", 3.44), ("much", 4.0), ("there", 4.33)),
    *(("might", 4.52), ("be", 4.79), ("prudently", 4.94), ("in", 5.46), ("his", 5.56), ("power", 5.75)),
    *(("to", 6.04), ("do", 6.14), ("for", 6.35), ("them", 6.61)),
    *(("he", 7.31), ("was", 7.43), ("not", 7.66), ("an", 8.23), ("ill", 8.4), ("disposed", 8.58)),
    *(("young", 9.21), ("man", 9.43)),
    *(("unless", 10.36), ("to", 10.68), ("be", 10.79), ("rather", 10.95), ("cold", 11.31)),
    *(("hearted", 11.83), ("and", 12.31), ("rather", 12.48), ("selfish", 12.87), ("is", 13.72)),
    *(("to", 13.97), ("be", 14.07), ("ill", 14.25), ("disposed", 14.46)),
    *(("had", 15.61), ("he", 15.83), ("married", 15.93), ("a", 16.37), ("more", 16.42)),
    *(("amiable", 16.85), ("woman", 17.4), ("he", 17.88), ("might", 18.1), ("have", 18.39)),
    *(("been", 18.58), ("made", 18.75), ("still", 19.08), ("more", 19.46), ("respectable", 19.64)),
    *(("than", 20.39), ("he", 20.52), ("was", 20.6)),
    *(("he", 21.65), ("might", 21.82), ("even", 22.08), ("have", 22.36), ("been", 22.51)),
    *(("made", 22.77), ("amiable", 23.14), ("himself", 23.71)),
)
"""The words of the recording, and when each begins, in seconds."""

_SPELLED = {"mr": "mister", "center": "centre", "traveler": "traveller"}


def plain(text: str) -> list[str]:
    """The words of a text, for comparison: no punctuation, no capitals, one spelling."""
    words = re.findall(r"[a-z0-9']+", text.lower().replace("’", "'"))
    return [_SPELLED.get(word, word) for word in words]


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """How many words must be changed, put in or left out: the numerator of the word error rate."""
    errors = list(range(len(heard) + 1))
    for i, wanted in enumerate(said, 1):
        before, errors[0] = errors[:], i
        for j, found in enumerate(heard, 1):
            errors[j] = min(before[j] + 1, errors[j - 1] + 1, before[j - 1] + (wanted != found))
    return errors[-1]


def error_rate(said: str, heard: str) -> float:
    """The word error rate of a transcript: 0 if all is right; above 1 if more is wrong than was said."""
    wanted = plain(said)
    return word_errors(wanted, plain(heard)) / len(wanted)


def mixed(speech: np.ndarray, music: np.ndarray, decibels: float) -> np.ndarray:
    """Speech with music so many decibels below it, by their mean powers; the music is repeated if need be."""
    under = np.resize(music, len(speech))
    gain = np.sqrt(np.square(speech).mean() / np.square(under).mean() / 10 ** (decibels / 10))
    return (speech + gain * under).astype(np.float32)
