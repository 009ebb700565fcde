"""Values between memory and Parquet: spill, restore, read-through, compaction, purge.

Part of the cache actor's shell (`fabric.shard.actor`). The order is always write, publish, index, then tell
the ledger, which alone decides what leaves memory: a failure anywhere before leaves the value where it was.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import json
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from amber_ray.core.model.units import Asset, Segment
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import AVAILABLE
from amber_ray.errors import Unavailable
from amber_ray.fabric.adapter import faults
from amber_ray.fabric.shard.dispatch import gather
from amber_ray.fabric.shard.restore import RestoreReader
from amber_ray.fabric.transport.messages import Found, Inline, RowWork, Slot
from amber_ray.fabric.transport.names import shard_name
from amber_ray.fabric.transport.pickled import bundled
from amber_ray.fabric.worker import store_tasks

if TYPE_CHECKING:
    from amber_ray.fabric.shard.actor import CacheActor

log = logging.getLogger("amber.spill")

WRITERS = 2
"""Parts written at once by one shard."""
SHARE_BYTES = 16 << 20
"""Small values of more bytes than that are spread over so many parts."""


class Spiller:
    """Moves one shard's values to storage and back."""

    def __init__(self, actor: CacheActor) -> None:
        self._actor = actor
        self._writers = asyncio.Semaphore(WRITERS)
        self._write = ray.remote(store_tasks.write).options(num_cpus=0, max_retries=0)
        self._to_restore: list[str] = []
        self._rows = RestoreReader(actor)
        self._writing = 0
        self._purges = 0
        self._held: list[str] = []
        self._idle = asyncio.Event()
        self._idle.set()

    # --- to storage

    def spill(self, keys: Sequence[str]) -> None:
        """Write values, one part per feature and version; the ledger hears of each."""
        if self._purges:
            self._held.extend(keys)
            return
        groups: dict[tuple[str, str, str], list[str]] = collections.defaultdict(list)
        for key in keys:
            recipe = self._actor.ledger.entries[key].step.recipe
            groups[recipe.registry, recipe.feature, recipe.version].append(key)
        for (registry, feature, version), group in groups.items():
            for some in self._shares(group):
                rows = [self._row(key) for key in some]
                inline, places, slots = gather(self._actor.values, some)
                self._writing += 1
                self._idle.clear()
                self._actor.spawn(self._spill(registry, feature, version, some, rows, inline, places, slots))

    def _shares(self, keys: list[str]) -> Iterator[list[str]]:
        """One part's keys, or as many parts' as are written at once, where much of it goes through here."""
        handles = map(self._actor.values.__getitem__, keys)
        size = sum(handle.size for handle in handles if isinstance(handle, Inline))
        step = -(-len(keys) // (WRITERS if size > SHARE_BYTES else 1))
        return (keys[i : i + step] for i in range(0, len(keys), step))

    def _row(self, key: str) -> RowWork:
        step = self._actor.ledger.entries[key].step
        recipe, handle = step.recipe, self._actor.values[key]
        return RowWork(
            key=key,
            asset=step.asset_id,
            unit=step.unit_id,
            params=_params(recipe.model, recipe.params),
            inputs=step.needs,
            code=recipe.code,
            made=handle.made,
            size=handle.size,
        )

    async def _spill(
        self,
        registry: str,
        feature: str,
        version: str,
        keys: list[str],
        rows: list[RowWork],
        inline: dict[str, bytes],
        places: dict[str, tuple[int, int]],
        slots: list[Any],
    ) -> None:
        actor = self._actor
        try:
            async with self._writers:
                blob, bundle = actor.blob(registry), bundled(inline)
                part = await self._write.remote(
                    blob, registry, actor.settings.store, feature, version, rows, bundle, places, *slots
                )
            actor.index.add(part, packed(keys))
            actor.feed(ev.Stored(keys))
        except Exception as error:  # noqa: BLE001 - any failure leaves the values in memory and is told
            # The values are still in memory; the ledger will ask for them again.
            log.error("%d values of %s could not be written: %s", len(keys), feature, error)
            if faults.translate(error).inputs_lost:
                actor.feed(ev.Lost([k for k in keys if isinstance(actor.values.get(k), Slot)]))
            actor.feed(ev.StoreFailed(keys))
        finally:
            self._writing -= 1
            if not self._writing:
                self._idle.set()

    # --- and back

    def restore(self, keys: Sequence[str]) -> None:
        """Read values back into memory; what is asked for in one turn of the loop is read together."""
        if not self._to_restore:
            asyncio.get_running_loop().call_soon(self._restore_now)
        self._to_restore.extend(keys)

    def _restore_now(self) -> None:
        keys, self._to_restore = self._to_restore, []
        self._actor.spawn(self._restore(keys))

    async def _restore(self, keys: list[str]) -> None:
        actor = self._actor
        found = await self._rows.read(keys)
        sizes: dict[str, int] = {}
        for key, outcome in found.items():
            if outcome is None or isinstance(outcome, str):
                continue
            result, ref = outcome
            assert result.made is not None
            entry = actor.ledger.entries.get(key)
            if entry is not None and entry.state not in AVAILABLE:
                actor.values[key] = (
                    Inline(result.inline, result.made)
                    if result.inline is not None
                    else Slot(ref, result.place, result.size, result.made)
                )
                sizes[key] = result.size
        if sizes:
            actor.feed(ev.Restored(sizes))
        if missing := [key for key, outcome in found.items() if outcome is None]:
            actor.feed(ev.RestoreFailed(missing))
        if late := {key: outcome for key, outcome in found.items() if isinstance(outcome, str)}:
            actor.feed(ev.Unreadable(late))

    async def read_through(self, keys: Sequence[str]) -> dict[str, Found | None]:
        """Values for a reader who has only the keys: read for it alone, not kept in memory here.

        Raises `Unavailable` if the store can't serve one of them now.
        """
        names = {key: self._actor.index.find(key) for key in keys}
        found: dict[str, Found | None] = {}
        for key, outcome in (await self._rows.read(list(keys))).items():
            place = names[key]
            if isinstance(outcome, str):
                raise Unavailable(f"the value {key} is stored and can't be read now: {outcome}")
            if outcome is None or place is None:
                found[key] = None
                continue
            result, ref = outcome
            _, feature, version, _ = place[0].rsplit("/", 3)
            found[key] = Found(
                key, feature, version, result.inline, [] if ref is None else [ref], result.place
            )
        return found

    # --- upkeep

    async def compact(self) -> None:
        """Join small parts, where a feature has gathered many."""
        actor = self._actor
        groups = collections.Counter(name.rpartition("/")[0] for name in actor.index.parts())
        for folder, count in groups.items():
            if count < actor.settings.compact_parts:
                continue
            _, feature, version = folder.split("/")
            old, new = await asyncio.to_thread(
                actor.store.compact, feature, version, actor.settings.compact_parts
            )
            if new is not None:
                keys = await asyncio.to_thread(actor.store.keys, new.name)
                await self._tell_all(list(old), {new.name: keys}, [])
                await asyncio.to_thread(actor.store.remove_parts, old)

    async def purge(self, asset: str | None, feature: str | None, version: str | None) -> list[str]:
        """Forget what matches, in memory and on disk, in this shard and the others."""
        self._purges += 1
        try:
            return await self._purge(asset, feature, version)
        finally:
            self._purges -= 1
            if not self._purges and self._held:
                # What was to be written meanwhile is asked for again, if the purge has left it.
                held, self._held = self._held, []
                self._actor.feed(ev.StoreFailed(held))

    async def _purge(self, asset: str | None, feature: str | None, version: str | None) -> list[str]:
        actor = self._actor
        await self._idle.wait()  # what is being written must be found on disk, or it would come back
        gone: set[str] = set()
        for key, entry in actor.ledger.entries.items():
            recipe = entry.step.recipe
            if (
                (asset is None or _about(entry.step.unit, asset))
                and (feature is None or recipe.feature == feature)
                and (version is None or recipe.version == version)
                and (entry.state in AVAILABLE or entry.failure is not None)
            ):
                gone.add(key)
        removed: list[str] = []
        added: dict[str, np.ndarray] = {}
        if actor.shard == 0:
            for old, new, kept, dropped in await asyncio.to_thread(
                lambda: actor.store.purge(asset=asset, feature=feature, version=version)
            ):
                removed.append(old)
                if new is not None:
                    added[new.name] = kept
                gone.update(dropped)
        await self._tell_all(removed, added, sorted(gone))
        return sorted(gone)

    async def _tell_all(
        self, removed: Sequence[str], added: dict[str, np.ndarray], gone: Sequence[str]
    ) -> None:
        actor = self._actor
        await actor.reindex(removed, added, gone)
        peers: list[Any] = [
            ray.get_actor(shard_name(i), namespace=actor.settings.namespace).reindex.remote(
                removed, added, gone
            )
            for i in range(actor.settings.shards)
            if i != actor.shard
        ]
        for peer in peers:
            await peer


def packed(keys: Sequence[str]) -> np.ndarray:
    """Hex keys as the index takes them: uint8[n, 16]."""
    return np.frombuffer(bytes.fromhex("".join(keys)), dtype=np.uint8).reshape(-1, 16)


def _about(unit: Any, asset: str) -> bool:
    if isinstance(unit, Segment):
        return unit.asset.id == asset
    if isinstance(unit, Asset):
        return unit.id == asset
    return any(a.id == asset for a in unit.assets)


@functools.lru_cache(maxsize=1024)
def _params(model: tuple[tuple[str, Any], ...], params: tuple[tuple[str, Any], ...]) -> str:
    """All parameters of a recipe as JSON, the same for all its rows."""
    return json.dumps(dict(sorted((*model, *params))))
