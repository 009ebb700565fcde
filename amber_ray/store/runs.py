"""Sorted runs of what is listed and of what was noted: long tables of which one row at a time is looked at.

    Listing   what media there are now, in any order ──→ sorted on this machine's disk ──→ read once, in order
    Runs      what a demand was true of: Parquet files in the store, sorted by URI, later ones over earlier

Nothing here holds more than some ten thousand rows in memory, however long the tables are, and reading one
costs no look at any medium. Blocking. Must not know: what is compared with what.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from amber_ray.core.model.listing import Listed, Noted, merged
from amber_ray.store.files import Files

CHUNK = 1 << 16
"""Rows of a listing that are sorted in memory."""
BATCH = 1024
"""Rows of one run that are read at a time: there may be hundreds of runs."""
GROUP = 1 << 14
"""Rows of a row group of a run in the store."""
FOLDER = "demands/runs"
FILE = re.compile(r"[0-9a-f]{32}\.parquet")

_LISTED = pa.schema([("uri", pa.utf8()), ("signature", pa.utf8()), ("changed", pa.float64())])
_NOTED = pa.schema(
    [
        ("uri", pa.utf8()),
        ("signature", pa.utf8()),
        ("by", pa.dictionary(pa.int32(), pa.utf8())),
        ("asset", pa.utf8()),
    ]
)


class Listing:
    """What was listed, in a folder of this machine that is gone at the end of the `with`.

    An object store lists its keys in order, so one run is made of them; of a folder as many as there are
    chunks, which are merged when they are read.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="amber-listing-")
        self._chunk: list[Listed] = []
        self._paths: list[Path] = []
        self._writer: pa.RecordBatchFileWriter | None = None
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete what was listed."""
        self._end_run()
        self._folder.cleanup()

    def add(self, rows: Iterable[Listed]) -> None:
        """Take rows in any order, some perhaps twice."""
        for row in rows:
            self._chunk.append(row)
            if len(self._chunk) >= CHUNK:
                self._flush()

    def rows(self) -> Iterator[Listed]:
        """All rows in the order of their URIs, each place once. Nothing can be added any more."""
        self._flush()
        self._end_run()
        yield from merged([_read(path) for path in self._paths])

    def _flush(self) -> None:
        if not self._chunk:
            return
        self._chunk.sort()
        if self._writer is None or self._chunk[0].uri < self._last:
            self._end_run()
            path = Path(self._folder.name, f"{len(self._paths)}.arrow")
            self._paths.append(path)
            self._writer = pa.ipc.new_file(str(path), _LISTED)
        self._writer.write_table(_table(self._chunk, _LISTED), BATCH)
        self._last = self._chunk[-1].uri
        self._chunk = []

    def _end_run(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _read(path: Path) -> Iterator[Listed]:
    # Not mapped: pages of a map that were looked at count as memory of this process, at the end all of it.
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as file:
        for number in range(file.num_record_batches):
            columns = (column.to_pylist() for column in file.get_batch(number).columns)
            yield from map(Listed._make, zip(*columns, strict=True))


def _table(rows: Sequence[Listed] | Sequence[Noted], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


class Runs:
    """The runs of one demand, by their names, each a Parquet file that never changes. Raises `StoreError`."""

    def __init__(self, store: str | Files, demand: str) -> None:
        self._files = Files(store) if isinstance(store, str) else store
        self._folder = f"{FOLDER}/{demand}"

    def write(self, name: str, rows: Iterable[Noted]) -> int:
        """Write rows, which are in order, as a run; it is durable on return. Returns how many there were."""
        count = 0
        with self._files.draft(self._folder) as draft:
            with self._files.translated("written"), pq.ParquetWriter(draft.sink, _NOTED) as writer:
                group: list[Noted] = []
                for row in rows:
                    count += 1
                    group.append(row)
                    if len(group) == GROUP:
                        writer.write_table(_table(group, _NOTED))
                        group = []
                writer.write_table(_table(group, _NOTED))
            draft.publish(self._name(name))
        return count

    def read(self, name: str) -> Iterator[Noted]:
        """The rows of a run, as they are asked for. Raises `StoreError`, also for one that is not there."""
        with self._opened(name) as file:
            for batch in file.iter_batches(BATCH):
                columns = (column.to_pylist() for column in batch.columns)
                yield from map(Noted._make, zip(*columns, strict=True))

    def among(self, name: str, places: Sequence[str]) -> Iterator[Noted]:
        """The rows of a run at some places, and below those that are folders; `places` are sorted.

        Only row groups that may have one are read, of which each place meets one or two. Raises `StoreError`.
        """
        with self._opened(name) as file:
            for number in range(file.num_row_groups):
                some = _possible(file.metadata.row_group(number).column(0).statistics, places)
                if not some:
                    continue
                group = _around(file.read_row_group(number).combine_chunks(), some)
                rows = map(Noted._make, zip(*(c.to_pylist() for c in group.columns), strict=True))
                yield from (row for row in rows if _is_at(row.uri, places))

    def count(self, name: str) -> int:
        """How many rows a run has. Raises `StoreError`."""
        with self._files.translated("read"), self._files.open(self._name(name)) as source:
            return int(pq.ParquetFile(source).metadata.num_rows)

    def names(self) -> list[str]:
        """All runs that there are, also those that no state names."""
        found = self._files.sizes(FILE, self._folder, 1)
        return sorted(name.rpartition("/")[2].removesuffix(".parquet") for name in found)

    def keep_only(self, names: Iterable[str]) -> None:
        """Delete all runs but these."""
        for name in sorted(set(self.names()) - set(names)):
            self._files.remove(self._name(name))

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[pq.ParquetFile]:
        """A run's file. Whatever fails while it is read is a `StoreError`, as is one that is not there."""
        with self._files.translated("read"):
            try:
                source = self._files.open(self._name(name))
            except FileNotFoundError as error:
                raise OSError(f"the run {self._name(name)} is not there") from error
            with source, pq.ParquetFile(source) as file:
                yield file

    def _name(self, name: str) -> str:
        return f"{self._folder}/{name}.parquet"


def _possible(statistics: pq.Statistics | None, places: Sequence[str]) -> Sequence[str]:
    """Those of these places that a row group may have, or one below: that sorts between "p" and "p0"."""
    if statistics is None or not statistics.has_min_max:
        return places
    first, last = statistics.min, statistics.max
    return [place for place in places if place <= last and first < place + "0"]


class _Texts(Sequence[str]):
    """A column of texts, of which one at a time is looked at."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: Any) -> Any:
        return self._column[index].as_py()


def _around(group: pa.Table, places: Sequence[str]) -> pa.Table:
    """The rows of a sorted table that are at one of these places, below it, or called nearly so."""
    uris = _Texts(group.column(0))
    rows: set[int] = set()
    for place in places:
        rows.update(range(bisect_left(uris, place), bisect_left(uris, place + "0")))
    return group.take(pa.array(sorted(rows), pa.int64()))


def _is_at(uri: str, places: Sequence[str]) -> bool:
    """Whether a place is one of these, which are sorted, or below one."""
    if _has(places, uri):
        return True
    at = uri.find("/", 1)
    while at >= 0:
        if _has(places, uri[:at]):
            return True
        at = uri.find("/", at + 1)
    return False


def _has(places: Sequence[str], place: str) -> bool:
    at = bisect_left(places, place)
    return at < len(places) and places[at] == place
