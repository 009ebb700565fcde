"""The features of the contract of `Service`, for real workers: runs are lines in files, gates are files.

The folder is told to workers by AMBER_CONTRACT_DIR. A gate is closed while its file is there.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from amber_ray import Asset, Clip, Collection, feature
from amber_ray.errors import MediaError

GATE_SECONDS = 60.0
LARGE = 5_000


def ran(name: str, asset: str) -> int:
    """Note a run for an asset, and wait while the feature's gate is closed; which run of it this is."""
    folder = Path(os.environ["AMBER_CONTRACT_DIR"])
    with open(folder / f"{name}.runs", "a+") as file:
        file.write(f"{asset}\n")
        file.flush()
        file.seek(0)
        run = file.read().split().count(asset)
    closed = folder / f"{name}.closed"
    give_up = time.monotonic() + GATE_SECONDS
    while closed.exists():
        if time.monotonic() > give_up:
            raise TimeoutError(f"the gate of {name} was not opened")
        time.sleep(0.005)
    return run


@feature(version="1")
def label(asset: Asset) -> str:
    ran("label", asset.id)
    return asset.id


@feature(version="1", per="segment")
def part(clip: Clip) -> str:
    ran("part", clip.asset.id)
    return f"{clip.asset.id}/{clip.index}"


@feature(version="1")
def joined(part: list[str]) -> str:
    ran("joined", part[0].partition("/")[0])
    return "+".join(part)


@feature(version="1", per="collection")
def whole(collection: Collection, label: list[str]) -> list[str]:
    for asset in collection.assets:
        ran("whole", asset.id)
    return label


@feature(version="1")
def fresh(asset: Asset) -> int:
    return ran("fresh", asset.id)


@feature(version="1")
def large(asset: Asset) -> Float32[np.ndarray, " n"]:
    return np.full(LARGE, ran("large", asset.id), np.float32)


@feature(version="1")
def picky(asset: Asset, bad: str = "", kind: str = "feature") -> int:
    ran("picky", asset.id)
    if asset.id == bad:
        words = "it does not like this one"
        raise MediaError(words) if kind == "input" else ValueError(words)
    return 1


@feature(version="1")
def after(asset: Asset, picky: int) -> int:
    ran("after", asset.id)
    return picky + 1


@dataclass
class Range:
    start: float
    end: float


@feature(version="1")
def bounds(asset: Asset, at: str = "") -> list[Range]:
    """The ranges that it is told, as `start..end,start..end` in seconds, in that order."""
    ran("bounds", asset.id)
    pairs = [one.split("..") for one in at.split(",") if one]
    return [Range(float(start), float(end)) for start, end in pairs]


@feature(version="1", per="bounds", retries=0)
def span(clip: Clip, part: str, bad: float = -1.0) -> str:
    ran("span", clip.asset.id)
    if clip.start == bad:
        raise ValueError("it does not like this one")
    return clip.unit_id


@feature(version="1")
def spans(asset: Asset, span: list[str]) -> str:
    ran("spans", asset.id)
    return " ".join(span)


@feature(version="1", per="collection")
def reel(collection: Collection, span: list[list[str]]) -> list[list[str]]:
    for asset in collection.assets:
        ran("reel", asset.id)
    return span
