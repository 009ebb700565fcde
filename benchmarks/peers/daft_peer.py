"""Daft: columns made by UDFs. It keeps nothing between runs.

https://docs.daft.ai/en/stable/custom-code/func/
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import daft
from daft import DataType

from amber_ray.core.model.units import Asset
from benchmarks.peers import graph

VERSION = ("daft",)


def prepare(folder: Path) -> Callable[[Sequence[Asset]], list[dict[str, Any]]]:
    """UDFs that return Python objects, as Daft takes them for what is no table."""
    sys.path.insert(0, str(folder))
    from leaf import spread  # type: ignore[import-not-found]

    looks = daft.func(graph.looks, return_dtype=DataType.python(), use_process=True)
    thumbnail = daft.func(graph.thumbnail, return_dtype=DataType.binary(), use_process=True)
    spreads = daft.func(lambda looks: spread(looks["colour"]), return_dtype=DataType.float64())

    def ask(assets: Sequence[Asset]) -> list[dict[str, Any]]:
        table = daft.from_pydict({"asset": list(assets)})
        table = table.with_column("looks", looks(daft.col("asset")))
        table = table.with_column("thumbnail", thumbnail(daft.col("asset")))
        table = table.with_column("spread", spreads(daft.col("looks")))
        rows = table.select("looks", "thumbnail", "spread").to_pydict()
        columns = zip(rows["looks"], rows["thumbnail"], rows["spread"], strict=True)
        return [{**seen, "thumbnail": picture, "spread": far} for seen, picture, far in columns]

    return ask
