"""Features for fault tests: they tell where they run, stay where they are told to, and some misbehave.

A custom resource says on which node a feature runs: `spare` is the node that a test takes away, `cramped` the
one whose memory is watched. What misbehaves comes to an end by itself, should nobody stop it.
"""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from amber_ray import Asset, Clip, feature
from tests.integration.feature_kit import gate, played, ran

SPARE = {"spare": 0.01}
CRAMPED = {"cramped": 0.01}
STAYS_SECONDS = 60.0


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


@feature(version="1", per="acts", resources=SPARE)
def far_act(clip: Clip) -> list[float]:
    """What `act` does, on the spare node."""
    return played("far_act", clip)


@feature(version="1")
def far_play(far_act: list[list[float]]) -> list[list[float]]:
    ran("far_play")
    return far_act


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
def segfaults(asset: Asset, poison: str = "") -> int:
    """Reads from address 0 at one asset."""
    ran("segfaults", asset.id)
    if asset.id == poison:
        ctypes.string_at(0)
    return asset.bytes


@feature(version="1", retries=1, resources=CRAMPED)
def greedy(asset: Asset, gigabytes: int = 6) -> int:
    """Takes memory until it is stopped, or has taken so much."""
    ran("greedy", asset.id)
    taken = []
    for _ in range(gigabytes << 5):
        taken.append(np.ones(4 << 20, np.float64))  # 32 MiB, touched
        time.sleep(0.01)
    return len(taken)


def refuse() -> None:
    """Swallow whatever asks it to stop, until the test opens the gate."""
    gate = Path(os.environ["AMBER_TEST_DIR"]) / "stubborn.open"
    give_up = time.monotonic() + STAYS_SECONDS
    while time.monotonic() < give_up and not gate.exists():
        try:
            time.sleep(0.02)
        except BaseException:
            ran("stubborn_asked")


@feature(version="1")
def stubborn(asset: Asset) -> int:
    """Swallows whatever asks it to stop."""
    ran("stubborn", f"{os.getpid()} {asset.id}")
    refuse()
    return asset.bytes


@feature(version="1", batch=2)
class Headstrong:
    """The same on a warm actor."""

    def __call__(self, asset: Asset) -> int:
        return self.batch([asset])[0]

    def batch(self, asset: list[Asset]) -> list[int]:
        ran("headstrong", " ".join([str(os.getpid()), *(a.id for a in asset)]))
        refuse()
        return [a.bytes for a in asset]
