"""Accepted requests on disk: one JSON file each, written before its 202 is sent.

A file is written under another name, synced and renamed, so a reader sees a whole record or none.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec

from amber_ray.errors import StoreError

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")


class Journal:
    """`<store>/requests/<id>.json`. Blocking; several processes may share it, each writing its own ids."""

    def __init__(self, url: str) -> None:
        self._fs, root = fsspec.core.url_to_fs(url)
        self._root = f"{root.rstrip('/')}/requests"
        self._local = "file" in (
            self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        )
        if self._local:
            os.makedirs(self._root, exist_ok=True)

    def write(self, id: str, data: Mapping[str, Any]) -> None:
        """Write or replace a record; on return it is on disk."""
        path = self._path(id)
        text = json.dumps(data).encode()
        if not self._local:
            self._fs.pipe_file(path, text)
            return
        draft = f"{self._root}/.{id}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            with open(draft, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
            folder = os.open(self._root, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StoreError(f"the request journal can't be written: {error}") from error

    def read(self, id: str) -> dict[str, Any] | None:
        """A record, or None."""
        try:
            data: dict[str, Any] = json.loads(self._fs.cat_file(self._path(id)))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreError(f"the journal record of request {id!r} is damaged: {error}") from error
        return data

    def ids(self) -> list[str]:
        """Of all records."""
        self._fs.invalidate_cache()
        try:
            names = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        ids = [n.rpartition("/")[2].removesuffix(".json") for n in names if n.endswith(".json")]
        return sorted(i for i in ids if _ID.match(i) and not i.startswith("."))

    def unfinished(self) -> Iterator[dict[str, Any]]:
        """Records whose request was still running."""
        for id in self.ids():
            data = self.read(id)
            if data is not None and data.get("state") == "running":
                yield data

    def remove(self, id: str) -> None:
        """Forget a record; an unknown one is fine."""
        try:
            self._fs.rm_file(self._path(id))
        except FileNotFoundError:
            return

    def sweep(self, before: float) -> int:
        """Forget finished records created before a Unix time; returns how many."""
        old = [
            i
            for i in self.ids()
            if (d := self.read(i)) is not None
            and d.get("state") != "running"
            and d.get("created", 0.0) < before
        ]
        for id in old:
            self.remove(id)
        return len(old)

    def _path(self, id: str) -> str:
        if not _ID.match(id) or id.startswith("."):
            raise StoreError(f"{id!r} can't be a request id; letters, digits, '-', '_' and '.' only")
        return f"{self._root}/{id}.json"
