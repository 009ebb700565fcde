"""Follows all demands of a store: starts a keeper for each, and ends those of demands that are no more.

It asks the desk what is wanted and where something happened, and says how demands stand: twice a second,
and as soon as there is news of either. Must not know: what a keeper does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from amber_ray.core.model.demands import Demand, DemandState, DemandStatus
from amber_ray.errors import AmberError
from amber_ray.fabric.demands.keeper import Keeper
from amber_ray.fabric.demands.ports import Ports
from amber_ray.settings import Settings
from amber_ray.store.demands import DemandRecord

log = logging.getLogger("amber.demands")

TEND_SECONDS, NEWS_SECONDS = 0.5, 0.2
"""Between two words to the desk, and while demands stand otherwise each time."""


def remembering_nothing(settings: Settings) -> Settings:
    """The settings of a steward's engine, which answers nothing from its own memory.

    What it had heard in a life of a shard that ended before the value was stored is right, and is nowhere:
    an engine may answer it again, and a steward may not note it.
    """
    return settings.replace(replica_cache_bytes=0)


class Steward:
    """`by` says what a demand asks of each asset, as a digest."""

    def __init__(self, ports: Ports, by: Callable[[Demand], str]) -> None:
        self._ports = ports
        self._by = by
        self._keepers: dict[str, tuple[Keeper, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Go on until another steward has been named. What a keeper did not expect is raised."""
        said: Mapping[str, DemandStatus] = {}
        try:
            while True:
                live = {id: keeper.status for id, (keeper, _) in self._keepers.items()}
                wait, said = TEND_SECONDS if live == said else NEWS_SECONDS, live
                try:
                    told = await self._ports.desk.tend(live, wait)
                except AmberError as error:
                    log.warning("the demands can't be asked for now: %s", error)
                    await asyncio.sleep(TEND_SECONDS)
                else:
                    if told is None:
                        return
                    await self._follow(told.demands)
                    for keeper, _ in self._keepers.values():
                        keeper.happened(told.places)
        finally:
            await self._end(list(self._keepers))

    async def _follow(self, told: Sequence[tuple[DemandRecord, DemandState]]) -> None:
        for _, task in self._keepers.values():
            if task.done():
                task.result()
        await self._end([id for id in self._keepers if id not in {record.id for record, _ in told}])
        for record, state in told:
            if record.id not in self._keepers:
                keeper = Keeper(self._ports, record, state, self._by)
                self._keepers[record.id] = keeper, asyncio.create_task(keeper.run())

    async def _end(self, ids: Sequence[str]) -> None:
        """A demand is waited for no more before another one of its name begins: both would write its runs."""
        tasks = [self._keepers.pop(id)[1] for id in ids]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
