"""An engine with its shard in this process, over a store that is only read: what is stored, told without Ray.

They are the classes that a cluster runs, over ports that start no process and change nothing. So the plan,
the keys, the states and every sentence are what they are there. What the ledger sends off to be run is not
run: `StoreReader.ask` returns nothing then, and whoever asked begins an Amber that can run it.

    ask ──→ engine ──→ shard ──→ ledger ──→ Deliver, Restore ──→ parts, read in threads
                                    └─────→ Submit ──→ nowhere: `wanting` is set

Another Amber may own the store meanwhile, and change it: `current` says whether the parts are still those
that were indexed. Must not know: Ray, HTTP.
"""

from __future__ import annotations

import asyncio
import glob
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NoReturn, TypeVar

from amber_ray.core.declare.registry import Registry
from amber_ray.core.deliveries.record import Delivery, Outcome
from amber_ray.core.deliveries.urls import CallbackUrl
from amber_ray.core.model.request import ExplainedStep
from amber_ray.core.model.service import Answered
from amber_ray.core.model.units import Asset
from amber_ray.core.planning.plan import Recipe
from amber_ray.errors import StoreError
from amber_ray.fabric.adapter import machine
from amber_ray.fabric.adapter.stored_parts import StoredParts
from amber_ray.fabric.engine import ports as engine_ports
from amber_ray.fabric.engine.engine import Engine
from amber_ray.fabric.shard import ports as shard_ports
from amber_ray.fabric.shard.ports import CallFailed, Fault, NewPart, Ref, Rewritten, TaskResult
from amber_ray.fabric.shard.shard import Shard
from amber_ray.fabric.transport.messages import Hello, PlanPart, ReadReport, Wanted, Work
from amber_ray.fabric.transport.new_rows import NewRows
from amber_ray.fabric.worker import store_tasks
from amber_ray.fabric.worker.snapshot import Snapshot
from amber_ray.media.catalogue import Catalogue
from amber_ray.settings import Settings
from amber_ray.store.parquet import ValueStore
from amber_ray.store.purge_log import Purge

T = TypeVar("T")
PLENTY = 1e12
"""Of every resource that is not known here: what would wait for it is given to whoever can run it at once."""
ACCELERATORS = "/dev/nvidia[0-9]*", "/dev/kfd", "/dev/dxg"
"""Without any of these files a machine has no GPU that Ray would find."""


class StoreReader:
    """Answers what a store can answer. Everything belongs to one event loop."""

    def __init__(self, settings: Settings, registry: Registry, catalogue: Catalogue) -> None:
        settings = settings.replace(shards=1, replicas=1)
        self.wanting = asyncio.Event()
        self._settings = settings
        self._gpus = _gpus(settings)
        self._store = ValueStore(settings.store, self._fence, make=False)
        self._parts: list[str] = []

        async def code() -> tuple[Registry, bytes]:
            return registry, b""  # nobody runs it here

        self._shard = Shard(settings, 0, self._shard_ports(registry, catalogue), code)
        self._engine = Engine(settings, registry, {registry.digest: b""}, self._engine_ports(catalogue))

    async def open(self) -> None:
        """Index the store. Raises `StoreError` if it can't be read now."""
        self._parts = await asyncio.to_thread(self._store.parts)
        await self._engine.open()

    async def current(self) -> bool:
        """Whether what was indexed is what is there, and nothing was left to be run."""
        return not self.wanting.is_set() and await asyncio.to_thread(self._store.parts) == self._parts

    def foresees(self, steps: Iterable[ExplainedStep]) -> bool:
        """Whether a Ray of this machine would say the same: certainly of steps that need no more than a CPU.

        How many GPUs it would have may be known too; memory and resources of the user's own are not.
        """
        known = {"CPU"} if self._gpus is None else {"CPU", "GPU"}
        return all(
            step.resources.keys() <= known and step.resources.get("CPU", 0.0) <= 1
            for step in steps
            if step.action in ("run", "fail")
        )

    async def ask(self, question: Callable[[Engine], Awaitable[T]]) -> T | None:
        """What the engine answers; None if it takes more than reading."""
        asked: asyncio.Future[Any] = asyncio.ensure_future(question(self._engine))
        wanting: asyncio.Future[Any] = asyncio.ensure_future(self.wanting.wait())
        both = {asked, wanting}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self.wanting.is_set():
                return None
            answer: T = asked.result()
            return answer
        finally:
            for one in both:
                one.cancel()
            await asyncio.wait(both)
            if not asked.cancelled():
                asked.exception()  # of a question that was given up

    def values(self, keys: Sequence[str]) -> AsyncGenerator[Sequence[Answered], None]:
        """See `Service.values`: a value is in the store, or nowhere."""
        return self._engine.values(keys)

    async def aclose(self) -> None:
        """End what runs for the engine and the shard."""
        await self._engine.aclose()
        await self._shard.close(0.0)
        await self._shard.end()

    def _fence(self) -> None:
        """What a damaged part would be moved away by: that is the owner's."""
        raise StoreError("the store is only read here")

    def _engine_ports(self, catalogue: Catalogue) -> engine_ports.Ports:
        return engine_ports.Ports(
            shards=[_ShardHere(self._shard)],
            objects=_Objects(),
            assets=machine.CatalogueAssets(catalogue),
            clock=machine.MachineClock(),
            identity=machine.RandomIdentity(),
            reading=True,
        )

    def _shard_ports(self, registry: Registry, catalogue: Catalogue) -> shard_ports.Ports:
        return shard_ports.Ports(
            cluster=_Nowhere(registry, self._gpus, self.wanting),
            parts=_ReadParts(self._store, registry, self.wanting),
            journal=_NoJournal(self.wanting),
            deliveries=_NoDeliveries(),
            sender=_NoSender(),
            lease=_NoLease(),
            peers=_NoPeers(),
            assets=_Assets(catalogue),
            clock=machine.MachineClock(),
            process=_ThisProcess(self.wanting),
            audit=machine.AuditFiles(self._settings, self._fence),
        )


def _gpus(settings: Settings) -> float | None:
    """The GPUs that a Ray of this machine would have, if that can be told without it."""
    if settings.num_gpus is not None:
        return float(settings.num_gpus)
    return None if any(map(glob.glob, ACCELERATORS)) else 0.0


class _ShardHere:
    """The shard, called as a coroutine. Implements `engine.ports.ShardPort`."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    async def connect(self, timeout: float) -> Hello:
        return await self._shard.hello()

    async def call(self, method: str, *arguments: Any) -> Any:
        return await getattr(self._shard, method)(*arguments)


class _Held:
    """Large values in this process's memory, in the place of an object of an object store."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def read(self) -> list[Any]:
        """The values; whoever reads gets copies of its own."""
        return [value.open() if isinstance(value, Snapshot) else value for value in self._values]


class _Objects:
    """Implements `engine.ports.Objects`."""

    async def fetch(self, refs: Sequence[Ref]) -> tuple[Mapping[Ref, Sequence[Any]], set[Ref]]:
        return {ref: ref.read() for ref in refs}, set()


class _Unrun(Generic[T]):
    """A task that never begins; it ends when it is cancelled. Implements `Call`."""

    def __init__(self) -> None:
        self._over = asyncio.Event()

    async def result(self) -> T:
        await self._over.wait()
        raise CallFailed(
            Fault("Cancelled", "it was not run here", retry=False, started=False, cancelled=True)
        )

    def cancel(self, *, force: bool) -> None:
        self._over.set()


class _Nowhere:
    """A cluster that has everything and runs nothing. Implements `Cluster` and `WarmActor`."""

    def __init__(self, registry: Registry, gpus: float | None, wanting: asyncio.Event) -> None:
        named = {name for spec in registry for name in spec.resources.as_mapping()}
        self._node = dict.fromkeys({"CPU", "GPU", "memory", *named}, PLENTY)
        if gpus is not None:
            self._node["GPU"] = gpus
        self._wanting = wanting

    def publish(self, digest: str, blob: bytes) -> None:
        """Nobody needs the code."""

    def run(self, task: Any, work: Any, slots: Sequence[Ref] = ()) -> _Unrun[TaskResult]:
        self._wanting.set()
        return _Unrun()

    def start_actor(self, recipe: Recipe, needs: Mapping[str, float]) -> _NoActor:
        self._wanting.set()
        return _NoActor()

    async def nodes(self) -> list[Mapping[str, float]]:
        return [self._node]


class _NoActor:
    """Implements `WarmActor`."""

    def run(self, work: Work, slots: Sequence[Ref]) -> _Unrun[TaskResult]:
        return _Unrun()

    def kill(self) -> None:
        """There is none."""


class _ReadParts(StoredParts):
    """The parts of a store, read in threads and never changed. Implements `Parts`."""

    def __init__(self, store: ValueStore, registry: Registry, wanting: asyncio.Event) -> None:
        super().__init__(store)
        self._registry = registry
        self._wanting = wanting

    async def write(self, recipe: Recipe, rows: NewRows, slots: Sequence[Ref]) -> str:
        raise self._refused()

    async def read_here(self, wanted: Wanted, inline_bytes: int) -> ReadReport | None:
        return None  # `read` is as near

    async def read(
        self, registry: str, wanted: Wanted, returns: int, inline_bytes: int
    ) -> tuple[ReadReport, Sequence[Ref]]:
        work = store_tasks.reading(registry, returns, inline_bytes)
        report, *slots = await asyncio.to_thread(
            store_tasks.read_from, self._store, self._registry, work, wanted
        )
        return report, list(map(_Held, slots))

    async def sweep(self) -> None:
        """Nothing is deleted."""

    async def note(self) -> None:
        """That is the owner's."""

    async def compact(self, feature: str, version: str, least: int) -> tuple[list[str], NewPart | None]:
        return [], None

    async def remove(self, names: Sequence[str]) -> None:
        raise self._refused()

    async def note_purge(self, purge: Purge) -> None:
        raise self._refused()

    async def purges(self) -> list[Purge]:
        return []

    async def purge(self, purge: Purge, *, again: bool) -> tuple[list[Rewritten], list[str]]:
        raise self._refused()

    def _refused(self) -> StoreError:
        self._wanting.set()
        return StoreError("the store is only read here")


class _NoJournal:
    """Implements `Journal`: accepted requests are their owner's to go on with."""

    def __init__(self, wanting: asyncio.Event) -> None:
        self._wanting = wanting

    async def write(self, name: str, data: Mapping[str, Any]) -> None:
        self._wanting.set()
        raise StoreError("the store is only read here")

    async def read(self, name: str) -> Mapping[str, Any] | None:
        return None

    async def unfinished(self) -> list[Mapping[str, Any]]:
        return []

    async def told(self, among: Callable[[str], bool], tell: Callable[[Mapping[str, Any]], T]) -> list[T]:
        return []

    async def sweep(self, before: float) -> None:
        """There is nothing to forget."""


class _NoDeliveries:
    """Implements `DeliveryRecords`: callbacks are their owner's to make."""

    async def write(self, delivery: Delivery) -> None:
        raise StoreError("the store is only read here")

    async def remove(self, id: str) -> None:
        """There is nothing to forget."""

    async def all(self) -> list[Delivery]:
        return []


class _NoSender:
    """Implements `Sender`: nobody is called from here."""

    async def post(self, url: CallbackUrl, headers: Mapping[str, str], body: bytes) -> Outcome:
        return Outcome(error="no callbacks are made here")


class _NoLease:
    """Implements `Lease`: whoever only reads holds nothing."""

    async def acquire(self, owner: str) -> None:
        """Nothing to take."""

    async def renew(self, now: float) -> None:
        """Nothing to renew."""

    def release(self) -> None:
        """Nothing to let go of."""


class _NoPeers:
    """Implements `Peers`: there is one shard."""

    def fetch(self, shard: int, id: str, part: PlanPart, priority: int, tenant: str, trace: str) -> NoReturn:
        raise NotImplementedError(f"there is no shard {shard} here")

    async def call(self, shard: int, method: str, *arguments: Any) -> NoReturn:
        raise NotImplementedError(f"there is no shard {shard} here")


class _Assets:
    """Implements the shard's `Assets`."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def current(self, ids: Sequence[str]) -> Mapping[str, Asset]:
        return await asyncio.to_thread(machine.known, self._catalogue, ids)

    async def tidy(self) -> None:
        """That is the owner's."""


class _ThisProcess:
    """Implements `Process`; it is also that of whoever asks, so it does not end."""

    def __init__(self, wanting: asyncio.Event) -> None:
        self._wanting = wanting

    def end(self, status: int) -> NoReturn:
        self._wanting.set()
        raise StoreError("the store can't be read here: Amber's log tells why")

    def new_id(self) -> str:
        return machine.RandomIdentity().new_id()
