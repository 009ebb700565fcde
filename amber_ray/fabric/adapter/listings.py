"""A steward's listings: media as this machine lists them, and runs of notes in the store, on threads.

Must not know: Ray, what is asked for because of a listing.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence

from amber_ray.core.model.demands import Demand
from amber_ray.core.model.listing import Change, Comparison, Kind, Listed, Noted, compared, overlaid
from amber_ray.core.model.places import place_named
from amber_ray.fabric.demands.ports import Glance
from amber_ray.media.listing import Unclear, Unseen, look_at, pages
from amber_ray.media.locate import Locator
from amber_ray.settings import Settings
from amber_ray.store.files import Files
from amber_ray.store.runs import Listing, Runs

MANY_RUNS = 8
SHARE = 4
"""Runs are joined when the later ones have more than one row for so many of the first."""


class LookHere:
    """One look at prefixes. Implements `Look`."""

    def __init__(
        self, places: int, listing: Listing, noted: Iterator[Noted], by: str, seconds: float
    ) -> None:
        self._listing = listing
        self._comparison = Comparison(listing.rows(), noted, by)
        self._listed = places
        self._over = False
        self.unseen: list[tuple[str, str]] = []
        self.empty: list[str] = []
        self.seconds = seconds

    @property
    def places(self) -> int:
        """See `Look.places`: with those that were listed twice until it has been gone through."""
        return self._comparison.listed if self._over else self._listed

    @property
    def same(self) -> int:
        """See `Look.same`."""
        return self._comparison.same

    async def changes(self, most: int) -> Sequence[Change]:
        """See `Look.changes`."""
        found = await asyncio.to_thread(self._comparison.next, most)
        self._over = not found
        return found

    async def close(self) -> None:
        """See `Look.close`."""
        await asyncio.to_thread(self._listing.close)


class StoreListings:
    """Media under the roots of settings, and runs in their store. Implements `Listings`."""

    def __init__(self, settings: Settings) -> None:
        self._files = Files(settings.store)
        self._locator = Locator(settings.media_roots, settings.remote_schemes)

    def pages(self, prefix: str, unseen: Unseen) -> Iterable[list[Listed]]:
        """The media under a prefix; a benchmark has others."""
        return pages(prefix, self._locator, unseen)

    async def look(self, demand: Demand, runs: Sequence[str], by: str) -> LookHere:
        """See `Listings.look`."""
        return await asyncio.to_thread(self._look, demand, runs, by)

    def _look(self, demand: Demand, runs: Sequence[str], by: str) -> LookHere:
        began = time.monotonic()
        listing, places = Listing(), 0
        unseen: list[tuple[str, str]] = []
        empty: list[str] = []
        try:
            for prefix in demand.prefixes:
                before = places
                for page in self.pages(prefix, lambda place, why: unseen.append((place, why))):
                    listing.add(page)
                    places += len(page)
                if places == before:
                    empty.append(prefix)
            noted = overlaid(self._read(demand.name, runs))
            look = LookHere(places, listing, noted, by, time.monotonic() - began)
        except BaseException:
            listing.close()
            raise
        look.unseen, look.empty = unseen, empty
        return look

    async def glance(
        self, demand: Demand, places: Sequence[str], runs: Sequence[str], by: str
    ) -> Glance | None:
        """See `Listings.glance`."""
        return await asyncio.to_thread(self._glance, demand, sorted(set(places)), runs, by)

    def _glance(self, demand: Demand, places: Sequence[str], runs: Sequence[str], by: str) -> Glance | None:
        local = [place for place in map(place_named, demand.prefixes) if place.startswith("/")]
        if not {prefix.rstrip("/") or "/" for prefix in demand.prefixes if "://" not in prefix} <= set(local):
            return None  # a listing tells places by the prefix as it was said, with ".." in it
        unseen: list[str] = []
        reader = self._runs(demand.name)
        noted = list(overlaid([reader.among(name, places) for name in runs]))
        if not {row.uri for row in noted} <= set(places):
            return None  # a folder is gone, or was moved
        try:
            found = [look_at(p, local, self._locator, lambda at, _: unseen.append(at)) for p in places]
        except Unclear:
            return None
        changes = list(compared([row for row in found if row is not None], noted, by))
        gone = any(change.kind is Kind.GONE for change in changes)
        empty = [prefix for prefix in demand.prefixes if gone and self._is_empty(prefix)]
        return Glance(changes, unseen, empty)

    def _is_empty(self, prefix: str) -> bool:
        return next(iter(self.pages(prefix, lambda *_: None)), None) is None

    def _runs(self, demand: str) -> Runs:
        return Runs(self._files, demand)

    def _read(self, demand: str, runs: Sequence[str]) -> list[Iterable[Noted]]:
        reader = self._runs(demand)
        return [reader.read(name) for name in runs]

    async def write(self, demand: str, rows: Sequence[Noted]) -> str:
        """See `Listings.write`."""
        return await asyncio.to_thread(self._write, demand, rows)

    def _write(self, demand: str, rows: Iterable[Noted]) -> str:
        name = uuid.uuid4().hex
        self._runs(demand).write(name, rows)
        return name

    async def join(self, demand: str, runs: Sequence[str]) -> str:
        """See `Listings.join`: a stream, whatever their length."""
        return await asyncio.to_thread(lambda: self._write(demand, overlaid(self._read(demand, runs))))

    async def crowded(self, demand: str, runs: Sequence[str]) -> bool:
        """See `Listings.crowded`."""
        if len(runs) < 2:
            return False
        return len(runs) > MANY_RUNS or await asyncio.to_thread(self._uneven, demand, runs)

    def _uneven(self, demand: str, runs: Sequence[str]) -> bool:
        first, *others = (self._runs(demand).count(name) for name in runs)
        return sum(others) * SHARE > first

    async def keep_only(self, demand: str, runs: Sequence[str]) -> None:
        """See `Listings.keep_only`."""
        await asyncio.to_thread(self._runs(demand).keep_only, runs)
