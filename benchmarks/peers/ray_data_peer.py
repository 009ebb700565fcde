"""Ray Data: one `map` over the clips on two CPUs. It keeps nothing between runs.

https://docs.ray.io/en/latest/data/transforming-data.html
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.data

from amber_ray.core.model.units import Asset
from benchmarks.peers import graph

VERSION = ("ray",)


def prepare(folder: Path) -> Callable[[Sequence[Asset]], list[dict[str, Any]]]:
    """Connected to Ray, with workers that have imported what they need."""
    ray.init(os.environ["PEERS_RAY"], logging_level=logging.ERROR, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True

    def one_clip(row: dict[str, Any]) -> dict[str, Any]:
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        from leaf import spread  # type: ignore[import-not-found]

        asset = row["item"]
        looks = graph.looks(asset)
        return {"made": {**looks, "thumbnail": graph.thumbnail(asset), "spread": spread(looks["colour"])}}

    def ask(assets: Sequence[Asset]) -> list[dict[str, Any]]:
        rows = (
            ray.data.from_items(list(assets), override_num_blocks=min(len(assets), 20))
            .map(one_clip)
            .take_all()
        )
        return [row["made"] for row in rows]

    return ask
