"""Small JSON files in a store: one record each, in a folder per kind, named by an identifier.

A reader sees a whole record or none (`store.files`). The journal of requests, the log of purges, the records
of tokens and the lease are made of them. A record that is not JSON when its bytes were delivered in full,
twice, is damaged; one that can't be read now says nothing of itself. Must not know: what is in a record.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from amber_ray.errors import DamagedRecord, StoreError
from amber_ray.store.files import Files

log = logging.getLogger("amber.store")

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_NAME = re.compile(_ID.pattern + r"\.json")


def read_json(files: Files, name: str) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None if there is no such file.

    Raises `DamagedRecord` if the file is no JSON object, and `StoreError` if it can't be read now or only a
    part of it was delivered.
    """
    for again in (False, True):
        text = files.read(name)
        if text is None:
            return None
        try:
            data = json.loads(text)
        except ValueError as error:
            if not again:
                continue
            size = files.size(name)
            if size is not None and size != len(text):
                reason = f"{len(text)} of {size} bytes were delivered"
                raise StoreError(f"{name} can't be read: {reason}") from error
            raise DamagedRecord(f"{name} is damaged: {error}") from error
        if isinstance(data, dict):
            return data
    raise DamagedRecord(f"{name} is damaged: it is no JSON object")


def write_json(files: Files, name: str, data: Mapping[str, Any]) -> None:
    """Write or replace a JSON file; it is durable when this returns. Raises `StoreError`."""
    files.write(name, json.dumps(data).encode())


class JsonFolder:
    """`<store>/<folder>/<id>.json`. Blocking. Several processes may share it, each writing its own ids.

    `what` says in messages what a record is of. `fence` is called before anything is changed, and raises
    `StoreError` if this process may not be sure any more that it owns the store (`Lease.guard`).
    """

    def __init__(self, files: Files, folder: str, what: str, fence: Callable[[], None] | None = None) -> None:
        self._files = files
        self._folder = folder
        self._what = what
        self._fence = fence
        files.make(folder)

    def write(self, id: str, data: Mapping[str, Any]) -> None:
        """Write or replace a record; it is durable when this returns. Raises `StoreError`."""
        name = self._name(id)
        self._guard()
        write_json(self._files, name, data)

    def read(self, id: str) -> dict[str, Any] | None:
        """Return a record, or None. Raises `DamagedRecord`, and `StoreError` if it can't be read now."""
        return read_json(self._files, self._name(id))

    def ids(self) -> list[str]:
        """Return the ids of all records, sorted. Raises `StoreError` if they can't be listed now."""
        return sorted(self.sizes())

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each record, by id. Raises `StoreError` if they can't be listed now."""
        sizes = self._files.sizes(_NAME, self._folder, 1)
        return {name.rpartition("/")[2].removesuffix(".json"): size for name, size in sizes.items()}

    def remove(self, id: str) -> None:
        """Delete a record; one that is not there is fine. Raises `StoreError`."""
        name = self._name(id)
        self._guard()
        self._files.remove(name)

    def whole(
        self, among: Callable[[str], bool] = lambda id: True, skip_unreadable: bool = False
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the ids and records that are undamaged, in order of ids.

        A damaged record is logged and moved to quarantine: one lost record must not keep a server from
        starting. One that can't be read now raises `StoreError`, or is logged and left out with
        `skip_unreadable`; it stays where it is.
        """
        for id in filter(among, self.ids()):
            try:
                data = self.read(id)
            except DamagedRecord as error:
                log.error("%s; it is set aside", error)
                self._set_aside(id)
                continue
            except StoreError as error:
                if not skip_unreadable:
                    raise
                log.error("the record of %s %r can't be read now and stays: %s", self._what, id, error)
                continue
            if data is not None:
                yield id, data

    def sweep(self) -> None:
        """Delete the unpublished files of writers that died."""
        self._files.sweep(self._folder, 1)

    def _set_aside(self, id: str) -> None:
        try:
            self._guard()
            self._files.move(self._name(id), f"quarantine/{self._folder}__{id}.json")
        except (FileNotFoundError, StoreError) as error:
            log.error("the record of %s %r could not be set aside: %s", self._what, id, error)

    def _guard(self) -> None:
        if self._fence is not None:
            self._fence()

    def _name(self, id: str) -> str:
        if not _ID.fullmatch(id):
            raise StoreError(f"{id!r} can't be a {self._what} id; letters, digits, '-', '_' and '.' only")
        return f"{self._folder}/{id}.json"
