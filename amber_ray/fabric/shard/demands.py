"""The desk of the first shard: which demands there are, how they stand, and which process sees to them.

    caller ─ keep, stop_keeping, demands ─→ desk ─ records ─→ store
    caller ─ notify ──────────────────────→ desk ─ places ──→ steward, as what its `tend` returns
    steward ─ tend (every second), note ──→ desk ─ states ──→ store

One steward is started while there are demands, under a name of its own. It says with each `tend` how they
stand; if it has not been heard for `SILENCE_SECONDS`, another one is started under another name, and whatever
the earlier one still says is refused. So no note of it can undo one of its successor's. What is changed is
changed under one lock, in the store first.

Events wait in memory, each place once and some thousands at most, and are handed to the steward once: one
that is lost is made good by the next sweep.

What a callback is told (`core.model.demand_news`) goes from the state to the deliveries in three writes:

    1  state, with its messages as `unsent`     the steward's note; a message is there if and only if it is
    2  each message as a delivery, by its id    twice is once; from here on it is sent (`deliveries`)
    3  state, without them

- Death before 1: nobody was told; the next sweep notes it, and tells.
- 1 fails, and was written all the same: its messages have no delivery, for 2 comes after a 1 that succeeded.
  The next 1 takes their ids with what is so by then.
- Death between 1 and 2, or 2 fails: `unsent` is on paper with ids and bytes; whoever comes next makes the
  deliveries. A call that tells the steward nothing has been carried out: what it notes again is no news.
- Death between 2 and 3, or 3 fails: 2 is done again, and finds the deliveries.
- A state is lost (damage, a demand said half way): its successor has another `life`, so no id comes back
  with other bytes.

Where a tenant may have no more deliveries, 1 is written without messages, and `untold` of the status says so:
no sweep waits for a receiver. All of it is tried again with each note, and every few seconds. Who says
a demand anew or stops it has the messages of the earlier one become deliveries first.

Must not know: how a demand becomes true, how a message is sent.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping, Sequence

from amber_ray.core.deliveries.record import Delivery
from amber_ray.core.model import demand_news
from amber_ray.core.model.demands import Demand, DemandState, DemandStatus, DemandView, Message, Noticed
from amber_ray.core.model.places import Cover
from amber_ray.core.model.stats import series
from amber_ray.errors import BadRequest, Overloaded, StoreError
from amber_ray.fabric.shard.context import ShardContext
from amber_ray.fabric.shard.deliveries import Deliveries, timestamp
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
TELL_SECONDS = 5.0
"""How often callbacks are tried that could not be told."""


class DemandDesk:
    """The demands of a store. Only the first shard has one."""

    def __init__(
        self, context: ShardContext, demands: Demands, stewards: Stewards, deliveries: Deliveries
    ) -> None:
        self._context = context
        self._demands = demands
        self._stewards = stewards
        self._deliveries = deliveries
        self._untold: dict[str, str] = {}
        self._tell_at = 0.0
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
        await self._tell_late()
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
                if before is not None:
                    await self._hand_over(demand.name)
                    if before[0].demand.prefixes == demand.prefixes:
                        state = DemandState(before[1].runs, before[1].by, before[1].since)
                await self._demands.write(record, state)
                self._records[demand.name] = record, state
                if before is not None:
                    self._untold.pop(before[0].id, None)
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
                    await self._hand_over(name)
                    await self._demands.remove(name)
                    record, _ = self._records.pop(name)
                    self._live.pop(record.id, None)
                    self._untold.pop(record.id, None)
                    self._news.set()
                self._done[id] = there
            return self._done[id]

    def views(self) -> list[DemandView]:
        """All demands, by name."""
        return [self._view(*self._records[name]) for name in sorted(self._records)]

    def _view(self, record: DemandRecord, state: DemandState) -> DemandView:
        noted = dataclasses.replace(state.status, running=0, sweeping=False)
        status = self._live.get(record.id, noted)
        untold = self._untold.get(record.id, "")
        return DemandView(record.demand, dataclasses.replace(status, untold=untold), record.made)

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
            for record, before in self._records.values():
                if record.id == id and steward == self._steward:
                    if number > self._numbers.get((steward, id), 0):
                        # What was told is this desk's to say: the steward has it as it was at its start.
                        state = state._replace(telling=before.telling)
                        await self._write(record, await self._with_news(record, state))
                        self._numbers[steward, id] = number
                        await self._tell(record.demand.name)
                    return True
        return False

    # --- what callbacks are told; all of it under the lock

    async def _with_news(self, record: DemandRecord, state: DemandState) -> DemandState:
        """A state with what there is to be told as messages, if there is room for them."""
        demand = record.demand
        if demand.callback is None:
            return state
        try:
            if due := demand_news.news(demand, state):
                await self._deliveries.room(demand.tenant, len(due))
        except (Overloaded, StoreError) as error:
            self._is_untold(record, error)
            return demand_news.untold(state)
        life, now = self._context.process.new_id(), timestamp(self._context.clock.unix())
        return demand_news.told(demand, state, life, now)

    async def _write(self, record: DemandRecord, state: DemandState) -> None:
        await self._demands.note(record, state)
        self._records[record.demand.name] = record, state

    async def _hand_over(self, name: str) -> None:
        """Make deliveries of messages that are none yet. Raises `StoreError`."""
        record, state = self._records[name]
        if not state.telling.unsent:
            return
        for message in state.telling.unsent:
            await self._deliveries.announce(self._delivery(record.demand, message))
        await self._write(record, state._replace(telling=state.telling._replace(unsent=())))

    def _delivery(self, demand: Demand, message: Message) -> Delivery:
        assert demand.callback is not None
        now, callback = self._context.clock.unix(), demand.callback
        made = Delivery(message.id, "", demand.tenant, callback.url, callback.on, now, demand=demand.name)
        return made.pending(message.type, message.body, now)

    async def _tell(self, name: str) -> None:
        """Hand over what is on paper; what can't be now is tried again."""
        record, _ = self._records[name]
        try:
            await self._hand_over(name)
        except StoreError as error:
            self._is_untold(record, error)
            return
        if not demand_news.news(record.demand, self._records[name][1]):
            self._untold.pop(record.id, None)

    async def _tell_late(self) -> None:
        """Try again what could not be told, and what an earlier life of this shard has left."""
        async with self._lock:
            now = self._context.clock.now()
            if self._closed or now < self._tell_at:
                return
            self._tell_at = now + TELL_SECONDS
            for name, (record, state) in list(self._records.items()):
                if record.demand.callback is None:
                    continue
                try:
                    if demand_news.news(record.demand, state):
                        fresh = await self._with_news(record, state)
                        if fresh != state:
                            await self._write(record, fresh)
                    await self._tell(name)
                except StoreError as error:
                    self._is_untold(record, error)

    def _is_untold(self, record: DemandRecord, error: Overloaded | StoreError) -> None:
        if self._untold.get(record.id) != str(error):
            log.warning("the callback of the demand %r is told later: %s", record.demand.name, error)
        self._untold[record.id] = str(error)
