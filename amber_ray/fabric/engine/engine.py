"""The engine: `Service` inside the cluster, for Serve replicas, Python callers and the gateway.

It resolves assets, plans, sends each shard its part in one call, and gathers the answers. Values that it has
read stay in a bounded memory of its own, until a shard says that they were purged or made anew. Anything that
must outlive this process (work, requests, values) lives in the shards and the store.

Everything runs on one event loop, and what is outside is a port (`ports`).

    compute ──→ single_flight ──→ planner ──→ shard_client ──→ shard
    status, events, cancel ──→ requests ←── answers ──┘
    load, values ──→ value_reader ──→ cache, shard_client, objects

Must not know: Ray, threads, what a shard is made of.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any

import amber_ray.errors as errors
from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model import asked
from amber_ray.core.model.asked import RequestInfo
from amber_ray.core.model.audit import (
    AUDIT,
    EVERY_LINE,
    AuditFilter,
    AuditLine,
    checked_filter,
    host_of,
    without_secrets,
)
from amber_ray.core.model.audit import PLACE as AUDIT_PLACE
from amber_ray.core.model.callback import DeliveryState, DeliveryView
from amber_ray.core.model.demands import Demand, DemandState, DemandStatus, DemandView, Noticed
from amber_ray.core.model.kept import Kept, StoredVersion, joined
from amber_ray.core.model.pages import (
    EVERY_ASSET,
    USUAL,
    AssetFilter,
    Page,
    Told,
    checked_limit,
    read_cursor,
    together,
    told_page,
)
from amber_ray.core.model.places import place_named
from amber_ray.core.model.provenance import PLACE, VALUES, ValueInfo, ValueLineage, merged
from amber_ray.core.model.request import AssetRef, ComputeRequest, ExplainedStep, Failure, RequestView
from amber_ray.core.model.service import (
    Answered,
    FeatureInfo,
    MediaPiece,
    RegistryView,
    RequestEvent,
    StoredValue,
)
from amber_ray.core.model.stats import BYTES_REPLICA, OF_ENGINES, added_up, cumulated
from amber_ray.core.model.units import Asset
from amber_ray.core.planning.wanted import wanted
from amber_ray.errors import AmberError, BadRequest, MediaError, UnknownAsset
from amber_ray.fabric.engine.audit import Auditor
from amber_ray.fabric.engine.cache import Answers, Cache, Places, Units
from amber_ray.fabric.engine.callbacks import Callbacks
from amber_ray.fabric.engine.explaining import explained
from amber_ray.fabric.engine.lineage import LineageReader
from amber_ray.fabric.engine.near import NearValues
from amber_ray.fabric.engine.planner import RequestPlanner
from amber_ray.fabric.engine.ports import Ports
from amber_ray.fabric.engine.registries import Registries
from amber_ray.fabric.engine.requests import RequestTracker
from amber_ray.fabric.engine.shard_client import ShardClient
from amber_ray.fabric.engine.single_flight import SingleFlight
from amber_ray.fabric.engine.value_reader import ValueReader
from amber_ray.fabric.transport.messages import Tended
from amber_ray.settings import Settings

log = logging.getLogger("amber.engine")

PURGE_SECONDS = 3600.0
"""Longest wait for a purge: it may rewrite much of the store."""
CLOSE_SECONDS = 5.0
"""Longest wait for lines of the audit log that are on their way, at the end."""
TROUBLES_SECONDS = 3.0
"""A shard that says nothing for so long is in trouble."""


class Engine:
    """Implements `Service`. Use `open` first, on the event loop that it belongs to from then on.

    `registry` is the service's own; `blobs` is the code of registries by digest, which the shards are
    brought.
    """

    def __init__(
        self, settings: Settings, registry: Registry, blobs: Mapping[str, bytes], ports: Ports
    ) -> None:
        self.settings = settings
        self._registries = Registries(registry, blobs)
        self._ports = ports
        self._shards: list[ShardClient] = []
        self._background: set[asyncio.Task[None]] = set()
        self._planner = RequestPlanner(settings, self._registries, ports.assets, self._kept)
        self._cache = Cache(settings.replica_cache_bytes)
        answers = Answers(settings.replica_cache_bytes // 4)
        units = Units(settings.replica_cache_bytes // 8)
        places = Places(settings.replica_cache_bytes // 4)
        near = NearValues(ports.parts, self._shards, self._spawn)
        self._requests = RequestTracker(
            self._shards, answers, units, self._cache, places, near, ports.clock, self._spawn
        )
        # The first shard adds up those of all engines.
        counts = Counter(dict.fromkeys(OF_ENGINES, 0))
        self._auditor = Auditor(self._shards, ports.clock, ports.identity, self._spawn)
        self._flight = SingleFlight(
            self._planner,
            self._requests,
            self._shards,
            ports.clock,
            self._spawn,
            counts,
            ports.tracer,
            self._auditor,
            told=settings.replicas > 1,
            reading=ports.reading,
        )
        self._callbacks = Callbacks(settings, self._flight, self._requests, self._shards, self._auditor)
        self._reader = ValueReader(
            self._registries, self._shards, ports.objects, self._cache, answers, places, near, counts
        )
        self._lineage = LineageReader(settings, registry, self._shards, ports.assets)
        session = ports.identity.new_id()
        self._unopened = [
            ShardClient(
                number,
                port,
                session,
                self._registries.blobs,
                ports.clock,
                self._requests,
                {} if number else counts,
                dict if number else lambda: {BYTES_REPLICA: self._cache.bytes},
            )
            for number, port in enumerate(ports.shards)
        ]
        self._sweeping: asyncio.Task[None] | None = None

    @property
    def registry(self) -> Registry:
        """The service's own features."""
        return self._registries.own

    @property
    def code(self) -> bytes:
        """The pickle of the service's own features."""
        return self._registries.blobs[self.registry.digest]

    async def open(self) -> None:
        """Connect to the shards; leave none of them open if one fails.

        Raises `StoreBusy`, `BadRequest`, `Unavailable`.
        """
        try:
            for shard in self._unopened:
                await shard.open()
                self._shards.append(shard)
        except BaseException:
            await self.aclose()
            raise
        self._sweeping = asyncio.create_task(self._requests.sweep())

    async def aclose(self) -> None:
        """Let go of the shards; what was accepted goes on without this engine. Twice is once."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._flight.close()
        await self._auditor.close(CLOSE_SECONDS)
        await asyncio.gather(*(shard.close() for shard in self._shards))
        for task in list(self._background):
            task.cancel()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside; an exception that nobody handles is logged, never lost."""
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("something beside failed", exc_info=task.exception())

    # --- what there is

    async def features(self) -> list[FeatureInfo]:
        """Every registered feature, by name."""
        return self._registries.own.info()

    async def register(self, base: str, specs: Sequence[FeatureSpec], code: bytes) -> RegistryView:
        """Keep a registry with `specs` added to that of `base` or replaced in it, for requests that name it.

        `base` is a digest, empty for the service's own, which stays as it is; `code` is the pickle of the
        specs. The shards have the code when this returns. Raises `DeclarationError`, `UnknownRegistry`.
        """
        await self._find(base)
        registry = self._registries.get(base)
        if specs:
            registry = self._registries.derive(base, specs, code, self._requests.registries())
            blob = self._registries.blobs[registry.digest]
            names = [spec.name for spec in specs]
            async with self._auditor.change("features.registered", registry.digest, features=names):
                await asyncio.gather(*(s.call("publish", registry.digest, blob) for s in self._shards))
        return registry.view()

    async def _find(self, digest: str) -> None:
        """Have a registry at hand that a caller names, if any engine brought the shards its code.

        A caller of several replicas registers with one of them and asks the others as well.
        """
        if digest in self._registries:
            return
        for shard in self._shards:
            blob = await shard.call("code", digest)
            if blob is not None:
                found = await self._ports.unpack(blob)
                self._registries.adopt(found, blob, self._requests.registries())
                return

    async def add_asset(self, uri: str) -> Asset:
        """Identify and probe the media at `uri`."""
        async with self._auditor.change("asset.added", "") as told:
            asset = await self._ports.assets.add(uri)
            told |= {"subject": asset.id, "uri": without_secrets(asset.uri)}
        return asset

    async def list_assets(
        self, only: AssetFilter = EVERY_ASSET, limit: int = USUAL, cursor: str | None = None
    ) -> Page[Asset]:
        """A page of the assets that are known; see `Service.list_assets`."""
        return await self._ports.assets.page(only, limit, cursor)

    async def asset(self, id: str, tenant: str | None = None) -> Asset:
        """What is known of an asset; see `Service.asset`."""
        [found] = await self._ports.assets.resolve([AssetRef(id=id, tenant=tenant)])
        if isinstance(found, AmberError):
            raise found
        return found

    async def upload(self, chunks: AsyncIterable[bytes], media_type: str | None = None) -> Asset:
        """Keep the bytes under the store and return their asset. Raises `TooLarge`."""
        limit = self.settings.limits.upload_bytes
        async with self._auditor.change("asset.uploaded", "") as told:
            asset = await self._ports.assets.upload(chunks, media_type, limit)
            told |= {"subject": asset.id, "bytes": asset.bytes}
        return asset

    async def media(
        self, asset: str, start: int = 0, end: int | None = None, tenant: str | None = None
    ) -> MediaPiece:
        """Some of an asset's bytes; see `Service.media`."""
        return await self._ports.assets.media(asset, start, end, tenant)

    # --- requests

    async def compute(self, request: ComputeRequest, wait: float = 0.0, id: str | None = None) -> RequestView:
        """Submit and wait up to `wait` seconds; see `Service.compute`.

        The same `id` again joins the request, also at the same time; for something else it raises
        `RequestMismatch`. The request lives as long as a caller of this method waits for it, or for good once
        it was accepted; whoever reads its events or status keeps nothing alive.
        """
        if request.registry not in self._registries:
            await self._find(request.registry)
        id = id or self._ports.identity.new_id()
        if request.callback is not None:
            return await self._callbacks.compute(request, request.callback, wait, id)
        return await self._flight.compute(request, wait, id)

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        """The request, as soon as it is finished or `wait` seconds have passed. Raises `UnknownRequest`."""
        return await self._requests.status(id, wait)

    def events(self, id: str) -> AsyncIterator[RequestEvent]:
        """What happens to the request from now on, beginning with what is already known."""
        return self._requests.events(id)

    async def cancel(self, id: str) -> RequestView:
        """End the request for everyone; work that others wait for goes on. A finished one stays as it is."""
        async with self._auditor.change("request.cancelled", id) as told:
            view = await self._requests.cancel(id)
            told |= {"tenant": view.tenant, "state": view.state}
        return view

    async def list_requests(
        self,
        tenant: str | None = None,
        state: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[RequestInfo]:
        """A page of requests, the newest first; see `Service.list_requests`."""
        checked_limit(limit), asked.checked_state(state)
        after = read_cursor(asked.REQUESTS, cursor, *asked.PLACE)
        most = limit + 1 if state is None else max(limit + 1, asked.LOOKED_THROUGH)
        shards = await asyncio.gather(*(s.call("requests", tenant, after, most) for s in self._shards))
        known = asked.merged(one for shard in shards for one in shard.values)
        # Known here alone: what was answered from this memory, or has not been brought to the shards yet.
        alone = self._requests.told(tenant, after, most, known)
        told = together([*shards, alone], asked.merged)
        its = tuple(one for one in told.values if state in (None, one.state))
        return told_page(Told(its, told.end), limit, asked.REQUESTS)

    async def explain(self, request: ComputeRequest) -> list[ExplainedStep]:
        """What `compute` would do, step by step in dependency order; runs nothing."""
        await self._find(request.registry)
        assets, failed = await self._planner.resolve(request.assets)
        if failed and not assets:
            raise _as_error(failed[0].failure)
        kept = await self._planner.kept(request, assets) if self._planner.looks_back(request) else None
        plan = self._planner.plan(request, assets, kept)[0].plan
        known = None if request.refresh else self._requests.known(plan.targets)
        return await explained(
            plan,
            self._shards,
            refresh=request.refresh,
            load=int(request.priority) > 0,
            at=self._ports.clock.unix(),
            answered=None if known is None else dict(known.expanded),
        )

    async def deliveries(
        self, *, state: DeliveryState | None = None, tenant: str | None = None
    ) -> list[DeliveryView]:
        """See `Service.deliveries`."""
        return list(await self._shards[0].call("deliveries", state, tenant))

    async def replay(self, id: str, *, tenant: str | None = None) -> DeliveryView:
        """See `Service.replay`."""
        async with self._auditor.change("delivery.replayed", id) as told:
            view: DeliveryView = await self._shards[0].call("replay", id, tenant)
            told |= {"tenant": view.tenant, "host": host_of(view.url)}
        return view

    # --- values

    async def _kept(self, feature: str, version: str, units: Sequence[str]) -> Kept:
        """What there is of a feature's version, of assets and collections: in memory, and stored."""
        return joined(await asyncio.gather(*(s.call("kept", feature, version, units) for s in self._shards)))

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        """The values of ready keys, in order; see `Service.load`."""
        return await self._reader.load(keys)

    def values(self, keys: Sequence[str]) -> AsyncGenerator[Sequence[Answered], None]:
        """Each key's value or why it has none, batch after batch; see `Service.values`."""
        return self._reader.values(keys)

    async def shown(self, keys: Sequence[str], tenant: str) -> frozenset[str]:
        """Of which values a tenant may be told; see `Service.shown`."""
        told = await self._lineage.told(keys)
        ids = list(dict.fromkeys(id for one in told.values() for id in one.assets))
        seen = await self._ports.assets.shown(ids, tenant)
        return frozenset(key for key, one in told.items() if seen.issuperset(one.assets))

    async def list_values(
        self,
        asset: str,
        *,
        feature: str | None = None,
        version: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[ValueInfo]:
        """A page of the values about an asset; see `Service.list_values`."""
        checked_limit(limit)
        after = read_cursor(VALUES, cursor, *PLACE)
        asked = asset, feature, version, after, limit + 1
        several = await asyncio.gather(*(shard.call("about", *asked) for shard in self._shards))
        told: Told[ValueInfo] = together(several, merged)
        if not told.values and after is None:
            # Also where the rest of a large store is not looked through yet.
            [found] = await self._ports.assets.resolve([AssetRef(id=asset)])
            if isinstance(found, UnknownAsset):
                raise found
        return told_page(told, limit, VALUES)

    async def lineage(self, key: str) -> ValueLineage:
        """What a value was made from, down to the media; see `Service.lineage`."""
        return await self._lineage.read(key)

    async def purge(
        self, *, asset: str | None = None, feature: str | None = None, version: str | None = None
    ) -> int:
        """Forget values that match all the filters given; returns how many."""
        if asset is None and feature is None and version is None:
            raise BadRequest("purge needs at least one of asset, feature and version")
        named = {"asset": asset, "feature": feature, "version": version}
        subject = " ".join(f"{name} {value}" for name, value in named.items() if value is not None)
        async with self._auditor.change("values.purged", subject) as told:
            gone = await self._shards[0].call("purge", asset, feature, version, seconds=PURGE_SECONDS)
            told["values"] = len(gone)
        self._requests.forget_values(gone)
        return len(gone)

    async def purge_assets(self, assets: Sequence[str]) -> int:
        """Forget all values of many assets at once; returns how many."""
        some = tuple(assets)
        subject = f"asset {some[0]}" if len(some) == 1 else f"{len(some)} assets"
        async with self._auditor.change("values.purged", subject, assets=some) as told:
            gone = await self._shards[0].call("purge", some, None, None, seconds=PURGE_SECONDS)
            told["values"] = len(gone)
        self._requests.forget_values(gone)
        return len(gone)

    # --- demands

    async def keep(self, demand: Demand) -> DemandView:
        """Keep a demand; see `Service.keep`."""
        demand.check()
        self.by(demand)
        await self._ports.assets.admit(demand.prefixes)
        called: dict[str, object] = {}
        if demand.callback is not None:
            callback = self._callbacks.allowed(demand.callback)
            demand = dataclasses.replace(demand, callback=callback)
            called = {"host": host_of(callback.url), "on": callback.on}
        places = [without_secrets(prefix) for prefix in demand.prefixes]
        async with self._auditor.change(
            "demand.kept",
            demand.name,
            demand.tenant,
            features=demand.features,
            prefixes=places,
            gone=demand.gone,
            **called,
        ):
            view: DemandView = await self._shards[0].call("keep", demand, self._ports.identity.new_id())
        return view

    async def demands(self) -> list[DemandView]:
        """All demands, by name."""
        return list(await self._shards[0].call("demands"))

    async def stop_keeping(self, name: str) -> bool:
        """Forget a demand; see `Service.stop_keeping`."""
        async with self._auditor.change("demand.stopped", name) as told:
            found = bool(await self._shards[0].call("stop_keeping", name, self._ports.identity.new_id()))
            told["found"] = found
        return found

    async def notify(self, uris: Sequence[str], tenant: str | None = None) -> Noticed:
        """Tell that something has happened at these places; see `Service.notify`."""
        places = tuple(place_named(uri) for uri in uris)
        noticed: Noticed = await self._shards[0].call("notify", places, tenant)
        return noticed

    def by(self, demand: Demand) -> str:
        """What a demand asks of an asset, as a digest. Raises `BadRequest` and kin."""
        return wanted(self.registry, demand, self.settings.segment_seconds)

    async def tend(self, steward: str, live: Mapping[str, DemandStatus], wait: float) -> Tended | None:
        """Say as a steward how demands stand; see `DemandDesk.tend` in `fabric.shard`."""
        told: Tended | None = await self._shards[0].call("tend", steward, live, wait)
        return told

    async def note(self, steward: str, id: str, number: int, state: DemandState) -> bool:
        """Note as a steward how a demand stands; see `DemandDesk.note` in `fabric.shard`."""
        return bool(await self._shards[0].call("note_demand", steward, id, number, state))

    async def unstored(self, keys: Sequence[str]) -> frozenset[str]:
        """Wait until those values of these keys that are in memory are stored. Return what is not stored."""
        some = list(keys)
        stored = await asyncio.gather(*(shard.call("stored", some) for shard in self._shards))
        return frozenset(some).difference(*stored)

    async def audit(
        self, only: AuditFilter = EVERY_LINE, limit: int = USUAL, cursor: str | None = None
    ) -> Page[AuditLine]:
        """A page of what was changed, the newest first; see `Service.audit`."""
        checked_limit(limit), checked_filter(only)
        after = read_cursor(AUDIT, cursor, *AUDIT_PLACE)
        told: Told[AuditLine] = await self._shards[0].call("audit", only, after, limit + 1)
        return told_page(told, limit, AUDIT)

    async def versions(self) -> list[StoredVersion]:
        """See `Service.versions`."""
        return list(await self._shards[0].call("versions"))

    async def failures(self) -> list[Failure]:
        """The failures that are remembered now."""
        lists = await asyncio.gather(*(shard.call("failures") for shard in self._shards))
        return [failure for some in lists for failure in some]

    async def troubles(self) -> list[str]:
        """What keeps the service from its work now, a few words each; see `Service.troubles`."""

        async def of(shard: ShardClient) -> list[str]:
            starting = [f"shard {shard.number} is starting: its process is gone, and another one is made"]
            if shard.is_reviving():
                return starting
            try:
                told: list[str] = await shard.call("troubles", seconds=TROUBLES_SECONDS)
            except AmberError as error:
                return starting if shard.is_reviving() else [str(error)]
            return told

        return [trouble for some in await asyncio.gather(*map(of, self._shards)) for trouble in some]

    async def stats(self) -> dict[str, float]:
        """Counters and gauges of all shards, joined; those of engines of all engines."""
        told = await asyncio.gather(*(shard.stats() for shard in self._shards))
        own = {"shards": float(len(self._shards)), "replica_cache_bytes": float(self._cache.bytes)}
        return cumulated(added_up((*told, own)))


def _as_error(failure: Failure) -> AmberError:
    """The error that a failed asset stands for."""
    kind: type[AmberError] = getattr(errors, failure.type, MediaError)
    return kind(failure.message)
