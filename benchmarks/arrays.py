"""Many large values that are in memory: handed over without a copy, as `ray.get` of as many refs does."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.features import noise
from benchmarks.measure import Measured, paired, seconds
from benchmarks.session import Session, main

MEGABYTES = 1


def run(session: Session) -> list[Measured]:
    """Arrays of 1 MiB; neither side may take private memory for them."""
    import ray

    count, rounds = session.size((1000, 7), (10, 1))
    room = count * (MEGABYTES + 1) << 20
    with session.client(segment_seconds=30 / count, memory_bytes=room, replica_cache_bytes=room) as client:
        count = len(client.get_many(["array"], [session.video], values=False, progress=False).rows)
        make = ray.remote(noise).options(num_cpus=0)
        refs = [make.remote(i, MEGABYTES) for i in range(count)]
        ray.wait(refs, num_returns=count, timeout=600, fetch_local=False)
        found: list[Any] = []

        def ours() -> float:
            found.clear()
            return seconds(lambda: found.extend(client.get("array", session.video)))

        def peer() -> float:
            found.clear()
            return seconds(lambda: found.extend(ray.get(refs, timeout=600)))

        measured = paired(ours, peer, rounds)
        found.clear()
        gc.collect()
        before = private_bytes()
        ours()
        copied = (private_bytes() - before) / (count * MEGABYTES << 20)
        if copied > 0.1:
            raise RuntimeError(f"{copied:.0%} of the bytes were copied into the client's own memory")
        for i in range(0, count, max(1, count // 10)):
            np.testing.assert_array_equal(found[i], noise(i, MEGABYTES))
        found.clear()
    return [
        Measured(
            "get_many: large arrays",
            f"{count} hot arrays of {MEGABYTES} MiB through the client, {copied:.1%} of the bytes copied",
            f"ray.get of {count} refs to the same arrays",
            *measured,
            "s",
            1.3,
        )
    ]


def private_bytes() -> int:
    """Memory of this process that it shares with no other: the object store's is shared."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


if __name__ == "__main__":
    raise SystemExit(main(run))
