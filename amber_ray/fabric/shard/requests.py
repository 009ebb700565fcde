"""Requests and sessions of a shard: who asked for what, what they are to be told, and what is on paper.

A request is a record here and a waiter in the ledger. The ledger forgets it with its last answer; the record
keeps the answers for whoever asks later. A session is an engine: it polls for the updates of all its requests
at once, and names the last updates that it received, so an answer that was lost on the way is sent again.

Several engines may follow one request, since any of them can be asked about it. Those that submitted it have
an interest in it, numbered by their attempt, so that a withdrawal that comes late, or twice, ends nothing but
the interest it was meant for. The request itself ends with the last interest in it, unless it was accepted.

Must not know: how a key comes to its value, where the journal is.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.asked import Place, RequestInfo, noted
from amber_ray.core.model.kept import Kept
from amber_ray.core.model.pages import Told, first
from amber_ray.core.model.request import Failure
from amber_ray.core.model.unit_codec import asset_from_json
from amber_ray.core.model.units import Collection as AssetCollection
from amber_ray.core.model.units import Segment
from amber_ray.core.planning.pins import old
from amber_ray.core.planning.plan import Planner, Target, closure
from amber_ray.core.state import events as ev
from amber_ray.errors import AmberError, DamagedRecord, StoreError, Unavailable
from amber_ray.fabric.shard.context import ShardContext
from amber_ray.fabric.shard.records import Record
from amber_ray.fabric.shard.tallies import Tallies
from amber_ray.fabric.transport.messages import (
    NO_COUNTS,
    Answer,
    Counts,
    Found,
    FoundUnit,
    Inline,
    MissingPlans,
    PlanPart,
    Reply,
    Standing,
    Submission,
    Updates,
)
from amber_ray.settings import Settings

log = logging.getLogger("amber.requests")

SESSION_SECONDS = 60.0
"""A session that has not polled for so long is gone, and its unaccepted requests with it."""
BROKEN = 70
"""Exit code of a process whose ledger can't be trusted."""
CENSUS_SECONDS = 2.0
"""Longest wait for what engines have counted; one that said nothing is asked again only once it is heard."""
RECORDS = 20_000
"""Requests remembered at most; finished ones leave first."""
PLACES, PLACES_BYTES = 256, 16 << 20
"""Most large values whose places come with one message, and their bytes: whoever reads asks for the rest."""
RECORD_SECONDS = 300.0
"""How long the answers of a finished request that was not journaled are remembered."""


class Session:
    """One engine that asks this shard.

    - `stream`: of its updates, another one whenever the session is made anew: numbers alone would begin again
      and could be taken for those of before;
    - `number`: of the updates that were handed out last; `sent`: all that were not acknowledged yet;
      `updates`: what happened since;
    - `seen`: when it was last heard;
    - `withdrawn`: attempts that were withdrawn, and when: a call may come late, or twice;
    - `hurry`: it is to poll again at once, to say what it has counted; `heard`: set by its next poll;
      `silent`: it was asked to, and did not.
    """

    __slots__ = (
        *("heard", "hurry", "number", "seen", "sent", "silent", "stream", "updates", "wake", "withdrawn"),
    )

    def __init__(self, stream: str, now: float) -> None:
        self.stream = stream
        self.number = 0
        self.sent = Updates()
        self.updates = Updates()
        self.wake = asyncio.Event()
        self.seen = now
        self.withdrawn: dict[int, float] = {}
        self.hurry = self.silent = False
        self.heard = asyncio.Event()


class RequestTable:
    """Requests and sessions of one shard."""

    def __init__(self, context: ShardContext) -> None:
        self._context = context
        self._settings = context.settings
        self._shard = context.shard
        self._journal = context.ports.journal
        self._sessions: dict[str, Session] = {}
        self._records: dict[str, Record] = {}
        self._ended: collections.deque[tuple[float, str]] = collections.deque()
        self._running: collections.Counter[str] = collections.Counter()
        self._ends: dict[str, asyncio.Event] = {}
        self._code: Callable[[], Awaitable[Registry]] | None = None
        self._tallies = Tallies(context.incarnation)

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, id: str) -> bool:
        return id in self._records

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        return len(self._sessions)

    def record(self, id: str) -> Record | None:
        """What is known of a request; None if nothing is."""
        return self._records.get(id)

    # --- what the ledger answers

    def deliver(self, id: str, key: str, outcome: ev.Ready | Failure) -> None:
        """The ledger answers a request about one key: note it and tell every session that follows it."""
        record = self._records[id]
        answer = self._answer(key, outcome)
        record.answers[key] = answer
        if record.internal and (handle := self._context.values.get(key)) is not None:
            # Held from now on: a transient value is dropped by the next command, another may be evicted.
            record.held[key] = handle
        for session in self._followers(record):
            # An equal answer is sent as one object, whoever it is for.
            known = session.updates.answers.get(key)
            shared = known if known == answer else answer
            session.updates.answers[key] = shared
            session.updates.about.append((id, shared))
            session.wake.set()

    def expanded(self, id: str, key: str, units: Sequence[Segment], keys: Sequence[str]) -> None:
        """The windows that a request asked about are known: units are its targets in the place of `key`."""
        record = self._records[id]
        found = tuple(
            FoundUnit(its, unit.start_us, unit.length_us, unit.found)
            for unit, its in zip(units, keys, strict=True)
        )
        record.expanded[key] = found
        if record.refresh and keys:
            self._context.refreshing.update(keys)
            self._context.changed(list(keys))
        for session in self._followers(record):
            session.updates.expanded.append((id, (key, found)))
            session.wake.set()

    def _answer(self, key: str, outcome: ev.Ready | Failure) -> Answer:
        if isinstance(outcome, Failure):
            return Answer(key, failure=outcome)
        handle = self._context.values.get(key)
        return Answer(
            key,
            cached=outcome.cached,
            seconds=handle.made.seconds if outcome.seconds is None and handle else outcome.seconds,
            size=handle.size if handle else 0,
            inline=handle.data if isinstance(handle, Inline) else None,
            part=handle.part if isinstance(handle, Inline) else "",
        )

    def _places(self, answers: Iterable[Answer]) -> dict[str, Found]:
        """Where the first of those values are, by key, that do not travel with their answers."""
        places: dict[str, Found] = {}
        left = PLACES_BYTES
        for answer in answers:
            if answer.failure is not None or answer.inline is not None or answer.key in places:
                continue
            found = self._context.found(answer.key)
            if found is not None:
                left -= found.size
                if len(places) == PLACES or (places and left < 0):
                    break
                places[answer.key] = found
        return places

    def _reads(self, session: str, id: str) -> bool:
        """Whether the callers of a session read all values of a request."""
        record = self._records.get(id)
        return record is not None and session in record.readers

    def _followers(self, record: Record) -> Iterable[Session]:
        sessions = map(self._sessions.get, record.followers)
        return [session for session in sessions if session is not None]

    def finished(self, id: str) -> None:
        """The ledger has answered all of a request, or it was ended: tell everyone who follows it."""
        record = self._records[id]
        record.settle()
        if record.state != "cancelled" and not record.internal and (trouble := record.trouble(self._shard)):
            log.warning("%s", trouble, extra={"id": id})
        self._count(record, -1)
        self._context.traces.answered(id, record.state)
        if (end := self._ends.pop(id, None)) is not None:
            end.set()
        record.ended = self._context.clock.now()
        self._ended.append((record.ended, id))
        for session in self._followers(record):
            session.updates.finished.append((id, record.state))
            session.wake.set()
        if record.accepted:
            self._context.spawn(self._journal_again(record))

    def _count(self, record: Record, change: int) -> None:
        """Note that a tenant has one more or one less request running."""
        if not record.internal:
            self._running[record.tenant] += change
            if not self._running[record.tenant]:
                del self._running[record.tenant]

    async def _journal_again(self, record: Record) -> None:
        """Note in the journal what has become of an accepted request.

        An end that could not be noted is no loss: the next incarnation resumes the request and finds its
        values.
        """
        try:
            async with record.saving:  # one after the other: an older word must not replace a newer one
                await self._write(record)
        except AmberError as error:
            log.error("what became of it could not be journaled: %s", error, extra={"id": record.id})

    async def _write(self, record: Record) -> None:
        name = f"{record.id}.{self._context.shard}"
        await self._journal.write(name, record.to_json() | {"id": name})

    # --- what engines ask

    async def submit(
        self, session: str, plans: Mapping[str, PlanPart], submissions: Sequence[Submission]
    ) -> list[Reply] | MissingPlans:
        """Take requests in. Returns a reply each, or which registry is to be published first."""
        for part in plans.values():
            registry = _registry_of(part)
            if registry and registry not in self._context.registries:
                return MissingPlans(registry=registry)
        replies: list[Reply] = []
        to_journal: list[Record] = []
        for one in submissions:
            reply = self._admit(session, one, plans[one.plan])
            replies.append(reply)
            record = self._records.get(one.id)
            taken_in = record is not None and not (reply.refused or reply.taken)
            if one.record is not None and record is not None and taken_in:
                _promise(record, one.record)
                to_journal.append(record)
        # Each for itself: the store may refuse one, and the others of the batch have nothing to do with it.
        # A request that is over and all of which is here needs none, and the reply says so. Where other
        # shards have a part, a record is written even if this part is over: whoever asks later would miss it.
        # The same goes for one with a callback: whoever is called comes for its answers, maybe days later.
        errors = await self._accept([r for r in to_journal if _outlives(r)])
        for reply in replies:
            if (error := errors.get(reply.id)) is not None:
                reply.unsaved = str(error)
        return replies

    def _admit(self, session: str, one: Submission, part: PlanPart) -> Reply:
        """Take one request in, or join it to the one that is known by its id. Nothing is awaited here."""
        now = self._context.clock.now()
        box = self._session(session)
        if one.attempt in box.withdrawn:
            # Its caller has gone, and that was heard here first: calls overtake each other, or come twice.
            return Reply(one.id, "cancelled", [])
        record = self._records.get(one.id)
        old: Record | None = None
        if record is not None and not _same_keys(record, part):
            if record.registry == _registry_of(part):
                return Reply(one.id, "failed", [], taken=True)
            # The code changed between the two plans: a resumed request was planned anew, or a newer engine
            # asks. The record gives way, since whoever asks now has the code for what they ask.
            old, record = record, None
            self._replace(old)
        positions, shards = tuple(one.positions) or tuple(range(len(part.targets))), tuple(one.shards)
        if record is not None and (record.positions, record.shards) != (positions, shards):
            # An asset could be resolved for one of two that asked, and not for the other: the newer one
            # counts.
            record.positions, record.shards, record.created = positions, shards, one.created
            record.about = one.about
            if record.accepted:
                self._context.spawn(self._journal_again(record))
            self._tell_replaced(record, session)
        if record is not None:
            context = self._context
            if record.state == "running":
                context.traces.asked(one.id, one.trace, record.tenant, len(record.targets))
                context.traces.joined(one.id)
        else:
            refused = self._refused(one.tenant)
            if refused and old is None:
                return Reply(one.id, "failed", [], refused=refused)
            record = Record(
                one.id,
                tuple(part.targets),
                positions,
                shards,
                one.tenant,
                one.created,
                registry=_registry_of(part),
                about=one.about,
                refresh=one.refresh,
                deadline=None
                if one.deadline_seconds is None
                else self._context.clock.unix() + one.deadline_seconds,
            )
            self._records[one.id] = record
            if old is not None:
                record.accepted, record.body, record.saved = old.accepted, old.body, old.saved
                record.saving = old.saving
                record.interest, record.followers = old.interest, old.followers
                record.readers = old.readers
            self._begin(
                record,
                part,
                priority=one.priority,
                load=one.load,
                located=one.created,
                answered=one.answered,
                trace=one.trace,
            )
            if old is not None:
                self._tell_replaced(record, session)
                if record.accepted:
                    self._context.spawn(self._journal_again(record))
        # The session follows it only now: what was answered at once is in the reply, what comes later is
        # updates.
        record.interest[session] = max(one.attempt, record.interest.get(session, 0))
        record.followers[session] = None
        box.seen = now
        reply = record.reply(self._progress(record), self._context.changes)
        if one.reading:
            record.readers.add(session)
            reply.places = list(self._places(record.answers.values()).values())
        return reply

    def _refused(self, tenant: str) -> str:
        running, most = self._running[tenant], self._settings.limits.requests_per_tenant
        return f"tenant {tenant!r} has {running} requests running, the limit" if running >= most else ""

    def _replace(self, record: Record) -> None:
        """Let a request go that is about to be asked for again with other keys."""
        del self._records[record.id]
        if record.state == "running":
            self._count(record, -1)
            self._context.feed(ev.Left(record.id))

    def _tell_replaced(self, record: Record, but: str) -> None:
        """Have the other followers of a request ask again what it is about."""
        for name in record.followers:
            box = self._sessions.get(name)
            if box is not None and name != but:
                box.updates.replaced.append(record.id)
                box.wake.set()

    def begin_for_peer(
        self, id: str, part: PlanPart, priority: int, tenant: str, trace: str = ""
    ) -> asyncio.Event:
        """Take in another shard's question; the event is set when it has its answers, or was abandoned.

        The work was admitted where it came in, so no bound of a tenant applies. A question that arrives twice
        is one question.
        """
        end = self._ends.get(id)
        if end is None:
            end = self._ends[id] = asyncio.Event()
            record = Record(
                id,
                tuple(part.targets),
                tuple(range(len(part.targets))),
                (self._context.shard,),
                tenant,
                self._context.clock.unix(),
                internal=True,
            )
            self._records[id] = record
            self._begin(record, part, priority=priority, load=True, trace=trace)
        return end

    def forget(self, id: str) -> None:
        """Drop another shard's question; one that still runs ends."""
        record = self._records.get(id)
        if record is not None:
            self.cancel([id])
            del self._records[id]

    def _begin(
        self,
        record: Record,
        part: PlanPart,
        *,
        priority: int,
        load: bool,
        located: float = 0.0,
        answered: bool = False,
        trace: str = "",
    ) -> None:
        """Make a record's targets the ledger's business; `answered`: they are no hits (see `Submission`)."""
        context = self._context
        self._count(record, +1)
        keys = [t.key for t in part.targets]
        deadline = None
        if record.deadline is not None:
            deadline = context.clock.now() + record.deadline - context.clock.unix()
        if record.refresh and keys:
            context.refreshing.update(keys)
            context.changed(keys)
        context.traces.asked(record.id, trace, record.tenant, len(keys))
        context.feed(
            ev.Requested(
                id=record.id,
                steps=part.steps,
                targets=keys,
                priority=priority,
                tenant=record.tenant,
                deadline=deadline,
                refresh=record.refresh,
                load=load,
                located=located,
                counted=not (record.internal or answered),
            )
        )
        context.traces.joined(record.id)

    def _progress(self, record: Record) -> tuple[int, int]:
        ledger = self._context.ledger
        if record.id in ledger.requests:
            return ledger.progress(record.id)
        known = record.known_count()
        return known, known

    async def accept(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        """Journal requests that are about to be answered 202; returns when they are durable. `StoreError`."""
        records = []
        for id, body in bodies.items():
            record = self._records.get(id)
            if record is not None:
                _promise(record, body)
                records.append(record)
        # Also those that are over: the engine has not heard that, and promises them.
        for error in (await self._accept(records)).values():
            raise error

    async def _accept(self, wanted: Sequence[Record]) -> dict[str, AmberError]:
        """Write records; what went wrong, by id. An unwritten one is no promise."""
        outcomes = await asyncio.gather(*map(self._save, wanted))
        return {r.id: error for r, error in zip(wanted, outcomes, strict=True) if error is not None}

    async def _save(self, record: Record) -> AmberError | None:
        """Write a record that is about to be promised, unless that is on paper already; what went wrong.

        Whoever asks while it is being written waits for that: a promise is none before it is durable.
        """
        async with record.saving:
            if record.state == "cancelled" and self._records.get(record.id) is not record:
                # The last of those who waited left while this did. On paper it were cancelled for good, and
                # whoever asks again, or is to be called, would be told so.
                return Unavailable(f"nobody waited for request {record.id!r} any more; ask for it again")
            body = record.body
            if record.saved is None or record.saved is not body:
                try:
                    await self._write(record)
                except AmberError as error:
                    record.accepted = record.saved is not None
                    self._drop_unwanted(record)  # who waited may have left while it counted as accepted
                    return error
                record.saved = body
            record.accepted = True
        return None

    async def poll(
        self, session: str, stream: str, seen: int, timeout: float, counts: Counts = NO_COUNTS
    ) -> Updates:
        """What happened to a session's requests since updates number `seen`, which are acknowledged by this.

        Waits up to `timeout` seconds for something, unless the stream is not the one that the engine knows:
        it polls for updates of a session that was given up, or that another incarnation had. `counts`: what
        the engine has counted.
        """
        box = self._session(session)
        self._tallies.note(session, counts)
        box.hurry = box.silent = False
        box.heard.set()
        known = stream == box.stream
        if known and box.sent.number == seen:
            box.sent = Updates()
        box.seen = self._context.clock.now()
        if known and not (box.sent or box.updates or box.hurry):
            box.wake.clear()
            try:
                async with asyncio.timeout(timeout):
                    await box.wake.wait()
            except TimeoutError:
                pass
        # What another poll of this session was given meanwhile, and its sender may never get, is given again.
        box.number += 1
        box.updates.places = self._places(
            answer for id, answer in box.updates.about if self._reads(session, id)
        )
        box.sent = _joined(box.sent, box.updates, self._context.changes)
        box.sent.stream, box.sent.number = box.stream, box.number
        box.sent.incarnation = self._context.incarnation
        box.updates = Updates()
        box.seen = self._context.clock.now()
        return box.sent

    async def counted(self, session: str, counts: Counts) -> dict[str, int]:
        """What all engines have counted by themselves: this session, which says it here, and the others.

        Those are asked, by ending the poll that they wait in: the next one says it. An engine that says
        nothing within `CENSUS_SECONDS` has ended, and counts as it was last heard.
        """
        self._tallies.note(session, counts)
        others = [box for id, box in self._sessions.items() if id != session and not box.silent]
        for box in others:
            box.heard.clear()
            box.hurry = True
            box.wake.set()
        try:
            async with asyncio.timeout(CENSUS_SECONDS):
                for box in others:
                    await box.heard.wait()
        except TimeoutError:
            for box in others:
                box.silent = not box.heard.is_set()
        return self._tallies.total()

    async def attach(self, session: str, id: str) -> Reply | None:
        """Tell a session all about a request, and from now on its updates; None if it is unknown here."""
        record = await self._recall(id)
        if record is None:
            return None
        self._session(session)
        record.followers[session] = None
        return record.reply(self._progress(record), self._context.changes, full=True)

    async def _recall(self, id: str) -> Record | None:
        """The record of a request that is remembered, or in the journal.

        Raises `DamagedRecord`, and `StoreError` if it can't be read now.
        """
        if id in self._records:
            return self._records[id]
        data = await self._journal.read(f"{id}.{self._context.shard}")
        if id in self._records or data is None:
            return self._records.get(id)  # it may have been asked for while the journal was read
        record = _understood(data, id)
        if record.state == "running":
            # Its end could not be journaled, and the record has been forgotten since.
            await self._go_on(record, data)
        else:
            self._records[id] = record
            record.ended = self._context.clock.now()
            self._ended.append((record.ended, id))
        return self._records[id]

    def progress(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """(done, total) steps of the requests that are known here."""
        return {id: self._progress(self._records[id]) for id in ids if id in self._records}

    def withdraw(self, session: str, attempts: Mapping[str, int]) -> None:
        """A session's interest in requests has ended: a request goes with the last interest, unless accepted.

        `attempts` are those withdrawn, by request; a newer attempt of the same session stays.
        """
        box = self._session(session)
        for id, attempt in attempts.items():
            record = self._records.get(id)
            box.withdrawn[attempt] = self._context.clock.now()
            if record is not None and record.interest.get(session) == attempt:
                del record.interest[session]
                self._drop_unwanted(record)

    def _drop_unwanted(self, record: Record) -> None:
        """End a running request that nobody follows any more and that was promised to nobody."""
        if record.interest or record.accepted or record.state != "running":
            return
        if self._records.get(record.id) is not record:
            return  # another plan has taken its place
        record.state = "cancelled"
        self._context.feed(ev.Left(record.id))
        self.finished(record.id)
        del self._records[record.id]  # so that the same id begins it anew

    def cancel(self, ids: Sequence[str]) -> None:
        """End requests for everyone who follows them; what others wait for goes on."""
        for id in ids:
            record = self._records.get(id)
            if record is not None and record.state == "running":
                record.state = "cancelled"
                self._context.feed(ev.Left(id))
                self.finished(id)

    async def standing(self, ids: Sequence[str], counted: Collection[str]) -> dict[str, Standing]:
        """How this shard's parts of requests stand, of those that it knows: remembered, or in the journal.

        Of one that runs, answers are counted only if it is among `counted`. Each stands for itself: one whose
        record can't be read now may still run, and one whose record is damaged is not known any more.
        """
        found: dict[str, Standing] = {}
        for id in ids:
            try:
                record = await self._recall(id)
            except DamagedRecord as error:
                log.error("what became of it is lost: %s", error, extra={"id": id})
            except StoreError as error:
                log.warning("it is not known how it stands: %s", error, extra={"id": id})
                found[id] = Standing("running", 0.0, (), 0, 0)
            else:
                if record is not None:
                    found[id] = record.standing(count=record.state != "running" or id in counted)
        return found

    async def told(self, tenant: str | None, after: Place | None, most: int) -> Told[RequestInfo]:
        """The newest of the requests that are remembered here or on paper, after a place; of one tenant.

        Other shards' questions are none. What is here counts: paper may be a moment behind.
        """
        on_paper = await self._journal.told(self._is_here, self._noted)
        found: dict[str, RequestInfo | Record] = {one.id: one for one in on_paper if one is not None}
        found |= {record.id: record for record in self._records.values() if not record.internal}
        its = first((one for one in found.values() if tenant in (None, one.tenant)), after, most)
        infos = (one.info(self._shard) if isinstance(one, Record) else one for one in its.values)
        return Told(tuple(infos), its.end)

    def _is_here(self, name: str) -> bool:
        """Whether a record on paper is of a part that this shard has, or has taken over."""
        home = name.rpartition(".")[2]
        if not home.isdecimal():
            return False
        return (int(home) if int(home) < self._settings.shards else 0) == self._shard

    def _noted(self, data: Mapping[str, Any]) -> RequestInfo | None:
        try:
            return noted(data, self._shard)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("the request's record is not understood: %r", error, extra={"id": data.get("id")})
            return None

    # --- a new incarnation

    async def resume(self, code: Callable[[], Awaitable[Registry]]) -> None:
        """Go on with accepted requests that an earlier incarnation left unfinished.

        `code` loads the registry that plans them, and is called only if there are any.
        """
        self._code = code
        for data in await self._journal.unfinished():
            id, _, home = str(data["id"]).partition(".")
            # Requests of shards that no longer exist are taken over by the first.
            owner = int(home) if int(home) < self._settings.shards else 0
            if owner == self._context.shard and id not in self._records:
                try:
                    record = _understood(data, id)
                except DamagedRecord as error:
                    log.error("the request can't be resumed: %s", error, extra={"id": id})
                else:
                    await self._go_on(record, data)

    async def _go_on(self, record: Record, data: Mapping[str, Any]) -> None:
        """Begin a journaled request again; one that can't be is remembered as failed."""
        assert self._code is not None
        registry = await self._code()
        try:
            part, positions, shards = await self._plan_again(registry, record)
        except (AmberError, KeyError, ValueError, TypeError) as error:
            log.error("the request can't be resumed: %s", error, extra={"id": record.id})
            record.state = "failed"
            record.answers = {}
            self._records.setdefault(record.id, record)
            await self._journal_again(record)
            return
        if record.id in self._records:
            return  # its engine brought it while it was planned
        record.targets, record.positions, record.shards = tuple(part.targets), positions, shards
        record.registry = registry.digest
        record.answers, record.expanded = {}, {}
        record.state = "running"
        self._records[record.id] = record
        try:
            body = record.body or {}
            self._begin(
                record,
                part,
                priority=int(body.get("priority_rank", 2)),
                load=False,
                located=self._context.clock.unix(),
                trace=str(body.get("trace", "")),
            )
        except Exception:
            log.critical(
                "the request stops Amber; it is set aside as failed", exc_info=True, extra={"id": record.id}
            )
            await self._journal.write(str(data["id"]), {**data, "state": "failed"})
            self._context.process.end(BROKEN)

    async def _plan_again(
        self, registry: Registry, record: Record
    ) -> tuple[PlanPart, tuple[int, ...], tuple[int, ...]]:
        """Plan a journaled request with today's registry, and with its assets where they are today."""
        body = record.body or {}
        assets = {i: asset_from_json(a) for i, a in (body.get("assets") or {}).items()}
        try:
            moved = await self._context.ports.assets.current(list(assets))
        except AmberError as error:
            log.warning(
                "the request goes on with its assets as they were: %s", error, extra={"id": record.id}
            )
            moved = {}
        assets.update({i: asset for i, asset in moved.items() if i in assets})
        units = [*assets, AssetCollection.of(assets.values()).unit_id] if assets else []
        kept = {
            one.asked: await self._context.parts.kept(one.feature, one.version, units)
            for one in old(registry, body["features"])
        }
        return _plan(registry, self._settings, body, list(assets.values()), self._context.shard, kept)

    # --- sessions

    def _session(self, id: str) -> Session:
        box = self._sessions.get(id)
        if box is None:
            box = self._sessions[id] = Session(
                self._context.ports.process.new_id(), self._context.clock.now()
            )
        return box

    def sweep(self, now: float) -> None:
        """Forget sessions that are gone and records that are old."""
        for id, session in list(self._sessions.items()):
            if now - session.seen > SESSION_SECONDS:
                self.end(id)
            for attempt, since in list(session.withdrawn.items()):
                if now - since > SESSION_SECONDS:
                    del session.withdrawn[attempt]
        while self._ended and (now - self._ended[0][0] > RECORD_SECONDS or len(self._records) > RECORDS):
            since, id = self._ended.popleft()
            record = self._records.get(id)
            if record is not None and record.state != "running" and record.ended == since:
                del self._records[id]

    async def sweep_journal(self) -> None:
        """Forget journaled requests past their retention."""
        await self._journal.sweep(self._context.clock.unix() - self._settings.request_seconds)

    def tell_changed(self, keys: Sequence[str] | None) -> None:
        """Every session lets go of its copies of these values; None: of all values."""
        for session in self._sessions.values():
            session.updates.changed.extend(keys or ())
            session.updates.purged |= keys is None
            session.wake.set()

    def end(self, session: str, counts: Counts = NO_COUNTS) -> None:
        """A session is over: its requests that were not accepted have nobody left to answer."""
        self._tallies.note(session, counts)
        self._tallies.gone(session)
        box = self._sessions.pop(session, None)
        if box is not None:
            box.heard.set()
        for record in list(self._records.values()):
            record.followers.pop(session, None)
            record.readers.discard(session)
            if record.interest.pop(session, None) is not None:
                self._drop_unwanted(record)


def _understood(data: Mapping[str, Any], id: str) -> Record:
    """A record on paper. Raises `DamagedRecord` for JSON that is none."""
    try:
        return Record.from_json({**data, "id": id})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedRecord(f"the record of request {id!r} is not understood: {error!r}") from error


def _registry_of(part: PlanPart) -> str:
    """The registry that a plan is of; empty for an empty plan."""
    return next((step.recipe.registry for step in part.steps.values()), "")


def _outlives(record: Record) -> bool:
    """Whether a request that is about to be answered has to be in the journal."""
    called = bool((record.body or {}).get("callback"))
    return record.state == "running" or len(record.shards) > 1 or called


def _promise(record: Record, body: Mapping[str, Any]) -> None:
    """A request is about to be accepted, by what it is about now. Asked again, it stays as it is on paper."""
    known = record.saved or record.body
    others = {"created": 0.0, "trace": ""}
    if known is None or {**known, **others} != {**body, **others}:
        record.body = body
    record.accepted = True


def _same_keys(record: Record, part: PlanPart) -> bool:
    """Whether a plan answers the keys that a record is about."""
    mine, theirs = record.targets, part.targets
    return mine is theirs or {t.key for t in mine} == {t.key for t in theirs}


def _joined(first: Updates, second: Updates, changes: int) -> Updates:
    """Two updates as one. The first is not changed: it may be on its way to its reader."""
    if not first:
        second.changes = changes
        return second
    return Updates(
        "",
        0,
        first.answers | second.answers,
        first.about + second.about,
        first.finished + second.finished,
        first.replaced + second.replaced,
        first.changed + second.changed,
        first.purged or second.purged,
        changes,
        expanded=first.expanded + second.expanded,
        places=first.places | second.places,
    )


def _plan(
    registry: Registry,
    settings: Settings,
    body: Mapping[str, Any],
    assets: Sequence[Any],
    shard: int,
    kept: Mapping[str, Kept],
) -> tuple[PlanPart, tuple[int, ...], tuple[int, ...]]:
    """The part of a request that a shard owns, its targets' positions, and all shards that have a part.

    Raises `FeatureMismatch` if the registry's features are not those that were meant.
    """
    registry.confirm(body.get("expect") or {})
    planner = Planner(
        registry,
        features=body["features"],
        params=body.get("params") or {},
        segment_seconds=settings.segment_seconds,
        shards=settings.shards,
        max_steps=settings.limits.steps_per_request,
        kept=kept,
    )
    span = tuple(body["range"]) if body.get("range") else None
    for asset in assets:
        planner.add_asset(asset, span)
    planner.add_collection(assets)
    plan = planner.plan()
    mine: list[Target] = []
    positions: list[int] = []
    for position, target in enumerate(plan.targets):
        if plan.steps[target.key].home == shard:
            mine.append(target)
            positions.append(position)
    shards = tuple(sorted({plan.steps[target.key].home for target in plan.targets}))
    return PlanPart(closure(plan.steps, [t.key for t in mine]), mine), tuple(positions), shards
