"""`proxy`: a small film that every browser plays, made piece by piece as somebody looks at it.

`proxy_parts` cuts a film into pieces of a few seconds, by its duration alone. Segments are too long for it:
one that looks wants the first picture now, and the encoder of a minute would be waited for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import MICRO, Asset, Clip
from amber_ray.core.values.annotations import MediaType
from amber_ray.errors import FeatureError
from amber_ray.media.decode import looked, window
from amber_ray.media.fragment import CODINGS, RATE, Coding, Sound, fragment, sound_span
from amber_ray.media.looks import Look, looking
from amber_ray.media.sound import stereo

Mp4 = Annotated[bytes, MediaType("video/mp4")]

SECONDS = 4
"""Length of a piece: what a player waits for first, and what a key frame is paid for."""
WIDEST = 4
"""Times as wide as high, or as high as wide, a picture may be before it is made smaller still."""


@dataclass(frozen=True, slots=True)
class ProxyPart:
    """One piece, [start, end) in seconds."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Fitting:
    """A `Size`: the shorter side has `pixels` at most, both are even, and nothing is enlarged."""

    pixels: int

    def __call__(self, width: int, height: int) -> tuple[int, int]:
        """See `media.scale.Size`."""
        by = min(1.0, self.pixels / min(width, height), WIDEST * self.pixels / max(width, height))
        return max(2, round(width * by / 2) * 2), max(2, round(height * by / 2) * 2)


@feature(version="1")
def proxy_parts(asset: Asset) -> list[ProxyPart]:
    """Into which pieces of 4 s `proxy` cuts a film or a sound; a still has none."""
    if not asset.timed or not asset.duration:
        return []
    # In whole microseconds: a sliver of less at the end would be a range without length.
    count = max(1, math.ceil(math.floor(asset.duration * MICRO) / (SECONDS * MICRO)))
    ends = [float(SECONDS * number) for number in range(1, count)]
    return [ProxyPart(*part) for part in zip([0.0, *ends], [*ends, asset.duration], strict=True)]


def shown(clip: Clip, height: int = 360, codec: str = "h264") -> Look | None:
    """What `proxy` looks at: every picture, and the one on screen at the beginning."""
    if not clip.asset.has_video:
        return None
    start, end = window(clip)
    return Look(clip.asset, start, end, Fitting(_checked(height)), lead=True)


@feature(version="1", per="proxy_parts")
@looking(shown)
def proxy(clip: Clip, height: int = 360, codec: str = "h264") -> Mp4:
    """Four seconds of the film as a small fragmented MP4, for Media Source Extensions.

    Each begins with the same initialisation, and has the film's own times, so players append one after the
    other, from any on. Pictures are upright, with square pixels, each at its own time; the shorter side has
    `height` (32 to 720) pixels at most. There is a picture at every moment: black before the first one.
    `codec` is `h264`, with AAC, or `vp9`, with Opus. Sound is stereo at 48,000 samples a second. What has no
    sound, or no pictures, has a track less.
    """
    if codec not in CODINGS:
        raise FeatureError(f"proxy.codec must be {' or '.join(CODINGS)}, not {codec!r}")
    coding, asset = CODINGS[codec], clip.asset
    _checked(height)
    look, size = shown(clip, height, codec), None
    if look is not None:
        stream = asset.stream("video")
        displayed = None if stream is None else stream.displayed
        size = look.size(*displayed) if displayed else None
    sound = _sound(clip, coding) if asset.has_audio else None
    return fragment(clip.start, clip.end, size, _pictures(look), sound, coding)


def _checked(height: int) -> int:
    if not 32 <= height <= 720:
        raise FeatureError(f"proxy.height must be 32 to 720 pixels, not {height}")
    return height


def _pictures(look: Look | None) -> Iterator[tuple[float, np.ndarray]]:
    if look is not None:
        for picture in looked(look):
            yield picture.time, picture.rgb


def _sound(clip: Clip, coding: Coding) -> Sound:
    first, stop = sound_span(clip.start, clip.end, coding)
    return Sound(first, stereo(clip.asset, RATE, first / RATE, stop / RATE, feature="proxy"))
