"""Features for fault tests: they tell where they run and stay where they are told to.

A custom resource says on which node a feature runs: `spare` is the node that a test takes away.
"""

from __future__ import annotations

import os

import numpy as np
from jaxtyping import Float32

from amber_ray import Asset, Clip, feature
from tests.integration.feature_kit import gate, ran

SPARE = {"spare": 0.01}


@feature(version="1")
def pinned(asset: Asset) -> int:
    """Says which process it runs in, then waits."""
    ran("pinned", f"{os.getpid()} {asset.id}")
    gate(f"pinned-{asset.id}")
    return asset.bytes


@feature(version="1", per="segment", resources=SPARE)
def far(clip: Clip, megabytes: int = 1) -> Float32[np.ndarray, " n"]:
    """Large values in the object store of the spare node."""
    ran("far", f"{clip.asset.id} {clip.index}")
    return np.full(megabytes * 262_144, clip.index + 0.5, np.float32)


@feature(version="1")
def from_far(far: list[np.ndarray]) -> float:
    """Reads what is on the spare node."""
    ran("from_far")
    return float(sum(f.sum(dtype=np.float64) for f in far))


@feature(version="1", per="segment")
def near(clip: Clip, megabytes: int = 1) -> Float32[np.ndarray, " n"]:
    """Large values wherever there is room."""
    ran("near", f"{clip.asset.id} {clip.index}")
    return np.full(megabytes * 262_144, clip.index + 0.5, np.float32)


@feature(version="1", per="segment", store="memory", resources=SPARE)
def fleeting(clip: Clip) -> Float32[np.ndarray, " n"]:
    """Never written to the store: its only copy is on the spare node."""
    ran("fleeting", f"{clip.index}")
    return np.full(262_144, clip.index, np.float32)
