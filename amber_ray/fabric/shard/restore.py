"""Rows of parts, read beside the object store: at most once at a time, and patiently.

Part of the cache actor's shell (`fabric.shard.actor`). What the store can't give for the time being is told
apart from what is gone: only the latter may be computed again. Must not know: the ledger.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import ray

from amber_ray.fabric.adapter import faults
from amber_ray.fabric.transport.messages import StepResult, Work
from amber_ray.fabric.transport.names import shard_name
from amber_ray.fabric.worker import store_tasks

if TYPE_CHECKING:
    from amber_ray.fabric.shard.actor import CacheActor

log = logging.getLogger("amber.spill")

READ_SLOTS = 16
FEW = 8
"""Up to so many values are read in a thread of the actor, if they are small: see `storage.read_here`."""
READ_PAUSES = 0.2, 1.0, 4.0
"""Seconds before a read that the store could not serve is tried again. It is no reason to compute anew."""

Outcome: TypeAlias = tuple[StepResult, Any] | str | None
"""A value and the ref of its slot; why it can't be read now; None if it is not there any more."""


class RestoreReader:
    """Reads values of one shard's index."""

    def __init__(self, actor: CacheActor) -> None:
        self._actor = actor
        self._reading: dict[str, asyncio.Future[Outcome]] = {}
        # Made once: each new one of these sends the function to the head node again.
        self._read: Any = ray.remote(num_cpus=0, max_retries=1)(store_tasks.read)

    async def read(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """Read rows, each at most once at a time however many ask."""
        loop = asyncio.get_running_loop()
        mine = [key for key in dict.fromkeys(keys) if key not in self._reading]
        for key in mine:
            self._reading[key] = loop.create_future()
        waits = {key: self._reading[key] for key in dict.fromkeys(keys)}
        if mine:
            read: dict[str, Outcome] = dict.fromkeys(mine, "Amber failed to read it; its log tells more")
            try:
                read = await self._patiently(mine)
            except Exception:
                log.exception("%d values could not be read back", len(mine))
            finally:
                for key in mine:
                    self._reading.pop(key).set_result(read.get(key))
        return {key: await future for key, future in waits.items()}

    async def _patiently(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """Read rows, and again after a while those that are there and were not given."""
        read = await self._read_rows(keys)
        for pause in READ_PAUSES:
            late = [key for key, outcome in read.items() if isinstance(outcome, str)]
            if not late:
                break
            log.warning("%d values can't be read now: %s", len(late), read[late[0]])
            await asyncio.sleep(pause)
            for key in late:
                del read[key]
            read.update(await self._read_rows(late))
        return read

    async def _read_rows(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """One try; what is missing from the answer is in no part any more."""
        actor = self._actor
        read: dict[str, Outcome] = {}
        left = list(keys)
        # A second look: a part may have been rewritten or found damaged between the index and the read.
        for attempt in range(3):
            wanted: dict[str, list[tuple[int, str]]] = collections.defaultdict(list)
            for key, place in zip(left, actor.index.find_many(left), strict=True):
                if place is not None:
                    wanted[place[0]].append((place[1], key))
            if not wanted:
                break
            try:
                report, refs = await self._read_parts(wanted)
            except ray.exceptions.RayError as error:
                return read | dict.fromkeys(left, faults.translate(error).message)
            for part, reason in report.unreadable.items():
                read.update((key, reason) for _, key in wanted[part])
            for result in report.results:
                read[result.key] = result, refs[result.slot] if result.slot >= 0 else None
            left = [key for key in left if key not in read]
            for part, reason in report.damaged.items():
                log.error("part %s is damaged and was quarantined: %s", part, reason)
                actor.index.remove_part(part)
            if (report.vanished or report.damaged) and attempt == 0:
                await actor.listing.replace(report.vanished)
            elif report.vanished:
                for part in report.vanished:
                    actor.index.remove_part(part)
            if not left:
                break
        return read

    async def _read_parts(self, wanted: store_tasks.Wanted) -> tuple[store_tasks.ReadReport, Sequence[Any]]:
        actor = self._actor
        count = sum(map(len, wanted.values()))
        # A disk answers at once; an object store may keep a thread waiting that others need.
        if count <= FEW and actor.store.files.local:
            report = await asyncio.to_thread(
                store_tasks.read_here, actor.store, wanted, actor.settings.inline_bytes
            )
            if report is not None:
                return report, ()
        returns = max(1, min(count, READ_SLOTS))
        registry = next(reversed(actor.registries))
        work = Work(
            0,
            (),
            frozenset(),
            {},
            {},
            returns,
            actor.settings.inline_bytes,
            registry,
            actor.settings.namespace,
            shard_name(actor.shard),
        )
        function = self._read.options(num_returns=1 + returns)
        refs: Any = function.remote(actor.blob(registry), work, actor.settings.store, wanted)
        return await refs[0], refs[1:]
