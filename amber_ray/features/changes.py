"""`changes` and `cuts`: how much every picture differs from the one before, and where a film cuts.

`changes` reads every picture of a segment at a small size, side by side on many workers; `cuts` is a cheap
look at the gathered numbers, so another threshold decodes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Clip
from amber_ray.errors import FeatureError
from amber_ray.features.frames import PAIR
from amber_ray.media.decode import looked, window
from amber_ray.media.looks import Look, looking

NEIGHBOURS = 8
"""Pictures on either side that tell how lively the film is around a possible cut."""

STANDS_OUT, ABOVE_NEXT, COLOURS = 4.0, 2.0, 0.02
"""A cut moves 4 times as much as its neighbours' median, twice as much as the pictures next to it, and
shifts the colours by 0.02: pans, fades, dissolves and one-picture flashes do not."""


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """One entry for each picture of the segment, against the picture before it (0 for the asset's first).

    `amount` is the mean absolute difference of pixels, `colour` that of the colour histograms (the area
    between their cumulative curves), both from 0 to 1. `times` in seconds.
    """

    times: Float64[np.ndarray, " t"]
    amount: Float32[np.ndarray, " t"]
    colour: Float32[np.ndarray, " t"]


@dataclass(frozen=True, slots=True)
class Cut:
    """A hard cut: between the picture at `start` and the next one, at `end`, both in seconds.

    `score` is the `amount` of change between them.
    """

    start: float
    end: float
    score: float


def every_picture(clip: Clip) -> Look:
    """What `changes` looks at."""
    start, end = window(clip)
    return Look(clip.asset, start, end, PAIR, lead=True)


@feature(version="3", per="segment")
@looking(every_picture)
def changes(clip: Clip) -> Changes:
    """How much each picture differs from the one before, across the borders of segments too."""
    start = clip.start
    times: list[float] = []
    amount: list[float] = []
    colour: list[float] = []
    before: np.ndarray | None = None
    for picture in looked(every_picture(clip)):
        if picture.time >= start:
            by = (0.0, 0.0) if before is None else compared(before, picture.rgb)
            times.append(picture.time)
            amount.append(by[0])
            colour.append(by[1])
        before = picture.rgb
    return Changes(np.array(times, np.float64), np.array(amount, np.float32), np.array(colour, np.float32))


@feature(version="1")
def cuts(changes: list[Changes], threshold: float = 0.08) -> list[Cut]:
    """The hard cuts of an asset, in order; a still has none.

    A cut is a picture whose change exceeds `threshold` (0 to 1), stands out from its neighbours, and whose
    colours shift; lower thresholds find cuts between more alike or darker shots. Gradual transitions are
    no cuts.
    """
    if not 0 < threshold < 1:
        raise FeatureError(f"cuts.threshold must be between 0 and 1, not {threshold}")
    if not changes:
        return []
    times = np.concatenate([c.times for c in changes])
    amount = np.concatenate([c.amount for c in changes]).astype(np.float64)
    colour = np.concatenate([c.colour for c in changes])
    return [
        Cut(float(times[i - 1]), float(times[i]), float(amount[i]))
        for i in np.flatnonzero((amount > threshold) & (colour > COLOURS))
        if i and prominence(amount, int(i)) >= 1
    ]


def prominence(amount: np.ndarray, i: int) -> float:
    """How far picture `i` changes more than those around it: 1 is enough for a cut. `amount` is float64[t].

    The first entry, which has nothing before it, does not count.
    """
    around = np.concatenate([amount[max(1, i - NEIGHBOURS) : i], amount[i + 1 : i + 1 + NEIGHBOURS]])
    beside = np.concatenate([amount[max(1, i - 1) : i], amount[i + 1 : i + 2]])
    usual, next_to = (float(np.median(around)), float(beside.max())) if len(around) else (0.0, 0.0)
    enough = max(STANDS_OUT * usual, ABOVE_NEXT * next_to)
    return float(amount[i]) / enough if enough else math.inf


def compared(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """The difference of two pictures uint8[h, w, 3], in their pixels and in their colours: `Changes`' two."""
    amount = np.abs(before.astype(np.int16) - after.astype(np.int16)).mean() / 255
    return float(amount), float(np.abs(_cumulative(before) - _cumulative(after)).mean())


def _cumulative(rgb: np.ndarray) -> np.ndarray:
    """The cumulative share of pixels up to each value: float64[3, 256]."""
    counts = [np.bincount(rgb[..., channel].ravel(), minlength=256) for channel in range(3)]
    return np.asarray(np.cumsum(counts, axis=1) / (rgb.shape[0] * rgb.shape[1]))
