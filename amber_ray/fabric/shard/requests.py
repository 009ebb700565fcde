"""The front desk of a shard: who asked for what, what they are to be told, and what is on paper.

Part of the cache actor's shell (`fabric.shard.actor`), on its event loop. A request is a record here and a
waiter in the ledger; the ledger forgets it with its last answer, the record keeps the answers for who asks
later. Sessions are engines: each polls for the news of all its requests at once.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.request import Failure
from amber_ray.core.planning.plan import Planner, closure
from amber_ray.core.state import events as ev
from amber_ray.errors import AmberError
from amber_ray.fabric.shard.records import Record, asset_from_json
from amber_ray.fabric.transport.messages import (
    Answer,
    Inline,
    MissingPlans,
    PlanPart,
    Reply,
    Submission,
    Updates,
)
from amber_ray.settings import Settings
from amber_ray.store.journal import Journal

if TYPE_CHECKING:
    from amber_ray.fabric.shard.actor import CacheActor

log = logging.getLogger("amber.desk")

SESSION_SECONDS = 60.0
"""A session that has not polled for so long is gone, and its unaccepted requests with it."""
BROKEN = 70
"""Exit code of a process whose ledger can't be trusted."""
RECORDS = 20_000
"""Requests remembered at most, finished ones leaving first."""
RECORD_SECONDS = 300.0
"""How long the answers of a finished request that was not journaled are remembered."""


class Session:
    """One engine that asks this shard: what it is to be told, and when it was last heard."""

    __slots__ = ("news", "seen", "wake")

    def __init__(self, now: float) -> None:
        self.news = Updates()
        self.wake = asyncio.Event()
        self.seen = now


class RequestTable:
    """Requests and sessions of one shard."""

    def __init__(self, actor: CacheActor) -> None:
        self._actor = actor
        self._settings = actor.settings
        self._journal = Journal(actor.settings.store)
        self._sessions: dict[str, Session] = {}
        self.records: dict[str, Record] = {}
        self._ended: collections.deque[tuple[float, str]] = collections.deque()
        self._live: collections.Counter[str] = collections.Counter()

    # --- what the ledger answers

    def deliver(self, id: str, key: str, outcome: ev.Ready | Failure) -> None:
        """The ledger answers a request about one key: note it and tell every session that follows it."""
        record = self.records[id]
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
        handle = self._actor.values.get(key)
        return Answer(
            key,
            cached=outcome.cached,
            seconds=handle.made.seconds if outcome.seconds is None and handle else outcome.seconds,
            size=handle.size if handle else 0,
            inline=handle.data if isinstance(handle, Inline) else None,
        )

    def finished(self, id: str) -> None:
        """The ledger has answered all of a request."""
        record = self.records[id]
        record.settle()
        self._live[record.tenant] -= 1
        record.ended = time.monotonic()
        self._ended.append((record.ended, id))
        for session_id in record.sessions:
            session = self._sessions.get(session_id)
            if session is not None:
                session.news.finished.append((id, record.state))
                session.wake.set()
        if record.accepted:
            self._actor.spawn(self._write_record(record))

    async def _write_record(self, record: Record) -> None:
        name = f"{record.id}.{self._actor.shard}"
        data = record.to_json()
        data["id"] = name
        await asyncio.to_thread(self._journal.write, name, data)

    # --- what engines ask

    async def submit(
        self, session: str, plans: Mapping[str, PlanPart], submissions: Sequence[Submission]
    ) -> list[Reply] | MissingPlans:
        """Take requests in. Returns a reply each, or which registry is to be published first."""
        for part in plans.values():
            for step in part.steps.values():
                if step.recipe.registry not in self._actor.registries:
                    return MissingPlans(registry=step.recipe.registry)
                break
        box = self._session(session)
        replies: list[Reply] = []
        journal: list[Record] = []
        for one in submissions:
            record = self.records.get(one.id)
            if record is None:
                if self._live[one.tenant] >= self._settings.limits.requests_per_tenant:
                    refused = (
                        f"tenant {one.tenant!r} has {self._live[one.tenant]} requests running, the limit"
                    )
                    replies.append(Reply(one.id, "failed", [], refused=refused))
                    continue
                record = Record(one.id, tuple(plans[one.plan].targets), one.tenant, one.created)
                self.records[one.id] = record
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
        # Each for itself: the store may refuse one, and the others of the batch have nothing to do with it.
        for record, error in zip(journal, await self._journaled(journal), strict=True):
            if error is not None:
                place = next(i for i, r in enumerate(replies) if r.id == record.id)
                replies[place] = dataclasses.replace(replies[place], unsaved=str(error))
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
        self._live[record.tenant] += 1
        self._actor.feed(
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
        if record.id in self._actor.ledger.requests:
            return self._actor.ledger.progress(record.id)
        return len(record.targets), len(record.targets)

    async def accept(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        """Journal requests that are about to be answered 202; returns when they are on disk."""
        writes = []
        for id, body in bodies.items():
            record = self.records.get(id)
            if record is not None and not record.accepted:
                record.accepted, record.body = True, body
                writes.append(record)
        for error in await self._journaled(writes):
            if error is not None:
                raise error

    async def _journaled(self, records: Sequence[Record]) -> list[AmberError | None]:
        """Write records of running requests; what went wrong with each. An unwritten one is no promise."""
        wanted = [r for r in records if r.state == "running"]
        outcomes = await asyncio.gather(*map(self._write_record, wanted), return_exceptions=True)
        errors: dict[str, AmberError] = {}
        for record, outcome in zip(wanted, outcomes, strict=True):
            if isinstance(outcome, AmberError):
                record.accepted = False
                errors[record.id] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
        return [errors.get(r.id) for r in records]

    async def poll(self, session: str, timeout: float) -> Updates:
        """What happened to this session's requests; waits up to `timeout` seconds for something."""
        box = self._session(session)
        if not box.news:
            box.wake.clear()
            try:
                async with asyncio.timeout(timeout):
                    await box.wake.wait()
            except TimeoutError:
                pass
        news, box.news = box.news, Updates()
        box.seen = time.monotonic()
        return news

    async def attach(self, session: str, id: str) -> Reply | None:
        """Tell a session all about a request, and from now on its news; None if it is unknown here."""
        record = self.records.get(id)
        if record is None:
            data = await asyncio.to_thread(self._journal.read, f"{id}.{self._actor.shard}")
            if data is None:
                return None
            record = self.records.setdefault(id, Record.from_json({**data, "id": id}))
            self._ended.append((time.monotonic(), id))
        self._session(session)
        record.sessions.add(session)
        return record.reply(*self._progress(record), full=True)

    def progress(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """(done, total) steps of the requests that are known here."""
        return {id: self._progress(self.records[id]) for id in ids if id in self.records}

    async def withdraw(self, ids: Sequence[str], state: str = "cancelled") -> None:
        """End requests: their waiters leave; what others wait for goes on."""
        for id in ids:
            record = self.records.get(id)
            if record is None or record.state != "running":
                continue
            record.state = state
            self._actor.feed(ev.Left(id))
            self.finished(id)

    async def resume(self, registry: Registry) -> None:
        """Go on with accepted requests that an earlier incarnation left unfinished."""
        shards = self._settings.shards
        for data in await asyncio.to_thread(lambda: list(self._journal.unfinished())):
            id, _, home = str(data["id"]).partition(".")
            # Requests of shards that no longer exist are taken over by the first.
            owner = int(home) if int(home) < shards else 0
            if owner != self._actor.shard or id in self.records:
                continue
            try:
                record = Record.from_json({**data, "id": id})
                part = _replan(registry, self._settings, record, self._actor.shard)
            except (AmberError, KeyError, ValueError, TypeError) as error:
                log.error("request %s can't be resumed: %s", id, error)
                await asyncio.to_thread(self._journal.write, data["id"], {**data, "state": "failed"})
                continue
            record.targets = tuple(part.targets)
            record.answers = {}
            record.state = "running"
            body = record.body or {}
            self.records[id] = record
            try:
                self._begin(record, part, priority=int(body.get("priority_rank", 2)), load=False)
            except Exception:  # noqa: BLE001 - a fault of Amber that would come back at each start
                log.critical("request %s stops Amber; it is set aside as failed", id)
                self._journal.write(data["id"], {**data, "state": "failed"})
                os._exit(BROKEN)

    # --- sessions

    def _session(self, id: str) -> Session:
        box = self._sessions.get(id)
        if box is None:
            box = self._sessions[id] = Session(time.monotonic())
        return box

    def sweep(self, now: float) -> None:
        """Forget sessions that are gone and records that are old."""
        for id, session in list(self._sessions.items()):
            if now - session.seen > SESSION_SECONDS:
                self.end(id)
        while self._ended and (now - self._ended[0][0] > RECORD_SECONDS or len(self.records) > RECORDS):
            record = self.records.get(self._ended[0][1])
            if record is not None and record.state != "running":
                del self.records[record.id]
            self._ended.popleft()

    async def sweep_journal(self) -> None:
        """Forget journaled requests past their retention."""
        await asyncio.to_thread(self._journal.sweep, time.time() - self._settings.request_seconds)

    def tell_purged(self, keys: Sequence[str]) -> None:
        """Every session lets go of its own copies."""
        for session in self._sessions.values():
            session.news.purged.extend(keys)
            session.wake.set()

    @property
    def sessions(self) -> int:
        """How many there are."""
        return len(self._sessions)

    def end(self, session: str) -> None:
        """An engine is gone: its requests that were not accepted have nobody left to answer."""
        self._sessions.pop(session, None)
        for record in list(self.records.values()):
            if session in record.sessions:
                record.sessions.discard(session)
                if record.state == "running" and not record.accepted and not record.sessions:
                    self._actor.spawn(self.withdraw([record.id]))


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
