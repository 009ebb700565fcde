"""Values at rest: immutable Parquet parts under `<store>/values/<feature>/<version>/`.

A part is written under another name and published by a rename, so a listing shows whole parts only: the
listing is the index, and there is no manifest to corrupt. Values are content-keyed, so a duplicate row is
harmless and a crash between any two steps loses nothing. A part that fails its checksums is moved to
`<store>/quarantine/`, and its keys become misses. Must not know: the ledger, Ray.
"""

from __future__ import annotations

import collections
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from amber_ray.core import types as vt
from amber_ray.errors import DamagedPart, StoreError
from amber_ray.store import types as st

log = logging.getLogger("amber.store")

FORMAT = b"1"
GROUP_BYTES = 4 << 20
"""Bytes of values in a row group: reading one value reads no more than this around it."""
GROUP_ROWS = 1024
OPEN_PARTS = 64
COST_PARTS = 4
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, slots=True)
class Row:
    """A value to write and what is told beside it. `created` is Unix time, `seconds` the run time."""

    key: str
    asset: str | None
    unit: str
    params: str
    value: Any
    inputs: tuple[str, ...]
    code: str
    seconds: float
    device: str
    created: float


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A value read back."""

    key: str
    value: Any
    seconds: float
    device: str
    created: float


@dataclass(frozen=True, slots=True)
class Part:
    """One file. `name` is its path below the store."""

    name: str
    feature: str
    version: str
    rows: int
    bytes: int


class ValueStore:
    """The parts of one store, local or at any fsspec URL. Thread-safe; many processes may share it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, root = fsspec.core.url_to_fs(url)
        self._root = root.rstrip("/")
        protocols = self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        self._local = "file" in protocols
        self._arrow = (
            pafs.LocalFileSystem() if self._local else pafs.PyFileSystem(pafs.FSSpecHandler(self._fs))
        )
        self._open: collections.OrderedDict[str, tuple[pq.ParquetFile, vt.ValueType]] = (
            collections.OrderedDict()
        )
        self._lock = threading.Lock()
        if self._local:
            os.makedirs(f"{self._root}/values", exist_ok=True)

    # --- writing

    def write(self, feature: str, version: str, type: vt.ValueType, rows: Sequence[Row]) -> Part:
        """Write rows as one new part and publish it; row i of the part is `rows[i]`."""
        column = st.to_array(type, [r.value for r in rows])
        keys = pa.py_buffer(bytes.fromhex("".join(r.key for r in rows)))
        counts = np.zeros(len(rows) + 1, np.int32)
        np.cumsum([len(r.inputs) for r in rows], out=counts[1:])
        inputs = pa.py_buffer(bytes.fromhex("".join(i for r in rows for i in r.inputs)))
        binary = pa.binary(16)
        columns: dict[str, pa.Array] = {
            "key": pa.Array.from_buffers(binary, len(rows), [None, keys]),
            "asset": pa.array([r.asset for r in rows], pa.utf8()),
            "unit": pa.array([r.unit for r in rows], pa.large_utf8()),
            "params": pa.array([r.params for r in rows], pa.utf8()),
            "value": column,
            "inputs": pa.ListArray.from_arrays(
                pa.array(counts), pa.Array.from_buffers(binary, int(counts[-1]), [None, inputs])
            ),
            "code": pa.array([r.code for r in rows], pa.utf8()),
            "seconds": pa.array([r.seconds for r in rows], pa.float64()),
            "device": pa.array([r.device for r in rows], pa.utf8()),
            "created": pa.array([round(r.created * 1e6) for r in rows], pa.timestamp("us", "UTC")),
        }
        return self._publish(feature, version, type, pa.table(columns))

    def _publish(self, feature: str, version: str, type: vt.ValueType, table: pa.Table) -> Part:
        folder = f"values/{feature}/{version}"
        name = f"{folder}/part-{_ulid()}.parquet"
        size = table.column("value").nbytes
        seconds = table.column("seconds").to_numpy()
        table = table.replace_schema_metadata(
            {
                b"amber.format": FORMAT,
                b"amber.feature": feature.encode(),
                b"amber.version": version.encode(),
                b"amber.type": json.dumps(type.spec()).encode(),
                b"amber.costs": json.dumps([float(seconds.mean()), size / len(table)]).encode(),
            }
        )
        rows = max(1, min(GROUP_ROWS, int(GROUP_BYTES * len(table) / max(1, size))))
        target = f"{self._root}/{name}"
        draft = f"{self._root}/{folder}/.{secrets.token_hex(8)}.tmp" if self._local else target
        try:
            if self._local:
                os.makedirs(f"{self._root}/{folder}", exist_ok=True)
            with self._arrow.open_output_stream(draft) as sink:
                pq.write_table(
                    table,
                    sink,
                    row_group_size=rows,
                    compression="zstd",
                    compression_level=1,
                    use_dictionary=["params", "code", "device"],
                    write_statistics=["asset", "created"],
                    write_page_checksum=True,
                    store_schema=True,
                )
            if self._local:
                _sync(draft)
                os.replace(draft, target)
                _sync(f"{self._root}/{folder}")
            total = os.path.getsize(target) if self._local else int(self._fs.size(target))
        except OSError as error:
            if self._local and os.path.exists(draft):
                os.unlink(draft)
            raise StoreError(f"a part of {feature} can't be written to {self.url!r}: {error}") from error
        return Part(name, feature, version, len(table), total)

    # --- reading

    def read(
        self, part: str, rows: Sequence[int], declared: vt.ValueType | None = None
    ) -> list[StoredRow]:
        """Rows of a part, in the order asked for.

        `declared` is the feature's type today: where the part has the same one, its dataclasses come back as
        such, else as dicts.

        Raises `FileNotFoundError` for a part that has vanished and `DamagedPart`, after moving it to quarantine,
        for one that fails its checksums.
        """
        try:
            file, type = self._file(part)
            if declared is not None and declared.spec() == type.spec():
                type = declared
            starts = np.zeros(file.num_row_groups + 1, np.int64)
            np.cumsum(
                [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)], out=starts[1:]
            )
            by_group: dict[int, list[int]] = collections.defaultdict(list)
            for row in rows:
                by_group[int(np.searchsorted(starts, row, "right")) - 1].append(row)
            found: dict[int, StoredRow] = {}
            for group, members in by_group.items():
                table = file.read_row_group(
                    group, ["key", "value", "seconds", "device", "created"], use_threads=False
                )
                local = [row - int(starts[group]) for row in members]
                if len(local) < len(table):
                    table = table.take(pa.array(local, pa.int64()))
                    local = list(range(len(local)))
                values = st.from_array(type, table.column("value"))
                keys = table.column("key").to_pylist()
                seconds = table.column("seconds").to_pylist()
                devices = table.column("device").to_pylist()
                created = table.column("created").cast(pa.int64()).to_pylist()
                for row, i in zip(members, local, strict=True):
                    found[row] = StoredRow(keys[i].hex(), values[i], seconds[i], devices[i], created[i] / 1e6)
        except FileNotFoundError:
            self._close(part)
            raise
        except (pa.ArrowException, OSError, ValueError, IndexError) as error:
            self._quarantine(part)
            raise DamagedPart(f"part {part} is damaged and was moved to quarantine: {error}") from error
        return [found[row] for row in rows]

    def _file(self, part: str) -> tuple[pq.ParquetFile, vt.ValueType]:
        """An open part with its metadata parsed; parts never change, so it may be kept."""
        with self._lock:
            known = self._open.get(part)
            if known is not None:
                self._open.move_to_end(part)
                if not self._local or os.path.exists(f"{self._root}/{part}"):
                    return known
        file = pq.ParquetFile(
            f"{self._root}/{part}", filesystem=self._arrow, page_checksum_verification=True, memory_map=False
        )
        meta = file.schema_arrow.metadata or {}
        if meta.get(b"amber.format") != FORMAT:
            raise ValueError(f"format {meta.get(b'amber.format')!r} is not {FORMAT!r}")
        known = file, vt.from_spec(json.loads(meta[b"amber.type"]))
        with self._lock:
            self._open[part] = known
            if len(self._open) > OPEN_PARTS:
                self._open.popitem(last=False)
        return known

    def _close(self, part: str) -> None:
        with self._lock:
            self._open.pop(part, None)

    def _quarantine(self, part: str) -> None:
        self._close(part)
        target = f"{self._root}/quarantine/{part.replace('/', '__')}"
        log.error("part %s is damaged; it is moved to %s", part, target)
        try:
            if self._local:
                os.makedirs(f"{self._root}/quarantine", exist_ok=True)
                os.replace(f"{self._root}/{part}", target)
            else:
                self._fs.mv(f"{self._root}/{part}", target)
        except OSError as error:
            log.error("part %s could not be moved to quarantine: %s", part, error)

    # --- the listing is the index

    def parts(self) -> list[str]:
        """Names of all published parts, oldest first."""
        self._fs.invalidate_cache()
        found = self._fs.glob(f"{self._root}/values/*/*/part-*.parquet")
        return sorted((p[len(self._root) + 1 :] for p in found), key=lambda n: n.rpartition("-")[2])

    def scan(self) -> Iterator[tuple[Part, np.ndarray]]:
        """Every part with its keys, uint8[n, 16], oldest first; damaged ones go to quarantine and are left out."""
        for name in self.parts():
            try:
                keys = self.keys(name)
            except (FileNotFoundError, DamagedPart):
                continue
            _, feature, version, _ = name.split("/")
            yield Part(name, feature, version, len(keys), 0), keys

    def keys(self, part: str) -> np.ndarray:
        """The keys of a part: uint8[n, 16]."""
        try:
            file = pq.ParquetFile(
                f"{self._root}/{part}", filesystem=self._arrow, page_checksum_verification=True
            )
            column = file.read(["key"], use_threads=False).column("key").combine_chunks()
            chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
            raw = [
                np.frombuffer(c.buffers()[1], np.uint8, len(c) * 16, c.offset * 16) for c in chunks if len(c)
            ]
            return (np.concatenate(raw) if raw else np.empty(0, np.uint8)).reshape(-1, 16)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            self._quarantine(part)
            raise DamagedPart(f"part {part} is damaged and was moved to quarantine: {error}") from error

    def costs(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Mean seconds and bytes per value of each feature and version, from its newest parts' footers."""
        groups: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
        for name in self.parts():
            _, feature, version, _ = name.split("/")
            groups[feature, version].append(name)
        found: dict[tuple[str, str], tuple[float, float]] = {}
        for group, names in groups.items():
            means = []
            for name in names[-COST_PARTS:]:
                try:
                    meta = pq.read_schema(f"{self._root}/{name}", filesystem=self._arrow).metadata or {}
                    means.append(json.loads(meta[b"amber.costs"]))
                except (FileNotFoundError, KeyError, pa.ArrowException, OSError) as error:
                    log.warning("no costs can be read from part %s: %s", name, error)
            if means:
                seconds, size = np.mean(means, axis=0)
                found[group] = float(seconds), float(size)
        return found

    # --- upkeep

    def compact(self, feature: str, version: str, min_parts: int = 2) -> tuple[list[str], Part | None]:
        """Join a feature's parts into one, newest row of a key wins; the old ones stay until `remove_parts`."""
        prefix = f"values/{feature}/{version}/"
        names = [n for n in self.parts() if n.startswith(prefix)]
        small = [n for n in names if self._size(n) < 16 * GROUP_BYTES]
        if len(small) < max(2, min_parts):
            return [], None
        table, type = self._join(small)
        return small, self._publish(feature, version, type, table)

    def _size(self, name: str) -> int:
        return (
            os.path.getsize(f"{self._root}/{name}")
            if self._local
            else int(self._fs.size(f"{self._root}/{name}"))
        )

    def _join(self, names: Sequence[str]) -> tuple[pa.Table, vt.ValueType]:
        tables = []
        type: vt.ValueType | None = None
        for name in names:
            file, type = self._file(name)
            tables.append(file.read(use_threads=False).replace_schema_metadata(None))
        assert type is not None
        table = pa.concat_tables(tables)
        keys = table.column("key").to_pylist()
        newest = {key: i for i, key in enumerate(keys)}
        return table.take(pa.array(sorted(newest.values()), pa.int64())), type

    def remove_parts(self, names: Sequence[str]) -> None:
        """Delete parts; those already gone are fine."""
        for name in names:
            self._close(name)
            try:
                self._fs.rm_file(f"{self._root}/{name}")
            except FileNotFoundError:
                continue

    def purge(
        self, asset: str | None = None, feature: str | None = None, version: str | None = None
    ) -> list[tuple[str, Part | None, np.ndarray, list[str]]]:
        """Drop matching rows: per part touched (old name, its replacement, kept keys, dropped keys).

        A replacement is published before the old part is deleted, so no crash loses a kept row.
        """
        changes: list[tuple[str, Part | None, np.ndarray, list[str]]] = []
        for name in self.parts():
            _, part_feature, part_version, _ = name.split("/")
            if feature not in (None, part_feature) or version not in (None, part_version):
                continue
            try:
                keys = self.keys(name)
                if asset is None:
                    drop = np.ones(len(keys), bool)
                else:
                    table = pq.ParquetFile(f"{self._root}/{name}", filesystem=self._arrow).read(
                        ["asset", "unit"]
                    )
                    drop = np.array(
                        [
                            a == asset or (a is None and asset in u)
                            for a, u in zip(*(c.to_pylist() for c in table.columns), strict=True)
                        ],
                        bool,
                    )
                if not drop.any():
                    continue
                new: Part | None = None
                if not drop.all():
                    file, type = self._file(name)
                    table = file.read(use_threads=False).filter(pa.array(~drop)).replace_schema_metadata(None)
                    new = self._publish(part_feature, part_version, type, table)
            except (FileNotFoundError, DamagedPart):
                continue
            self.remove_parts([name])
            changes.append((name, new, keys[~drop], [bytes(k).hex() for k in keys[drop]]))
        return changes


def _ulid() -> str:
    """Sortable by time, unique by 80 random bits (the ULID scheme: github.com/ulid/spec)."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
