"""One shard over ports that a test holds in its hands: a journal in memory, a clock that stands still.

The ports are those of `fabric.shard.ports`; the shard's own parts are the real ones.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, NoReturn

from amber_ray.core.declare.registry import Registry
from amber_ray.core.deliveries.record import Delivery, Outcome
from amber_ray.core.deliveries.urls import CallbackUrl
from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.model.kept import Kept, StoredVersion
from amber_ray.core.model.pages import Told
from amber_ray.core.model.provenance import ValueInfo
from amber_ray.core.model.units import Asset
from amber_ray.core.planning.plan import Planner, Recipe
from amber_ray.core.state import events as ev
from amber_ray.errors import StoreError
from amber_ray.fabric.shard.context import ShardContext
from amber_ray.fabric.shard.ports import (
    CallFailed,
    Fault,
    PartKeys,
    Ports,
    Ref,
    Rewritten,
)
from amber_ray.fabric.transport.messages import PlanPart, ReadReport, Standing, Wanted, Work
from amber_ray.fabric.transport.new_rows import NewRows
from amber_ray.settings import Settings
from amber_ray.store.key_index import KeyIndex
from amber_ray.store.purge_log import Purge


class Ended(BaseException):
    """The process has ended itself; `args` are its exit code."""


class Pending:
    """A call that the test ends. Implements `Call`."""

    def __init__(self, work: Work | None = None) -> None:
        self.work = work
        self.cancels: list[bool] = []
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def result(self) -> Any:
        return await self.future

    def cancel(self, *, force: bool) -> None:
        self.cancels.append(force)

    def fails(self, fault: Fault) -> None:
        if not self.future.done():
            self.future.set_exception(CallFailed(fault))

    def ends(self, result: Any) -> None:
        self.future.set_result(result)


GONE = Fault("SystemFault", "the warm worker died", crashed=True, gone=True)


class Actor:
    """A warm actor; `calls` are the batches that it was given, by task."""

    def __init__(self, feature: str) -> None:
        self.feature = feature
        self.calls: dict[int, Pending] = {}
        self.killed = False

    def run(self, work: Work, slots: Sequence[Ref]) -> Pending:
        self.calls[work.task] = Pending(work)
        return self.calls[work.task]

    def kill(self) -> None:
        self.killed = True
        self.dies()

    def dies(self) -> None:
        for call in self.calls.values():
            call.fails(GONE)


class Machines:
    """Where tasks run, when the test says so. Implements `Cluster`."""

    def __init__(self, *nodes: Mapping[str, float]) -> None:
        self.has = list(nodes)
        self.blobs: dict[str, bytes] = {}
        self.actors: list[Actor] = []
        self.tasks: dict[int, Pending] = {}

    def publish(self, digest: str, blob: bytes) -> None:
        self.blobs[digest] = blob

    def run(self, task: ev.Task, work: Work, slots: Sequence[Ref]) -> Pending:
        self.tasks[task.id] = Pending(work)
        return self.tasks[task.id]

    def start_actor(self, recipe: Recipe, needs: Mapping[str, float]) -> Actor:
        self.actors.append(Actor(recipe.feature))
        return self.actors[-1]

    async def nodes(self) -> list[Mapping[str, float]]:
        return list(self.has)


class Paper:
    """A journal in memory; names for which `refuses` is true can't be written. Implements `Journal`."""

    def __init__(self) -> None:
        self.records: dict[str, str] = {}
        self.refuses: Callable[[str], bool] = lambda name: False

    async def write(self, name: str, data: Mapping[str, Any]) -> None:
        if self.refuses(name):
            raise StoreError(f"{name} can't be written: No space left on device")
        self.records[name] = json.dumps(data)

    async def read(self, name: str) -> Mapping[str, Any] | None:
        text = self.records.get(name)
        return None if text is None else json.loads(text)

    async def unfinished(self) -> list[Mapping[str, Any]]:
        return [d for d in map(json.loads, self.records.values()) if d["state"] == "running"]

    async def told(self, among: Callable[[str], bool], tell: Callable[[Mapping[str, Any]], Any]) -> list[Any]:
        return [tell(json.loads(text)) for name, text in self.records.items() if among(name)]

    async def sweep(self, before: float) -> None:
        self.records = {n: t for n, t in self.records.items() if json.loads(t)["created"] >= before}


class NoParts:
    """A store without parts, into which nothing is written. Implements `Parts`."""

    local = True

    async def write(self, recipe: Recipe, rows: NewRows, slots: Sequence[Ref]) -> str:
        raise StoreError("nothing is written here")

    async def read_here(self, wanted: Wanted, inline_bytes: int) -> ReadReport | None:
        return ReadReport([], {}, list(wanted), {})

    async def read(
        self, registry: str, wanted: Wanted, returns: int, inline_bytes: int
    ) -> tuple[ReadReport, Sequence[Ref]]:
        return ReadReport([], {}, list(wanted), {}), ()

    async def scan(self, among: Callable[[str], bool]) -> tuple[list[PartKeys], list[str]]:
        return [], []

    async def costs(self) -> Mapping[tuple[str, str], tuple[float, float]]:
        return {}

    async def size(self) -> tuple[int, int]:
        return 0, 0

    async def versions(self) -> list[StoredVersion]:
        return []

    async def kept(self, feature: str, version: str, units: Collection[str]) -> Kept:
        return Kept()

    async def about(self, *asked: Any) -> Told[ValueInfo]:
        return Told()

    async def rows(self, wanted: Wanted) -> list[ValueInfo]:
        return []

    async def sweep(self) -> None: ...

    async def note(self) -> None: ...

    async def compact(self, feature: str, version: str, least: int) -> tuple[list[str], PartKeys | None]:
        return [], None

    async def remove(self, names: Sequence[str]) -> None: ...

    async def note_purge(self, purge: Purge) -> None: ...

    async def purges(self) -> list[Purge]:
        return []

    async def purge(self, purge: Purge, *, again: bool) -> tuple[list[Rewritten], list[str]]:
        return [], []


class Notes:
    """Deliveries in memory. Implements `DeliveryRecords`; with `full` nothing can be written."""

    def __init__(self) -> None:
        self.records: dict[str, Delivery] = {}
        self.full = False

    async def write(self, delivery: Delivery) -> None:
        if self.full:
            raise StoreError("No space left on device")
        self.records[delivery.id] = delivery

    async def remove(self, id: str) -> None:
        self.records.pop(id, None)

    async def all(self) -> list[Delivery]:
        return list(self.records.values())


class Post:
    """Who is called. `sent` are the messages; each meets the next of `outcomes`, or is taken."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Mapping[str, str], bytes]] = []
        self.outcomes: list[Outcome] = []

    async def post(self, url: CallbackUrl, headers: Mapping[str, str], body: bytes) -> Outcome:
        self.sent.append((str(url), headers, body))
        return self.outcomes.pop(0) if self.outcomes else Outcome(204)


class Owned:
    """The store is this shard's. Implements `Lease`."""

    async def acquire(self, owner: str) -> None: ...

    async def renew(self, now: float) -> None: ...

    def release(self) -> None: ...


class NoPeers:
    """There is no other shard. Implements `Peers`.

    `standings`: what a shard that is there for nothing else says of requests; None if there is none.
    """

    def __init__(self) -> None:
        self.standings: Mapping[str, Standing] | None = None

    def fetch(self, shard: int, id: str, part: PlanPart, priority: int, tenant: str, trace: str) -> Pending:
        return Pending()

    async def call(self, shard: int, method: str, *arguments: Any) -> Any:
        if method == "standing" and self.standings is not None:
            return {id: self.standings[id] for id in arguments[0] if id in self.standings}
        raise CallFailed(GONE)


class Places:
    """Where assets are, by id. Implements `Assets`."""

    def __init__(self) -> None:
        self.at: dict[str, Asset] = {}
        self.tidied = 0

    async def current(self, ids: Sequence[str]) -> Mapping[str, Asset]:
        return {id: self.at[id] for id in ids if id in self.at}

    async def tidy(self) -> None:
        self.tidied += 1


class Still:
    """A clock that the test moves. Implements `Clock`."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def unix(self) -> float:
        return 1.7e9 + self.time


class This:
    """A process whose end is an exception. Implements `Process`."""

    def __init__(self) -> None:
        self._names = 0

    def end(self, status: int) -> NoReturn:
        raise Ended(status)

    def new_id(self) -> str:
        self._names += 1
        return f"{self._names:032x}"


class Bench:
    """The context of a shard, with its ports, for a test of one of its parts.

    Events fed go to the real ledger; the commands that come back are kept in `commands`, and not performed.
    """

    def __init__(self, *nodes: Mapping[str, float], **settings: Any) -> None:
        self.machines = Machines(*nodes)
        self.journal = Paper()
        self.notes, self.post = Notes(), Post()
        self.places, self.peers = Places(), NoPeers()
        self.clock = Still()
        self.settings = Settings(**settings)
        self.commands: list[ev.Command] = []
        self.events: list[ev.Event] = []
        self.changed: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.ports = Ports(
            cluster=self.machines,
            parts=NoParts(),
            journal=self.journal,
            deliveries=self.notes,
            sender=self.post,
            lease=Owned(),
            peers=self.peers,
            assets=self.places,
            clock=self.clock,
            process=This(),
        )
        index = KeyIndex()
        self.context = ShardContext(
            settings=self.settings,
            shard=0,
            incarnation="one",
            ports=self.ports,
            index=index,
            ledger=Ledger(self.settings, index),
            feed=self.feed,
            spawn=self.spawn,
            changed=lambda keys: self.changed.extend(keys or ()),
        )

    def feed(self, event: ev.Event) -> None:
        self.events.append(event)
        self.commands += self.context.ledger.handle(event, self.clock.now())

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.ensure_future(coroutine))


def run(story: Coroutine[Any, Any, None], seconds: float = 10.0) -> None:
    """Run a story that has to be over within a time."""
    asyncio.run(asyncio.wait_for(story, seconds))


async def turns(count: int = 10) -> None:
    """Everyone who can go on does."""
    for _ in range(count):
        await asyncio.sleep(0)


def part_of(registry: Registry, features: Sequence[str], assets: Sequence[Asset]) -> PlanPart:
    """The plan of a request, all of it one shard's."""
    planner = Planner(registry, features=tuple(features), params={}, segment_seconds=60)
    for asset in assets:
        planner.add_asset(asset)
    plan = planner.plan()
    return PlanPart(plan.steps, plan.targets)
