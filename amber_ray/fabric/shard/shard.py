"""One shard: the shell around its ledger.

It turns calls, task ends and time into events, performs the commands that come back, and holds the handles of
the values in memory. It submits every task itself, because the submitter owns the results and a result dies
with its owner. It never touches a large value: those go from worker to object store to reader.

Everything runs on one event loop, so between two `await`s nothing else happens: the ledger needs no lock.

    engine ──submit, poll, get──→ Shard ──events──→ Ledger
                                    │  ←─commands──
      ┌───────────┬─────────────┬───┴───────┬────────────┬──────────────┐
    requests   dispatch ──── actor_pools   spill ───── restore       purging
    (answers)     └── forwarding            └── listing ──┘        maintenance
        └── deliveries, demands, audit (of the first shard)

Must not know: Ray, threads, files, engines.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from amber_ray.core.declare.registry import Registry
from amber_ray.core.ledger.ledger import Ledger, shown
from amber_ray.core.model import asked
from amber_ray.core.model.audit import AuditFilter, AuditLine, LinePlace
from amber_ray.core.model.callback import DeliveryState, DeliveryView
from amber_ray.core.model.demand_stats import demand_stats
from amber_ray.core.model.demands import Demand, DemandState, DemandStatus, DemandView, Noticed
from amber_ray.core.model.kept import Kept, StoredVersion, joined
from amber_ray.core.model.pages import Told, first, together
from amber_ray.core.model.provenance import Place, ValueInfo, merged
from amber_ray.core.model.request import Failure
from amber_ray.core.planning.fanout import Windows
from amber_ray.core.scheduler.costs import Means
from amber_ray.core.state import events as ev
from amber_ray.errors import Unavailable
from amber_ray.fabric.shard import forwarding, inspection
from amber_ray.fabric.shard.audit import AuditDesk
from amber_ray.fabric.shard.context import ShardContext
from amber_ray.fabric.shard.deliveries import LOOK_SECONDS, Deliveries
from amber_ray.fabric.shard.demands import DemandDesk
from amber_ray.fabric.shard.dispatch import Dispatcher
from amber_ray.fabric.shard.listing import Listing
from amber_ray.fabric.shard.maintenance import Maintenance, PeriodicTask
from amber_ray.fabric.shard.plan_cache import PlanCache
from amber_ray.fabric.shard.ports import PartKeys, Ports
from amber_ray.fabric.shard.purging import Rewriter
from amber_ray.fabric.shard.requests import BROKEN, RequestTable
from amber_ray.fabric.shard.restore import RestoreReader
from amber_ray.fabric.shard.spill import Spiller
from amber_ray.fabric.shard.store_size import StoreSize
from amber_ray.fabric.transport.messages import (
    NO_COUNTS,
    Counts,
    Foreseen,
    Found,
    Hello,
    MissingPlans,
    PartRows,
    PlanPart,
    Promise,
    Reply,
    Standing,
    Submission,
    Tended,
    Updates,
    Values,
)
from amber_ray.settings import Settings
from amber_ray.store.key_index import KeyIndex
from amber_ray.store.purge_log import About, Purge

log = logging.getLogger("amber.shard")

STRAGGLER_SECONDS = 300.0
"""How long a write may go on whose shard has died: its worker is ended by then."""

START_LOOK = 1.0
"""How long a question how the shard is doing may wait for a start, which may say why it fails."""
STORED_SECONDS, STORED_LOOK = 30.0, 0.05
"""How long a question whether values are stored may wait, and how often it looks."""

Code = Callable[[], Coroutine[Any, Any, tuple[Registry, bytes]]]
"""Loads the registry that settings name, with its code as a blob."""


class Shard:
    """One shard of a service. Its coroutines are what engines and other shards call.

    `context` is its state, for those who inspect it.
    """

    def __init__(self, settings: Settings, shard: int, ports: Ports, code: Code) -> None:
        index = KeyIndex()
        self._code = code
        self._registry: Registry | None = None
        self._ports = ports
        self.context = context = ShardContext(
            settings=settings,
            shard=shard,
            incarnation=ports.process.new_id(),
            ports=ports,
            index=index,
            ledger=Ledger(settings, index, shard=shard),
            feed=self._feed,
            spawn=self._spawn,
            changed=self._changed,
        )
        self._ledger = context.ledger
        self._plans = PlanCache()
        self._listing = Listing(index, ports.parts)
        self._reader = RestoreReader(context, self._listing)
        self._spiller = Spiller(context, self._listing, self._reader)
        self._rewriter = Rewriter(context, self._listing, self._spiller)
        self._dispatcher = Dispatcher(context)
        self._requests = RequestTable(context)
        self._deliveries = Deliveries(context, self._requests)
        self._size = StoreSize(context)
        self._desk: DemandDesk | None = None
        if shard == 0 and ports.demands is not None and ports.stewards is not None:
            self._desk = DemandDesk(context, ports.demands, ports.stewards, self._deliveries)
        self._audit: AuditDesk | None = None
        if shard == 0 and ports.audit is not None:
            self._audit = AuditDesk(ports.audit, ports.clock)
        self._background: set[asyncio.Task[None]] = set()
        self._poke = asyncio.Event()
        self._started: asyncio.Task[None] | None = None
        self._upkeep = Maintenance(self._periodic(), ports.process)
        self._lease_upkeep: Maintenance | None = None
        self._closing = False

    def _periodic(self) -> list[PeriodicTask]:
        rewriter, requests = self._rewriter, self._requests
        tasks = [
            PeriodicTask("learn what the cluster has", 3.0, self._learn_capacity, vital=True),
            PeriodicTask("forget what is over", 1.0, self._tidy),
            PeriodicTask("list parts that could not be read", 10.0, self._listing.catch_up, vital=True),
            PeriodicTask("note the keys of new parts", 600.0, self._ports.parts.note, soon=True),
        ]
        if self.context.shard == 0:
            tasks += [
                PeriodicTask("join small parts", 30.0, rewriter.compact),
                PeriodicTask("join the records of assets", 30.0, self._ports.assets.tidy, soon=True),
                PeriodicTask("drop what was purged", 10.0, lambda: rewriter.again(STRAGGLER_SECONDS)),
                PeriodicTask("forget old requests", 3600.0, requests.sweep_journal),
                PeriodicTask("look after deliveries", LOOK_SECONDS, self._deliveries.look),
            ]
        if self._audit is not None:
            tasks += [
                PeriodicTask("write what the audit log lacks", 5.0, self._audit.flush),
                PeriodicTask("tidy the audit log", 60.0, self._audit.tidy),
            ]
        if self._desk is not None:
            tasks.append(PeriodicTask("have the demands seen to", 5.0, self._desk.load, soon=True))
        return tasks

    # --- life

    async def hello(self) -> Hello:
        """Bring the shard up if it is not, and introduce it. Raises `StoreBusy` if the store is another's."""
        await self._up()
        context = self.context
        return Hello(
            context.shard,
            context.incarnation,
            context.settings.to_json(),
            frozenset(context.registries),
            len(context.index),
        )

    async def _up(self) -> None:
        """Every call that needs the index or the ledger begins here; only the first one waits.

        A start that failed, because the store can't be reached say, is tried again by the next call.
        """
        started = self._starting()
        if not started.done():
            await asyncio.shield(started)
        started.result()

    def _starting(self) -> asyncio.Task[None]:
        started = self._started
        if started is None or (started.done() and started.exception() is not None):
            started = self._started = asyncio.create_task(self._start())
        return started

    async def _start(self) -> None:
        context = self.context
        if context.shard == 0:
            await self._take_store()
        await self._listing.load()
        for (feature, version), means in (await context.parts.costs()).items():
            self._ledger.costs.preset(feature, version, means)
        if context.settings.shards > 1:
            await self._own_code()  # another shard may ask before any engine has brought its code here
        await self._learn_capacity()
        await self._requests.resume(self._own_code)
        self._spawn(self._clock())
        self._spawn(self._upkeep.run())
        if context.shard == 0:
            self._spawn(self._rewriter.again())

    async def _own_code(self) -> Registry:
        """The registry that settings name, published.

        Engines bring theirs, so it is loaded only where something begins without an engine: that takes most
        of a second, which the first caller would wait for.
        """
        if self._registry is None:
            self._registry, blob = await self._code()
            self._publish(self._registry.digest, blob)
        return self._registry

    async def _take_store(self) -> None:
        """Take the lease, and renew it from now on; calling twice is calling once. Raises `StoreBusy`."""
        lease = self._ports.lease
        await lease.acquire(f"the cluster of namespace {self.context.settings.namespace!r}")
        if self._lease_upkeep is None:
            renew = PeriodicTask("renew the lease of the store", 1.0, self._renew, vital=True)
            self._lease_upkeep = Maintenance([renew], self._ports.process)
            self._spawn(self._lease_upkeep.run())

    async def _renew(self) -> None:
        await self._ports.lease.renew(self.context.clock.unix())

    async def _learn_capacity(self) -> None:
        """Tell the ledger and the pools what the nodes have."""
        nodes = await self.context.cluster.nodes()
        total: dict[str, float] = {}
        for node in nodes:
            for name, amount in node.items():
                total[name] = total.get(name, 0.0) + amount
        self._dispatcher.pools.set_total(total)
        self._feed(ev.CapacityChanged(nodes, self.context.settings.attainable))

    async def _tidy(self) -> None:
        now = self.context.clock.now()
        self._dispatcher.pools.retire_idle(now)
        self._requests.sweep(now)
        self._rewriter.sweep(now)

    def _publish(self, digest: str, blob: bytes) -> None:
        if digest not in self.context.registries:
            self.context.cluster.publish(digest, blob)
            self.context.registries[digest] = blob

    async def publish(self, digest: str, blob: bytes) -> None:
        """An engine brings the code of its registry."""
        self._publish(digest, blob)

    async def code(self, digest: str) -> bytes | None:
        """The code of a registry that some engine brought, for an engine that a caller names it to."""
        return self.context.registries.get(digest)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something beside; an exception that nobody handled is logged, never lost."""
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a background task of shard %d failed", self.context.shard, exc_info=task.exception())

    async def _clock(self) -> None:
        """Feed a tick whenever the ledger's next alarm is due."""
        while not self._closing:
            self._poke.clear()
            pause = self._ledger.wake_at() - self.context.clock.now()
            if pause > 0:
                try:
                    async with asyncio.timeout(min(pause, 3600.0)):
                        await self._poke.wait()
                except TimeoutError:
                    pass
                else:
                    continue  # something new may be due earlier
            self._feed(ev.Tick())
            await asyncio.sleep(0)

    async def close(self, timeout: float) -> bool:
        """Write what is unwritten and let go of everything; True if all was written in time."""
        self._closing = True
        self._upkeep.stop()
        if self._desk is not None:
            await self._desk.close()
        if self._lease_upkeep is not None:
            self._lease_upkeep.stop()
        clock, ledger = self.context.clock, self._ledger
        deadline = clock.now() + timeout
        while ledger.unspilled or ledger.spilling:
            if clock.now() >= deadline:
                break
            ledger.settings = self.context.settings.replace(spill_bytes=0)
            self._feed(ev.Tick())
            await asyncio.sleep(0.01)
        self._dispatcher.pools.close()
        if self._audit is not None:
            await self._audit.flush()
        if self.context.shard == 0:
            self._ports.lease.release()
        return not (ledger.unspilled or ledger.spilling)

    async def end(self) -> None:
        """End what still runs beside, for a shard that is closed and whose process lives on."""
        for task in list(self._background):
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)

    # --- events in, commands out

    def _feed(self, event: ev.Event) -> None:
        """The one way into the ledger.

        An exception here is a fault of Amber, and the ledger can't be trusted any more: some caller might
        never be answered. So the process ends; it is started again, rebuilds itself from the store and the
        journal, and the engines bring back what else was under way.
        """
        try:
            self._perform(event)
        except Exception:
            log.critical(
                "shard %d can't go on after %s; it starts over",
                self.context.shard,
                shown(event),
                exc_info=True,
            )
            if self._started is not None and self._started.done():
                self._ports.process.end(BROKEN)
            raise  # It is still starting; `RequestTable.resume` sets the request aside that does this.

    def _perform(self, event: ev.Event) -> None:
        ledger = self._ledger
        before = ledger.wake_at()
        for command in ledger.handle(event, self.context.clock.now()):
            match command:
                case ev.Submit(task):
                    self._dispatcher.submit(task)
                case ev.Cancel(task_id):
                    self._dispatcher.cancel(task_id)
                case ev.Deliver(request, key, outcome):
                    self._requests.deliver(request, key, outcome)
                case ev.Expanded(request, key, units, keys):
                    self._requests.expanded(request, key, units, keys)
                case ev.Finished(request):
                    self._requests.finished(request)
                case ev.Spill(keys):
                    self._spiller.spill(keys)
                case ev.Restore(keys):
                    self._spiller.restore(keys)
                case ev.Drop(keys):
                    for key in keys:
                        self.context.values.pop(key, None)
        if ledger.wake_at() < before:
            self._poke.set()

    def _changed(self, keys: list[str] | None) -> None:
        """Values were purged or are made anew: nobody is to use a copy of the old ones any more."""
        self.context.changes += 1
        self._requests.tell_changed(keys)

    # --- what engines ask: requests

    async def submit(
        self, session: str, plans: Mapping[str, PlanPart], submissions: Sequence[Submission]
    ) -> list[Reply] | MissingPlans:
        """Take requests in; see `RequestTable.submit`. `plans` need not hold those that were sent before."""
        await self._up()
        complete = self._plans.complete(plans, (one.plan for one in submissions))
        if isinstance(complete, list):
            return MissingPlans(plans=complete)
        return await self._requests.submit(session, complete, submissions)

    async def accept(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        """Journal requests; see `RequestTable.accept`."""
        await self._up()
        await self._requests.accept(bodies)

    async def poll(
        self, session: str, stream: str, seen: int, timeout: float, counts: Counts = NO_COUNTS
    ) -> Updates:
        """A session's updates; see `RequestTable.poll`."""
        await self._up()
        return await self._requests.poll(session, stream, seen, timeout, counts)

    async def attach(self, session: str, id: str) -> Reply | None:
        """All about one request; see `RequestTable.attach`."""
        await self._up()
        return await self._requests.attach(session, id)

    async def progress(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """(done, total) steps; see `RequestTable.progress`."""
        return self._requests.progress(ids)

    async def standing(self, ids: Sequence[str], counted: Sequence[str]) -> dict[str, Standing]:
        """The first shard looks for requests that have ended; see `RequestTable.standing`."""
        await self._up()
        return await self._requests.standing(ids, counted)

    async def reserve_callback(self, request: str, tenant: str) -> None:
        """Hold room for a callback. Only the first shard is asked this; see `Deliveries.reserve`."""
        await self._up()
        await self._deliveries.reserve(request, tenant)

    async def release_callback(self, request: str) -> None:
        """Hold none any more. Only the first shard is asked this; see `Deliveries.release`."""
        await self._up()
        self._deliveries.release(request)

    async def promise(self, promise: Promise) -> None:
        """Keep that a request's end is to be told. Only the first shard is asked this; see `Deliveries`."""
        await self._up()
        await self._deliveries.promise(promise)

    async def deliveries(self, state: DeliveryState | None, tenant: str | None) -> list[DeliveryView]:
        """The newest deliveries. Only the first shard is asked this; see `Deliveries.views`."""
        await self._up()
        return await self._deliveries.views(state, tenant)

    async def replay(self, id: str, tenant: str | None) -> DeliveryView:
        """Send a message again. Only the first shard is asked this; see `Deliveries.replay`."""
        await self._up()
        return await self._deliveries.replay(id, tenant)

    async def withdraw(self, session: str, attempts: Mapping[str, int]) -> None:
        """A session's interest in requests has ended; see `RequestTable.withdraw`."""
        await self._up()
        self._requests.withdraw(session, attempts)

    async def cancel(self, ids: Sequence[str]) -> None:
        """End requests for everyone; see `RequestTable.cancel`."""
        await self._up()
        self._requests.cancel(ids)

    async def leave(self, session: str, counts: Counts = NO_COUNTS) -> None:
        """An engine ends: its requests that were not accepted end with it."""
        self._requests.end(session, counts)

    # --- what engines ask: values

    async def get(self, keys: Sequence[str]) -> Values:
        """Where the values of keys are; cold ones are read back first. See `Values` for keys without one."""
        await self._up()
        changes = self.context.changes
        found: dict[str, Found] = {}
        absent: dict[str, Failure] = {}
        cold: list[str] = []
        for key in keys:
            here = self.context.found(key)
            if here is not None:
                found[key] = here
            elif key in self.context.index:
                cold.append(key)
        if cold:
            read, absent = await self._spiller.read_through(cold)
            found |= read
        left = [key for key in keys if key not in found and key not in absent]
        absent |= inspection.failed(self._ledger, left)
        return Values([found.get(key) for key in keys], changes, list(absent.items()))

    async def rows_of(self, part: str) -> PartRows | None:
        """Which values of a part an engine may read there itself; see `inspection.rows_of`."""
        await self._up()
        return inspection.rows_of(self.context, part, self._listing.late)

    async def foresee(
        self,
        part: PlanPart,
        borrowed: Sequence[str],
        broken: Sequence[str],
        refresh: bool,
        load: bool,
        located: float,
    ) -> Foreseen:
        """What a request would do; see `inspection.foreseen`. Changes nothing.

        Windows that a finder's value has and that are only stored are read, as the request would read them.
        One that can't be read now leaves its units untold.
        """
        await self._up()
        windows: dict[str, Windows] = {}
        looked: set[str] = set()
        while True:
            told, unread = inspection.foreseen(
                self._ledger,
                part,
                self.context.clock.now(),
                borrowed=borrowed,
                broken=broken,
                refresh=refresh,
                load=load,
                located=located,
                windows=windows,
            )
            new = [key for key in unread if key not in looked]
            if not new:
                return told
            looked.update(new)
            for key, outcome in (await self._reader.read(new)).items():
                if isinstance(outcome, tuple) and outcome[0].windows is not None:
                    windows[key] = outcome[0].windows

    async def expected(self, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Means]:
        """What one step of (feature, version) costs in the mean, for those that have run."""
        await self._up()
        return inspection.expected(self._ledger, names)

    async def lost(self, keys: Sequence[str]) -> None:
        """A reader could not get these values from the object store."""
        await self._up()
        self._feed(ev.Lost([k for k in keys if self.context.in_object_store(k)]))

    async def kept(self, feature: str, version: str, units: Sequence[str]) -> Kept:
        """What there is of one version of a feature, of these assets and collections, by their units' text.

        Every shard tells what it has in memory, the first one what is stored, too.
        """
        await self._up()
        stored = Kept()
        if self.context.shard == 0:
            stored = await self.context.parts.kept(feature, version, units)
        return joined([stored, inspection.kept(self.context, feature, version, set(units))])

    async def about(
        self, asset: str, feature: str | None, version: str | None, after: Place | None, most: int
    ) -> Told[ValueInfo]:
        """What there is about an asset: the first values after a place, and how far that goes.

        Every shard tells what it has in memory, the first one what is stored, too.
        """
        await self._up()
        stored: Told[ValueInfo] = Told()
        if self.context.shard == 0:
            stored = await self.context.parts.about(asset, feature, version, after, most)
        held = first(inspection.about(self.context, asset, feature, version), after, most)
        return together([stored, held], merged)

    async def provenance(self, keys: Sequence[str]) -> list[ValueInfo]:
        """What is known of those values that this shard has, in memory or stored."""
        await self._up()
        found = [one for key in keys if (one := inspection.held(self.context, key)) is not None]
        held = {one.key for one in found}
        left = [key for key in keys if key not in held]
        wanted: dict[str, list[tuple[int, str]]] = {}
        for key, place in zip(left, self.context.index.find_many(left), strict=True):
            if place is not None:
                wanted.setdefault(place[0], []).append((place[1], key))
        return found + (await self.context.parts.rows(wanted) if wanted else [])

    async def purge(self, asset: About, feature: str | None, version: str | None) -> list[str]:
        """Forget values in all shards and on disk; returns their keys. Only the first shard is asked this."""
        await self._up()
        return await self._rewriter.purge(asset, feature, version)

    async def stored(self, keys: Sequence[str]) -> list[str]:
        """Wait until those values of these keys that are in memory are stored, and return all that are.

        Others were lost before they were written, or given up since somebody has them made anew.
        Raises `Unavailable` if that takes longer than `STORED_SECONDS`.
        """
        await self._up()
        ledger, until = self._ledger, self.context.clock.now() + STORED_SECONDS
        waiting = set(keys)
        while waiting := {k for k in waiting if k in ledger.unspilled or k in ledger.spilling}:
            if self.context.clock.now() >= until:
                raise Unavailable(f"{len(waiting):,} values could not be stored within {STORED_SECONDS:g} s")
            await asyncio.sleep(STORED_LOOK)
        return [key for key in keys if key in self.context.index]

    # --- demands: the first shard alone is asked

    async def _demands(self) -> DemandDesk:
        await self._up()
        if self._desk is None:
            raise Unavailable("no demands are kept here")
        await self._desk.load()
        return self._desk

    async def keep(self, demand: Demand, id: str) -> DemandView:
        """Keep a demand; see `DemandDesk.keep`."""
        return await (await self._demands()).keep(demand, id)

    async def stop_keeping(self, name: str, id: str) -> bool:
        """Forget a demand; see `DemandDesk.stop`."""
        return await (await self._demands()).stop(name, id)

    async def demands(self) -> list[DemandView]:
        """All demands; see `DemandDesk.views`."""
        return (await self._demands()).views()

    async def notify(self, places: Sequence[str], tenant: str | None) -> Noticed:
        """Something has happened at these places; see `DemandDesk.notify`."""
        return (await self._demands()).notify(places, tenant)

    async def tend(self, steward: str, live: Mapping[str, DemandStatus], wait: float) -> Tended | None:
        """A steward says how demands stand; see `DemandDesk.tend`."""
        return await (await self._demands()).tend(steward, live, wait)

    async def note_demand(self, steward: str, id: str, number: int, state: DemandState) -> bool:
        """A steward has something to note; see `DemandDesk.note`."""
        return await (await self._demands()).note(steward, id, number, state)

    # --- the audit log: the first shard alone is asked

    async def audited(self, lines: Sequence[AuditLine]) -> None:
        """An engine has changed something; see `AuditDesk.write`. Without a log nothing is kept."""
        await self._up()
        if self._audit is not None:
            await self._audit.write(lines)

    async def audit(self, only: AuditFilter, after: LinePlace | None, most: int) -> Told[AuditLine]:
        """The newest changes after a place; see `AuditDesk.read`."""
        await self._up()
        return Told() if self._audit is None else await self._audit.read(only, after, most)

    async def versions(self) -> list[StoredVersion]:
        """What is stored of each feature and version."""
        await self._up()
        return await self.context.parts.versions()

    async def requests(
        self, tenant: str | None, after: asked.Place | None, most: int
    ) -> Told[asked.RequestInfo]:
        """The newest requests that this shard has a part of, after a place; see `RequestTable.told`."""
        await self._up()
        return await self._requests.told(tenant, after, most)

    async def failures(self) -> list[Failure]:
        """The failures remembered now."""
        return inspection.failures(self._ledger)

    async def troubles(self) -> list[str]:
        """What keeps this shard from its work now, a few words each. Does not wait until it is up."""
        started = self._starting()
        await asyncio.wait({started}, timeout=START_LOOK)
        if not started.done():
            return [f"shard {self.context.shard} is starting: it reads what the store has"]
        started.result()
        upkeep = [self._upkeep] if self._lease_upkeep is None else [self._upkeep, self._lease_upkeep]
        lacking = 0 if self._audit is None else self._audit.unwritten
        log_ = [f"{lacking:,} lines of the audit log are not written"] if lacking else []
        every = [*(told for some in upkeep for told in some.troubles()), *log_]
        return [f"shard {self.context.shard}: {told}" for told in every]

    async def stats(self, session: str = "", counts: Counts = NO_COUNTS) -> dict[str, float]:
        """Counters and gauges of this shard; asked by a session, with what all engines have counted."""
        counted = await self._requests.counted(session, counts) if session else {}
        stats = inspection.stats(self.context, self._requests, self._dispatcher.pools)
        if self.context.shard == 0:
            stats |= self._deliveries.stats() | await self._size.stats()
        if self._desk is not None:
            stats |= demand_stats(self._desk.views(), self.context.clock.unix()) | self._desk.stats()
        return stats | {name: total + stats.get(name, 0.0) for name, total in counted.items()}

    @property
    def late_parts(self) -> list[str]:
        """Names of parts that are published and could not be read yet."""
        return self._listing.late

    async def timed_out(self, task: int, key: str) -> None:
        """A worker is about to end itself because this step ran past its timeout."""
        self._dispatcher.timed_out(task, key)

    # --- what other shards ask

    async def fetch(
        self, id: str, part: PlanPart, priority: int, tenant: str, trace: str
    ) -> forwarding.Fetched:
        """Another shard needs steps of this one; see `forwarding.fetch`."""
        await self._up()
        return await forwarding.fetch(self.context, self._requests, id, part, priority, tenant, trace)

    async def crowded_writes(self, least: int) -> list[str]:
        """The first shard looks for parts to join; see `Rewriter.crowded`."""
        await self._up()
        return await self._rewriter.crowded(least)

    async def hold_writes(self, token: str, purge: Purge) -> list[str]:
        """The first shard begins a purge; see `Rewriter.hold`."""
        await self._up()
        return await self._rewriter.hold(token, purge)

    async def settle_writes(
        self,
        token: str,
        removed: Sequence[str],
        added: Iterable[PartKeys],
        gone: Sequence[str],
        purged: bool,
    ) -> list[str]:
        """The first shard has rewritten parts; see `Rewriter.settle`."""
        await self._up()
        return await self._rewriter.settle(token, removed, added, gone, purged)
