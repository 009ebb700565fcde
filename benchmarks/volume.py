"""Many steps: a catalogue of chains whose links do nothing, and many steps that each take a moment."""

from __future__ import annotations

import concurrent.futures
import itertools
import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import Measured, paired, seconds
from benchmarks.session import Session, main

LINKS = 10
NAP_SECONDS = 0.05


def run(session: Session) -> list[Measured]:
    """A catalogue of assets against one Ray task per node; naps against two processes."""
    return [chains(session), naps(session)]


def chains(session: Session) -> Measured:
    """Each asset's chain of features, nothing known."""
    import ray

    count, rounds = session.size((1000, 3), (20, 1))
    paths = pictures(session.folder / "catalogue", count)
    salts = itertools.count(1)
    first, link = ray.remote(source), ray.remote(same)
    with session.client() as client:
        sizes = [client.asset(path).bytes for path in paths]  # looked at once, before the clock runs

        def ours() -> float:
            def ask() -> None:
                params = {"link_0.salt": next(salts)}
                table = client.get_many(["link_9"], paths, params=params, progress=False)
                check([row.value for row in table.rows], sizes)

            return seconds(ask)

        def peer() -> float:
            def ask() -> None:
                refs = [first.remote(size) for size in sizes]
                for _ in range(LINKS - 1):
                    refs = [link.remote(ref) for ref in refs]
                check(ray.get(refs, timeout=600), sizes)

            return seconds(ask)

        measured = paired(ours, peer, rounds)
    return Measured(
        "catalogue of no-ops",
        f"{LINKS} chained features that do nothing of {count} assets: {LINKS * count} steps",
        f"the same chains with one Ray task for each of the {LINKS * count} nodes",
        *measured,
        "s",
        0.1,
    )


def naps(session: Session) -> Measured:
    """Steps of 50 ms, which two CPUs can do no faster than two processes."""
    count = session.size(2000, 20)
    salts = itertools.count(1)
    window = 30 / count
    context = multiprocessing.get_context("spawn")
    with (
        session.client(segment_seconds=window) as client,
        concurrent.futures.ProcessPoolExecutor(2, context) as pool,
    ):
        list(pool.map(time.sleep, [0.1] * 4))
        client.get("nap", session.video, params={"nap.seconds": 0.001})
        made = []

        def ours() -> float:
            def ask() -> None:
                params = {"nap.salt": next(salts), "nap.seconds": NAP_SECONDS}
                made.append(len(client.get("nap", session.video, params=params)))

            return seconds(ask)

        def peer() -> float:
            return seconds(lambda: list(pool.map(time.sleep, [NAP_SECONDS] * made[-1])))

        measured = paired(ours, peer, 1, warm=False)
    return Measured(
        "many short steps",
        f"a feature that sleeps {NAP_SECONDS * 1000:g} ms, of {made[-1]} segments of a video",
        "the same sleeps, one by one, in two plain processes",
        *measured,
        "s",
        1.05,
    )


def source(value: int) -> int:
    """The peer's first node."""
    return value


def same(value: int) -> int:
    """The peer's other nodes."""
    return value


def check(found: Sequence[int], expected: Sequence[int]) -> None:
    """Both have every value, in order."""
    if list(found) != list(expected):
        raise RuntimeError(f"{len(found)} values, not the {len(expected)} expected ones")


def pictures(folder: Path, count: int) -> list[Path]:
    """Small images, no two alike."""
    from PIL import Image

    folder.mkdir()
    paths = [folder / f"{i:05}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((4, 4, 3), (i % 251, i // 251, 7), np.uint8)).save(path)
    return paths


if __name__ == "__main__":
    raise SystemExit(main(run))
