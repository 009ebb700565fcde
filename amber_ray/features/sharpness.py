"""`sharpness`: how much fine detail a picture holds, so that blurred ones can be told from crisp ones."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from amber_ray.core.declare.feature import feature
from amber_ray.features.frames import Frames
from amber_ray.features.light import LUMA


@feature(version="1", per="segment")
def sharpness(frames: Frames) -> Float32[np.ndarray, " t"]:
    """The variance of the Laplacian of each frame's luma, in squared 8-bit levels: 0 for a flat picture.

    The operator LAP4 of Pertuz, Puig and Garcia, "Analysis of focus measure operators for shape-from-focus"
    (Pattern Recognition 46, 2013), after Pech-Pacheco et al. (2000), with the four-neighbour kernel, on
    pixels that have all four neighbours (a picture without any has 0). Comparable only between pictures of
    one `frames.size`, and best between pictures of alike content: detail counts as sharpness.
    """
    return np.array([_variance(image) for image in frames.images], np.float32)


def _variance(image: np.ndarray) -> float:
    """The measure of one picture, uint8[h, w, 3]."""
    luma = image @ LUMA
    inside = luma[1:-1, 1:-1]
    if not inside.size:
        return 0.0
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float((around - 4 * inside).var())
