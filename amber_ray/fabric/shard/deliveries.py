"""Deliveries: who asked to be called when a request has ended is called, across whatever dies meanwhile.

News of demands is sent as well: its messages come from the desk of demands (`demands`), ready to be sent.

Only the first shard does this, since it owns the store. Nothing here follows events: each look compares what
is promised with how the requests stand, and what is to be sent with the clock. So a look that was missed
costs a second, and a new incarnation needs nothing but the records.

    engine ──promise──→ waiting ──look: all parts have ended──→ pending ──look: it is time──→ sent
               │ written            │ asks every shard            │ written before it is sent │
               └ answered after     └ `RequestTable.standing`     └ same id, same bytes       └ is written

A promise that could not be written is none: its caller is refused, and nothing is told. A request that was
over when its caller was answered may be in no journal, so its end is written with the promise; it is told of
where no shard knows better and no part of the request goes on.

A message is sent at least once: if the process dies after the receiver has answered and before that is
written, it is sent again, under the same id. Records of what is over are kept for `request_seconds`.

Must not know: HTTP, what a shard's ledger does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from amber_ray.core.deliveries.policy import Policy
from amber_ray.core.deliveries.record import Delivery, Outcome
from amber_ray.core.deliveries.signature import headers
from amber_ray.core.model.audit import told_url
from amber_ray.core.model.callback import DELIVERY_STATES, DeliveryState, DeliveryView
from amber_ray.core.model.stats import series
from amber_ray.errors import AmberError, BadRequest, Overloaded, RequestMismatch, StoreError, UnknownDelivery
from amber_ray.fabric.shard.context import ShardContext
from amber_ray.fabric.shard.ports import CallFailed
from amber_ray.fabric.shard.requests import RequestTable
from amber_ray.fabric.transport.messages import Promise, Standing

log = logging.getLogger("amber.deliveries")

LOOK_SECONDS = 1.0
"""How often a shard looks; so much later than its request's end a message may be sent."""
ASK_SECONDS = 10.0
"""Longest wait for another shard's answer; one that says nothing is asked by the next look."""
ASK_AT_ONCE = 1000
SEND_SECONDS = 30.0
"""Longest time that sending a message may take, with the look-up of the name and the receiver's answer."""
SENDING, SENDING_TO_ONE = 32, 4
"""Messages that are sent at once, in all and to one host: one that is slow must not hold up the others."""
LOST_SECONDS = 60.0
"""A request that no shard knows for so long is lost, and with it what would be told."""
ROOM_SECONDS = 120.0
"""How long room is held for the callback of a request of which nobody says what came of it."""
FORGET_SECONDS = 60.0
KEPT = 20_000
"""Deliveries that are over and remembered at most; those that ended first are forgotten first."""
WRITES = 8
"""Records that are written at once: the threads that write them are the store's as well."""
SHOWN = 1000
"""Most deliveries that are told at once."""


class End(NamedTuple):
    """What became of a whole request, or has so far: its state, and how many results are there."""

    state: str
    ready: int
    failed: int


class Deliveries:
    """The deliveries of a store. Belongs to the first shard's event loop."""

    def __init__(self, context: ShardContext, requests: RequestTable) -> None:
        self._context = context
        self._requests = requests
        self._book = context.ports.deliveries
        self._policy = Policy.of(context.settings)
        self._known: dict[str, Delivery] = {}
        self._open: dict[DeliveryState, dict[str, None]] = {"waiting": {}, "pending": {}}
        self._unsaved: dict[str, None] = {}
        self._saving: dict[str, asyncio.Lock] = {}
        self._sending: dict[str, str] = {}
        self._said: dict[str, tuple[int, str]] = {}
        self._lost: dict[str, float] = {}
        self._room: dict[str, tuple[str, float]] = {}
        self._attempts: Counter[str] = Counter(taken=0, refused=0, unanswered=0)
        self._loaded = False
        self._loading = asyncio.Lock()
        self._forgot = 0.0

    # --- what engines ask

    async def reserve(self, request: str, tenant: str) -> None:
        """Hold room for a request's callback until it is promised or released. Twice is once.

        Raises `Overloaded` at the tenant's bound: before the request is accepted, so nothing is half done.
        """
        await self._load()
        now = self._context.clock.now()
        self._room = {id: held for id, held in self._room.items() if held[1] > now}
        if f"end_{request}" not in self._known and request not in self._room:
            self._admit(tenant)
            self._room[request] = tenant, now + ROOM_SECONDS

    def release(self, request: str) -> None:
        """A request was refused: its callback needs no room."""
        self._room.pop(request, None)

    async def room(self, tenant: str, count: int) -> None:
        """Raise `Overloaded` where a tenant may not have so many more messages to be sent; `StoreError`."""
        await self._load()
        self._admit(tenant, count)

    async def announce(self, one: Delivery) -> None:
        """Keep a message that is to be sent now; it is durable when this returns. Twice is once.

        Raises `StoreError`; then a look writes it, unless this process ends before.
        """
        await self._load()
        if one.id not in self._known:
            self._set(one)
        await self._save(one.id)

    async def promise(self, one: Promise) -> None:
        """Keep that a request's end is to be told; it is durable when this returns. Twice is once.

        Its request is accepted by now, so there is room, whether any was reserved in this incarnation or not.
        Raises `RequestMismatch` if another callback was promised for the request, and `StoreError`: then
        nobody is answered, nothing is kept, and nothing will be told. Asked again, the request may come to
        another end.
        """
        await self._load()
        id = f"end_{one.request}"
        async with self._writing(id):
            known = self._known.get(id)
            if known is not None and not known.is_for(one.callback):
                raise RequestMismatch(
                    f"request {one.request!r} was asked for with another callback; "
                    "choose a new id for each request"
                )
            now = self._context.clock.unix()
            if known is not None:
                # One that is on paper was promised while its request went on, most often. What the shards say
                # of its end counts; what is said here counts if they know nothing of it any more.
                await self._keep(known.promised(one.failed_assets, one.end), known)
            else:
                first = Delivery(
                    id, one.request, one.tenant, one.callback.url, one.callback.on, now, one.failed_assets
                )
                made = first if one.end is None else self._told(first, End(*one.end), now)
                if made is not None and made.id == id:
                    await self._keep(made, None)
                elif made is not None:
                    async with self._writing(made.id):
                        await self._keep(made, self._known.get(made.id))
                        self._tells(made)
            self.release(one.request)

    def _admit(self, tenant: str, count: int = 1) -> None:
        most = self._context.settings.limits.deliveries_per_tenant
        waiting = (self._known[id] for ids in self._open.values() for id in ids)
        room = sum(whose == tenant for whose, _ in self._room.values())
        if room + sum(one.tenant == tenant for one in waiting) + count > most:
            raise Overloaded(f"tenant {tenant!r} has {most} callbacks that are still to be made, the limit")

    async def views(self, state: DeliveryState | None, tenant: str | None) -> list[DeliveryView]:
        """The newest deliveries, newest first: of a state and of a tenant, or of any."""
        await self._load()
        found = [
            one for one in self._known.values() if state in (None, one.state) and tenant in (None, one.tenant)
        ]
        found.sort(key=lambda one: (one.created, one.id), reverse=True)
        return [one.view() for one in found[:SHOWN]]

    async def replay(self, id: str, tenant: str | None) -> DeliveryView:
        """Send a message again, whatever came of it. Raises `UnknownDelivery`, `BadRequest`, `StoreError`."""
        await self._load()
        known = self._known.get(id)
        if known is None or tenant not in (None, known.tenant):
            raise UnknownDelivery(f"no delivery has the id {id!r}; GET /v1/deliveries lists them")
        again = known.replayed(self._context.clock.unix())
        self._set(again)
        await self._save(id)
        return again.view()

    def stats(self) -> dict[str, float]:
        """Gauges and counters."""
        states = Counter(one.state for one in self._known.values())
        told = {series("deliveries", state=state): float(states[state]) for state in DELIVERY_STATES}
        return told | {
            series("delivery_attempts_total", outcome=outcome): float(n)
            for outcome, n in self._attempts.items()
        }

    # --- what is kept

    async def _load(self) -> None:
        """Read the records, once in the life of the process. Raises `StoreError`."""
        async with self._loading:
            if self._loaded:
                return
            for one in await self._book.all():
                self._note(one)
                if one.type == RESULT:
                    self._tells(one)
            self._loaded = True

    def _note(self, one: Delivery) -> None:
        self._known[one.id] = one
        for state, ids in self._open.items():
            if one.state == state:
                ids[one.id] = None
            else:
                ids.pop(one.id, None)

    def _set(self, one: Delivery) -> None:
        """Another record takes the place of one; it is to be written."""
        self._note(one)
        self._unsaved[one.id] = None

    async def _save(self, id: str) -> None:
        """Write a record as it is by now, unless that is done. Raises `StoreError`; a look tries again.

        One write at a time of each record: an older one must not overtake a newer one.
        """
        async with self._writing(id):
            one = self._known.get(id)
            if one is not None and id in self._unsaved:
                await self._keep(one, one)

    async def _keep(self, one: Delivery, known: Delivery | None) -> None:
        """Write a record in the place of the one that is known, unless it is on paper. Raises `StoreError`.

        Then nothing has changed. What took the known one's place meanwhile stays, and is written after this.
        """
        if one != known or one.id in self._unsaved:
            await self._book.write(one)
            if self._known.get(one.id) is known:
                self._note(one)
                self._unsaved.pop(one.id, None)

    @contextlib.asynccontextmanager
    async def _writing(self, id: str) -> AsyncIterator[None]:
        """Hold the right to write a record; it has no lock any more once nothing is known of it."""
        while True:
            lock = self._saving.setdefault(id, asyncio.Lock())
            async with lock:
                if self._saving.get(id) is not lock:
                    continue  # the record was forgotten, and perhaps made anew, while this waited
                try:
                    yield
                finally:
                    if id not in self._known:
                        del self._saving[id]
                return

    async def _drop(self, id: str) -> None:
        """Forget a record."""
        async with self._writing(id):
            await self._book.remove(id)
            self._known.pop(id, None)
            self._unsaved.pop(id, None)
            self._lost.pop(id, None)
            for ids in self._open.values():
                ids.pop(id, None)

    # --- a look

    async def look(self) -> None:
        """Write what is not written, find out which requests have ended, and send what is due.

        Raises `StoreError`; what could be done has been.
        """
        await self._load()
        trouble: StoreError | None = None
        for work in (self._save_all, self._settle, self._forget):
            try:
                await work()
            except StoreError as error:
                trouble = error
        self._send_due()
        if trouble is not None:
            raise trouble

    async def _save_all(self) -> None:
        await _at_once(map(self._save, list(self._unsaved)))

    async def _forget(self) -> None:
        """Forget what has been over for long."""
        now = self._context.clock.unix()
        if now - self._forgot < FORGET_SECONDS:
            return
        self._forgot = now
        before = now - self._context.settings.request_seconds
        over = sorted((one for one in self._known.values() if not one.open), key=lambda one: one.ended)
        old = [one for n, one in enumerate(over) if one.ended < before or n < len(over) - KEPT]
        await _at_once(self._drop(one.id) for one in old)
        for one in old:
            if self._said.get(one.request, (0, ""))[1] == one.id:
                del self._said[one.request]

    # --- requests end

    async def _settle(self) -> None:
        """Make messages of requests that have ended, and of results for those who want to hear of them."""
        waiting = [self._known[id] for id in self._open["waiting"]]
        if not waiting:
            return
        counted = {one.request for one in waiting if "result" in one.on}
        standings, all_heard = await self._ask([one.request for one in waiting], counted)
        await _at_once(self._settle_one(one, standings.get(one.request, {}), all_heard) for one in waiting)

    async def _settle_one(self, one: Delivery, parts: Mapping[int, Standing], all_heard: bool) -> None:
        if self._known.get(one.id) is not one:
            return
        end = _joined(parts)
        if end is None and all_heard and not any(part.state == "running" for part in parts.values()):
            # Some shard lacks its part. That can be of a request that was over when its caller was answered:
            # what came of it was told, and perhaps no journal has it.
            if one.end is None:
                await self._is_lost(one)
            else:
                end = End(*one.end)
        if end is None:
            return
        self._lost.pop(one.id, None)
        if end.state == "running":
            await self._tell_results(one, end)
        else:
            await self._tell_end(one, end)

    async def _is_lost(self, one: Delivery) -> None:
        """Every shard was asked, and none knows all of a request: give it up if that goes on for long."""
        now = self._context.clock.unix()
        if now - self._lost.setdefault(one.id, now) > LOST_SECONDS:
            log.error("it is not known any more; nobody can be told of its end", extra={"id": one.request})
            self._set(one.given_up(UNKNOWN, now))
            await self._save(one.id)

    async def _ask(
        self, ids: Sequence[str], counted: Collection[str]
    ) -> tuple[dict[str, dict[int, Standing]], bool]:
        """How the parts of requests stand, by shard; and whether every shard has answered."""
        shards = range(self._context.settings.shards)
        chunks = [ids[at : at + ASK_AT_ONCE] for at in range(0, len(ids), ASK_AT_ONCE)]
        answers = await asyncio.gather(
            *(self._ask_one(n, chunk, counted) for n in shards for chunk in chunks)
        )
        standings: dict[str, dict[int, Standing]] = {}
        for shard, answer in answers:
            for id, standing in (answer or {}).items():
                standings.setdefault(id, {})[shard] = standing
        return standings, all(answer is not None for _, answer in answers)

    async def _ask_one(
        self, shard: int, ids: Sequence[str], counted: Collection[str]
    ) -> tuple[int, Mapping[str, Standing] | None]:
        some = [id for id in ids if id in counted]
        try:
            async with asyncio.timeout(ASK_SECONDS):
                if shard == self._context.shard:
                    return shard, await self._requests.standing(ids, some)
                return shard, await self._context.ports.peers.call(shard, "standing", ids, some)
        except (CallFailed, AmberError, TimeoutError) as error:
            log.info("shard %d does not say how requests stand: %s", shard, error)
            return shard, None

    async def _tell_results(self, one: Delivery, end: End) -> None:
        """A message for results that have come since the last one, unless that is still to be sent."""
        _, last = self._said.get(one.request, (0, ""))
        sent = self._known.get(last)
        if sent is None or not sent.open:
            made = self._results(one, end, self._context.clock.unix())
            if made is not None:
                await self._make(made)

    async def _tell_end(self, one: Delivery, end: End) -> None:
        """A request has ended: its message is to be sent, if its caller wants to hear of such an end."""
        made = self._told(one, end, self._context.clock.unix())
        if made is not None:
            await self._make(made)
        elif last := self._said.get(one.request, (0, ""))[1]:
            await self._save(last)  # nothing else tells of these results
        if made is None or made.id != one.id:
            await self._drop(one.id)

    async def _make(self, made: Delivery) -> None:
        self._set(made)
        if made.type == RESULT:
            self._tells(made)
        await self._save(made.id)

    def _told(self, one: Delivery, end: End, now: float) -> Delivery | None:
        """What tells of a request's end: its message, or one of results that nothing tells of, or nothing."""
        if ("done" if end.state == "done" else "failed") in one.on:
            type = f"request.{end.state}"
            return one.pending(type, message(type, one, end, now), now)
        return self._results(one, end, now)

    def _results(self, one: Delivery, end: End, now: float) -> Delivery | None:
        """A message of results, if its caller wants to hear of them and they are more than were told of."""
        come = end.ready + end.failed
        if "result" not in one.on or come <= self._said.get(one.request, (0, ""))[0]:
            return None
        id = f"r{come}_{one.request}"
        made = Delivery(id, one.request, one.tenant, one.url, one.on, now, one.failed_assets)
        return made.pending(RESULT, message(RESULT, one, end, now), now)

    def _tells(self, one: Delivery) -> None:
        """Note how many results a message about results tells of."""
        come = int(one.id.partition("_")[0].removeprefix("r"))
        self._said[one.request] = max(self._said.get(one.request, (0, "")), (come, one.id))

    # --- messages are sent

    def _send_due(self) -> None:
        """Send what is due and written, the longest due first."""
        now = self._context.clock.unix()
        hosts = Counter(self._sending.values())
        due = [
            one
            for one in map(self._known.__getitem__, self._open["pending"])
            if one.next_at <= now and one.id not in self._sending and one.id not in self._unsaved
        ]
        for one in sorted(due, key=lambda one: (one.next_at, one.id)):
            if len(self._sending) >= SENDING:
                return
            host = one.url.partition("://")[2].partition("/")[0]
            if hosts[host] < SENDING_TO_ONE:
                hosts[host] += 1
                self._sending[one.id] = host
                self._context.spawn(self._send(one))

    async def _send(self, one: Delivery) -> None:
        try:
            outcome = await self._attempt(one)
            self._attempts["taken" if outcome.taken else "refused" if outcome.status else "unanswered"] += 1
            # It may have been asked for again meanwhile: this attempt counts for that, too.
            known = self._known.get(one.id)
            if known is None or known.state != "pending":
                return
            tried = known.attempted(outcome, self._context.clock.unix())
            self._set(tried)
            about, to = {"request": one.request} if one.request else {}, told_url(one.url)
            if tried.state == "failed":
                log.error("delivery %s to %s is given up: %s", one.id, to, tried.error, extra=about)
            elif tried.state == "pending":
                log.warning("delivery %s to %s will be sent again: %s", one.id, to, tried.error, extra=about)
            try:
                await self._save(one.id)
            except StoreError as error:
                log.error("what became of delivery %s could not be written yet: %s", one.id, error)
        finally:
            del self._sending[one.id]
        self._send_due()

    async def _attempt(self, one: Delivery) -> Outcome:
        try:
            url = self._policy.allow(one.url)  # settings may have changed since it was promised
        except BadRequest as error:
            return Outcome(error=str(error))
        body = one.body.encode()
        signed = headers(self._policy.secrets, one.id, int(self._context.clock.unix()), body)
        try:
            async with asyncio.timeout(SEND_SECONDS):
                return await self._context.ports.sender.post(url, signed, body)
        except TimeoutError:
            return Outcome(error=f"no answer within {SEND_SECONDS:g} s")


RESULT = "request.result"
UNKNOWN = "its request is not known any more"


async def _at_once(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do it all, a few at a time. Raises the first `StoreError`, once all has been tried."""
    gate = asyncio.Semaphore(WRITES)

    async def one(coroutine: Coroutine[Any, Any, None]) -> None:
        async with gate:
            await coroutine

    for outcome in await asyncio.gather(*map(one, work), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _joined(parts: Mapping[int, Standing]) -> End | None:
    """What became of a request by what its shards say; None if nobody knows it, or not all of it is known."""
    if not parts:
        return None
    newest = max(parts.values(), key=lambda part: part.created)
    shards = newest.shards or tuple(parts)
    if not all(shard in parts for shard in shards):
        return None
    mine = [parts[shard] for shard in shards]
    ready, failed = sum(part.ready for part in mine), sum(part.failed for part in mine)
    return End(_state(part.state for part in mine), ready, failed)


def _state(states: Iterable[str]) -> str:
    """The state of a request by those of its parts: done if any has a value."""
    told = set(states)
    return next((state for state in ("running", "cancelled", "done") if state in told), "failed")


def timestamp(now: float) -> str:
    """A Unix time as messages have it: RFC 3339, in UTC."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")


def message(type: str, one: Delivery, end: End, now: float) -> str:
    """The body of a message: what it is of and where to ask, and no values."""
    told = {
        "type": type,
        "timestamp": timestamp(now),
        "data": {
            "request": one.request,
            "tenant": one.tenant,
            "state": end.state,
            "results": {"ready": end.ready, "failed": end.failed},
            "failed_assets": one.failed_assets,
            "links": {"request": f"/v1/requests/{one.request}"},
        },
    }
    return json.dumps(told)
