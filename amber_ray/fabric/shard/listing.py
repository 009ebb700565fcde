"""One shard's index and the store's parts, kept in step: at the start, after a loss, and in the long run.

A part that can't be read for the time being is not gone. It is tried again patiently, then the shard goes on
without it, for one bad part must not keep a service down: its values may be computed again until a later look
lists it after all. Must not know: the ledger, values.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from amber_ray.store.key_index import KeyIndex
from amber_ray.store.parquet import ValueStore

log = logging.getLogger("amber.listing")

PAUSES = 0.2, 1.0, 4.0
"""Seconds before parts that could not be listed at a start are tried again."""


class Listing:
    """Fills a shard's index. Threads do the reading, and the event loop's thread alone touches the index."""

    def __init__(self, index: KeyIndex, store: ValueStore, pauses: Sequence[float] = PAUSES) -> None:
        self._index = index
        self._store = store
        self._pauses = pauses
        self._late: dict[str, None] = {}

    async def load(self) -> None:
        """List every part that is not in the index yet. Raises `StoreError` if the store can't be listed."""
        await asyncio.to_thread(self._store.sweep)
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

    async def replace(self, gone: Iterable[str]) -> None:
        """Parts are gone or damaged: their keys may be in others, newer ones of another shard, or older."""
        for name in gone:
            self._index.remove_part(name)
        await self._list(lambda name: True)

    async def catch_up(self) -> None:
        """List what could not be read before."""
        before = list(self._late)
        if before:
            await self._list(set(before).__contains__)
            read = [name for name in before if name not in self._late]
            if read:
                log.warning("no longer left out: %s", ", ".join(read))

    async def _list(self, among: Callable[[str], bool]) -> None:
        """Add such parts to the index, oldest first; those that can't be read now are remembered."""
        late: list[str] = []
        for part, keys in await asyncio.to_thread(lambda: list(self._store.scan(among, late))):
            self._index.add(part.name, keys)
        # Two of these may run at once, so each tells only of the parts that it has looked at.
        self._late = {name: None for name in self._late if not among(name)} | dict.fromkeys(late)
