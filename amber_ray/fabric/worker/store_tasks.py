"""Ray tasks that write values to Parquet and read them back, beside the object store that holds them.

The actor only names keys and places; the bytes go from the object store to the file and back without
passing through it. The exception are few small values, which it would be given anyway (`read_here`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from amber_ray.core.declare.registry import Registry
from amber_ray.core.planning.homes import Share
from amber_ray.core.values.annotations import ValueType
from amber_ray.errors import DamagedPart, StoreError
from amber_ray.fabric.transport.messages import Made, ReadReport, RowWork, StepResult, Wanted, Work
from amber_ray.fabric.transport.pickled import Bundle
from amber_ray.fabric.worker import snapshot
from amber_ray.fabric.worker.snapshot import Snapshot
from amber_ray.fabric.worker.tasks import Outbox, registry_of
from amber_ray.store.parquet import ValueStore
from amber_ray.store.part import GROUP_BYTES
from amber_ray.store.rows import Row, StoredRow, table_of


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
    rows: Sequence[RowWork],
    inline: Bundle,
    places: Mapping[str, tuple[int, int]],
    share: Share | None,
    *slots: list[Any],
) -> str:
    """Write one part of one feature and version, rows in the order given; returns its name.

    `share` tells whose the values are where there are several shards.
    """
    type = registry_of(registry, blob).get(feature).returns

    def row(r: RowWork) -> Row:
        if r.key in places:
            slot, place = places[r.key]
            value = slots[slot][place]
        else:
            value = inline.load(r.key)
        made = r.made
        return Row(
            r.key, r.asset, r.unit, r.params, value, r.inputs, r.code, made.seconds, made.device, made.created
        )

    # A row group at a time: memory that was used before is had much faster than new memory.
    tables = (table_of(type, [row(r) for r in some]) for some in _groups(rows))
    costs = sum(r.made.seconds for r in rows) / len(rows), sum(r.size for r in rows) / len(rows)
    return store_at(url).publish(feature, version, type, costs, tables, share=share).name


def _groups(rows: Sequence[RowWork]) -> Iterator[list[RowWork]]:
    """Runs of rows of about as many bytes as a row group has."""
    some: list[RowWork] = []
    size = 0
    for row in rows:
        some.append(row)
        size += row.size
        if size >= GROUP_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


class PartReader(Protocol):
    """What reading needs of a `ValueStore`."""

    def read(self, part: str, rows: Sequence[int], declared: ValueType | None = None) -> list[StoredRow]:
        """See `ValueStore.read`."""
        ...

    def small_and_plain(self, part: str, most: int) -> bool:
        """See `ValueStore.small_and_plain`."""
        ...


Place: TypeAlias = Callable[[str, Snapshot, Made], StepResult]


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

    def place(key: str, value: Snapshot, made: Made) -> StepResult:
        if value.inline is None:
            raise _Large
        return StepResult(key, value.size, made, inline=value.inline)

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
            value = snapshot.take([row.value], inline_bytes, ours=True)
            report.results.append(place(key, value, made))
    return report
