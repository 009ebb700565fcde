"""The features that are measured: one counts its runs, four do nothing, one is only large."""

from __future__ import annotations

import os
import time

import numpy as np

from amber_ray import Asset, Clip, feature


@feature(version="1", store="memory")
def counted(asset: Asset, log: str = "", seconds: float = 0.5, salt: int = 0) -> str:
    """Takes `seconds` and leaves a line in the file `log`."""
    with open(log, "a", encoding="ascii") as file:
        file.write(f"{os.getpid()} {salt}\n")
    time.sleep(seconds)
    return f"{asset.id} {salt}"


@feature(version="1", store="memory")
def letters(asset: Asset, size: int = 1000) -> str:
    """A value of `size` characters."""
    return asset.id[0] * size


@feature(version="1", store="memory")
def noop_top(clip: Clip, salt: int = 0) -> int:
    """The diamond's source."""
    return clip.index


@feature(version="1", per="segment", store="memory")
def noop_left(noop_top: int) -> int:
    """One side."""
    return noop_top


@feature(version="1", per="segment", store="memory")
def noop_right(noop_top: int) -> int:
    """The other side."""
    return noop_top


@feature(version="1", per="segment", store="memory")
def noop_leaf(noop_left: int, noop_right: int) -> int:
    """Where the sides meet."""
    return noop_left + noop_right


@feature(version="1", per="segment")
def block(clip: Clip, megabytes: int = 1) -> np.ndarray:
    """Noise of that size, which no codec makes smaller: float32."""
    return noise(clip.index, megabytes)


def noise(seed: int, megabytes: int) -> np.ndarray:
    """The same noise for the same seed."""
    return np.random.default_rng(seed).random(megabytes << 18, dtype=np.float32)
