"""The functions that every peer runs, counted: `frames` feeds four looks at them, `thumbnail` stands alone.

They are the project's own features, called as plain functions, so what differs is everything around them. A
run is a line in a file of `$PEERS_COUNTS`, whichever process it is in.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from amber_ray.core.model.units import Asset, segments
from amber_ray.features import light, preview
from amber_ray.features import motion as motions
from amber_ray.features import phash as hashes
from amber_ray.features.frames import Frames
from amber_ray.features.frames import frames as sampled

LOOKS = ("brightness", "colour", "phash", "motion")
NAMES = (*LOOKS, "thumbnail", "spread")
"""What is asked for. `spread` is the user's own feature over `colour`, in a file that changes."""


def ran(name: str) -> None:
    """Note one run of a function."""
    with open(Path(os.environ["PEERS_COUNTS"]) / name, "a") as file:
        file.write("1\n")


def frames(asset: Asset) -> Frames:
    """Two frames a second of a clip."""
    ran("frames")
    (clip,) = segments(asset, 60.0)
    return sampled(clip)


def brightness(frames: Frames) -> np.ndarray:
    ran("brightness")
    return light.brightness(frames)


def colour(frames: Frames) -> np.ndarray:
    ran("colour")
    return light.colour(frames)


def phash(frames: Frames) -> np.ndarray:
    ran("phash")
    return hashes.phash(frames)


def motion(frames: Frames) -> np.ndarray:
    ran("motion")
    return motions.motion(frames)


def thumbnail(asset: Asset) -> bytes:
    """A JPEG, as plain bytes."""
    ran("thumbnail")
    return bytes(preview.thumbnail(asset))


def looks(asset: Asset) -> dict[str, Any]:
    """All four of one decode: how one writes it for a library that does not share inputs between columns."""
    seen = frames(asset)
    return {
        "brightness": brightness(seen),
        "colour": colour(seen),
        "phash": phash(seen),
        "motion": motion(seen),
    }


def spread_of(colour: np.ndarray, rounds: int) -> float:
    """How far a clip's colours are apart, summed over shuffles: some milliseconds of work."""
    ran("spread")
    numbers = np.asarray(colour, np.float64).ravel()
    rng = np.random.default_rng(0)
    total = 0.0
    for _ in range(rounds):
        total += float(np.abs(np.sort(rng.permutation(np.resize(numbers, 5000))) - numbers.mean()).mean())
    return total
