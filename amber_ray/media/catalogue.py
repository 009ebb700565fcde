"""The catalogue: a URI becomes an `Asset`, whose identity is its content.

The digest is computed once and remembered by the file's signature, in memory and under `<store>/assets/`,
so a known URI costs one `stat`, a restart digests nothing, and a rename or a touch costs one digest and
recomputes no value. Blocking and thread-safe; several processes may share one store, because every record is
published whole and says the same whoever writes it. Must not know: features, keys, Ray.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

from amber_ray.core.model.unit_codec import asset_from_json, streams_from_json, streams_to_json
from amber_ray.core.model.units import Asset
from amber_ray.errors import MediaError, TooLarge, UnknownAsset
from amber_ray.media.facts import Facts, facts
from amber_ray.media.locate import Location, Locator, name_of, signature_of
from amber_ray.media.mounts import is_local
from amber_ray.media.records import Records
from amber_ray.media.source import GONE, open_uri
from amber_ray.media.uploads import Uploads
from amber_ray.settings import Limits

CHUNK = 4 << 20
FORMAT = 1
"""Of the records; also raised when `facts` tells more or otherwise, which probes anew without a digest."""

REMEMBERED = 32_768
"""URIs and assets held in memory; the least recently used go first, their records stay on disk."""

PLACES = 16
"""URIs kept for one asset, the latest ones."""

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


def _unchanged(seen: _Seen) -> bool:
    """Whether the file is what it was. One that is gone or can't be read now is not: `resolve` says which."""
    try:
        return seen.path is not None and signature_of(os.stat(seen.path)) == seen.signature
    except OSError:
        return False


class Catalogue:
    """Assets by URI and by id. Errors are those of `Locator.resolve` and `facts`."""

    def __init__(
        self, store_url: str, locator: Locator, limits: Limits | None = None, etag_identity: bool = False
    ) -> None:
        self._limits = limits or Limits()
        self._etag_identity = etag_identity
        self._records = Records(store_url)
        self._uploads = Uploads(store_url, self._limits)
        self._locator = locator.including(self._uploads.root)
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        # One digest of one file at a time; 64 stripes let different files run side by side.
        self._stripes = [threading.Lock() for _ in range(64)]

    def add(self, uri: str) -> Asset:
        """The asset at `uri`; digests and probes it where it is new or may have changed."""
        seen = self._remembered(uri)
        if seen is not None and _unchanged(seen):
            return seen.asset
        location = self._locator.resolve(uri)
        if location.size > self._limits.media_bytes:
            raise TooLarge(
                f"{name_of(uri)!r} has {location.size} bytes; at most {self._limits.media_bytes} are allowed"
            )
        if seen is not None and seen.signature == location.signature:
            return seen.asset
        with self._stripes[hash(location.uri) % len(self._stripes)]:
            # Look again: whoever held the lock may have found it for us.
            asset, signature = self._recorded(location) or self._identify(location)
        if signature is not None:
            kind, target = self._locator.parse(uri)
            self._remember(uri, _Seen(target if kind == "local" else None, signature, asset))
        return asset

    def at_hand(self, uri: str) -> Asset | None:
        """What `add` returns, if that takes one `stat` of a local file; never blocks, unlike all others here.

        None says nothing but that `add` must be asked.
        """
        seen = self._remembered(uri)
        return seen.asset if seen is not None and seen.local and _unchanged(seen) else None

    def get(self, id: str) -> Asset:
        """The asset with that id, at a place where its content still is.

        Where it is nowhere to be found any more the asset is given all the same, since its values can be
        read without it; features that need its bytes then fail with `MediaNotFound`. Raises `UnknownAsset`.
        """
        record = self._records.read(_id_record(id)) if _ID.match(id) else None
        if record is None or record.get("format") != FORMAT:
            raise UnknownAsset(f"no asset has the id {id[:64]!r}; register its URI first")
        places: list[str] = record["uris"]
        for uri in reversed(places):
            try:
                asset = self.add(uri)
            except (MediaError, TooLarge):
                continue
            if asset.id == id:
                return asset
        return _asset(record, GONE + places[-1])

    def upload(self, chunks: Iterable[bytes], media_type: str | None = None) -> Asset:
        """Keep the bytes under `<store>/uploads/` and return their asset.

        The media type is found from the content; what the caller said it is does not count. Raises
        `TooLarge` past the bound, `MediaError` for what is no media; nothing is left behind then.
        """
        with self._uploads.receive(chunks) as part:
            with open(part.path, "rb") as file:
                found = facts(file, "the upload", self._limits)
            location = self._uploads.publish(part, found.media_type)
        record = _record(part.digest, part.size, found, self._places(part.digest, location.uri))
        self._publish(record, location)
        asset = _asset(record, location.uri, location.signature)
        if location.signature is not None:
            # No one edits an upload in place, so even a signature as young as this can be trusted.
            self._remember(
                location.uri, _Seen(None if location.remote else location.uri, location.signature, asset)
            )
        return asset

    def _remembered(self, uri: str) -> _Seen | None:
        with self._lock:
            seen = self._seen.get(uri)
            if seen is not None:
                self._seen.move_to_end(uri)
            return seen

    def _remember(self, uri: str, seen: _Seen) -> None:
        with self._lock:
            self._seen[uri] = seen
            self._seen.move_to_end(uri)
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)

    def _recorded(self, location: Location) -> tuple[Asset, str | None] | None:
        """What an earlier run, or another process, found at a place that has not changed since."""
        if location.signature is None:
            return None
        place = self._records.read(_uri_record(location.uri))
        if place is None or place.get("signature") != location.signature:
            return None
        record = self._records.read(_id_record(str(place.get("id"))))
        if record is None or record.get("format") != FORMAT:
            return None
        return _asset(record, location.uri, location.signature), location.signature

    def _identify(self, location: Location) -> tuple[Asset, str | None]:
        """Digest and probe; the signature comes back only where it can be trusted later."""
        for _ in range(_ATTEMPTS):
            began = time.time_ns()
            with open_uri(location.uri) as (file, size):
                before = _signature(file, location)
                id = self._identity(file, location)
                record = self._records.read(_id_record(id))
                if record is None or record.get("format") != FORMAT:
                    file.seek(0)
                    found = facts(file, name_of(location.uri), self._limits)
                else:
                    found = _facts(record)
                unchanged = _signature(file, location) == before
            if unchanged:
                break
        else:
            raise MediaError(
                f"{name_of(location.uri)!r} keeps changing; register it when it is fully written"
            )
        record = _record(id, size, found, self._places(id, location.uri))
        location = dataclasses.replace(location, signature=before)
        trusted = location.signature is not None and _settled(location.changed, began)
        self._publish(record, location if trusted else dataclasses.replace(location, signature=None))
        # Even one too young to be remembered tells a later change of the file from none.
        return _asset(record, location.uri, before), location.signature if trusted else None

    def _identity(self, file: BinaryIO, location: Location) -> str:
        digest = hashlib.blake2b(digest_size=16)
        if self._etag_identity and location.remote and location.etag:
            digest.update(f"amber etag\0{location.size}\0{location.etag}".encode())
            return digest.hexdigest()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
        return digest.hexdigest()

    def _places(self, id: str, uri: str) -> list[str]:
        """The asset's known places with this one last. Of two added at once one may be lost: harmless."""
        record = self._records.read(_id_record(id)) or {}
        return [*(u for u in record.get("uris", []) if u != uri), uri][-PLACES:]

    def _publish(self, record: dict[str, Any], location: Location) -> None:
        self._records.write(_id_record(record["id"]), record)
        # Second, so that a place never names an asset that has no record.
        self._records.write(
            _uri_record(location.uri),
            {"uri": location.uri, "signature": location.signature, "id": record["id"]},
        )


def _settled(changed: int, began: int) -> bool:
    """Whether the file last changed long enough before the digest began for its clock to tell a later change.

    The kernel stamps files by its tick (at most 10 ms), some file systems by the second or two: a change
    within the same tick would keep the signature, so such a signature is not remembered.
    """
    return began - changed > (_COARSE if changed and changed % 1_000_000_000 == 0 else _FINE)


def _signature(file: BinaryIO, location: Location) -> str | None:
    return location.signature if location.remote else signature_of(os.fstat(file.fileno()))


def _id_record(id: str) -> str:
    return f"assets/id/{id[:2]}/{id}.json"


def _uri_record(uri: str) -> str:
    digest = hashlib.blake2b(uri.encode(), digest_size=16).hexdigest()
    return f"assets/uri/{digest[:2]}/{digest}.json"


def _record(id: str, size: int, found: Facts, places: list[str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "id": id,
        "bytes": size,
        "media_type": found.media_type,
        "duration": found.duration,
        "streams": streams_to_json(found.streams),
        "note": found.note,
        "uris": places,
    }


def _facts(record: dict[str, Any]) -> Facts:
    streams = streams_from_json(record["streams"])
    return Facts(record["media_type"], record["duration"], streams, record.get("note", ""))


def _asset(record: dict[str, Any], uri: str, signature: str | None = None) -> Asset:
    return asset_from_json({**record, "uri": uri, "signature": signature or ""})
