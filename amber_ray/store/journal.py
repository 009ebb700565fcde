"""Accepted requests at rest: one JSON file each, durable before the request is answered with 202.

Must not know: what is in a record, except `state` and `created`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from amber_ray.store.files import Files
from amber_ray.store.json_files import JsonFolder


class Journal:
    """`<store>/requests/<id>.json`. Blocking; several processes may share it, each writing its own ids.

    `fence` is that of `JsonFolder`: a process that was stopped while another server took the store must not
    overwrite what that server has recorded since.
    """

    def __init__(self, store: str | Files, fence: Callable[[], None] | None = None) -> None:
        files = Files(store) if isinstance(store, str) else store
        self._records = JsonFolder(files, "requests", "request", fence)

    def write(self, id: str, data: Mapping[str, Any]) -> None:
        """Write or replace a record; it is durable when this returns. Raises `StoreError`."""
        self._records.write(id, data)

    def read(self, id: str) -> dict[str, Any] | None:
        """Return a record, or None. Raises `DamagedRecord`, and `StoreError` if it can't be read now."""
        return self._records.read(id)

    def ids(self) -> list[str]:
        """Return the ids of all records, sorted. Raises `StoreError` if they can't be listed now."""
        return self._records.ids()

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each record, by id. Raises `StoreError` if they can't be listed now."""
        return self._records.sizes()

    def unfinished(self) -> Iterator[dict[str, Any]]:
        """Yield the records whose `state` is "running".

        One that can't be read now is logged and left out: it must not keep a server from starting, and is
        there for the next start.
        """
        self._records.sweep()
        for _, data in self._records.whole(skip_unreadable=True):
            if data.get("state") == "running":
                yield data

    def remove(self, id: str) -> None:
        """Delete a record; one that is not there is fine. Raises `StoreError`."""
        self._records.remove(id)

    def sweep(self, before: float) -> int:
        """Delete finished records created before a Unix time; return how many."""
        old = [
            id
            for id, data in self._records.whole(skip_unreadable=True)
            if data.get("state") != "running" and data.get("created", 0.0) < before
        ]
        for id in old:
            self.remove(id)
        return len(old)
