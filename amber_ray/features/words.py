"""`words`: what is said in each range of `speech`, word by word, by Whisper.

The recogniser invents words where nobody speaks. So it is given speech only (`passages`), and a word counts
where Silero's network, which looked at the same sound, hears speech as well.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Asset, Clip
from amber_ray.features.passages import passages, spoken
from amber_ray.features.speech import RATE, WINDOW
from amber_ray.features.whisper import COMPUTE, TINY, Heard, Whisper, instructions
from amber_ray.media.sound import mono

SECONDS = WINDOW / RATE
"""Of a window of `speech_probability`."""

PAUSE = 3
"""Windows without speech that end a run of it (0.1 s), and with it that are a word."""

KEPT = 64
"""Passages whose words are kept in case that another range of them is asked about."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its punctuation. `start` and `end` in seconds of the asset; `probability` is 0 to 1."""

    start: float
    end: float
    text: str
    probability: float


@feature(version="1", per="speech", batch=16)
class Words:
    """The words that are said in a range of `speech`, in order, with their times and probabilities.

    `model`: "tiny.en" (installed), or a local folder with another Whisper model for CTranslate2, which may
    carry the digest of its weights: `/models/small#sha256=...`. `language`: the one that is spoken, such as
    "de"; tiny.en knows "en" only. Times are within a tenth of a second for most words.
    """

    def __init__(self, model: str = TINY, language: str = "en") -> None:
        self._whisper = Whisper(model, language)
        self._read: OrderedDict[tuple[str, int, int], list[Heard]] = OrderedDict()

    def __call__(self, clip: Clip, speech_probability: np.ndarray) -> list[Word]:
        """The words of one range. Raises `MediaError` where its sound can't be decoded."""
        first = math.floor(clip.start / SECONDS)
        last = max(first + 1, min(len(speech_probability), math.ceil(clip.end / SECONDS)))
        mask = spoken(speech_probability, first, last)
        found = []
        for begin, end in passages(speech_probability, mask, first, last):
            for heard in self._heard(clip.asset, begin, end):
                run = _run(mask, heard)
                if run is not None and clip.start <= (run[0] + run[1]) / 2 * SECONDS < clip.end:
                    found.append(_word(heard, run, clip.asset))
        return found

    def batch(self, clip: list[Clip], speech_probability: list[np.ndarray]) -> list[list[Word]]:
        """The words of several ranges; those of one passage are told from one reading."""
        return [self(*one) for one in zip(clip, speech_probability, strict=True)]

    def provenance(self) -> str:
        """Where it runs, how, and whose weights: `cpu avx2; whisper-tiny.en int8`."""
        return f"cpu {instructions()}; whisper-{self._whisper.weights} {COMPUTE}"

    def _heard(self, asset: Asset, begin: int, end: int) -> list[Heard]:
        """All words of a passage, in seconds of the asset. It depends on nothing but the sound in there."""
        name = asset.id, begin, end
        if name not in self._read:
            sound = mono(asset, RATE, begin * SECONDS, end * SECONDS, feature="words")
            self._read[name] = [
                Heard(h.start + begin * SECONDS, h.end + begin * SECONDS, h.text, h.probability)
                for h in self._whisper.read(sound)
            ]
            if len(self._read) > KEPT:
                self._read.popitem(last=False)
        return self._read[name]


def _run(mask: np.ndarray, word: Heard) -> tuple[int, int] | None:
    """The windows of speech in a word's time, half-open; None for a word where nobody speaks.

    Whisper counts a pause to the word behind it, so of several runs it is the last one that is long enough.
    """
    first = math.floor(word.start / SECONDS)
    at = first + np.flatnonzero(mask[first : max(first + 1, math.ceil(word.end / SECONDS))])
    if not len(at):
        return None
    parts = np.split(at, np.flatnonzero(np.diff(at) > PAUSE) + 1)
    runs = [(int(part[0]), int(part[-1]) + 1) for part in parts]
    return next((r for r in reversed(runs) if r[1] - r[0] >= PAUSE), runs[0])


def _word(heard: Heard, run: tuple[int, int], asset: Asset) -> Word:
    """Without the silence around it; in whole milliseconds, inside the asset."""
    length = math.inf if asset.duration is None else asset.duration
    start = max(heard.start, (run[0] - 1) * SECONDS)
    end = min(max(heard.end, start), (run[1] + 1) * SECONDS)
    return Word(min(round(start, 3), length), min(round(end, 3), length), heard.text, heard.probability)
