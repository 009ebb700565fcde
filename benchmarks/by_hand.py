"""The script one would write instead: two processes, one pass over each segment, one Parquet file at the end.

It calls the same functions, so what differs is everything around them. It knows neither what was computed
before nor who else is asking, and one bad segment ends it.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from amber_ray import Segment

FEATURES = ("brightness", "colour", "phash")
Values = dict[str, np.ndarray]


def pool() -> concurrent.futures.ProcessPoolExecutor:
    """Two processes that have imported what they need."""
    made = concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))
    list(made.map(_import, range(4)))
    return made


def _import(_: int) -> None:
    import amber_ray.features.light
    import amber_ray.features.phash  # noqa: F401


def one_segment(clip: Segment, fps: float) -> Values:
    """All features of one segment: it is decoded once."""
    from amber_ray.features.frames import frames
    from amber_ray.features.light import brightness, colour
    from amber_ray.features.phash import phash

    pictures = frames(clip, fps=fps)
    return {"brightness": brightness(pictures), "colour": colour(pictures), "phash": phash(pictures)}


def run(
    executor: concurrent.futures.Executor, clips: Sequence[Segment], fps: float, output: Path
) -> list[Values]:
    """Compute and write; returns the values as well."""
    values = list(executor.map(one_segment, clips, [fps] * len(clips)))
    columns: dict[str, Any] = {"start": [clip.start for clip in clips]}
    for name in FEATURES:
        columns[name] = [segment[name].ravel() for segment in values]
    pq.write_table(pa.table(columns), output)
    return values
