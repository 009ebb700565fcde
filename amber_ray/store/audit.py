"""The audit log at rest: who changed what, as Parquet files that any SQL reads.

    <store>/audit/<first>-<last>-<random>.parquet      lines; first and last are their times in milliseconds

Each file never changes, and is durable before what it tells of is answered. Whoever makes a change may add
one (the store's owner, and `amber token` beside it); the owner alone joins small ones, drops lines that are
too old, and the oldest files while there are too many bytes. A joined file is published before those that it
replaces go, and a write that was repeated is there twice, so a line may be found twice: its `id` tells. Names
tell the times, so that a look at the newest opens few files. Must not know: who reads it, HTTP.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from amber_ray.core.model.audit import AuditFilter, AuditLine, LinePlace, detail_text
from amber_ray.core.model.pages import Told, first
from amber_ray.store.files import Files

log = logging.getLogger("amber.store")

FOLDER = "audit"
JOIN = 24
"""Small files from which on they are joined."""
AT_ONCE, JOIN_BYTES = 500, 8 << 20
"""Files that one step joins, and their bytes at most, so that it holds a bounded number of lines."""
WHOLE_BYTES = 1 << 20
"""A file of so many bytes is joined no more: some thirty thousand lines."""
_NAME = re.compile(r"([0-9]{13})-([0-9]{13})-[0-9a-f]{16}\.parquet")

_SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("us", tz="UTC")),
        ("what", pa.utf8()),
        ("subject", pa.utf8()),
        ("tenant", pa.utf8()),
        ("caller", pa.utf8()),
        ("outcome", pa.utf8()),
        ("request", pa.utf8()),
        ("detail", pa.utf8()),
        ("id", pa.utf8()),
    ]
)


class AuditFile(NamedTuple):
    """A file of the log by its name: the times of its first and last line in milliseconds, and its bytes."""

    last: int
    first: int
    name: str
    size: int


class AuditBook:
    """The audit log of a store. Blocking. `fence` is that of `JsonFolder`.

    Lines older than `seconds` are dropped, and the oldest while there are more than `most_bytes`.
    """

    def __init__(
        self,
        store: str | Files,
        fence: Callable[[], None] | None = None,
        *,
        seconds: float = float("inf"),
        most_bytes: int | None = None,
    ) -> None:
        self._files = Files(store) if isinstance(store, str) else store
        self._fence = fence
        self._seconds = seconds
        self._most_bytes = most_bytes

    def write(self, lines: Sequence[AuditLine]) -> None:
        """Add lines; they are durable when this returns. Raises `StoreError`."""
        if lines:
            self._guard()
            self._publish(_table(lines))

    def read(self, only: AuditFilter, after: LinePlace | None, most: int) -> Told[AuditLine]:
        """Return the first lines after a place, the newest first. Raises `StoreError`.

        A damaged file is logged and left out. Opens no more files than it takes to be sure of the order.
        """
        found: dict[str, AuditLine] = {}
        for file in sorted(self._all(), reverse=True):
            if only.since is not None and file.last < only.since * 1000 - 1:
                break
            its = first(found.values(), after, most).values
            if len(its) == most and file.last < its[-1].time * 1000 - 1:
                return Told(its, its[-1].place)
            if after is None or file.first <= -after[0] * 1000:
                table = self._table(file.name)
                if table is not None:
                    for one in _lines(_chosen(table, only, after, most)):
                        found.setdefault(one.id, one)
        return first(found.values(), after, most)

    def tidy(self, now: float) -> None:
        """Drop what is too old or too much, and join small files; only the owner does. `StoreError`."""
        oldest = int((now - self._seconds) * 1000) if self._seconds < float("inf") else 0
        files = sorted(self._all())
        total = sum(file.size for file in files)
        kept = []
        for file in files:
            if file.last < oldest or (self._most_bytes is not None and total > self._most_bytes):
                self._guard()
                self._files.remove(file.name)
                total -= file.size
            else:
                kept.append(file)
        small = [file for file in kept if file.size < WHOLE_BYTES]
        if len(small) >= JOIN:
            sums = itertools.accumulate(file.size for file in small)
            few = sum(total <= JOIN_BYTES for total in sums)
            self._join(small[: min(few, AT_ONCE)], oldest)

    def sweep(self) -> None:
        """Delete the unpublished files of writers that died."""
        self._files.sweep(FOLDER, 1)

    def _join(self, files: Sequence[AuditFile], oldest: int) -> None:
        read = {file.name: table for file in files if (table := self._table(file.name)) is not None}
        if not read:
            return
        whole = pa.concat_tables(read.values())
        whole = whole.filter(pc.greater_equal(_micros(whole), oldest * 1000))
        whole = whole.sort_by([("time", "ascending"), ("id", "ascending")])
        once: dict[str, int] = {}
        for row, id in enumerate(whole["id"].to_pylist()):
            once.setdefault(id, row)
        self._guard()
        if once:
            self._publish(whole.take(list(once.values())))
        for name in read:
            self._files.remove(name)

    def _publish(self, table: pa.Table) -> None:
        times = pc.min_max(_micros(table)).as_py()
        name = f"{times['min'] // 1000:013d}-{times['max'] // 1000:013d}-{secrets.token_hex(8)}.parquet"
        with self._files.draft(FOLDER) as draft:
            with self._files.translated("written"):
                pq.write_table(table, draft.sink, compression="zstd")
            draft.publish(f"{FOLDER}/{name}")

    def _all(self) -> Iterator[AuditFile]:
        for name, size in self._files.sizes(_NAME, FOLDER, 1).items():
            match = _NAME.fullmatch(name.rpartition("/")[2])
            assert match is not None
            yield AuditFile(int(match[2]), int(match[1]), name, size)

    def _table(self, name: str) -> pa.Table | None:
        """The lines of a file; None if it is damaged, which is logged, or was joined meanwhile."""
        data = self._files.read(name)
        if data is None:
            return None
        try:
            return pq.read_table(pa.BufferReader(data)).select(_SCHEMA.names).cast(_SCHEMA)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            log.error("the lines of %s are left out, it is damaged: %s", name, error)
            return None

    def _guard(self) -> None:
        if self._fence is not None:
            self._fence()


def _table(lines: Sequence[AuditLine]) -> pa.Table:
    rows: dict[str, list[Any]] = {
        "time": [datetime.fromtimestamp(one.time, UTC) for one in lines],
        "detail": [detail_text(one.detail) for one in lines],
    }
    for name in _SCHEMA.names:
        rows.setdefault(name, [getattr(one, name) for one in lines])
    return pa.table(rows, schema=_SCHEMA)


def _chosen(table: pa.Table, only: AuditFilter, after: LinePlace | None, most: int) -> pa.Table:
    """Return the newest lines that are meant after a place: more than `most`, if there are so many."""
    for name in ("tenant", "what"):
        if (wanted := getattr(only, name)) is not None:
            table = table.filter(pc.equal(table[name], wanted))
    if only.since is not None:
        table = table.filter(pc.greater_equal(_micros(table), math.ceil(only.since * 1e6)))
    if after is not None:
        times, place = _micros(table), round(-after[0] * 1e6)
        beside = pc.and_(pc.equal(times, place), pc.greater(table["id"], after[1]))
        table = table.filter(pc.or_(pc.less(times, place), beside))
    if table.num_rows > most:
        times = _micros(table)
        last = pc.top_k_unstable(times, most + 1)[-1]
        table = table.filter(pc.greater_equal(times, times[last.as_py()]))
    return table


def _micros(table: pa.Table) -> pa.ChunkedArray:
    """The times of lines in microseconds."""
    return pc.cast(table["time"], pa.int64())


def _lines(table: pa.Table) -> Iterable[AuditLine]:
    for row in table.to_pylist():
        row["time"] = row["time"].timestamp()
        row["detail"] = json.loads(row["detail"])
        yield AuditLine(**row)
