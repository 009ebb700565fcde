"""Features for fault tests: they tell where they run, stay where they are told to, and some misbehave.

A custom resource says on which node a feature runs: `spare` is the node that a test takes away, `cramped` the
one whose memory is watched.
"""

from __future__ import annotations

import ctypes
import os
import resource
import time

import numpy as np
from jaxtyping import Float32

from amber_ray import Asset, Clip, feature
from tests.integration.feature_kit import gate, ran

SPARE = {"spare": 0.01}
CRAMPED = {"cramped": 0.01}


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


@feature(version="1", retries=2)
def segfaults(asset: Asset) -> int:
    """Reads from address 0."""
    ran("segfaults", asset.id)
    return int(ctypes.string_at(0)[0])


@feature(version="1", retries=1, resources=CRAMPED)
def greedy(asset: Asset, gigabytes: int = 6) -> int:
    """Takes memory until it is stopped; a limit of its own keeps the machine safe should nobody stop it."""
    ran("greedy", asset.id)
    resource.setrlimit(resource.RLIMIT_AS, (gigabytes << 30, gigabytes << 30))
    taken: list[np.ndarray] = []
    while True:
        taken.append(np.ones(4 << 20, np.float64))  # 32 MiB, touched
        time.sleep(0.005)


@feature(version="1", resources=CRAMPED)
def modest(asset: Asset) -> int:
    """Runs beside the greedy one."""
    ran("modest", asset.id)
    gate("modest")
    return asset.bytes


@feature(version="1")
def stubborn(asset: Asset) -> int:
    """Swallows whatever asks it to stop."""
    ran("stubborn", f"{os.getpid()}")
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        try:
            time.sleep(0.05)
        except BaseException:
            ran("stubborn_asked")
    return asset.bytes


@feature(version="1")
def deaf(asset: Asset) -> int:
    """Sits in C and holds the interpreter's lock: no exception can reach it."""
    ran("deaf", f"{os.getpid()}")
    ctypes.PyDLL(None).sleep(120)
    return asset.bytes
