"""What older stores know of assets: two JSON files for each, until the store's owner has taken them over.

    assets/id/<2 digits>/<asset>.json              what it is, and its places, the latest last
    assets/uri/<2 digits>/<digest of uri>.json     the signature that the place had, and the asset there

Nothing writes them any more. A damaged one counts as none: what it said can be found out again.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

from amber_ray.core.model.unit_codec import asset_from_json
from amber_ray.core.model.units import Asset
from amber_ray.errors import DamagedRecord
from amber_ray.store.files import Files
from amber_ray.store.json_files import read_json

log = logging.getLogger("amber.store")

IDS, PLACES = "assets/id", "assets/uri"
TOGETHER = 4096
"""Assets that are taken over at once, or somewhat more."""
READERS = 16
"""Files of an object store that are read at once."""

Old = tuple[Asset, int]
"""An asset at a place, and the version of what is told of it."""

_NAME = re.compile(r"[0-9a-f]{32}\.json")
_FIELDS = {"format", "id", "bytes", "media_type", "duration", "streams", "uris"}


class OlderRecords:
    """The JSON files of a store, local or at any fsspec URL. Thread-safe."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._over = False

    def there(self) -> bool:
        """Return whether there are any. Raises `StoreError` if that can't be told now."""
        if not self._over:
            self._over = not self._files.has_folder(IDS)
        return not self._over

    def at(self, uri: str, signature: str) -> Old | None:
        """See `AssetPacks.at`."""
        place = self._read(_place(uri)) if self.there() else None
        if place is None or place.get("signature") != signature:
            return None
        record = self._record(_id(str(place.get("id"))))
        return None if record is None else _old(record, uri, signature)

    def of(self, id: str) -> list[Old]:
        """See `AssetPacks.of`."""
        record = self._record(_id(id)) if self.there() else None
        return [] if record is None else self._places(record)

    def batches(self) -> Iterator[tuple[list[Old], list[str]]]:
        """Yield all assets at all their places, some at a time, with the names of the files that say so."""
        if not self.there():
            return
        found: list[Old] = []
        names: list[str] = []
        for number in range(256):
            here = sorted(self._files.sizes(_NAME, f"{IDS}/{number:02x}", 1))
            with concurrent.futures.ThreadPoolExecutor(1 if self._files.local else READERS) as pool:
                records = [record for record in pool.map(self._record, here) if record is not None]
                found += [old for places in pool.map(self._places, records) for old in places]
            names += here
            if found and (len(found) >= TOGETHER or number == 255):
                # Assets first: one that was taken over, but for its place, would be taken for one that moved.
                yield found, [*names, *dict.fromkeys(_place(a.uri) for a, _ in found if a.signature)]
                found, names = [], []

    def remove(self, names: Sequence[str]) -> None:
        """Delete files that were taken over; fine if they are gone."""
        for name in names:
            self._files.remove(name)

    def finish(self) -> None:
        """Delete what is left, once all batches were taken over: it says nothing of any asset."""
        if self.there():
            self._files.remove_folder(IDS)
            self._files.remove_folder(PLACES)

    def _places(self, record: dict[str, Any]) -> list[Old]:
        """Return an asset at each of its places; without a signature where there is another asset by now."""
        found: list[Old] = []
        for uri in record["uris"]:
            place = self._read(_place(uri)) or {}
            signature = place.get("signature") if place.get("id") == record["id"] else None
            found.append(_old(record, uri, signature or ""))
        return found

    def _record(self, name: str) -> dict[str, Any] | None:
        record = self._read(name)
        return record if record is not None and record.keys() >= _FIELDS else None

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return read_json(self._files, name)
        except DamagedRecord as error:
            log.warning("%s; what it said is found out again", error)
            return None


def _id(id: str) -> str:
    return f"{IDS}/{id[:2]}/{id}.json"


def _place(uri: str) -> str:
    digest = hashlib.blake2b(uri.encode(), digest_size=16).hexdigest()
    return f"{PLACES}/{digest[:2]}/{digest}.json"


def _old(record: dict[str, Any], uri: str, signature: str) -> Old:
    return asset_from_json({**record, "uri": uri, "signature": signature}), int(record["format"])
