"""joblib: `Memory.cache` around each function whose result is kept, `Parallel` over the clips.

Cached by the asset, as a user would write it: caching the looks by their frames would hash every picture of
every clip at each call. https://joblib.readthedocs.io/en/stable/memory.html
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import joblib

from amber_ray.core.model.units import Asset
from benchmarks.peers import graph

VERSION = ("joblib",)


def one_clip(folder: str, asset: Asset) -> dict[str, Any]:
    """Everything of a clip, what is known from the cache."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    from leaf import spread  # type: ignore[import-not-found]

    memory = joblib.Memory(f"{folder}/joblib", verbose=0)
    looks = memory.cache(graph.looks)(asset)
    return {
        **looks,
        "thumbnail": memory.cache(graph.thumbnail)(asset),
        "spread": memory.cache(spread)(looks["colour"]),
    }


def prepare(folder: Path) -> Callable[[Sequence[Asset]], list[dict[str, Any]]]:
    """Two worker processes that are up."""
    parallel = joblib.Parallel(n_jobs=2)
    parallel(joblib.delayed(len)("warm") for _ in range(4))

    def ask(assets: Sequence[Asset]) -> list[dict[str, Any]]:
        return list(parallel(joblib.delayed(one_clip)(str(folder), asset) for asset in assets))

    return ask
