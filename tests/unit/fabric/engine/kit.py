"""An engine on ports that a test holds in its hands: shards in memory, assets by name, gates.

A `MemoryShard` keeps what the real one promises to engines (sessions whose updates are acknowledged,
interests by attempt, accepted requests that outlive a restart, counted changes) and computes nothing: a test
says when a key has a value. Calls are pickled both ways, as between processes, and any of them can be held,
or carried out with its answer lost.
"""

from __future__ import annotations

import asyncio
import pickle
import selectors
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from amber_ray.core.declare.feature import feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.asked import RequestInfo
from amber_ray.core.model.audit import AuditLine
from amber_ray.core.model.callback import DeliveryView
from amber_ray.core.model.demands import Demand, DemandStatus, DemandView
from amber_ray.core.model.kept import Kept, KeptRow, StoredVersion
from amber_ray.core.model.pages import AssetFilter, Page, Told, list_assets
from amber_ray.core.model.provenance import ValueInfo
from amber_ray.core.model.request import AssetRef, ComputeRequest, Failure, RequestView
from amber_ray.core.model.service import MediaPiece
from amber_ray.core.model.units import Asset
from amber_ray.core.planning.homes import home_of
from amber_ray.core.planning.plan import Target
from amber_ray.core.scheduler.costs import Means
from amber_ray.errors import AmberError, MediaNotFound, StoreError
from amber_ray.fabric.engine.engine import Engine
from amber_ray.fabric.engine.ports import Parts, Ports, ShardGone
from amber_ray.fabric.shard.tallies import Tallies
from amber_ray.fabric.transport import layers
from amber_ray.fabric.transport.messages import (
    NO_COUNTS,
    OWN,
    Answer,
    Counts,
    Foreseen,
    Found,
    FoundUnit,
    Hello,
    MissingPlans,
    PartRows,
    PlanPart,
    Reply,
    Submission,
    Updates,
    Values,
)
from amber_ray.settings import Settings

T = TypeVar("T")
SECONDS = 20.0
"""Bound on every wait of a test."""


class VirtualTime(selectors.SelectSelector):
    """Time that passes only when nothing else is to be done: a pause of minutes costs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everyone waits for something that will never happen")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, for what uses neither files nor threads."""

    def __init__(self) -> None:
        self._virtual = VirtualTime()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run(story: Coroutine[Any, Any, T], seconds: float = SECONDS * 2) -> T:
    """Run a story on virtual time, bounded."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(asyncio.wait_for(story, seconds))


@feature(version="1")
def name_of(asset: Asset) -> str:
    """Where it is."""
    return asset.uri


@feature(version="1")
def size(asset: Asset) -> int:
    """Its bytes."""
    return asset.bytes


REGISTRY = Registry([name_of.__amber__, size.__amber__])  # type: ignore[attr-defined]


def film(name: str, home: int = 0, shards: int = 1, place: str = "/media") -> Asset:
    """An asset that a shard owns. `place` is where it is now; its id is its content."""
    tried = (int.from_bytes(name.encode(), "big") * 1000 + i for i in range(1000))
    made = (Asset(f"{i:032x}"[-32:], f"{place}/{name}.mp4", "video/mp4", 100, 5.0) for i in tried)
    return next(a for a in made if home_of(a, shards) == home)


def ask(*films: Asset, features: str = "name_of", **more: Any) -> ComputeRequest:
    return ComputeRequest(tuple(features.split(",")), tuple(AssetRef(uri=f.uri) for f in films), **more)


def calling(engine: Engine, *arguments: Any) -> asyncio.Task[RequestView]:
    """Ask as a caller who waits in a task of its own."""
    return asyncio.create_task(engine.compute(*arguments))


async def until(condition: Any) -> None:
    """Wait for what other tasks will do; bounded."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


def values(view: RequestView) -> list[Any]:
    return [result.value for result in view.results]


class Gate:
    """Holds calls of one method: `arrived` counts those that wait or have passed, `open` lets all through."""

    def __init__(self) -> None:
        self.arrived = 0
        self._open = asyncio.Event()

    def open(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        self.arrived += 1
        await self._open.wait()


@dataclass
class Session:
    stream: str = field(default_factory=lambda: uuid.uuid4().hex)
    number: int = 0
    sent: Updates = field(default_factory=Updates)
    updates: Updates = field(default_factory=Updates)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Record:
    submission: Submission
    targets: list[Target]
    positions: tuple[int, ...]
    state: str = "running"
    accepted: bool = False
    answers: dict[str, Answer] = field(default_factory=dict)
    expanded: dict[str, tuple[FoundUnit, ...]] = field(default_factory=dict)
    interest: dict[str, int] = field(default_factory=dict)
    followers: set[str] = field(default_factory=set)

    def reply(self, changes: int, *, full: bool = False) -> Reply:
        return Reply(
            self.submission.id,
            self.state,
            list(self.answers.values()),
            len(self.answers),
            len(self.wanted()),
            self.submission.created,
            self.submission.tenant,
            self.targets if full else (),
            self.positions if full else (),
            self.submission.shards if full else (),
            self.submission.record if full else None,
            changes,
            expanded=tuple(self.expanded.items()),
        )

    def wanted(self) -> list[str]:
        """What it is to be told of: units in the places of targets that have come to some."""
        return [
            key
            for target in self.targets
            for key in ([u.key for u in self.expanded.get(target.key, ())] or [target.key])
        ]


class MemoryShard:
    """One shard. `values` are answered at once; other keys when a test calls `make`.

    - `kept_rows`: keys by unit of versions of features;
    - `found`: what targets come to that are each range of a finder;
    - `stored`: the part and row that a value was read back from; `tells`: engines are told the rows of parts;
    - `calls`: the names of the methods that were called and their arguments, in order;
    - `refuse`, `unsaved`: words for requests that are not to be taken in, or journaled;
    - `poison`: the id of a request that makes its whole batch fail; `forgetful`: it keeps no plans;
    - `raises`: errors of methods; `down`: it can't be reached; `down_for_calls`: only `hello` reaches it.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.values: dict[str, Any] = {}
        self.large: set[str] = set()
        self.kept_rows: dict[tuple[str, str], dict[str, str]] = {}
        self.found: dict[str, tuple[FoundUnit, ...]] = {}
        self.absent: dict[str, Failure] = {}
        self.rank = OWN
        self.tells = True
        self.stored: dict[str, tuple[str, int]] = {}
        self.journal: dict[str, Record] = {}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.lines: list[AuditLine] = []
        self.refuse = ""
        self.unsaved = ""
        self.poison = ""
        self.forgetful = False
        self.raises: dict[str, AmberError] = {}
        self.down = False
        self.down_for_calls = False
        self.incarnations = 0
        self.gates: dict[str, Gate] = {}
        self.answer_gates: dict[str, Gate] = {}
        self.lost_answers: list[str] = []
        self._open: set[asyncio.Task[Any]] = set()
        self._start()

    def _start(self) -> None:
        self.incarnations += 1
        self.tallies = Tallies(str(self.incarnations))
        self.sessions: dict[str, Session] = {}
        self.plans: dict[str, PlanPart] = {}
        self.registries: set[str] = set()
        self.codes: dict[str, bytes] = {}
        self.changes = 0
        self.records = dict(self.journal)
        for record in self.records.values():
            record.state, record.answers = "running", {}
            record.interest, record.followers = {}, set()

    # --- what tests do

    def hold(self, method: str) -> Gate:
        """From now on calls of a method wait at the gate, before they are carried out."""
        gate = self.gates[method] = Gate()
        return gate

    def hold_answer(self, method: str) -> Gate:
        """The next call of a method is carried out, and its answer waits at the gate."""
        gate = self.answer_gates[method] = Gate()
        return gate

    def lose_answer(self, method: str) -> None:
        """The next call of a method is carried out, and its caller hears that the shard is gone."""
        self.lost_answers.append(method)

    def restart(self, *, breaking: bool = True) -> None:
        """The process dies and another is there: only accepted requests are known, calls under way break.

        Unless `breaking`, nobody notices by their calls.
        """
        self._start()
        if breaking:
            self.break_calls()

    def break_calls(self) -> None:
        """Calls under way end as if the process had died."""
        for task in self._open:
            task.cancel()

    def answer_polls(self) -> None:
        """Polls under way are answered with what there is."""
        for session in self.sessions.values():
            session.wake.set()

    def give_up_sessions(self) -> None:
        """Forget every session, as if none had polled for a minute; polls under way are answered."""
        self.answer_polls()
        self.sessions.clear()

    def named(self, method: str) -> list[tuple[Any, ...]]:
        """The arguments of the calls of one method."""
        return [arguments for name, arguments in self.calls if name == method]

    def make(self, *keys: str, value: Any = None) -> None:
        """Keys have a value now (their own name, unless another is given): whoever asked is answered."""
        for key in keys:
            self.values[key] = key if value is None else value
        for record in self.records.values():
            self._answer(record)

    def make_all(self) -> None:
        """Every key that somebody asked for has a value now, as its feature would make it."""
        for target in [t for record in self.records.values() for t in record.targets]:
            if target.key not in self.values:
                assert isinstance(target.unit, Asset)
                self.make(
                    target.key, value=target.unit.uri if target.feature == "name_of" else target.unit.bytes
                )

    def change(self, *keys: str) -> None:
        """Values were purged or are made anew."""
        self.changes += 1
        for key in keys:
            self.values.pop(key, None)
            self.stored.pop(key, None)
        for session in self.sessions.values():
            session.updates.changed.extend(keys)
            session.wake.set()

    def replace(self, id: str, targets: Sequence[Target], positions: Sequence[int]) -> None:
        """A request is about other targets now, as after its code changed."""
        record = self.records[id]
        record.targets, record.positions, record.answers = list(targets), tuple(positions), {}
        for session in map(self.sessions.get, record.followers):
            assert session is not None
            session.updates.replaced.append(id)
            session.wake.set()

    def _answer(self, record: Record) -> None:
        if record.state != "running":
            return
        sessions = [s for s in map(self.sessions.get, record.followers) if s is not None]
        for key in [t.key for t in record.targets if t.key in self.found and t.key not in record.expanded]:
            record.expanded[key] = self.found[key]
            for session in sessions:
                session.updates.expanded.append((record.submission.id, (key, self.found[key])))
        for key in record.wanted():
            if key in self.values and key not in record.answers:
                value = self.values[key]
                data = pickle.dumps(value)
                inline = None if key in self.large else data
                part, _ = self.stored.get(key, ("", 0))
                answer = Answer(key, seconds=1.0, size=len(data), inline=inline, part=part)
                record.answers[key] = answer
                for session in sessions:
                    session.updates.answers[key] = answer
                    session.updates.about.append((record.submission.id, answer))
        if len(record.answers) == len({key for key in record.wanted() if self.found.get(key) != ()}):
            self._end(record, "done")
        for session in sessions:
            session.wake.set()

    def _end(self, record: Record, state: str) -> None:
        record.state = state
        for session in map(self.sessions.get, record.followers):
            if session is not None:
                session.updates.finished.append((record.submission.id, state))
                session.wake.set()

    # --- what engines call

    async def carry_out(self, method: str, arguments: tuple[Any, ...]) -> Any:
        if self.down or (self.down_for_calls and method != "hello"):
            raise ShardGone("it is down")
        self.calls.append((method, arguments))
        lost = method in self.lost_answers
        if lost:
            self.lost_answers.remove(method)

        async def carried_out() -> Any:
            if method in self.gates:
                await self.gates[method].passed()
            if method in self.raises:
                raise self.raises[method]
            given = pickle.loads(pickle.dumps(arguments))
            outcome = pickle.loads(pickle.dumps(await getattr(self, method)(*given)))
            if (gate := self.answer_gates.pop(method, None)) is not None:
                await gate.passed()
            return outcome

        task = asyncio.create_task(carried_out())
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        await asyncio.wait({task})
        if task.cancelled():
            raise ShardGone("it died")
        outcome = task.result()
        if lost:
            raise ShardGone("its answer was lost")
        return outcome

    async def hello(self) -> Hello:
        return Hello(self.number, str(self.incarnations), "", frozenset(self.registries), 0)

    async def publish(self, digest: str, blob: bytes) -> None:
        self.registries.add(digest)
        self.codes[digest] = blob

    async def code(self, digest: str) -> bytes | None:
        return self.codes.get(digest)

    async def submit(
        self, session: str, plans: Mapping[str, PlanPart], submissions: Sequence[Submission]
    ) -> list[Reply] | MissingPlans:
        if self.poison in [s.id for s in submissions]:
            raise StoreError("one of them is poison")
        if not self.forgetful:
            self.plans.update(plans)
        if missing := [s.plan for s in submissions if s.plan not in self.plans]:
            return MissingPlans(plans=missing)
        for submission in submissions:
            for step in self.plans[submission.plan].steps.values():
                if step.recipe.registry not in self.registries:
                    return MissingPlans(registry=step.recipe.registry)
        return [self._admit(session, s, self.plans[s.plan]) for s in submissions]

    def _admit(self, session: str, submission: Submission, part: PlanPart) -> Reply:
        record = self.records.get(submission.id)
        if record is None:
            if self.refuse:
                return Reply(submission.id, "failed", [], refused=self.refuse)
            record = Record(submission, list(part.targets), tuple(submission.positions))
            self.records[submission.id] = record
            if submission.refresh:
                self.change(*[t.key for t in part.targets])
            self._answer(record)
        elif {t.key for t in record.targets} != {t.key for t in part.targets}:
            return Reply(submission.id, "failed", [], taken=True)
        self._session(session)
        record.interest[session] = max(submission.attempt, record.interest.get(session, 0))
        record.followers.add(session)
        reply = record.reply(self.changes)
        reply.places = list(self._places(record.answers) if submission.reading else ())
        if submission.record is not None and not record.accepted:
            if self.unsaved:
                reply.unsaved = self.unsaved
            else:
                self._accept(record, submission.record)
        return reply

    def _accept(self, record: Record, body: Mapping[str, Any]) -> None:
        record.accepted, record.submission.record = True, body
        self.journal[record.submission.id] = record

    async def accept(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        for id, body in bodies.items():
            if id in self.records:
                if self.unsaved:
                    raise StoreError(self.unsaved)
                self._accept(self.records[id], body)

    def _session(self, name: str) -> Session:
        return self.sessions.setdefault(name, Session())

    async def poll(self, session: str, stream: str, seen: int, timeout: float, counts: Counts) -> Updates:
        self.tallies.note(session, counts)
        box = self._session(session)
        known = stream == box.stream
        if known and box.sent.number == seen:
            box.sent = Updates()
        if known and not (box.sent or box.updates):
            box.wake.clear()
            try:
                async with asyncio.timeout(timeout):
                    await box.wake.wait()
            except TimeoutError:
                pass
        box.number += 1
        sent, new, box.updates = box.sent, box.updates, Updates()
        box.sent = Updates(
            box.stream,
            box.number,
            sent.answers | new.answers,
            sent.about + new.about,
            sent.finished + new.finished,
            sent.replaced + new.replaced,
            sent.changed + new.changed,
            sent.purged or new.purged,
            self.changes,
            str(self.incarnations),
            sent.expanded + new.expanded,
        )
        read = [answer.key for id, answer in box.sent.about if self._reads(id)]
        box.sent.places = {place.key: place for place in self._places(read)}
        return box.sent

    def _reads(self, id: str) -> bool:
        return id in self.records and self.records[id].submission.reading

    def _places(self, keys: Iterable[str]) -> Iterator[Found]:
        """Where those of these values are that are large."""
        for key in keys:
            if key in self.values and key in self.large:
                yield Found(key, "name_of", "1", ref=[(self.number, key)], made=7.0, rank=OWN, size=100)

    async def attach(self, session: str, id: str) -> Reply | None:
        record = self.records.get(id)
        if record is None:
            return None
        self._session(session)
        record.followers.add(session)
        return record.reply(self.changes, full=True)

    async def progress(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        known = {id: self.records[id] for id in ids if id in self.records}
        return {id: (len(r.answers), len(r.targets)) for id, r in known.items()}

    async def withdraw(self, session: str, attempts: Mapping[str, int]) -> None:
        for id, attempt in attempts.items():
            record = self.records.get(id)
            if record is not None and record.interest.get(session) == attempt:
                del record.interest[session]
                if not record.interest and not record.accepted and record.state == "running":
                    self._end(record, "cancelled")
                    del self.records[id]

    async def cancel(self, ids: Sequence[str]) -> None:
        for id in ids:
            if id in self.records and self.records[id].state == "running":
                self._end(self.records[id], "cancelled")

    async def leave(self, session: str, counts: Counts) -> None:
        self.tallies.note(session, counts)
        self.sessions.pop(session, None)

    async def get(self, keys: Sequence[str]) -> Values:
        found: list[Found | None] = []
        for key in keys:
            if key not in self.values:
                found.append(None)
            elif key in self.large:
                found.append(Found(key, "name_of", "1", ref=[(self.number, key)], made=7.0, rank=self.rank))
            else:
                inline = pickle.dumps(self.values[key])
                part, _ = self.stored.get(key, ("", 0))
                found.append(Found(key, "name_of", "1", inline=inline, made=7.0, rank=self.rank, part=part))
        return Values(found, self.changes, [(key, why) for key, why in self.absent.items() if key in keys])

    async def rows_of(self, part: str) -> PartRows | None:
        rows = {key: row for key, (name, row) in self.stored.items() if name == part}
        keys = np.frombuffer(bytes.fromhex("".join(rows)), np.uint8).reshape(-1, 16)
        return PartRows(keys, np.array([*rows.values()], np.uint32)) if self.tells else None

    async def lost(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.values.pop(key, None)

    async def foresee(
        self,
        part: PlanPart,
        borrowed: Sequence[str],
        broken: Sequence[str],
        refresh: bool,
        load: bool,
        located: float,
    ) -> Foreseen:
        owned = [key for key, step in part.steps.items() if step.home == self.number]
        return Foreseen(
            {key: "hot" if key in self.values else "missing" for key in owned},
            {key: "use" if key in self.values else "run" for key in owned},
        )

    async def kept(self, feature: str, version: str, units: Sequence[str]) -> Kept:
        of = self.kept_rows.get((feature, version), {})
        rows = {unit: [KeptRow(key, unit, "{}", 7.0)] for unit, key in of.items() if unit in units}
        return Kept(rows, "asset" if of else None, tuple(v for f, v in self.kept_rows if f == feature))

    async def expected(self, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Means]:
        return {}

    async def purge(self, asset: str | None, feature: str | None, version: str | None) -> list[str]:
        gone = list(self.values)
        self.change(*gone)
        return gone

    async def reserve_callback(self, request: str, tenant: str) -> None:
        """There is room."""

    async def release_callback(self, request: str) -> None:
        """There is room."""

    async def promise(self, promise: Any) -> None:
        """Kept nowhere."""

    async def replay(self, id: str, tenant: str | None) -> DeliveryView:
        return DeliveryView(
            id, "mine", "default", "https://hooks.example/", "waiting", "request.done", 0.0, 1
        )

    async def keep(self, demand: Demand, id: str) -> DemandView:
        return DemandView(demand, DemandStatus(), 0.0)

    async def stop_keeping(self, name: str, id: str) -> bool:
        return True

    async def audited(self, lines: Sequence[AuditLine]) -> None:
        self.lines += lines

    async def about(self, *asked: Any) -> Told[ValueInfo]:
        return Told()

    async def requests(self, *asked: Any) -> Told[RequestInfo]:
        return Told()

    async def provenance(self, keys: Sequence[str]) -> list[ValueInfo]:
        return []

    async def versions(self) -> list[StoredVersion]:
        return []

    async def troubles(self) -> list[str]:
        return []

    async def failures(self) -> list[Any]:
        return []

    async def stats(self, session: str = "", counts: Counts = NO_COUNTS) -> dict[str, float]:
        self.tallies.note(session, counts)
        return {"keys_hot": float(len(self.values))} | self.tallies.total()


@dataclass
class Port:
    """`ShardPort` over a `MemoryShard`."""

    shard: MemoryShard

    async def connect(self, timeout: float) -> Hello:
        hello: Hello = await self.shard.carry_out("hello", ())
        return hello

    async def call(self, method: str, *arguments: Any) -> Any:
        return await self.shard.carry_out(method, arguments)


class MemoryAssets:
    """`Assets` of a dictionary; only those in `near` need no waiting. `gate` holds the others back."""

    def __init__(self) -> None:
        self.by_uri: dict[str, Asset] = {}
        self.near = True
        self.gate: Gate | None = None
        self.resolved = 0

    def put(self, *films: Asset) -> None:
        self.by_uri.update({f.uri: f for f in films})

    def at_hand(self, uri: str, tenant: str | None = None) -> Asset | None:
        return self.by_uri.get(uri) if self.near else None

    async def admit(self, prefixes: Sequence[str]) -> None:
        """Whatever it is, it may be read."""

    async def resolve(self, refs: Sequence[AssetRef]) -> list[Asset | AmberError]:
        self.resolved += 1
        if self.gate is not None:
            await self.gate.passed()
        return [self._one(ref) for ref in refs]

    def _one(self, ref: AssetRef) -> Asset | AmberError:
        for asset in reversed(self.by_uri.values()):
            if ref.uri == asset.uri or ref.id == asset.id:
                return asset
        return MediaNotFound(f"nothing is at {ref.uri or ref.id}")

    async def add(self, uri: str) -> Asset:
        return self.by_uri[uri]

    async def places(self, ids: Sequence[str]) -> list[Asset]:
        return [asset for id in ids for asset in self.by_uri.values() if asset.id == id]

    async def shown(self, ids: Sequence[str], tenant: str) -> frozenset[str]:
        return frozenset(asset.id for asset in self.by_uri.values()).intersection(ids)

    async def page(self, only: AssetFilter, limit: int, cursor: str | None) -> Page[Asset]:
        return list_assets(self.by_uri.values(), only, limit, cursor)

    async def media(self, id: str, start: int, end: int | None, tenant: str | None) -> MediaPiece:
        raise NotImplementedError

    async def upload(self, chunks: Any, media_type: str | None, limit: int) -> Asset:
        return next(iter(self.by_uri.values()))


class MemoryObjects:
    """`Objects`: what shards hold as large values; those in `lost` are gone. `gate` holds every fetch."""

    def __init__(self, shards: Sequence[MemoryShard]) -> None:
        self._shards = shards
        self.lost: set[str] = set()
        self.gate: Gate | None = None

    async def fetch(self, refs: Sequence[Any]) -> tuple[Mapping[Any, Sequence[Any]], set[Any]]:
        found = {
            (number, key): [self._shards[number].values[key]]
            for number, key in refs
            if key not in self.lost and key in self._shards[number].values
        }
        if self.gate is not None:
            await self.gate.passed()
        return found, {ref for ref in refs if ref not in found}


class LoopClock:
    """`Clock` of the event loop."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def unix(self) -> float:
        return 1e9 + asyncio.get_running_loop().time()


class Numbers:
    """`Identity`: one, two, three."""

    def __init__(self) -> None:
        self._last = 0

    def new_id(self) -> str:
        self._last += 1
        return f"id-{self._last}"


class World:
    """Shards and engines over them; `assets` are the same for all engines."""

    def __init__(self, shards: int, reading: bool = False, **settings: Any) -> None:
        self.settings = Settings(shards=shards, **settings)
        self.reading = reading
        self.parts: Parts | None = None
        self.shards = [MemoryShard(number) for number in range(shards)]
        self.shard = self.shards[0]
        self.assets = MemoryAssets()
        self.objects = MemoryObjects(self.shards)
        self.engines: list[Engine] = []
        self._identity = Numbers()

    def unopened(self, registry: Registry = REGISTRY) -> Engine:
        ports = Ports(
            list(map(Port, self.shards)),
            self.objects,
            self.assets,
            LoopClock(),
            self._identity,
            self._unpacked,
            self.reading,
            self.parts,
        )
        blob = layers.bottom(registry.digest, registry.names(), b"code")
        engine = Engine(self.settings, registry, {registry.digest: blob}, ports)
        self.engines.append(engine)
        return engine

    async def _unpacked(self, blob: bytes) -> Registry:
        """The registry of a blob, which some engine here has: nothing is pickled in earnest."""
        digest, _ = layers.read(blob)
        return next(e._registries.get(digest) for e in self.engines if digest in e._registries)

    async def engine(self, registry: Registry = REGISTRY) -> Engine:
        engine = self.unopened(registry)
        await engine.open()
        return engine

    def films(self, *homes: int) -> list[Asset]:
        """An asset for each shard named, in that order."""
        made = [film(f"film-{i}", home, len(self.shards)) for i, home in enumerate(homes)]
        self.assets.put(*made)
        return made


@asynccontextmanager
async def world(shards: int = 1, **settings: Any) -> AsyncIterator[World]:
    """A world whose engines are closed at the end."""
    made = World(shards, **settings)
    try:
        yield made
    finally:
        for shard in made.shards:
            for gate in shard.gates.values():
                gate.open()
        await asyncio.gather(*(engine.aclose() for engine in made.engines))
