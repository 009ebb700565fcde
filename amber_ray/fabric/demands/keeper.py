"""Keeps one demand: sweep after sweep, whatever one of them meets.

A sweep that can't be made is told in the status, and the next one tries again. Must not know: what a sweep
does.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing

from amber_ray.core.model.demands import Demand, DemandState, DemandStatus
from amber_ray.errors import AmberError, Unavailable
from amber_ray.fabric.demands.ports import Ports
from amber_ray.fabric.demands.sweep import Superseded, Sweep
from amber_ray.store.demands import DemandRecord

log = logging.getLogger("amber.demands")

HASTE_SECONDS = 1.0
"""The shortest pause after a sweep that found files that still change."""
WATCH_AGAIN_SECONDS = 30.0
"""Before folders that can't be watched, or are not there, are tried again."""
RESTS = 4
"""How much longer than its listing the pause after a sweep is at least, whatever happens."""
PATIENCE = 3
"""Sweeps that can't read what was noted, one after the other, before it is given up and noted anew."""


class Keeper:
    """One demand. `by` says what is asked of each asset, as a digest; it raises for what can't be asked."""

    def __init__(
        self, ports: Ports, record: DemandRecord, state: DemandState, by: Callable[[Demand], str]
    ) -> None:
        self._ports = ports
        self.record = record
        self._state = state
        self._by = by
        self._sweep: Sweep | None = None
        self._failed = 0
        self._tidy = self._soon = False
        self._woken = asyncio.Event()
        self._unwatched = ""
        self._cover = record.demand.cover()

    @property
    def status(self) -> DemandStatus:
        """How the demand stands now."""
        status = self._state.status if self._sweep is None else self._sweep.status
        return dataclasses.replace(status, unwatched=self._unwatched)

    def happened(self, places: Sequence[str]) -> None:
        """Look at once: something has happened at these places, if they are this demand's."""
        if any(map(self._cover.has, places)):
            self._woken.set()

    async def run(self) -> None:
        """Sweep for ever; ends when somebody else keeps the demand."""
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch())
            await self._sweep_for_ever()
            watching.cancel()

    async def _watch(self) -> None:
        """Hear what the machine tells of its folders; where it can't, sweeps find the same later."""
        while True:
            try:
                async with aclosing(self._ports.watching.places(self.record.demand.prefixes)) as told:
                    async for places in told:
                        self._unwatched = ""
                        self.happened(places)
            except Unavailable as error:
                if str(error) != self._unwatched:
                    log.warning("the demand %r is not told of changes: %s", self.record.demand.name, error)
                self._unwatched = str(error)
            await asyncio.sleep(WATCH_AGAIN_SECONDS)

    async def _sweep_for_ever(self) -> None:
        clock = self._ports.clock
        while True:
            began = clock.now()
            self._woken.clear()
            try:
                await self._once()
            except Superseded:
                return
            except AmberError as error:
                self._failed += 1
                log.warning("the demand %r could not be swept: %s", self.record.demand.name, error)
                status = dataclasses.replace(self.status, sweeping=False, running=0, error=str(error))
                self._end(status)
            else:
                self._failed = 0
            await self._rest(began + self._pause() - clock.now())

    async def _rest(self, seconds: float) -> None:
        """Wait so long, or until something happened, but not so briefly that all would be listing."""
        least = max(0.0, min(seconds, RESTS * self._state.status.listing))
        await asyncio.sleep(least)
        try:
            async with asyncio.timeout(max(0.0, seconds - least)):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _once(self) -> None:
        name = self.record.demand.name
        if not self._tidy:
            await self._ports.listings.keep_only(name, self._state.runs)
            self._tidy = True
        if self._failed >= PATIENCE and self._state.runs:
            log.error("what was noted for the demand %r can't be read; all is looked at anew", name)
            self._state = self._state._replace(runs=())
        self._sweep = Sweep(self._ports, self.record, self._state, self._by(self.record.demand))
        await self._sweep.run()
        self._soon = self._sweep.soon
        self._end(self._sweep.state.status)

    def _end(self, status: DemandStatus) -> None:
        state = self._state if self._sweep is None else self._sweep.state
        self._state, self._sweep = state._replace(status=status), None

    def _pause(self) -> float:
        demand = self.record.demand
        if self._soon:
            return min(demand.every, max(demand.settle_seconds, HASTE_SECONDS))
        return demand.every
