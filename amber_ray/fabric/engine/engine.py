"""The engine: `Service` inside the cluster, for Serve replicas, Python callers and the gateway.

It resolves assets, plans, sends each shard its part in one call, and gathers the answers. Values that it has
read stay in a bounded memory of its own: a key never changes its meaning, so they are right for ever.
Anything that must outlive this process (work, requests, values) lives in the cache actors and the store.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Any

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.request import ComputeRequest, ExplainedStep, Failure, RequestView
from amber_ray.core.model.service import FeatureInfo, RequestEvent, StoredValue
from amber_ray.core.model.units import Asset
from amber_ray.errors import (
    AmberError,
    BadRequest,
    MediaError,
    Overloaded,
    StoreError,
)
from amber_ray.fabric.engine import cache
from amber_ray.fabric.engine.planner import Planning
from amber_ray.fabric.engine.request import TrackedRequest
from amber_ray.fabric.engine.requests import RequestTracker
from amber_ray.fabric.engine.shard_client import ShardClient
from amber_ray.fabric.engine.value_reader import Reader
from amber_ray.fabric.transport import registry_blob
from amber_ray.fabric.transport.messages import PlanPart, Submission
from amber_ray.media.locate import Locator
from amber_ray.media.probe import Catalogue
from amber_ray.settings import Settings

log = logging.getLogger("amber.engine")


class Engine:
    """Implements `Service`. Make it with `Engine.start`; it belongs to the event loop it was started on."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.registry = registry
        self._catalogue = Catalogue(
            settings.store,
            Locator(settings.media_roots, settings.remote_schemes),
            settings.limits,
            settings.etag_identity,
        )
        self._session = uuid.uuid4().hex
        self._links: list[ShardClient] = []
        self._planning = Planning(settings, registry, self._catalogue)
        self._cache = cache.Cache(settings.replica_cache_bytes)
        self._answers = cache.Answers(settings.replica_cache_bytes // 4)
        self._following = RequestTracker(self._links, self._answers, self._cache)
        self._told: set[asyncio.Task[None]] = set()
        self._reader = Reader(registry, self._links, self._cache)
        self._sweeping: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, settings: Settings, *, features: Sequence[Any] = (), create: bool = True) -> Engine:
        """Connect to the cache actors of this Ray cluster, made if `create`.

        `features` are decorated functions or classes beside those of `settings`. With `create` False the
        running cluster's settings are adopted. Raises `DeclarationError`, `StoreBusy`, `Unavailable`.
        """
        if not create:
            settings = await _adopt(settings)
        registry = await asyncio.to_thread(registry_blob.build, settings, features)
        registry_blob.remember(registry)
        engine = cls(settings, registry)
        blobs = {registry.digest: await asyncio.to_thread(registry_blob.pack, registry)}
        for number in range(settings.shards):
            link = ShardClient(settings, number, engine._session, blobs)
            link.on_news = engine._following.news
            link.on_reply = engine._following.reply
            await link.open(create=create)
            engine._links.append(link)
        engine._sweeping = asyncio.create_task(engine._following.sweep())
        return engine

    async def aclose(self) -> None:
        """Let go of the shards; what was accepted goes on without this engine."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await asyncio.gather(*(link.close() for link in self._links))

    # --- what there is

    async def features(self) -> list[FeatureInfo]:
        """Every registered feature, by name."""
        return self.registry.info()

    async def add_asset(self, uri: str) -> Asset:
        """Identify and probe the media at `uri`."""
        return await asyncio.to_thread(self._catalogue.add, uri)

    async def get_asset(self, id: str) -> Asset:
        """A known asset. Raises `UnknownAsset`."""
        return await asyncio.to_thread(self._catalogue.get, id)

    async def upload(self, chunks: AsyncIterable[bytes], media_type: str | None = None) -> Asset:
        """Keep the bytes under the store and return their asset."""
        return await cache.upload(self._catalogue, chunks, media_type, self.settings.limits.upload_bytes)

    # --- requests

    async def compute(self, request: ComputeRequest, wait: float = 0.0, id: str | None = None) -> RequestView:
        """Submit and wait up to `wait` seconds; see `Service.compute`."""
        id = id or uuid.uuid4().hex
        if id in self._following:
            return await self.status(id, wait)
        assets, failed = await self._planning.resolve(request.assets)
        planned, refused = self._planning.plan(request, assets)
        failed = (*failed, *refused)
        created = time.time()
        targets, parts = planned.plan.targets, planned.parts
        pending = TrackedRequest(id, targets, failed, request.tenant, created, set(parts), request.features)
        self._following.add(pending)
        if not parts:
            return pending.view()
        if not request.refresh and self._following.known(pending, parts):
            if self.settings.replicas > 1:
                # Another replica may be asked about this id, so the shards are told; nobody waits for that.
                telling = asyncio.create_task(self._submit(pending, parts, request, None))
                self._told.add(telling)
                telling.add_done_callback(self._told.discard)
            return pending.view()
        if request.refresh:
            self._answers.forget(t.key for t in targets)
            self._cache.forget(t.key for t in targets)
        body = self._planning.body(request, assets, failed) if wait <= 0 else None
        try:
            await self._submit(pending, parts, request, body)
            if not await pending.wait(wait) and body is None:
                body = self._planning.body(request, assets, failed)
                await asyncio.gather(*(self._links[n].accept(id, body) for n in sorted(pending.open)))
            pending.accepted = body is not None
        except asyncio.CancelledError:
            # The caller has left before it was promised anything.
            await asyncio.shield(self._following.withdraw(pending))
            raise
        except AmberError:
            self._following.forget(id)
            await self._following.withdraw(pending)
            raise
        if pending.running:
            await self._following.refresh_progress(pending)
        return pending.view()

    async def _submit(
        self,
        pending: TrackedRequest,
        parts: Mapping[int, tuple[str, PlanPart]],
        request: ComputeRequest,
        body: Mapping[str, Any] | None,
    ) -> None:
        async def one(number: int, plan: str, part: PlanPart) -> None:
            reply = await self._links[number].submit(
                plan,
                part,
                Submission(
                    id=pending.id,
                    plan=plan,
                    priority=int(request.priority),
                    tenant=request.tenant,
                    deadline_seconds=request.deadline_seconds,
                    refresh=request.refresh,
                    load=int(request.priority) > 0,
                    created=pending.created,
                    record=body,
                ),
            )
            if reply.refused:
                raise Overloaded(reply.refused)
            if reply.unsaved:
                raise StoreError(reply.unsaved)
            self._following.reply(number, reply)

        await asyncio.gather(*(one(n, plan, part) for n, (plan, part) in parts.items()))

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        """The request, as soon as it is finished or `wait` seconds have passed."""
        return await self._following.status(id, wait)

    def events(self, id: str) -> AsyncIterator[RequestEvent]:
        """What happens to the request from now on, beginning with what is already known."""
        return self._following.events(id)

    async def cancel(self, id: str) -> RequestView:
        """Withdraw the request; work that others wait for goes on."""
        return await self._following.cancel(id)

    async def explain(self, request: ComputeRequest) -> list[ExplainedStep]:
        """What `compute` would do, step by step in dependency order; runs nothing."""
        assets, failed = await self._planning.resolve(request.assets)
        if failed and not assets:
            raise _as_error(failed[0].failure)
        plan = self._planning.plan(request, assets)[0].plan
        homes: dict[int, list[str]] = {}
        for key, step in plan.steps.items():
            homes.setdefault(step.home, []).append(key)
        states: dict[str, str] = {}
        for number, keys in homes.items():
            states.update(await self._links[number].call("states", keys))
        names = {(s.recipe.feature, s.recipe.version) for s in plan.steps.values()}
        seconds = await self._links[0].call("expected", sorted(names))
        targets = {t.key for t in plan.targets}
        return [
            ExplainedStep(
                feature=step.recipe.feature,
                version=step.recipe.version,
                key=key,
                unit=step.unit,
                state=states[key],  # type: ignore[arg-type]
                inputs=step.needs,
                seconds=seconds.get((step.recipe.feature, step.recipe.version)),
                resources=step.recipe.resources.as_mapping(),
                target=key in targets,
            )
            for key, step in plan.steps.items()
        ]

    # --- values

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        """The values of ready keys, in order; see `Service.load`."""
        return await self._reader.load(keys)

    async def purge(
        self, *, asset: str | None = None, feature: str | None = None, version: str | None = None
    ) -> int:
        """Forget values that match all the filters given; returns how many."""
        if asset is None and feature is None and version is None:
            raise BadRequest("purge needs at least one of asset, feature and version")
        gone: set[str] = set()
        for link in self._links:
            gone.update(await link.call("purge", asset, feature, version))
        self._cache.forget(gone)
        self._answers.forget(gone)
        return len(gone)

    async def failures(self) -> list[Failure]:
        """The failures that are remembered now."""
        lists = await asyncio.gather(*(link.call("failures") for link in self._links))
        return [failure for some in lists for failure in some]

    async def stats(self) -> dict[str, float]:
        """Counters and gauges, summed over the shards."""
        total: dict[str, float] = {"shards": float(len(self._links))}
        for stats in await asyncio.gather(*(link.call("stats") for link in self._links)):
            for name, value in stats.items():
                total[name] = total.get(name, 0.0) + value
        total["replica_cache_bytes"] = float(self._cache.bytes)
        return total


async def _adopt(settings: Settings) -> Settings:
    """The settings of the Amber that runs here; media roots of the caller's own are added."""
    from amber_ray.fabric.adapter import cluster

    _, hello = await cluster.shard(settings, 0, create=False)
    running = Settings.from_json(hello.settings)
    roots = tuple(dict.fromkeys((*running.media_roots, *settings.media_roots)))
    return running.replace(media_roots=roots)


def _as_error(failure: Failure) -> AmberError:
    import amber_ray.errors as errors

    kind = getattr(errors, failure.type, MediaError)
    error: AmberError = kind(failure.message)
    return error
