"""The rows of a part: a value, its key, and how it was made."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from amber_ray.core.planning.homes import slot_of, slots_of
from amber_ray.core.values import annotations as vt
from amber_ray.store import columns
from amber_ray.store import types as st

KEY = pa.binary(16)
INPUTS = pa.list_(pa.binary())
"""Not of `KEY`: pandas can't read a list of fixed-size values."""
READ = ("key", "value", "seconds", "device", "created")
"""The columns that `stored` needs."""


class Row(NamedTuple):
    """A value to write and how it was made. `created` is Unix time, `seconds` the run time.

    `found`: its unit is a window that a feature found, and none of the grid.
    """

    key: str
    asset: str | None
    unit: str
    params: str
    value: Any
    inputs: tuple[str, ...]
    code: str
    seconds: float
    device: str
    created: float
    found: bool = False


class Provenance(NamedTuple):
    """What is told of rows beside their values, column by column: the fields of `Row`."""

    keys: Sequence[str]
    assets: Sequence[str | None]
    units: Sequence[str]
    params: Sequence[str]
    inputs: Sequence[Sequence[str]]
    codes: Sequence[str]
    seconds: Sequence[float]
    devices: Sequence[str]
    created: Sequence[float]
    found: Sequence[bool]

    def part(self, start: int, end: int) -> Provenance:
        """Return that of rows [start, end)."""
        return Provenance._make(column[start:end] for column in self)


class StoredRow(NamedTuple):
    """A value read back."""

    key: str
    value: Any
    seconds: float
    device: str
    created: float


def table_of(type: vt.ValueType, rows: Sequence[Row]) -> pa.Table:
    """Return rows as an Arrow table, in order."""
    keys, assets, units, params, values, *how = zip(*rows, strict=True) if rows else [()] * len(Row._fields)
    return table(Provenance(keys, assets, units, params, *how), st.to_array(type, values))


def table(told: Provenance, values: pa.Array) -> pa.Table:
    """Return values, and what is told of them, as an Arrow table of rows, in order."""
    inputs = _keys([key for keys in told.inputs for key in keys]).cast(INPUTS.value_type)
    created = np.rint(np.array(told.created, np.float64) * 1e6)
    return pa.table(
        {
            "key": _keys(told.keys),
            "asset": columns.texts_or_none(told.assets, pa.utf8()),
            "unit": columns.texts(told.units, pa.large_utf8()),
            "params": columns.texts(told.params, pa.utf8()),
            "value": values,
            "inputs": columns.lists(list(map(len, told.inputs)), inputs),
            "code": columns.texts(told.codes, pa.utf8()),
            "seconds": columns.numbers(told.seconds, pa.float64()),
            "device": columns.texts(told.devices, pa.utf8()),
            # UTC, without a time zone in the type: DuckDB's Python package needs pytz to read one with it.
            "created": columns.numbers(created, pa.timestamp("us")),
            "found": columns.truths(told.found),
        }
    )


def _keys(keys: Sequence[str]) -> pa.Array:
    data = bytes.fromhex("".join(keys))
    if len(data) != 16 * len(keys):
        raise ValueError("a key is 32 hex digits")
    return pa.Array.from_buffers(KEY, len(keys), [None, pa.py_buffer(data)])


def as_now(table: pa.Table) -> pa.Table:
    """Return rows of an old part with the columns of today's; no feature had found their windows."""
    if table.schema.get_field_index("found") < 0:
        table = table.append_column("found", columns.truths([False] * len(table)))
    place = table.schema.get_field_index("inputs")
    if place < 0 or table.schema.field(place).type == INPUTS:
        return table
    return table.set_column(place, "inputs", table.column(place).cast(INPUTS))


def stored(type: vt.ValueType, table: pa.Table) -> list[StoredRow]:
    """Return the rows of a table that has the columns `READ`."""
    keys, seconds, devices = (table.column(name).to_pylist() for name in ("key", "seconds", "device"))
    # A view: `cast` would import `pyarrow.compute`.
    created = [at for chunk in table.column("created").chunks for at in chunk.view(pa.int64()).to_pylist()]
    values = st.from_array(type, table.column("value"))
    return [
        StoredRow(key.hex(), value, took, device, at / 1e6)
        for key, value, took, device, at in zip(keys, values, seconds, devices, created, strict=True)
    ]


def about(table: pa.Table, assets: Collection[str]) -> np.ndarray:
    """Return which rows are about one of these assets, or about a collection that one is in.

    Needs the columns `asset` and `unit`.
    """
    import pyarrow.compute as pc  # for purges alone: importing it takes a tenth of a second

    column = table.column("asset")
    found = np.asarray(pc.is_in(column, pa.array(list(assets), column.type)), bool)
    wanted = frozenset(assets)
    for i in np.flatnonzero(np.asarray(column.is_null(), bool)):
        members = table.column("unit")[int(i)].as_py()
        found[i] = not wanted.isdisjoint(members.strip("{}").split(","))
    return found


def slots(table: pa.Table) -> np.ndarray:
    """Return each row's slot, by which shards own rows (`core.planning.homes`).

    Needs the columns `asset` and, where that is missing in a row, which is a collection's, `unit`.
    """
    column = table.column("asset")
    found = np.concatenate([np.empty(0, np.int64), *map(_slots_of, column.chunks)])
    if column.null_count:
        for i in np.flatnonzero(np.asarray(column.is_null(), bool)):
            found[i] = slot_of(table.column("unit")[int(i)].as_py())
    return found


def _slots_of(names: pa.StringArray) -> np.ndarray:
    """Return the slot of each text; those of one length are hashed together, as ids of assets are.

    What stands for a missing one means nothing.
    """
    _, ends, text = names.buffers()
    ends = np.frombuffer(ends, np.int32, len(names) + 1, names.offset * 4)
    letters = np.frombuffer(text or b"", np.uint8)
    lengths, found = np.diff(ends), np.empty(len(names), np.int64)
    several = np.unique(lengths)
    if len(several) == 1:  # nothing but ids: they stand side by side
        return slots_of(letters[ends[0] : ends[-1]].reshape(-1, int(several[0])))
    for length in several.tolist():
        which = np.flatnonzero(lengths == length)
        found[which] = slots_of(letters[ends[which][:, None] + np.arange(length)])
    return found


def made_until(table: pa.Table, at: float) -> np.ndarray:
    """Return which rows have a value that was made at a Unix time or before; needs the column `created`."""
    import pyarrow.compute as pc

    return np.asarray(pc.less_equal(table.column("created").cast(pa.int64()), microseconds(at)), bool)


def microseconds(at: float) -> int:
    """Return a Unix time as the column `created` keeps it."""
    return round(at * 1e6)
