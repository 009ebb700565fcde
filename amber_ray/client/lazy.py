"""An Amber of one's own whose Ray starts with the first question that takes more than reading the store.

    question ──→ the store is read (`fabric.adapter.reading`) ──→ answer
                     └─ something must run, or be written ──→ Ray starts; it answers this and all that follow

So what is stored is answered within the time that Python takes to begin, and while another Amber holds the
store. Both ways are the same engine and shard. Assets that are new are written to the store when Ray has
started, since the store is ours then, or at the end, if nobody else holds it.

Must not know: Ray, how a question is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from amber_ray.client.version_lock import remember
from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.asked import RequestInfo
from amber_ray.core.model.audit import EVERY_LINE, AuditFilter, AuditLine
from amber_ray.core.model.callback import DeliveryState, DeliveryView
from amber_ray.core.model.demands import Demand, DemandView, Noticed
from amber_ray.core.model.kept import StoredVersion
from amber_ray.core.model.pages import EVERY_ASSET, USUAL, AssetFilter, Page
from amber_ray.core.model.provenance import ValueInfo, ValueLineage
from amber_ray.core.model.request import ComputeRequest, ExplainedStep, Failure, RequestView, Result
from amber_ray.core.model.service import (
    Answered,
    FeatureInfo,
    MediaPiece,
    RegistryView,
    RequestEvent,
    Service,
    StoredValue,
)
from amber_ray.core.model.units import Asset
from amber_ray.errors import StoreBusy, StoreError, Unavailable, UnknownRequest, VersionGone
from amber_ray.settings import Settings

if TYPE_CHECKING:
    from amber_ray.client.registered import Opened
    from amber_ray.fabric.adapter.reading import StoreReader
    from amber_ray.media.catalogue import Catalogue

log = logging.getLogger("amber.client")
T = TypeVar("T")


class LazyService:
    """Implements `Service`. Make it with `opened`; it belongs to one event loop."""

    def __init__(self, settings: Settings, registry: Registry, catalogue: Catalogue, features: Sequence[Any]):
        self._settings = settings
        self._registry = registry
        self._catalogue = catalogue
        self._given = features
        self._reader: StoreReader | None = None
        self._readers: dict[StoreReader, int] = {}
        self._turn = asyncio.Lock()
        self._starting: asyncio.Task[Opened] | None = None
        self._closed = False

    @classmethod
    async def opened(cls, settings: Settings, features: Sequence[Any] = ()) -> LazyService:
        """Find out what features there are. Raises `DeclarationError`, `BadRequest`."""
        from amber_ray.fabric.adapter.machine import catalogue
        from amber_ray.features.registered import build

        registry = await asyncio.to_thread(build, settings, features)
        held = await asyncio.to_thread(catalogue, settings)
        held.hold()
        return cls(settings, registry, held, features)

    # --- the two ways

    @property
    def _engine(self) -> Service | None:
        """The engine, if Ray has been started."""
        started = self._starting
        if started is None or not started.done() or started.cancelled() or started.exception() is not None:
            return None
        return started.result().service

    async def _started(self) -> Service:
        """The engine; starts Ray once, for all who ask.

        Raises `StoreBusy` if another Amber has the store, `Unavailable` once this is closed: nobody would
        end a Ray that is started then.
        """
        self._refuse_closed()
        started = self._starting
        if started is None or (started.done() and self._engine is None):
            # Not a part of any caller's task: one who gives up takes the others' Ray along otherwise.
            started = self._starting = asyncio.create_task(self._start())
        return (await asyncio.shield(started)).service

    async def _start(self) -> Opened:
        from amber_ray.client.embedded import start

        opened = await start(self._settings, self._given, self._catalogue)
        try:
            await asyncio.to_thread(self._catalogue.release)
            await remember(self._settings.store, await opened.service.features())
        except BaseException:
            await opened.aclose()
            raise
        async with self._turn:
            reader, self._reader = self._reader, None  # those who still read from it close it
            if reader is not None and not self._readers[reader]:
                await self._close(reader)
        return opened

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[StoreReader]:
        """A reader of the store as it is now; one that others still use is closed when they have ended."""
        from amber_ray.fabric.adapter.reading import StoreReader

        async with self._turn:
            self._refuse_closed()
            reader = self._reader
            if reader is None or not await reader.current():
                made = StoreReader(self._settings, self._registry, self._catalogue)
                await made.open()
                self._reader, self._readers[made] = made, 0
                if reader is not None and not self._readers[reader]:
                    await self._close(reader)
                reader = made
            self._readers[reader] += 1
        try:
            yield reader
        finally:
            if reader in self._readers:  # else `aclose` has closed it under this question
                self._readers[reader] -= 1
                if reader is not self._reader and not self._readers[reader]:
                    await self._close(reader)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise Unavailable("the client is closed; connect again")

    async def _close(self, reader: StoreReader) -> None:
        del self._readers[reader]
        await reader.aclose()

    async def _read(self, question: Callable[[Service], Awaitable[T]]) -> T | None:
        """What the store answers; None if it takes more than that."""
        async with self._reading() as reader:
            return await reader.ask(question)

    async def _asked(self, question: Callable[[Service], Awaitable[T]]) -> T:
        """What the engine answers if there is one, else the store, else the engine after all."""
        if self._engine is None:
            answer = await self._read(question)
            if answer is not None:
                return answer
        return await question(await self._started())

    # --- what there is

    async def features(self) -> list[FeatureInfo]:
        """See `Service.features`."""
        return self._registry.info() if self._engine is None else await self._engine.features()

    async def register(self, base: str, specs: Sequence[FeatureSpec]) -> RegistryView:
        """See `client.registered.Registrar`, which this implements too: what is registered is to be run."""
        if self._starting is None and not specs and base in ("", self._registry.digest):
            return self._registry.view()
        await self._started()
        assert self._starting is not None
        registrar = self._starting.result().registrar
        assert registrar is not None
        # The engine has built the service's own registry itself, of the code as it was then.
        return await registrar.register("" if base == self._registry.digest else base, specs)

    async def add_asset(self, uri: str) -> Asset:
        """See `Service.add_asset`. Whoever is told of a new asset finds it in the store."""
        asset = await self._asked(lambda service: service.add_asset(uri))
        if self._engine is None and self._catalogue.holds(asset.id):
            await self._started()
        return asset

    async def list_assets(
        self, only: AssetFilter = EVERY_ASSET, limit: int = USUAL, cursor: str | None = None
    ) -> Page[Asset]:
        """See `Service.list_assets`."""
        return await self._asked(lambda service: service.list_assets(only, limit, cursor))

    async def asset(self, id: str, tenant: str | None = None) -> Asset:
        """See `Service.asset`."""
        return await self._asked(lambda service: service.asset(id, tenant))

    async def upload(self, chunks: AsyncIterable[bytes], media_type: str | None = None) -> Asset:
        """See `Service.upload`."""
        return await (await self._started()).upload(chunks, media_type)

    async def media(
        self, asset: str, start: int = 0, end: int | None = None, tenant: str | None = None
    ) -> MediaPiece:
        """See `Service.media`."""
        return await self._asked(lambda service: service.media(asset, start, end, tenant))

    # --- requests

    async def compute(self, request: ComputeRequest, wait: float = 0.0, id: str | None = None) -> RequestView:
        """See `Service.compute`. A request for what is stored, all of it, needs no Ray.

        Nor does one for a version that is not stored and has no code here: no Ray would change that.
        """
        if self._engine is None and wait > 0 and not request.refresh and request.callback is None:
            view = await self._read(lambda service: service.compute(request, wait, id))
            if view is not None and view.state != "running" and all(map(_certain, view.results)):
                return view
        return await (await self._started()).compute(request, wait, id)

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        """See `Service.status`. Requests of earlier runs are known to an engine only."""
        return await (await self._started()).status(id, wait)

    async def events(self, id: str) -> AsyncIterator[RequestEvent]:
        """See `Service.events`."""
        async for event in (await self._started()).events(id):
            yield event

    async def cancel(self, id: str) -> RequestView:
        """See `Service.cancel`. Nothing is started, or waited for, only to be ended."""
        if self._engine is None:
            raise UnknownRequest(f"no request has the id {id!r}")
        return await self._engine.cancel(id)

    async def deliveries(
        self, *, state: DeliveryState | None = None, tenant: str | None = None
    ) -> list[DeliveryView]:
        """See `Service.deliveries`. They are the owner's of the store, and made while it is one."""
        return await (await self._started()).deliveries(state=state, tenant=tenant)

    async def replay(self, id: str, *, tenant: str | None = None) -> DeliveryView:
        """See `Service.replay`."""
        return await (await self._started()).replay(id, tenant=tenant)

    async def list_requests(
        self,
        tenant: str | None = None,
        state: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[RequestInfo]:
        """See `Service.list_requests`. Requests of earlier runs are known to an engine only."""
        return (
            Page() if self._engine is None else await self._engine.list_requests(tenant, state, limit, cursor)
        )

    async def audit(
        self, only: AuditFilter = EVERY_LINE, limit: int = USUAL, cursor: str | None = None
    ) -> Page[AuditLine]:
        """See `Service.audit`."""
        return await self._asked(lambda service: service.audit(only, limit, cursor))

    async def explain(self, request: ComputeRequest) -> list[ExplainedStep]:
        """See `Service.explain`."""
        if self._engine is None:
            async with self._reading() as reader:
                steps = await reader.ask(lambda engine: engine.explain(request))
            if steps is not None and reader.foresees(steps):
                return steps
        return await (await self._started()).explain(request)

    # --- values

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        """See `Service.load`."""
        return await self._asked(lambda service: service.load(keys))

    async def values(self, keys: Sequence[str]) -> AsyncGenerator[Sequence[Answered], None]:
        """See `Service.values`."""
        if self._engine is not None:
            async with aclosing(self._engine.values(keys)) as batches:
                async for batch in batches:
                    yield batch
            return
        async with self._reading() as reader, aclosing(reader.values(keys)) as batches:
            async for batch in batches:
                yield batch

    async def shown(self, keys: Sequence[str], tenant: str) -> frozenset[str]:
        """See `Service.shown`."""
        return await self._asked(lambda service: service.shown(keys, tenant))

    async def list_values(
        self,
        asset: str,
        *,
        feature: str | None = None,
        version: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[ValueInfo]:
        """See `Service.list_values`."""
        return await self._asked(
            lambda service: service.list_values(
                asset, feature=feature, version=version, limit=limit, cursor=cursor
            )
        )

    async def lineage(self, key: str) -> ValueLineage:
        """See `Service.lineage`."""
        return await self._asked(lambda service: service.lineage(key))

    async def keep(self, demand: Demand) -> DemandView:
        """See `Service.keep`. What is to be kept true is to be run."""
        return await (await self._started()).keep(demand)

    async def demands(self) -> list[DemandView]:
        """See `Service.demands`. Before Ray runs they stand as they were noted last."""
        if self._engine is not None:
            return await self._engine.demands()
        return await asyncio.to_thread(_noted_demands, self._settings.store)

    async def stop_keeping(self, name: str) -> bool:
        """See `Service.stop_keeping`."""
        return await (await self._started()).stop_keeping(name)

    async def notify(self, uris: Sequence[str], tenant: str | None = None) -> Noticed:
        """See `Service.notify`."""
        return await (await self._started()).notify(uris, tenant)

    async def versions(self) -> list[StoredVersion]:
        """See `Service.versions`."""
        return await self._asked(lambda service: service.versions())

    async def purge(
        self, *, asset: str | None = None, feature: str | None = None, version: str | None = None
    ) -> int:
        """See `Service.purge`."""
        return await (await self._started()).purge(asset=asset, feature=feature, version=version)

    async def failures(self) -> list[Failure]:
        """See `Service.failures`. Before anything has run there are none."""
        return [] if self._engine is None else await self._engine.failures()

    async def troubles(self) -> list[str]:
        """See `Service.troubles`. Before anything has run there are none."""
        return [] if self._engine is None else await self._engine.troubles()

    async def stats(self) -> dict[str, float]:
        """See `Service.stats`."""
        return await self._asked(lambda service: service.stats())

    async def aclose(self) -> None:
        """Stop Ray, if it was started, when what is unwritten has been written. Twice is once."""
        if self._closed:
            return
        self._closed = True
        async with self._turn:
            for reader in list(self._readers):
                await self._close(reader)
        if self._starting is None:
            await asyncio.to_thread(self._write_held)
            return
        with contextlib.suppress(Exception):  # whoever asked was told
            await self._starting
        if self._engine is not None:
            await self._starting.result().aclose()

    def _write_held(self) -> None:
        """Write what is known of new assets, so that they are not digested again, if the store is nobody's.

        On an object store that would take longer than digesting most media.
        """
        from amber_ray.store.files import local_directory
        from amber_ray.store.lease import Lease

        if not self._catalogue.held or local_directory(self._settings.store) is None:
            return
        lease = Lease(self._settings.store)
        try:
            lease.acquire("an Amber that has looked at new media")
            try:
                self._catalogue.release()
            finally:
                lease.release()
        except (StoreBusy, StoreError) as error:
            log.info("new assets will be looked at again: %s", error)


def _noted_demands(store: str) -> list[DemandView]:
    from amber_ray.store.demands import DemandBook

    return [DemandView(one.demand, state.status, one.made) for one, state in DemandBook(store).read()]


def _certain(result: Result) -> bool:
    """Whether an Amber that can run things would say the same."""
    failure = result.failure
    return result.state == "ready" or (failure is not None and failure.type == VersionGone.__name__)
