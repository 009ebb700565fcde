"""The script one would write for a catalogue: two processes, each clip decoded once, the model in batches.

It calls the same functions as Amber does, so what differs is everything around them. A clip is one job: what
it needs of the model is embedded together. It knows neither what was computed before nor who else is asking.
"""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from amber_ray import Asset
    from amber_ray.features.embedding import Embedding

FEATURES = ("brightness", "colour", "phash", "motion", "thumbnail", "embedding")
Values = dict[str, Any]


def pool() -> concurrent.futures.ProcessPoolExecutor:
    """Two processes that have imported what they need and loaded the model."""
    made = concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), initializer=model)
    list(made.map(abs, range(4)))
    return made


@functools.cache
def model() -> Embedding:
    """The model, once in each process; both processors are busy already, so it gets one thread."""
    import torch

    from amber_ray.features.embedding import Embedding

    torch.set_num_threads(1)
    return Embedding()


def one_clip(asset: Asset) -> Values:
    """All features of one clip: it is decoded once, but for the thumbnail, which needs other pictures."""
    from amber_ray.core.model.units import segments
    from amber_ray.features.frames import frames
    from amber_ray.features.light import brightness, colour
    from amber_ray.features.motion import motion
    from amber_ray.features.phash import phash
    from amber_ray.features.preview import thumbnail

    (clip,) = segments(asset, 60.0)
    pictures = frames(clip)
    return {
        "brightness": brightness(pictures),
        "colour": colour(pictures),
        "phash": phash(pictures),
        "motion": motion(pictures),
        "thumbnail": bytes(thumbnail(asset)),
        "embedding": model()(pictures),
    }


def run(executor: concurrent.futures.Executor, assets: Sequence[Asset], output: Path) -> list[Values]:
    """Compute and write one file, a row per clip; returns the values as well."""
    values = list(executor.map(one_clip, assets))
    columns: dict[str, Any] = {"asset": [asset.id for asset in assets]}
    for name in FEATURES:
        given = [clip[name] for clip in values]
        columns[name] = given if name == "thumbnail" else [v.ravel() for v in given]
    pq.write_table(pa.table(columns), output)
    return values


def read(path: Path) -> int:
    """Every value as Amber gives it: arrays and bytes; how many there are."""
    table = pq.read_table(path)
    count = 0
    for name in FEATURES:
        column = table.column(name)
        if name == "thumbnail":
            count += len(column.to_pylist())
        else:
            count += len([np.asarray(value.values) for value in column])
    return count


def spread(executor: concurrent.futures.Executor, path: Path, output: Path, rounds: int) -> list[float]:
    """Only what changed: `spread` of the colours that the file has."""
    from benchmarks.catalogue import spread_of

    colours = [np.asarray(value.values) for value in pq.read_table(path, columns=["colour"]).column(0)]
    values = list(executor.map(spread_of, colours, [rounds] * len(colours)))
    pq.write_table(pa.table({"spread": values}), output)
    return values
