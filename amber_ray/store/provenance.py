"""What parts tell of values beside the values: those about an asset, and those under some keys.

    about    the parts of one version after another, until there are as many as were asked for; the footer
             says whether a part may have some, one column which rows, and only their row groups are read
    rows     the row groups that some rows of parts are in

No value is made, so neither the code of features nor their types are needed. Must not know: what is in
memory, who asks.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from amber_ray.core.model.pages import Told, first
from amber_ray.core.model.provenance import Place, ValueInfo, merged
from amber_ray.errors import StoreError
from amber_ray.store import part as pt
from amber_ray.store import rows as rw
from amber_ray.store.parquet import ValueStore
from amber_ray.store.part import PartFile

COLUMNS = ("key", "unit", "params", "inputs", "code", "seconds", "device", "created", "found")
"""The columns that say how a value was made."""
LOOKED_THROUGH = 256
"""Parts that are opened for one page, at the least: those of one version are opened together."""


def about(
    store: ValueStore, asset: str, feature: str | None, version: str | None, after: Place | None, most: int
) -> Told[ValueInfo]:
    """Tell of the first stored values after a place that are about an asset, or a collection that it is in.

    Raises `StoreError` for a part that can't be read now: what it has must not count as missing.
    """
    names = sorted(store.parts(), key=lambda name: (*pt.feature_and_version(name), pt.order(name)))
    found: list[ValueInfo] = []
    looked = 0
    for pair, its in itertools.groupby(names, pt.feature_and_version):
        if feature not in (None, pair[0]) or version not in (None, pair[1]) or (after and pair < after[:2]):
            continue
        if looked >= LOOKED_THROUGH or len(found) > most:
            told = first(found, after, most)
            return told if told.end is not None else Told(told.values, (*pair, -2, 0, ""))  # before all of it
        parts = list(its)
        looked += len(parts)
        rows = merged(_about(store, parts, asset)).values()  # of a key in several parts the newest counts
        found += [row for row in rows if after is None or row.place > after]
    return first(found, after, most)


def _about(store: ValueStore, names: Sequence[str], asset: str) -> Iterator[ValueInfo]:
    def look(file: PartFile) -> list[ValueInfo]:
        if not file.may_be_about([asset]):
            return []
        which = np.flatnonzero(rw.about(file.columns(["asset", "unit"]), [asset]))
        return _rows(file, which.tolist())

    for name in names:
        try:
            yield from store.with_part(name, look)
        except FileNotFoundError:
            continue  # it was joined or purged meanwhile


def rows(store: ValueStore, wanted: Mapping[str, Sequence[tuple[int, str]]]) -> dict[str, ValueInfo]:
    """Tell of some rows of parts, by their keys; a row that has gone, or is of another key, is left out.

    Raises `StoreError` for a part that can't be read now.
    """
    found: dict[str, ValueInfo] = {}
    for name, its in wanted.items():
        keys = {key for _, key in its}
        numbers = sorted(row for row, _ in its)
        try:
            told = store.with_part(name, lambda file, numbers=numbers: _rows(file, numbers))  # type: ignore[misc]
        except FileNotFoundError:
            continue
        found.update((one.key, one) for one in told if one.key in keys)
    return found


def _rows(file: PartFile, numbers: Iterable[int]) -> list[ValueInfo]:
    """Tell of rows of a part, in order; each row group that has some of them is read once."""
    feature, version = pt.feature_and_version(file.name)
    columns = [name for name in COLUMNS if name in file.schema.names]
    found: list[ValueInfo] = []
    groups = itertools.groupby(numbers, lambda row: int(np.searchsorted(file.starts, row, "right")) - 1)
    for group, its in groups:
        if group >= file.groups:
            raise StoreError(f"part {file.name} has {file.rows} rows, and not those that were asked for")
        local = np.array([row - int(file.starts[group]) for row in its])
        table = file.group(group, columns)
        found += [_info(feature, version, row) for row in _taken(table, local)]
    return found


def _taken(table: pa.Table, places: np.ndarray) -> list[dict[str, Any]]:
    table = table.set_column(
        table.schema.get_field_index("created"), "created", table.column("created").cast(pa.int64())
    )
    places = pa.Array.from_buffers(pa.int64(), len(places), [None, pa.py_buffer(places.astype(np.int64))])
    rows: list[dict[str, Any]] = table.take(places).to_pylist()
    return rows


def _info(feature: str, version: str, row: Mapping[str, Any]) -> ValueInfo:
    return ValueInfo(
        row["key"].hex(),
        feature,
        version,
        row["unit"],
        json.loads(row["params"]),
        bool(row.get("found")),
        row["created"] / 1e6,
        row["seconds"],
        row["device"],
        row["code"],
        tuple(key.hex() for key in row["inputs"]),
        stored=True,
    )
