"""Values by key, from where they are to who reads them: this process's memory, a shard, the object store.

Many keys are read by few calls: each asks every shard for as many keys as make a batch, and the next batch is
as long as the last one's values were small. So memory holds one batch, whatever the number of keys.

A value that was read while something changed at its shard is given to whoever asked, and not kept: it may be
the old one.

Must not know: requests, how a shard finds a value.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from amber_ray.core.model.absent import no_value
from amber_ray.core.model.request import Failure
from amber_ray.core.model.service import AbsentValue, Answered, StoredValue
from amber_ray.core.model.stats import READS_MEMORY, READS_REPLICA, READS_STORE
from amber_ray.core.values.size import size_of
from amber_ray.errors import AmberError, Unavailable, UnknownKey
from amber_ray.fabric.engine.cache import Answers, Cache, Places, stored_value
from amber_ray.fabric.engine.near import NearValues
from amber_ray.fabric.engine.ports import Objects
from amber_ray.fabric.engine.registries import Registries
from amber_ray.fabric.engine.shard_client import ShardClient
from amber_ray.fabric.transport import pickled
from amber_ray.fabric.transport.messages import OWN, Found
from amber_ray.store.part import order

RELOADS = 3
"""How often a value whose object was lost on the way is asked for again."""
BATCH_BYTES = 16 << 20
"""Bytes of values that are read together, as far as answers or the values before tell how large they are."""
FIRST, MOST = 8, 1024
"""Values read together at first, and at most."""
LOST = "was lost with the node that held it, before it was stored; POST /v1/compute makes it again"


class ValueReader:
    """Reads values by key for one engine, and adds to `counts` where they were."""

    def __init__(
        self,
        registries: Registries,
        shards: Sequence[ShardClient],
        objects: Objects,
        cache: Cache,
        answers: Answers,
        places: Places,
        near: NearValues,
        counts: Counter[str],
    ) -> None:
        self._registries = registries
        self._shards = shards
        self._objects = objects
        self._cache = cache
        self._known = answers
        self._places = places
        self._near = near
        self._counts = counts

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        """The values of ready keys, in order; see `Service.load`.

        Raises `UnknownKey`, and `Unavailable` for values that can't be read now or were lost with a node
        before they were stored.
        """
        answers = await self._answers(keys)
        absent = [a for key in dict.fromkeys(keys) if isinstance(a := answers[key], AbsentValue)]
        for one in absent:
            if one.failure.type == Unavailable.__name__:
                raise Unavailable(one.failure.message)
        if absent:
            raise no_value(absent[0].key)
        return [answers[key] for key in keys]  # type: ignore[misc]

    async def values(self, keys: Sequence[str]) -> AsyncGenerator[list[Answered], None]:
        """Each key's value or why it has none, batch after batch, in order; see `Service.values`."""
        left = list(dict.fromkeys(keys))
        at, count = 0, FIRST
        while at < len(left):
            some = left[at : at + max(count, self._fitting(left, at))]
            answers = await self._answers(some)
            yield [answers[key] for key in some]
            size = sum(size_of(a.value) for a in answers.values() if isinstance(a, StoredValue)) / len(some)
            at += len(some)
            count = max(1, min(MOST, 4 * count, int(BATCH_BYTES / max(size, 1))))

    def _fitting(self, keys: Sequence[str], at: int) -> int:
        """How many keys from a place on are known to have values that may be read together."""
        total = 0
        for number in range(min(MOST, len(keys) - at)):
            size = self._known.size(keys[at + number])
            if size is None or (total := total + size) > BATCH_BYTES:
                return number
        return min(MOST, len(keys) - at)

    async def _answers(self, keys: Sequence[str]) -> dict[str, Answered]:
        """Each key's value, or why it has none. Raises `Unavailable` if a shard can't be asked."""
        answers: dict[str, Answered] = {}
        loaded: dict[str, StoredValue] = {}
        for key in keys:
            cached = self._cache.get(key)
            if cached is not None:
                loaded[key] = cached
                self._counts[READS_REPLICA] += 1
        absent: dict[str, Failure] = {}
        gone: dict[str, Failure] = {}
        for _ in range(RELOADS):
            left = [key for key in dict.fromkeys(keys) if key not in loaded]
            if not left:
                break
            lost, absent = await self._load(left, loaded)
            for key in lost:
                gone[key] = _failure(Unavailable, key, f"the value {key} {LOST}")
            if not lost:
                break
        for key in dict.fromkeys(keys):
            if key in loaded:
                answers[key] = loaded[key]
            else:
                why = absent.get(key) or gone.get(key) or _failure(UnknownKey, key, str(no_value(key)))
                answers[key] = AbsentValue(key, why.told())
        return answers

    async def _load(
        self, keys: Sequence[str], loaded: dict[str, StoredValue]
    ) -> tuple[list[str], dict[str, Failure]]:
        """Find and read values: where their places came with an answer, no shard is asked.

        Returns the keys whose objects were lost on the way, and why others have no value, if a shard said so.
        """
        changes = self._places.changes
        told = [(self._shards[number], found) for number, found in self._places.take(keys)]
        lost = await self._fetch(told, lambda: self._places.changes == changes, loaded)
        left = [key for key in keys if key not in loaded and key not in lost]
        if self._near.has(left):
            await self._read_near(left, loaded)
            left = [key for key in left if key not in loaded]
        if not left:
            return lost, {}
        also_lost, absent = await self._ask(left, loaded)
        return [*lost, *also_lost], absent

    async def _read_near(self, keys: Sequence[str], loaded: dict[str, StoredValue]) -> None:
        """Read values from the store in this process; none if one of them is not there any more."""
        for key, (part, result) in (await self._near.read(keys) or {}).items():
            assert result.inline is not None
            _, feature, version, _ = part.split("/")
            made = result.made.created if result.made else 0.0
            found = Found(key, feature, version, result.inline, made=made, rank=order(part))
            self._take(lambda: True, found, pickled.loads(result.inline), len(result.inline), loaded)

    async def _ask(
        self, keys: Sequence[str], loaded: dict[str, StoredValue]
    ) -> tuple[list[str], dict[str, Failure]]:
        """Ask all shards where values are, and read them; see `_load`."""
        answers = await asyncio.gather(*(shard.get(keys) for shard in self._shards))
        marks = [(shard, mark) for shard, (_, mark) in zip(self._shards, answers, strict=True)]
        newest: dict[str, tuple[ShardClient, Found]] = {}
        absent: dict[str, Failure] = {}
        for shard, (values, _) in zip(self._shards, answers, strict=True):
            for key, why in values.absent:
                # Of what two shards say, that it can't be read now counts: there is a value then.
                if key not in absent or why.type == Unavailable.__name__:
                    absent[key] = why
            for found in values.found:
                # Any shard may know of a part with a key that is not its own, and not know of a newer one.
                if found is not None and (found.key not in newest or newest[found.key][1].rank < found.rank):
                    newest[found.key] = shard, found
        for key, why in absent.items():
            # The part that can't be read now may be newer than the one that another shard has found.
            if why.type == Unavailable.__name__ and key in newest and newest[key][1].rank != OWN:
                del newest[key]

        def fresh() -> bool:
            # All shards must be unchanged: one of them has found it, another one may be making it anew.
            return all(shard.is_fresh(mark) for shard, mark in marks)

        large: list[tuple[ShardClient, Found]] = []
        for shard, found in newest.values():
            if found.inline is not None:
                if found.part:
                    self._near.hint(shard.number, found.part)
                self._take(fresh, found, pickled.loads(found.inline), len(found.inline), loaded)
            else:
                large.append((shard, found))
        return await self._fetch(large, fresh, loaded), absent

    async def _fetch(
        self,
        large: Sequence[tuple[ShardClient, Found]],
        fresh: Callable[[], bool],
        loaded: dict[str, StoredValue],
    ) -> list[str]:
        """Read values from the object store; returns the keys of those that were lost there."""
        if not large:
            return []
        refs = [found.ref[0] for _, found in large]
        lists, dead = await self._objects.fetch(list(dict.fromkeys(refs)))
        lost: dict[ShardClient, list[str]] = {}
        for (shard, found), ref in zip(large, refs, strict=True):
            if ref in lists:
                self._take(fresh, found, lists[ref][found.place], None, loaded)
            elif ref in dead:
                lost.setdefault(shard, []).append(found.key)
        for shard, its in lost.items():
            await shard.call("lost", its)
        return [key for its in lost.values() for key in its]

    def _take(
        self,
        fresh: Callable[[], bool],
        found: Found,
        value: Any,
        size: int | None,
        loaded: dict[str, StoredValue],
    ) -> None:
        stored = stored_value(self._registries, found, value)
        if fresh():
            self._cache.put(stored, size_of(value) if size is None else size)
        loaded[found.key] = stored
        self._counts[READS_MEMORY if found.rank == OWN else READS_STORE] += 1


def _failure(error: type[AmberError], key: str, text: str) -> Failure:
    return Failure("system", error.__name__, text, "", key, "", error.status)
