"""The cache actor: the shell around the ledger of one shard.

It turns calls, task ends and time into events, performs the commands that come back, and holds the handles
of the values in memory. It submits every task itself, because the submitter owns the results and a result
dies with its owner. It never touches a large value: those go from worker to object store to reader.

All of it runs on one event loop, so between two `await`s nothing else happens: the ledger needs no lock.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray

from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.model.request import Failure
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import AVAILABLE
from amber_ray.fabric import heap
from amber_ray.fabric.shard import forwarding, inspection
from amber_ray.fabric.shard.dispatch import Dispatch
from amber_ray.fabric.shard.listing import Listing
from amber_ray.fabric.shard.maintenance import Upkeep
from amber_ray.fabric.shard.plan_cache import Plans
from amber_ray.fabric.shard.requests import BROKEN, RequestTable
from amber_ray.fabric.shard.spill import Spiller
from amber_ray.fabric.transport import registry_blob
from amber_ray.fabric.transport.messages import (
    Found,
    Handle,
    Hello,
    Inline,
    MissingPlans,
    PlanPart,
    Reply,
    Slot,
    Submission,
    Updates,
)
from amber_ray.settings import Settings
from amber_ray.store.key_index import KeyIndex
from amber_ray.store.lease import Lease
from amber_ray.store.parquet import ValueStore

log = logging.getLogger("amber.actor")


class CacheActor:
    """One shard. Created detached by `fabric.adapter.cluster`; its coroutines are called through Ray.

    The attributes without an underscore are for the other parts of this shell (`desk`, `dispatch`, `spill`,
    `peers`, `inspection`): `values` are the handles in memory by key, `registries` the refs of published
    code, oldest first.
    """

    def __init__(self, settings_json: str, shard: int) -> None:
        settings = Settings.from_json(settings_json)
        self.settings = settings
        self.shard = shard
        self.incarnation = uuid.uuid4().hex
        self._lease = Lease(settings.store)
        # Only the first shard deletes, and only while the store is surely its cluster's.
        self.store = ValueStore(settings.store, self._lease.guard if shard == 0 else None)
        self.index = KeyIndex()
        self.listing = Listing(self.index, self.store)
        self.ledger = Ledger(settings, self.index, shard=shard)
        self.values: dict[str, Handle] = {}
        self._plans = Plans()
        self.registries: dict[str, Any] = {}
        self._poke = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self.dispatch = Dispatch(self)
        self._shelf = Spiller(self)
        self.desk = RequestTable(self)
        self._started: asyncio.Task[None] | None = None
        self._upkeep = Upkeep(self, self._lease, self._shelf.compact)
        self._closing = False
        # Ray restarts this actor when its process dies, perhaps with nobody there to call it: accepted
        # requests must go on all the same, so it makes the first call itself.
        ray.get_runtime_context().current_actor.hello.remote()

    # --- life

    async def hello(self) -> Hello:
        """Bring the shard up if it is not, and introduce it. Raises `StoreBusy` if the store is another's."""
        await self._up()
        return Hello(
            self.shard,
            self.incarnation,
            self.settings.to_json(),
            frozenset(self.registries),
            len(self.index),
        )

    async def _up(self) -> None:
        """Every call that needs the index or the ledger begins here; only the first one waits.

        A start that failed, because the store can't be reached say, is tried again by the next call.
        """
        started = self._started
        if started is None or (started.done() and started.exception() is not None):
            started = self._started = asyncio.create_task(self._start())
        if not started.done():
            await asyncio.shield(started)
        started.result()

    async def _start(self) -> None:
        if self.shard == 0:
            await self._upkeep.take_store(f"the cluster of namespace {self.settings.namespace!r}")
        await self.listing.load()
        for (feature, version), (seconds, size) in (await asyncio.to_thread(self.store.costs)).items():
            self.ledger.costs.preset(feature, version, seconds, size)
        registry = await asyncio.to_thread(registry_blob.build, self.settings)
        self.publish_registry(registry.digest, await asyncio.to_thread(registry_blob.pack, registry))
        await self._upkeep.learn_capacity()
        await self.desk.resume(registry)
        heap.settle()
        self.spawn(self._clock())
        self.spawn(self._upkeep.run())

    def publish_registry(self, digest: str, blob: bytes) -> None:
        """Put a registry's code where tasks find it; this actor owns it, so it outlives whoever sent it."""
        if digest not in self.registries:
            self.registries[digest] = ray.put(blob)

    async def publish(self, digest: str, blob: bytes) -> None:
        """An engine brings the code of its registry."""
        self.publish_registry(digest, blob)

    def spawn(self, coroutine: Any) -> None:
        """Run something beside; an exception that nobody handled is logged, never lost."""
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a background task of shard %d failed", self.shard, exc_info=task.exception())

    async def _clock(self) -> None:
        while not self._closing:
            self._poke.clear()
            pause = self.ledger.wake_at() - time.monotonic()
            if pause > 0:
                try:
                    await asyncio.wait_for(self._poke.wait(), min(pause, 3600.0))
                except TimeoutError:
                    pass
                else:
                    continue  # something new may be due earlier
            self.feed(ev.Tick())
            await asyncio.sleep(0)

    async def close(self, timeout: float) -> bool:
        """Write what is unwritten and let go of everything; True if all was written in time."""
        self._closing = True
        self._upkeep.stop()
        deadline = time.monotonic() + timeout
        ledger = self.ledger
        while ledger.unspilled or ledger.spilling:
            if time.monotonic() >= deadline:
                break
            self.ledger.settings = self.settings.replace(spill_bytes=0)
            self.feed(ev.Tick())
            await asyncio.sleep(0.01)
        self.dispatch.pools.close()
        if self.shard == 0:
            self._lease.release()
        return not (ledger.unspilled or ledger.spilling)

    # --- events in, commands out

    def feed(self, event: ev.Event) -> None:
        """The one way into the ledger.

        An exception here is a fault of Amber, and the ledger can't be trusted any more: some caller might
        never be answered. So the process ends; Ray starts it again, it rebuilds itself from the store and the
        journal, and the engines bring back what else was under way.
        """
        try:
            self._feed(event)
        except Exception:
            log.critical("shard %d can't go on after %s; it starts over", self.shard, event, exc_info=True)
            if self._started is not None and self._started.done():
                os._exit(BROKEN)
            raise  # It is still starting; `RequestTable.resume` sets the request aside that does this.

    def _feed(self, event: ev.Event) -> None:
        before = self.ledger.wake_at()
        for command in self.ledger.handle(event, time.monotonic()):
            match command:
                case ev.Submit(task):
                    self.dispatch.submit(task)
                case ev.Cancel(task_id):
                    self.dispatch.cancel(task_id)
                case ev.Deliver(request, key, outcome):
                    self.desk.deliver(request, key, outcome)
                case ev.Finished(request):
                    self.desk.finished(request)
                case ev.Spill(keys):
                    self._shelf.spill(keys)
                case ev.Restore(keys):
                    self._shelf.restore(keys)
                case ev.Drop(keys):
                    for key in keys:
                        self.values.pop(key, None)
        if self.ledger.wake_at() < before:
            self._poke.set()

    # --- what engines ask: requests (the desk answers)

    async def submit(
        self, session: str, plans: Mapping[str, PlanPart], submissions: Sequence[Submission]
    ) -> list[Reply] | MissingPlans:
        """Take requests in; see `RequestTable.submit`. `plans` need not hold those that were sent before."""
        await self._up()
        complete = self._plans.complete(plans, (one.plan for one in submissions))
        if isinstance(complete, list):
            return MissingPlans(plans=complete)
        return await self.desk.submit(session, complete, submissions)

    async def accept(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        """Journal requests; see `RequestTable.accept`."""
        await self._up()
        await self.desk.accept(bodies)

    async def poll(self, session: str, timeout: float) -> Updates:
        """A session's news; see `RequestTable.poll`."""
        return await self.desk.poll(session, timeout)

    async def attach(self, session: str, id: str) -> Reply | None:
        """All about one request; see `RequestTable.attach`."""
        await self._up()
        return await self.desk.attach(session, id)

    async def progress(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """(done, total) steps; see `RequestTable.progress`."""
        return self.desk.progress(ids)

    async def withdraw(self, ids: Sequence[str]) -> None:
        """End requests; see `RequestTable.withdraw`."""
        await self.desk.withdraw(ids)

    async def leave(self, session: str) -> None:
        """An engine ends: its requests that were not accepted end with it."""
        self.desk.end(session)

    # --- what engines ask: values

    async def get(self, keys: Sequence[str]) -> list[Found | None]:
        """Where the values of keys are; cold ones are read back first. None for keys without a value here."""
        await self._up()
        found: dict[str, Found | None] = {}
        cold: list[str] = []
        for key in keys:
            handle = self.values.get(key)
            entry = self.ledger.entries.get(key)
            if handle is not None and entry is not None and entry.state in AVAILABLE:
                recipe = entry.step.recipe
                found[key] = _found(key, recipe.feature, recipe.version, handle)
            elif key in self.index:
                cold.append(key)
            else:
                found[key] = None
        if cold:
            found.update(await self._shelf.read_through(cold))
        return [found[key] for key in keys]

    async def fetch(self, id: str, part: PlanPart, priority: int, tenant: str) -> forwarding.Fetched:
        """Another shard needs steps of this one; see `peers.fetch`."""
        await self._up()
        return await forwarding.fetch(self, id, part, priority, tenant)

    async def states(self, keys: Sequence[str]) -> dict[str, str]:
        """Each key's state, in the words of `ExplainedStep`."""
        await self._up()
        return inspection.states(self.ledger, keys)

    async def expected(self, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
        """Mean seconds of one step of (feature, version), for those that have run."""
        await self._up()
        return inspection.expected(self.ledger, names)

    async def lost(self, keys: Sequence[str]) -> None:
        """A reader could not get these values from the object store."""
        self.feed(ev.Lost([k for k in keys if isinstance(self.values.get(k), Slot)]))

    async def purge(self, asset: str | None, feature: str | None, version: str | None) -> list[str]:
        """Forget values, in memory and on disk; returns their keys. Only the first shard rewrites parts."""
        await self._up()
        return await self._shelf.purge(asset, feature, version)

    async def reindex(
        self, removed: Sequence[str], added: Mapping[str, np.ndarray], gone: Sequence[str]
    ) -> None:
        """Parts were rewritten: point the index at the new ones, and forget keys that are gone."""
        await self._up()
        for name in removed:
            self.index.remove_part(name)
        for name, keys in added.items():
            self.index.add(name, keys)
        if gone:
            self.index.remove(gone)
            self.feed(ev.Purged(list(gone)))
            self.desk.tell_purged(gone)

    async def failures(self) -> list[Failure]:
        """The failures remembered now."""
        return inspection.failures(self.ledger)

    async def stats(self) -> dict[str, float]:
        """Counters and gauges of this shard."""
        return inspection.stats(self)

    async def pid(self) -> int:
        """This shard's process, on its node."""
        return os.getpid()

    async def timed_out(self, task: int, key: str) -> None:
        """A worker is about to end itself because this step ran past its timeout."""
        self.dispatch.timed_out[task] = key

    def blob(self, registry: str) -> Any:
        """The ref of a registry's code."""
        return self.registries[registry]


def _found(key: str, feature: str, version: str, handle: Handle) -> Found:
    if isinstance(handle, Inline):
        return Found(key, feature, version, inline=handle.data)
    return Found(key, feature, version, ref=[handle.ref], place=handle.place)
