"""Keeps one demand: sweep after sweep, whatever one of them meets, and glances at events in between.

    event ──→ waiting places, each with the time from which it may be looked at
                │ due
                ├─ a listing takes long: a glance at these places alone
                └─ it does not, or only a whole look can tell: the next sweep, at once

A sweep that can't be made is told in the status, and the next one tries again. While one goes on events wait,
and are looked at when it has ended. Must not know: what a sweep does.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence

from amber_ray.core.model.audit import Actor, acting
from amber_ray.core.model.demands import Demand, DemandState, DemandStatus
from amber_ray.errors import AmberError, Unavailable
from amber_ray.fabric.demands.ports import Ports
from amber_ray.fabric.demands.sweep import Superseded, Sweep, Untrue
from amber_ray.store.demands import DemandRecord

log = logging.getLogger("amber.demands")

HASTE_SECONDS, LEAST_SECONDS = 1.0, 0.1
"""The pause after a sweep that lost values, and before a file that still changes is looked at again."""
WATCH_AGAIN_SECONDS = 30.0
"""Before folders that can't be watched, or are not there, are tried again."""
QUICK_SECONDS = 0.25
"""A listing that takes no longer is made at once for whatever happened."""
RESTS = 4
"""How much longer than its listing the pause after a sweep is at least, whatever happens."""
WAITING, AT_ONCE = 10_000, 256
"""Places that wait because something happened there, and those that are looked at by one glance."""
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
        self._waiting: dict[str, float] = {}
        self._whole = False
        self._untrue: Mapping[str, Untrue] = {}
        self._unwatched = ""
        self._cover = record.demand.cover()

    @property
    def status(self) -> DemandStatus:
        """How the demand stands now."""
        status = self._state.status if self._sweep is None else self._sweep.status
        return dataclasses.replace(status, unwatched=self._unwatched)

    def happened(self, places: Sequence[str]) -> None:
        """Look at once: something has happened at these places, of which some may be this demand's."""
        now = self._ports.clock.now()
        for place in filter(self._cover.has, places):
            self._wait(place, now)
            self._woken.set()

    def _wait(self, place: str, until: float) -> None:
        if place in self._waiting or len(self._waiting) < WAITING:
            self._waiting[place] = min(until, self._waiting.get(place, until))
        else:
            self._whole = True

    async def run(self) -> None:
        """Sweep for ever; ends when somebody else keeps the demand."""
        demand = self.record.demand
        with acting(Actor(f"the demand {demand.name!r}", demand.tenant)):
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch())
                with contextlib.suppress(Superseded):  # a sweep is told so, or a glance
                    await self._sweep_for_ever()
                watching.cancel()

    async def _watch(self) -> None:
        """Hear what the machine tells of its folders; where it can't, sweeps find the same later."""
        while True:
            try:
                async with contextlib.aclosing(
                    self._ports.watching.places(self.record.demand.prefixes)
                ) as told:
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
            self._waiting.clear()
            self._whole = False
            try:
                await self._once()
            except AmberError as error:
                self._failed += 1
                log.warning("the demand %r could not be swept: %s", self.record.demand.name, error)
                status = dataclasses.replace(self.status, sweeping=False, running=0, error=str(error))
                self._end(status)
            else:
                self._failed = 0
            await self._rest(began + self._pause())

    async def _rest(self, until: float) -> None:
        """Glance at what happens, until it is time for a sweep: then, or when only a sweep can tell."""
        clock, listing = self._ports.clock, self._state.status.listing
        earliest = min(until, clock.now() + RESTS * listing)
        while (now := clock.now()) < until:
            due = [place for place, when in self._waiting.items() if when <= now][:AT_ONCE]
            if due and not self._whole and listing > QUICK_SECONDS:
                self._whole = not await self._glance(due)
                continue
            self._whole = self._whole or bool(due)
            if self._whole and now >= earliest:
                return
            times = [until, earliest] if self._whole else [until, *self._waiting.values()]
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(t for t in times if t > now) - now)):
                    await self._woken.wait()

    async def _glance(self, places: Sequence[str]) -> bool:
        """Look at some places alone. False if only a sweep can tell what is there."""
        for place in places:
            del self._waiting[place]
        try:
            by = self._by(self.record.demand)
            self._sweep = Sweep(self._ports, self.record, self._state, by, self._untrue)
            told = await self._sweep.glance(places)
        except AmberError as error:
            log.warning("a glance for the demand %r failed: %s", self.record.demand.name, error)
            told = False
        if self._sweep is not None:
            self._took(self._sweep)
            self._end(self._sweep.state.status)
        return told

    def _took(self, sweep: Sweep) -> None:
        """Remember what is not true yet, and look again at files when they may have settled."""
        self._untrue, self._soon = sweep.untrue, sweep.soon
        again = self._ports.clock.now() + max(self.record.demand.settle_seconds, LEAST_SECONDS)
        for uri in sweep.settling:
            self._wait(uri, again)

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
        self._took(self._sweep)
        self._end(self._sweep.state.status)

    def _end(self, status: DemandStatus) -> None:
        state = self._state if self._sweep is None else self._sweep.state
        self._state, self._sweep = state._replace(status=status), None

    def _pause(self) -> float:
        demand = self.record.demand
        if self._soon:
            return min(demand.every, HASTE_SECONDS)
        return demand.every
