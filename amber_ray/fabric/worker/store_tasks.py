"""Ray tasks that write values to Parquet and read them back, beside the object store that holds them.

The actor only names keys and places; the bytes go from the object store to the file and back without
passing through it. The exception are small values: it has them in its own memory, so it writes them itself
where that is quickly done (`write_here`), and reads a few itself (`read_here`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from amber_ray.core.declare.registry import Registry
from amber_ray.core.planning.fanout import Windows, windows_of
from amber_ray.core.planning.homes import Share
from amber_ray.core.planning.plan import Recipe
from amber_ray.core.values.annotations import Array, Bytes, Scalar, ValueType
from amber_ray.errors import DamagedPart, StoreError
from amber_ray.fabric.transport import pickled
from amber_ray.fabric.transport.messages import Made, ReadReport, StepResult, Wanted, Work
from amber_ray.fabric.transport.new_rows import NewRows
from amber_ray.fabric.worker import snapshot
from amber_ray.fabric.worker.snapshot import Snapshot
from amber_ray.fabric.worker.tasks import Outbox, registry_of
from amber_ray.store.parquet import ValueStore
from amber_ray.store.rows import StoredRow, table
from amber_ray.store.types import to_array


@functools.lru_cache(maxsize=8)
def store_at(url: str) -> ValueStore:
    """This process's view of a store."""
    return ValueStore(url)


def write(
    blob: bytes,
    registry: str,
    url: str,
    feature: str,
    version: str,
    rows: NewRows,
    share: Share | None,
    *slots: list[Any],
) -> str:
    """Write one part of one feature and version, rows in the order given; returns its name.

    `rows.inline` is a `Bundle`. `share` tells whose the values are where there are several shards.
    """
    type = registry_of(registry, blob).get(feature).returns

    def values(keys: Sequence[str]) -> Any:
        if type_is_array and rows.places.keys().isdisjoint(keys):
            together = pickled.stacked([rows.inline.pickle_of(key) for key in keys])
            if together is not None:
                return together
        return [value(key) for key in keys]

    def value(key: str) -> Any:
        if key in rows.places:
            slot, place = rows.places[key]
            return slots[slot][place]
        return rows.inline.load(key)

    type_is_array = isinstance(type, Array)
    tables = (table(told, to_array(type, values(told.keys))) for told in rows.groups())
    return store_at(url).publish(feature, version, type, rows.costs, tables, share=share).name


def write_here(store: ValueStore, recipe: Recipe, rows: NewRows, share: Share | None = None) -> str | None:
    """Write a part in this process; None if its values are not small and quickly had from their pickles.

    They are if no feature's code is needed for them and none of them is taken apart in Python: numbers,
    texts, bytes, and arrays of one shape. Their bytes are moved once, and the interpreter's lock is held for
    a small part of the time. `rows.inline` has the pickles by their keys.
    """
    type = recipe.returns
    made = _quickly(type)
    if type is None or made is None or rows.places:
        return None
    if isinstance(type, Array) and len(set(rows.sizes)) > 1:
        return None

    def tables() -> Iterator[pa.Table]:
        for told in rows.groups():
            values = made([rows.inline[key] for key in told.keys])
            if values is None:
                raise _Slow
            yield table(told, to_array(type, values))

    try:
        return store.publish(recipe.feature, recipe.version, type, rows.costs, tables(), share=share).name
    except _Slow:
        return None


class _Slow(Exception):
    """Values have to be made one by one."""


def _quickly(type: ValueType | None) -> Callable[[Sequence[bytes]], Any] | None:
    """What makes a column's values of their pickles in little time; None for types that take more."""
    if isinstance(type, Array):
        return pickled.stacked
    return _each if isinstance(type, (Scalar, Bytes)) else None


def _each(pickles: Sequence[bytes]) -> list[Any]:
    return [pickled.loads(data) for data in pickles]


class PartReader(Protocol):
    """What reading needs of a `ValueStore`."""

    def read(self, part: str, rows: Sequence[int], declared: ValueType | None = None) -> list[StoredRow]:
        """See `ValueStore.read`."""
        ...

    def small_and_plain(self, part: str, most: int) -> bool:
        """See `ValueStore.small_and_plain`."""
        ...


Place: TypeAlias = Callable[[str, Snapshot, Made, Windows | None], StepResult]


def reading(registry: str, returns: int, inline_bytes: int, namespace: str = "", actor: str = "") -> Work:
    """What a worker is sent that reads values and runs no step. `actor` is who asks, as in any `Work`."""
    return Work(
        task=0,
        steps=(),
        outputs=frozenset(),
        inline={},
        slots={},
        returns=returns,
        inline_bytes=inline_bytes,
        registry=registry,
        namespace=namespace,
        actor=actor,
    )


def read(blob: bytes, work: Work, url: str, wanted: Wanted) -> tuple[Any, ...]:
    """Read rows. Returns a `ReadReport` and slots.

    A damaged part is quarantined by the store; it and a vanished one are reported, the others still read.
    """
    return read_from(store_at(url), registry_of(work.registry, blob), work, wanted)


def read_from(store: PartReader, registry: Registry, work: Work, wanted: Wanted) -> tuple[Any, ...]:
    """Read rows of a store's parts; see `read`."""
    box = Outbox(work)
    report = _read(store, wanted, registry, work.inline_bytes, box.place)
    return (report, *box.close()[1:])


def read_here(store: PartReader, wanted: Wanted, inline_bytes: int) -> ReadReport | None:
    """Read values that are small and need no feature's code, in this process; None if some do not qualify.

    Beginning a Ray task takes longer than reading a few of them.
    """

    def place(key: str, value: Snapshot, made: Made, windows: Windows | None) -> StepResult:
        if value.inline is None:
            raise _Large
        return StepResult(key, value.size, made, inline=value.inline, windows=windows)

    def fits(part: str) -> bool:
        return store.small_and_plain(part, inline_bytes)

    try:
        return _read(store, wanted, None, inline_bytes, place, fits)
    except _Large:
        return None


class _Large(Exception):
    """A value is not one to be read here."""


def _read(
    store: PartReader,
    wanted: Wanted,
    registry: Registry | None,
    inline_bytes: int,
    place: Place,
    fits: Callable[[str], bool] = lambda part: True,
) -> ReadReport:
    report = ReadReport([], {}, [], {})
    for part, pairs in wanted.items():
        try:
            feature = part.split("/")[1]
            if not fits(part):
                raise _Large
            declared = registry.get(feature).returns if registry and feature in registry else None
            found = store.read(part, [row for row, _ in pairs], declared)
        except DamagedPart as error:
            report.damaged[part] = str(error)
            continue
        except FileNotFoundError:
            report.vanished.append(part)
            continue
        except StoreError as error:
            report.unreadable[part] = str(error)
            continue
        for (_, key), row in zip(pairs, found, strict=True):
            if row.key != key:
                # The part is not the one that was indexed; it is read anew before anything is believed.
                report.vanished.append(part)
                break
            made = Made(row.seconds, row.device, row.created)
            # Nobody else has the value, or the part's memory that its arrays are views of.
            windows = windows_of(row.value)
            value = snapshot.take([row.value], inline_bytes, ours=True)
            report.results.append(place(key, value, made, windows))
    return report
