"""A demand's look at a million objects: nothing new, one in a hundred new, and the listing by itself.

    python -m benchmarks.sweep [--objects 1000000]

The listing is made here, in pages as an object store gives them; sorting, comparing, noting and joining are
the steward's own (`fabric.adapter.listings`), in a store in a folder. Nothing is asked for. Each measurement
has a process to itself, whose greatest memory is told with all that Python and Arrow take.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence

from amber_ray.core.model.demands import Demand
from amber_ray.core.model.listing import Kind, Listed, Noted
from amber_ray.fabric.adapter.listings import StoreListings
from amber_ray.media.listing import PAGE, Unseen
from amber_ray.settings import Settings
from amber_ray.store.runs import Listing

DEMAND = Demand("films", ("shots",), ("s3://bucket/films/",))
BY = "0123456789abcdef01234567"
NEW = 100
"""One object in so many is new."""


def objects(count: int, *, new: bool) -> Iterator[Listed]:
    """So many objects in the order of their names, and with `new` one more in a hundred."""
    for number in range(count):
        name = f"s3://bucket/films/{number // 1000:06}/{number:09}.mp4"
        yield Listed(name, f"{number}:{number * 2654435761 & 0xFFFFFFFF:032x}", 1.7e9)
        if new and number % NEW == 0:
            yield Listed(f"{name}.mp4", f"{number}:new", 1.7e9)


class Made(StoreListings):
    """Lists what is made."""

    def __init__(self, store: str, count: int, new: bool) -> None:
        super().__init__(Settings(store=store))
        self._count = count
        self._new = new

    def pages(self, prefix: str, unseen: Unseen) -> Iterable[list[Listed]]:
        """A thousand objects a page."""
        page: list[Listed] = []
        for row in objects(self._count, new=self._new):
            page.append(row)
            if len(page) == PAGE:
                yield page
                page = []
        yield page


def noted(row: Listed) -> Noted:
    """That this object was true."""
    return Noted(row.uri, row.signature, BY, hashlib.blake2b(row.uri.encode(), digest_size=16).hexdigest())


async def fill(store: str, count: int) -> str:
    """Note all objects as true; returns the run's name."""
    rows = (noted(row) for row in objects(count, new=False))
    return await asyncio.to_thread(Made(store, 0, False)._write, DEMAND.name, rows)


async def sweep(store: str, count: int, runs: Sequence[str], new: bool) -> int:
    """One look, what is new noted, runs joined if it is time; returns how many objects were new."""
    listings = Made(store, count, new)
    look = await listings.look(DEMAND, runs, BY)
    fresh: list[Noted] = []
    while changes := await look.changes(256):
        fresh += [noted(c.listed) for c in changes if c.kind is Kind.NEW and c.listed is not None]
    await look.close()
    if fresh:
        runs = (*runs, await listings.write(DEMAND.name, sorted(fresh)))
        if await listings.crowded(DEMAND.name, runs):
            await listings.join(DEMAND.name, runs)
    return len(fresh)


def listed(count: int) -> int:
    """The listing by itself: taken in, sorted, and read in order."""
    with Listing() as listing:
        listing.add(objects(count, new=False))
        return sum(1 for _ in listing.rows())


def measured(what: str, store: str, count: int, runs: Sequence[str]) -> tuple[float, int, int]:
    """Seconds, the greatest memory in MiB, and how many objects were found or new."""
    began = time.perf_counter()
    new = what == "1 % new"
    found = listed(count) if what == "listing" else asyncio.run(sweep(store, count, runs, new))
    took = time.perf_counter() - began
    return took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, found


def main() -> None:
    """Print a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, default=1_000_000)
    count = parser.parse_args().objects
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as store:
        runs = (asyncio.run(fill(store, count)),)
        first = 0.0
        for what in ("listing", "nothing new", "1 % new"):
            with spawn.Pool(1) as pool:
                took, memory, found = pool.apply(measured, (what, store, count, runs))
            first = first or took
            print(
                f"{what:12} {found:>9,} found {took:6.1f} s {memory:>5} MiB  {took / first:.1f} x the listing"
            )


if __name__ == "__main__":
    main()
