"""What a shard needs from outside, as protocols.

`fabric.adapter` binds these ports to Ray, files and the clock of the machine; the simulation binds them to
its seeded world. Whatever an implementation raises is one of the exceptions named here or an `AmberError`, so
the shell never sees an exception of Ray, of a file system or of an object store.

Every coroutine here may be cancelled, and may be abandoned for good when the shard's process ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, Protocol, TypeAlias, TypeVar

import numpy as np

from amber_ray.core.deliveries.record import Delivery, Outcome
from amber_ray.core.deliveries.urls import CallbackUrl
from amber_ray.core.model.audit import AuditFilter, AuditLine, LinePlace
from amber_ray.core.model.demands import DemandState
from amber_ray.core.model.kept import Kept, StoredVersion
from amber_ray.core.model.pages import Told
from amber_ray.core.model.provenance import Place, ValueInfo
from amber_ray.core.model.trace import UNTRACED, Tracer
from amber_ray.core.model.units import Asset
from amber_ray.core.planning.homes import Share
from amber_ray.core.planning.plan import Recipe
from amber_ray.core.scheduler.costs import Means
from amber_ray.core.state import events as ev
from amber_ray.fabric.transport.messages import PlanPart, ReadReport, StepResult, Wanted, Work
from amber_ray.fabric.transport.new_rows import NewRows
from amber_ray.store.demands import DemandRecord
from amber_ray.store.part import share_of
from amber_ray.store.purge_log import Purge

Ref: TypeAlias = Any
"""A handle of an object in the object store that this shard owns. Only adapters look inside."""
TaskResult: TypeAlias = tuple[Sequence[StepResult], Sequence[Ref]]
"""A task's report and the objects that hold its large values."""
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Fault:
    """What it means that a task or a call ended without a result.

    - `inputs_lost`: an argument of the task could not be had;
    - `crashed`: the worker's process died, which the task itself may have brought about;
    - `started` False: nothing of the task has run;
    - `shared`: the process that died had several tasks, and another may be to blame;
    - `gone`: the actor that was called has died or can't be reached;
    - `cancelled`: it ended because it was asked to.
    """

    type: str
    message: str
    status: int = 503
    retry: bool = True
    inputs_lost: bool = False
    crashed: bool = False
    started: bool = True
    shared: bool = False
    gone: bool = False
    cancelled: bool = False


class CallFailed(Exception):
    """A task or a call ended without a result; `fault` says what that means."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Call(Protocol[T_co]):
    """A task, a batch or a question to another shard that is under way."""

    async def result(self) -> T_co:
        """Wait for its end. Raises `CallFailed`. Cancelling this coroutine does not stop the call."""
        ...

    def cancel(self, *, force: bool) -> None:
        """Ask it to stop; with `force` end the process that runs it, where that is possible."""
        ...


class WarmActor(Protocol):
    """A process that keeps one model and runs batches in the order in which they were given.

    Of an `async def` feature it runs as many at once as `Calls.concurrency` says.
    """

    def run(self, work: Work, slots: Sequence[Ref]) -> Call[TaskResult]:
        """Give it a batch."""
        ...

    def kill(self) -> None:
        """End it now; batches that it has end with `Fault.gone`."""
        ...


class Cluster(Protocol):
    """Where tasks run."""

    def publish(self, digest: str, blob: bytes) -> None:
        """Put a registry's code where workers find it; this shard owns it, so it outlives whoever sent it."""
        ...

    def run(self, task: ev.Task, work: Work, slots: Sequence[Ref]) -> Call[TaskResult]:
        """Start a task of plain functions. It is never repeated by itself: each attempt is the ledger's."""
        ...

    def start_actor(self, recipe: Recipe, needs: Mapping[str, float]) -> WarmActor:
        """Start a warm actor for a model. It may wait for its resources."""
        ...

    async def nodes(self) -> list[Mapping[str, float]]:
        """What each living node has, in Ray's resource names."""
        ...


class PartKeys(NamedTuple):
    """A part's name, keys of its rows, uint8[n, 16], and their rows; without `rows` key i is in row i."""

    name: str
    keys: np.ndarray
    rows: np.ndarray | None = None


class NewPart(NamedTuple):
    """A part that replaces others: all its keys in the order of its rows, and the rows of each shard.

    Without `shares` the part's name tells whose they are, or nobody knows: then each shard takes all of them,
    which costs memory and nothing else.
    """

    name: str
    keys: np.ndarray
    shares: Sequence[np.ndarray] | None = None

    def of(self, share: Share) -> PartKeys | None:
        """Return what a shard has to index; None if nothing."""
        if self.shares is not None:
            rows = self.shares[share.shard]
            return PartKeys(self.name, self.keys[rows], rows) if len(rows) else None
        its = share_of(self.name)
        return PartKeys(self.name, self.keys) if its is None or its.overlaps(share) else None


class Rewritten(NamedTuple):
    """What a purge did to a part: its name, its replacement if a row was kept, the keys that were dropped."""

    old: str
    new: NewPart | None
    dropped: Sequence[str]


class Parts(Protocol):
    """Values at rest. Raises `StoreError` for whatever the store can't do now, and loses nothing by that."""

    @property
    def local(self) -> bool:
        """Whether reading takes no network."""
        ...

    async def write(self, recipe: Recipe, rows: NewRows, slots: Sequence[Ref]) -> str:
        """Write rows of a recipe's feature and version as one part; returns its name once it is published.

        Small values come as their pickles by key. Also raises `CallFailed`.
        """
        ...

    async def read_here(self, wanted: Wanted, inline_bytes: int) -> ReadReport | None:
        """Read rows in this process; None if they are not small and plain enough for that."""
        ...

    async def read(
        self, registry: str, wanted: Wanted, returns: int, inline_bytes: int
    ) -> tuple[ReadReport, Sequence[Ref]]:
        """Read rows on a worker, into `returns` objects of this shard. Raises `CallFailed`."""
        ...

    async def scan(self, among: Callable[[str], bool]) -> tuple[list[PartKeys], list[str]]:
        """The keys of this shard's values in such parts, oldest first, and parts that can't be read now."""
        ...

    async def costs(self) -> Mapping[tuple[str, str], Means]:
        """What a value of each (feature, version) costs in the mean."""
        ...

    async def size(self) -> tuple[int, int]:
        """How many parts there are, and their bytes. Raises `StoreError`."""
        ...

    async def versions(self) -> list[StoredVersion]:
        """What is stored of each feature and version."""
        ...

    async def kept(self, feature: str, version: str, units: Collection[str]) -> Kept:
        """The rows of one version that are about these assets and collections, by their units' text."""
        ...

    async def about(
        self, asset: str, feature: str | None, version: str | None, after: Place | None, most: int
    ) -> Told[ValueInfo]:
        """What is stored about an asset, or a collection that it is in: the first values after a place."""
        ...

    async def rows(self, wanted: Wanted) -> list[ValueInfo]:
        """What is told of some rows beside their values, as far as they are there."""
        ...

    async def sweep(self) -> None:
        """Delete what writers that died left behind."""
        ...

    async def note(self) -> None:
        """Note the keys of this shard's values in parts that are new, so that the next `scan` is faster."""
        ...

    async def compact(self, feature: str, version: str, least: int) -> tuple[list[str], NewPart | None]:
        """Join small parts if there are at least so many: those no longer needed, and the new one."""
        ...

    async def remove(self, names: Sequence[str]) -> None:
        """Delete parts; those already gone are fine."""
        ...

    async def note_purge(self, purge: Purge) -> None:
        """Record a purge durably, before any of it is done."""
        ...

    async def purges(self) -> list[Purge]:
        """Purges that were noted lately; older ones need no second look."""
        ...

    async def purge(self, purge: Purge, *, again: bool) -> tuple[list[Rewritten], list[str]]:
        """Drop the rows that match from parts: a replacement is published before its part is deleted.

        Returns what was rewritten, and the names of parts that could not be read or rewritten now. With
        `again` only values that were made until `purge.at` count, and parts that were looked through for the
        same purge before are passed over.
        """
        ...


class Journal(Protocol):
    """Accepted requests at rest, by name. Raises `StoreError`."""

    async def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Write or replace a record; on return it is durable."""
        ...

    async def read(self, name: str) -> Mapping[str, Any] | None:
        """A record, or None."""
        ...

    async def unfinished(self) -> list[Mapping[str, Any]]:
        """Records whose `state` is "running"."""
        ...

    async def told(self, among: Callable[[str], bool], tell: Callable[[Mapping[str, Any]], T]) -> Sequence[T]:
        """What `tell` makes of each record whose name is `among` those meant, in no order.

        It is kept in memory as long as a record stays as it is, so each is read once. `tell` is always the
        same function.
        """
        ...

    async def sweep(self, before: float) -> None:
        """Forget finished records created before a Unix time."""
        ...


class DeliveryRecords(Protocol):
    """Deliveries at rest. Only the first shard has any. Raises `StoreError`."""

    async def write(self, delivery: Delivery) -> None:
        """Write or replace a record; on return it is durable."""
        ...

    async def remove(self, id: str) -> None:
        """Delete a record; one that is not there is fine."""
        ...

    async def all(self) -> list[Delivery]:
        """All records."""
        ...


class Sender(Protocol):
    """The way out to those who asked to be called."""

    async def post(self, url: CallbackUrl, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Send a message once. Whatever comes of it, an answer or none, is the outcome.

        Only to addresses that settings allow; no redirect is followed.
        """
        ...


class Lease(Protocol):
    """Who owns the store."""

    async def acquire(self, owner: str) -> None:
        """Take the store; twice is once. Raises `StoreBusy`."""
        ...

    async def renew(self, now: float) -> None:
        """Say that the owner lives. Raises `StoreBusy` if the store is another's by now."""
        ...

    def release(self) -> None:
        """Let go of the store."""
        ...


class Peers(Protocol):
    """The other shards."""

    def fetch(self, shard: int, id: str, part: PlanPart, priority: int, tenant: str, trace: str) -> Call[Any]:
        """Call `Shard.fetch` of another shard; its result is a `Fetched`."""
        ...

    async def call(self, shard: int, method: str, *arguments: Any) -> Any:
        """Call a method of another shard once. Raises `CallFailed` with `gone` if it can't be reached."""
        ...


class Assets(Protocol):
    """The catalogue, as far as a shard needs it."""

    async def current(self, ids: Sequence[str]) -> Mapping[str, Asset]:
        """Assets as they are registered now, by id; those that are not known any more are left out."""
        ...

    async def tidy(self) -> None:
        """Keep the files few that assets are registered in; only the owner of the store does.

        It changes nothing of what is registered. Raises `StoreError`.
        """
        ...


class Demands(Protocol):
    """The records of demands; only the owner of the store has any. Raises `StoreError`."""

    async def read(self) -> list[tuple[DemandRecord, DemandState]]:
        """All of them, each with how it stands."""
        ...

    async def write(self, record: DemandRecord, state: DemandState) -> None:
        """Keep a demand, in place of one of its name; on return it is durable."""
        ...

    async def note(self, record: DemandRecord, state: DemandState) -> None:
        """Keep how a demand stands; on return it is durable."""
        ...

    async def remove(self, name: str) -> None:
        """Forget a demand; one that is not there is fine."""
        ...


class Stewards(Protocol):
    """Processes that see to demands, of which one is wanted at a time."""

    async def start(self, name: str) -> None:
        """Have one under this name and no other; it is started again when it dies, as long as we live."""
        ...

    async def stop(self) -> None:
        """Have none."""
        ...


class Audit(Protocol):
    """The audit log; only the owner of the store has one. Raises `StoreError`."""

    async def write(self, lines: Sequence[AuditLine]) -> None:
        """Add lines; on return they are durable."""
        ...

    async def read(self, only: AuditFilter, after: LinePlace | None, most: int) -> Told[AuditLine]:
        """The first lines that are meant after a place, the newest first."""
        ...

    async def tidy(self, now: float) -> None:
        """Join small files, and drop what is too old or too much at a Unix time."""
        ...


class Clock(Protocol):
    """Time. Pauses are those of the event loop."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def unix(self) -> float:
        """Seconds since 1970."""
        ...


class Process(Protocol):
    """The process that this shard is."""

    def end(self, status: int) -> NoReturn:
        """End it at once. Whoever keeps shards running starts another in its place."""
        ...

    def new_id(self) -> str:
        """An identifier that nobody else has."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """All of a shard's ports.

    Without `demands` and `stewards` it is a shard that keeps no demands, without `audit` one that has no log.
    """

    cluster: Cluster
    parts: Parts
    journal: Journal
    deliveries: DeliveryRecords
    sender: Sender
    lease: Lease
    peers: Peers
    assets: Assets
    clock: Clock
    process: Process
    demands: Demands | None = None
    stewards: Stewards | None = None
    tracer: Tracer = UNTRACED
    audit: Audit | None = None
