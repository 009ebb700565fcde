"""`motion`: how much moves at each frame."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from amber_ray.core.declare.feature import feature
from amber_ray.features.frames import Frames


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
