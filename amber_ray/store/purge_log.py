"""Purges of the last day, on disk, so that they can be applied again.

A purge rewrites the parts that are there. But a worker whose cluster has died may still be writing a part, of
values that were made before the purge, and publish it afterwards:

    worker   value made ────────────── part published
    purge               noted, parts rewritten       applied again
    part                                             rows made until the purge are dropped

So a purge is noted before any part is touched, and whoever owns the store applies the pending ones again, at
a start and now and then (`ValueStore.purge` with `made_before`). Must not know: how parts are rewritten.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from amber_ray.store.files import Files
from amber_ray.store.json_files import JsonFolder

log = logging.getLogger("amber.store")

PENDING_SECONDS = 86_400.0
"""How long a purge is applied again. A write that outlives its cluster ends in minutes: Ray ends such
workers, and clients of object stores give up. A day covers a machine that was suspended, and clocks that
differ by hours."""


About: TypeAlias = str | tuple[str, ...] | None
"""The asset of a purge, several of which any may match, or none: then any asset does."""


def ids_of(about: About) -> list[str] | None:
    """The assets of a purge, sorted."""
    if about is None:
        return None
    return [about] if isinstance(about, str) else sorted(about)


class Purge(NamedTuple):
    """A purge of the values that match all that is given and were made until the Unix time `at`."""

    asset: About
    feature: str | None
    version: str | None
    at: float


class PurgeLog:
    """`<store>/purges/<id>.json`. Blocking; several processes may share it.

    An id begins with the time of the purge in milliseconds, so an old record is known by its name alone.
    `fence` is that of `JsonFolder`.
    """

    def __init__(self, store: str | Files, fence: Callable[[], None] | None = None) -> None:
        files = Files(store) if isinstance(store, str) else store
        self._records = JsonFolder(files, "purges", "purge", fence)

    def note(self, asset: About, feature: str | None, version: str | None, at: float) -> str:
        """Record a purge of that Unix time; it is durable when this returns. Raises `StoreError`.

        Returns the id of its record.
        """
        id = f"{round(at * 1e3):014d}-{secrets.token_hex(8)}"
        self._records.write(id, Purge(asset, feature, version, at)._asdict())
        return id

    def pending(self, now: float) -> list[Purge]:
        """Return the purges that are to be applied again, oldest first.

        Raises `StoreError` if one can't be read now: no purge may be passed over. A damaged record is logged
        and moved to quarantine.
        """
        records = self._records.whole(lambda id: not _is_old(id, now))
        return [purge for id, data in records if (purge := _parsed(id, data)) is not None]

    def sweep(self, now: float) -> None:
        """Delete the records of purges that are no longer pending. Raises `StoreError`."""
        self._records.sweep()
        for id in self._records.ids():
            if _is_old(id, now):
                self._records.remove(id)


def _is_old(id: str, now: float) -> bool:
    made, _, _ = id.partition("-")
    return made.isdigit() and int(made) / 1e3 < now - PENDING_SECONDS


def _parsed(id: str, data: Mapping[str, Any]) -> Purge | None:
    """Return the purge that a record holds, or None: a filter that is missing must not count as no filter."""
    match data:
        case {
            "asset": str() | [_, *_] | None as asset,
            "feature": str() | None as feature,
            "version": str() | None as version,
            "at": float() | int() as at,
        } if not isinstance(asset, list) or all(isinstance(id, str) for id in asset):
            return Purge(tuple(asset) if isinstance(asset, list) else asset, feature, version, at)
    log.error("the record %r in the log of purges is none of a purge; it is left alone", id)
    return None
