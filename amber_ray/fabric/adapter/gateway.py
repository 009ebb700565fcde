"""The way in for `ray://`: an engine in the cluster, behind a named actor, and the client side of it.

Ray Client makes each call cost about ten milliseconds and each ref a server-side proxy, so a program outside
the cluster sends whole requests to an engine inside it instead of being one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any

import ray

from amber_ray.core.model.request import ComputeRequest, ExplainedStep, Failure, RequestView
from amber_ray.core.model.service import FeatureInfo, RequestEvent, StoredValue
from amber_ray.core.model.units import Asset
from amber_ray.errors import AmberError, TooLarge, Unavailable
from amber_ray.fabric.engine.engine import Engine
from amber_ray.fabric.transport.names import GATEWAY
from amber_ray.settings import Settings

CALL_SECONDS = 120.0
"""Bound on one call beside what it was asked to wait."""
WATCH_SECONDS = 1.0
ATTEMPTS = 4
STILLBORN = "Starting Ray client server failed"
"""What Ray Client's proxy says of a server process that was dead as soon as it was forked."""
UPLOAD_BYTES = 256 << 20


class Gateway:
    """Runs in the cluster: forwards each call to its engine, started with the running Amber's settings."""

    def __init__(self, namespace: str) -> None:
        self._settings = Settings(namespace=namespace)
        self._engine: asyncio.Task[Engine] | None = None

    async def call(self, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call one of the service's methods."""
        if self._engine is None or (self._engine.done() and self._engine.exception() is not None):
            self._engine = asyncio.create_task(Engine.start(self._settings, create=False))
        engine = await asyncio.shield(self._engine)
        return await getattr(engine, method)(*arguments, **named)

    async def upload(self, data: bytes, media_type: str | None) -> Asset:
        """Keep bytes that came in one piece."""

        async def once() -> AsyncIterator[bytes]:
            yield data

        asset: Asset = await self.call("upload", (once(), media_type), {})
        return asset


class GatewayService:
    """`Service` over Ray Client. Blocking Ray calls run in threads, each with a bound."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def _call(self, method: str, *arguments: Any, wait: float = 0.0, **named: Any) -> Any:
        return await self._get(self._handle.call.remote(method, arguments, named), wait)

    async def _get(self, ref: Any, wait: float = 0.0) -> Any:
        try:
            return await asyncio.to_thread(ray.get, ref, timeout=CALL_SECONDS + wait)
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

    async def get_asset(self, id: str) -> Asset:
        """See `Service.get_asset`."""
        asset: Asset = await self._call("get_asset", id)
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

    async def compute(self, request: ComputeRequest, wait: float = 0.0, id: str | None = None) -> RequestView:
        """See `Service.compute`."""
        view: RequestView = await self._call("compute", request, wait, id, wait=wait)
        return view

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        """See `Service.status`."""
        view: RequestView = await self._call("status", id, wait, wait=wait)
        return view

    async def events(self, id: str) -> AsyncIterator[RequestEvent]:
        """See `Service.events`; read off the request's view about once a second."""
        told: set[tuple[str, str]] = set()
        while True:
            view = await self.status(id, WATCH_SECONDS)
            yield RequestEvent("progress", view.done, view.total)
            for result in view.results:
                name = (result.feature, result.key)
                if result.state in ("ready", "failed") and name not in told:
                    told.add(name)
                    yield RequestEvent("result", view.done, view.total, result=result)
            if view.state != "running":
                yield RequestEvent("done", view.done, view.total, view=view)
                return

    async def cancel(self, id: str) -> RequestView:
        """See `Service.cancel`."""
        view: RequestView = await self._call("cancel", id)
        return view

    async def explain(self, request: ComputeRequest) -> list[ExplainedStep]:
        """See `Service.explain`."""
        return list(await self._call("explain", request))

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        """See `Service.load`."""
        return list(await self._call("load", list(keys)))

    async def purge(
        self, *, asset: str | None = None, feature: str | None = None, version: str | None = None
    ) -> int:
        """See `Service.purge`."""
        return int(await self._call("purge", asset=asset, feature=feature, version=version))

    async def failures(self) -> list[Failure]:
        """See `Service.failures`."""
        return list(await self._call("failures"))

    async def stats(self) -> dict[str, float]:
        """See `Service.stats`."""
        return dict(await self._call("stats"))

    async def aclose(self) -> None:
        """Leave the cluster; what was accepted goes on."""
        await asyncio.to_thread(ray.shutdown)


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
