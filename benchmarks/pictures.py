"""Ten thousand small pictures that nobody has looked at: a backfill, against a script with two processes.

A picture costs less than a millisecond of decoding and looking, so what is measured is what surrounds a step.
The script reads, looks and writes one file; it knows a picture by its path, keeps no digest, and forgets all
when one picture is broken.
"""

from __future__ import annotations

import concurrent.futures
import io
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks import by_hand
from benchmarks.measure import Measured, seconds
from benchmarks.session import Session, main

if TYPE_CHECKING:
    from amber_ray.client.sync import Client

FEATURES = ("brightness", "colour", "phash", "sharpness")
SIZE = 160, 120
TOGETHER = 64
"""Pictures that the script gives to a process at a time."""
FIRST = 64
"""Pictures that are asked for before the clock runs, so that both sides have their processes up."""


def run(session: Session) -> list[Measured]:
    """Everything new on both sides, once: what is stored can't be new again."""
    count = session.size(10_000, 64)
    folder = session.folder / f"pictures-{uuid.uuid4().hex[:8]}"
    paths = pictures(folder / "all", count)
    first = pictures(folder / "first", FIRST, seed=1)
    output = folder / "by_hand.parquet"
    with session.client(builtins=True) as client, by_hand.pool() as processes:
        backfill(client, first)
        looked_at(processes, first, output)
        ours = seconds(lambda: backfill(client, paths))
        peer = seconds(lambda: looked_at(processes, paths, output))
        compare(client, paths[:: max(1, count // 50)], output)
    return [
        Measured(
            "small pictures",
            f"a backfill of {', '.join(FEATURES)} of {count:,} pictures of {SIZE[0]}x{SIZE[1]}, all new",
            "a script with two processes that calls the same functions and writes one Parquet file",
            ours,
            peer,
            "s",
            1.2,
        )
    ]


def backfill(client: Client, paths: Sequence[Path]) -> None:
    """As `amber backfill` does it: values stay in the store. Raises if not every value was made."""
    made = 0

    def told(table: Any) -> None:
        nonlocal made
        made += sum(row.state == "ready" for row in table.rows)

    client.sweep(FEATURES, paths, told)
    if made != len(FEATURES) * len(paths):
        raise RuntimeError(f"{made} values were made, not {len(FEATURES) * len(paths)}")


def looked_at(executor: concurrent.futures.Executor, paths: Sequence[Path], output: Path) -> None:
    """The script: all pictures, one Parquet file."""
    parts = [paths[i : i + TOGETHER] for i in range(0, len(paths), TOGETHER)]
    rows = [row for part in executor.map(some, parts) for row in part]
    columns: dict[str, Any] = {"path": [str(path) for path in paths]}
    for number, name in enumerate(FEATURES):
        columns[name] = [row[number].ravel() for row in rows]
    pq.write_table(pa.table(columns), output)


def some(paths: Sequence[Path]) -> list[tuple[np.ndarray, ...]]:
    """The features of a few pictures, each decoded once."""
    from amber_ray.core.model.units import Asset, segments
    from amber_ray.features.frames import frames
    from amber_ray.features.light import brightness, colour
    from amber_ray.features.phash import phash
    from amber_ray.features.sharpness import sharpness
    from amber_ray.media.facts import facts
    from amber_ray.settings import Limits

    found = []
    for path in paths:
        data = path.read_bytes()
        seen = facts(io.BytesIO(data), path.name, Limits())
        asset = Asset(path.name, str(path), seen.media_type, len(data), None, seen.streams)
        (still,) = segments(asset, 60.0)
        shown = frames(still)
        found.append((brightness(shown), colour(shown), phash(shown), sharpness(shown)))
    return found


def compare(client: Client, paths: Sequence[Path], output: Path) -> None:
    """Raise unless some of the values are the same on both sides."""
    theirs = {row["path"]: row for row in pq.read_table(output).to_pylist()}
    table = client.get_many(FEATURES, paths, progress=False)
    for path in paths:
        for name in FEATURES:
            (mine,) = table[name, path]
            np.testing.assert_array_equal(mine.ravel(), theirs[str(path)][name])


def pictures(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Small JPEGs with something to see, all of other content."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"{number:06}.jpg" for number in range(count)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=85)
    return paths


if __name__ == "__main__":
    raise SystemExit(main(run))
