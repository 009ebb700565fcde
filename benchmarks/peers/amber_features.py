"""The graph as Amber's features: one decorator each, and the wiring is their parameters' names."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt64

from amber_ray import Asset, Clip, Jpeg, feature
from amber_ray.features.frames import Frames
from benchmarks.peers import graph


@feature(per="segment", store="never")
def peer_frames(clip: Clip) -> Frames:
    return graph.frames(clip.asset)


@feature(per="segment")
def peer_brightness(peer_frames: Frames) -> Float32[np.ndarray, " t"]:
    return graph.brightness(peer_frames)


@feature(per="segment")
def peer_colour(peer_frames: Frames) -> Float32[np.ndarray, "t 3 16"]:
    return graph.colour(peer_frames)


@feature(per="segment")
def peer_phash(peer_frames: Frames) -> UInt64[np.ndarray, " t"]:
    return graph.phash(peer_frames)


@feature(per="segment")
def peer_motion(peer_frames: Frames) -> Float32[np.ndarray, " t"]:
    return graph.motion(peer_frames)


@feature
def peer_thumbnail(asset: Asset) -> Jpeg:
    return Jpeg(graph.thumbnail(asset))
