"""`motion` and `shot_motion`: how much moves at each frame, and in each shot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from amber_ray.core.declare.feature import feature
from amber_ray.errors import MediaError
from amber_ray.features.changes import Changes
from amber_ray.features.frames import Frames


@dataclass(frozen=True, slots=True)
class ShotMotion:
    """How much a shot moves: differences between one picture and the next, from 0 to 1.

    `mean` of all in the shot; `peak` the greatest, between the picture at `at` seconds and the one before.
    A shot of one picture has 0, and `at` where it begins.
    """

    mean: float
    peak: float
    at: float


@feature(version="1", per="segment")
def motion(frames: Frames) -> Float32[np.ndarray, " t"]:
    """The mean absolute difference between each frame and the film's very next picture, from 0 to 1.

    Both at 64x36 pixels, over R, G and B. It tells what happens at that moment, whatever `frames.fps`: the
    film's last picture and a still have 0, and a frame just before a cut has much. Every picture of a film,
    not only those at the rate asked for, is compared by `changes`.
    """
    pairs = frames.pairs.astype(np.int16)
    moved = np.abs(pairs[:, 1] - pairs[:, 0]).mean(axis=(1, 2, 3), dtype=np.float64)
    return np.asarray(moved / 255, np.float32)


@feature(version="1", per="shots")
def shot_motion(changes: Changes) -> ShotMotion:
    """How much moves within the shot: the cuts at its ends do not count.

    The mean absolute difference between neighbouring pictures of the film (`changes`), at 64x36 pixels over
    R, G and B. Every picture is compared, not only those at a rate, so a shot that is shorter than `frames`
    are apart is measured as well as any; it is per picture, so a film at twice the rate has about half of it.
    """
    if not len(changes.times):
        raise MediaError("shot_motion needs at least one picture in the shot, and none of it can be decoded")
    # The first is compared with the shot before.
    within = changes.amount[1:].astype(np.float64)
    if not len(within):
        return ShotMotion(0.0, 0.0, float(changes.times[0]))
    most = int(within.argmax())
    return ShotMotion(float(within.mean()), float(within[most]), float(changes.times[1 + most]))
