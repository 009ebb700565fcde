"""Accepted requests at rest: one JSON file each, written before its 202 is sent.

A reader sees a whole record or none (`store.files`). A record that is damaged is set aside, one that can't be
read at the moment is left where it is, and both are told to the log: one lost request must not keep a server
from starting. Must not know: what is in a record but `state`
and `created`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from amber_ray.errors import DamagedRecord, StoreError
from amber_ray.store.files import Files

log = logging.getLogger("amber.store")

FOLDER = "requests"
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_NAME = re.compile(_ID.pattern + r"\.json")


class Journal:
    """`<store>/requests/<id>.json`. Blocking; several processes may share it, each writing its own ids."""

    def __init__(self, url: str) -> None:
        self._files = Files(url)
        self._files.make(FOLDER)

    def write(self, id: str, data: Mapping[str, Any]) -> None:
        """Write or replace a record; on return it is on disk. Raises `StoreError`."""
        self._files.write(_name(id), json.dumps(data).encode())

    def read(self, id: str) -> dict[str, Any] | None:
        """A record, or None. Raises `DamagedRecord`, and `StoreError` where the store can't be read now."""
        text = self._files.read(_name(id))
        if text is None:
            return None
        try:
            data = json.loads(text)
        except ValueError as error:
            raise DamagedRecord(f"the journal record of request {id!r} is damaged: {error}") from error
        if not isinstance(data, dict):
            raise DamagedRecord(f"the journal record of request {id!r} is damaged: it is no object")
        return data

    def ids(self) -> list[str]:
        """Of all records, sorted."""
        names = self._files.sizes(_NAME, FOLDER, 1)
        return sorted(name.rpartition("/")[2].removesuffix(".json") for name in names)

    def unfinished(self) -> Iterator[dict[str, Any]]:
        """Records whose request was still running."""
        self._files.sweep(FOLDER, 1)
        for _, data in self._records():
            if data.get("state") == "running":
                yield data

    def remove(self, id: str) -> None:
        """Forget a record; an unknown one is fine."""
        self._files.remove(_name(id))

    def sweep(self, before: float) -> int:
        """Forget finished records created before a Unix time; returns how many."""
        old = [
            id
            for id, data in self._records()
            if data.get("state") != "running" and data.get("created", 0.0) < before
        ]
        for id in old:
            self.remove(id)
        return len(old)

    def _records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for id in self.ids():
            try:
                data = self.read(id)
            except DamagedRecord as error:
                log.error("%s; it is set aside", error)
                self._set_aside(id)
                continue
            except StoreError as error:
                # A store that is slow or away damages nothing: the record stays for the next time.
                log.error(
                    "the journal record of request %r can't be read now and is left alone: %s", id, error
                )
                continue
            if data is not None:
                yield id, data

    def _set_aside(self, id: str) -> None:
        try:
            self._files.move(_name(id), f"quarantine/{FOLDER}__{id}.json")
        except (FileNotFoundError, StoreError) as error:
            log.error("the journal record of request %r could not be set aside: %s", id, error)


def _name(id: str) -> str:
    if not _ID.fullmatch(id):
        raise StoreError(f"{id!r} can't be a request id; letters, digits, '-', '_' and '.' only")
    return f"{FOLDER}/{id}.json"
