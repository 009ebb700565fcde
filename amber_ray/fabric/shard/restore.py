"""Reads rows of parts, each at most once at a time, and again after a while if the store can't give them now.

What the store can't give for the time being is told apart from what is gone: only the latter may be computed
again. Must not know: the ledger, Ray, files.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from amber_ray.errors import AmberError
from amber_ray.fabric.shard.context import ShardContext
from amber_ray.fabric.shard.listing import Listing
from amber_ray.fabric.shard.ports import CallFailed, Ref
from amber_ray.fabric.transport.messages import ReadReport, StepResult, Wanted

log = logging.getLogger("amber.restore")

READ_SLOTS = 16
FEW = 8
"""Up to so many values are read in the shard's own process, if they are small."""
READ_PAUSES = 0.2, 1.0, 4.0
"""Seconds before a read that the store could not serve is tried again. It is no reason to compute anew."""
LOOKS = 3
"""How often keys are looked up again because their part was rewritten or damaged when it was read."""

OVERTAKEN = "its part was rewritten while it was read"
UNLISTED = "the part that it may be in can't be listed now"

Outcome: TypeAlias = tuple[StepResult, Ref] | str | None
"""A value and the object it is in; why it can't be read now; None if it is not there any more."""


@dataclass(slots=True)
class _Look:
    """Where rows were read. `unlisted`: parts that may have what is in none of those that are listed."""

    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    unlisted: set[str] = field(default_factory=set)


class RestoreReader:
    """Reads values of one shard's index."""

    def __init__(self, context: ShardContext, listing: Listing) -> None:
        self._context = context
        self._listing = listing
        self._reading: dict[str, asyncio.Future[Outcome]] = {}

    async def read(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """Read rows, each at most once at a time however many ask.

        Cancelling one reader cancels nobody else: the read goes on for those who joined it.
        """
        loop = asyncio.get_running_loop()
        mine = [key for key in dict.fromkeys(keys) if key not in self._reading]
        for key in mine:
            self._reading[key] = loop.create_future()
        waits = {key: self._reading[key] for key in dict.fromkeys(keys)}
        if mine:
            self._context.spawn(self._read({key: self._reading[key] for key in mine}))
        return {key: await asyncio.shield(future) for key, future in waits.items()}

    async def _read(self, futures: dict[str, asyncio.Future[Outcome]]) -> None:
        read: dict[str, Outcome] = dict.fromkeys(futures, "Amber failed to read it; its log tells more")
        try:
            read = await self._current(list(futures))
        except Exception:
            log.exception("%d values could not be read back", len(futures))
        finally:
            for key, future in futures.items():
                del self._reading[key]
                future.set_result(read.get(key))

    async def _current(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """Read rows, and again those that were overtaken: by the end the index has them elsewhere, or not.

        A newer value was written meanwhile, or a purge has dropped it: whoever joined the read late must not
        be told the value from before.
        """
        read: dict[str, Outcome] = {}
        left = list(keys)
        for _ in range(LOOKS):
            look = _Look()
            read.update(await self._patiently(left, look))
            now = self._context.index.find_many(left)
            left = [
                key
                for key, place in zip(left, now, strict=True)
                if place != look.places.get(key) and not isinstance(read.get(key), str)
            ]
            if not left:
                return read
            for key in left:
                read.pop(key, None)
        return read | dict.fromkeys(left, OVERTAKEN)

    async def _patiently(self, keys: Sequence[str], look: _Look) -> dict[str, Outcome]:
        """Read rows, and again after a while those that are there and were not given."""
        read = await self._read_rows(keys, look)
        for pause in READ_PAUSES:
            late = [key for key, outcome in read.items() if isinstance(outcome, str)]
            if not late:
                break
            log.warning("%d values can't be read now: %s", len(late), read[late[0]])
            await asyncio.sleep(pause)
            if look.unlisted:
                await self._listing.catch_up()
            for key in late:
                del read[key]
            read.update(await self._read_rows(late, look))
        # One bad part must not keep a service down: what can't be listed for long may be computed again.
        return {key: outcome for key, outcome in read.items() if outcome != UNLISTED}

    async def _read_rows(self, keys: Sequence[str], look: _Look) -> dict[str, Outcome]:
        """One try; what is missing from the answer is in no part any more."""
        index = self._context.index
        read: dict[str, Outcome] = {}
        left = list(keys)
        # More than one look: a part may have been rewritten or found damaged between the index and the read.
        for _ in range(LOOKS):
            wanted: dict[str, list[tuple[int, str]]] = collections.defaultdict(list)
            for key, place in zip(left, index.find_many(left), strict=True):
                if place is not None:
                    wanted[place[0]].append((place[1], key))
                    look.places[key] = place
                else:
                    look.places.pop(key, None)
            if not wanted:
                break
            try:
                report, refs = await self._read_parts(wanted)
                for part, reason in report.unreadable.items():
                    read.update((key, reason) for _, key in wanted[part])
                for result in report.results:
                    read[result.key] = result, refs[result.slot] if result.slot >= 0 else None
                left = [key for key in left if key not in read]
                for part, reason in report.damaged.items():
                    log.error("part %s is damaged and was quarantined: %s", part, reason)
                gone = [*report.vanished, *report.damaged]
                if gone:
                    # Their keys may be in other parts: in those that replaced them, or in older ones.
                    look.unlisted.update(await self._listing.replace(gone))
            except CallFailed as failed:
                return read | dict.fromkeys(left, failed.fault.message)
            except AmberError as error:
                return read | dict.fromkeys(left, str(error))
            if not left:
                return read
        look.unlisted.intersection_update(self._listing.late)
        for key, place in zip(left, index.find_many(left), strict=True):
            if place is not None:
                # Parts change faster than they are read: the keys are still in the index, so nothing is lost.
                read[key] = OVERTAKEN
            elif look.unlisted:
                read[key] = UNLISTED
        return read

    async def _read_parts(self, wanted: Wanted) -> tuple[ReadReport, Sequence[Ref]]:
        context = self._context
        count = sum(map(len, wanted.values()))
        inline_bytes = context.settings.inline_bytes
        # A disk answers at once; an object store may keep a thread waiting that others need.
        if count <= FEW and context.parts.local:
            report = await context.parts.read_here(wanted, inline_bytes)
            if report is not None:
                return report, ()
        newest = next(reversed(context.registries), None)
        if newest is None:
            raise AmberError("no engine has brought its code to this shard yet")
        return await context.parts.read(newest, wanted, max(1, min(count, READ_SLOTS)), inline_bytes)
