"""The engine's ports in a cluster: cache actors, Ray's object store, and what the machine is (`machine`).

What blocks (`ray.get`, the catalogue) runs in threads; all else is the event loop's.

Must not know: HTTP, how a request is followed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from amber_ray.core.declare.registry import Registry
from amber_ray.errors import AmberError, StoreError, Unavailable
from amber_ray.fabric.adapter import machine, tracing
from amber_ray.fabric.adapter.introduction import introduce
from amber_ray.fabric.engine.engine import Engine
from amber_ray.fabric.engine.ports import Ports, ShardGone
from amber_ray.fabric.transport import registry_blob
from amber_ray.fabric.transport.messages import Hello, ReadReport, Wanted
from amber_ray.fabric.transport.names import shard_name
from amber_ray.fabric.worker import store_tasks
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.mounts import is_local
from amber_ray.settings import Settings
from amber_ray.store.parquet import ValueStore

log = logging.getLogger("amber.engine_ports")

Find = Callable[[int, float], Awaitable[tuple[Any, Hello]]]
"""Finds the cache actor of a shard by its number, within so many seconds; see `adapter.introduction`."""

READERS = 2
"""Threads of an engine that read the store."""

GONE = (
    ray.exceptions.ActorDiedError,
    ray.exceptions.ActorUnavailableError,
    ray.exceptions.TaskCancelledError,
)
"""What says that a call may or may not have been carried out."""
LOST = (ray.exceptions.ObjectLostError, ray.exceptions.OwnerDiedError)


async def opened(
    settings: Settings,
    registry: Registry,
    code: bytes,
    catalogue: Catalogue,
    find: Find,
    *,
    reading: bool,
) -> Engine:
    """An engine over the cache actors that `find` finds; `code` is the pickle of the registry.

    Raises `StoreBusy`, `BadRequest`, `Unavailable`.
    """
    engine = Engine(settings, registry, {registry.digest: code}, ports(settings, catalogue, find, reading))
    looking = asyncio.create_task(asyncio.to_thread(catalogue.look))  # while other processes are waited for
    try:
        await engine.open()
    finally:
        await looking
    return engine


def ports(settings: Settings, catalogue: Catalogue, find: Find, reading: bool) -> Ports:
    """The ports of an engine in this process."""
    return Ports(
        shards=[ActorPort(settings, number, find) for number in range(settings.shards)],
        objects=RayObjects(),
        assets=machine.CatalogueAssets(catalogue),
        clock=machine.MachineClock(),
        identity=machine.RandomIdentity(),
        unpack=unpack,
        reading=reading,
        parts=parts(settings),
        tracer=tracing.tracer(settings),
    )


async def unpack(blob: bytes) -> Registry:
    """The registry that a pickle has, loaded in a thread."""
    return await asyncio.to_thread(registry_blob.unpack, blob)


class ActorPort:
    """One cache actor, found by its name. Implements `ShardPort`."""

    def __init__(self, settings: Settings, number: int, find: Find) -> None:
        self._settings = settings
        self._number = number
        self._find = find
        self._handle: Any = None

    async def connect(self, timeout: float) -> Hello:
        """See `ShardPort.connect`. An actor is made only the first time: one that was ended stays ended."""
        if self._handle is None:
            handle, hello = await self._find(self._number, timeout)
            self._handle = handle
            return hello
        try:
            handle = ray.get_actor(shard_name(self._number), namespace=self._settings.namespace)
            hello = await introduce(handle, timeout)
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


class ReadParts:
    """The parts of the store, read in threads of this process. Implements `Parts`."""

    def __init__(self, store: ValueStore, inline_bytes: int) -> None:
        self._store = store
        self._inline_bytes = inline_bytes
        # Of its own: on a disk that hangs its threads wait, and nothing else of this process has to.
        self._threads = concurrent.futures.ThreadPoolExecutor(READERS, "amber-near")

    async def read(self, wanted: Wanted) -> ReadReport | None:
        """See `Parts.read`."""
        read = asyncio.get_running_loop().run_in_executor
        return await read(self._threads, store_tasks.read_here, self._store, wanted, self._inline_bytes)


def parts(settings: Settings) -> ReadParts | None:
    """The store, if it is on a disk of this machine's; over a network the shard is asked sooner than it."""
    store = ValueStore(settings.store, _only_read, make=False)
    if not store.files.local:
        return None
    place = Path(store.files.root)
    while not place.exists():  # it is made by whoever writes to it first
        place = place.parent
    return ReadParts(store, settings.inline_bytes) if is_local(place.stat().st_dev) else None


def _only_read() -> None:
    """Keep a damaged part where it is: to move it away is its shard's, which is asked then."""
    raise StoreError("this process only reads the store")


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
