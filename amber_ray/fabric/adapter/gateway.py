"""The way in for `ray://`: an engine in the cluster, behind a named actor, and the client side of it.

Ray Client makes each call cost about ten milliseconds and each ref a server-side proxy, so a program outside
the cluster sends whole requests to an engine inside it instead of being one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.declare.lineage import Lineage
from amber_ray.core.model.asked import RequestInfo
from amber_ray.core.model.audit import EVERY_LINE, AuditFilter, AuditLine
from amber_ray.core.model.callback import DeliveryState, DeliveryView
from amber_ray.core.model.demands import Demand, DemandView, Noticed
from amber_ray.core.model.kept import StoredVersion
from amber_ray.core.model.pages import EVERY_ASSET, USUAL, AssetFilter, Page
from amber_ray.core.model.provenance import ValueInfo, ValueLineage
from amber_ray.core.model.request import ComputeRequest, ExplainedStep, Failure, RequestView
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
from amber_ray.core.values.size import size_of
from amber_ray.errors import (
    AmberError,
    DeclarationError,
    TooLarge,
    Unavailable,
    UnknownRegistry,
    UnknownRequest,
)
from amber_ray.fabric.adapter.engine_start import start_engine
from amber_ray.fabric.transport import registry_blob
from amber_ray.fabric.transport.names import GATEWAY
from amber_ray.settings import Settings

log = logging.getLogger("amber.gateway")

CALL_SECONDS = 120.0
"""Bound on one call beside what it was asked to wait."""
WATCH_SECONDS = 10.0
"""How long one question for events waits for some before it is asked again."""
STREAM_SECONDS = 60.0
"""How long a stream that nobody reads is kept."""
STREAM_EVENTS = 1000
"""Events that wait for their reader; then those to come wait too."""
ATTEMPTS = 4
STILLBORN = "Starting Ray client server failed"
"""What Ray Client's proxy says of a server process that was dead as soon as it was forked."""
UPLOAD_BYTES = 256 << 20
VALUES_BYTES = 32 << 20
"""Bytes of values that one call brings, or as many as one batch has."""


@dataclass(slots=True, eq=False)
class Stream:
    """The events of one request on their way to one reader; after the last one None, or what was raised.

    `asked`: when the reader last asked for some, on the event loop's clock.
    """

    asked: float
    events: asyncio.Queue[RequestEvent | Exception | None]
    pump: asyncio.Task[None]


class Gateway:
    """Runs in the cluster: forwards each call to its engine, started with the running Amber's settings.

    `start` makes the engine; events of requests are kept in streams, since Ray Client carries calls alone.
    """

    def __init__(self, namespace: str, start: Callable[[], Awaitable[Service]] | None = None) -> None:
        settings = Settings(namespace=namespace)
        self._start = start or functools.partial(start_engine, settings, create=False)
        self._engine: asyncio.Future[Service] | None = None
        self._streams: dict[str, Stream] = {}

    async def _service(self) -> Service:
        """The engine; one that could not be started is tried again by the next call."""
        engine = self._engine
        if engine is None or (engine.done() and engine.exception() is not None):
            engine = self._engine = asyncio.ensure_future(self._start())
        return await asyncio.shield(engine)

    async def call(self, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call one of the service's methods."""
        return await getattr(await self._service(), method)(*arguments, **named)

    async def values(self, keys: Sequence[str], most: int) -> list[Answered]:
        """What is said of the first of these keys: batches until they have `most` bytes, at least one."""
        found: list[Answered] = []
        size = 0
        async with contextlib.aclosing((await self._service()).values(keys)) as batches:
            async for some in batches:
                found += some
                size += sum(size_of(one.value) for one in some if isinstance(one, StoredValue))
                if size >= most:
                    break
        return found

    async def register(self, base: str, names: Sequence[str], code: bytes) -> RegistryView:
        """Keep a caller's registry, for requests that name it; see `Engine.register`.

        The code comes pickled, and is loaded here as workers load it: a caller inside the cluster's walls.
        """
        engine = await self._service()
        try:
            specs = (await asyncio.to_thread(registry_blob.load_layer, code)).values() if names else ()
        except Exception as error:
            raise DeclarationError(
                f"the code of {', '.join(map(repr, names))} can't be loaded in the cluster: "
                f"{type(error).__name__}: {error}; what it imports must be installed there"
            ) from error
        view: RegistryView = await engine.register(base, tuple(specs), code)  # type: ignore[attr-defined]
        return view

    async def upload(self, data: bytes, media_type: str | None) -> Asset:
        """Keep bytes that came in one piece."""

        async def once() -> AsyncIterator[bytes]:
            yield data

        asset: Asset = await self.call("upload", (once(), media_type), {})
        return asset

    async def watch(self, id: str) -> str:
        """Begin to follow a request's events; returns the name of the stream, for `more` and `unwatch`."""
        service = await self._service()
        now = asyncio.get_running_loop().time()
        for name, stream in list(self._streams.items()):
            if now - stream.asked > STREAM_SECONDS:
                await self.unwatch(name)  # its reader is gone
        queue: asyncio.Queue[RequestEvent | Exception | None] = asyncio.Queue(STREAM_EVENTS)
        pump = asyncio.create_task(_pump(service.events(id), queue))
        name = uuid.uuid4().hex
        self._streams[name] = Stream(now, queue, pump)
        return name

    async def more(self, name: str) -> tuple[list[RequestEvent], bool]:
        """The next events as soon as there are any, and whether there will be others.

        Waits up to `WATCH_SECONDS`. Raises what the events raise, and `UnknownRequest` if the stream is over.
        """
        stream = self._streams.get(name)
        if stream is None:
            raise UnknownRequest("this stream of events is over, or was not read for too long")
        stream.asked = asyncio.get_running_loop().time()
        found: list[RequestEvent] = []
        try:
            async with asyncio.timeout(WATCH_SECONDS):
                item = await stream.events.get()
        except TimeoutError:
            return found, True
        while isinstance(item, RequestEvent):
            found.append(item)
            if stream.events.empty():
                return found, True
            item = stream.events.get_nowait()
        if item is not None and found:
            stream.events.put_nowait(item)  # told the next time
            return found, True
        del self._streams[name]
        if item is not None:
            raise item
        return found, False

    async def unwatch(self, name: str) -> None:
        """Let go of a stream; one that is over already is fine."""
        stream = self._streams.pop(name, None)
        if stream is not None:
            stream.pump.cancel()


async def _pump(
    events: AsyncIterator[RequestEvent], queue: asyncio.Queue[RequestEvent | Exception | None]
) -> None:
    """Put events into a queue, which is read as fast as the reader likes."""
    try:
        async for event in events:
            await queue.put(event)
    except Exception as error:  # noqa: BLE001 - raised to the reader
        await queue.put(error)
    else:
        await queue.put(None)


class GatewayService:
    """`Service` over Ray Client. Blocking Ray calls run in threads, each with a bound."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._brought = Lineage[tuple[str, Sequence[str], bytes]]()

    async def register(self, base: str, specs: Sequence[FeatureSpec]) -> RegistryView:
        """Implements `client.registered.Registrar`. Nothing is awaited before the code is pickled."""
        code = registry_blob.pack_layer(specs) if specs else b""
        names = [spec.name for spec in specs]
        view: RegistryView = await self._get(self._handle.register.remote(base, names, code))
        if names:
            self._brought.note(view.digest, base, (base, names, code))
        return view

    async def _planned(self, method: str, request: ComputeRequest, *arguments: Any, wait: float = 0.0) -> Any:
        """Call a method that plans; a gateway that started over is brought this client's features again."""
        try:
            return await self._call(method, request, *arguments, wait=wait)
        except UnknownRegistry:
            await self._bring(request.registry)
            return await self._call(method, request, *arguments, wait=wait)

    async def _bring(self, digest: str) -> None:
        """Register again what a registry was made of. Raises `Unavailable` if it can't be made any more."""
        try:
            for step in self._brought.steps(digest):
                await self._get(self._handle.register.remote(*step))
        except UnknownRegistry as error:
            raise Unavailable(
                "the cluster has other features than when this client registered its own; connect again"
            ) from error

    async def _call(self, method: str, *arguments: Any, wait: float = 0.0, **named: Any) -> Any:
        return await self._get(self._handle.call.remote(method, arguments, named), wait)

    async def _get(self, ref: Any, wait: float = 0.0) -> Any:
        try:
            return await asyncio.to_thread(ray.get, ref, timeout=CALL_SECONDS + wait)
        except asyncio.CancelledError:
            # In the cluster the call goes on until it is told that its caller has hung up.
            asyncio.get_running_loop().run_in_executor(None, _hang_up, ref)
            raise
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, AmberError):
                raise error.cause from None
            raise
        except ray.exceptions.GetTimeoutError as error:
            raise Unavailable(f"the gateway did not answer within {CALL_SECONDS + wait:g} s") from error
        except (ray.exceptions.RayActorError, ConnectionError) as error:
            raise Unavailable(f"the gateway can't be reached: {error}") from error

    async def features(self) -> list[FeatureInfo]:
        """See `Service.features`."""
        return list(await self._call("features"))

    async def add_asset(self, uri: str) -> Asset:
        """See `Service.add_asset`; the URI is one of the cluster's."""
        asset: Asset = await self._call("add_asset", uri)
        return asset

    async def list_assets(
        self, only: AssetFilter = EVERY_ASSET, limit: int = USUAL, cursor: str | None = None
    ) -> Page[Asset]:
        """See `Service.list_assets`."""
        page: Page[Asset] = await self._call("list_assets", only, limit, cursor)
        return page

    async def asset(self, id: str, tenant: str | None = None) -> Asset:
        """See `Service.asset`."""
        asset: Asset = await self._call("asset", id, tenant)
        return asset

    async def upload(self, chunks: AsyncIterable[bytes], media_type: str | None = None) -> Asset:
        """See `Service.upload`; in one piece, so for small files. Raises `TooLarge`."""
        data = bytearray()
        async for chunk in chunks:
            data += chunk
            if len(data) > UPLOAD_BYTES:
                raise TooLarge(
                    f"an upload through ray:// may be {UPLOAD_BYTES} bytes; use HTTP for larger ones"
                )
        asset: Asset = await self._get(self._handle.upload.remote(bytes(data), media_type))
        return asset

    async def media(
        self, asset: str, start: int = 0, end: int | None = None, tenant: str | None = None
    ) -> MediaPiece:
        """See `Service.media`."""
        piece: MediaPiece = await self._call("media", asset, start, end, tenant)
        return piece

    async def compute(self, request: ComputeRequest, wait: float = 0.0, id: str | None = None) -> RequestView:
        """See `Service.compute`."""
        view: RequestView = await self._planned("compute", request, wait, id, wait=wait)
        return view

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        """See `Service.status`."""
        view: RequestView = await self._call("status", id, wait, wait=wait)
        return view

    async def events(self, id: str) -> AsyncIterator[RequestEvent]:
        """See `Service.events`: a stream in the cluster, of which each call brings all that has come."""
        name: str = await self._get(self._handle.watch.remote(id))
        try:
            more = True
            while more:
                events, more = await self._get(self._handle.more.remote(name), WATCH_SECONDS)
                for event in events:
                    yield event
        finally:
            if more:
                self._handle.unwatch.remote(name)

    async def cancel(self, id: str) -> RequestView:
        """See `Service.cancel`."""
        view: RequestView = await self._call("cancel", id)
        return view

    async def deliveries(
        self, *, state: DeliveryState | None = None, tenant: str | None = None
    ) -> list[DeliveryView]:
        """See `Service.deliveries`."""
        return list(await self._call("deliveries", state=state, tenant=tenant))

    async def replay(self, id: str, *, tenant: str | None = None) -> DeliveryView:
        """See `Service.replay`."""
        view: DeliveryView = await self._call("replay", id, tenant=tenant)
        return view

    async def list_requests(
        self,
        tenant: str | None = None,
        state: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[RequestInfo]:
        """See `Service.list_requests`."""
        page: Page[RequestInfo] = await self._call("list_requests", tenant, state, limit, cursor)
        return page

    async def audit(
        self, only: AuditFilter = EVERY_LINE, limit: int = USUAL, cursor: str | None = None
    ) -> Page[AuditLine]:
        """See `Service.audit`."""
        page: Page[AuditLine] = await self._call("audit", only, limit, cursor)
        return page

    async def explain(self, request: ComputeRequest) -> list[ExplainedStep]:
        """See `Service.explain`."""
        return list(await self._planned("explain", request))

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        """See `Service.load`."""
        return list(await self._call("load", list(keys)))

    async def values(self, keys: Sequence[str]) -> AsyncGenerator[Sequence[Answered], None]:
        """See `Service.values`: each call brings some batches."""
        left = list(dict.fromkeys(keys))
        while left:
            answers: list[Answered] = await self._get(self._handle.values.remote(left, VALUES_BYTES))
            yield answers
            told = {answer.key for answer in answers}
            left = [key for key in left if key not in told]

    async def shown(self, keys: Sequence[str], tenant: str) -> frozenset[str]:
        """See `Service.shown`."""
        return frozenset(await self._call("shown", list(keys), tenant))

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
        page: Page[ValueInfo] = await self._call(
            "list_values", asset, feature=feature, version=version, limit=limit, cursor=cursor
        )
        return page

    async def lineage(self, key: str) -> ValueLineage:
        """See `Service.lineage`."""
        lineage: ValueLineage = await self._call("lineage", key)
        return lineage

    async def purge(
        self, *, asset: str | None = None, feature: str | None = None, version: str | None = None
    ) -> int:
        """See `Service.purge`."""
        return int(await self._call("purge", asset=asset, feature=feature, version=version))

    async def keep(self, demand: Demand) -> DemandView:
        """See `Service.keep`."""
        view: DemandView = await self._call("keep", demand)
        return view

    async def demands(self) -> list[DemandView]:
        """See `Service.demands`."""
        return list(await self._call("demands"))

    async def stop_keeping(self, name: str) -> bool:
        """See `Service.stop_keeping`."""
        return bool(await self._call("stop_keeping", name))

    async def notify(self, uris: Sequence[str], tenant: str | None = None) -> Noticed:
        """See `Service.notify`."""
        noticed: Noticed = await self._call("notify", tuple(uris), tenant)
        return noticed

    async def versions(self) -> list[StoredVersion]:
        """See `Service.versions`."""
        return list(await self._call("versions"))

    async def failures(self) -> list[Failure]:
        """See `Service.failures`."""
        return list(await self._call("failures"))

    async def troubles(self) -> list[str]:
        """See `Service.troubles`."""
        return list(await self._call("troubles"))

    async def stats(self) -> dict[str, float]:
        """See `Service.stats`."""
        return dict(await self._call("stats"))

    async def aclose(self) -> None:
        """Leave the cluster; what was accepted goes on."""
        await asyncio.to_thread(ray.shutdown)


def _hang_up(ref: Any) -> None:
    """Have the coroutine in the cluster cancelled, which waits for a caller that is gone."""
    try:
        ray.cancel(ref, recursive=False)  # what it asked of others may be for other callers too
    except (ray.exceptions.RayError, ConnectionError, ValueError) as error:
        log.info("the gateway was not told that a caller hung up: %s", error)


async def connect(address: str, settings: Settings) -> GatewayService:
    """Reach the Amber of the cluster at `ray://host:port`. Raises `Unavailable`, saying what may be wrong."""

    def join() -> Any:
        if not ray.is_initialized():
            _init(address, settings.namespace)
        return (
            ray.remote(Gateway)
            .options(
                name=GATEWAY,
                namespace=settings.namespace,
                lifetime="detached",
                max_restarts=-1,
                num_cpus=0,
                max_concurrency=10_000,
                get_if_exists=True,
            )
            .remote(settings.namespace)
        )

    try:
        handle = await asyncio.to_thread(join)
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        raise Unavailable(
            f"no Ray cluster answers at {address}: {str(error).strip()} "
            "(a cluster with token authentication also needs RAY_AUTH_MODE=token and its token here)"
        ) from error
    service = GatewayService(handle)
    await service.features()  # the engine behind it is up, or says why not
    return service


def _init(address: str, namespace: str) -> None:
    """Join as a Ray client.

    The cluster forks a server process for each client out of one full of gRPC threads; now and then that fork
    dies before it has begun. Nothing has run for this client by then, so it asks again.
    """
    for left in reversed(range(ATTEMPTS)):
        try:
            ray.init(address=address, namespace=namespace, logging_level=logging.ERROR)
            return
        except ConnectionAbortedError as error:
            if not left or STILLBORN not in str(error):
                raise
