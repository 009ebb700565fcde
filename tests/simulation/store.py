"""A store in memory: parts, journal, purges. It times out, conflicts, tears what is written, and comes back.

What is under way in it belongs to nobody's process: a write that a shard began may be published after the
shard has died.
"""

from __future__ import annotations

import asyncio
import json
import pickle
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from amber_ray.core.deliveries.record import Delivery
from amber_ray.core.model.audit import AuditFilter, AuditLine, LinePlace
from amber_ray.core.model.kept import Kept, KeptRow, StoredVersion, unit_per
from amber_ray.core.model.pages import Told, first
from amber_ray.core.model.provenance import Place, ValueInfo, merged
from amber_ray.core.model.units import Per
from amber_ray.core.planning.homes import ALL, Share
from amber_ray.core.planning.plan import Recipe
from amber_ray.core.scheduler.costs import Means
from amber_ray.errors import DamagedPart, StoreError
from amber_ray.fabric.shard.ports import CallFailed, Fault, NewPart, PartKeys, Ref, Rewritten
from amber_ray.fabric.transport.messages import ReadReport, Wanted, Work
from amber_ray.fabric.transport.new_rows import NewRows
from amber_ray.fabric.worker import store_tasks
from amber_ray.store.parquet import neighbours
from amber_ray.store.part import feature_and_version, order, share_of
from amber_ray.store.purge_log import Purge, ids_of
from amber_ray.store.rows import StoredRow
from tests.simulation.loop import Process

if TYPE_CHECKING:
    from tests.simulation.cluster import Objects
    from tests.simulation.protocol import RewriteWatch
    from tests.simulation.world import World

T = TypeVar("T")
LOST = Fault("SystemFault", "an input was lost with its node", inputs_lost=True)


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A row: the value as bytes, what it is about, and how it was made."""

    key: str
    asset: str | None
    data: bytes
    seconds: float
    device: str
    created: float
    unit: str
    params: str
    code: str
    inputs: Sequence[str]
    found: bool

    def told(self, part: str) -> ValueInfo:
        """What is told of it beside the value."""
        feature, version = feature_and_version(part)
        return ValueInfo(
            self.key,
            feature,
            version,
            self.unit,
            json.loads(self.params),
            self.found,
            self.created,
            self.seconds,
            self.device,
            self.code,
            tuple(self.inputs),
            stored=True,
        )


@dataclass(slots=True)
class Part:
    """A published part. `away_until`: until when it can't be read; `damaged`: its bytes are wrong."""

    name: str
    rows: tuple[StoredValue, ...]
    away_until: float = 0.0
    damaged: bool = False


class Store:
    """What is stored, whoever runs. `puts` numbers the parts in the order of their publication."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.parts: dict[str, Part] = {}
        self.quarantine: list[str] = []
        self.journal: dict[str, str] = {}
        self.cut_off: Counter[str] = (
            Counter()
        )  # writes of the journal that failed, or died with their process
        self.deliveries: dict[str, str] = {}
        self.audit: dict[str, AuditLine] = {}
        self.refused_lines: set[tuple[str, str]] = set()
        self.purges: list[Purge] = []
        self.rewritten: set[str] = set()
        self.writers: dict[Process, RewriteWatch] = {}
        self.full_until = 0.0
        self._puts = 0

    # --- parts

    def publish(
        self,
        feature: str,
        version: str,
        rows: Sequence[StoredValue],
        after: str | None = None,
        share: Share | None = None,
    ) -> str:
        """Publish rows as a part of now, or as one that is older than all but `after`."""
        for row in rows:
            self._world.oracle.written(row)
        label = "" if share is None else f"-{share}"
        if after is None:
            self._puts += 1
            name = f"values/{feature}/{version}/part-{self._puts:06d}-000{label}.parquet"
        else:
            share = share_of(after)
            label = "" if share is None else f"-{share}"
            stem, _, moved = after.removesuffix(f"{label}.parquet").rpartition("-")
            numbers = (f"{stem}-{number:03d}{label}.parquet" for number in range(int(moved) + 1, 1000))
            name = next(name for name in numbers if name not in self.parts)
        self.parts[name] = Part(name, tuple(rows))
        return name

    def open(self, name: str) -> Part:
        """A part that can be read. Raises `FileNotFoundError`, `StoreError`, and `DamagedPart` once."""
        part = self.parts.get(name)
        if part is None:
            raise FileNotFoundError(name)
        if self._world.loop.time() < part.away_until or self._world.chance("restore", name):
            self._world.saw("a part could not be read for a while")
            raise StoreError(f"part {name} could not be read: timed out")
        if part.damaged:
            self._world.saw("a damaged part was quarantined")
            del self.parts[name]
            self.quarantine.append(name)
            raise DamagedPart(f"part {name} is damaged")
        return part

    def read(self, name: str, rows: Sequence[int], declared: Any = None) -> list[StoredRow]:
        """Rows of a part, as `ValueStore.read`."""
        part = self.open(name)
        found = [part.rows[row] for row in rows]
        return [StoredRow(r.key, pickle.loads(r.data), r.seconds, r.device, r.created) for r in found]

    def small_and_plain(self, part: str, most: int) -> bool:
        """As `ValueStore.small_and_plain`."""
        return all(len(row.data) <= most for row in self.open(part).rows)

    def names(self) -> list[str]:
        """Of all parts, oldest first."""
        return sorted(self.parts, key=order)

    def heal(self) -> None:
        """What was away is back, and there is room; what is damaged stays so."""
        self.full_until = 0.0
        for part in self.parts.values():
            part.away_until = 0.0

    def trouble(self, about: str) -> None:
        """Raise what a store raises when it can't write."""
        if self._world.loop.time() < self.full_until:
            raise StoreError("no space left on device")
        if self._world.chance("spill", about):
            self._world.saw("the store refused a write")
            raise StoreError("the store did not answer in time")


def _owned(rows: Sequence[StoredValue], share: Share) -> np.ndarray:
    return np.array([i for i, row in enumerate(rows) if share.has(row.asset or row.unit)], np.int64)


def _keys(rows: Sequence[StoredValue]) -> np.ndarray:
    text = "".join(row.key for row in rows)
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, 16)


class SimParts:
    """The parts port of one shard's process."""

    def __init__(self, world: World, process: Process, objects: Objects, shard: int) -> None:
        self._world = world
        self._store = world.store
        self._process = process
        self._share = Share(shard, world.scenario.shards)
        self._objects = objects
        self._clean: dict[Purge, set[str]] = {}
        self._purging = False

    @property
    def local(self) -> bool:
        """See `Parts.local`."""
        return self._world.scenario.local

    async def _takes(self, what: str, about: str, seconds: float = 0.3) -> None:
        await asyncio.sleep(seconds * self._world.draws.unit(what, about))

    async def write(self, recipe: Recipe, rows: NewRows, slots: Sequence[Ref]) -> str:
        """See `Parts.write`. A worker publishes later, whatever becomes of this shard; a thread ends."""
        world, keys = self._world, rows.told.keys
        about = keys[0]
        if self._purging:
            world.fail(AssertionError("a write begins while the same shard purges parts"))
        self._store.writers[self._process].writes()
        done: asyncio.Future[str] = world.loop.create_future()
        done.add_done_callback(lambda f: f.cancelled() or f.exception())
        process = self._process
        here = self.local and not rows.places and world.draws.unit("written here", about) < 0.5

        def work() -> None:
            outcome: str | BaseException
            try:
                if not process.alive and (here or world.draws.unit("straggles", about) < 0.3):
                    return  # a thread, or a worker that was ended with its owner
                made = [self._stored(row, rows, slots) for row in range(len(keys))]
                self._store.trouble(about)
                if not process.alive:
                    world.saw("a dead shard's write was published")
                    world.oracle.late_write(keys)
                outcome = self._store.publish(recipe.feature, recipe.version, made, share=self._label(about))
                if world.chance("torn", about):
                    world.saw("a part was torn")
                    self._store.parts[outcome].damaged = True
                    world.oracle.damaged(made)
            except (CallFailed, StoreError) as error:
                outcome = error
            world.later(0.02, lambda: self._tell(done, outcome))

        takes = 4.0 * world.draws.unit("write", about) ** 3  # some take long
        if self._process.dies_writing:
            world.saw("a shard died in the middle of a write")
            takes += 6.0
            self._process.dies_after = 0
        world.later(0.02 + takes, work)
        try:
            return await done
        except StoreError as error:
            if here:
                raise
            raise CallFailed(Fault("SystemFault", f"StoreError: {error}")) from error

    def _label(self, about: str) -> Share | None:
        """Whose the values of a part are; some parts are of an older Amber, which did not tell."""
        if self._share.shards == 1 or self._world.draws.unit("unlabelled", about) < 0.2:
            return None
        return self._share

    def _tell(self, done: asyncio.Future[str], outcome: str | BaseException) -> None:
        if done.done():
            return
        if isinstance(outcome, BaseException):
            done.set_exception(outcome)
        else:
            done.set_result(outcome)

    def _stored(self, row: int, rows: NewRows, slots: Sequence[Ref]) -> StoredValue:
        told = rows.told
        key = told.keys[row]
        if key in rows.places:
            slot, place = rows.places[key]
            found = self._objects.open(slots[slot])
            if found is None:
                raise CallFailed(LOST)
            data = pickle.dumps(found[place], protocol=5)
        else:
            data = rows.inline[key]
        how = told.seconds[row], told.devices[row], told.created[row]
        what = told.units[row], told.params[row], told.codes[row], told.inputs[row], told.found[row]
        return StoredValue(key, told.assets[row], data, *how, *what)

    async def read_here(self, wanted: Wanted, inline_bytes: int) -> ReadReport | None:
        """See `Parts.read_here`."""
        await self._takes("read here", next(iter(wanted)), 0.05)
        report = store_tasks.read_here(self._store, wanted, inline_bytes)
        await self._takes("tell what was read", next(iter(wanted)), 0.05)
        return report

    async def read(
        self, registry: str, wanted: Wanted, returns: int, inline_bytes: int
    ) -> tuple[ReadReport, Sequence[Ref]]:
        """See `Parts.read`."""
        about = next(iter(wanted))
        await self._takes("read", about)
        if self._world.chance("die", f"reader of {about}"):
            raise CallFailed(Fault("SystemFault", "the worker died", crashed=True))
        work = Work(0, (), frozenset(), {}, {}, returns, inline_bytes, registry, "amber", self._process.name)
        report, *slots = store_tasks.read_from(self._store, self._world.registry(registry), work, wanted)
        await self._takes("tell what was read", about)
        return report, [self._objects.put(values, self._process, about) for values in slots]

    async def scan(self, among: Callable[[str], bool]) -> tuple[list[PartKeys], list[str]]:
        """See `Parts.scan`. The listing is of one moment, the reading of later ones."""
        names = [name for name in self._store.names() if among(name)]
        names = [name for name in names if (share_of(name) or ALL).overlaps(self._share)]
        await self._takes("scan", "parts")
        found: list[PartKeys] = []
        late: list[str] = []
        for name in names:
            if self._world.draws.unit("scan pauses", name) < 0.3:
                await self._takes("scan", name, 1.0)
            if self._world.draws.unit("scan fails", name) < self._world.chances["restore"]:
                late.append(name)
                continue
            try:
                rows = self._store.open(name).rows
                its = _owned(rows, self._share)
                found.append(PartKeys(name, _keys(rows)[its], its))
            except FileNotFoundError:
                continue
            except DamagedPart:
                continue
            except StoreError:
                late.append(name)
        return found, late

    async def costs(self) -> Mapping[tuple[str, str], Means]:
        """See `Parts.costs`."""
        return {feature_and_version(name): Means(1.0, 100.0) for name in self._store.names()}

    async def size(self) -> tuple[int, int]:
        """See `Parts.size`."""
        return len(self._store.parts), 0

    async def versions(self) -> list[StoredVersion]:
        """See `Parts.versions`."""
        await self._takes("versions", "parts")
        found: dict[tuple[str, str], list[Part]] = {}
        for name in self._store.names():
            found.setdefault(feature_and_version(name), []).append(self._store.parts[name])
        rows = {pair: [len(row.data) for part in parts for row in part.rows] for pair, parts in found.items()}
        return [
            StoredVersion(*pair, len(found[pair]), len(rows[pair]), sum(rows[pair])) for pair in sorted(found)
        ]

    async def kept(self, feature: str, version: str, units: Collection[str]) -> Kept:
        """See `Parts.kept`."""
        await self._takes("kept", feature)
        names = [name for name in self._store.names() if feature_and_version(name)[0] == feature]
        rows: dict[str, list[KeptRow]] = {}
        per: Per | None = None
        for name in names:
            if feature_and_version(name)[1] != version:
                continue
            for row in self._store.open(name).rows:
                per = unit_per(row.unit)
                if (row.asset or row.unit) in units:
                    rows.setdefault(row.unit, []).append(KeptRow(row.key, row.unit, row.params, row.created))
        return Kept(rows, per, tuple(sorted({feature_and_version(name)[1] for name in names})))

    async def about(
        self, asset: str, feature: str | None, version: str | None, after: Place | None, most: int
    ) -> Told[ValueInfo]:
        """See `Parts.about`."""
        await self._takes("about", asset)
        found: list[ValueInfo] = []
        for name in self._store.names():
            pair = feature_and_version(name)
            if feature in (None, pair[0]) and version in (None, pair[1]):
                its = (row.told(name) for row in self._store.open(name).rows)
                found += [one for one in its if asset in one.assets]
        return first(merged(found).values(), after, most)

    async def rows(self, wanted: Wanted) -> list[ValueInfo]:
        """See `Parts.rows`."""
        await self._takes("rows", next(iter(wanted)))
        found: list[ValueInfo] = []
        for name, its in wanted.items():
            try:
                found += [self._store.open(name).rows[row].told(name) for row, _ in its]
            except FileNotFoundError:
                continue
        return found

    async def sweep(self) -> None:
        """See `Parts.sweep`."""

    async def note(self) -> None:
        """See `Parts.note`: here all parts are near."""

    async def compact(self, feature: str, version: str, least: int) -> tuple[list[str], NewPart | None]:
        """See `Parts.compact`."""
        folder = f"values/{feature}/{version}/"
        names = neighbours({name: 1 for name in self._store.names() if name.startswith(folder)})
        if len(names) < max(2, least):
            return [], None
        rows: dict[str, StoredValue] = {}
        for name in names:
            try:
                rows.update((row.key, row) for row in self._store.open(name).rows)
            except FileNotFoundError:
                return [], None
        await self._takes("compact", folder)
        self._world.saw("parts were joined")
        self._store.rewritten.update(names)
        made = self._store.publish(feature, version, list(rows.values()), after=names[-1])
        return names, self._new(made)

    def _new(self, name: str) -> NewPart:
        rows, shards = self._store.parts[name].rows, self._share.shards
        if share_of(name) is not None:
            return NewPart(name, _keys(rows))
        return NewPart(name, _keys(rows), [_owned(rows, Share(n, shards)) for n in range(shards)])

    async def remove(self, names: Sequence[str]) -> None:
        """See `Parts.remove`."""
        await self._takes("remove", names[0], 0.1)
        for name in names:
            self._store.parts.pop(name, None)

    async def note_purge(self, purge: Purge) -> None:
        """See `Parts.note_purge`."""
        await self._takes("note purge", str(purge), 0.1)
        self._store.trouble("purge")
        self._store.purges.append(purge)

    async def purges(self) -> list[Purge]:
        """See `Parts.purges`."""
        return list(self._store.purges)

    async def purge(self, purge: Purge, *, again: bool) -> tuple[list[Rewritten], list[str]]:
        """See `Parts.purge`."""
        self._purging = not again
        try:
            return await self._purge(purge, again=again)
        finally:
            self._purging = False

    async def _purge(self, purge: Purge, *, again: bool) -> tuple[list[Rewritten], list[str]]:
        about = self._world.oracle.about
        clean = self._clean.get(purge, set()) if again else set()
        names = self._store.names()
        changes: list[Rewritten] = []
        late: list[str] = []
        for name in names:
            feature, version = feature_and_version(name)
            if name in clean or purge.feature not in (None, feature) or purge.version not in (None, version):
                continue
            await self._takes("purge", name, 0.1)
            try:
                rows = self._store.open(name).rows
            except (FileNotFoundError, DamagedPart):
                continue
            except StoreError:
                late.append(name)
                continue

            def goes(row: StoredValue) -> bool:
                late = again and row.created > purge.at
                assets = ids_of(purge.asset)
                return not late and (assets is None or any(about(row.key, asset) for asset in assets))

            kept = [row for row in rows if not goes(row)]
            if len(kept) == len(rows):
                continue
            if again:
                self._world.saw("a purge found a late write")
            self._world.oracle.drops(row for row in rows if goes(row))
            self._store.rewritten.add(name)
            new = None
            if kept:
                made = self._store.publish(feature, version, kept, after=name)
                new = self._new(made)
            self._store.parts.pop(name, None)
            changes.append(Rewritten(name, new, [row.key for row in rows if goes(row)]))
        if again:
            self._clean[purge] = set(names).difference(late)
        return changes, late


class EngineParts:
    """The parts port of one engine's process: it reads, and changes nothing. Implements `Parts`."""

    def __init__(self, world: World, inline_bytes: int) -> None:
        self._world = world
        self._inline_bytes = inline_bytes

    async def read(self, wanted: Wanted) -> ReadReport | None:
        """See `Parts.read`. Parts may be joined, purged or deleted before, and after."""
        about = next(iter(wanted))
        await asyncio.sleep(0.1 * self._world.draws.unit("an engine reads", about))
        report = store_tasks.read_here(_Looked(self._world), wanted, self._inline_bytes)
        await asyncio.sleep(0.1 * self._world.draws.unit("an engine has read", about))
        self._world.saw("an engine read a part by itself")
        return report


class _Looked:
    """The parts as whoever only reads sees them: a damaged one stays where it is."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _open(self, name: str) -> Part:
        part = self._world.store.parts.get(name)
        if part is not None and part.damaged:
            raise DamagedPart(f"part {name} is damaged")
        return self._world.store.open(name)

    def read(self, name: str, rows: Sequence[int], declared: Any = None) -> list[StoredRow]:
        """As `ValueStore.read`."""
        found = [self._open(name).rows[row] for row in rows]
        return [StoredRow(r.key, pickle.loads(r.data), r.seconds, r.device, r.created) for r in found]

    def small_and_plain(self, part: str, most: int) -> bool:
        """As `ValueStore.small_and_plain`."""
        return all(len(row.data) <= most for row in self._open(part).rows)


class SimJournal:
    """The journal port of one shard's process."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._records = world.store.journal

    async def write(self, name: str, data: Mapping[str, Any]) -> None:
        """See `Journal.write`."""
        text = json.dumps(data)
        self._world.store.cut_off[name] += 1
        await asyncio.sleep(0.03 * self._world.draws.unit("journal", name))
        self._world.store.trouble(f"journal {name}")
        self._records[name] = text
        self._world.store.cut_off[name] -= 1
        await asyncio.sleep(0.01 * self._world.draws.unit("journal", name))

    async def read(self, name: str) -> Mapping[str, Any] | None:
        """See `Journal.read`."""
        await asyncio.sleep(0.02 * self._world.draws.unit("journal", name))
        text = self._records.get(name)
        found: Mapping[str, Any] | None = None if text is None else json.loads(text)
        return found

    async def unfinished(self) -> list[Mapping[str, Any]]:
        """See `Journal.unfinished`."""
        await asyncio.sleep(0.02)
        found = [json.loads(text) for text in self._records.values()]
        return [data for data in found if data["state"] == "running"]

    async def told(self, among: Callable[[str], bool], tell: Callable[[Mapping[str, Any]], T]) -> list[T]:
        """See `Journal.told`."""
        await asyncio.sleep(0.02)
        return [tell(json.loads(text)) for name, text in self._records.items() if among(name)]

    async def sweep(self, before: float) -> None:
        """See `Journal.sweep`."""


class SimDeliveries:
    """The deliveries of the store, as the first shard's process sees them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._records = world.store.deliveries

    async def write(self, delivery: Delivery) -> None:
        """See `DeliveryRecords.write`."""
        text = json.dumps(delivery.to_json())
        await asyncio.sleep(0.03 * self._world.draws.unit("delivery", delivery.id))
        self._world.store.trouble(f"delivery {delivery.id}")
        self._records[delivery.id] = text
        await asyncio.sleep(0.01 * self._world.draws.unit("delivery", delivery.id))

    async def remove(self, id: str) -> None:
        """See `DeliveryRecords.remove`."""
        await asyncio.sleep(0.03 * self._world.draws.unit("delivery", id))
        self._world.store.trouble(f"delivery {id}")
        self._records.pop(id, None)

    async def all(self) -> list[Delivery]:
        """See `DeliveryRecords.all`."""
        await asyncio.sleep(0.05 * self._world.draws.unit("deliveries", "all"))
        if self._world.chance("restore", "deliveries"):
            raise StoreError("the deliveries can't be read now")
        return [Delivery.from_json(json.loads(text)) for text in self._records.values()]


class SimAudit:
    """The audit log of the store, as the first shard's process sees it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lines = world.store.audit

    async def write(self, lines: Sequence[AuditLine]) -> None:
        """See `Audit.write`."""
        await asyncio.sleep(0.02 * self._world.draws.unit("audit", lines[0].id))
        try:
            self._world.store.trouble("the audit log")
        except StoreError:
            self._world.store.refused_lines.update((line.what, line.subject) for line in lines)
            raise
        for line in lines:
            self._lines.setdefault(line.id, line)
        await asyncio.sleep(0.01 * self._world.draws.unit("audit", lines[0].id))

    async def read(self, only: AuditFilter, after: LinePlace | None, most: int) -> Told[AuditLine]:
        """See `Audit.read`."""
        await asyncio.sleep(0.02)
        return first((line for line in self._lines.values() if only.fits(line)), after, most)

    async def tidy(self, now: float) -> None:
        """See `Audit.tidy`."""


class SimLease:
    """The lease port: the store is this cluster's."""

    async def acquire(self, owner: str) -> None:
        """See `Lease.acquire`."""

    async def renew(self, now: float) -> None:
        """See `Lease.renew`."""

    def release(self) -> None:
        """See `Lease.release`."""
