"""Values at rest: immutable Parquet parts under `<store>/values/<feature>/<version>/`.

A part gets its name when it is whole, so a listing shows whole parts only. The listing is the index: there is
no manifest that could be damaged (`store.known_keys` only saves opening parts that are listed). Values are
keyed by what they were made from, so a duplicate row is harmless, and a crash between any two steps loses
nothing. A part whose bytes fail their checksums, twice, is moved to `<store>/quarantine/`, and its keys
become misses. A part that can't be read now stays where it is (`store.part` says how the two are told apart).

Parts are joined and purged by the row group, so memory holds one row group and not the part. A part is
published before those that it replaces are deleted, so a crash leaves duplicates and never a gap.

Must not know: the ledger, Ray.
"""

from __future__ import annotations

import collections
import concurrent.futures
import heapq
import itertools
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from amber_ray.core.model.kept import Kept, KeptRow, StoredVersion, unit_per
from amber_ray.core.model.units import Per
from amber_ray.core.planning.homes import ALL, Share
from amber_ray.core.scheduler.costs import Means, mean_of
from amber_ray.core.values import annotations as vt
from amber_ray.errors import DamagedPart, StoreError
from amber_ray.store import known_keys
from amber_ray.store import part as pt
from amber_ray.store import rows as rw
from amber_ray.store.files import Files
from amber_ray.store.key_index import hexed
from amber_ray.store.known_keys import Known, KnownKeys
from amber_ray.store.part import Part, PartFile, PartWriter
from amber_ray.store.purge_log import About, ids_of
from amber_ray.store.rows import Row, StoredRow

__all__ = ["Part", "Row", "StoredRow", "ValueStore"]

log = logging.getLogger("amber.store")
T = TypeVar("T")

OPEN_PARTS = 64
"""Parts that one `ValueStore` keeps open."""
COST_PARTS = 4
"""The newest parts of a feature; their costs are averaged."""
_ROW = ("key", "asset", "unit", "params", "created")
"""The columns that say what a row is of."""
READERS = 16
"""Parts of an object store that are read at once."""
SMALL_BYTES = 64 << 20
"""Compaction leaves larger parts as they are."""
JOIN_BYTES = 256 << 20
"""Bytes of the parts that one compaction joins, at most."""
_Keys = tuple[np.ndarray, np.ndarray | None]
PurgedPart = tuple[str, Part | None, np.ndarray, list[str]]
"""A part that was deleted, its replacement, the keys kept (uint8[n, 16], in order), the keys dropped."""


class ValueStore:
    """The parts of one store, local or at any fsspec URL. Thread-safe; many processes may share it.

    `fence` is called before anything is changed, and raises `StoreError` if this process may not be sure any
    more that it owns the store (`Lease.guard`). The process that compacts and purges has one. Workers have
    none: all they do is to add parts under new names, which harms nobody, and to move damaged ones away.
    """

    def __init__(self, url: str, fence: Callable[[], None] | None = None, *, make: bool = True) -> None:
        """`make` False leaves a store that is only read as it is, even where there is none yet."""
        self.url = url
        self._fence = fence
        self.files = Files(url)
        self._open: collections.OrderedDict[str, PartFile] = collections.OrderedDict()
        self._lock = threading.Lock()
        if make:
            self.files.make("values")

    # --- writing

    def write(self, feature: str, version: str, type: vt.ValueType, rows: Sequence[Row]) -> Part:
        """Write rows as one new part and publish it; row i of the part is `rows[i]`.

        Raises `StoreError` if the store can't be written; then nothing of it can be seen, or all of it.
        """
        if not rows:
            raise ValueError("a part has at least one row")
        table = rw.table_of(type, rows)
        costs = Means(sum(r.seconds for r in rows) / len(rows), table.column("value").nbytes / len(rows))
        return self.publish(feature, version, type, costs, [table])

    def publish(
        self,
        feature: str,
        version: str,
        type: vt.ValueType,
        costs: Means,
        tables: Iterable[pa.Table],
        after: str | None = None,
        share: Share | None = None,
    ) -> Part:
        """Write tables of rows as one part; `after` names the newest part that the rows are from, if any.

        `share` tells that all values are one shard's.
        Raises what `write` raises.
        """
        self._guard()
        folder = pt.folder(feature, version)
        told: dict[str, Any] = {"feature": feature, "version": version}
        told |= {"type": type.spec(), "costs": costs[:2]}
        if costs.ranges is not None:
            told["ranges"] = costs.ranges
        with self.files.draft(folder) as draft:
            writer = PartWriter(draft.sink, told)
            for table in tables:
                with self.files.translated("written"):
                    writer.add(table)
            with self.files.translated("written"):
                writer.close()
            name = pt.sealed_name(draft, folder, after, "" if share is None else str(share))
            self._guard()  # the rows may have taken longer than the lease is certain for
            return Part(name, feature, version, writer.rows, draft.publish(name))

    # --- reading

    def read(self, part: str, rows: Sequence[int], declared: vt.ValueType | None = None) -> list[StoredRow]:
        """Return rows of a part, in the order asked for.

        `declared` is the feature's type today: where the part has the same one, its dataclasses come back as
        such, else as dicts. Raises `FileNotFoundError` for a part that has vanished, `DamagedPart`, after
        moving it to quarantine, for one that fails its checksums, and `StoreError` for one that can't be read
        now.
        """
        return self.with_part(part, lambda file: _read(file, rows, declared))

    def small_and_plain(self, part: str, most: int) -> bool:
        """Return whether a part's values are small, on average, and need no feature's code to be made.

        Small is up to `most` bytes. Raises what `read` raises.
        """
        return self.with_part(part, lambda file: file.costs[1] <= most and vt.plain(file.type))

    def with_part(self, name: str, use: Callable[[PartFile], T]) -> T:
        """Call `use` with an open part. One that is found damaged twice is moved to quarantine.

        Raises what `read` raises.
        """
        with self._lock:
            kept = name in self._open
        try:
            return self._used(name, use)
        except StoreError as error:
            # A file that was open since an earlier read may have gone stale: its part is opened anew.
            if not kept and not isinstance(error, DamagedPart):
                raise
            log.warning("%s; it is read once more", error)
        try:
            return self._used(name, use)
        except DamagedPart as error:
            moved = "was moved" if self._quarantine(name) else "could not be moved"
            raise DamagedPart(f"{error}; it {moved} to quarantine") from error

    def _used(self, name: str, use: Callable[[PartFile], T]) -> T:
        """Call `use` with an open part, which stays open unless that fails.

        A part is opened anew after any failure: what its file has buffered may be wrong, or cut short.
        """
        try:
            return use(self._file(name))
        except (FileNotFoundError, StoreError):
            self.close(name)
            raise

    def _file(self, name: str) -> PartFile:
        """Return an open part. Parts never change, so it is kept open for the next reader."""
        with self._lock:
            known = self._open.get(name)
            if known is not None:
                self._open.move_to_end(name)
                if not self.files.local or self.files.exists(name):
                    return known
        made = PartFile(name, self.files.open(name), pre_buffer=not self.files.local)
        with self._lock:
            self._open[name] = made
            if len(self._open) > OPEN_PARTS:
                self._open.popitem(last=False)  # its file is closed when its last reader has dropped it
        return made

    def close(self, name: str) -> None:
        """Drop an open part, so that its next reader opens it anew."""
        with self._lock:
            self._open.pop(name, None)

    def _quarantine(self, name: str) -> bool:
        """Move a damaged part away, with its bytes as they are; return whether it is gone from the values."""
        target = f"quarantine/{name.replace('/', '__')}"
        try:
            self._guard()
            log.error("part %s is damaged; it is moved to %s", name, target)
            self.files.move(name, target)
        except FileNotFoundError:
            pass  # another reader has moved it
        except StoreError as error:
            log.error("part %s could not be moved to quarantine: %s", name, error)
            return False
        return True

    def _guard(self) -> None:
        if self._fence is not None:
            self._fence()

    # --- the listing is the index

    def sizes(self) -> dict[str, int]:
        """Return the bytes of all published parts by their names, oldest first.

        Raises `StoreError` if the store can't be listed now.
        """
        found = self.files.sizes(pt.NAME, "values", 3)
        return {name: found[name] for name in sorted(found, key=pt.order)}

    def parts(self) -> list[str]:
        """Return the names of all published parts, oldest first. Raises what `sizes` raises."""
        return list(self.sizes())

    def sweep(self) -> None:
        """Delete the unpublished files of writers that died."""
        self.files.sweep("values", 3)
        self.files.sweep(known_keys.FOLDER, 1)

    def scan(
        self, among: Callable[[str], bool] | None = None, late: list[str] | None = None
    ) -> Iterator[tuple[Part, np.ndarray]]:
        """Yield every part, or those `among`, with its keys, uint8[n, 16], oldest first.

        A part that can't be read is logged and left out. The names of those that can't be read now are
        appended to `late`; those of damaged parts, which are in quarantine by then, are not.
        """
        for part, keys, _ in self.owned(ALL, among, late):
            yield part, keys

    def owned(
        self, share: Share, among: Callable[[str], bool] | None = None, late: list[str] | None = None
    ) -> Iterator[tuple[Part, np.ndarray, np.ndarray | None]]:
        """Yield what `scan` yields of the values that a shard owns, and the rows that their keys are in.

        Rows are None where key i is in row i. Parts whose names tell that they have none are not opened, nor
        are those whose keys were noted (`note`), where many are asked for.
        """
        sizes = self.sizes()
        names = [name for name in sizes if (among is None or among(name)) and _may_have(name, share)]
        noted = KnownKeys(self.files, share).read() if len(names) >= known_keys.LEAST else {}
        noted = {name: known for name in names if (known := noted.get(name)) and known.bytes == sizes[name]}
        opened = self._each([n for n in names if n not in noted], lambda name: self._owned(name, share))
        told: Iterator[tuple[str, _Keys | StoreError]] = (
            (name, (its.keys, its.rows)) for name, its in noted.items()
        )
        for name, found in heapq.merge(told, opened, key=lambda pair: pt.order(pair[0])):
            if isinstance(found, StoreError):
                log.error("part %s is left out: %s", name, found)
                if late is not None and not isinstance(found, DamagedPart):
                    late.append(name)
            else:
                keys, rows = found
                yield Part(name, *pt.feature_and_version(name), len(keys), sizes[name]), keys, rows

    def note(self, share: Share) -> int:
        """Note the keys of a shard's values in parts, if many are not noted yet; return of how many parts.

        Raises `StoreError`; then parts that were noted before are so still.
        """
        self._guard()
        sizes = {name: size for name, size in self.sizes().items() if _may_have(name, share)}
        known = KnownKeys(self.files, share)
        noted = known.sizes() if len(sizes) >= known_keys.LEAST else {}
        new = [name for name, size in sizes.items() if noted.get(name) != size]
        if len(new) < known_keys.LEAST:
            return 0
        found = self._each(new, lambda name: self._owned(name, share))
        fresh = {name: Known(sizes[name], *its) for name, its in found if not isinstance(its, StoreError)}
        self._guard()  # reading may have taken longer than the lease is certain for
        known.write(fresh, sizes)
        return len(fresh)

    def _owned(self, name: str, share: Share) -> _Keys:
        keys = self.keys(name)
        if (pt.share_of(name) or ALL).within(share):
            return keys, None
        rows = np.flatnonzero(share.owns(rw.slots(self._whose(name))))
        return keys[rows], rows

    def _whose(self, name: str) -> pa.Table:
        """Return the columns that tell who owns the rows of a part; `unit` only if it has collections."""

        def use(file: PartFile) -> pa.Table:
            assets = file.columns(["asset"])
            return file.columns(["asset", "unit"]) if assets.column("asset").null_count else assets

        return self.with_part(name, use)

    def shares(self, part: str, shards: int) -> list[np.ndarray]:
        """Return the rows of a part that each of so many shards owns. Raises what `read` raises."""
        slots = rw.slots(self._whose(part))
        return [np.flatnonzero(Share(shard, shards).owns(slots)) for shard in range(shards)]

    def keys(self, part: str) -> np.ndarray:
        """Return the keys of a part: uint8[n, 16]. Raises what `read` raises."""
        return self.with_part(part, PartFile.keys)

    def versions(self) -> list[StoredVersion]:
        """Return what is stored of each feature and version, by name; see `StoredVersion`.

        Parts that can't be read now count with their bytes alone. Raises what `sizes` raises.
        """
        parts: dict[tuple[str, str], list[tuple[int, int]]] = collections.defaultdict(list)
        sizes = self.sizes()
        rows = dict(self._each(list(sizes), lambda name: self.with_part(name, lambda file: file.rows)))
        for name, size in sizes.items():
            count = rows.get(name, 0)
            parts[pt.feature_and_version(name)].append((0 if isinstance(count, StoreError) else count, size))
        return [
            StoredVersion(feature, version, len(its), sum(n for n, _ in its), sum(size for _, size in its))
            for (feature, version), its in sorted(parts.items())
        ]

    def kept(self, feature: str, version: str, units: Collection[str]) -> Kept:
        """Return the rows of one version that are about these assets and collections, by their units' text.

        Values are not read, and no other feature's parts. A part that can't be read now raises `StoreError`:
        what it has must not count as missing.
        """
        every = self.files.sizes(pt.NAME, f"values/{feature}", 2)
        names = [name for name in sorted(every, key=pt.order) if pt.feature_and_version(name)[1] == version]
        wanted = pa.array(sorted(units), pa.large_utf8())
        rows: dict[str, list[KeptRow]] = collections.defaultdict(list)
        per: Per | None = None

        def look(name: str) -> tuple[Per, list[KeptRow]]:
            return self.with_part(name, lambda file: _kept_of(file, wanted))

        for _, found in self._each(names, look):
            if isinstance(found, StoreError):
                raise found
            per = found[0]
            for row in found[1]:
                rows[row.unit].append(row)
        versions = {pt.feature_and_version(name)[1] for name in every}
        return Kept(rows, per, tuple(sorted(versions)))

    def listed(self, feature: str, version: str) -> Iterator[tuple[str, pa.Table]]:
        """Yield the parts of one version, oldest first, with what each row is of: all columns but values.

        The columns are key, asset, unit, params and created. Raises `StoreError` for a part that can't be
        read now.
        """
        every = self.files.sizes(pt.NAME, pt.folder(feature, version), 1)
        names = sorted(every, key=pt.order)
        for name, found in self._each(
            names, lambda name: self.with_part(name, lambda file: file.columns(_ROW))
        ):
            if isinstance(found, StoreError):
                raise found
            yield name, found

    def costs(self) -> dict[tuple[str, str], Means]:
        """Return what a value of each (feature, version) costs in the mean, by its newest parts."""
        newest: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
        for name in reversed(self.parts()):
            group = newest[pt.feature_and_version(name)]
            if len(group) < COST_PARTS:
                group.append(name)
        wanted = [name for names in newest.values() for name in names]
        found: dict[tuple[str, str], list[Means]] = collections.defaultdict(list)
        for name, costs in self._each(wanted, lambda name: self.with_part(name, lambda file: file.costs)):
            if isinstance(costs, StoreError):
                log.error("part %s is left out of the costs: %s", name, costs)
            else:
                found[pt.feature_and_version(name)].append(costs)
        return {group: mean_of(costs, [1] * len(costs)) for group, costs in found.items()}

    def _each(self, names: Sequence[str], call: Callable[[str], T]) -> Iterator[tuple[str, T | StoreError]]:
        """Yield what a call returns, or the `StoreError` that it raises, for each part there is, in order.

        On an object store, where each call waits for the network, threads make many at once.
        """

        def tried(name: str) -> T | StoreError | None:
            try:
                return call(name)
            except FileNotFoundError:
                return None
            except StoreError as error:
                return error

        if self.files.local:
            pairs: Iterator[tuple[str, T | StoreError | None]] = ((name, tried(name)) for name in names)
            yield from ((name, made) for name, made in pairs if made is not None)
            return
        pool = concurrent.futures.ThreadPoolExecutor(READERS)
        try:
            for name, made in zip(names, pool.map(tried, names), strict=True):
                if made is not None:
                    yield name, made
        finally:
            pool.shutdown(cancel_futures=True)  # whoever stops early waits for the calls that have begun only

    # --- joining and purging

    def compact(self, feature: str, version: str, min_parts: int = 2) -> tuple[list[str], Part | None]:
        """Join a feature's small parts into one; the old ones stay until `remove_parts`.

        Parts of one shard are joined, so that no other shard needs to open what comes of it.
        Of rows with the same key the newest is kept. Returns the parts that are no longer needed (damaged
        ones among them) and the new one; nothing and None if there are fewer than `min_parts` to join. Raises
        `StoreError` if one of them can't be read now, or the store not be written.
        """
        folder = pt.folder(feature, version)
        wanted = neighbours({n: size for n, size in self.sizes().items() if n.startswith(f"{folder}/")})
        lost: list[str] = []
        while len(wanted) >= max(2, min_parts):
            try:
                made = _join(self, feature, version, wanted)
                return ([*lost, *wanted], made) if made is not None else ([], None)
            except (DamagedPart, FileNotFoundError) as error:
                log.warning("compaction of %s goes on without a part: %s", folder, error)
                there = set(self.parts())
                gone = [name for name in wanted if name not in there]
                if not gone:
                    raise
                lost += gone
                wanted = [name for name in wanted if name in there]
        return [], None

    def purge(
        self,
        asset: About = None,
        feature: str | None = None,
        version: str | None = None,
        made_before: float | None = None,
        skip: Collection[str] = (),
        late: list[str] | None = None,
    ) -> list[PurgedPart]:
        """Drop the rows that match all that is given; return what became of each part that had some.

        `asset` may be several, of which any matches.
        With `made_before`, rows of values that were made later than that Unix time are kept (by the clock of
        the worker that made them). So a purge may be applied again, to parts that were published after it and
        to those that a crash kept from it. Only parts of the feature and version are opened, and of those
        only the footer is read if its statistics rule a match out.

        A replacement is published before the old part is deleted, so no crash loses a row that is kept. A
        damaged part goes to quarantine whole. The name of a part that can't be read, replaced or deleted now
        is appended to `late`, and the purge goes on; without `late`, `StoreError` is raised, and parts before
        it stay purged.
        """
        self._guard()
        assets = ids_of(asset)
        names = [
            name
            for name, (its_feature, its_version) in ((n, pt.feature_and_version(n)) for n in self.parts())
            if feature in (None, its_feature) and version in (None, its_version) and name not in skip
        ]
        changes: list[PurgedPart] = []
        for name, may_match in self._each(names, lambda name: self._may_match(name, assets, made_before)):
            try:
                if isinstance(may_match, StoreError):
                    raise may_match
                change = _purged(self, name, assets, made_before) if may_match else None
                if change is not None:
                    self.remove_parts([name])
                    changes.append(change)
            except FileNotFoundError as error:
                log.warning("purge passes over part %s, which has vanished: %s", name, error)
            except StoreError as error:
                if isinstance(error, DamagedPart) and self.files.size(name) is None:
                    log.warning("purge passes over part %s: %s", name, error)
                elif late is None:
                    raise
                else:
                    log.warning("part %s can't be purged now: %s", name, error)
                    late.append(name)
        return changes

    def _may_match(self, name: str, assets: Sequence[str] | None, made_before: float | None) -> bool:
        """Return False if the footer of a part rules out that a purge drops any of its rows."""

        def use(file: PartFile) -> bool:
            return (made_before is None or file.may_have_made_until(made_before)) and (
                assets is None or file.may_be_about(assets)
            )

        return self.with_part(name, use)

    def remove_parts(self, names: Sequence[str]) -> None:
        """Delete parts; those already gone are fine. Raises `StoreError`."""
        self._guard()
        for name in names:
            self.close(name)
            self.files.remove(name)


def _kept_of(file: PartFile, wanted: pa.Array) -> tuple[Per, list[KeptRow]]:
    """Return what the rows of a part are for, and those about some assets or collections."""
    table = file.columns(_ROW)
    about = pc.coalesce(table.column("asset").cast(pa.large_utf8()), table.column("unit"))
    per = unit_per(table.column("unit")[0].as_py())
    table = table.filter(pc.is_in(about, value_set=wanted))
    made = table.column("created").cast(pa.int64()).to_pylist()
    columns = (table.column(name).to_pylist() for name in ("key", "unit", "params"))
    return per, [
        KeptRow(key.hex(), unit, params, at / 1e6)
        for key, unit, params, at in zip(*columns, made, strict=True)
    ]


def _read(file: PartFile, rows: Sequence[int], declared: vt.ValueType | None) -> list[StoredRow]:
    """Return rows of a part; each row group that has some of them is read once."""
    same = declared is not None and declared.spec() == file.type.spec()
    type = declared if same and declared is not None else file.type
    if rows and not 0 <= min(rows) <= max(rows) < file.rows:
        raise StoreError(f"part {file.name} has {file.rows} rows; {max(rows)} is none of them")
    groups = np.searchsorted(file.starts, rows, "right") - 1
    found: dict[int, StoredRow] = {}
    for group in dict.fromkeys(groups.tolist()):
        members = [row for row, its in zip(rows, groups, strict=True) if its == group]
        table = file.group(group, rw.READ)
        local = [row - int(file.starts[group]) for row in members]
        if local != list(range(len(table))):
            # Not by `pa.array`: where pandas is installed pyarrow imports it for that, in half a second.
            places = pa.py_buffer(np.array(local, np.int64))
            table = table.take(pa.Array.from_buffers(pa.int64(), len(local), [None, places]))
        try:
            found.update(zip(members, rw.stored(type, table), strict=True))
        except Exception as error:  # of the code of a feature's dataclass, for one: the bytes are right
            reason = f"{error!r}"
            raise StoreError(f"the values of part {file.name} can't be made: {reason}") from error
    return [found[row] for row in rows]


def _may_have(name: str, share: Share) -> bool:
    """Return False if a part's name tells that a shard owns none of its values."""
    its = pt.share_of(name)
    return its is None or its.overlaps(share)


def neighbours(sizes: Mapping[str, int]) -> list[str]:
    """Return the longest run of small parts of one shard, in order, without one between them that counts.

    The joined part is named after the newest of them. A value in another part between them, a larger one or
    one of another number of shards, may be newer than one of an older part, and would come before it by its
    name. Other shards of the same number have other keys, so their parts may lie between.
    """
    best: list[str] = []
    for share in dict.fromkeys(map(pt.share_of, sizes)):
        row: list[str] = []
        for name, size in sizes.items():
            its = pt.share_of(name)
            if its == share:
                row = [*row, name] if size < SMALL_BYTES else []
            elif its is None or share is None or its.overlaps(share):
                row = []
            while sum(sizes[n] for n in row) > JOIN_BYTES:
                row = row[1:]
            best = row if len(row) > len(best) else best
    return best


def _join(store: ValueStore, feature: str, version: str, names: list[str]) -> Part | None:
    """Publish one part of the newest row of each key; None if fewer than two parts are of one type.

    Parts of another type than the newest one's are taken off `names`.
    """
    known = {name: store.with_part(name, _about) for name in names}
    type = known[names[-1]][0]
    names[:] = [name for name in names if known[name][0].spec() == type.spec()]
    if len(names) < 2:
        return None
    keys = np.concatenate([known[name][1] for name in names])
    ends = np.cumsum([len(known[name][1]) for name in names])
    keep = np.split(_newest(keys), ends[:-1])
    costs = mean_of([known[name][2] for name in names], [int(mask.sum()) for mask in keep])
    tables = (table for name, mask in zip(names, keep, strict=True) for table in _kept(store, name, mask))
    share = pt.share_of(names[-1])
    return store.publish(feature, version, type, costs, tables, names[-1], share)


def _about(file: PartFile) -> tuple[vt.ValueType, np.ndarray, Means]:
    return file.type, file.keys(), file.costs


def _newest(keys: np.ndarray) -> np.ndarray:
    """Return which rows to keep: of those with the same key, the last."""
    whole = np.ascontiguousarray(keys[::-1]).view("V16").ravel()
    keep = np.zeros(len(keys), bool)
    keep[len(keys) - 1 - np.unique(whole, return_index=True)[1]] = True
    return keep


def _kept(store: ValueStore, name: str, keep: np.ndarray) -> Iterator[pa.Table]:
    """Yield the rows of a part that are kept, one row group at a time."""
    starts = store.with_part(name, lambda file: file.starts)
    for group, (a, b) in enumerate(itertools.pairwise(starts)):
        if keep[a:b].any():
            table = store.with_part(name, lambda file, group=group: file.group(group))  # type: ignore[misc]
            yield table if keep[a:b].all() else table.filter(pa.array(keep[a:b]))


def _purged(
    store: ValueStore, name: str, assets: Sequence[str] | None, made_before: float | None
) -> PurgedPart | None:
    """Publish the rows of a part that a purge keeps, if any; None if it keeps all of them."""
    type, keys, costs = store.with_part(name, _about)
    drop = np.ones(len(keys), bool)
    if assets is not None:
        drop &= rw.about(store.with_part(name, lambda file: file.columns(["asset", "unit"])), assets)
    if made_before is not None:
        drop &= rw.made_until(store.with_part(name, lambda file: file.columns(["created"])), made_before)
    if not drop.any():
        return None
    new = None
    if not drop.all():
        feature, version = pt.feature_and_version(name)
        kept = _kept(store, name, ~drop)
        new = store.publish(feature, version, type, costs, kept, name, pt.share_of(name))
    return name, new, keys[~drop], hexed(keys[drop])
