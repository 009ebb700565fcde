"""Values on their way to Parquet and one of them back: against `pyarrow` with the same data in its hands."""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import Measured, paired, seconds
from benchmarks.session import Session, main

LATER = 3600.0
"""Seconds after which values are written: the benchmark says when."""


def run(session: Session) -> list[Measured]:
    """Many small values, few large ones, and the time to get one small value back."""
    many, few, looks = session.size((10_000, 100, 41), (40, 3, 3))
    room = {"memory_bytes": 4 << 30, "spill_bytes": 4 << 30, "spill_seconds": LATER}
    if not session.small:
        # The processes that write are up, and have written, before the clock runs; the peer's has.
        written(session, session.settings(segment_seconds=30 / 40, **room), "vector", {})
    rounds = []
    for _ in range(session.size(3, 1)):
        kept = session.settings(segment_seconds=30 / many, **room)
        rounds.append(written(session, kept, "vector", {}))
    ours, peers, sizes = zip(*rounds, strict=True)
    small = statistics.median(ours), statistics.median(peers), sizes[0]
    one = restored(session, kept.replace(namespace=f"{kept.namespace}-2"), looks)
    large_ones = {"block.megabytes": 10}
    again = session.settings(segment_seconds=30 / few, **room)
    large = written(session, again, "block", large_ones)
    return [
        _named("spill: small values", f"{many} embeddings of 1280 float32", small),
        _named("spill: large values", f"{few} arrays of 10 MiB", large),
        one,
    ]


def _named(name: str, what: str, measured: tuple[float, float, int]) -> Measured:
    ours, peer, size = measured
    rates = f"{size / ours / 1e6:.0f} MB/s against {size / peer / 1e6:.0f} MB/s"
    return Measured(
        name,
        f"{what}, in memory, until all are in Parquet and safe: {rates}",
        "pyarrow.parquet.write_table of the same data, from the memory of one process, with fsync",
        ours,
        peer,
        "s",
        1 / 0.7,
    )


def written(
    session: Session, settings: Any, feature: str, params: dict[str, Any]
) -> tuple[float, float, int]:
    """Seconds that Amber and pyarrow take, and the bytes of the values."""
    from amber_ray.fabric.adapter import cluster

    folder = Path(settings.store)
    with session.joined(settings) as client:
        client.get_many(["noop_leaf"], [session.video], values=False, progress=False)
        client.get_many([feature], [session.video], params=params, values=False, progress=False)
        values = client.get(feature, session.video, params=params)
        table = pa.table({"key": [str(i) for i in range(len(values))], "value": lists(values)})
        count, size = len(values), sum(v.nbytes for v in values)
        del values
        if any((folder / "values" / feature).glob("*/*.parquet")):
            raise RuntimeError(f"{feature} was written before it was asked for")
        ours = seconds(lambda: asyncio.run(cluster.close_shards(settings, timeout=300.0)))
    rows = sum(pq.read_metadata(p).num_rows for p in (folder / "values" / feature).glob("*/*.parquet"))
    if rows != count:
        raise RuntimeError(f"{rows} rows were written, not {count}")
    path = session.folder / "peer.parquet"

    def write() -> None:
        with open(path, "wb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())

    return ours, seconds(write), size


def lists(values: list[np.ndarray]) -> pa.Array:
    """One list of float32 per value, not copied more often than needed."""
    ends = np.cumsum([0, *(v.size for v in values)], dtype=np.int64)
    return pa.LargeListArray.from_arrays(ends, np.concatenate(values))


def restored(session: Session, settings: Any, looks: int) -> Measured:
    """One value that is only in Parquet, asked for by a client that has asked for others before."""
    folder = Path(settings.store) / "values/vector"
    path = max(folder.glob("*/*.parquet"), key=lambda p: p.stat().st_size)
    window = settings.segment_seconds
    with session.joined(settings) as client, pq.ParquetFile(path, page_checksum_verification=True) as file:
        numbers = itertools.count(1)
        step = max(1, round(30 / window) // (looks + 4))

        def ours() -> float:
            at = (next(numbers) * step + 0.5) * window
            return seconds(lambda: client.get("vector", session.video, range=(at, at + window / 100)))

        def peer() -> float:
            group = next(numbers) * step * file.num_row_groups // round(30 / window) % file.num_row_groups
            return seconds(lambda: file.read_row_group(group))

        measured = paired(ours, peer, looks // 2)
    from amber_ray.fabric.adapter import cluster

    asyncio.run(cluster.close_shards(settings))
    return Measured(
        "restore: one value",
        "one embedding that is only in Parquet, through the client, median",
        f"read_row_group of {file.metadata.num_rows // file.num_row_groups} such rows of an open file",
        *measured,
        "s",
        3.0,
    )


if __name__ == "__main__":
    raise SystemExit(main(run))
