"""The failures of a long run: all of them in a Parquet file, the first few on the terminal.

They are written as they come, so that a catalogue of which everything fails needs no more memory than one
that works. Must not know: what was run.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from amber_ray.cli.look import show_failures
from amber_ray.cli.terminal import say
from amber_ray.client.results import Results, asset_of
from amber_ray.client.row import Row
from amber_ray.core.model.request import Failure
from amber_ray.errors import Unsuitable

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SHOWN = 20
GROUP = 1000
"""Failures in one row group, and the most that are held unwritten."""


class FailureFile:
    """One line per failed unit. The file gets its name when `close` is called, whole or not at all.

    Columns: `asset` (as it was listed), `asset_id` (null for what could not be identified), `feature`, `unit`
    (the asset's id; `id@start+length` in microseconds; `id@each:key` where the ranges of a finder are not
    known), `step` (the feature that failed), `kind` (input, feature or system), `class`, `message`,
    `attempts`, `traceback`.
    """

    def __init__(self, path: str, *, always: bool, skip_unsuitable: bool = False) -> None:
        """With `always` it is written even if nothing failed; an earlier run's file never stays.

        With `skip_unsuitable` assets whose kind can't have a feature are no failures.
        """
        self.path = path
        self.count = 0
        self._always = always or os.path.exists(path)
        self._skip = skip_unsuitable
        self._shown: list[tuple[str, Failure]] = []
        self._held: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None

    def add(self, results: Results) -> None:
        """Take the failures of one request's table."""
        for row in results.rows:
            if row.failure is None or (self._skip and is_unsuitable(row.failure)):
                continue
            self.count += 1
            self._held.append(_line(row, row.failure))
            if len(self._shown) < SHOWN:
                self._shown.append((row.asset or "all", row.failure))
        if len(self._held) >= GROUP:
            self._write()

    def close(self) -> None:
        """Publish the file."""
        if not (self.count or self._always):
            return
        self._write()
        assert self._writer is not None
        self._writer.close()
        os.replace(self._partial, self.path)

    def show(self) -> None:
        """The first failures as a table, how many more there are, and where all of them stand."""
        if self._shown:
            show_failures(self._shown)
            more = self.count - len(self._shown)
            say(f"{f'and {more:,} more; ' if more else ''}all failures are in {self.path}")

    @property
    def _partial(self) -> str:
        return self.path + ".partial"

    def _write(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._writer is None:
            if parent := os.path.dirname(self.path):
                os.makedirs(parent, exist_ok=True)
            self._writer = pq.ParquetWriter(self._partial, _schema(), compression="zstd")
        if self._held:
            self._writer.write_table(pa.Table.from_pylist(self._held, _schema()))
            self._held.clear()


def is_unsuitable(failure: Failure) -> bool:
    """Whether an asset has no value because its kind can't have the feature."""
    return failure.type == Unsuitable.__name__


def _schema() -> pa.Schema:
    import pyarrow as pa

    texts = ("asset", "asset_id", "feature", "unit", "step", "kind", "class", "message")
    return pa.schema(
        [*((n, pa.string()) for n in texts), ("attempts", pa.int32()), ("traceback", pa.string())]
    )


def _line(row: Row, failure: Failure) -> dict[str, Any]:
    asset = None if row.unit is None else asset_of(row.unit)
    name = None if row.asset is None else row.asset.encode("utf-8", "backslashreplace").decode()
    return {
        "asset": name,
        "asset_id": None if asset is None else asset.id,
        "feature": row.feature,
        "unit": None if row.unit is None else row.unit.unit_id,
        "step": failure.step,
        "kind": failure.kind,
        "class": failure.type,
        "message": failure.message,
        "attempts": failure.attempts,
        "traceback": failure.traceback or None,
    }
