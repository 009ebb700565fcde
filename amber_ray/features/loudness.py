"""`loudness` and `turn_level`: how loud an asset and each speech turn are, by the broadcasters' standard."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.naming import name_of
from amber_ray.core.model.units import Asset, Clip
from amber_ray.errors import MediaError
from amber_ray.media.sound import Filters, between, form, heard, in_form, silence

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame

SILENCE = -70.0
"""LUFS below which nothing counts as sound (the absolute gate of ITU-R BS.1770)."""

BLOCK = 0.4
"""Seconds over which loudness is measured (BS.1770); shorter sounds are one block, as long as they are."""

METER = "ebur128=peak=true:metadata=1:framelog=quiet"

COMMON = "aresample=48000,aformat=channel_layouts=7.1"
"""In which mono, stereo and surround lie side by side, each channel as loud as it was."""


@dataclass(frozen=True, slots=True)
class Loudness:
    """EBU R 128: `integrated` in LUFS (-70: silence), `range` in LU, `true_peak` in dBTP (-inf: none)."""

    integrated: float
    range: float
    true_peak: float


@dataclass(frozen=True, slots=True)
class TurnLevel:
    """EBU R 128 of a window: `integrated` in LUFS (-70: silence), `true_peak` in dBTP (-inf: none)."""

    integrated: float
    true_peak: float


@feature(version="3")
def loudness(asset: Asset) -> Loudness:
    """Programme loudness, loudness range and true peak of the whole asset (EBU R 128, Tech 3341 and 3342).

    Measured by FFmpeg's `ebur128` filter over the best audio stream. Raises `MediaError` without sound.
    """
    return _measured(lambda: _whole(asset), repr(name_of(asset.uri)))


@feature(version="1", per="speech")
def turn_level(clip: Clip) -> TurnLevel:
    """How loud each range of `speech` is: loudness and true peak of the sound in it, whatever else is heard.

    As `loudness` measures a whole asset, in the asset's own channels and rate, from sample to sample. The
    standard knows blocks of 400 ms, which begin every 100 ms: what is left over at the end is in the peak
    only. A range shorter than a block is one block, as long as it is: the mean square of all its sound.
    """
    sound = f"{name_of(clip.asset.uri)!r} from {clip.start:g} to {clip.end:g} s"
    found = _measured(lambda: closing(between(clip.asset, clip.start, clip.end, feature="turn_level")), sound)
    return TurnLevel(found.integrated, found.true_peak)


Sound = Callable[[], AbstractContextManager[Iterator["AudioFrame"]]]
"""Opens something that is heard, anew each time."""


@contextmanager
def _whole(asset: Asset) -> Iterator[Iterator[AudioFrame]]:
    with heard(asset, "loudness") as (_, _, frames):
        yield frames


def _measured(sound: Sound, name: str) -> Loudness:
    told, seconds = _metered(sound, None) or _metered(sound, COMMON) or ({}, 0.0)
    if "lavfi.r128.I" not in told:
        raise MediaError(f"{name} has too little sound to measure: {seconds:.3f} s")
    integrated = float(told["lavfi.r128.I"])
    if seconds < BLOCK and integrated > SILENCE:
        # Silence filled the only block; its mean square is that of the sound, diluted.
        integrated += 10 * math.log10(BLOCK / seconds)
    peak = float(told["lavfi.r128.true_peak"])
    return Loudness(
        integrated=max(SILENCE, integrated),
        range=float(told["lavfi.r128.LRA"]),
        true_peak=20 * math.log10(peak) if peak > 0 else -math.inf,
    )


def _metered(sound: Sound, common: str | None) -> tuple[dict[str, str], float] | None:
    """What the meter says at the end, and how many seconds it heard.

    With `common` all sound is brought into that form first. None if the sound changes its form on the way,
    as a mono programme with advertisements in stereo does, and there is no common one.
    """
    told: dict[str, str] = {}
    seconds = 0.0
    meter: Filters | None = None
    with sound() as frames:
        for frame in in_form(frames, common) if common else frames:
            if meter is None:
                meter, first = Filters(frame, METER), frame
            elif form(frame) != form(first):
                return None
            for measured in meter.filtered(frame):
                told = measured.metadata or told
            seconds += frame.samples / frame.sample_rate
        if meter is not None:
            missing = math.ceil((BLOCK - seconds) * first.sample_rate)
            for frame in [silence(first, missing)] if missing > 0 else []:
                for measured in meter.filtered(frame):
                    told = measured.metadata or told
            for measured in meter.filtered(None):
                told = measured.metadata or told
    return told, seconds
