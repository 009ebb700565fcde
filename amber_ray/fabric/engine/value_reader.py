"""Values by key, from where they are to who reads them: this process's memory, a shard, the object store.

A value that was read while something changed at its shard is given to whoever asked, and not kept: it may be
the old one.

Must not know: requests, how a shard finds a value.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.service import StoredValue
from amber_ray.core.values.size import size_of
from amber_ray.errors import Unavailable, UnknownKey
from amber_ray.fabric.engine.cache import Cache, stored_value
from amber_ray.fabric.engine.ports import Objects
from amber_ray.fabric.engine.shard_client import Mark, ShardClient
from amber_ray.fabric.transport import pickled
from amber_ray.fabric.transport.messages import Found

RELOADS = 3
"""How often a value whose object was lost on the way is asked for again."""


class ValueReader:
    """Reads values by key for one engine."""

    def __init__(
        self, registry: Registry, shards: Sequence[ShardClient], objects: Objects, cache: Cache
    ) -> None:
        self._registry = registry
        self._shards = shards
        self._objects = objects
        self._cache = cache

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        """The values of ready keys, in order; see `Service.load`.

        Raises `UnknownKey`, and `Unavailable` for values that were lost with a node before they were stored.
        """
        loaded: dict[str, StoredValue] = {}
        for key in keys:
            cached = self._cache.get(key)
            if cached is not None:
                loaded[key] = cached
        lost: set[str] = set()
        for _ in range(RELOADS):
            left = [key for key in dict.fromkeys(keys) if key not in loaded]
            if not left:
                break
            found_lost = await self._load(left, loaded)
            lost.update(found_lost)
            if not found_lost:
                break
        missing = [key for key in keys if key not in loaded]
        if gone := lost.intersection(missing):
            raise Unavailable(
                f"{len(gone)} values were lost with the node that held them, before they were stored; "
                "POST /v1/compute makes them again"
            )
        if missing:
            raise UnknownKey(f"no value is stored under key {missing[0]!r}; keys come from POST /v1/compute")
        return [loaded[key] for key in keys]

    async def _load(self, keys: Sequence[str], loaded: dict[str, StoredValue]) -> list[str]:
        """Find and read values; returns keys whose objects were lost on the way."""
        answers = await asyncio.gather(*(shard.get(keys) for shard in self._shards))
        marks = [(shard, mark) for shard, (_, mark) in zip(self._shards, answers, strict=True)]
        newest: dict[str, tuple[ShardClient, Found]] = {}
        for shard, (found_by_shard, _) in zip(self._shards, answers, strict=True):
            for found in found_by_shard:
                # Any shard may know of a part with a key that is not its own, and not know of a newer one.
                if found is not None and (found.key not in newest or newest[found.key][1].rank < found.rank):
                    newest[found.key] = shard, found
        refs: list[Any] = []
        large: list[tuple[ShardClient, Found]] = []
        for shard, found in newest.values():
            if found.inline is not None:
                self._take(marks, found, pickled.loads(found.inline), len(found.inline), loaded)
            else:
                refs.append(found.ref[0])
                large.append((shard, found))
        if not refs:
            return []
        lists, dead = await self._objects.fetch(list(dict.fromkeys(refs)))
        lost: dict[ShardClient, list[str]] = {}
        for (shard, found), ref in zip(large, refs, strict=True):
            if ref in lists:
                self._take(marks, found, lists[ref][found.place], None, loaded)
            elif ref in dead:
                lost.setdefault(shard, []).append(found.key)
        for shard, its in lost.items():
            await shard.call("lost", its)
        return [key for its in lost.values() for key in its]

    def _take(
        self,
        marks: Sequence[tuple[ShardClient, Mark]],
        found: Found,
        value: Any,
        size: int | None,
        loaded: dict[str, StoredValue],
    ) -> None:
        stored = stored_value(self._registry, found, value)
        # Whoever has said where it is, it is another one that makes it anew.
        if all(shard.is_fresh(mark) for shard, mark in marks):
            self._cache.put(stored, size_of(value) if size is None else size)
        loaded[found.key] = stored
