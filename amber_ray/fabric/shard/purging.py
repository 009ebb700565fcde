"""Purges and compaction: what rewrites parts, over all shards of a store.

Only the first shard rewrites parts, one rewrite at a time. A purge is recorded before any of it is done, so
that one which was cut off is done again, and goes like this:

    first shard                              every shard, itself included
    note the purge in the store
    hold(token) ──────────────────────────→  begins no write; waits for those under way;
                ←───── keys that it has ───  tells what matches in its memory
    rewrite the parts
    settle(token, parts, keys) ───────────→  index and ledger follow; copies are called back; writes go on

A shard that dies in between has no memory left to purge. But a write that it had begun on a worker may still
be published, after the parts have been rewritten. So the rows of purges noted lately are dropped again from
whatever parts appear afterwards, at each start and every few seconds (`again`); a value that was made after
the purge stays.

Must not know: Ray, files, requests.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Callable, Collection, Iterable, Sequence

from amber_ray.core.model.naming import assets_of
from amber_ray.core.model.units import Unit
from amber_ray.core.planning.homes import Share
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import AVAILABLE
from amber_ray.errors import StoreError, Unavailable
from amber_ray.fabric.shard.context import ShardContext
from amber_ray.fabric.shard.listing import Listing
from amber_ray.fabric.shard.ports import CallFailed, NewPart, PartKeys, Rewritten
from amber_ray.fabric.shard.spill import Spiller
from amber_ray.store.part import share_of
from amber_ray.store.purge_log import About, Purge, ids_of

log = logging.getLogger("amber.purging")

HOLD_SECONDS = 300.0
"""How long a shard holds its writes off for a purge that says nothing more: its first shard has died."""
PEER_SECONDS = 120.0
"""How long another shard is waited for."""
PEER_PAUSE = 0.5


class Rewriter:
    """Purges and joins parts. The first shard alone calls `purge`, `again` and `compact`."""

    def __init__(self, context: ShardContext, listing: Listing, spiller: Spiller) -> None:
        self._context = context
        self._listing = listing
        self._spiller = spiller
        self._rewriting = asyncio.Lock()
        self._holds: dict[str, float] = {}
        self._settled: dict[str, float] = {}

    # --- the first shard

    async def purge(self, asset: About, feature: str | None, version: str | None) -> list[str]:
        """Forget what matches, in every shard and on disk; returns the keys that are gone.

        Raises `Unavailable` if a shard can't be reached, and `StoreError` if a part can't be rewritten now:
        then what could be done is done, and the purge is noted, so that the rest is done later at the latest.
        """
        purge = Purge(asset, feature, version, self._context.clock.unix())
        await self._context.parts.note_purge(purge)
        async with self._rewriting:
            return await self._purge(purge)

    async def _purge(self, purge: Purge) -> list[str]:
        token = self._context.process.new_id()
        gone: set[str] = set()
        rewritten: Sequence[Rewritten] = ()
        late: Sequence[str] = ()
        try:
            for keys in await self._everywhere("hold", lambda _: (token, purge)):
                gone.update(keys)
            rewritten, late = await self._context.parts.purge(purge, again=False)
            for one in rewritten:
                gone.update(one.dropped)
        finally:
            # After a failure too: what was rewritten is told, and writes go on.
            old, parts = _changes(rewritten)
            await self._settle_all(token, old, parts, sorted(gone), purged=True)
        if late:
            raise StoreError(
                f"{len(gone)} values were forgotten; {len(late)} parts of the store can't be rewritten now, "
                "ask again for the rest"
            )
        return sorted(gone)

    async def again(self, seconds: float = float("inf")) -> None:
        """Drop the rows of purges noted in the last `seconds` from parts that have appeared since."""
        oldest = self._context.clock.unix() - seconds
        async with self._rewriting:
            for purge in await self._context.parts.purges():
                if purge.at < oldest:
                    continue
                rewritten, _ = await self._context.parts.purge(purge, again=True)
                if rewritten:
                    # Their keys may have been made anew since, and be in newer parts: no key is gone by name.
                    log.warning("%d parts still had values that were purged", len(rewritten))
                    old, parts = _changes(rewritten)
                    await self._settle_all(self._context.process.new_id(), old, parts, [], purged=True)

    async def compact(self) -> None:
        """Join small parts, where a shard has gathered many of a feature."""
        context = self._context
        least = context.settings.compact_parts
        crowded = await self._everywhere("crowded", lambda _: (least,))
        for folder in sorted({folder for folders in crowded for folder in folders}):
            _, feature, version = folder.split("/")
            async with self._rewriting:
                old, new = await context.parts.compact(feature, version, least)
                if new is not None:
                    await self._settle_all(context.process.new_id(), old, [new], [], purged=False)
                    await context.parts.remove(old)

    async def _settle_all(
        self, token: str, old: Sequence[str], new: Sequence[NewPart], gone: Sequence[str], *, purged: bool
    ) -> None:
        """Have every shard `settle`; each is told of the keys that are its own."""
        shards = self._context.settings.shards

        def told(shard: int) -> tuple[object, ...]:
            its = [own for part in new if (own := part.of(Share(shard, shards))) is not None]
            return token, old, its, gone, purged

        await self._everywhere("settle", told)

    async def _everywhere(
        self, method: str, told: Callable[[int], tuple[object, ...]]
    ) -> list[Sequence[str]]:
        """Call a method of every shard's rewriter, with what each is told.

        Raises `Unavailable` if one can't be reached for long.
        """
        calls = [
            getattr(self, method)(*told(number))
            if number == self._context.shard
            else self._peer(number, f"{method}_writes", *told(number))
            for number in range(self._context.settings.shards)
        ]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]

    async def _peer(self, shard: int, method: str, *arguments: object) -> Sequence[str]:
        """Call another shard, and again while it restarts. These calls may be carried out twice."""
        give_up = self._context.clock.now() + PEER_SECONDS
        while True:
            try:
                keys: Sequence[str] = await self._context.ports.peers.call(shard, method, *arguments)
                return keys
            except CallFailed as failed:
                if self._context.clock.now() > give_up:
                    raise Unavailable(f"shard {shard} can't be reached: {failed}") from failed
                await asyncio.sleep(PEER_PAUSE)

    # --- every shard

    async def crowded(self, least: int) -> list[str]:
        """Return the folders in which this shard has so many parts of one writer, or more."""
        names = self._context.index.parts()
        groups = collections.Counter((name.rpartition("/")[0], share_of(name)) for name in names)
        return [folder for (folder, _), count in groups.items() if count >= least]

    async def hold(self, token: str, purge: Purge) -> list[str]:
        """Begin no write until `settle` is called; returns the keys in memory that match."""
        if token in self._settled:
            return []  # a call that was repeated, and is late
        self._holds[token] = self._context.clock.now()
        await self._spiller.hold(token)
        ids = ids_of(purge.asset)
        assets = None if ids is None else frozenset(ids)
        return [
            key
            for key, entry in self._context.ledger.entries.items()
            if (assets is None or _about(entry.step.unit, assets))
            and purge.feature in (None, entry.step.recipe.feature)
            and purge.version in (None, entry.step.recipe.version)
            and (entry.state in AVAILABLE or entry.failure is not None)
        ]

    async def settle(
        self,
        token: str,
        removed: Sequence[str],
        added: Iterable[PartKeys],
        gone: Sequence[str],
        purged: bool,
    ) -> list[str]:
        """Parts were rewritten: index and ledger follow, copies of values that are gone are called back.

        Done once for each token, however often it is called: by the second time values may have been made
        anew.
        """
        if token not in self._settled:
            self._settled[token] = self._context.clock.now()
            self._listing.rewritten(removed, added)
            if purged:
                self._context.index.remove(gone)
                self._context.changed(None)
                self._context.feed(ev.Purged(list(gone)))
            self._let_go(token)
        return []

    def _let_go(self, token: str) -> None:
        if self._holds.pop(token, None) is not None:
            self._spiller.release(token)

    def sweep(self, now: float) -> None:
        """Let writes go on that a purge holds off whose first shard has died; `again` repeats that purge."""
        for token, since in list(self._holds.items()):
            if now - since > HOLD_SECONDS:
                log.warning("a purge was not ended within %g s; values are written again", HOLD_SECONDS)
                self._let_go(token)
        for token, since in list(self._settled.items()):
            if now - since > HOLD_SECONDS:
                del self._settled[token]


def _changes(rewritten: Sequence[Rewritten]) -> tuple[list[str], list[NewPart]]:
    """The parts that are gone, and those that are new."""
    return [one.old for one in rewritten], [one.new for one in rewritten if one.new is not None]


def _about(unit: Unit, assets: Collection[str]) -> bool:
    """Whether a unit is of one of these assets, or a collection that one is in."""
    return any(a.id in assets for a in assets_of(unit))
