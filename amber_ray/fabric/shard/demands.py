"""The desk of the first shard: which demands there are, how they stand, and which process sees to them.

    caller ─ keep, stop_keeping, demands ─→ desk ─ records ─→ store
    caller ─ notify ──────────────────────→ desk ─ places ──→ steward, as what its `tend` returns
    steward ─ tend (every second), note ──→ desk ─ states ──→ store

One steward is started while there are demands, under a name of its own. It says with each `tend` how they
stand; if it has not been heard for `SILENCE_SECONDS`, another one is started under another name, and whatever
the earlier one still says is refused. So no note of it can undo one of its successor's. What is changed is
changed under one lock, in the store first.

Events wait in memory, each place once and some thousands at most, and are handed to the steward once: one
that is lost is made good by the next sweep. Must not know: how a demand becomes true.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping, Sequence

from amber_ray.core.model.demands import Demand, DemandState, DemandStatus, DemandView, Noticed
from amber_ray.core.model.places import Cover
from amber_ray.core.model.stats import series
from amber_ray.errors import BadRequest
from amber_ray.fabric.shard.context import ShardContext
from amber_ray.fabric.shard.ports import Demands, Stewards
from amber_ray.fabric.transport.messages import Tended
from amber_ray.store.demands import DemandRecord

log = logging.getLogger("amber.demands")

SILENCE_SECONDS = 30.0
"""A steward that was not heard for so long is taken for dead. Ray starts one anew within a few seconds."""
MOST = 100
"""Demands of a store."""
WAITING = 10_000
"""Places that wait for the steward because of events."""


class DemandDesk:
    """The demands of a store. Only the first shard has one."""

    def __init__(self, context: ShardContext, demands: Demands, stewards: Stewards) -> None:
        self._context = context
        self._demands = demands
        self._stewards = stewards
        self._records: dict[str, tuple[DemandRecord, DemandState]] = {}
        self._live: dict[str, DemandStatus] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._lock = asyncio.Lock()
        self._done: dict[str, bool] = {}
        self._loaded = self._closed = False
        self._steward = ""
        self._heard = 0.0
        self._places: dict[str, None] = {}
        self._news = asyncio.Event()
        self._noticed = Noticed()

    async def load(self) -> None:
        """Read what there is, and have it seen to. Raises `StoreError`."""
        async with self._lock:
            if not self._loaded:
                found = await self._demands.read()
                self._records = {record.demand.name: (record, state) for record, state in found}
                self._loaded = True
        await self.watch()

    async def watch(self) -> None:
        """Have a steward while there are demands, and none else; done every few seconds."""
        async with self._lock:
            if self._closed:
                return
            if not self._records:
                if self._steward:
                    self._steward = ""
                    await self._stewards.stop()
                return
            now = self._context.clock.now()
            if self._steward and now - self._heard < SILENCE_SECONDS:
                return
            if self._steward:
                log.warning(
                    "whoever sees to the demands was not heard for %g s; it is replaced", SILENCE_SECONDS
                )
            self._steward, self._heard = self._context.process.new_id(), now
            await self._stewards.start(self._steward)

    async def close(self) -> None:
        """Have no steward any more: this shard is about to end."""
        async with self._lock:
            self._closed = True
            if self._steward:
                self._steward = ""
                await self._stewards.stop()

    # --- what callers ask

    async def keep(self, demand: Demand, id: str) -> DemandView:
        """Keep a demand, in place of one of its name; the same one changes nothing. Raises `StoreError`.

        What was noted for one of the same prefixes goes on to count: notes say by what they are true. `id`
        names this call: it may be carried out again, much later, and is to do nothing then.
        """
        demand.check()
        async with self._lock:
            if id in self._done:
                return self._now(demand)
            before = self._records.get(demand.name)
            if before is None and len(self._records) >= MOST:
                raise BadRequest(f"there are {MOST} demands, and no more are taken; stop one, or widen one")
            if before is None or before[0].demand != demand:
                record, state = DemandRecord(demand, id, self._context.clock.unix()), DemandState()
                if before is not None and before[0].demand.prefixes == demand.prefixes:
                    state = before[1]._replace(status=DemandStatus())
                await self._demands.write(record, state)
                self._records[demand.name] = record, state
            self._done[id] = True
            self._news.set()
        await self.watch()
        return self._now(demand)

    def _now(self, demand: Demand) -> DemandView:
        """How a demand that was said stands; it may have been stopped since."""
        found = self._records.get(demand.name)
        return DemandView(demand, DemandStatus(), 0.0) if found is None else self._view(*found)

    async def stop(self, name: str, id: str) -> bool:
        """Forget a demand; what is stored stays. False if there is none. `id` as of `keep`. `StoreError`."""
        async with self._lock:
            if id not in self._done:
                there = name in self._records
                if there:
                    await self._demands.remove(name)
                    record, _ = self._records.pop(name)
                    self._live.pop(record.id, None)
                    self._news.set()
                self._done[id] = there
            return self._done[id]

    def views(self) -> list[DemandView]:
        """All demands, by name."""
        return [self._view(*self._records[name]) for name in sorted(self._records)]

    def _view(self, record: DemandRecord, state: DemandState) -> DemandView:
        noted = dataclasses.replace(state.status, running=0, sweeping=False)
        return DemandView(record.demand, self._live.get(record.id, noted), record.made)

    def notify(self, places: Sequence[str], tenant: str | None) -> Noticed:
        """Have the steward look at places, those that a demand covers: of a tenant, or of any."""
        demands = [r.demand for r, _ in self._records.values() if tenant in (None, r.demand.tenant)]
        cover = Cover(prefix for demand in demands for prefix in demand.prefixes)
        taken = uncovered = dropped = 0
        for place in places:
            if not cover.has(place):
                uncovered += 1
            elif place in self._places:
                taken += 1
            elif len(self._places) >= WAITING:
                dropped += 1
            else:
                self._places[place] = None
                taken += 1
        if taken:
            self._news.set()
        noticed = Noticed(taken, uncovered, dropped)
        self._noticed = Noticed(*(a + b for a, b in zip(self._noticed, noticed, strict=True)))
        return noticed

    def stats(self) -> dict[str, float]:
        """Counters of events, by what became of them."""
        return {
            series("events_total", outcome=name): float(n) for name, n in self._noticed._asdict().items()
        } | {"events_waiting": float(len(self._places))}

    # --- what the steward says

    async def tend(self, steward: str, live: Mapping[str, DemandStatus], wait: float) -> Tended | None:
        """How demands stand; returns all there are, and where something happened since the last time.

        With nothing new that is after `wait` seconds. None: the steward is not the present one.
        """
        if steward != self._steward:
            return None
        self._heard = self._context.clock.now()
        self._live = dict(live)
        try:
            async with asyncio.timeout(wait):
                await self._news.wait()
        except TimeoutError:
            pass
        if steward != self._steward:
            return None
        self._news.clear()
        places, self._places = tuple(self._places), {}
        return Tended(tuple(self._records.values()), places)

    async def note(self, steward: str, id: str, number: int, state: DemandState) -> bool:
        """Keep how a demand stands. False, if another steward or another demand has taken its place.

        A steward numbers what it says of a demand: what is carried out late, or once more, does nothing.
        """
        async with self._lock:
            for record, _ in self._records.values():
                if record.id == id and steward == self._steward:
                    if number > self._numbers.get((steward, id), 0):
                        await self._demands.note(record, state)
                        self._records[record.demand.name] = record, state
                        self._numbers[steward, id] = number
                    return True
        return False
