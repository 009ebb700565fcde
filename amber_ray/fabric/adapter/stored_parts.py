"""The half of `Parts` that looks into a store and changes nothing, in threads. Readers and owners share it.

Must not know: Ray, HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from amber_ray.core.model.kept import Kept, StoredVersion
from amber_ray.core.model.pages import Told
from amber_ray.core.model.provenance import Place, ValueInfo
from amber_ray.core.planning.homes import ALL, Share
from amber_ray.core.scheduler.costs import Means
from amber_ray.fabric.shard.ports import PartKeys
from amber_ray.fabric.transport.messages import Wanted
from amber_ray.store import provenance
from amber_ray.store.parquet import ValueStore


class StoredParts:
    """What a shard learns of a store's parts; see `Parts`."""

    def __init__(self, store: ValueStore, share: Share = ALL) -> None:
        self._store = store
        self._share = share

    @property
    def local(self) -> bool:
        """See `Parts.local`."""
        return self._store.files.local

    async def scan(self, among: Callable[[str], bool]) -> tuple[list[PartKeys], list[str]]:
        """See `Parts.scan`."""
        late: list[str] = []
        found = await asyncio.to_thread(lambda: list(self._store.owned(self._share, among, late)))
        return [PartKeys(part.name, keys, rows) for part, keys, rows in found], late

    async def costs(self) -> Mapping[tuple[str, str], Means]:
        """See `Parts.costs`."""
        return await asyncio.to_thread(self._store.costs)

    async def size(self) -> tuple[int, int]:
        """See `Parts.size`."""
        sizes = await asyncio.to_thread(self._store.sizes)
        return len(sizes), sum(sizes.values())

    async def versions(self) -> list[StoredVersion]:
        """See `Parts.versions`."""
        return await asyncio.to_thread(self._store.versions)

    async def about(
        self, asset: str, feature: str | None, version: str | None, after: Place | None, most: int
    ) -> Told[ValueInfo]:
        """See `Parts.about`."""
        return await asyncio.to_thread(provenance.about, self._store, asset, feature, version, after, most)

    async def rows(self, wanted: Wanted) -> list[ValueInfo]:
        """See `Parts.rows`."""
        return list((await asyncio.to_thread(provenance.rows, self._store, wanted)).values())

    async def kept(self, feature: str, version: str, units: Collection[str]) -> Kept:
        """See `Parts.kept`."""
        return await asyncio.to_thread(self._store.kept, feature, version, units)
