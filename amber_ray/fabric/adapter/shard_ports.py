"""The ports of a shard over Ray, files and the clock of this machine.

Blocking calls run in threads; what they touch is thread-safe (`ValueStore`, `Journal`, `Lease`, `Catalogue`).
Nothing here decides anything: it translates.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NoReturn, TypeVar

import numpy as np
import ray

from amber_ray.core.deliveries.record import Delivery, Outcome
from amber_ray.core.deliveries.urls import CallbackUrl
from amber_ray.core.model.demands import DemandState
from amber_ray.core.model.units import Asset
from amber_ray.core.planning.homes import Share
from amber_ray.core.planning.plan import Recipe
from amber_ray.core.scheduler.calls import slots
from amber_ray.core.state import events as ev
from amber_ray.errors import DamagedRecord, StoreError
from amber_ray.fabric.adapter import faults, machine, tracing, worker_main
from amber_ray.fabric.adapter.steward_actor import RayStewards
from amber_ray.fabric.adapter.stored_parts import StoredParts
from amber_ray.fabric.shard.ports import (
    CallFailed,
    NewPart,
    Ports,
    Ref,
    Rewritten,
    Sender,
    TaskResult,
)
from amber_ray.fabric.transport.messages import PlanPart, ReadReport, Wanted, Work
from amber_ray.fabric.transport.names import shard_name
from amber_ray.fabric.transport.new_rows import NewRows
from amber_ray.fabric.transport.pickled import bundled
from amber_ray.fabric.worker import store_tasks
from amber_ray.media.catalogue import Catalogue
from amber_ray.settings import Settings
from amber_ray.store.deliveries import DeliveryBook
from amber_ray.store.demands import DemandBook, DemandRecord
from amber_ray.store.journal import Journal
from amber_ray.store.lease import Lease
from amber_ray.store.parquet import ValueStore
from amber_ray.store.part import share_of
from amber_ray.store.purge_log import Purge, PurgeLog

log = logging.getLogger("amber.adapter")
T = TypeVar("T")


class RayCall(Generic[T]):
    """A Ray call that is under way; `made` turns what its first ref brings into the result."""

    def __init__(self, ref: Any, made: Callable[[Any], T]) -> None:
        self._ref = ref
        self._made = made

    async def result(self) -> T:
        """See `Call.result`."""
        try:
            return self._made(await self._ref)
        except ray.exceptions.RayError as error:
            raise CallFailed(faults.translate(error)) from error

    def cancel(self, *, force: bool) -> None:
        """See `Call.cancel`."""
        try:
            ray.cancel(self._ref, force=force)
        except ValueError:
            ray.cancel(self._ref)  # a call of an actor, which can only be asked


def _task_call(refs: Any) -> RayCall[TaskResult]:
    """The call of a task that returns a report and slots."""
    first, *slots = refs if isinstance(refs, list) else [refs]
    return RayCall(first, lambda report: (report, slots))


class RayWarmActor:
    """A warm actor in a process of its own."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def run(self, work: Work, slots: Sequence[Ref]) -> RayCall[TaskResult]:
        """See `WarmActor.run`."""
        return _task_call(self._handle.run.options(num_returns=1 + work.returns).remote(work, *slots))

    def kill(self) -> None:
        """See `WarmActor.kill`."""
        ray.kill(self._handle)


class RayCluster:
    """Tasks and actors of a Ray cluster. Owns the code of registries, by their digests."""

    def __init__(self) -> None:
        self._blobs: dict[str, Any] = {}
        self._functions: dict[Any, Any] = {}

    def blob(self, digest: str) -> Any:
        """The ref of a registry's code."""
        return self._blobs[digest]

    def publish(self, digest: str, blob: bytes) -> None:
        """See `Cluster.publish`."""
        self._blobs[digest] = ray.put(blob)

    def run(self, task: ev.Task, work: Work, slots: Sequence[Ref]) -> RayCall[TaskResult]:
        """See `Cluster.run`."""
        function = self._function(task, work.returns)
        return _task_call(function.remote(self._blobs[work.registry], work, *slots))

    def _function(self, task: ev.Task, returns: int) -> Any:
        """The remote function with this task's options; built once per kind."""
        kind = (tuple(task.needs.items()), task.recipe.resources.accelerator_type, returns)
        function = self._functions.get(kind)
        if function is None:
            # Ray's own retries are off: an attempt repeated in silence is one the ledger does not know.
            function = self._functions[kind] = ray.remote(worker_main.run).options(
                num_returns=1 + returns, max_retries=0, **ray_options(task.needs, task.recipe)
            )
        return function

    def start_actor(self, recipe: Recipe, needs: Mapping[str, float]) -> RayWarmActor:
        """See `Cluster.start_actor`. It holds no Ray CPUs; the scheduler admits its batches and calls."""
        options = ray_options(needs, recipe) | {"num_cpus": 0}
        kind: Any = worker_main.Warm
        if recipe.calls.concurrency:
            kind, options["max_concurrency"] = worker_main.Calling, slots(recipe.calls.concurrency)
        warm = ray.remote(kind).options(max_restarts=0, max_task_retries=0, **options)
        blob = self._blobs[recipe.registry]
        return RayWarmActor(warm.remote(blob, recipe.registry, recipe.feature, recipe.model))

    async def nodes(self) -> list[Mapping[str, float]]:
        """See `Cluster.nodes`."""
        nodes = await asyncio.to_thread(ray.nodes)
        return [n["Resources"] for n in nodes if n["Alive"]]


class StoreParts(StoredParts):
    """The parts of a store, written and read by Ray tasks where many bytes are concerned."""

    def __init__(
        self, store: ValueStore, purges: PurgeLog, cluster: RayCluster, settings: Settings, shard: int
    ) -> None:
        super().__init__(store, Share(shard, settings.shards))
        self._purges = purges
        self._cluster = cluster
        self._settings = settings
        self._actor = shard_name(shard)
        self._clean: dict[Purge, set[str]] = {}
        # Made once: each new one of these sends the function to the head node again.
        self._write: Any = ray.remote(store_tasks.write).options(num_cpus=0, max_retries=0)
        self._read: Any = ray.remote(num_cpus=0, max_retries=1)(store_tasks.read)

    async def write(self, recipe: Recipe, rows: NewRows, slots: Sequence[Ref]) -> str:
        """See `Parts.write`.

        A disk takes small values from a thread of this process. An object store may keep a thread waiting
        that others need.
        """
        share = self._share if self._share.shards > 1 else None
        if self.local:
            name = await asyncio.to_thread(store_tasks.write_here, self._store, recipe, rows, share)
            if name is not None:
                return name
        ref = self._write.remote(
            self._cluster.blob(recipe.registry),
            recipe.registry,
            self._settings.store,
            recipe.feature,
            recipe.version,
            rows._replace(inline=bundled(rows.inline)),
            share,
            *slots,
        )
        return await RayCall[str](ref, lambda name: name).result()

    async def read_here(self, wanted: Wanted, inline_bytes: int) -> ReadReport | None:
        """See `Parts.read_here`."""
        return await asyncio.to_thread(store_tasks.read_here, self._store, wanted, inline_bytes)

    async def read(
        self, registry: str, wanted: Wanted, returns: int, inline_bytes: int
    ) -> tuple[ReadReport, Sequence[Ref]]:
        """See `Parts.read`."""
        work = store_tasks.reading(registry, returns, inline_bytes, self._settings.namespace, self._actor)
        function = self._read.options(num_returns=1 + returns)
        refs = function.remote(self._cluster.blob(registry), work, self._settings.store, wanted)
        return await RayCall(refs[0], lambda report: (report, refs[1:])).result()

    async def sweep(self) -> None:
        """See `Parts.sweep`."""
        await asyncio.to_thread(self._store.sweep)
        await asyncio.to_thread(self._purges.sweep, time.time())

    async def note(self) -> None:
        """See `Parts.note`."""
        await asyncio.to_thread(self._store.note, self._share)

    async def compact(self, feature: str, version: str, least: int) -> tuple[list[str], NewPart | None]:
        """See `Parts.compact`."""

        def compact() -> tuple[list[str], NewPart | None]:
            old, new = self._store.compact(feature, version, least)
            return old, None if new is None else self._new(new.name, self._store.keys(new.name))

        return await asyncio.to_thread(compact)

    def _new(self, name: str, keys: np.ndarray) -> NewPart:
        """Find out whose the values of a new part are."""
        shards = self._share.shards
        its = share_of(name)
        if shards == 1 or (its is not None and its.shards == shards):
            return NewPart(name, keys)
        try:
            return NewPart(name, keys, self._store.shares(name, shards))
        except (FileNotFoundError, StoreError) as error:
            # What is known of it must be told all the same: the parts that it replaces are gone, or will be.
            log.warning("all shards index all of part %s: %s", name, error)
            return NewPart(name, keys)

    async def remove(self, names: Sequence[str]) -> None:
        """See `Parts.remove`."""
        await asyncio.to_thread(self._store.remove_parts, names)

    async def note_purge(self, purge: Purge) -> None:
        """See `Parts.note_purge`."""
        await asyncio.to_thread(self._purges.note, purge.asset, purge.feature, purge.version, purge.at)

    async def purges(self) -> list[Purge]:
        """See `Parts.purges`."""
        return await asyncio.to_thread(self._purges.pending, time.time())

    async def purge(self, purge: Purge, *, again: bool) -> tuple[list[Rewritten], list[str]]:
        """See `Parts.purge`."""
        return await asyncio.to_thread(self._purge_now, purge, again)

    def _purge_now(self, purge: Purge, again: bool) -> tuple[list[Rewritten], list[str]]:
        """Runs in a thread; the shard asks for one rewrite at a time."""
        clean = self._clean.get(purge, set()) if again else set()
        before = set(self._store.parts()) if again else set()
        late: list[str] = []
        changes = self._store.purge(
            purge.asset,
            purge.feature,
            purge.version,
            made_before=purge.at if again else None,
            skip=clean,
            late=late,
        )
        if again:
            self._clean[purge] = before.difference(late)
        rewritten = [
            Rewritten(old, None if new is None else self._new(new.name, kept), dropped)
            for old, new, kept, dropped in changes
        ]
        return rewritten, late


class FileJournal:
    """The journal under the store."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._told: dict[str, tuple[int, Any]] = {}
        self._telling = threading.Lock()

    async def write(self, name: str, data: Mapping[str, Any]) -> None:
        """See `Journal.write`."""
        await asyncio.to_thread(self._journal.write, name, data)

    async def read(self, name: str) -> Mapping[str, Any] | None:
        """See `Journal.read`."""
        return await asyncio.to_thread(self._journal.read, name)

    async def unfinished(self) -> list[Mapping[str, Any]]:
        """See `Journal.unfinished`."""
        return await asyncio.to_thread(lambda: list(self._journal.unfinished()))

    async def told(self, among: Callable[[str], bool], tell: Callable[[Mapping[str, Any]], T]) -> Sequence[T]:
        """See `Journal.told`."""
        return await asyncio.to_thread(self._tell, among, tell)

    def _tell(self, among: Callable[[str], bool], tell: Callable[[Mapping[str, Any]], T]) -> list[T]:
        with self._telling:
            sizes = {name: size for name, size in self._journal.sizes().items() if among(name)}
            kept = {name: told for name, told in self._told.items() if sizes.get(name) == told[0]}
            for name in sizes.keys() - kept.keys():
                try:
                    data = self._journal.read(name)
                except DamagedRecord as error:
                    log.error("%s; it is left out of the list of requests", error)
                    continue
                if data is not None:
                    kept[name] = sizes[name], tell(data)
            self._told = kept
            return [told for _, told in kept.values()]

    async def sweep(self, before: float) -> None:
        """See `Journal.sweep`."""
        await asyncio.to_thread(self._journal.sweep, before)


class FileDeliveries:
    """Deliveries under the store."""

    def __init__(self, book: DeliveryBook) -> None:
        self._book = book

    async def write(self, delivery: Delivery) -> None:
        """See `DeliveryRecords.write`."""
        await asyncio.to_thread(self._book.write, delivery)

    async def remove(self, id: str) -> None:
        """See `DeliveryRecords.remove`."""
        await asyncio.to_thread(self._book.remove, id)

    async def all(self) -> list[Delivery]:
        """See `DeliveryRecords.all`."""
        return await asyncio.to_thread(self._book.all)


class LateSender:
    """The way out for callbacks; what it is made of is imported with the first one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: Sender | None = None

    async def post(self, url: CallbackUrl, headers: Mapping[str, str], body: bytes) -> Outcome:
        """See `Sender.post`."""
        sender = self._made
        if sender is None:
            sender = self._made = await asyncio.to_thread(self._make)
        return await sender.post(url, headers, body)

    def _make(self) -> Sender:
        from amber_ray.fabric.adapter.sender import HttpSender

        return HttpSender(self._settings)


class FileDemands:
    """The records of demands under the store. Implements `Demands`."""

    def __init__(self, book: DemandBook) -> None:
        self._book = book

    async def read(self) -> list[tuple[DemandRecord, DemandState]]:
        """See `Demands.read`."""
        return await asyncio.to_thread(self._book.read)

    async def write(self, record: DemandRecord, state: DemandState) -> None:
        """See `Demands.write`."""
        await asyncio.to_thread(self._book.write, record, state)

    async def note(self, record: DemandRecord, state: DemandState) -> None:
        """See `Demands.note`."""
        await asyncio.to_thread(self._book.note, record, state)

    async def remove(self, name: str) -> None:
        """See `Demands.remove`."""
        await asyncio.to_thread(self._book.remove, name)


class StoreLease:
    """The lease of the store."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    async def acquire(self, owner: str) -> None:
        """See `ports.Lease.acquire`."""
        await asyncio.to_thread(self._lease.acquire, owner)

    async def renew(self, now: float) -> None:
        """See `ports.Lease.renew`."""
        await asyncio.to_thread(self._lease.renew, now)

    def release(self) -> None:
        """See `ports.Lease.release`."""
        self._lease.release()


class RayPeers:
    """The other shards' actors, found by their names at each call: one may have been restarted."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def fetch(
        self, shard: int, id: str, part: PlanPart, priority: int, tenant: str, trace: str
    ) -> RayCall[Any]:
        """See `Peers.fetch`."""
        ref = self._handle(shard).fetch.remote(id, part, priority, tenant, trace)
        return RayCall(ref, lambda fetched: fetched)

    async def call(self, shard: int, method: str, *arguments: Any) -> Any:
        """See `Peers.call`."""
        return await RayCall(
            getattr(self._handle(shard), method).remote(*arguments), lambda answer: answer
        ).result()

    def _handle(self, shard: int) -> Any:
        return ray.get_actor(shard_name(shard), namespace=self._namespace)


class CatalogueAssets:
    """Where assets are now, by the catalogue under the store."""

    def __init__(self, settings: Settings, fence: Callable[[], None] | None) -> None:
        self._settings = settings
        self._fence = fence
        self._lock = threading.Lock()
        self._made: Catalogue | None = None

    async def current(self, ids: Sequence[str]) -> Mapping[str, Asset]:
        """See `ports.Assets.current`."""
        return await asyncio.to_thread(lambda: machine.known(self._catalogue(), ids))

    async def tidy(self) -> None:
        """See `ports.Assets.tidy`."""
        await asyncio.to_thread(lambda: self._catalogue().tidy())

    def _catalogue(self) -> Catalogue:
        """Made when it is needed first: the store may not be ours before."""
        with self._lock:
            if self._made is None:
                self._made = machine.catalogue(self._settings, self._fence)
            return self._made


class ThisProcess:
    """The process that the actor runs in; Ray starts another in its place when it ends."""

    def end(self, status: int) -> NoReturn:
        """See `ports.Process.end`."""
        os._exit(status)

    def new_id(self) -> str:
        """See `ports.Process.new_id`."""
        return machine.RandomIdentity().new_id()


def ports(settings: Settings, shard: int) -> Ports:
    """The ports of a shard in this process."""
    lease = Lease(settings.store)
    cluster = RayCluster()
    # The first shard, which holds the lease, changes nothing while the store may be another cluster's.
    fence = lease.guard if shard == 0 else None
    store = ValueStore(settings.store, fence)
    return Ports(
        cluster=cluster,
        parts=StoreParts(store, PurgeLog(settings.store, fence), cluster, settings, shard),
        journal=FileJournal(Journal(settings.store, fence)),
        deliveries=FileDeliveries(DeliveryBook(settings.store, fence)),
        sender=LateSender(settings),
        lease=StoreLease(lease),
        peers=RayPeers(settings.namespace),
        assets=CatalogueAssets(settings, fence),
        clock=machine.MachineClock(),
        process=ThisProcess(),
        demands=FileDemands(DemandBook(settings.store, fence)) if shard == 0 else None,
        stewards=RayStewards(settings) if shard == 0 else None,
        tracer=tracing.tracer(settings),
        audit=machine.AuditFiles(settings, fence) if shard == 0 else None,
    )


def ray_options(needs: Mapping[str, float], recipe: Recipe) -> dict[str, Any]:
    """A task's needs as options of `.remote`."""
    custom = {
        name: amount
        for name, amount in needs.items()
        if name not in ("CPU", "GPU", "memory") and not name.startswith("accelerator_type:")
    }
    options: dict[str, Any] = {"num_cpus": needs.get("CPU", 0.0)}
    if needs.get("GPU"):
        options["num_gpus"] = needs["GPU"]
    if needs.get("memory"):
        options["memory"] = int(needs["memory"])
    if custom:
        options["resources"] = custom
    accelerator = recipe.resources.accelerator_type
    if accelerator and f"accelerator_type:{accelerator}" in needs:
        options["accelerator_type"] = accelerator
    return options
