"""Values at rest: immutable Parquet parts under `<store>/values/<feature>/<version>/`.

A part gets its name when it is whole, so a listing shows whole parts only: the listing is the index, and
there is no manifest to corrupt. Values are content-keyed, so a duplicate row is harmless and a crash between
any two steps loses nothing. A part that fails its checksums is moved to `<store>/quarantine/`, and its keys
become misses.

Parts are joined and purged by the row group, so memory holds one row group and not the part. The order is
always publish, tell, delete: a crash leaves duplicates, which are harmless, and never a gap.

Must not know: the ledger, Ray.
"""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa

from amber_ray.core.values import annotations as vt
from amber_ray.errors import DamagedPart, StoreError
from amber_ray.store import part as pt
from amber_ray.store import rows as rw
from amber_ray.store.files import Files
from amber_ray.store.part import Part, PartFile, PartWriter
from amber_ray.store.rows import Row, StoredRow

__all__ = ["Part", "Row", "StoredRow", "ValueStore"]

log = logging.getLogger("amber.store")
T = TypeVar("T")

OPEN_PARTS = 64
COST_PARTS = 4
"""Parts of a feature, the newest, whose costs are averaged."""
READERS = 16
"""Parts of an object store read at once by `scan`."""
SMALL_BYTES = 64 << 20
"""Parts that are larger are left as they are."""
JOIN_BYTES = 256 << 20
"""What one compaction joins at most."""
PurgedPart = tuple[str, Part | None, np.ndarray, list[str]]
"""A part that is gone, its replacement, the keys kept (uint8[n, 16], in order of rows), the keys dropped."""


class ValueStore:
    """The parts of one store, local or at any fsspec URL. Thread-safe; many processes may share it.

    `fence` is called before anything is deleted, and raises if this process may no longer do that. Adding
    needs no fence: a part under a new name harms nobody.
    """

    def __init__(self, url: str, fence: Callable[[], None] | None = None) -> None:
        self.url = url
        self._fence = fence
        self.files = Files(url)
        self._open: collections.OrderedDict[str, PartFile] = collections.OrderedDict()
        self._lock = threading.Lock()
        self.files.make("values")

    # --- writing

    def write(self, feature: str, version: str, type: vt.ValueType, rows: Sequence[Row]) -> Part:
        """Write rows as one new part and publish it; row i of the part is `rows[i]`.

        Raises `StoreError` if the store can't be written; nothing is left behind then.
        """
        if not rows:
            raise ValueError("a part has at least one row")
        table = rw.table_of(type, rows)
        costs = sum(r.seconds for r in rows) / len(rows), table.column("value").nbytes / len(rows)
        return self.publish(feature, version, type, costs, [table])

    def publish(
        self,
        feature: str,
        version: str,
        type: vt.ValueType,
        costs: tuple[float, float],
        tables: Iterable[pa.Table],
        after: str | None = None,
    ) -> Part:
        """Write tables of rows as one part; `after` names the newest part whose rows they were."""
        folder = pt.folder(feature, version)
        meta = {"feature": feature, "version": version, "type": type.spec(), "costs": costs}
        with self.files.draft(folder) as draft:
            writer = PartWriter(draft.sink, meta)
            for table in tables:
                with self.files.told("written"):
                    writer.add(table)
            with self.files.told("written"):
                writer.close()
            size = pt.footer_size(draft.tail(12))
            name = pt.new_name(folder, draft.tail(size + 8)[:-8], after)
            return Part(name, feature, version, writer.rows, draft.publish(name))

    # --- reading

    def read(self, part: str, rows: Sequence[int], declared: vt.ValueType | None = None) -> list[StoredRow]:
        """Rows of a part, in the order asked for.

        `declared` is the feature's type today: where the part has the same one, its dataclasses come back as
        such, else as dicts. Raises `FileNotFoundError` for a part that has vanished and `DamagedPart`, after
        moving it to quarantine, for one that fails its checksums.
        """
        return self.with_part(part, lambda file: _read(file, rows, declared))

    def small_and_plain(self, part: str, most: int) -> bool:
        """Whether a part's values have up to `most` bytes on average and need no feature's code to be made.

        Raises what `read` raises.
        """
        return self.with_part(part, lambda file: file.costs[1] <= most and vt.plain(file.type))

    def with_part(self, name: str, use: Callable[[PartFile], T]) -> T:
        """Do something with an open part; a damaged one goes to quarantine, if it is found so twice."""
        try:
            return use(self._file(name))
        except DamagedPart as error:
            log.warning("%s; it is read once more", error)
        except FileNotFoundError:
            self.close(name)
            raise
        self.close(name)
        try:
            return use(self._file(name))
        except DamagedPart as error:
            self._quarantine(name)
            raise DamagedPart(f"{error}; it was moved to quarantine") from error

    def _file(self, name: str) -> PartFile:
        """An open part; parts never change, so it may be kept."""
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
                self._open.popitem(last=False)  # closed when its last reader lets go of it
        return made

    def close(self, name: str) -> None:
        """Forget an open part."""
        with self._lock:
            self._open.pop(name, None)

    def _quarantine(self, name: str) -> None:
        self.close(name)
        target = f"quarantine/{name.replace('/', '__')}"
        log.error("part %s is damaged; it is moved to %s", name, target)
        try:
            self.files.move(name, target)
        except (FileNotFoundError, StoreError) as error:
            log.error("part %s could not be moved to quarantine: %s", name, error)

    # --- the listing is the index

    def sizes(self) -> dict[str, int]:
        """Names of all published parts, oldest first, and their bytes."""
        found = self.files.sizes(pt.NAME, "values", 3)
        return {name: found[name] for name in sorted(found, key=pt.order)}

    def parts(self) -> list[str]:
        """Names of all published parts, oldest first."""
        return list(self.sizes())

    def sweep(self) -> None:
        """Delete what writers that died left behind."""
        self.files.sweep("values", 3)

    def scan(
        self, among: Callable[[str], bool] | None = None, late: list[str] | None = None
    ) -> Iterator[tuple[Part, np.ndarray]]:
        """Every part, or those `among`, with its keys, uint8[n, 16], oldest first.

        What can't be read is told to the log and left out; `late` is given the names of those that can't be
        read for the time being, which a damaged part is not.
        """
        sizes = self.sizes()
        names = [name for name in sizes if among is None or among(name)]
        for name, keys in self._each(names, self.keys, late):
            yield Part(name, *pt.feature_and_version(name), len(keys), sizes[name]), keys

    def keys(self, part: str) -> np.ndarray:
        """The keys of a part: uint8[n, 16]. Raises what `read` raises."""
        return self.with_part(part, PartFile.keys)

    def costs(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Mean seconds and bytes per value of each feature and version, from its newest parts' footers."""
        newest: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
        for name in reversed(self.parts()):
            group = newest[pt.feature_and_version(name)]
            if len(group) < COST_PARTS:
                group.append(name)
        wanted = [name for names in newest.values() for name in names]
        found: dict[tuple[str, str], list[tuple[float, float]]] = collections.defaultdict(list)
        for name, costs in self._each(wanted, lambda name: self.with_part(name, lambda file: file.costs)):
            found[pt.feature_and_version(name)].append(costs)
        return {group: _mean(costs) for group, costs in found.items()}

    def _each(
        self, names: Sequence[str], call: Callable[[str], T], late: list[str] | None = None
    ) -> Iterator[tuple[str, T]]:
        """Call for each part, in order; over a network for many at once."""

        def told(name: str) -> T | None:
            try:
                return call(name)
            except FileNotFoundError:
                return None
            except StoreError as error:
                log.error("part %s is left out: %s", name, error)
                if late is not None and not isinstance(error, DamagedPart):
                    late.append(name)
                return None

        if self.files.local:
            pairs: Iterator[tuple[str, T | None]] = ((name, told(name)) for name in names)
            yield from ((name, made) for name, made in pairs if made is not None)
            return
        with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
            for name, made in zip(names, pool.map(told, names), strict=True):
                if made is not None:
                    yield name, made

    # --- joining and purging

    def compact(self, feature: str, version: str, min_parts: int = 2) -> tuple[list[str], Part | None]:
        """Join a feature's small parts into one; the old ones stay until `remove_parts`.

        Of rows with the same key the newest stays. Returns the parts that are no longer needed (damaged ones
        among them) and the new one; nothing and None if there are fewer than `min_parts` to join.
        """
        folder = pt.folder(feature, version)
        wanted = _neighbours({n: size for n, size in self.sizes().items() if n.startswith(f"{folder}/")})
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
        self, asset: str | None = None, feature: str | None = None, version: str | None = None
    ) -> list[PurgedPart]:
        """Drop the rows that match all that is given: per part touched, what became of it.

        A replacement is published before the old part is deleted, so no crash loses a kept row.
        """
        changes: list[PurgedPart] = []
        for name in self.parts():
            its_feature, its_version = pt.feature_and_version(name)
            if feature in (None, its_feature) and version in (None, its_version):
                try:
                    change = _purged(self, name, asset)
                except (FileNotFoundError, DamagedPart) as error:
                    log.warning("purge passes over part %s: %s", name, error)
                    continue
                if change is not None:
                    self.remove_parts([name])
                    changes.append(change)
        return changes

    def remove_parts(self, names: Sequence[str]) -> None:
        """Delete parts; those already gone are fine."""
        if self._fence is not None:
            self._fence()
        for name in names:
            self.close(name)
            self.files.remove(name)


def _read(file: PartFile, rows: Sequence[int], declared: vt.ValueType | None) -> list[StoredRow]:
    """Each row group that is asked of is read once."""
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
            table = table.take(pa.array(local, pa.int64()))
        found.update(zip(members, rw.stored(type, table), strict=True))
    return [found[row] for row in rows]


def _mean(costs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    seconds, size = zip(*costs, strict=True)
    return sum(seconds) / len(costs), sum(size) / len(costs)


def _neighbours(sizes: Mapping[str, int]) -> list[str]:
    """The longest row of small parts without a larger one between.

    A newer value could be in the larger one, and would be older than the joined part by its name.
    """
    best: list[str] = []
    row: list[str] = []
    for name, size in sizes.items():
        row = [*row, name] if size < SMALL_BYTES else []
        while sum(sizes[n] for n in row) > JOIN_BYTES:
            row = row[1:]
        best = row if len(row) > len(best) else best
    return best


def _join(store: ValueStore, feature: str, version: str, names: list[str]) -> Part | None:
    """One part of the newest rows; parts of another type than the newest one's are taken off `names`."""
    known = {name: store.with_part(name, _about) for name in names}
    type = known[names[-1]][0]
    names[:] = [name for name in names if known[name][0].spec() == type.spec()]
    if len(names) < 2:
        return None
    keys = np.concatenate([known[name][1] for name in names])
    ends = np.cumsum([len(known[name][1]) for name in names])
    keep = np.split(_newest(keys), ends[:-1])
    kept = np.array([mask.sum() for mask in keep])
    seconds, size = np.array([known[name][2] for name in names]).T @ kept / kept.sum()
    tables = (table for name, mask in zip(names, keep, strict=True) for table in _kept(store, name, mask))
    return store.publish(feature, version, type, (float(seconds), float(size)), tables, after=names[-1])


def _about(file: PartFile) -> tuple[vt.ValueType, np.ndarray, tuple[float, float]]:
    return file.type, file.keys(), file.costs


def _newest(keys: np.ndarray) -> np.ndarray:
    """Of rows with the same key, the last."""
    whole = np.ascontiguousarray(keys[::-1]).view("V16").ravel()
    keep = np.zeros(len(keys), bool)
    keep[len(keys) - 1 - np.unique(whole, return_index=True)[1]] = True
    return keep


def _kept(store: ValueStore, name: str, keep: np.ndarray) -> Iterator[pa.Table]:
    """The rows of a part that are kept, by the row group."""
    starts = store.with_part(name, lambda file: file.starts)
    for group, (a, b) in enumerate(itertools.pairwise(starts)):
        if keep[a:b].any():
            table = store.with_part(name, lambda file, group=group: file.group(group))  # type: ignore[misc]
            yield table if keep[a:b].all() else table.filter(pa.array(keep[a:b]))


def _purged(store: ValueStore, name: str, asset: str | None) -> PurgedPart | None:
    """Publish what is left of a part; None if all of it is."""
    type, keys, costs = store.with_part(name, _about)
    drop = np.ones(len(keys), bool)
    if asset is not None:
        drop = rw.about(store.with_part(name, lambda file: file.columns(["asset", "unit"])), asset)
    if not drop.any():
        return None
    new = None
    if not drop.all():
        feature, version = pt.feature_and_version(name)
        new = store.publish(feature, version, type, costs, _kept(store, name, ~drop), after=name)
    return name, new, keys[~drop], hexed(keys[drop])


def hexed(keys: np.ndarray) -> list[str]:
    """Keys as the 32 hex digits that they are elsewhere."""
    text = keys.tobytes().hex()
    return [text[i : i + 32] for i in range(0, len(text), 32)]
