"""`shots`, `shot_picture`, `shot_frames` and `shot_sheet`: the runs of pictures between transitions, shown.

Must not know: which detector found the transitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.naming import name_of
from amber_ray.core.model.units import MICRO, Asset, Clip
from amber_ray.core.values.annotations import Jpeg
from amber_ray.errors import FeatureError, MediaError
from amber_ray.features.sheets import check_sheet, jpeg, sheet, tile_size, time_code
from amber_ray.features.transitions import Timeline, Transitions
from amber_ray.media.decode import looked, pictures_at
from amber_ray.media.looks import Look, Picture, decoding, looking
from amber_ray.media.scale import Size, longer_side

MOST_SHOTS = 400
"""On one sheet."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A shot: [start, end) in seconds and [first, stop) in frames of `timeline`.

    `score`, 0 to 1, is that of the transition that ends it; 1 where the film ends.
    """

    start: float
    end: float
    first: int
    stop: int
    score: float


@feature(version="1")
def shots(timeline: Timeline, transitions: list[Transitions], threshold: float = 0.5) -> list[Shot]:
    """The shots of a film, in order; a still is one shot of one picture.

    A shot ends with the first frame whose score in `transitions` exceeds `threshold` (0 to 1), and the next
    begins after the last one that does: the pictures within a gradual transition belong to no shot. These
    are the ranges of TransNet V2's own `predictions_to_scenes`, made half-open. `transitions.detector`
    chooses between that network and a comparison of neighbouring pictures; another threshold runs no model.
    """
    if not 0 < threshold < 1:
        raise FeatureError(f"shots.threshold must be between 0 and 1, not {threshold}")
    count = len(timeline.times)
    scores = np.zeros(count, np.float32)
    for part in transitions:
        scores[part.first : part.first + len(part.scores)] = part.scores
    return [
        Shot(
            start=float(timeline.times[first]),
            end=float(timeline.times[stop]) if stop < count else timeline.end,
            first=first,
            stop=stop,
            score=score,
        )
        for first, stop, score in _runs(scores, threshold)
    ]


def _runs(scores: np.ndarray, threshold: float) -> list[tuple[int, int, float]]:
    """(first, stop, score of its end) of each shot."""
    high = np.concatenate([[False], scores > threshold, [False]])
    begins, ends = np.flatnonzero(np.diff(high.astype(np.int8)) == 1), np.flatnonzero(high[:-1] & ~high[1:])
    found, first = [], 0
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        # A transition that the film begins with ends no shot.
        if begin > 0:
            found.append((first, begin + 1, float(scores[begin:end].max())))
        first = end
    if first < len(scores):
        found.append((first, len(scores), 1.0))
    # A film that is one transition from end to end is one shot.
    return found or ([(0, len(scores), 1.0)] if len(scores) else [])


def middle(clip: Clip, size: int = 320) -> Look:
    """What `shot_picture` looks at. Raises `FeatureError` for a size that can't be."""
    if not 16 <= size <= 4096:
        raise FeatureError(f"shot_picture.size must be 16 to 4096 pixels, not {size}")
    return look_in_the_middle(clip, longer_side(size, enlarge=False))


@feature(version="1", per="shots")
@looking(middle)
def shot_picture(clip: Clip, size: int = 320) -> Jpeg:
    """The picture in the middle of the shot, as a JPEG whose longer side has `size` pixels at most.

    Of an even number of pictures it is the later one of the two in the middle.
    """
    return jpeg(only(middle(clip, size)).rgb)


@feature(version="4")
def shot_frames(shot_picture: list[Jpeg]) -> list[Jpeg]:
    """The `shot_picture` of each shot, in order, whose size is `shot_picture.size`."""
    return shot_picture


@feature(version="3")
@decoding
def shot_sheet(asset: Asset, shots: list[Shot], columns: int = 4, width: int = 1280) -> Jpeg:
    """The picture in the middle of each shot, with the shot's number and beginning, as one JPEG.

    `columns` 1 to 20, `width` in pixels. Of more than 400 shots, 400 evenly spaced ones are shown.
    """
    check_sheet("shot_sheet", columns, width)
    chosen = [round(i) for i in np.linspace(0, len(shots) - 1, min(len(shots), MOST_SHOTS))]
    if not chosen:
        raise MediaError("shot_sheet needs at least one shot; this asset has no pictures")
    columns = min(columns, len(chosen))
    times = middles([shots[i] for i in chosen])
    shown = [p.rgb for p in pictures_at(asset, times, tile_size(columns, width))]
    duration = asset.duration or 0.0
    labels = [f"{i + 1}   {time_code(shots[i].start, duration)}" for i in chosen]
    return sheet(shown, labels if duration else None, columns, width)


def picture_in_the_middle(clip: Clip, size: Size) -> Picture:
    """The picture on screen in the middle of a window; errors as `pictures`."""
    return only(look_in_the_middle(clip, size))


def look_in_the_middle(clip: Clip, size: Size) -> Look:
    """A look at the picture on screen in the middle of a window.

    The bounds of a window are cut to microseconds. So the moment is put off by two: where a picture begins
    in the very middle it is on screen then, whatever was cut off.
    """
    moment = (clip.start + clip.end) / 2 + 2 / MICRO
    return Look(clip.asset, moment, moment, size, moment=True)


def only(look: Look) -> Picture:
    """The picture that a look at a moment has; errors as `pictures`."""
    found = list(looked(look))
    if not found:
        raise MediaError(f"{name_of(look.asset.uri)!r} has no picture at {look.start:.2f} s")
    return found[0]


def middles(shots: Sequence[Shot]) -> list[float]:
    """The time in the middle of each shot, in seconds; ascending."""
    return [(shot.start + shot.end) / 2 for shot in shots]
