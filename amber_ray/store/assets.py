"""What is known of assets, at rest: Parquet packs in `<store>/assets/packs/`, a row per asset and place.

    writer   the pack of its latest rows ── more rows ──→ a new pack with all of them; the old one is deleted
    owner    many small packs ──→ one pack with the newest row of each; the small ones are deleted
    reader   lists the packs, keeps some 40 bytes for each row, reads the row group of what it looks for

A pack gets its name when it is whole, and is published before what it replaces is deleted, so a crash leaves
rows twice and never a gap. A row says what was found at a place at a time: it stays true, so rows that are
there twice are harmless, and it does not matter who joins what in which order. That is why any process may
add rows without holding the store. Only its owner joins packs of others.

Rows are sorted by `uri`. The column `lookup` is what they are found by: the leading 64 bits of the digests of
`uri` and of the asset. All the others are for whoever reads the store without Amber; `asset` joins them with
values.

    writing a new asset      one small file, whatever the number of assets; at most `OWN_ROWS` rows again
    joining                  O(n log n) in all, a row group of each pack in memory
    asking for one asset     a row group; the first question reads `lookup` of all packs
    a page of assets         the row groups that can hold it (`store.asset_pages`)

Must not know: media, how an asset is found.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import json
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from amber_ray.core.model.pages import ASSETS, AssetFilter, Page, read_cursor
from amber_ray.core.model.unit_codec import asset_from_json, streams_to_json
from amber_ray.core.model.units import Asset
from amber_ray.errors import DamagedPart, StoreError
from amber_ray.store import asset_pages, columns
from amber_ray.store.files import Files
from amber_ray.store.older_assets import OlderRecords
from amber_ray.store.sealed import NAME, SealedFile, SealedWriter, order, sealed_name

log = logging.getLogger("amber.store")
T = TypeVar("T")

FOLDER = "assets/packs"
OWN_ROWS = 512
"""A writer adds to its latest pack, by writing it anew, until it has so many rows."""
JOINED = 8
"""Packs of similar size that are joined at once: each row is written again O(log n) times."""
RATIO = 4
"""Packs are of similar size if none has more than so many times the rows of the smaller ones together."""
MOST_JOINED = 256
"""Packs that are joined at once: a row group of each is in memory."""
GROUP_BYTES = 256 << 10
"""Bytes in a row group, before compression: some two thousand rows."""
GROUPS, OPEN = 32, 8
"""Row groups that are held in memory, and packs that are held open."""
PLACES = 16
"""Places that are told of one asset, the latest ones."""
READERS = 16
"""Files of an object store that are read at once."""
FRESH_SECONDS = 0.2
"""An object store is not listed again within this time, where what was missed would only cost a digest."""
TRIES = 16
"""Packs may be joined while they are listed or read; then they are listed again."""

_PLACE, _ASSET = 0, 1
_SCHEMA = pa.schema(
    [
        ("uri", pa.utf8()),
        ("asset", pa.utf8()),
        ("kind", pa.utf8()),
        ("media_type", pa.utf8()),
        ("bytes", pa.int64()),
        ("duration", pa.float64()),
        ("streams", pa.utf8()),
        ("note", pa.utf8()),
        ("signature", pa.utf8()),
        ("seen", pa.timestamp("us")),
        ("facts", pa.int16()),
        ("lookup", pa.binary(16)),
    ]
)


_READ = [name for name in _SCHEMA.names if name != "lookup"]


class AssetRecord(NamedTuple):
    """What was found at a place. `facts` is the version of what is told of it, which its writer said.

    `seen` is when it was written, in microseconds.
    """

    asset: Asset
    facts: int
    seen: int


class _Pack:
    """What is held in memory of a pack: where its row groups begin, and the column `lookup`.

    `bounds`, the first and the last uri of each row group, is None until a page of assets is asked for.
    """

    __slots__ = ("_sorted", "bounds", "lookup", "starts")

    def __init__(self, starts: np.ndarray, lookup: np.ndarray) -> None:
        self.starts = starts
        self.lookup = lookup
        self.bounds: asset_pages.Bounds | None = None
        self._sorted: list[tuple[np.ndarray, np.ndarray] | None] = [None, None]

    def find(self, column: int, head: int) -> list[int]:
        """Return the rows whose digest begins with these 64 bits."""
        by = self._sorted[column]
        if by is None:
            places = np.argsort(self.lookup[:, column]).astype(np.uint32)
            by = self._sorted[column] = self.lookup[places, column], places
        heads, places = by
        first = int(np.searchsorted(heads, np.uint64(head)))
        last = first
        while last < len(heads) and heads[last] == head:
            last += 1
        return list(map(int, places[first:last]))


_Packs: TypeAlias = Mapping[str, _Pack]
"""By name. Never changed but replaced, so that whoever looks through it sees one state."""


class _Batch:
    """Rows that are published together, for all threads that added some; `error` is why they were not."""

    def __init__(self) -> None:
        self.rows: list[Asset] = []
        self.over = False
        self.error: BaseException | None = None


class AssetPacks:
    """The packs of one store, local or at any fsspec URL. Thread-safe; many processes may share it.

    `facts` is the version of what this process tells of assets. `fence` is called before packs of others are
    joined, and raises `StoreError` if this process may not be sure any more that it owns the store
    (`Lease.guard`).
    """

    def __init__(self, url: str, facts: int = 1, fence: Callable[[], None] | None = None) -> None:
        self._files = Files(url)
        self._facts = facts
        self._fence = fence
        self._packs: _Packs = {}
        self._late: dict[str, StoreError] = {}
        self._lost: set[str] = set()
        self._listed = -math.inf
        self._older = OlderRecords(self._files)
        self._groups: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()
        self._open: OrderedDict[str, SealedFile] = OrderedDict()
        self._own: tuple[str, pa.Table] | None = None
        self._batch = _Batch()
        self._lock = threading.Lock()  # of `_groups`, `_open` and `_batch`
        self._listing = threading.RLock()  # of changes of `_packs`, which readers take as it is
        self._writing = threading.Lock()

    # --- reading

    def at(self, uri: str, signature: str, since: float = math.inf) -> AssetRecord | None:
        """Return the asset that was found at a place when it had this signature; None if none was.

        A listing of the packs that was made after `since` (`time.monotonic()`) is new enough: what others
        have written after it may be missed. Raises `StoreError` if that can't be read now.
        """

        def look(packs: _Packs) -> AssetRecord | None:
            rows = self._find(packs, _PLACE, _place_head(uri))
            rows = [r for r in rows if (r.asset.uri, r.asset.signature) == (uri, signature)]
            return max(rows, key=lambda r: r.seen) if rows else None

        found = self._looked(look, self._recent(since))
        if found is None and (old := self._older.at(uri, signature)) is not None:
            found = AssetRecord(*old, 0)
        return found

    def of(self, id: str, since: float = math.inf) -> list[AssetRecord]:
        """Return an asset as it was found at its latest places, in order; nothing for an unknown one.

        For `since` see `at`. Raises `StoreError` if that can't be read now.
        """

        def look(packs: _Packs) -> list[AssetRecord]:
            rows = sorted(self._find(packs, _ASSET, _asset_head(id)), key=lambda r: r.seen)
            places: dict[str, AssetRecord] = {}
            for row in rows:
                if row.asset.id == id:
                    places.pop(row.asset.uri, None)
                    places[row.asset.uri] = row
            return list(places.values())[-PLACES:]

        self._refresh(self._recent(since))  # it may be at another place by now
        found = self._looked(look, since)
        if not found and self._older.there():
            # What is not there any more may have been taken over just now: into a pack first.
            found = [AssetRecord(*old, 0) for old in self._older.of(id)] or self._looked(look, since)
        if not found and self._late:
            raise next(iter(self._late.values()))
        return found

    def page(
        self,
        only: AssetFilter,
        limit: int,
        cursor: str | None,
        held: Sequence[Asset] = (),
        uploads: str = "",
    ) -> Page[Asset]:
        """Return a page of the assets that a filter means, by their places: a row for each, the newest.

        `held`: rows that are not written yet; `uploads`: what the places of uploads begin with. What an older
        store has in JSON files is told when `tidy` has taken it over. Raises `BadRequest` for a cursor that
        is none, `StoreError` if a pack can't be read now: its assets must not count as missing.
        """
        place = read_cursor(ASSETS, cursor, str)
        after: str | None = None if place is None else place[0]
        start = max(after or "", only.prefix)
        since = self._recent(math.inf)
        for _ in range(TRIES):
            self._refresh(since)
            if self._late:
                raise next(iter(self._late.values()))
            try:
                walks = [self._walk(name, pack, start) for name, pack in self._packs.items()]
                places = asset_pages.merged([asset_pages.Held(held, start), *walks])
                return asset_pages.page(places, only, limit, after, uploads, _asset)
            except FileNotFoundError:
                since = math.inf  # one was joined to others meanwhile
        raise self._changing()

    def _walk(self, name: str, pack: _Pack, start: str) -> asset_pages.Walk:
        if pack.bounds is None:
            pack.bounds = self._use(name, asset_pages.bounds_of)
        return asset_pages.Walk(pack.bounds, lambda group: self._group(name, group), start)

    def look(self) -> None:
        """Read `lookup` of the packs there are, which the first question would wait for; on a disk only.

        Raises `StoreError` if they can't be listed now.
        """
        if self._files.local:
            self._refresh()

    def _find(self, packs: _Packs, column: int, head: int) -> list[AssetRecord]:
        return [self._row(name, pack, i) for name, pack in packs.items() for i in pack.find(column, head)]

    def _recent(self, since: float) -> float:
        """Since when a listing is new enough, where what it missed would only cost a digest."""
        return since if self._files.local else min(since, time.monotonic() - FRESH_SECONDS)

    def _looked(self, look: Callable[[_Packs], T], since: float) -> T:
        """Return what `look` finds in the packs that there are.

        If that is nothing, the packs are listed again, unless they were after `since`. Another thread may
        have done so meanwhile: what counts is whether they are still those that were looked at.
        """
        for _ in range(TRIES):
            packs = self._packs
            try:
                found = look(packs)
            except FileNotFoundError:
                self._refresh()  # one was joined to others meanwhile
                continue
            if found:
                return found
            self._refresh(since)
            if self._packs is packs:
                return found
        raise self._changing()

    def _row(self, name: str, pack: _Pack, row: int) -> AssetRecord:
        """Return a row. Raises `FileNotFoundError` if the pack was joined to others."""
        group = int(np.searchsorted(pack.starts, row, "right")) - 1
        told = self._group(name, group).slice(row - int(pack.starts[group]), 1)
        seen = told.column("seen")[0].value
        data = told.drop_columns("seen").to_pylist()[0]
        return AssetRecord(_asset(data), data["facts"], seen)

    def _group(self, name: str, group: int) -> pa.Table:
        """Return a row group; those used last stay in memory. Raises `FileNotFoundError` as `_use` does."""
        with self._lock:
            table = self._groups.get((name, group))
            if table is not None:
                self._groups.move_to_end((name, group))
        if table is None:
            table = self._use(name, lambda file: file.group(group, _READ))
            with self._lock:
                self._groups[name, group] = table
                if len(self._groups) > GROUPS:
                    self._groups.popitem(last=False)
        return table

    def _use(self, name: str, call: Callable[[SealedFile], T]) -> T:
        """Call with an open pack; after a failure once more, with the pack opened anew.

        One that is damaged both times is moved to quarantine: what it says can be found out again. Raises
        `FileNotFoundError` for that and for one that was joined, `StoreError` for one that can't be read now.
        """
        failed = damaged = 0
        while True:
            try:
                with self._lock:
                    known = self._open.pop(name, None)
                if known is not None and (not self._files.local or self._files.exists(name)):
                    file = known
                else:
                    file = SealedFile(name, self._files.open(name), pre_buffer=not self._files.local)
                made = call(file)
                break
            except DamagedPart as error:
                damaged += 1
                if damaged == 2:
                    self._quarantine(name, error)
                    raise FileNotFoundError(name) from error
            except StoreError:
                failed += 1
                if failed == 2:
                    raise
        with self._lock:
            self._open[name] = file
            if len(self._open) > OPEN:
                self._open.popitem(last=False)  # its file is closed when its last reader has dropped it
        return made

    def _quarantine(self, name: str, error: DamagedPart) -> None:
        log.error("%s; it goes to quarantine, and its assets are looked at again", error)
        self._lost.add(name)
        try:
            self._files.move(name, f"quarantine/{name.replace('/', '__')}")
        except (FileNotFoundError, StoreError) as failure:
            log.error("pack %s could not be moved to quarantine: %s", name, failure)

    # --- the listing is the index

    def _refresh(self, since: float = math.inf) -> None:
        """Take notice of the packs that there are; `_packs` stays the same object if these are no others.

        They are not listed again if they were after `since`. A local folder is listed until it no longer
        changes: what is renamed during a listing may be in it under both names or none.
        """
        with self._listing:
            if self._listed > since:
                return
            now = time.monotonic()
            for _ in range(TRIES):
                names = set(self._files.sizes(NAME, FOLDER, 1)) - self._lost
                if names == set(self._packs):
                    self._late = {}
                    self._listed = now
                    return
                packs = {name: pack for name, pack in self._packs.items() if name in names}
                packs |= self._load(sorted(names.difference(packs), key=order))
                if set(packs) != set(self._packs):
                    self._packs = packs
                if self._late:
                    return
                if not self._files.local:
                    self._listed = now
                    return
            raise self._changing()

    def _load(self, names: Sequence[str]) -> dict[str, _Pack]:
        """Read `lookup` of packs. Those that can't be read now are noted, and tried by the next listing."""
        if self._files.local:
            loaded = list(map(self._loaded, names))
        else:
            with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
                loaded = list(pool.map(self._loaded, names))
        found: dict[str, _Pack] = {}
        late: dict[str, StoreError] = {}
        for name, pack in zip(names, loaded, strict=True):
            if isinstance(pack, _Pack):
                found[name] = pack
            elif pack is not None:
                log.error("the assets in %s are left out: %s", name, pack)
                late[name] = pack
        self._late = late
        return found

    def _loaded(self, name: str) -> _Pack | StoreError | None:
        try:
            return self._use(name, lambda file: _Pack(file.starts, _lookup(file.columns(["lookup"]))))
        except FileNotFoundError:
            return None
        except StoreError as error:
            return error

    def _changing(self) -> StoreError:
        return StoreError(
            f"the assets of the store {self._files.url!r} can't be read: its packs keep changing"
        )

    # --- writing

    def add(self, assets: Iterable[Asset]) -> None:
        """Write what was found at the assets' places, durably, when this returns. Raises `StoreError`.

        Rows of threads that add at the same time go into one pack.
        """
        rows = list(assets)
        if not rows:
            return
        with self._lock:
            batch = self._batch
            batch.rows += rows
        with self._writing:
            if not batch.over:
                with self._lock:
                    self._batch = _Batch()
                try:
                    self._publish(batch.rows)
                except BaseException as error:
                    batch.error = error
                    raise
                finally:
                    batch.over = True
        if batch.error is not None:
            raise StoreError(f"the assets can't be written: {batch.error}") from batch.error

    def _publish(self, assets: Sequence[Asset]) -> None:
        """Write rows, together with those of the pack that was written last if there is room in it."""
        table = _table([(asset, self._facts) for asset in assets], time.time_ns() // 1000)
        before = self._own
        if before is not None and len(before[1]) + len(table) > OWN_ROWS:
            before = None
        if before is not None:
            table = pa.concat_tables([before[1], table])
        table = _newest(table)
        name = self._write([table])
        self._own = name, table
        pack = self._loaded(name)
        with self._listing:
            if isinstance(pack, _Pack):
                self._packs = {**self._packs, name: pack}
            if before is not None:
                self._drop([before[0]])

    def _write(self, tables: Iterable[pa.Table]) -> str:
        with self._files.draft(FOLDER) as draft:
            writer = SealedWriter(draft.sink, {"holds": "assets"}, _layout, GROUP_BYTES)
            for table in tables:
                with self._files.translated("written"):
                    writer.add(table)
            with self._files.translated("written"):
                writer.close()
            name = sealed_name(draft, FOLDER)
            draft.publish(name)
            return name

    def _drop(self, names: Iterable[str]) -> None:
        """Delete packs whose rows are in others; one that can't be deleted now is joined again later."""
        gone = set(names)
        with self._listing:
            self._packs = {name: pack for name, pack in self._packs.items() if name not in gone}
        for name in gone:
            with self._lock:
                self._open.pop(name, None)
            try:
                self._files.remove(name)
            except StoreError as error:
                log.warning("pack %s stays beside the one that it was joined to: %s", name, error)

    # --- upkeep, by the owner of the store

    def tidy(self) -> None:
        """Join packs of similar size, and take over the records of an older store.

        What a crash leaves undone, the next call does. Raises `StoreError`.
        """
        self._guard()
        self._files.sweep(FOLDER, 1)
        while self._join():
            pass
        taken = 0
        for records, names in self._older.batches():
            self._write([_newest(_table(records, taken))])  # as if they were seen in 1970
            taken += len(records)
            self._guard()
            self._older.remove(names)
            self._join()
        self._guard()
        self._older.finish()

    def _join(self) -> bool:
        """Join the smallest packs, if there are enough of them; return whether there were."""
        with self._writing:  # its own latest pack may be among them
            self._refresh()
            names = _similar({name: len(pack.lookup) for name, pack in self._packs.items()})
            if not names:
                return False
            self._guard()
            try:
                self._write(_merged([_Source(functools.partial(self._use, name)) for name in names]))
            except FileNotFoundError:
                return False  # one was written anew by its writer meanwhile; the next call joins the others
            self._guard()
            if self._own is not None and self._own[0] in names:
                self._own = None
            self._refresh()
            self._drop(names)
            return True

    def _guard(self) -> None:
        if self._fence is not None:
            self._fence()


class _Source:
    """The rows of a pack in order, a row group at a time."""

    def __init__(self, use: Callable[[Callable[[SealedFile], Any]], Any]) -> None:
        self._use = use
        self._groups: int = use(lambda file: file.groups)
        self._next = 0
        self.rows = _SCHEMA.empty_table()

    def fill(self) -> bool:
        """Read on if all rows were taken; return whether there are any."""
        while not len(self.rows) and self._next < self._groups:
            self.rows = self._use(functools.partial(SealedFile.group, number=self._next))
            self._next += 1
        return len(self.rows) > 0

    @property
    def bound(self) -> str | None:
        """The last uri of which this pack is known to have no further row to come but for itself."""
        return self.rows.column("uri")[-1].as_py() if self._next < self._groups else None

    def take(self, bound: str | None) -> pa.Table:
        """Take the rows up to a uri, or all that were read."""
        import pyarrow.compute as pc

        column = self.rows.column("uri")
        count = len(column) if bound is None else pc.sum(pc.less_equal(column, bound)).as_py()
        taken, self.rows = self.rows.slice(0, count), self.rows.slice(count)
        return taken


def _merged(sources: Sequence[_Source]) -> Iterator[pa.Table]:
    """Yield the newest rows of sorted packs, sorted, with a row group of each pack in memory."""
    while left := [source for source in sources if source.fill()]:
        bounds = [source.bound for source in left]
        bound = min((b for b in bounds if b is not None), default=None)
        yield _newest(pa.concat_tables([source.take(bound) for source in left]))


def _similar(rows: Mapping[str, int]) -> list[str]:
    """Return the smallest packs of similar size, if there are enough of them, else nothing."""
    found: list[str] = []
    total = 0
    for name in sorted(rows, key=lambda name: rows[name]):
        if rows[name] > RATIO * total and len(found) < JOINED:
            found, total = [], 0  # those before are few and much smaller: they wait for more like them
        elif rows[name] > RATIO * total or len(found) == MOST_JOINED:
            break
        found.append(name)
        total += rows[name]
    return found if len(found) >= JOINED else []


def import_writer() -> None:
    """Import now what the first row to be written would wait for."""
    _newest(_table([], 0))


def _newest(table: pa.Table) -> pa.Table:
    """Sort rows by uri; of those about the same place and asset keep the newest."""
    import pyarrow.compute as pc  # for writers alone: importing it takes a tenth of a second

    table = table.sort_by([("uri", "ascending"), ("asset", "ascending"), ("seen", "ascending")])
    table = table.combine_chunks()
    if len(table) < 2:
        return table
    changes = [
        pc.not_equal(table.column(name).slice(1), table.column(name).slice(0, len(table) - 1))
        for name in ("uri", "asset")
    ]
    newest = pc.or_(*changes)
    return table.filter(pa.chunked_array([*newest.chunks, columns.truths([True])]))


def _layout(_: pa.Table) -> dict[str, Any]:
    return {
        "compression": dict.fromkeys(_READ, "ZSTD"),
        "use_dictionary": ["kind", "media_type", "streams", "note", "facts"],
        "write_statistics": ["uri", "asset", "seen"],
    }


def _table(records: Sequence[tuple[Asset, int]], seen: int) -> pa.Table:
    """Return rows for assets and the version of what is told of each, one after the other in time."""
    assets = [asset for asset, _ in records]
    lookup = b"".join(_head(_place_head(a.uri)) + _head(_asset_head(a.id)) for a in assets)
    return pa.table(
        [
            columns.texts([a.uri for a in assets], pa.utf8()),
            columns.texts([a.id for a in assets], pa.utf8()),
            columns.texts([a.kind for a in assets], pa.utf8()),
            columns.texts([a.media_type for a in assets], pa.utf8()),
            columns.numbers([a.bytes for a in assets], pa.int64()),
            columns.numbers_or_none([a.duration for a in assets], pa.float64()),
            columns.texts(
                [json.dumps(streams_to_json(a.streams), sort_keys=True) for a in assets], pa.utf8()
            ),
            columns.texts([a.note for a in assets], pa.utf8()),
            columns.texts([a.signature for a in assets], pa.utf8()),
            columns.numbers(range(seen, seen + len(assets)), pa.timestamp("us")),
            columns.numbers([facts for _, facts in records], pa.int16()),
            pa.Array.from_buffers(pa.binary(16), len(assets), [None, pa.py_buffer(lookup)]),
        ],
        schema=_SCHEMA,
    )


def _asset(told: Mapping[str, Any]) -> Asset:
    return asset_from_json({**told, "id": told["asset"], "streams": json.loads(told["streams"])})


def _lookup(table: pa.Table) -> np.ndarray:
    """Return the column `lookup` as numbers: uint64[n, 2]."""
    chunks = table.column("lookup").chunks
    raw = [np.frombuffer(c.buffers()[1], ">u8", 2 * len(c), 16 * c.offset) for c in chunks if len(c)]
    return np.concatenate(raw or [np.empty(0, ">u8")]).astype(np.uint64).reshape(-1, 2)


def _place_head(uri: str) -> int:
    return int.from_bytes(hashlib.blake2b(uri.encode(), digest_size=8).digest(), "big")


def _asset_head(id: str) -> int:
    return int(id[:16], 16)


def _head(number: int) -> bytes:
    return number.to_bytes(8, "big")
