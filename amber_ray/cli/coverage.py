"""How much of what an export asked for is there: one line per feature and asset, and the sums.

Must not know: values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amber_ray.cli.shards import asset_of, uri_of
from amber_ray.cli.terminal import cell, console, table
from amber_ray.client.row import Row

GROUP = 10_000
"""Lines in one row group, and the most that are held unwritten."""


@dataclass(slots=True)
class Count:
    """Units of one feature; an asset that can't be read counts as one that failed.

    `unknown`: assets in which nobody has looked yet for the ranges that it is for.
    """

    present: int = 0
    failed: int = 0
    missing: int = 0
    unknown: int = 0

    @property
    def asked(self) -> int:
        """All of them; where their number is not known, one."""
        return self.present + self.failed + self.missing + self.unknown

    def add(self, row: Row) -> None:
        """Count a row: it failed, it has no value yet, or it has one. Where nothing was found is no unit."""
        if row.failure is not None:
            self.failed += 1
        elif row.uncounted:
            self.unknown += 1
        elif row.nothing_found:
            pass
        elif row.state != "ready":
            self.missing += 1
        else:
            self.present += 1

    def as_dict(self) -> dict[str, int]:
        """As it stands in the manifest and in Parquet."""
        return {
            "asked": self.asked,
            "present": self.present,
            "failed": self.failed,
            "missing": self.missing,
            "unknown": self.unknown,
        }


class Coverage:
    """Counts rows as they come, and writes a line of Parquet for each feature and asset.

    Columns: `feature`, `uri`, `asset` (null for one that can't be read), `asked`, `present`, `failed`,
    `missing` (units), `unknown` (1 where it is not known how many units there are: they are of ranges that
    another feature finds, and has not found yet), `error` (the first failure's). Rows of one feature and
    asset must follow on each other.
    """

    def __init__(self, path: str, features: tuple[str, ...]) -> None:
        """The file is there at once, and whole once `close` was called."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        texts, numbers = ("feature", "uri", "asset"), ("asked", "present", "failed", "missing", "unknown")
        self._schema = pa.schema(
            [*((n, pa.string()) for n in texts), *((n, pa.int64()) for n in numbers), ("error", pa.string())]
        )
        self.of = {name: Count() for name in features}
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._held: list[dict[str, Any]] = []
        self._at: tuple[str, str] | None = None
        self._count = Count()
        self._line: dict[str, Any] = {}

    def add(self, row: Row) -> None:
        """Count one unit."""
        uri = uri_of(row)
        if self._at != (row.feature, uri):
            self._next()
            self._at = row.feature, uri
            self._line = {"feature": row.feature, "uri": uri, "asset": None, "error": None}
        self._count.add(row)
        self.of[row.feature].add(row)
        self._line["asset"] = self._line["asset"] or asset_of(row)
        if row.failure is not None and self._line["error"] is None:
            self._line["error"] = f"{row.failure.type}: {row.failure.message}"

    def close(self) -> None:
        """Write the rest."""
        self._next()
        self._at = None
        self._write()
        self._writer.close()

    def show(self) -> None:
        """The sums as a table."""
        counts = {name: count.as_dict() for name, count in self.of.items()}
        shown = ["asked", "present", "failed", "missing"]
        shown += ["unknown"] * any(count["unknown"] for count in counts.values())
        rows = table("feature", *(f">{column}" for column in shown))
        for name, count in counts.items():
            rows.add_row(cell(name), *(f"{count[column]:,}" for column in shown))
        console().print(rows)

    def _next(self) -> None:
        if self._at is None:
            return
        self._held.append(self._line | self._count.as_dict())
        self._count = Count()
        if len(self._held) >= GROUP:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        if self._held:
            self._writer.write_table(pa.Table.from_pylist(self._held, self._schema))
            self._held.clear()
