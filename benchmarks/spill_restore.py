"""Values that do not fit in memory: written to Parquet and read back, against pyarrow doing only that."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.features import noise
from benchmarks.measure import Measured
from benchmarks.session import Session, main

if TYPE_CHECKING:
    from amber_ray.client.sync import Client

MEGABYTES = 1


def run(session: Session) -> list[Measured]:
    window, rounds = session.size((0.25, 3), (5.0, 1))
    count, budget = 0, 0
    ours, peers = [], []
    for _ in range(rounds):
        *seconds, count, budget = through_amber(session, window)
        ours.append(seconds)
        peers.append(by_hand(session.folder / "raw", count))
    size = f"{count} arrays of {MEGABYTES} MiB"
    return [
        Measured(
            "spill",
            f"{size} computed, and in Parquet until memory is within its budget of {budget >> 20} MiB",
            "the same arrays made and written by pyarrow in one process",
            statistics.median(spill for spill, _ in ours),
            statistics.median(write for write, _ in peers),
            "s",
            2.0,
        ),
        Measured(
            "restore",
            f"{size} asked for again, all but an eighth of them only in Parquet",
            "the same arrays read by pyarrow in one process",
            statistics.median(restore for _, restore in ours),
            statistics.median(read for _, read in peers),
            "s",
            3.0,
        ),
    ]


def through_amber(session: Session, window: float) -> tuple[float, float, int, int]:
    """Seconds to compute and spill, seconds to restore, how many values, and the memory they had in bytes."""
    budget = round(30 / window / 8) * MEGABYTES << 20
    with session.client(segment_seconds=window, memory_bytes=budget) as client:
        # Worker processes are up before the clock runs, as the peer's is.
        count = len(client.get("noop_leaf", session.video))
        started = time.perf_counter()
        client.get_many("block", [session.video], values=False, progress=False)
        settle(client, budget)
        spilled = time.perf_counter()
        values = client.get("block", session.video)
        ended = time.perf_counter()
    check(values, count)
    return spilled - started, ended - spilled, count, budget


def settle(client: Client, budget: int) -> None:
    """Wait until what is held in memory fits its budget: the rest has been written."""
    until = time.monotonic() + 120
    while client.stats()["hot_bytes"] > budget:
        if time.monotonic() > until:
            raise RuntimeError(f"still above the budget after two minutes: {client.stats()}")
        time.sleep(0.02)


def by_hand(folder: Path, count: int) -> tuple[float, float]:
    """Seconds to make and write, and to read: one file of many rows, with the checksums that Amber has."""
    folder.mkdir(exist_ok=True)
    path = folder / "values.parquet"
    started = time.perf_counter()
    size = MEGABYTES << 18
    schema = pa.schema({"value": pa.list_(pa.float32())})
    with pq.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for i in range(count):
            offsets = np.array([0, size], dtype=np.int32)
            column = pa.ListArray.from_arrays(offsets, noise(i, MEGABYTES))
            writer.write_table(pa.table([column], schema=schema))
    written = time.perf_counter()
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        groups = [file.read_row_group(i) for i in range(file.num_row_groups)]
    values = [g.column(0).combine_chunks().flatten().to_numpy() for g in groups]
    ended = time.perf_counter()
    check(values, count)
    return written - started, ended - written


def check(values: list[np.ndarray], count: int) -> None:
    """Both have what was asked for, bit for bit."""
    if len(values) != count or not all(np.array_equal(v, noise(i, MEGABYTES)) for i, v in enumerate(values)):
        raise RuntimeError("what was read is not what was written")


if __name__ == "__main__":
    raise SystemExit(main(run))
