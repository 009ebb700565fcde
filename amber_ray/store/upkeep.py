"""What keeps a store small: joining parts, and dropping rows from them.

Rows go from part to part by the row group, so memory holds one of them and not the part. The order is always
publish, tell, delete: a crash leaves duplicates, which are harmless, and never a gap.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from amber_ray.core.types import ValueType
from amber_ray.errors import DamagedPart
from amber_ray.store import part as pt
from amber_ray.store import rows as rw
from amber_ray.store.part import Part, PartFile

if TYPE_CHECKING:
    from amber_ray.store.parquet import ValueStore

log = logging.getLogger("amber.store")

SMALL_BYTES = 64 << 20
"""Parts that are larger are left as they are."""
JOIN_BYTES = 256 << 20
"""What one compaction joins at most."""
Purged = tuple[str, Part | None, np.ndarray, list[str]]
"""A part that is gone, its replacement, the keys kept (uint8[n, 16], in order of rows), the keys dropped."""


def compact(store: ValueStore, feature: str, version: str, min_parts: int) -> tuple[list[str], Part | None]:
    """See `ValueStore.compact`."""
    folder = pt.folder(feature, version)
    wanted = _neighbours({n: size for n, size in store.sizes().items() if n.startswith(f"{folder}/")})
    lost: list[str] = []
    while len(wanted) >= max(2, min_parts):
        try:
            made = _join(store, feature, version, wanted)
            return ([*lost, *wanted], made) if made is not None else ([], None)
        except (DamagedPart, FileNotFoundError) as error:
            log.warning("compaction of %s goes on without a part: %s", folder, error)
            there = set(store.parts())
            gone = [name for name in wanted if name not in there]
            if not gone:
                raise
            lost += gone
            wanted = [name for name in wanted if name in there]
    return [], None


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


def _about(file: PartFile) -> tuple[ValueType, np.ndarray, tuple[float, float]]:
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


def purge(store: ValueStore, asset: str | None, feature: str | None, version: str | None) -> list[Purged]:
    """See `ValueStore.purge`."""
    changes: list[Purged] = []
    for name in store.parts():
        its_feature, its_version = pt.feature_and_version(name)
        if feature in (None, its_feature) and version in (None, its_version):
            try:
                change = _purged(store, name, asset)
            except (FileNotFoundError, DamagedPart) as error:
                log.warning("purge passes over part %s: %s", name, error)
                continue
            if change is not None:
                store.remove_parts([name])
                changes.append(change)
    return changes


def _purged(store: ValueStore, name: str, asset: str | None) -> Purged | None:
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
