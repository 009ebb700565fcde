"""`phash`: a 64-bit fingerprint of each frame that survives scaling, re-encoding and small edits."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt64

from amber_ray.core.declare.feature import feature
from amber_ray.features.frames import Frames

SIDE, KEPT = 32, 8


@feature(version="1", per="segment")
def phash(frames: Frames) -> UInt64[np.ndarray, " t"]:
    """The perceptual hash of each frame; how many bits differ (0 to 64) tells how unlike two pictures are.

    Each picture in grey at 32x32, its discrete cosine transform, and for each of the 8x8 lowest frequencies
    whether it is above their median; the first is the highest bit. The method, and the bits, of
    `imagehash.phash` (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010).
    """
    from PIL import Image

    hashes = np.zeros(len(frames.times), np.uint64)
    waves = _cosines()
    for i, image in enumerate(frames.images):
        grey = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        low = (waves @ np.asarray(grey, np.float64) @ waves.T)[:KEPT, :KEPT]
        hashes[i] = np.packbits(low > np.median(low)).view(">u8")[0]
    return hashes


def _cosines() -> np.ndarray:
    """The DCT-II as a matrix: float64[32, 32]."""
    n = np.arange(SIDE)
    return np.cos(np.pi * n[:, None] * (2 * n[None, :] + 1) / (2 * SIDE))
