"""One part: a Parquet file that never changes, its name, and what protects it.

Pages carry Parquet's checksums, for others to check. Row groups have one each, of all their bytes, which the
footer tells (`store.spans`). The footer is vouched for by the name: a ULID, 48 bits of time and 80 that are
otherwise random, whose last 32 are the CRC-32 of the footer. So a part is checked by whoever reads it, and no
flipped bit is ever taken for a value. Must not know: which parts there are.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from amber_ray.core.values import annotations as vt
from amber_ray.errors import AmberError, DamagedPart, StoreError
from amber_ray.store.spans import Span, Tee

FORMAT = b"1"
GROUP_BYTES = 1 << 20
"""Bytes in a row group: reading one value reads no more than this around it."""
TAIL_BYTES = 64 << 10
"""Read from the end of a part in the hope that its footer is in it."""
SAMPLE_BYTES = 64 << 10
WORTH = 0.85
"""Values are compressed if a sample of them shrinks to less than this: embeddings don't."""
_MAGIC = b"PAR1"
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
NAME = re.compile(rf"part-([0-7][{_ALPHABET}]{{25}})\.parquet")


@dataclass(frozen=True, slots=True)
class Part:
    """One file. `name` is its path below the store."""

    name: str
    feature: str
    version: str
    rows: int
    bytes: int


# --- names


class _Clock:
    """The leading 96 bits of names: time, then bits that grow within a millisecond, so that order holds."""

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


def new_name(folder: str, footer: bytes, after: str | None = None) -> str:
    """A name for a part with this footer: of now, or, for rows of older parts, next to that of `after`.

    Of two parts with the same key the later name counts: rows that only move must not outrun a newer value.
    """
    order = _clock.tick() if after is None else (_number(after) >> 32) + 1
    number = order << 32 | zlib.crc32(footer)
    ulid = "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
    return f"{folder}/part-{ulid}.parquet"


def _number(name: str) -> int:
    match = NAME.fullmatch(name.rpartition("/")[2])
    if match is None:
        raise StoreError(f"{name!r} is no part's name")
    number = 0
    for letter in match[1]:
        number = number << 5 | _ALPHABET.index(letter)
    return number


def order(name: str) -> str:
    """Sorts parts from the oldest to the newest, whichever feature they are of."""
    return name.rpartition("/")[2]


def folder(feature: str, version: str) -> str:
    """Where a feature's parts are."""
    return f"values/{feature}/{version}"


def feature_and_version(name: str) -> tuple[str, str]:
    """Of the values in a part, by its name."""
    _, feature, version, _ = name.split("/")
    return feature, version


# --- writing


class PartWriter:
    """Writes rows as they come, in row groups of about `GROUP_BYTES`."""

    def __init__(self, sink: pa.NativeFile, meta: Mapping[str, Any]) -> None:
        self._tee = Tee(sink)
        told = {f"amber.{name}".encode(): json.dumps(value).encode() for name, value in meta.items()}
        self._meta = {b"amber.format": FORMAT, **told}
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._bytes = 0
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """More rows."""
        if len(table):
            self._waiting.append(table)
            self._bytes += table.nbytes
            self.rows += len(table)
            if self._bytes >= GROUP_BYTES:
                self._flush()

    def close(self) -> None:
        """Write what waits, and the footer."""
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
                compression=_codecs(table),
                use_dictionary=["asset", "params", "code", "device"],
                write_statistics=["asset", "created"],
                write_page_checksum=True,
                store_schema=True,
            )
        size = -(-len(table) // max(1, round(self._bytes / GROUP_BYTES)))
        for start in range(0, len(table), size):
            self._writer.write_table(table.slice(start, size), row_group_size=size)
            self._tee.cut()
        self._waiting, self._bytes = [], 0


def _codecs(table: pa.Table) -> dict[str, str]:
    """Zstd where it helps; keys are random."""
    codecs = {name: "ZSTD" for name in table.column_names if name not in ("key", "inputs", "value")}
    column = table.column("value")
    largest = max(column.chunks, key=len)
    return codecs | {path: "ZSTD" for path, leaf in _leaves("value", largest) if _shrinks(leaf)}


def _leaves(path: str, array: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """Parquet's columns of a nested one, with the values that they are taken from."""
    if pa.types.is_struct(array.type):
        for i, field in enumerate(array.type):
            yield from _leaves(f"{path}.{field.name}", array.field(i))
    elif pa.types.is_nested(array.type):
        yield from _leaves(f"{path}.list.element", array.values)
    else:
        yield path, array


def _shrinks(leaf: pa.Array) -> bool:
    """Whether a sample from the middle of the data becomes much smaller."""
    data = leaf.buffers()[-1]
    if data is None or data.size < 256:
        return True
    size = min(SAMPLE_BYTES, data.size)
    sample = data.slice((data.size - size) // 2, size)
    return bool(len(pa.Codec("zstd", 1).compress(sample)) < WORTH * size)


def footer_size(tail: bytes) -> int:
    """Bytes of the footer, by the end of a file; its last eight bytes come after it."""
    if len(tail) < 12 or tail[-4:] != _MAGIC:
        raise ValueError("it does not end as a Parquet file does")
    return int.from_bytes(tail[-8:-4], "little")


# --- reading


class PartFile:
    """A part, open, its footer checked. Raises what `judged` says."""

    def __init__(self, name: str, handle: pa.NativeFile, pre_buffer: bool) -> None:
        self.name = name
        with judged(name):
            metadata = pq.read_metadata(pa.BufferReader(_checked_footer(name, handle)))
            self._meta: dict[bytes, bytes] = metadata.metadata or {}
            if self._meta.get(b"amber.format") != FORMAT:
                raise StoreError(f"part {name} was written by another version of Amber")
            self.type = vt.from_spec(self._json("type"))
            self._spans = [Span(*span) for span in self._json("groups")]
            self._metadata = metadata
            self._handle = handle
            self._file = pq.ParquetFile(
                handle, metadata=metadata, page_checksum_verification=True, pre_buffer=pre_buffer
            )
            sizes = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
            self.starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
            self.schema: pa.Schema = self._file.schema_arrow.remove_metadata()
        self.rows = int(self.starts[-1])
        self._lock = threading.Lock()

    def _json(self, name: str) -> Any:
        return json.loads(self._meta[f"amber.{name}".encode()])

    @property
    def costs(self) -> tuple[float, float]:
        """Mean seconds and bytes of a value."""
        with judged(self.name):
            seconds, size = self._json("costs")
            return float(seconds), float(size)

    @property
    def groups(self) -> int:
        """How many row groups there are."""
        return len(self.starts) - 1

    def group(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One row group, every byte of it checked."""
        with judged(self.name):
            source = pa.PythonFile(self._spans[number].read(self._handle.read_at), "r")
            # The row group alone is there: reading ahead or across gaps would leave it.
            with pq.ParquetFile(source, metadata=self._metadata, pre_buffer=False) as file:
                table = file.read_row_group(number, columns, use_threads=False)
            return table.replace_schema_metadata(None)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Columns of all rows, page by page; only for those without lists (`store.spans` tells why)."""
        with judged(self.name), self._lock:
            return self._file.read(names, use_threads=False)

    def keys(self) -> np.ndarray:
        """uint8[n, 16]."""
        with judged(self.name):
            chunks = self.columns(["key"]).column("key").chunks
            raw = [
                np.frombuffer(c.buffers()[1], np.uint8, len(c) * 16, c.offset * 16) for c in chunks if len(c)
            ]
            return np.concatenate(raw or [np.empty(0, np.uint8)]).reshape(-1, 16)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close(force=True)


def _checked_footer(name: str, handle: pa.NativeFile) -> bytes:
    """The footer as a Parquet file of no rows, once its checksum is right."""
    size = handle.size()
    tail = bytes(handle.read_at(min(size, TAIL_BYTES), max(0, size - TAIL_BYTES)))
    wanted = footer_size(tail) + 8
    if len(tail) < wanted <= size:
        tail = bytes(handle.read_at(wanted, size - wanted))
    if len(tail) < wanted or zlib.crc32(tail[-wanted:-8]) != _number(name) & 0xFFFFFFFF:
        raise ValueError("its footer fails its checksum")
    return _MAGIC + tail[-wanted:]


@contextlib.contextmanager
def judged(name: str) -> Iterator[None]:
    """Tell a damaged part, which is worth moving away, from a file system that fails for now.

    What pyarrow says of a file's content has no error number; what the operating system or an object store
    says has one. `FileNotFoundError` passes: the part was compacted or purged meanwhile.
    """
    try:
        yield
    except (FileNotFoundError, AmberError):
        raise
    except Exception as error:
        damaged = isinstance(error, (pa.ArrowException, ValueError, KeyError)) or (
            isinstance(error, OSError) and not error.errno
        )
        if damaged and not isinstance(error, MemoryError):
            raise DamagedPart(f"part {name} is damaged: {error}") from error
        raise StoreError(f"part {name} can't be read: {type(error).__name__}: {error}") from error
