"""A Parquet file that never changes: its name, and its checksums.

Parts of values (`store.part`) and packs of assets (`store.assets`) are such files. Pages carry Parquet's
checksums, for other readers to check. Each row group has a checksum of all its bytes in the footer
(`store.spans`). The footer's own checksum is in the name: a ULID, 48 bits of time and 80 that are otherwise
random, whose last 32 are the CRC-32 of the footer. So every reader checks the file, and no flipped bit is
ever taken for a value.

`DamagedPart` is raised in two places only, `_checked_footer` and `SealedFile.verify`: the bytes of a footer,
or of a row group, were delivered in full and fail their checksum. Every other failure says nothing of the
file: a read that fails or falls short, and bytes that are as they were written and can't be parsed here (by
an older Arrow, say). Those are a `StoreError`, or `FileNotFoundError` for a file that was joined or purged
meanwhile.

Must not know: what is in the columns.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from amber_ray.errors import AmberError, DamagedPart, StoreError
from amber_ray.store.files import Draft
from amber_ray.store.spans import Span, Tee, Window

FORMAT = b"1"
GROUP_BYTES = 1 << 20
"""Bytes in a row group: reading one value reads about this much around it."""
TAIL_BYTES = 64 << 10
"""Read from the end of a file at once: most footers are shorter, and need no second read."""
_MAGIC = b"PAR1"
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
NAME = re.compile(rf"part-([0-7][{_ALPHABET}]{{25}})(?:-([0-9]+of[0-9]+))?\.parquet")
"""A file's own name: the ULID, and for a part whose values they are, if that is not anybody's."""


# --- names


class _Clock:
    """Makes the leading 96 bits of names: the time, then bits that grow within a millisecond. Thread-safe.

    So names made by one process sort in the order in which they were made, even if its clock is set back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def tick(self) -> int:
        with self._lock:
            now = (time.time_ns() // 1_000_000) << 48
            if now >> 48 > self._last >> 48:
                self._last = now | secrets.randbits(46)
            else:
                self._last += (1 << 24) + secrets.randbits(24)
            return self._last


_clock = _Clock()


def new_name(folder: str, footer: bytes, after: str | None = None, label: str = "") -> str:
    """Return a name for a part with this footer: one of now, or the next one to that of `after`.

    Of two parts with the same key the later name counts. So a part made from older parts is named `after` the
    newest of them: its rows must not come before a value that was written meanwhile. `label` is added to it.
    """
    order = _clock.tick() if after is None else (_number(after) >> 32) + 1
    number = order << 32 | zlib.crc32(footer)
    ulid = "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
    return f"{folder}/part-{ulid}{'-' if label else ''}{label}.parquet"


def _number(name: str) -> int:
    match = NAME.fullmatch(name.rpartition("/")[2])
    if match is None:
        raise StoreError(f"{name!r} is no part's name")
    number = 0
    for letter in match[1]:
        number = number << 5 | _ALPHABET.index(letter)
    return number


def order(name: str) -> str:
    """Return what sorts parts from the oldest to the newest, whichever feature they are of."""
    return name.rpartition("/")[2]


# --- writing


class SealedWriter:
    """Writes rows as they come, in row groups of about `group_bytes`.

    `layout` is given the first rows and returns how the columns are to be written: arguments of
    `pq.ParquetWriter`.
    """

    def __init__(
        self,
        sink: pa.NativeFile,
        meta: Mapping[str, Any],
        layout: Callable[[pa.Table], Mapping[str, Any]],
        group_bytes: int = GROUP_BYTES,
    ) -> None:
        self._tee = Tee(sink)
        told = {f"amber.{name}".encode(): json.dumps(value).encode() for name, value in meta.items()}
        self._meta = {b"amber.format": FORMAT, **told}
        self._layout = layout
        self._group_bytes = group_bytes
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._bytes = 0
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Add rows. They may stay in memory until there are enough for a row group."""
        if len(table):
            self._waiting.append(table)
            self._bytes += table.nbytes
            self.rows += len(table)
            if self._bytes >= self._group_bytes:
                self._flush()

    def close(self) -> None:
        """Write the rows that are still in memory, and the footer."""
        self._flush()
        if self._writer is not None:
            self._writer.add_key_value_metadata({"amber.groups": json.dumps(self._tee.spans)})
            self._writer.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).replace_schema_metadata(self._meta)
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                pa.PythonFile(self._tee, "w"),
                table.schema,
                write_page_checksum=True,
                store_schema=True,
                **self._layout(table),
            )
        size = -(-len(table) // max(1, round(self._bytes / self._group_bytes)))
        for start in range(0, len(table), size):
            self._writer.write_table(table.slice(start, size), row_group_size=size)
            self._tee.cut()
        self._waiting, self._bytes = [], 0


def sealed_name(draft: Draft, folder: str, after: str | None = None, label: str = "") -> str:
    """Return the name, in `folder`, of a file that was written to a draft; see `new_name`."""
    size = footer_size(draft.tail(12))
    return new_name(folder, draft.tail(size + 8)[:-8], after, label)


def footer_size(tail: bytes) -> int:
    """Return the bytes of the footer without the eight that follow it, given the end of a file.

    Raises `ValueError` if it is not the end of a Parquet file.
    """
    if len(tail) < 12 or tail[-4:] != _MAGIC:
        raise ValueError("it does not end as a Parquet file does")
    return int.from_bytes(tail[-8:-4], "little")


# --- reading


class SealedFile:
    """An open file whose footer has been checked. Thread-safe.

    Raises `DamagedPart` for wrong bytes, `FileNotFoundError` for a file that has vanished, and `StoreError`
    for all else, as the module's docstring says.
    """

    def __init__(self, name: str, handle: pa.NativeFile, pre_buffer: bool) -> None:
        self.name = name
        self._handle = handle
        footer = _checked_footer(name, handle)
        with reading(name):
            metadata = pq.read_metadata(pa.BufferReader(footer))
            self._meta: dict[bytes, bytes] = metadata.metadata or {}
            if self._meta.get(b"amber.format") != FORMAT:
                raise StoreError(f"part {name} was written by another version of Amber")
            self.spans = [Span(*span) for span in self.told("groups")]
            self.metadata = metadata
            self._file = pq.ParquetFile(
                handle, metadata=metadata, page_checksum_verification=True, pre_buffer=pre_buffer
            )
            sizes = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
            self.starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
            self.schema: pa.Schema = self._file.schema_arrow.remove_metadata()
        self.rows = int(self.starts[-1])
        self._lock = threading.Lock()

    def tells(self, name: str) -> bool:
        """Return whether the writer told something of the file under a name."""
        return f"amber.{name}".encode() in self._meta

    def told(self, name: str) -> Any:
        """Return what the writer told of the file under a name; raises `KeyError` if it did not."""
        return json.loads(self._meta[f"amber.{name}".encode()])

    @property
    def groups(self) -> int:
        """How many row groups there are."""
        return len(self.starts) - 1

    def verify(self, number: int) -> bytes:
        """Read the bytes of one row group. Raises `DamagedPart` if they fail their checksum."""
        span = self.spans[number]
        data = _delivered(self.name, self._handle, span.end - span.start, span.start)
        if not span.matches(data):
            raise DamagedPart(
                f"part {self.name} is damaged: its bytes {span.start} to {span.end} fail their checksum"
            )
        return data

    def group(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one row group; every byte of it has been checked."""
        window = Window(memoryview(self.verify(number)), self.spans[number].start)
        with reading(self.name):
            # The row group alone is there: reading ahead or across gaps would leave it.
            with pq.ParquetFile(pa.PythonFile(window, "r"), metadata=self.metadata, pre_buffer=False) as file:
                table = file.read_row_group(number, columns, use_threads=False)
            return table.replace_schema_metadata(None)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Return columns of all rows; only for those without lists (`store.spans` tells why).

        The other columns are not read, so pages are checked by Parquet's checksums and not by those of row
        groups.
        """
        try:
            with self._lock:
                table = self._file.read(names, use_threads=False)
        except (FileNotFoundError, AmberError):
            raise
        except Exception as error:  # pyarrow raises the same classes for wrong bytes and for failed reads
            self._verify_all()
            raise StoreError(_unreadable(self.name, error)) from error
        if len(table) != self.rows:
            self._verify_all()
            raise StoreError(f"part {self.name} can't be read: {len(table)} of {self.rows} rows were found")
        return table

    def _verify_all(self) -> None:
        for number in range(self.groups):
            self.verify(number)

    def leaf(self, name: str) -> int:
        """Return the number of a column without parts of its own."""
        schema = self.metadata.schema
        return next(i for i in range(len(schema)) if schema.column(i).path == name)

    def close(self) -> None:
        """Close the file."""
        self._file.close(force=True)


def _checked_footer(name: str, handle: pa.NativeFile) -> bytes:
    """Return the footer as a Parquet file of no rows. Raises `DamagedPart` if it fails its checksum."""
    with reading(name):
        size = handle.size()
    tail = _delivered(name, handle, min(size, TAIL_BYTES), max(0, size - TAIL_BYTES))
    try:
        wanted = footer_size(tail) + 8
    except ValueError as error:
        raise DamagedPart(f"part {name} is damaged: {error}") from error
    if len(tail) < wanted <= size:
        tail = _delivered(name, handle, wanted, size - wanted)
    if len(tail) < wanted or zlib.crc32(tail[-wanted:-8]) != _number(name) & 0xFFFFFFFF:
        raise DamagedPart(f"part {name} is damaged: its footer fails its checksum")
    return _MAGIC + tail[-wanted:]


def _delivered(name: str, handle: pa.NativeFile, size: int, start: int) -> bytes:
    """Read `size` bytes of a part. Raises `StoreError` if fewer are given: nothing is known of the others."""
    with reading(name):
        data = bytes(handle.read_at(size, start))
    if len(data) < size:
        raise StoreError(f"part {name} can't be read: {len(data)} of {size} bytes at {start} were delivered")
    return data


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Raise `StoreError` for whatever goes wrong inside, but pass `FileNotFoundError`."""
    try:
        yield
    except (FileNotFoundError, AmberError):
        raise
    except Exception as error:  # of pyarrow, of the operating system, of an object store's client
        raise StoreError(_unreadable(name, error)) from error


def _unreadable(name: str, error: Exception) -> str:
    return f"part {name} can't be read: {type(error).__name__}: {error}"
