"""`shot_sample`, `shot_sample_embedding` and `shot_vector`: what each shot shows, as one vector.

Each shot is looked at by itself, so another threshold of `shots` sends only those through the network whose
bounds moved. `shot_embedding` says nearly the same of a whole film from the vectors that `embedding` made of
its segments, and runs no network where those are there; it stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Clip
from amber_ray.features.backbones import LITE0
from amber_ray.features.embedding import Embedding, direction
from amber_ray.features.frames import Frames
from amber_ray.features.shots import picture_in_the_middle
from amber_ray.media.looks import decoding
from amber_ray.media.scale import shorter_side


@dataclass(frozen=True, slots=True, eq=False)
class ShotSample:
    """The pictures that stand for a shot, upright RGB, and their times in seconds; one at least."""

    times: Float64[np.ndarray, " t"]
    images: UInt8[np.ndarray, "t h w 3"]


@feature(version="1", per="shots", store="never")
@decoding
def shot_sample(clip: Clip, frames: Frames) -> ShotSample:
    """The shot's own `frames`, or where it has none the picture that `shot_picture` shows, at `frames.size`.

    A shot that is shorter than frames are apart (1 / `frames.fps` seconds) may lie between two of them.
    """
    if len(frames.times):
        return ShotSample(frames.times, frames.images)
    # Without a picture too, the array says how large one would be.
    picture = picture_in_the_middle(clip, shorter_side(frames.images.shape[1]))
    return ShotSample(np.array([picture.time]), picture.rgb[None])


@feature(version="1", per="shots", num_gpus=0.25, gpu="preferred", batch=8)
class ShotSampleEmbedding:
    """The vector of each picture of `shot_sample`: float32[t, d]; see `embedding` for the parameters."""

    def __init__(self, backbone: str = LITE0, weights: str = "default") -> None:
        self._network = Embedding(backbone, weights)

    def __call__(self, shot_sample: ShotSample) -> Float32[np.ndarray, "t d"]:
        """The vectors of one shot's pictures."""
        return self.batch([shot_sample])[0]

    def batch(self, shot_sample: list[ShotSample]) -> list[np.ndarray]:
        """The vectors of several shots: their pictures fill the network's batches together."""
        return self._network.vectors([sample.images for sample in shot_sample])

    def provenance(self) -> str:
        """Where it runs and whose weights: `cpu; efficientnet_lite0/imagenet`."""
        return self._network.provenance()


@feature(version="1", per="shots")
def shot_vector(shot_sample_embedding: Float32[np.ndarray, "t d"]) -> Float32[np.ndarray, " d"]:
    """The direction in which the shot's pictures point: the mean of their vectors, of length 1.

    A shot between two `frames` has the vector of the picture in its middle. What points nowhere is 0.
    """
    return direction(shot_sample_embedding)
