"""What an engine needs from outside, as protocols.

`fabric.adapter.engine_ports` binds these ports to Ray, the catalogue's files and the clock of the machine;
the simulation binds them to its seeded world. Whatever an implementation raises is `ShardGone` where that is
named here, or an `AmberError`, so the engine never sees an exception of Ray or of a file system.

Every coroutine here may be cancelled, and may be abandoned for good when the engine's process ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.pages import AssetFilter, Page
from amber_ray.core.model.request import AssetRef
from amber_ray.core.model.service import MediaPiece
from amber_ray.core.model.trace import UNTRACED, Tracer
from amber_ray.core.model.units import Asset
from amber_ray.errors import AmberError, UnknownRegistry
from amber_ray.fabric.transport.messages import Hello, ReadReport, Wanted

Ref: TypeAlias = Any
"""A handle of an object in the object store that a shard owns; hashable. Only adapters look inside."""


class ShardGone(Exception):
    """A shard's process died or can't be reached: the call may or may not have been carried out."""


class ShardPort(Protocol):
    """One shard. What it raises that is an `AmberError` comes through as it is."""

    async def connect(self, timeout: float) -> Hello:
        """Find the shard, made anew if its process was restarted, and wait until it answers.

        Raises `ShardGone` if it can't be reached within `timeout` seconds, `StoreBusy` and other
        `AmberError`s if it can't come up.
        """
        ...

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the shard once. Raises `ShardGone`."""
        ...


class Objects(Protocol):
    """The object store."""

    async def fetch(self, refs: Sequence[Ref]) -> tuple[Mapping[Ref, Sequence[Any]], set[Ref]]:
        """The lists behind refs, and those refs whose objects are lost: one that is takes no other along."""
        ...


class Parts(Protocol):
    """The parts of the store, which is on a disk of this machine's; they are only read."""

    async def read(self, wanted: Wanted) -> ReadReport | None:
        """Values of these rows, as `store_tasks.read_here` reads them; None if some are not small and plain.

        A damaged part stays where it is.
        """
        ...


class Assets(Protocol):
    """The catalogue."""

    def at_hand(self, uri: str, tenant: str | None = None) -> Asset | None:
        """The asset at a URI, if it can be told without waiting; None says only that `resolve` must be asked.

        See `AssetRef.tenant`.

        Never blocks.
        """
        ...

    async def resolve(self, refs: Sequence[AssetRef]) -> list[Asset | AmberError]:
        """For each reference its asset, or why there is none."""
        ...

    async def add(self, uri: str) -> Asset:
        """Identify and probe the media at a URI. Raises `MediaError` and kin."""
        ...

    async def admit(self, prefixes: Sequence[str]) -> None:
        """Raise `Forbidden` if media below one of these may not be read."""
        ...

    async def places(self, ids: Sequence[str]) -> list[Asset]:
        """Assets at their latest places, one for each place; nothing for those that are not known."""
        ...

    async def shown(self, ids: Sequence[str], tenant: str) -> frozenset[str]:
        """Those of the assets that are known and that not other tenants alone have uploaded."""
        ...

    async def page(self, only: AssetFilter, limit: int, cursor: str | None) -> Page[Asset]:
        """A page of the assets that are known; see `Service.list_assets`."""
        ...

    async def media(self, id: str, start: int, end: int | None, tenant: str | None) -> MediaPiece:
        """Some of an asset's bytes; see `Service.media`."""
        ...

    async def upload(self, chunks: AsyncIterable[bytes], media_type: str | None, limit: int) -> Asset:
        """Keep bytes from the network under the store.

        Raises `TooLarge` past `limit` bytes; nothing is kept then, nor when the sender stops early.
        """
        ...


class Clock(Protocol):
    """Time. Pauses are those of the event loop."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def unix(self) -> float:
        """Seconds since 1970."""
        ...


class Identity(Protocol):
    """Names."""

    def new_id(self) -> str:
        """An identifier that nobody else has."""
        ...


Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Runs something beside, for as long as the engine lives."""
Unpack: TypeAlias = Callable[[bytes], Awaitable[Registry]]
"""Makes a registry of the code that another engine brought the shards."""


async def no_code(blob: bytes) -> Registry:
    """The `Unpack` of an engine that no other one works beside."""
    raise UnknownRegistry("features that another process registered are not known here")


@dataclass(frozen=True, slots=True)
class Ports:
    """All of an engine's ports; `shards` in the order of their numbers.

    `reading`: its callers are programs, which read at once what they have asked for. `parts` is None where
    the store can't be read as quickly as a shard answers.
    """

    shards: Sequence[ShardPort]
    objects: Objects
    assets: Assets
    clock: Clock
    identity: Identity
    unpack: Unpack = no_code
    reading: bool = False
    parts: Parts | None = None
    tracer: Tracer = UNTRACED
