"""The catalogue: a URI becomes an `Asset`, whose identity is its content.

The digest is computed once and remembered by the file's signature, in memory and in the store
(`store.assets`), so a known URI costs one `stat`, a restart digests nothing, and a rename or a touch costs
one digest and recomputes no value. What is answered is in the store first: whoever was told an asset's id
finds it again. Blocking and thread-safe; several processes may share one store. Must not know: features,
keys, Ray.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import logging
import os
import re
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from amber_ray.core.model.absent import no_asset
from amber_ray.core.model.naming import name_of
from amber_ray.core.model.pages import AssetFilter, Page, checked_filter, checked_limit
from amber_ray.core.model.service import MediaPiece, media_span
from amber_ray.core.model.units import Asset
from amber_ray.errors import AmberError, MediaChanged, MediaError, StoreError, TooLarge
from amber_ray.media.facts import Facts, facts
from amber_ray.media.locate import Location, Locator, signature_of
from amber_ray.media.mounts import is_local
from amber_ray.media.source import GONE, bytes_of, open_uri
from amber_ray.media.stills import import_readers
from amber_ray.media.uploads import Uploads
from amber_ray.settings import Limits
from amber_ray.store.assets import AssetPacks, AssetRecord, import_writer

CHUNK = 4 << 20
FORMAT = 2
"""Of what is kept in the store. Raised when `facts` tells more or otherwise: media are probed anew then."""

REMEMBERED = 32_768
"""URIs and assets held in memory; the least recently used go first, their records stay on disk."""

PLAYED = 256
"""Assets whose bytes were read last, held with the place where they were."""

WRITTEN, WRITE_SECONDS = 256, 5.0
"""New assets of one call that are written together, and the longest that one of them waits for the others."""

IDENTIFIED = 8
"""Most new files of one call that are digested and probed at a time, if there are as many CPUs."""

log = logging.getLogger("amber.catalogue")
T = TypeVar("T")
_ID = re.compile(r"[0-9a-f]{32}\Z")
_FINE, _COARSE = 20_000_000, 2_000_000_000
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was found at a URI: the path to stat (None: remote), the signature it had, the asset."""

    path: str | None
    signature: str
    asset: Asset

    @property
    def local(self) -> bool:
        """Whether its file system answers at once."""
        return self.path is not None and is_local(int(self.signature.rpartition(":")[2]))


def prepare() -> None:
    """Import now what the first new file would wait for: a tenth of a second of processor time.

    For processes that will be asked about files, while they wait for something else.
    """
    import av  # noqa: F401

    import_readers()
    import_writer()


def _unchanged(seen: _Seen) -> bool:
    """Whether the file is what it was. One that is gone or can't be read now is not: `resolve` says which."""
    try:
        return seen.path is not None and signature_of(os.stat(seen.path)) == seen.signature
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class _Found:
    """An asset, what to remember of its place (None: nothing), and what to write of it if it is new."""

    asset: Asset
    seen: _Seen | None = None
    new: Asset | None = None


class Catalogue:
    """Assets by URI and by id. Errors are those of `Locator.resolve` and `facts`.

    `fence` is for the process that owns the store, which calls `tidy`.
    """

    def __init__(
        self,
        store_url: str,
        locator: Locator,
        limits: Limits | None = None,
        etag_identity: bool = False,
        fence: Callable[[], None] | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._etag_identity = etag_identity
        self._packs = AssetPacks(store_url, FORMAT, fence)
        self._uploads = Uploads(store_url, self._limits)
        self._given = locator
        self._locator = locator.including(self._uploads.root)
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._played: OrderedDict[tuple[str, str | None], Asset] = OrderedDict()
        self._unwritten: dict[str, Asset] = {}
        self._holding = False
        # One digest of one file at a time; 64 stripes let different files run side by side.
        self._stripes = [threading.Lock() for _ in range(64)]

    def admit(self, prefixes: Sequence[str]) -> None:
        """Raise `Forbidden` for a prefix outside the media roots; uploads are nobody's to list."""
        for prefix in prefixes:
            self._given.admit(prefix)

    def look(self) -> None:
        """Read now what the first question would wait for: where the store has what it knows of assets.

        What can't be read now is only logged: that question will meet it too, or it is over by then.
        """
        try:
            self._packs.look()
        except StoreError as error:
            log.warning("what is known of assets is looked up later: %s", error)

    def add(self, uri: str) -> Asset:
        """The asset at `uri`; digests and probes it where it is new or may have changed."""
        (asset,) = self.add_all([uri])
        if isinstance(asset, AmberError):
            raise asset
        return asset

    def add_all(self, uris: Sequence[str]) -> list[Asset | AmberError]:
        """What `add` returns or raises for each of the URIs; new assets are written to the store together.

        What is new is looked up in one listing of the store, not in one for each.
        """
        answers: dict[int, Asset | AmberError] = {}
        fresh: dict[int, _Found] = {}
        new: dict[int, Location] = {}
        began = time.monotonic()
        # In order: what the store has of neighbours lies together.
        for place in sorted(range(len(uris)), key=uris.__getitem__):
            try:
                looked = self._look(uris[place], began)
            except AmberError as error:
                answers[place] = error
                continue
            if isinstance(looked, Location):
                new[place] = looked
            else:
                answers[place] = looked.asset
                self._remember(uris[place], looked.seen)

        def identified(place: int) -> _Found | AmberError:
            try:
                return self._identified(uris[place], new[place], began)
            except AmberError as error:
                return error

        written = time.monotonic()
        with _beside(len(new)) as each:
            for place, found in zip(new, each(identified, new), strict=True):
                if isinstance(found, AmberError):
                    answers[place] = found
                    continue
                fresh[place] = found
                if len(fresh) >= WRITTEN or time.monotonic() - written > WRITE_SECONDS:
                    answers |= self._write(uris, fresh)
                    fresh, written = {}, time.monotonic()
        answers |= self._write(uris, fresh)
        return [answers[place] for place in range(len(uris))]

    def _write(self, uris: Sequence[str], fresh: Mapping[int, _Found]) -> dict[int, Asset | AmberError]:
        """Write new assets, then remember them; return the answers, all the same error if they can't be."""
        rows = [found.new for found in fresh.values() if found.new is not None]
        with self._lock:  # with `release`: what it has not seen held is written here
            if self._holding:
                self._unwritten.update((row.uri, row) for row in rows)
                rows = []
        try:
            self._packs.add(rows)
        except AmberError as error:
            return dict.fromkeys(fresh, error)
        finally:
            with self._lock:
                for row in rows:
                    if self._unwritten.get(row.uri) is row:
                        del self._unwritten[row.uri]
        for place, found in fresh.items():
            self._remember(uris[place], found.seen)
        return {place: found.asset for place, found in fresh.items()}

    def _look(self, uri: str, since: float) -> _Found | Location:
        """What is known of a place, in memory or in the store; only where it is, if nothing is.

        What others have written of it after `since` may be found out again.
        """
        seen = self._remembered(uri)
        if seen is not None and _unchanged(seen):
            return _Found(seen.asset, seen)
        location = self._locator.resolve(uri)
        if location.size > self._limits.media_bytes:
            raise TooLarge(
                f"{name_of(uri)!r} has {location.size} bytes; at most {self._limits.media_bytes} are allowed"
            )
        if seen is not None and seen.signature == location.signature:
            return _Found(seen.asset, seen)
        record = self._recorded(location, since)
        if record is None or record.facts != FORMAT:
            return location
        return self._placed(uri, dataclasses.replace(record.asset, uri=location.uri))

    def _identified(self, uri: str, location: Location, since: float) -> _Found:
        """Digest and probe what is at a place of which nothing was known."""
        with self._stripes[hash(location.uri) % len(self._stripes)]:
            # Look again: whoever held the lock may have found it for us, and may have written it since. What
            # is not written yet is written by this call as well, which may not be answered sooner.
            row = asset = self._unwritten_at(location)
            if row is None or asset is None:
                record = self._recorded(location, since)
                if record is not None and record.facts == FORMAT:
                    return self._placed(uri, dataclasses.replace(record.asset, uri=location.uri))
                asset, row = self._identify(location, None if record is None else record.asset.id, since)
            if row.signature:
                with self._lock:
                    self._unwritten[location.uri] = row
        # Even a signature too young to be remembered tells a later change of the file from none.
        if not row.signature:
            return _Found(asset, None, row)
        return dataclasses.replace(self._placed(uri, asset), new=row)

    def _placed(self, uri: str, asset: Asset) -> _Found:
        """An asset, and that it was seen at a URI."""
        kind, target = self._locator.parse(uri)
        return _Found(asset, _Seen(target if kind == "local" else None, asset.signature, asset))

    def at_hand(self, uri: str) -> Asset | None:
        """What `add` returns, if that takes one `stat` of a local file; never blocks, unlike all others here.

        None says nothing but that `add` must be asked.
        """
        seen = self._remembered(uri)
        return seen.asset if seen is not None and seen.local and _unchanged(seen) else None

    def places(self, id: str) -> list[Asset]:
        """The asset as it was found at its latest places, in order; nothing for an unknown one.

        Whether it is still there is not looked at.
        """
        places = [record.asset for record in self._packs.of(id)] if _ID.match(id) else []
        written = {place.uri for place in places}
        held = [asset for asset in list(self._unwritten.values()) if asset.id == id]
        return places + [asset for asset in held if asset.uri not in written]

    def shows(self, uri: str, tenant: str | None) -> bool:
        """Whether a tenant may know what is at a place: it may not if others have uploaded it; None may."""
        return AssetFilter(tenant=tenant).shows(uri, self._uploads.below)

    def shown(self, id: str, tenant: str) -> bool:
        """Whether an asset is known, and not by other tenants' uploads alone."""
        return any(self.shows(place.uri, tenant) for place in self.places(id))

    def get(self, id: str, tenant: str | None = None) -> Asset:
        """The asset with that id, at a place where its content still is; for a tenant see `AssetRef.tenant`.

        Where it is nowhere to be found any more the asset is given all the same, since its values can be
        read without it; features that need its bytes then fail with `MediaNotFound`. Raises `UnknownAsset`.
        """
        places = [place for place in self.places(id) if self.shows(place.uri, tenant)]
        if not places:
            raise no_asset(id)
        for place in reversed(places):
            try:
                asset = self.add(place.uri)
            except (MediaError, TooLarge):
                continue
            if asset.id == id:
                return asset
        return dataclasses.replace(places[-1], uri=GONE + places[-1].uri, signature="")

    def media(self, id: str, start: int, end: int | None, tenant: str | None) -> MediaPiece:
        """Bytes `[start, end)` of an asset; see `Service.media`.

        Each call looks whether the place still has what was registered, by its signature, before the bytes
        are read and after. So what is written to meanwhile is refused, never mixed.
        """
        place = self._playable(id, tenant)
        name = name_of(place.uri)
        data = bytes_of(place, *media_span(name, place.bytes, start, end))
        return MediaPiece(id, name, place.media_type, place.bytes, start, data)

    def _playable(self, id: str, tenant: str | None) -> Asset:
        """The asset at a place that has its bytes now; the one where they were read last is looked at first.

        Uploads of others than `tenant` are as if they were not there.
        """
        with self._lock:
            last = self._played.get((id, tenant))
        if last is not None and self._signature_at(last.uri) == last.signature:
            return last
        places = [place for place in self.places(id) if self.shows(place.uri, tenant)]
        if not places:
            raise no_asset(id)
        why: AmberError | None = None
        for place in reversed(places):
            try:
                found = self._still(place)
            except (MediaError, TooLarge) as error:
                why = why or error
                continue
            with self._lock:
                self._played[id, tenant] = found
                self._played.move_to_end((id, tenant))
                if len(self._played) > PLAYED:
                    self._played.popitem(last=False)
            return found
        assert why is not None
        raise why

    def _signature_at(self, uri: str) -> str | None:
        try:
            return self._locator.resolve(uri).signature
        except MediaError:
            return None  # whoever asks looks at the other places, and says what is the matter

    def _still(self, place: Asset) -> Asset:
        """The asset at a place, if that still has its content.

        A file with another signature is digested, since it may only have been touched. An object of another
        store is not: it would have to be fetched, and may be a film.
        """
        location = self._locator.resolve(place.uri)
        if place.signature and location.signature == place.signature:
            return place
        name = name_of(place.uri)
        if not location.remote:
            found = self.add(place.uri)
            if found.id == place.id:
                return found
        elif location.signature is None:
            raise MediaError(
                f"{name!r} is on a server that tells neither ETags nor times, so whether it has changed "
                "can't be told, and its bytes are not given"
            )
        raise MediaChanged(f"{name!r} has other content than when it was registered; register it again")

    def page(self, only: AssetFilter, limit: int, cursor: str | None) -> Page[Asset]:
        """A page of the assets that are known, by their places, as they were when they were last looked at.

        Whether the media is still there is not looked at. Raises `BadRequest` for a filter, limit or cursor
        that is none, `StoreError` if what is known can't be read now.
        """
        checked_limit(limit)
        if only.prefix[:7].lower() == "file://":  # places of files are kept as paths
            path = urllib.parse.unquote(only.prefix[7:].removeprefix("localhost"))
            only = dataclasses.replace(only, prefix=path)
        with self._lock:  # before the packs are listed: what is written meanwhile is in them
            held = list(self._unwritten.values())
        return self._packs.page(checked_filter(only), limit, cursor, held, self._uploads.below)

    def upload(self, chunks: Iterable[bytes], media_type: str | None = None, tenant: str = "") -> Asset:
        """Keep the bytes under `<store>/uploads/`, as a tenant's or nobody's, and return their asset.

        The media type is found from the content; what the caller said it is does not count. Raises
        `TooLarge` past the bound, `MediaError` for what is no media; nothing is left behind then.
        """
        with self._uploads.receive(chunks) as part:
            with open(part.path, "rb") as file:
                found = facts(file, "the upload", self._limits)
            location = self._uploads.publish(part, found.media_type, tenant)
        asset = _asset(part.digest, part.size, found, location.uri, location.signature)
        self._packs.add([asset])
        if location.signature is not None:
            # No one edits an upload in place, so even a signature as young as this can be trusted.
            path = None if location.remote else location.uri
            self._remember(location.uri, _Seen(path, location.signature, asset))
        return asset

    def hold(self) -> None:
        """Write nothing to the store until `release`: it may be another's, and is only read for now."""
        self._holding = True

    @property
    def held(self) -> bool:
        """Whether there are assets that are not written yet."""
        return bool(self._unwritten)

    def holds(self, id: str) -> bool:
        """Whether an asset is not written yet."""
        return any(asset.id == id for asset in list(self._unwritten.values()))

    def release(self) -> None:
        """Write what was held, and from now on everything at once. Raises `StoreError`."""
        with self._lock:
            self._holding = False
            rows = list(self._unwritten.values())
        self._packs.add(rows)
        with self._lock:
            for row in rows:
                if self._unwritten.get(row.uri) is row:
                    del self._unwritten[row.uri]

    def tidy(self) -> None:
        """Keep the store's files few; for its owner alone. See `AssetPacks.tidy`."""
        self._packs.tidy()

    def _remembered(self, uri: str) -> _Seen | None:
        with self._lock:
            seen = self._seen.get(uri)
            if seen is not None:
                self._seen.move_to_end(uri)
            return seen

    def _remember(self, uri: str, seen: _Seen | None) -> None:
        if seen is None:
            return
        with self._lock:
            self._seen[uri] = seen
            self._seen.move_to_end(uri)
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)

    def _unwritten_at(self, location: Location) -> Asset | None:
        """What another call of this process found at a place that has not changed since."""
        new = self._unwritten.get(location.uri)
        return new if new is not None and new.signature == location.signature else None

    def _recorded(self, location: Location, since: float) -> AssetRecord | None:
        """What an earlier run, or another process, found at a place that has not changed since."""
        if location.signature is None:
            return None
        return self._packs.at(location.uri, location.signature, since)

    def _identify(self, location: Location, known: str | None, since: float) -> tuple[Asset, Asset]:
        """Digest and probe: the asset, and what to write of it: without a signature that can't be trusted.

        What has been digested, and is `known` by its id, is only probed.
        """
        for _ in range(_ATTEMPTS):
            began = time.time_ns()
            with open_uri(location.uri) as (file, size):
                before = _signature(file, location)
                id = known or self._identity(file, location)
                told = [record.asset for record in self._packs.of(id, since) if record.facts == FORMAT]
                if told:
                    last = told[-1]
                    found = Facts(last.media_type, last.duration, last.streams, last.note)
                else:
                    file.seek(0)
                    found = facts(file, name_of(location.uri), self._limits)
                unchanged = _signature(file, location) == before
            if unchanged:
                break
        else:
            raise MediaError(
                f"{name_of(location.uri)!r} keeps changing; register it when it is fully written"
            )
        asset = _asset(id, size, found, location.uri, before)
        trusted = before is not None and _settled(location.changed, began)
        return asset, asset if trusted else dataclasses.replace(asset, signature="")

    def _identity(self, file: BinaryIO, location: Location) -> str:
        digest = hashlib.blake2b(digest_size=16)
        if self._etag_identity and location.remote and location.etag:
            digest.update(f"amber etag\0{location.size}\0{location.etag}".encode())
            return digest.hexdigest()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
        return digest.hexdigest()


@contextlib.contextmanager
def _beside(count: int) -> Iterator[Callable[[Callable[[Any], T], Iterable[Any]], Iterator[T]]]:
    """A `map` for so many calls that read files, some of them at a time; what it returns is in order.

    Reading, digesting and decoding leave Python's lock to others.
    """
    threads = min(count, IDENTIFIED, os.cpu_count() or 1)
    if threads < 2:
        yield map
        return
    with concurrent.futures.ThreadPoolExecutor(threads, "amber-identify") as executor:
        yield executor.map


def _settled(changed: int, began: int) -> bool:
    """Whether the file last changed long enough before the digest began for its clock to tell a later change.

    The kernel stamps files by its tick (at most 10 ms), some file systems by the second or two: a change
    within the same tick would keep the signature, so such a signature is not remembered.
    """
    return began - changed > (_COARSE if changed and changed % 1_000_000_000 == 0 else _FINE)


def _signature(file: BinaryIO, location: Location) -> str | None:
    return location.signature if location.remote else signature_of(os.fstat(file.fileno()))


def _asset(id: str, size: int, found: Facts, uri: str, signature: str | None) -> Asset:
    return Asset(id, uri, found.media_type, size, found.duration, found.streams, signature or "", found.note)
