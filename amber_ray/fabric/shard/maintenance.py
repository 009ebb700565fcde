"""What a shard does every few seconds beside its work: lease, capacity, idle actors, records, compaction.

Part of the cache actor's shell (`fabric.shard.actor`), on its event loop. Each duty stands for itself: one
that fails, because the head node or the store can't be reached for a while, is told to the log and tried
again, and keeps none of the others from its turn. Only the loss of the lease is final. Must not know: values,
plans.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray

from amber_ray.core.state import events as ev
from amber_ray.errors import StoreBusy
from amber_ray.store.lease import Lease

if TYPE_CHECKING:
    from amber_ray.fabric.shard.actor import CacheActor

log = logging.getLogger("amber.upkeep")

LOST_LEASE = 71
"""Exit code of a process whose store has become another server's."""


@dataclass(slots=True)
class PeriodicTask:
    """Something to be done every so many seconds; `failing`: its last turn went wrong, and that was said."""

    name: str
    seconds: float
    do: Callable[[], Awaitable[None]]
    failing: bool = False


class Upkeep:
    """The duties of one shard. `name`s complete the sentence "could not ..."."""

    def __init__(self, actor: CacheActor, lease: Lease, compact: Callable[[], Awaitable[None]]) -> None:
        self._actor = actor
        self._lease = lease
        self._stopped = False
        self._duties = [
            PeriodicTask("learn what the cluster has", 3.0, self.learn_capacity),
            PeriodicTask("forget what is over", 1.0, self._tidy),
            PeriodicTask("list parts that could not be read", 10.0, actor.listing.catch_up),
        ]
        if actor.shard == 0:
            self._duties += [
                PeriodicTask("join small parts", 30.0, compact),
                PeriodicTask("forget old requests", 3600.0, actor.desk.sweep_journal),
            ]
        self._holding = False

    def stop(self) -> None:
        """No more turns."""
        self._stopped = True

    async def take_store(self, owner: str) -> None:
        """Take the lease, and renew it from now on; calling twice is calling once. Raises `StoreBusy`."""
        await asyncio.to_thread(self._lease.acquire, owner)
        if not self._holding:
            self._holding = True
            self._actor.spawn(self._repeat(PeriodicTask("renew the lease of the store", 1.0, self._renew)))

    async def run(self) -> None:
        """All duties side by side: one that hangs while the head node is away keeps no other waiting."""
        await asyncio.gather(*map(self._repeat, self._duties))

    async def _repeat(self, duty: PeriodicTask) -> None:
        while not self._stopped:
            await asyncio.sleep(duty.seconds)
            if not self._stopped:
                await self._do(duty)

    async def _do(self, duty: PeriodicTask) -> None:
        try:
            await duty.do()
        except StoreBusy as error:
            # This process ends; the one that Ray starts in its place finds the store taken, and says so.
            log.critical("shard %d ends: %s", self._actor.shard, error)
            os._exit(LOST_LEASE)
        except Exception as error:
            if not duty.failing:
                log.error("could not %s, and will try again: %s", duty.name, error, exc_info=error)
            duty.failing = True
        else:
            if duty.failing:
                log.warning("could %s again", duty.name)
            duty.failing = False

    # --- the duties

    async def learn_capacity(self) -> None:
        """Tell the ledger and the pools what the nodes have."""
        actor = self._actor
        nodes = await asyncio.to_thread(ray.nodes)
        alive = [n["Resources"] for n in nodes if n["Alive"]]
        total: dict[str, float] = {}
        for node in alive:
            for name, amount in node.items():
                total[name] = total.get(name, 0.0) + amount
        actor.dispatch.pools.set_total(total)
        actor.feed(ev.Capacity(alive, actor.settings.attainable))

    async def _tidy(self) -> None:
        now = time.monotonic()
        self._actor.dispatch.pools.retire_idle(now)
        self._actor.desk.sweep(now)

    async def _renew(self) -> None:
        await asyncio.to_thread(self._lease.renew, time.time())
