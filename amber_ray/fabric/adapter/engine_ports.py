"""The engine's ports on this machine: cache actors, Ray's object store, the catalogue's files, time.

`start_engine` is how every way in gets an engine. What blocks (`ray.get`, the catalogue) runs in threads; all
else is the event loop's.

Must not know: HTTP, how a request is followed.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
import uuid
from collections.abc import AsyncIterable, Iterator, Mapping, Sequence
from typing import Any

import ray

from amber_ray.core.model.request import AssetRef
from amber_ray.core.model.units import Asset
from amber_ray.errors import AmberError, TooLarge, Unavailable
from amber_ray.fabric.adapter import cluster
from amber_ray.fabric.engine.engine import Engine
from amber_ray.fabric.engine.ports import Ports, ShardGone
from amber_ray.fabric.transport import registry_blob
from amber_ray.fabric.transport.messages import Hello
from amber_ray.fabric.transport.names import shard_name
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.locate import Locator
from amber_ray.settings import Settings

log = logging.getLogger("amber.engine_ports")

GONE = (
    ray.exceptions.ActorDiedError,
    ray.exceptions.ActorUnavailableError,
    ray.exceptions.TaskCancelledError,
)
"""What says that a call may or may not have been carried out."""
LOST = (ray.exceptions.ObjectLostError, ray.exceptions.OwnerDiedError)
QUEUED_CHUNKS = 8
"""Upload chunks held between the network and the disk."""
STOP_SECONDS = 10.0
"""Longest wait for the writer of an upload that is given up."""


async def start_engine(settings: Settings, *, features: Sequence[Any] = (), create: bool = True) -> Engine:
    """An engine over the cache actors of this Ray cluster, which are made if `create`.

    `features` are decorated functions or classes beside those of `settings`. With `create` False the running
    cluster's settings are adopted. Raises `DeclarationError`, `StoreBusy`, `BadRequest`, `Unavailable`.
    """
    if not create:
        settings = await _adopted(settings)
    registry = await asyncio.to_thread(registry_blob.build, settings, features)
    registry_blob.remember(registry)
    blob = await asyncio.to_thread(registry_blob.pack, registry)
    engine = Engine(settings, registry, {registry.digest: blob}, ports(settings, create=create))
    await engine.open()
    return engine


def ports(settings: Settings, *, create: bool) -> Ports:
    """The ports of an engine in this process."""
    catalogue = Catalogue(
        settings.store,
        Locator(settings.media_roots, settings.remote_schemes),
        settings.limits,
        settings.etag_identity,
    )
    return Ports(
        shards=[ActorPort(settings, number, create=create) for number in range(settings.shards)],
        objects=RayObjects(),
        assets=CatalogueAssets(catalogue),
        clock=MachineClock(),
        identity=RandomIdentity(),
    )


async def _adopted(settings: Settings) -> Settings:
    """The settings of the Amber that runs here; media roots of the caller's own are added."""
    _, hello = await cluster.shard(settings, 0, create=False)
    running = Settings.from_json(hello.settings)
    roots = tuple(dict.fromkeys((*running.media_roots, *settings.media_roots)))
    return running.replace(media_roots=roots)


class ActorPort:
    """One cache actor, found by its name. Implements `ShardPort`."""

    def __init__(self, settings: Settings, number: int, *, create: bool) -> None:
        self._settings = settings
        self._number = number
        self._create = create
        self._handle: Any = None

    async def connect(self, timeout: float) -> Hello:
        """See `ShardPort.connect`. An actor is made only the first time: one that was ended stays ended."""
        if self._handle is None:
            handle, hello = await cluster.shard(
                self._settings, self._number, create=self._create, timeout=timeout
            )
            self._handle = handle
            return hello
        try:
            handle = ray.get_actor(shard_name(self._number), namespace=self._settings.namespace)
            hello = await cluster.introduce(handle, timeout)
        except (ValueError, Unavailable, *GONE) as error:
            raise ShardGone(str(error)) from error
        self._handle = handle
        return hello

    async def call(self, method: str, *arguments: Any) -> Any:
        """See `ShardPort.call`.

        The call is made outside of the Ray task that may run now, as in a Serve replica or the gateway: Ray
        would cancel it together with that task, and it may carry the requests of many callers.
        """
        try:
            return await contextvars.Context().run(getattr(self._handle, method).remote, *arguments)
        except GONE as error:
            raise ShardGone(str(error)) from error
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, AmberError):
                raise error.cause from None
            raise


class RayObjects:
    """Ray's object store. Implements `Objects`."""

    async def fetch(self, refs: Sequence[Any]) -> tuple[Mapping[Any, Sequence[Any]], set[Any]]:
        """See `Objects.fetch`."""
        return await asyncio.to_thread(_fetched, refs)


def _fetched(refs: Sequence[Any]) -> tuple[dict[Any, Any], set[Any]]:
    try:
        return dict(zip(refs, ray.get(list(refs)), strict=True)), set()
    except LOST as error:
        log.warning("values were lost from the object store: %s", error)
    found: dict[Any, Any] = {}
    dead: set[Any] = set()
    for ref in refs:
        try:
            found[ref] = ray.get(ref)
        except LOST:
            dead.add(ref)
    return found, dead


class CatalogueAssets:
    """The catalogue of this process. Implements `Assets`."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def at_hand(self, uri: str) -> Asset | None:
        """See `Assets.at_hand`: one `stat` of a local file."""
        return self._catalogue.at_hand(uri)

    async def resolve(self, refs: Sequence[AssetRef]) -> list[Asset | AmberError]:
        """See `Assets.resolve`; all in one thread."""
        return await asyncio.to_thread(self._resolved, refs)

    def _resolved(self, refs: Sequence[AssetRef]) -> list[Asset | AmberError]:
        found = iter(self._catalogue.add_all([ref.uri or "" for ref in refs if ref.id is None]))
        return [next(found) if ref.id is None else self._known(ref.id) for ref in refs]

    def _known(self, id: str) -> Asset | AmberError:
        try:
            return self._catalogue.get(id)
        except AmberError as error:
            return error

    async def add(self, uri: str) -> Asset:
        """See `Assets.add`."""
        return await asyncio.to_thread(self._catalogue.add, uri)

    async def upload(self, chunks: AsyncIterable[bytes], media_type: str | None, limit: int) -> Asset:
        """See `Assets.upload`: a thread writes and digests what it takes from a queue."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(QUEUED_CHUNKS)

        def pull() -> Iterator[bytes]:
            while True:
                item = asyncio.run_coroutine_threadsafe(queue.get(), loop).result()
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item

        async def push(item: bytes | BaseException | None) -> None:
            """Hand over an item, unless the writer has ended: nobody would take it then."""
            put = asyncio.create_task(queue.put(item))
            await asyncio.wait({put, writer}, return_when=asyncio.FIRST_COMPLETED)
            if not put.done():
                put.cancel()

        writer = asyncio.create_task(asyncio.to_thread(self._catalogue.upload, pull(), media_type))
        size = 0
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise TooLarge(f"an upload may be {limit} bytes; this one is larger")
                await push(bytes(chunk))
                if writer.done():
                    break
        except BaseException as error:
            stop = asyncio.create_task(push(error))
            await asyncio.wait({writer, stop}, timeout=STOP_SECONDS)
            if writer.done() and not writer.cancelled():
                writer.exception()  # it is this very error
            raise
        await push(None)
        return await writer


class MachineClock:
    """The clock of this machine. Implements `Clock`."""

    def now(self) -> float:
        """See `Clock.now`."""
        return time.monotonic()

    def unix(self) -> float:
        """See `Clock.unix`."""
        return time.time()


class RandomIdentity:
    """Random names. Implements `Identity`."""

    def new_id(self) -> str:
        """See `Identity.new_id`."""
        return uuid.uuid4().hex
