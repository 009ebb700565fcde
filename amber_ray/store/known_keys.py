"""The keys of parts, kept together, so that a start need not open every part: `<store>/index/`, per shard.

    part   name of a part           text
    bytes  its size                 int64
    keys   of the shard's values    16 bytes each
    rows   in which they are        uint32 each; null: key i is in row i

Nothing depends on these files. A part never changes and its name is never used again, so an entry is right
for ever if the listing has a part of that name and size; all else that is here is passed over. A file that is
missing, damaged or can't be read now costs the time of opening parts. It is written under a name of its own
when many parts have become known since, together with the smaller files before it, which are deleted then: so
files are few, and each entry is written O(log n) times.

Must not know: how a part is read, which parts there are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from amber_ray.core.planning.homes import Share
from amber_ray.errors import DamagedPart, StoreError
from amber_ray.store.files import Files
from amber_ray.store.part import share_of
from amber_ray.store.sealed import NAME, SealedFile, SealedWriter, sealed_name

log = logging.getLogger("amber.store")

FOLDER = "index"
LEAST = 256
"""So many parts are worth a file; a start that needs fewer opens them."""
RATIO = 4
"""A file is written anew with what is added to it unless it has more than so many times as many parts."""
GROUP_BYTES = 16 << 20
_SCHEMA = pa.schema(
    [("part", pa.utf8()), ("bytes", pa.int64()), ("keys", pa.large_binary()), ("rows", pa.large_binary())]
)


class Known(NamedTuple):
    """What is known of a part: its size, keys of its rows, uint8[n, 16], and the rows; None: all of them."""

    bytes: int
    keys: np.ndarray
    rows: np.ndarray | None


class KnownKeys:
    """The files of one shard. Thread-safe; `write` alone raises `StoreError`."""

    def __init__(self, files: Files, share: Share) -> None:
        self._files = files
        self._share = share

    def read(self) -> dict[str, Known]:
        """Return all that is known, by part. What can't be read is passed over.

        A reader of a store of several shards owns what all of them own: it takes what each has noted of parts
        that are wholly that shard's.
        """
        found: dict[str, Known] = {}
        for name in self._listed():
            share = share_of(name)
            if share is not None and share.within(self._share):
                whole = share != self._share
                found.update(pair for pair in self._entries(name) if not whole or pair[1].rows is None)
        return found

    def sizes(self) -> dict[str, int]:
        """Return the parts that are known, and their sizes; keys are not read."""
        return {part: size for sizes in self._files_with_sizes()[0].values() for part, size in sizes.items()}

    def write(self, fresh: Mapping[str, Known], there: Mapping[str, int]) -> None:
        """Add parts. Entries of parts that are not `there` with their size go when files are joined.

        A file is published before those that it replaces are deleted. Raises `StoreError`.
        """
        files, useless = self._files_with_sizes()
        joined: list[str] = []
        count = len(fresh)
        for name in sorted(files, key=lambda name: len(files[name])):
            if len(files[name]) <= RATIO * count:
                joined.append(name)
                count += len(files[name])
        with self._files.draft(FOLDER) as draft:
            writer = SealedWriter(draft.sink, {}, _layout, GROUP_BYTES)
            with self._files.translated("written"):
                for part, known in fresh.items():
                    writer.add(_table(part, known))
                for name in joined:
                    for part, known in self._entries(name):
                        if there.get(part) == known.bytes and part not in fresh:
                            writer.add(_table(part, known))
                writer.close()
            draft.publish(sealed_name(draft, FOLDER, label=str(self._share)))
        for name in (*joined, *useless):
            self._files.remove(name)

    def _listed(self) -> list[str]:
        try:
            return sorted(self._files.sizes(NAME, FOLDER, 1))
        except StoreError as error:
            log.warning("%s; parts are opened instead", error)
            return []

    def _files_with_sizes(self) -> tuple[dict[str, dict[str, int]], list[str]]:
        """Return what each file knows, and those of no use: damaged, or of another number of shards."""
        files: dict[str, dict[str, int]] = {}
        useless: list[str] = []
        for name in self._listed():
            share = share_of(name)
            if share is None or share.shards != self._share.shards:
                useless.append(name)
            elif share == self._share:
                try:
                    table = SealedFile(name, self._files.open(name), False).columns(["part", "bytes"])
                    parts, sizes = (table.column(column).to_pylist() for column in ("part", "bytes"))
                    files[name] = dict(zip(parts, sizes, strict=True))
                except DamagedPart as error:
                    log.warning("%s; parts are opened instead", error)
                    useless.append(name)
                except (FileNotFoundError, StoreError) as error:
                    log.warning("%s; parts are opened instead", error)
        return files, useless

    def _entries(self, name: str) -> Iterator[tuple[str, Known]]:
        try:
            file = SealedFile(name, self._files.open(name), False)
            for group in range(file.groups):
                yield from _known(file.group(group))
        except (FileNotFoundError, StoreError) as error:
            log.warning("%s; parts are opened instead", error)


def _layout(table: pa.Table) -> dict[str, Any]:
    return {"compression": "NONE", "use_dictionary": False, "write_statistics": False}


def _table(part: str, known: Known) -> pa.Table:
    rows = None if known.rows is None else known.rows.astype("<u4").tobytes()
    columns = [part], [known.bytes], [known.keys.tobytes()], [rows]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
    )


def _known(table: pa.Table) -> Iterator[tuple[str, Known]]:
    for part, size, keys, rows in zip(*(table.column(name) for name in _SCHEMA.names), strict=True):
        places = None if not rows.is_valid else np.frombuffer(rows.as_buffer(), "<u4")
        found = np.frombuffer(keys.as_buffer(), np.uint8).reshape(-1, 16)
        yield part.as_py(), Known(size.as_py(), found, places)
