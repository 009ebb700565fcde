"""Values that an engine reads from the store itself: no shard is asked where they are.

Parts never change, so what is in a row of a part is known for good; which row counts is the shard's to say.
It is asked about a part once several values were read back from it, and tells the keys that it owns there
(`PartRows`). To read a value later is then what it would be to have been told the value itself at that time:
this knowledge is a copy like any (`cache`). It goes when the shard says that values were made anew or purged,
when it starts over, and when it is not heard; and what was read across such news is not given to anybody.

    answer: "read back from part P" ── the second time ──→ shard: which keys of P count ──→ places
    a question about those keys ──→ places ──→ read P here ──→ nothing was called back meanwhile: answer
                                                   └── P is gone, damaged, slow, or values changed: shard

A part that was joined to others or purged is gone, and a damaged one is left to its shard, which meets it as
soon as it is asked; neither is looked at here again. Only small values that no feature's code is needed for
are read, and only from a disk of this machine: anything else takes longer than the question to the shard.

Must not know: requests, files.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Sequence

from amber_ray.errors import AmberError
from amber_ray.fabric.engine.ports import Parts, Spawn
from amber_ray.fabric.engine.shard_client import ShardClient
from amber_ray.fabric.transport.messages import PartRows, StepResult, Wanted
from amber_ray.store.key_index import KeyIndex

log = logging.getLogger("amber.near")

HINTS = 2
"""How often values are read back from a part before the shard is asked about all of it."""
FEW = 8
"""Most values that are read here for one question."""
KEYS = 1 << 20
"""Keys whose places are known at most, 24 bytes each; the part that was learned first goes first."""
NAMED = 4096
"""Parts that are remembered though nothing is known of them."""
READ_SECONDS = 5.0
"""Longest wait for a read before the shard is asked after all."""
PAUSE_SECONDS = 60.0
"""How long nothing is read here after that: each read of a disk that hangs holds a thread."""


class NearValues:
    """What one engine knows of where values are stored; `parts` is None where it can't read them."""

    def __init__(self, parts: Parts | None, shards: Sequence[ShardClient], spawn: Spawn) -> None:
        self._parts = parts
        self._shards = shards
        self._spawn = spawn
        self._index = KeyIndex()
        self._known: dict[str, int] = {}
        self._hints: Counter[str] = Counter()
        self._closed: set[str] = set()
        self._changes = 0
        self._paused_until = float("-inf")

    # --- what shards say

    def hint(self, shard: int, part: str) -> None:
        """A shard has read a value back from a part."""
        if self._parts is None or part in self._known or part in self._closed:
            return
        if len(self._hints) + len(self._closed) > NAMED:
            self._hints.clear()
            self._closed.clear()
        self._hints[part] += 1
        if self._hints[part] == HINTS:
            self._spawn(self._learn(shard, part))

    async def _learn(self, shard: int, part: str) -> None:
        """Ask which keys of a part count.

        Among them may be what was called back meanwhile, so then nothing is learned; what is called back
        later is forgotten then.
        """
        changes = self._changes
        try:
            told: PartRows | None = await self._shards[shard].call("rows_of", part)
        except AmberError as error:
            log.info("shard %d does not tell what part %s has: %s", shard, part, error)
            return
        finally:
            self._hints.pop(part, None)
        if changes != self._changes:
            return
        if told is None or not 0 < len(told.keys) <= KEYS or self._paused():
            self._closed.add(part)
            return
        while self._known and sum(self._known.values()) + len(told.keys) > KEYS:
            self._drop(next(iter(self._known)))
        self._known[part] = len(told.keys)
        self._index.add(part, told.keys, told.rows)

    def forget(self, keys: Collection[str]) -> None:
        """These values were purged, or are made anew."""
        self._changes += 1
        self._index.remove(keys)

    def clear(self) -> None:
        """Nothing that is known may be true any more."""
        self._changes += 1
        self._index = KeyIndex()
        self._known.clear()
        self._hints.clear()

    def _paused(self) -> bool:
        return asyncio.get_running_loop().time() < self._paused_until

    def _drop(self, part: str) -> None:
        self._known.pop(part, None)
        self._index.remove_part(part)

    # --- reading

    def has(self, keys: Collection[str]) -> bool:
        """Whether it is known where all of these few values are."""
        return 0 < len(keys) <= FEW and not self._paused() and all(key in self._index for key in keys)

    async def read(self, keys: Sequence[str]) -> dict[str, tuple[str, StepResult]] | None:
        """Values and the parts that they are in, by key; None if the shards have to be asked."""
        changes = self._changes
        wanted: dict[str, list[tuple[int, str]]] = {}
        for key in keys:
            place = self._index.find(key)
            if place is None:
                return None
            wanted.setdefault(place[0], []).append((place[1], key))
        found = await self._read(wanted)
        return found if changes == self._changes else None

    async def _read(self, wanted: Wanted) -> dict[str, tuple[str, StepResult]] | None:
        assert self._parts is not None
        try:
            async with asyncio.timeout(READ_SECONDS):
                report = await self._parts.read(wanted)
        except TimeoutError:
            log.warning("parts can't be read here within %g s: %s", READ_SECONDS, ", ".join(wanted))
            self._paused_until = asyncio.get_running_loop().time() + PAUSE_SECONDS
            report = None
        if report is None:  # slow, or some values are not small
            bad: Collection[str] = wanted
        else:
            bad = {*report.damaged, *report.vanished, *report.unreadable}
        for part in bad:
            self._drop(part)
        self._closed.update(bad)
        if report is None or bad:
            return None
        part_of = {key: part for part, pairs in wanted.items() for _, key in pairs}
        return {result.key: (part_of[result.key], result) for result in report.results}
