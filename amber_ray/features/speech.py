"""`speech_probability`, `speech` and `shot_speech`: where somebody speaks, by Silero VAD.

The network (Silero Team, "Silero VAD", https://github.com/snakers4/silero-vad) ships with its weights in the
package `silero-vad`, of which only that file is used, by onnxruntime. The network runs in
`speech_probability`; `speech` is a cheap look at what it said, so other thresholds run no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Asset, Clip
from amber_ray.errors import FeatureError
from amber_ray.features.weights import packaged
from amber_ray.media.sound import blocks, sample_at

FILE, SHA256 = "data/silero_vad.onnx", "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"
"""The network in silero-vad 6.2.3."""

RATE, WINDOW, CONTEXT = 16_000, 512, 64
"""Samples a second, in a window, and of the window before that the network is given again."""

BLOCK = 1024 * WINDOW
"""Samples held at a time: some 33 s."""

HYSTERESIS, LEAST = 0.15, 0.01
"""Speech ends where its probability is below the threshold less 0.15, but below 0.01 at least."""


@dataclass(frozen=True, slots=True)
class Speech:
    """A half-open range in seconds; `score` is the mean probability of its windows, without the padding."""

    start: float
    end: float
    score: float


@dataclass(frozen=True, slots=True)
class ShotSpeech:
    """Speech in a shot: its `share` of the shot's length, from 0 to 1, and the `ranges` within it, in order.

    A range that goes on beyond the shot is cut at its bounds, and keeps the score of the whole.
    """

    share: float
    ranges: list[Speech]


@feature(version="3")
class SpeechProbability:
    """How probable speech is in each 32 ms of an asset: float32[w], of window i from 0.032 i s on."""

    def __init__(self) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise FeatureError("speech needs onnxruntime: pip install 'amber-ray[models]'") from error
        path = packaged("speech", "silero-vad", "silero_vad", FILE, SHA256)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, asset: Asset) -> Float32[np.ndarray, " w"]:
        """In one pass over the sound, of which half a minute is held. Raises `MediaError` without sound."""
        heard = blocks(asset, RATE, BLOCK, feature="speech")
        return np.fromiter(self._listened(heard), np.float32)

    def provenance(self) -> str:
        """Where it runs and whose weights: `cpu; silero-vad`."""
        return "cpu; silero-vad"

    def _listened(self, heard: Iterable[np.ndarray]) -> Iterator[float]:
        """One number for each window; the last one is filled up with silence."""
        rate, state = np.array(RATE, np.int64), np.zeros((2, 1, 128), np.float32)
        given = np.zeros((1, CONTEXT + WINDOW), np.float32)
        for block in heard:
            for window in np.pad(block, (0, -len(block) % WINDOW)).reshape(-1, WINDOW):
                given[0, :CONTEXT] = given[0, -CONTEXT:]
                given[0, CONTEXT:] = window
                probability, state = self._session.run(None, {"input": given, "state": state, "sr": rate})
                yield probability.item()


@feature(version="1")
def speech(
    asset: Asset,
    speech_probability: np.ndarray,
    threshold: float = 0.5,
    min_speech: float = 0.25,
    min_silence: float = 0.1,
    pad: float = 0.03,
) -> list[Speech]:
    """Where somebody speaks, in order, by the rules of `get_speech_timestamps` in silero-vad.

    Speech begins with a window whose probability is `threshold` (0 to 1) or more, and ends where it stays
    lower by 0.15 for `min_silence` seconds. What is not longer than `min_speech` is dropped, the rest widened
    by `pad` on each side, or up to the middle of a shorter silence. Raises `MediaError` without sound.
    """
    if not 0 < threshold < 1:
        raise FeatureError(f"speech.threshold must be between 0 and 1, not {threshold}")
    for name, seconds in (("min_speech", min_speech), ("min_silence", min_silence), ("pad", pad)):
        if seconds < 0:
            raise FeatureError(f"speech.{name} must be 0 s or more, not {seconds}")
    length = sample_at(asset.duration or 0.0, RATE)
    found = list(_spoken(speech_probability, length, threshold, RATE * min_speech, RATE * min_silence))
    scores = [float(speech_probability[a // WINDOW : -(-b // WINDOW)].mean()) for a, b in found]
    return [
        Speech(a / RATE, b / RATE, score)
        for (a, b), score in zip(_padded(found, length, RATE * pad), scores, strict=True)
    ]


@feature(version="1", per="shots")
def shot_speech(clip: Clip, speech: list[Speech]) -> ShotSpeech:
    """How much of the shot somebody speaks, and when. Raises `MediaError` for a film without sound."""
    ranges = [
        replace(one, start=max(one.start, clip.start), end=min(one.end, clip.end))
        for one in speech
        if one.start < clip.end and one.end > clip.start
    ]
    length = clip.end - clip.start
    return ShotSpeech(min(1.0, sum(r.end - r.start for r in ranges) / length) if length else 0.0, ranges)


def _spoken(
    probability: np.ndarray, length: int, threshold: float, min_speech: float, min_silence: float
) -> Iterator[tuple[int, int]]:
    """Ranges of samples without padding; all durations in samples."""
    leave = max(threshold - HYSTERESIS, LEAST)
    probability = probability.astype(np.float64)  # Or the threshold would be rounded to float32.
    began: int | None = None
    quiet: int | None = None
    for i in np.flatnonzero((probability >= threshold) | (probability < leave)).tolist():
        at = i * WINDOW
        if probability[i] >= threshold:
            quiet = None
            began = at if began is None else began
        elif began is not None:
            quiet = at if quiet is None else quiet
            if at - quiet >= min_silence:
                if quiet - began > min_speech:
                    yield began, quiet
                began = quiet = None
    if began is not None and length - began > min_speech:
        yield began, length


def _padded(found: list[tuple[int, int]], length: int, pad: float) -> Iterator[tuple[int, int]]:
    """The ranges, wider on each side; two that would meet share the silence between them."""
    for i, (start, end) in enumerate(found):
        before = start - found[i - 1][1] if i else None
        after = found[i + 1][0] - end if i + 1 < len(found) else None
        yield (
            int(max(0, start - (pad if before is None or before >= 2 * pad else before // 2))),
            int(min(length, end + (pad if after is None or after >= 2 * pad else after // 2))),
        )
