"""One part: the values of one feature's version, in a Parquet file that never changes (`store.sealed`).

A part that a shard wrote says so in its name: `part-<ULID>-2of4.parquet` has values of shard 2 of 4 alone. So
a listing is enough to know which parts another shard needs not open, with any number of shards
(`core.planning.homes`). One without it, of a single shard or of an older Amber, may have anybody's.

Must not know: which parts there are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from amber_ray.core.planning.homes import Share
from amber_ray.core.scheduler.costs import Means
from amber_ray.core.values import annotations as vt
from amber_ray.store import rows as rw
from amber_ray.store.sealed import (
    GROUP_BYTES,
    NAME,
    SealedFile,
    SealedWriter,
    new_name,
    order,
    reading,
    sealed_name,
)

__all__ = [
    "GROUP_BYTES",
    "NAME",
    "Part",
    "PartFile",
    "PartWriter",
    "feature_and_version",
    "folder",
    "new_name",
    "order",
    "sealed_name",
    "share_of",
]

SAMPLE_BYTES = 64 << 10
"""Bytes of a column that are compressed to see whether the others should be."""
WORTH = 0.85
"""A column is compressed if its sample shrinks to less than this share: embeddings don't."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file. `name` is its path below the store."""

    name: str
    feature: str
    version: str
    rows: int
    bytes: int


def folder(feature: str, version: str) -> str:
    """Return where the parts of a feature's version are."""
    return f"values/{feature}/{version}"


def feature_and_version(name: str) -> tuple[str, str]:
    """Return the feature and version of the values in a part, by its name."""
    _, feature, version, _ = name.split("/")
    return feature, version


def share_of(name: str) -> Share | None:
    """Return the shard whose values a part has, by its name; None if they may be anybody's."""
    return Share.parse(name.removesuffix(".parquet").rpartition("-")[2])


# --- writing


class PartWriter(SealedWriter):
    """Writes rows as they come, in row groups of about `GROUP_BYTES`."""

    def __init__(self, sink: pa.NativeFile, meta: Mapping[str, Any]) -> None:
        super().__init__(sink, meta, _layout)

    def add(self, table: pa.Table) -> None:
        """Add rows, of today's parts or of older ones."""
        super().add(rw.as_now(table))


def _layout(table: pa.Table) -> dict[str, Any]:
    return {
        "compression": _codecs(table),
        "use_dictionary": ["asset", "params", "code", "device"],
        "write_statistics": ["asset", "created"],
    }


def _codecs(table: pa.Table) -> dict[str, str]:
    """Choose a codec for each column: Zstd where it makes the data smaller, and none for random keys."""
    codecs = {name: "ZSTD" for name in table.column_names if name not in ("key", "inputs", "value")}
    column = table.column("value")
    largest = max(column.chunks, key=len)
    return codecs | {path: "ZSTD" for path, leaf in _leaves("value", largest) if _shrinks(leaf)}


def _leaves(path: str, array: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """Yield the columns that Parquet makes of a nested one, each with the values that are written to it."""
    if pa.types.is_struct(array.type):
        for i, field in enumerate(array.type):
            yield from _leaves(f"{path}.{field.name}", array.field(i))
    elif pa.types.is_nested(array.type):
        yield from _leaves(f"{path}.list.element", array.values)
    else:
        yield path, array


def _shrinks(leaf: pa.Array) -> bool:
    """Return whether a sample from the middle of the data becomes much smaller."""
    data = leaf.buffers()[-1]
    if data is None or data.size < 256:
        return True
    size = min(SAMPLE_BYTES, data.size)
    sample = data.slice((data.size - size) // 2, size)
    return bool(len(pa.Codec("zstd", 1).compress(sample)) < WORTH * size)


# --- reading


class PartFile(SealedFile):
    """An open part whose footer has been checked. Thread-safe; see `SealedFile`."""

    def __init__(self, name: str, handle: pa.NativeFile, pre_buffer: bool) -> None:
        super().__init__(name, handle, pre_buffer)
        with reading(name):
            self.type = vt.from_spec(self.told("type"))
            ranges = float(self.told("ranges")) if self.tells("ranges") else None
            seconds, size = self.told("costs")
            self.costs = Means(float(seconds), float(size), ranges)
            """What one of its values costs in the mean."""

    def keys(self) -> np.ndarray:
        """Return the keys of all rows: uint8[n, 16]."""
        chunks = self.columns(["key"]).column("key").chunks
        raw = [np.frombuffer(c.buffers()[1], np.uint8, len(c) * 16, c.offset * 16) for c in chunks if len(c)]
        return np.concatenate(raw or [np.empty(0, np.uint8)]).reshape(-1, 16)

    def may_have_made_until(self, at: float) -> bool:
        """Return False if all values were made after a Unix time, by the footer alone."""
        column = self.leaf("created")
        for group in range(self.groups):
            told = self.metadata.row_group(group).column(column).statistics
            if told is None or not told.has_min_max or told.min_raw <= rw.microseconds(at):
                return True
        return False

    def may_be_about(self, assets: Sequence[str]) -> bool:
        """Return False if no row is about any of these assets, which are sorted, by the footer alone.

        A collection may have one in it.
        """
        column = self.leaf("asset")
        for group in range(self.groups):
            told = self.metadata.row_group(group).column(column).statistics
            if told is None or not told.has_null_count or told.null_count or not told.has_min_max:
                return True
            if bisect_left(assets, told.min) < bisect_right(assets, told.max):
                return True
        return False
