"""One shard's index and the store's parts, kept in step: at the start, after a loss, and in the long run.

A shard indexes its own values only. What the parts say of whose they are, the port knows.

Of two parts with the same key the newer one counts, by their names, in whatever order they come to be known
here: the store is read while other parts are written, joined and purged.

A part that can't be read for the time being is not gone. It is tried again a few times, then the shard goes
on without it, for one bad part must not keep a service down: its values may be computed again until a later
look lists it after all. Must not know: the ledger, values, files.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from amber_ray.fabric.shard.ports import PartKeys, Parts
from amber_ray.store.key_index import KeyIndex, hexed
from amber_ray.store.part import order

log = logging.getLogger("amber.listing")

PAUSES = 0.2, 1.0, 4.0
"""Seconds before parts that could not be listed at a start are tried again."""


class Listing:
    """Fills a shard's index."""

    def __init__(self, index: KeyIndex, parts: Parts, pauses: Sequence[float] = PAUSES) -> None:
        self._index = index
        self._parts = parts
        self._pauses = pauses
        self._late: dict[str, None] = {}
        self._newest: dict[str, str] = {}
        self._removed: set[str] = set()

    @property
    def late(self) -> list[str]:
        """Names of parts that are published and could not be read yet."""
        return list(self._late)

    def add(self, part: PartKeys) -> None:
        """Index the rows of a part, but for keys that a newer part of the same feature and version has."""
        if part.name in self._removed:
            return
        folder, place = _folder(part.name), order(part.name)
        if place >= self._newest.get(folder, ""):
            self._newest[folder] = place
            self._index.add(part.name, part.keys, part.rows)
            return
        known = self._index.find_many(hexed(part.keys))
        older = [at is None or order(at[0]) <= place for at in known]
        which = np.flatnonzero(older)
        self._index.add(part.name, part.keys[which], which if part.rows is None else part.rows[which])

    async def load(self) -> None:
        """List every part that is not in the index yet. Raises `StoreError` if the store can't be listed."""
        await self._parts.sweep()
        known = set(self._index.parts())
        await self._list(lambda name: name not in known)
        for pause in self._pauses:
            if not self._late:
                return
            log.warning("%d parts can't be read now, and will be tried again", len(self._late))
            await asyncio.sleep(pause)
            await self._list(set(self._late).__contains__)
        if self._late:
            log.error("not in the index until they can be read: %s", ", ".join(self._late))

    async def replace(self, gone: Iterable[str]) -> list[str]:
        """Parts are gone or damaged: their keys may be in others of the same folder, newer ones or older.

        They stay in the index until the others have been looked at: a key that is in none for a moment would
        count as lost, and be made again. Returns the others that can't be read now.
        """
        gone = list(gone)
        folders = set(map(_folder, gone))
        await self._list(lambda name: _folder(name) in folders, gone)
        return [name for name in self._late if _folder(name) in folders]

    async def catch_up(self) -> None:
        """List what could not be read before."""
        before = list(self._late)
        if before:
            await self._list(set(before).__contains__)
            read = [name for name in before if name not in self._late]
            if read:
                log.warning("no longer left out: %s", ", ".join(read))

    def rewritten(self, removed: Iterable[str], added: Iterable[PartKeys]) -> None:
        """Parts were joined or purged: follow. A removed part is never listed again."""
        for name in removed:
            self._index.remove_part(name)
            self._late.pop(name, None)
            self._removed.add(name)
        for part in added:
            self.add(part)

    async def _list(self, among: Callable[[str], bool], gone: Sequence[str] = ()) -> None:
        """Add such parts to the index in place of those that are gone; remember what can't be read now."""
        parts, late = await self._parts.scan(among)
        for name in gone:
            self._index.remove_part(name)
            self._late.pop(name, None)
        for part in parts:
            self.add(part)
        # Two of these may run at once, so each tells only of the parts that it has looked at.
        self._late = {name: None for name in self._late if not among(name)}
        self._late.update((name, None) for name in late if name not in self._removed)


def _folder(name: str) -> str:
    return name.rpartition("/")[0]
