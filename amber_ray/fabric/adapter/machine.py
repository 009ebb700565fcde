"""What this machine is to engines and shards, without Ray: the catalogue's files, time, names.

Must not know: Ray, HTTP.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import time
import uuid
from collections.abc import AsyncIterable, Callable, Iterator, Sequence

from amber_ray.core.model.absent import nothing_at
from amber_ray.core.model.audit import AuditFilter, AuditLine, LinePlace, actor
from amber_ray.core.model.pages import AssetFilter, Page, Told
from amber_ray.core.model.request import AssetRef
from amber_ray.core.model.service import MediaPiece
from amber_ray.core.model.units import Asset
from amber_ray.errors import AmberError, TooLarge, UnknownAsset
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.locate import Locator
from amber_ray.media.source import GONE
from amber_ray.settings import Settings
from amber_ray.store.audit import AuditBook

QUEUED_CHUNKS = 8
"""Upload chunks held between the network and the disk."""
PLAYERS = 8
"""Threads of an engine that read media for those who look at it."""
STOP_SECONDS = 10.0
"""Longest wait for the writer of an upload that is given up."""


def catalogue(settings: Settings, fence: Callable[[], None] | None = None) -> Catalogue:
    """The catalogue of a store, with the media roots and limits of settings. For `fence` see `Catalogue`."""
    return Catalogue(
        settings.store,
        Locator(settings.media_roots, settings.remote_schemes),
        settings.limits,
        settings.etag_identity,
        fence,
    )


def known(catalogue: Catalogue, ids: Sequence[str]) -> dict[str, Asset]:
    """Assets by id, where they are now, without those that nobody has registered. Blocks."""
    found: dict[str, Asset] = {}
    for id in ids:
        with contextlib.suppress(UnknownAsset):
            found[id] = catalogue.get(id)
    return found


class CatalogueAssets:
    """The catalogue of this process. Implements `Assets`."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._players = concurrent.futures.ThreadPoolExecutor(PLAYERS, "amber-media")

    def at_hand(self, uri: str, tenant: str | None = None) -> Asset | None:
        """See `Assets.at_hand`: one `stat` of a local file."""
        asset = self._catalogue.at_hand(uri)
        return asset if asset is not None and self._catalogue.shows(asset.uri, tenant) else None

    async def resolve(self, refs: Sequence[AssetRef]) -> list[Asset | AmberError]:
        """See `Assets.resolve`; all in one thread."""
        return await asyncio.to_thread(self._resolved, refs)

    def _resolved(self, refs: Sequence[AssetRef]) -> list[Asset | AmberError]:
        found = iter(self._catalogue.add_all([ref.uri or "" for ref in refs if ref.id is None]))
        return [
            self._shown(ref, next(found)) if ref.id is None else self._known(ref.id, ref.tenant)
            for ref in refs
        ]

    def _shown(self, ref: AssetRef, found: Asset | AmberError) -> Asset | AmberError:
        """What was found at a URI; of an upload of others, what is said where nothing is."""
        if isinstance(found, AmberError) or self._catalogue.shows(found.uri, ref.tenant):
            return found
        return nothing_at(ref.uri or "")

    def _known(self, id: str, tenant: str | None) -> Asset | AmberError:
        try:
            return self._catalogue.get(id, tenant)
        except AmberError as error:
            return error

    async def somewhere(self, ids: Sequence[str]) -> frozenset[str]:
        """See `demands.ports.Naming.somewhere`; all in one thread."""
        return await asyncio.to_thread(
            lambda: frozenset(i for i, a in known(self._catalogue, ids).items() if not a.uri.startswith(GONE))
        )

    async def add(self, uri: str) -> Asset:
        """See `Assets.add`."""
        return await asyncio.to_thread(self._catalogue.add, uri)

    async def admit(self, prefixes: Sequence[str]) -> None:
        """See `Assets.admit`; a link may have to be followed, which takes a thread."""
        await asyncio.to_thread(self._catalogue.admit, prefixes)

    async def places(self, ids: Sequence[str]) -> list[Asset]:
        """See `Assets.places`."""
        return await asyncio.to_thread(lambda: [asset for id in ids for asset in self._catalogue.places(id)])

    async def shown(self, ids: Sequence[str], tenant: str) -> frozenset[str]:
        """See `Assets.shown`; all in one thread."""
        return await asyncio.to_thread(lambda: frozenset(i for i in ids if self._catalogue.shown(i, tenant)))

    async def page(self, only: AssetFilter, limit: int, cursor: str | None) -> Page[Asset]:
        """See `Assets.page`."""
        return await asyncio.to_thread(self._catalogue.page, only, limit, cursor)

    async def media(self, id: str, start: int, end: int | None, tenant: str | None) -> MediaPiece:
        """See `Assets.media`; by threads of its own, since media may lie on a disk that hangs."""
        read = asyncio.get_running_loop().run_in_executor
        return await read(self._players, self._catalogue.media, id, start, end, tenant)

    async def upload(self, chunks: AsyncIterable[bytes], media_type: str | None, limit: int) -> Asset:
        """See `Assets.upload`: a thread writes and digests what it takes from a queue."""
        tenant = actor().tenant
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

        writer = asyncio.create_task(asyncio.to_thread(self._catalogue.upload, pull(), media_type, tenant))
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


class AuditFiles:
    """The audit log under the store. Implements `fabric.shard.ports.Audit`."""

    def __init__(self, settings: Settings, fence: Callable[[], None] | None) -> None:
        self._settings = settings
        self._fence = fence
        self._made: AuditBook | None = None

    async def write(self, lines: Sequence[AuditLine]) -> None:
        """See `Audit.write`."""
        await asyncio.to_thread(lambda: self._book().write(lines))

    async def read(self, only: AuditFilter, after: LinePlace | None, most: int) -> Told[AuditLine]:
        """See `Audit.read`."""
        return await asyncio.to_thread(lambda: self._book().read(only, after, most))

    async def tidy(self, now: float) -> None:
        """See `Audit.tidy`."""
        await asyncio.to_thread(lambda: self._book().tidy(now))

    def _book(self) -> AuditBook:
        """Made when it is needed first: the store may not be ours before, and mostly nothing is changed."""
        if self._made is None:
            settings = self._settings
            self._made = AuditBook(
                settings.store, self._fence, seconds=settings.audit_seconds, most_bytes=settings.audit_bytes
            )
        return self._made
