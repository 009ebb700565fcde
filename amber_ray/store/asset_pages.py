"""Assets in the order of their places, a page at a time, out of packs that overlap.

Each pack is sorted by `uri`, and the statistics in its footer tell the first and the last uri of each row
group. So a page begins where it begins in every pack, and a row group is read only when its first uri is the
next one of all packs:

    pack 1   [a ... f] [f ... k] [m ... z]        after "g": reads [f ... k],
    pack 2   [b ... e]                            passes over this one,
    pack 3   [i ... n]                            reads this one when it comes to "i"

What a page costs hangs on its length and on how many packs there are (the logarithm of the number of assets,
`store.assets`), not on how many assets there are.

Must not know: files, how packs are found.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from amber_ray.core.model.pages import ASSETS, AssetFilter, Page, write_cursor
from amber_ray.core.model.units import Asset
from amber_ray.store import columns
from amber_ray.store.sealed import SealedFile

LOOKED_THROUGH = 20_000
"""Places that are looked through for one page, however few of them fit a filter."""
_NEWEST = 1 << 63
"""When rows were seen that are not written yet: after all others."""

Bounds = Sequence[tuple[str, str | None]]
"""The first and the last uri of each row group; "" and None where the footer does not tell."""


class Place(NamedTuple):
    """A row: what is asked of each, and what has the rest of it (a row group and a position, or an asset)."""

    uri: str
    seen: int
    kind: str
    duration: float | None
    where: tuple[pa.Table, int] | Asset


def bounds_of(file: SealedFile) -> Bounds:
    """Return the first and the last uri of each row group of a pack, by its footer."""
    leaf = file.leaf("uri")
    found: list[tuple[str, str | None]] = []
    for number in range(file.groups):
        told = file.metadata.row_group(number).column(leaf).statistics
        known = told is not None and told.has_min_max  # none are written of very long texts
        found.append((told.min, told.max) if known else ("", None))
    return found


class Walk:
    """The places of one pack in order, from `start` on; `read` gives a row group.

    `head` is the next uri, or before `fill` what it is not less than; None at the end.
    """

    def __init__(self, bounds: Bounds, read: Callable[[int], pa.Table], start: str) -> None:
        self._bounds = bounds
        self._read = read
        self._start = start
        self._group = next((i for i, (_, last) in enumerate(bounds) if last is None or last >= start), None)
        self._rows: list[Place] = []
        self._at = 0
        self.head = self._first()

    def _first(self) -> str | None:
        if self._group is None or self._group == len(self._bounds):
            return None
        return max(self._start, self._bounds[self._group][0])

    @property
    def filled(self) -> bool:
        """Whether `head` is a place, which `take` gives."""
        return self._at < len(self._rows)

    def fill(self) -> None:
        """Read the row group in which `head` may be; then it is exact, or that of the next row group."""
        assert self._group is not None
        self._rows = _places(self._read(self._group))
        self._at = bisect.bisect_left(self._rows, self._start, key=lambda row: row.uri)
        self._group += 1
        self._step()

    def take(self) -> Place:
        """Return the place at `head`, and go on to the next one."""
        row = self._rows[self._at]
        self._at += 1
        self._step()
        return row

    def _step(self) -> None:
        if self.filled:
            self.head = self._rows[self._at].uri
        else:
            self._rows, self._at = [], 0
            self.head = self._first()


class Held:
    """Places that are in memory alone, like a `Walk`."""

    filled = True

    def __init__(self, assets: Iterable[Asset], start: str) -> None:
        its = sorted((one for one in assets if one.uri >= start), key=lambda one: one.uri, reverse=True)
        self._left = [Place(one.uri, _NEWEST, one.kind, one.duration, one) for one in its]

    @property
    def head(self) -> str | None:
        """The next uri."""
        return self._left[-1].uri if self._left else None

    def fill(self) -> None:
        """Nothing is to be read."""

    def take(self) -> Place:
        """Return the place at `head`, and go on to the next one."""
        return self._left.pop()


def merged(walks: Iterable[Walk | Held]) -> Iterator[Place]:
    """Yield the places of all packs in order; of several rows of one place the newest."""
    heap = [(walk.head, number, walk) for number, walk in enumerate(walks) if walk.head is not None]
    heapq.heapify(heap)
    last: Place | None = None
    while heap:
        _, number, walk = heap[0]
        if walk.filled:
            row = walk.take()
            if last is not None and last.uri != row.uri:
                yield last
                last = None
            last = row if last is None or row.seen >= last.seen else last
        else:
            walk.fill()
        if walk.head is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (walk.head, number, walk))
    if last is not None:
        yield last


def page(
    places: Iterator[Place],
    only: AssetFilter,
    limit: int,
    after: str | None,
    uploads: str,
    asset: Callable[[dict[str, Any]], Asset],
) -> Page[Asset]:
    """Return a page of the places after one (None: of all), which come in order from the prefix on.

    `uploads` is what places of uploads begin with; `asset` makes an asset of a row.
    """
    found: list[Place] = []
    looked, last = 0, ""
    for row in places:
        if row.uri == after:
            continue
        if not row.uri.startswith(only.prefix):
            break
        if len(found) == limit or looked == LOOKED_THROUGH:
            return Page(_assets(found, asset), write_cursor(ASSETS, last))
        looked, last = looked + 1, row.uri
        if only.fits(row.kind, row.duration) and only.shows(row.uri, uploads):
            found.append(row)
    return Page(_assets(found, asset))


def _places(table: pa.Table) -> list[Place]:
    """Return the rows of a row group."""
    seen = table.column("seen").cast(pa.int64()).to_pylist()
    uris, kinds, durations = (table.column(name).to_pylist() for name in ("uri", "kind", "duration"))
    where = ((table, i) for i in range(len(table)))
    return list(map(Place, uris, seen, kinds, durations, where))


def _assets(rows: Sequence[Place], asset: Callable[[dict[str, Any]], Asset]) -> tuple[Asset, ...]:
    """Make the assets of rows, in order; those of a row group together."""
    of_table: dict[int, tuple[pa.Table, list[int], list[int]]] = {}
    found: dict[int, Asset] = {}
    for number, row in enumerate(rows):
        if isinstance(row.where, Asset):
            found[number] = row.where
            continue
        table, at = row.where
        _, places, numbers = of_table.setdefault(id(table), (table, [], []))
        places.append(at)
        numbers.append(number)
    for table, places, numbers in of_table.values():
        taken = table.drop_columns("seen").take(columns.numbers(places, pa.int64()))
        found.update(zip(numbers, map(asset, taken.to_pylist()), strict=True))
    return tuple(found[number] for number in range(len(rows)))
