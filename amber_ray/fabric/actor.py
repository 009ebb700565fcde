"""The cache actor: the shell around the ledger of one shard.

It turns calls, task ends and time into events, performs the commands that come back, and holds the handles
of the values in memory. It submits every task itself, because the submitter owns the results and a result
dies with its owner. It never touches a large value: those go from worker to object store to reader.

All of it runs on one event loop, so between two `await`s nothing else happens: the ledger needs no lock.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray

from amber_ray.core import events as ev
from amber_ray.core.index import KeyIndex
from amber_ray.core.ledger import Ledger
from amber_ray.core.plan import Planner, closure
from amber_ray.core.registry import Registry
from amber_ray.core.request import Failure
from amber_ray.core.states import AVAILABLE, State
from amber_ray.errors import AmberError
from amber_ray.fabric import code
from amber_ray.fabric.dispatch import Dispatch
from amber_ray.fabric.messages import (
    Answer,
    Found,
    Handle,
    Hello,
    Inline,
    News,
    PlanPart,
    Reply,
    Slot,
    Submission,
)
from amber_ray.fabric.records import Record, asset_from_json
from amber_ray.fabric.spill import Shelf
from amber_ray.settings import Settings
from amber_ray.store.journal import Journal
from amber_ray.store.lease import Lease
from amber_ray.store.parquet import ValueStore

log = logging.getLogger("amber.actor")

SESSION_SECONDS = 60.0
"""A session that has not polled for so long is gone, and its unaccepted requests with it."""
RECORD_SECONDS = 600.0
"""How long the answers of a finished request that was not journaled are remembered."""


class Session:
    """One engine that asks this shard: what it is to be told, and when it was last heard."""

    __slots__ = ("news", "seen", "wake")

    def __init__(self, now: float) -> None:
        self.news = News()
        self.wake = asyncio.Event()
        self.seen = now


class CacheActor:
    """One shard. Created detached and named by `fabric.cluster`; every method is called through Ray."""

    def __init__(self, settings_json: str, shard: int) -> None:
        settings = Settings.from_json(settings_json)
        self.settings = settings
        self.shard = shard
        self.incarnation = uuid.uuid4().hex
        self._lease = Lease(settings.store)
        self._store = ValueStore(settings.store)
        self._journal = Journal(settings.store)
        self._index = KeyIndex()
        self._ledger = Ledger(settings, self._index, shard=shard)
        self._values: dict[str, Handle] = {}
        self._sessions: dict[str, Session] = {}
        self._records: dict[str, Record] = {}
        self._ended: collections.deque[tuple[float, str]] = collections.deque()
        self._registries: dict[str, Any] = {}
        self._poke = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self._dispatch = Dispatch(self)
        self._shelf = Shelf(self)
        self._started: asyncio.Task[None] | None = None
        self._closing = False
        # Ray restarts this actor when its process dies, perhaps with nobody there to call it: accepted
        # requests must go on all the same, so it makes the first call itself.
        ray.get_runtime_context().current_actor.hello.remote()

    # --- life

    async def hello(self) -> Hello:
        """Bring the shard up if it is not, and introduce it. Raises `StoreBusy` if the store has another owner."""
        await self._up()
        return Hello(
            self.shard,
            self.incarnation,
            self.settings.to_json(),
            frozenset(self._registries),
            len(self._index),
        )

    async def _up(self) -> None:
        """Every call that needs the index or the ledger begins here; only the first one waits."""
        if self._started is None:
            self._started = asyncio.create_task(self._start())
        if not self._started.done():
            await asyncio.shield(self._started)
        self._started.result()

    async def _start(self) -> None:
        if self.shard == 0:
            await asyncio.to_thread(
                self._lease.acquire, f"the cluster of namespace {self.settings.namespace!r}"
            )
        for part, keys in await asyncio.to_thread(lambda: list(self._store.scan())):
            self._index.add(part.name, keys)
        for (feature, version), (seconds, size) in (await asyncio.to_thread(self._store.costs)).items():
            self._ledger.costs.preset(feature, version, seconds, size)
        registry = await asyncio.to_thread(_registry, self.settings)
        self.publish_registry(registry.digest, await asyncio.to_thread(code.pack, registry))
        await self._learn_capacity()
        self.spawn(self._clock())
        self.spawn(self._housekeeping())
        await self._resume(registry)

    def publish_registry(self, digest: str, blob: bytes) -> None:
        """Put a registry's code where tasks find it; this actor owns it, so it outlives whoever sent it."""
        if digest not in self._registries:
            self._registries[digest] = ray.put(blob)

    async def publish(self, digest: str, blob: bytes) -> None:
        """An engine brings the code of its registry."""
        self.publish_registry(digest, blob)

    def spawn(self, coroutine: Any) -> None:
        """Run something beside; an exception that nobody handled is logged, never lost."""
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a background task of shard %d failed", self.shard, exc_info=task.exception())

    async def _clock(self) -> None:
        while not self._closing:
            self._poke.clear()
            pause = self._ledger.wake_at() - time.monotonic()
            if pause > 0:
                try:
                    await asyncio.wait_for(self._poke.wait(), min(pause, 3600.0))
                except TimeoutError:
                    pass
                else:
                    continue  # something new may be due earlier
            self.feed(ev.Tick())
            await asyncio.sleep(0)

    async def _housekeeping(self) -> None:
        beat = 0
        while not self._closing:
            await asyncio.sleep(1.0)
            beat += 1
            now = time.monotonic()
            if beat % 3 == 0:
                await self._learn_capacity()
            self._dispatch.pools.retire_idle(now)
            for id, session in list(self._sessions.items()):
                if now - session.seen > SESSION_SECONDS:
                    self._end_session(id)
            while self._ended and now - self._ended[0][0] > RECORD_SECONDS:
                self._records.pop(self._ended.popleft()[1], None)
            if self.shard == 0:
                self._lease.renew(time.time())
                if beat % 30 == 0:
                    await self._shelf.compact()
                if beat % 3600 == 0:
                    await asyncio.to_thread(self._journal.sweep, time.time() - self.settings.request_seconds)

    async def _learn_capacity(self) -> None:
        nodes = await asyncio.to_thread(ray.nodes)
        alive = [n["Resources"] for n in nodes if n["Alive"]]
        total: dict[str, float] = {}
        for node in alive:
            for name, amount in node.items():
                total[name] = total.get(name, 0.0) + amount
        self._dispatch.pools.set_total(total)
        self.feed(ev.Capacity(alive, self.settings.attainable))

    async def _resume(self, registry: Registry) -> None:
        """Go on with accepted requests that an earlier incarnation left unfinished."""
        shards = self.settings.shards
        for data in await asyncio.to_thread(lambda: list(self._journal.unfinished())):
            id, _, home = str(data["id"]).partition(".")
            # Requests of shards that no longer exist are taken over by the first.
            if int(home or 0) % shards != self.shard and not (int(home or 0) >= shards and self.shard == 0):
                continue
            try:
                record = Record.from_json({**data, "id": id})
                part = _replan(registry, self.settings, record, self.shard)
            except (AmberError, KeyError, ValueError, TypeError) as error:
                log.error("request %s can't be resumed: %s", id, error)
                await asyncio.to_thread(self._journal.write, data["id"], {**data, "state": "failed"})
                continue
            record.targets = tuple(part.targets)
            record.answers = {}
            record.state = "running"
            body = record.body or {}
            self._records[id] = record
            self._begin(record, part, priority=int(body.get("priority_rank", 2)), load=False)

    async def close(self, timeout: float) -> bool:
        """Write what is unwritten and let go of everything; True if all was written in time."""
        self._closing = True
        deadline = time.monotonic() + timeout
        ledger = self._ledger
        while ledger.unspilled or ledger.spilling:
            if time.monotonic() >= deadline:
                break
            self._ledger.settings = self.settings.replace(spill_bytes=0)
            self.feed(ev.Tick())
            await asyncio.sleep(0.01)
        self._dispatch.pools.close()
        if self.shard == 0:
            self._lease.release()
        return not (ledger.unspilled or ledger.spilling)

    # --- events in, commands out

    def feed(self, event: ev.Event) -> None:
        """The one way into the ledger."""
        before = self._ledger.wake_at()
        for command in self._ledger.handle(event, time.monotonic()):
            match command:
                case ev.Submit(task):
                    self._dispatch.submit(task)
                case ev.Cancel(task_id):
                    self._dispatch.cancel(task_id)
                case ev.Deliver(request, key, outcome):
                    self._deliver(request, key, outcome)
                case ev.Finished(request):
                    self._finished(request)
                case ev.Spill(keys):
                    self._shelf.spill(keys)
                case ev.Restore(keys):
                    self._shelf.restore(keys)
                case ev.Drop(keys):
                    for key in keys:
                        self._values.pop(key, None)
        if self._ledger.wake_at() < before:
            self._poke.set()

    def _deliver(self, id: str, key: str, outcome: ev.Ready | Failure) -> None:
        record = self._records[id]
        answer = self._answer(key, outcome)
        record.answers[key] = answer
        for session_id in record.sessions:
            session = self._sessions.get(session_id)
            if session is not None:
                session.news.answers[key] = answer
                session.news.about.append((id, key))
                session.wake.set()

    def _answer(self, key: str, outcome: ev.Ready | Failure) -> Answer:
        if isinstance(outcome, Failure):
            return Answer(key, failure=outcome)
        handle = self._values.get(key)
        return Answer(
            key,
            cached=outcome.cached,
            seconds=outcome.seconds if outcome.seconds is not None else handle and handle.made.seconds,
            size=handle.size if handle else 0,
            inline=handle.data if isinstance(handle, Inline) else None,
        )

    def _finished(self, id: str) -> None:
        record = self._records[id]
        record.settle()
        record.ended = time.monotonic()
        self._ended.append((record.ended, id))
        for session_id in record.sessions:
            session = self._sessions.get(session_id)
            if session is not None:
                session.news.finished.append((id, record.state))
                session.wake.set()
        if record.accepted:
            self.spawn(self._write_record(record))

    async def _write_record(self, record: Record) -> None:
        name = f"{record.id}.{self.shard}"
        data = record.to_json()
        data["id"] = name
        await asyncio.to_thread(self._journal.write, name, data)

    # --- what engines ask

    async def submit(
        self, session: str, plans: Mapping[str, PlanPart], submissions: Sequence[Submission]
    ) -> list[Reply] | str:
        """Take requests in. Returns a reply each, or the digest of a registry that must be published first."""
        await self._up()
        for part in plans.values():
            for step in part.steps.values():
                if step.recipe.registry not in self._registries:
                    return step.recipe.registry
                break
        box = self._session(session)
        replies: list[Reply] = []
        journal: list[Record] = []
        live: dict[str, int] = collections.Counter(
            r.tenant for r in self._records.values() if r.state == "running"
        )
        for one in submissions:
            record = self._records.get(one.id)
            if record is None:
                if live[one.tenant] >= self.settings.limits.requests_per_tenant:
                    refused = (
                        f"tenant {one.tenant!r} has {live[one.tenant]} requests running, which is the limit"
                    )
                    replies.append(Reply(one.id, "failed", [], refused=refused))
                    continue
                live[one.tenant] += 1
                record = Record(one.id, tuple(plans[one.plan].targets), one.tenant, one.created)
                self._records[one.id] = record
                if one.record is not None:
                    record.accepted, record.body = True, one.record
                    journal.append(record)
                self._begin(
                    record,
                    plans[one.plan],
                    priority=one.priority,
                    load=one.load,
                    deadline=one.deadline_seconds,
                    refresh=one.refresh,
                )
            # Joined only now: what was answered at once is in the reply, what comes later is news.
            record.sessions.add(session)
            replies.append(record.reply(*self._progress(record)))
        for record in journal:
            if record.state == "running":
                await self._write_record(record)
        box.seen = time.monotonic()
        return replies

    def _begin(
        self,
        record: Record,
        part: PlanPart,
        *,
        priority: int,
        load: bool,
        deadline: float | None = None,
        refresh: bool = False,
    ) -> None:
        self.feed(
            ev.Requested(
                id=record.id,
                steps=part.steps,
                targets=[t.key for t in part.targets],
                priority=priority,
                tenant=record.tenant,
                deadline=None if deadline is None else time.monotonic() + deadline,
                refresh=refresh,
                load=load,
            )
        )

    def _progress(self, record: Record) -> tuple[int, int]:
        if record.id in self._ledger.requests:
            return self._ledger.progress(record.id)
        return len(record.targets), len(record.targets)

    async def accept(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        """Journal requests that are about to be answered 202; returns when they are on disk."""
        await self._up()
        writes = []
        for id, body in bodies.items():
            record = self._records.get(id)
            if record is not None and not record.accepted:
                record.accepted, record.body = True, body
                writes.append(self._write_record(record))
        await asyncio.gather(*writes)

    async def poll(self, session: str, timeout: float) -> News:
        """What happened to this session's requests; waits up to `timeout` seconds for something."""
        box = self._session(session)
        if not box.news:
            box.wake.clear()
            try:
                await asyncio.wait_for(box.wake.wait(), timeout)
            except TimeoutError:
                pass
        news, box.news = box.news, News()
        box.seen = time.monotonic()
        return news

    async def attach(self, session: str, id: str) -> Reply | None:
        """Tell a session all about a request, and from now on its news; None if it is unknown here."""
        await self._up()
        record = self._records.get(id)
        if record is None:
            data = await asyncio.to_thread(self._journal.read, f"{id}.{self.shard}")
            if data is None:
                return None
            record = self._records.setdefault(id, Record.from_json({**data, "id": id}))
            self._ended.append((time.monotonic(), id))
        self._session(session)
        record.sessions.add(session)
        return record.reply(*self._progress(record), full=True)

    async def progress(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """(done, total) steps of the requests that are known here."""
        return {id: self._progress(self._records[id]) for id in ids if id in self._records}

    async def withdraw(self, ids: Sequence[str], state: str = "cancelled") -> None:
        """End requests: their waiters leave; what others wait for goes on."""
        for id in ids:
            record = self._records.get(id)
            if record is None or record.state != "running":
                continue
            record.state = state
            self.feed(ev.Left(id))
            self._finished(id)

    async def get(self, keys: Sequence[str]) -> list[Found | None]:
        """Where the values of keys are; cold ones are read back first. None for keys without a value here."""
        await self._up()
        found: dict[str, Found | None] = {}
        cold: list[str] = []
        for key in keys:
            handle = self._values.get(key)
            entry = self._ledger.entries.get(key)
            if handle is not None and entry is not None and entry.state in AVAILABLE:
                recipe = entry.step.recipe
                found[key] = _found(key, recipe.feature, recipe.version, handle)
            elif key in self._index:
                cold.append(key)
            else:
                found[key] = None
        if cold:
            found.update(await self._shelf.read_through(cold))
        return [found[key] for key in keys]

    async def fetch(
        self, id: str, part: PlanPart, priority: int, tenant: str
    ) -> list[tuple[Answer, Found | None]]:
        """Another shard needs steps of this one: wait for them all and hand over their places."""
        session = f"peer/{id}"
        submission = Submission(id, "p", priority, tenant, None, False, True, time.time())
        replies = await self.submit(session, {"p": part}, [submission])
        if isinstance(replies, str):
            raise AmberError(f"registry {replies} is not known to shard {self.shard}")
        try:
            record = self._records[id]
            while record.state == "running":
                await self.poll(session, SESSION_SECONDS / 4)
        except asyncio.CancelledError:
            await self.withdraw([id])
            raise
        finally:
            self._sessions.pop(session, None)
        answers = list(record.answers.values())
        places = await self.get([a.key for a in answers if a.failure is None])
        by_key = {f.key: f for f in places if f is not None}
        self._records.pop(id, None)
        return [(a, by_key.get(a.key)) for a in answers]

    async def states(self, keys: Sequence[str]) -> dict[str, str]:
        """Each key's state, in the words of `ExplainedStep`."""
        await self._up()
        words = {
            State.ABSENT: "missing",
            State.WAITING: "queued",
            State.QUEUED: "queued",
            State.RUNNING: "running",
            State.HOT: "hot",
            State.KEPT: "kept",
            State.COLD: "cold",
            State.RESTORING: "cold",
            State.FAILED: "failed",
        }
        return {key: words[self._ledger.state_of(key)] for key in keys}

    async def expected(self, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
        """Mean seconds of one step of (feature, version), for those that have run."""
        known = self._ledger.costs.known()
        return {name: known[name][0] for name in names if name in known}

    async def lost(self, keys: Sequence[str]) -> None:
        """A reader could not get these values from the object store."""
        self.feed(ev.Lost([k for k in keys if isinstance(self._values.get(k), Slot)]))

    async def purge(self, asset: str | None, feature: str | None, version: str | None) -> list[str]:
        """Forget values, in memory and on disk; returns their keys. Only the first shard rewrites parts."""
        await self._up()
        return await self._shelf.purge(asset, feature, version)

    async def reindex(
        self, removed: Sequence[str], added: Mapping[str, np.ndarray], gone: Sequence[str]
    ) -> None:
        """Parts were rewritten: point the index at the new ones, and forget keys that are gone."""
        await self._up()
        for name in removed:
            self._index.remove_part(name)
        for name, keys in added.items():
            self._index.add(name, keys)
        if gone:
            self._index.remove(gone)
            self.feed(ev.Purged(list(gone)))
            for session in self._sessions.values():
                session.news.purged.extend(gone)
                session.wake.set()

    async def failures(self) -> list[Failure]:
        """The failures remembered now, those of blocked descendants left out."""
        return [
            e.failure
            for e in self._ledger.entries.values()
            if e.state is State.FAILED and e.failure is not None and e.failure.key == e.key
        ]

    async def pid(self) -> int:
        """This shard's process, on its node."""
        return os.getpid()

    async def timed_out(self, task: int, key: str) -> None:
        """A worker is about to end itself because this step ran past its timeout."""
        self._dispatch.timed_out[task] = key

    async def stats(self) -> dict[str, float]:
        """Counters and gauges of this shard."""
        ledger = self._ledger
        states = collections.Counter(e.state for e in ledger.entries.values())
        stats: dict[str, float] = {f"{name}_total": float(n) for name, n in ledger.counters.items()}
        stats |= {f"keys_{s.name.lower()}": float(states[s]) for s in State if s is not State.ABSENT}
        stats |= {
            "keys_indexed": float(len(self._index)),
            "index_bytes": float(self._index.nbytes),
            "hot_bytes": float(ledger.hot_bytes),
            "memory_budget_bytes": float(self.settings.memory_bytes),
            "unspilled_bytes": float(ledger.unspilled_bytes),
            "spilling_keys": float(len(ledger.spilling)),
            "tasks_running": float(len(ledger.tasks)),
            "requests_running": float(len(ledger.requests)),
            "requests_remembered": float(len(self._records)),
            "sessions": float(len(self._sessions)),
            "warm_actors": float(len(self._dispatch.pools)),
        }
        return stats

    # --- for dispatch and shelf, which are parts of this shell

    @property
    def ledger(self) -> Ledger:
        """The core."""
        return self._ledger

    @property
    def index(self) -> KeyIndex:
        """Where stored keys are."""
        return self._index

    @property
    def store(self) -> ValueStore:
        """The Parquet parts."""
        return self._store

    @property
    def values(self) -> dict[str, Handle]:
        """Handles of the values in memory, by key."""
        return self._values

    @property
    def registries(self) -> dict[str, Any]:
        """Refs of the code of every registry published here, oldest first."""
        return self._registries

    def blob(self, registry: str) -> Any:
        """The ref of a registry's code."""
        return self._registries[registry]

    # --- sessions

    def _session(self, id: str) -> Session:
        box = self._sessions.get(id)
        if box is None:
            box = self._sessions[id] = Session(time.monotonic())
        return box

    def _end_session(self, id: str) -> None:
        """An engine is gone: its requests that were not accepted have nobody left to answer."""
        del self._sessions[id]
        for record in list(self._records.values()):
            if id in record.sessions:
                record.sessions.discard(id)
                if record.state == "running" and not record.accepted and not record.sessions:
                    self.spawn(self.withdraw([record.id]))


def _registry(settings: Settings) -> Registry:
    """The registry that these settings name: the built-in features and the user's."""
    from amber_ray.features import BUILTINS

    return Registry.from_modules((*(BUILTINS if settings.builtins else ()), *settings.features))


def _replan(registry: Registry, settings: Settings, record: Record, shard: int) -> PlanPart:
    """Plan a journaled request again, with today's registry; the part of it that this shard owns."""
    body = record.body or {}
    assets = {i: asset_from_json(a) for i, a in (body.get("assets") or {}).items()}
    planner = Planner(
        registry,
        features=body["features"],
        params=body.get("params") or {},
        segment_seconds=settings.segment_seconds,
        shards=settings.shards,
        max_steps=settings.limits.steps_per_request,
    )
    span = tuple(body["range"]) if body.get("range") else None
    for asset in assets.values():
        planner.add_asset(asset, span)
    planner.add_collection(assets.values())
    plan = planner.plan()
    mine = [t for t in plan.targets if plan.steps[t.key].home == shard]
    return PlanPart(closure(plan.steps, [t.key for t in mine]), mine)


def _found(key: str, feature: str, version: str, handle: Handle) -> Found:
    if isinstance(handle, Inline):
        return Found(key, feature, version, inline=handle.data)
    return Found(key, feature, version, ref=[handle.ref], place=handle.place)
