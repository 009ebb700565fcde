"""The values of one feature as Parquet files of bounded size, which any reader of Parquet takes as one table.

Must not know: where values come from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from amber_ray.client import results
from amber_ray.client.row import Row
from amber_ray.core.model.service import FeatureInfo
from amber_ray.core.model.units import MICRO, Segment
from amber_ray.core.values.annotations import from_spec
from amber_ray.store.types import META, to_array

GROUP_BYTES, GROUP_ROWS = 32 << 20, 1 << 16
"""A row group is written when it has this many; no more is held."""


class Shards:
    """`<folder>/<feature>/part-00000.parquet` and on, at least one.

    Columns: `uri` (as it was listed), `asset` (id), `start` and `length` of its window in seconds (null for a
    feature per asset), `key`, and `value` in the store's own type for the feature. A file ends with the row
    group that takes it past `most` bytes of values, uncompressed.
    """

    def __init__(self, folder: str, info: FeatureInfo, most: int) -> None:
        """Nothing is written before there is a row group of rows, or `close` is called."""
        self.rows = 0
        self.files: list[str] = []
        self._folder = folder
        self._info = info
        self._type = from_spec(info.returns)
        self._most = most
        self._held: list[Any] = []
        self._held_rows = self._held_bytes = self._written = 0
        self._writer: Any = None

    def add(self, rows: Sequence[Row]) -> None:
        """Take rows that have values."""
        if rows:
            self._hold(self._table(rows))

    def close(self) -> None:
        """Write what is held, and an empty file if there never was a row, so that readers see its columns."""
        if not self.files and not self._held:
            self._held.append(self._table([]))
        self._write()
        self._end()

    def _hold(self, table: Any) -> None:
        self._held.append(table)
        self._held_rows += table.num_rows
        self._held_bytes += table.nbytes
        self.rows += table.num_rows
        if self._held_bytes >= GROUP_BYTES or self._held_rows >= GROUP_ROWS:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._held:
            return
        table = pa.concat_tables(self._held).combine_chunks()
        if self._writer is None:
            name = f"{self._info.name}/part-{len(self.files):05}.parquet"
            os.makedirs(os.path.join(self._folder, self._info.name), exist_ok=True)
            self._writer = pq.ParquetWriter(
                os.path.join(self._folder, name), table.schema, compression="zstd", write_page_checksum=True
            )
            self.files.append(name)
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._written += self._held_bytes
        self._held, self._held_rows, self._held_bytes = [], 0, 0
        if self._written >= self._most:
            self._end()

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer, self._written = None, 0

    def _table(self, rows: Sequence[Row]) -> Any:
        import pyarrow as pa

        spans = [_span(row) for row in rows]
        columns = {
            "uri": pa.array([uri_of(row) for row in rows], pa.string()),
            "asset": pa.array([asset_of(row) for row in rows], pa.string()),
            "start": pa.array([a for a, _ in spans], pa.float64()),
            "length": pa.array([b for _, b in spans], pa.float64()),
            "key": pa.array([row.key for row in rows], pa.string()),
            "value": to_array(self._type, [row.value for row in rows]),
        }
        # What reads a value back as the feature gave it; other readers pass it over.
        told = {
            META: json.dumps(self._type.spec()).encode(),
            b"amber.feature": self._info.name.encode(),
            b"amber.version": self._info.version.encode(),
        }
        return pa.table(columns).replace_schema_metadata(told)


def uri_of(row: Row) -> str:
    """An asset as it was listed; what is no Unicode is told by its bytes."""
    return (row.asset or "").encode("utf-8", "backslashreplace").decode()


def asset_of(row: Row) -> str | None:
    """The id of a row's asset; None where it could not be identified."""
    asset = None if row.unit is None else results.asset_of(row.unit)
    return None if asset is None else asset.id


def _span(row: Row) -> tuple[float | None, float | None]:
    if not isinstance(row.unit, Segment):
        return None, None
    return row.unit.start, round((row.unit.end - row.unit.start) * MICRO) / MICRO
