"""`frames`: pictures of a segment at a steady rate, the input of most features that look at media."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Clip
from amber_ray.errors import FeatureError
from amber_ray.media.decode import looked, window
from amber_ray.media.looks import Look, Picture, looking
from amber_ray.media.scale import exactly, shorter_side

PAIR = exactly(64, 36)
"""Where pictures are compared, whatever their shape: detail and codec noise average out."""

LARGEST = 2 << 30
"""Bytes of pictures that one segment may take."""


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Upright RGB pictures and their exact times in seconds from the asset's beginning.

    `pairs` are, at 64x36, each picture and the film's next one: `motion` needs no second decode for them.
    """

    times: Float64[np.ndarray, " t"]
    images: UInt8[np.ndarray, "t h w 3"]
    pairs: UInt8[np.ndarray, "t 2 36 64 3"]


def sampled(clip: Clip, fps: float, size: int) -> Look:
    """What `frames` looks at. Raises `FeatureError` for a rate or a size that can't be."""
    if not (math.isfinite(fps) and fps > 0):
        raise FeatureError(f"frames.fps must be above 0, not {fps}")
    if not 0 <= size <= 8192:
        raise FeatureError(f"frames.size must be 0 to 8192 pixels, not {size}")
    start, end = window(clip)
    return Look(clip.asset, start, end, shorter_side(size), fps=fps, pair=PAIR)


@feature(version="3", per="segment", store="never")
@looking(sampled)
def frames(clip: Clip, fps: float = 2.0, size: int = 224) -> Frames:
    """The first picture of every 1 / `fps` seconds, counted from the asset's beginning.

    The shorter side is scaled to `size` pixels and the shape kept (0: no scaling); rotation and pixel shape
    are honoured. A rate above the film's own gives every picture once; a still is one picture at time 0; a
    segment in which no new picture appears has none (t = 0). Which pictures are chosen does not depend on
    how the asset is cut into segments.
    """
    look = sampled(clip, fps, size)
    chosen: list[Picture] = []
    taken = 0
    for picture in looked(look):
        taken += picture.rgb.nbytes
        if taken > LARGEST:
            raise FeatureError(
                f"the pictures of {clip.start:g} to {clip.end:g} s take more than {LARGEST >> 30} GiB; "
                "ask for fewer (frames.fps) or smaller ones (frames.size)"
            )
        chosen.append(picture)
    return Frames(
        np.array([p.time for p in chosen], np.float64),
        np.stack([p.rgb for p in chosen]) if chosen else np.zeros((0, size, size, 3), np.uint8),
        np.stack([p.pair for p in chosen if p.pair is not None])
        if chosen
        else np.zeros((0, 2, 36, 64, 3), np.uint8),
    )


@feature(version="1", per="segment")
def frame_times(frames: Frames) -> Float64[np.ndarray, " t"]:
    """When each of the segment's `frames` is, in seconds: the clock of all features made from frames."""
    return frames.times
