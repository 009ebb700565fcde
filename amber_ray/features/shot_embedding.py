"""`shot_embedding` and `shot_ends`: what a shot shows on the whole, and at the cuts it begins and ends with.

Both read vectors that `embedding` has made: another way to cut or to pool runs no model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, UInt64

from amber_ray.core.declare.feature import feature
from amber_ray.errors import FeatureError, MediaError
from amber_ray.features.embedding import direction
from amber_ray.features.shots import Shot

TOLERANCE = 1e-6
"""Seconds by which a frame may be off a cut: times of frames are exact to a microsecond."""


@dataclass(frozen=True, slots=True, eq=False)
class ShotEnds:
    """What shots look like right after the cut that they begin with, and right before the one they end with.

    Row i of each is of shot number `shots[i]`, counted from 0. The vectors `opening` and `closing` have
    length 1; the hashes are `phash` of the first and the last frame. Shots in which no frame was sampled are
    left out: nothing was seen of them.
    """

    shots: Int32[np.ndarray, " n"]
    opening: Float32[np.ndarray, "n d"]
    closing: Float32[np.ndarray, "n d"]
    opening_hash: UInt64[np.ndarray, " n"]
    closing_hash: UInt64[np.ndarray, " n"]


@feature(version="1")
def shot_embedding(
    shots: list[Shot], embedding: list[np.ndarray], frame_times: list[np.ndarray]
) -> Float32[np.ndarray, "shots d"]:
    """The direction in which each shot's frames point: the mean of their vectors, of length 1.

    A shot shorter than the frames are apart (`frames.fps`) may have none of its own: it gets the vector of
    the frame nearest to its middle, which another shot may have too. Raises `MediaError` for an asset with
    shots but without a single frame.
    """
    vectors, times = _joined(embedding), _joined(frame_times)
    if shots and not len(times):
        raise MediaError("shot_embedding needs at least one frame; this asset has none at the rate asked for")
    pooled = np.zeros((len(shots), vectors.shape[1] if vectors.ndim == 2 else 0), np.float32)
    for i, (shot, own) in enumerate(zip(shots, frames_of(shots, times), strict=True)):
        if not len(own):
            own = np.array([np.abs(times - (shot.start + shot.end) / 2).argmin()])
        pooled[i] = direction(vectors[own])
    return pooled


@feature(version="1")
def shot_ends(
    shots: list[Shot],
    embedding: list[np.ndarray],
    phash: list[np.ndarray],
    frame_times: list[np.ndarray],
    at_cut: int = 1,
) -> ShotEnds:
    """The mean vector of the first, and of the last, `at_cut` frames (1 to 100) sampled in each shot.

    With 2 frames a second the picture is at most half a second away from its cut; a greater `frames.fps`
    comes nearer.
    """
    if not 1 <= at_cut <= 100:
        raise FeatureError(f"shot_ends.at_cut must be 1 to 100 frames, not {at_cut}")
    vectors, times = _joined(embedding), _joined(frame_times)
    seen = [(i, own) for i, own in enumerate(frames_of(shots, times)) if len(own)]
    width = vectors.shape[1] if vectors.ndim == 2 else 0
    opening, closing = np.zeros((2, len(seen), width), np.float32)
    for row, (_, own) in enumerate(seen):
        opening[row] = direction(vectors[own[:at_cut]])
        closing[row] = direction(vectors[own[-at_cut:]])
    hashes = np.concatenate([*phash, np.zeros(0, np.uint64)])
    return ShotEnds(
        np.array([i for i, _ in seen], np.int32),
        opening,
        closing,
        hashes[[own[0] for _, own in seen]],
        hashes[[own[-1] for _, own in seen]],
    )


def frames_of(shots: list[Shot], times: np.ndarray) -> list[np.ndarray]:
    """For each shot, which of the ascending `times` (float64[t], seconds) are in it: integer positions.

    A still's one picture, at time 0, belongs to its one shot, however long that is said to be.
    """
    starts = np.searchsorted(times, [s.start - TOLERANCE for s in shots])
    ends = np.searchsorted(times, [max(s.end, s.start + 2 * TOLERANCE) - TOLERANCE for s in shots])
    return [np.arange(a, b) for a, b in zip(starts, ends, strict=True)]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """An asset's segments as one array."""
    return np.concatenate(parts) if parts else np.zeros(0)
