"""`brightness` and `colour`: how bright a picture is, and which colours it is made of."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from amber_ray.core.declare.feature import feature
from amber_ray.features.frames import Frames

LUMA = np.array([0.2126, 0.7152, 0.0722])
"""Weights of R, G and B in luma (ITU-R BT.709)."""

BINS = 16


@feature(version="1", per="segment")
def brightness(frames: Frames) -> Float32[np.ndarray, " t"]:
    """Mean luma (BT.709 weights, on the encoded values) of each frame, from 0 (black) to 1 (white)."""
    if not len(frames.times):
        return np.zeros(0, np.float32)
    # Channel means first: the sum is linear, and the pictures are never widened to floats.
    means = np.stack([image.reshape(-1, 3).mean(axis=0) for image in frames.images])
    return np.asarray(means @ LUMA / 255, np.float32)


@feature(version="1", per="segment")
def colour(frames: Frames) -> Float32[np.ndarray, "t 3 16"]:
    """For each frame and channel (R, G, B), the share of pixels in each of 16 equal bins; a row sums to 1."""
    shares = np.zeros((len(frames.times), 3, BINS), np.float32)
    for share, image in zip(shares, frames.images, strict=True):
        pixels = image.reshape(-1, 3) >> 4
        for channel in range(3):
            share[channel] = np.bincount(pixels[:, channel], minlength=BINS) / len(pixels)
    return shares
