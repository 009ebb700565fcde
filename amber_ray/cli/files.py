"""`--out`: answers as files. A value's own form decides the file's: a JPEG is a .jpg, an array an .npy.

table   each value in its own form: .jpg .png ... for media, .npy for arrays, .arrow for tables, else .json
json    one document
arrow   one file per feature (Arrow's IPC file format)
npy     one array per value
vtt     one file of subtitles per feature and asset; srt likewise
"""

from __future__ import annotations

import io
import json
import mimetypes
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from amber_ray.cli import subtitles
from amber_ray.cli.values import Types, as_json, as_table
from amber_ray.client.results import Results
from amber_ray.client.row import Row
from amber_ray.core.model.units import Segment
from amber_ray.errors import BadRequest

File = tuple[str, Callable[[], bytes]]
"""A file's name and how to make its content, so that one file at a time is in memory."""

_EXTENSIONS = {"image/jpeg": ".jpg", "image/png": ".png", "audio/wav": ".wav", "video/mp4": ".mp4"}
_UNSAFE = re.compile(r"[^\w.-]+")


class Writer:
    """Writes results in one format."""

    def __init__(self, types: Types, format: str) -> None:
        self._types = types
        self._format = format

    def check(self, features: Iterable[str]) -> None:
        """Raise `BadRequest` where the format does not take a feature's values, before any is computed."""
        if self._format in subtitles.FORMATS:
            for feature in features:
                if feature in self._types:
                    subtitles.check(self._types, feature)

    def write(self, results: Results, out: str) -> Iterator[str]:
        """Write to `out` and yield each path written.

        `out` is a file if there is exactly one to write and `out` is neither a folder nor ends in a slash;
        else it is a folder, made if need be.
        """
        files = self._files(results)
        folder = out.endswith(os.sep) or os.path.isdir(out)
        if not folder and len(files) == 1:
            yield _save(out, files[0][1]())
            return
        if files and not folder and os.path.splitext(out)[1]:
            raise BadRequest(f"--out {out} names one file but there are {len(files)} to write: name a folder")
        os.makedirs(out, exist_ok=True)
        for name, content in files:
            yield _save(os.path.join(out, name), content())

    def encoded(self, results: Results) -> bytes:
        """What goes to stdout: one feature's Arrow stream, or one array; `BadRequest` if there are more."""
        if self._format == "arrow":
            tables = list(_by_feature(results).values())
            if len(tables) != 1:
                raise BadRequest(f"stdout takes one feature's table, not {len(tables)}: give --out FOLDER")
            return _stream(as_table(tables[0], self._types))
        files = self._files(results)
        if len(files) != 1:
            one = "asset's subtitles" if self._format in subtitles.FORMATS else "array"
            raise BadRequest(f"stdout takes one {one}, not {len(files)}: give --out FOLDER")
        return files[0][1]()

    def _files(self, results: Results) -> list[File]:
        if self._format == "json":
            return [("results.json", lambda: _json(as_json(results, self._types)))]
        if self._format == "arrow":
            return [
                (f"{feature}.arrow", lambda rows=rows: _file(as_table(rows, self._types)))  # type: ignore[misc]
                for feature, rows in _by_feature(results).items()
            ]
        if self._format in subtitles.FORMATS:
            return self._subtitles(results)
        ready = [row for row in results.rows if row.failure is None and not row.nothing_found]
        stems = _stems(ready)
        return [self._one(row, stem) for row, stem in zip(ready, stems, strict=True)]

    def _subtitles(self, results: Results) -> list[File]:
        """One file for what a feature says of an asset, as a whole or window by window."""
        said: dict[tuple[str, str | None], list[Row]] = {}
        for row in results.rows:
            if row.failure is None:
                said.setdefault((row.feature, row.asset), []).append(row)
        stems = _stems([rows[0]._replace(unit=None) for rows in said.values()])
        return [
            (f"{stem}.{self._format}", self._subtitled(rows))
            for stem, rows in zip(stems, said.values(), strict=True)
        ]

    def _subtitled(self, rows: list[Row]) -> Callable[[], bytes]:
        found = [row for row in rows if not row.nothing_found]
        if found:
            subtitles.check(self._types, found[0].feature, [row.value for row in found])
        return lambda: subtitles.encoded(subtitles.cues(found), self._format)

    def _one(self, row: Row, stem: str) -> File:
        value = row.value
        if self._format == "npy":
            return f"{stem}.npy", lambda: _npy(row)
        if isinstance(value, bytes | bytearray | memoryview):
            kind = self._types.of(row.feature, [value]).media_type or ""
            extension = _EXTENSIONS.get(kind) or mimetypes.guess_extension(kind) or ".bin"
            return stem + extension, lambda: bytes(value)
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            return f"{stem}.npy", lambda: _npy(row)
        if hasattr(value, "num_rows") and hasattr(value, "schema"):
            return f"{stem}.arrow", lambda: _file(value)
        return f"{stem}.json", lambda: _json(self._types.to_json(row.feature, value))


def _by_feature(results: Results) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in results.rows:
        if row.failure is None:
            found.setdefault(row.feature, []).append(row)
    return found


def _stems(rows: Sequence[Row]) -> list[str]:
    """A file name without extension for each row: asset, feature and seconds; made unique by the key."""
    stems = [_stem(row) for row in rows]
    return [
        f"{stem}.{row.key[:8]}" if stems.count(stem) > 1 else stem
        for stem, row in zip(stems, rows, strict=True)
    ]


def _stem(row: Row) -> str:
    parts = [row.feature]
    if row.asset is not None:
        path = unquote(urlsplit(row.asset).path) if "://" in row.asset else row.asset
        name = os.path.splitext(os.path.basename(path))[0]
        parts.insert(0, _UNSAFE.sub("_", name) or "asset")
    if isinstance(row.unit, Segment) and row.unit.length_us:
        parts.append(f"{row.unit.start:g}-{row.unit.end:g}s")
    return ".".join(parts)


def _save(path: str, content: bytes) -> str:
    if parent := os.path.dirname(path):
        os.makedirs(parent, exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    return path


def _json(data: Any) -> bytes:
    return json.dumps(data, indent=1).encode() + b"\n"


def _npy(row: Row) -> bytes:
    import numpy as np

    # As plain bytes: numpy takes a `Picture` for a number.
    array = np.asarray(bytes(row.value) if isinstance(row.value, bytes) else row.value)
    if array.dtype.hasobject or array.dtype.kind in "SUV":
        raise BadRequest(f"the value of {row.feature} is no array: ask for --format json")
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _stream(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _file(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
