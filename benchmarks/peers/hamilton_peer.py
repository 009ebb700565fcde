"""Hamilton with its cache, a driver in each of two processes.

https://hamilton.apache.org/concepts/caching/
"""

from __future__ import annotations

import concurrent.futures
import functools
import importlib
import logging
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from amber_ray.core.model.units import Asset
from benchmarks.peers import graph

VERSION = ("sf-hamilton", "apache-hamilton")


@functools.cache
def driver(folder: str) -> Any:
    """This process's driver."""
    from hamilton import driver as hamilton

    from benchmarks.peers import hamilton_nodes

    logging.getLogger("hamilton").setLevel(logging.ERROR)
    sys.path.insert(0, folder)
    leaf = importlib.import_module("hamilton_leaf")
    return hamilton.Builder().with_modules(hamilton_nodes, leaf).with_cache(path=f"{folder}/hamilton").build()


def one_clip(folder: str, asset: Asset) -> dict[str, Any]:
    return dict(driver(folder).execute(list(graph.NAMES), inputs={"asset": asset}))


def prepare(folder: Path) -> Callable[[Sequence[Asset]], list[dict[str, Any]]]:
    """Two processes with a driver each."""
    pool = concurrent.futures.ProcessPoolExecutor(
        2, multiprocessing.get_context("spawn"), initializer=driver, initargs=(str(folder),)
    )
    list(pool.map(abs, range(4)))

    def ask(assets: Sequence[Asset]) -> list[dict[str, Any]]:
        return list(pool.map(one_clip, [str(folder)] * len(assets), assets))

    return ask
