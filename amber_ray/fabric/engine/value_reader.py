"""Values from where they are to who reads them: this process, an actor, the object store, Parquet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import ray

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.service import StoredValue
from amber_ray.errors import Unavailable, UnknownKey
from amber_ray.fabric.engine.cache import Cache, size_of, stored_value
from amber_ray.fabric.engine.shard_client import ShardClient
from amber_ray.fabric.transport import pickled
from amber_ray.fabric.transport.messages import Found

log = logging.getLogger("amber.reading")

LOST = (ray.exceptions.ObjectLostError, ray.exceptions.OwnerDiedError)
RELOADS = 3
"""How often a value whose object was lost on the way is asked for again."""


class Reader:
    """Reads values by key for one engine."""

    def __init__(self, registry: Registry, links: Sequence[ShardClient], cache: Cache) -> None:
        self._registry = registry
        self._links = links
        self._cache = cache

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        """The values of ready keys, in order; see `Service.load`."""
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
        answers = await asyncio.gather(*(link.call("get", keys) for link in self._links))
        refs: list[Any] = []
        large: list[tuple[int, Found]] = []
        for number, found_by_shard in enumerate(answers):
            for found in found_by_shard:
                if found is None or found.key in loaded:
                    continue
                if found.inline is not None:
                    self._keep(found, pickled.loads(found.inline), len(found.inline), loaded)
                else:
                    refs.append(found.ref[0])
                    large.append((number, found))
        if not refs:
            return []
        lists, dead = await asyncio.to_thread(_fetch, list(dict.fromkeys(refs)))
        for (_, found), ref in zip(large, refs, strict=True):
            if ref in lists:
                self._keep(found, lists[ref][found.place], None, loaded)
        lost: list[str] = []
        for number, link in enumerate(self._links):
            mine = [f.key for (n, f), ref in zip(large, refs, strict=True) if n == number and ref in dead]
            if mine:
                lost += mine
                await link.call("lost", mine)
        return lost

    def _keep(self, found: Found, value: Any, size: int | None, loaded: dict[str, StoredValue]) -> None:
        stored = stored_value(self._registry, found.key, found.feature, found.version, value)
        self._cache.put(stored, size_of(value) if size is None else size)
        loaded[found.key] = stored


def _fetch(refs: Sequence[Any]) -> tuple[dict[Any, Any], set[Any]]:
    """The objects, and the refs of those that are lost: one that is must not drag the others along."""
    try:
        return dict(zip(refs, ray.get(list(refs)), strict=True)), set()
    except LOST as error:
        log.warning("values were lost from the object store: %s", error)
    found: dict[Any, Any] = {}
    dead: set[Any] = set()
    for ref in refs:
        try:
            found[ref] = ray.get(ref)
        except LOST:
            dead.add(ref)
    return found, dead
