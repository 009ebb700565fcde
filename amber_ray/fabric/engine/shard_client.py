"""One engine's connection to one shard: calls gathered into few, updates polled, a restart survived.

What bounds a shard is calls per second. So requests that arrive while a call is under way go out together in
the next one, and all answers come by one long poll, however many callers wait.

What is to be brought to the shard is kept as a state, not as calls: `_requests` are those that this engine
wants the shard to work on or follows there, `_unsent` those of them that the shard has yet to be told of. A
call that fails puts its requests back into `_unsent`, and so does a shard that started over: it has forgotten
them all, and whatever was read from it before may be old (`_renew`). Requests carry their ids and attempts,
so one that the shard knows is joined and not repeated, and every call here can be made twice.

A shard that started over is noticed in three ways, whichever is first: a call fails and the shard introduces
itself with another incarnation; it says that it does not know the session; its updates have been numbered
anew.

Must not know: what callers wait for, Ray.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from amber_ray.errors import AmberError, StoreError, Unavailable
from amber_ray.fabric.engine.ports import Clock, ShardGone, ShardPort
from amber_ray.fabric.transport.messages import (
    KEPT_STEPS,
    Counts,
    Hello,
    MissingPlans,
    PlanPart,
    Reply,
    Submission,
    Updates,
    Values,
)

log = logging.getLogger("amber.shard_client")

UP_SECONDS = 120.0
"""Longest wait for a shard to come up: it reads the keys of the whole store first."""
REVIVE_SECONDS = 120.0
"""Longest wait for a shard that died, before those who wait are told."""
CALL_SECONDS = 300.0
"""Longest wait for what one call asks, restarts included."""
POLL_SECONDS = 20.0
DOUBT_SECONDS = 8.0
"""How long copies are believed while the shard can't be heard: values may be purged elsewhere meanwhile."""
POLL_GRACE_SECONDS = 20.0
"""How much longer than it was asked to wait a poll may take before it is given up and made again."""
PROGRESS_SECONDS = 5.0
"""Longest wait for how far a request is, which nothing depends on."""
FOLLOW_SECONDS = 30.0
"""How long a followed request may be unknown to a shard that started over: another engine will bring it."""
PAUSE_SECONDS = 0.2
CLOSE_SECONDS = 5.0
MISSING_PLANS = 8
"""How often a shard may ask for plans or code in a row."""
NAMED_FIRST = range(512, KEPT_STEPS + 1)
"""Steps of plans that are only named at first: another engine may have sent them before. To send one of 512
steps, and have it unpacked, takes four times as long as to ask, and larger ones than these are not kept."""
SENT = 10_000
"""Names of plans that the shard is believed to know."""


class Mark(NamedTuple):
    """When something was read: the epoch of the connection, and the shard's count of changed values."""

    epoch: int
    changes: int


class Listener(Protocol):
    """What is told of a shard; calls never wait."""

    def replied(self, shard: int, reply: Reply, *, attempt: int = 0, fresh: bool = False) -> None:
        """The shard told all it knows of a request; `attempt`: it was submitted, and this is the answer.

        What is not `fresh` may be old and must not be kept.
        """
        ...

    def refused(self, shard: int, id: str, attempt: int, error: BaseException) -> None:
        """The shard did not take a request in."""
        ...

    def vanished(self, shard: int, id: str) -> None:
        """The shard does not know a request any more, and nobody brings it again."""
        ...

    def updated(self, shard: int, updates: Updates, *, fresh: bool) -> None:
        """Something happened to requests, or values changed."""
        ...

    def doubted(self, shard: int) -> None:
        """The shard started over, or was not heard for long: what was read from it may be old."""
        ...


@dataclass(slots=True, eq=False)
class Sent:
    """A request at the shard.

    - `attempt`: this engine's number for its interest in it, 0 if it only follows it;
    - `submission` and `part`: what the shard is told, if this engine submits it; `deadline`: until when, on
      the engine's clock;
    - `ask`: the shard is to be asked about it (`attach`) once it has it; `replaced`: from now on always;
    - `ended`: the shard said that it was cancelled;
    - `taken`: set while the shard knows of it, and when it is no longer among `_requests`;
    - `admitted`: the shard took it in at least once; `journaled`: it has it in the journal; `unsaved`: why
      not;
    - `withdrawn`: nobody here wants it any more;
    - `calls`: how often it was sent; `since`: when it first could not be told to the shard.
    """

    id: str
    attempt: int = 0
    submission: Submission | None = None
    part: PlanPart | None = None
    deadline: float | None = None
    ask: bool = False
    replaced: bool = False
    ended: bool = False
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    admitted: bool = False
    journaled: bool = False
    unsaved: str = ""
    withdrawn: bool = False
    calls: int = 0
    since: float | None = None


class ShardClient:
    """Use `open` first. All methods belong to one event loop."""

    def __init__(
        self,
        number: int,
        port: ShardPort,
        session: str,
        blobs: Mapping[str, bytes],
        clock: Clock,
        listener: Listener,
        counts: Mapping[str, int],
        measured: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self.number = number
        self._port = port
        self._session = session
        self._blobs = blobs
        self._clock = clock
        self._listener = listener
        self._counts = counts
        self._measured = measured
        self._counted_for = ""  # the incarnation that is told what was counted since `_counted_before`
        self._counted_before: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._incarnation = ""
        self._connection = 0  # counts reconnections, so that of many calls that fail together one reconnects
        self._doubt: asyncio.TimerHandle | None = None
        self._epoch = 0  # counts the times that the shard started over
        self._stream = ""
        self._seen = 0
        self._changes = 0
        self._plans: set[str] = set()
        self._requests: dict[str, Sent] = {}
        self._unsent: dict[str, Sent] = {}
        self._withdrawn: dict[int, str] = {}
        self._cancelled: dict[str, list[asyncio.Future[None]]] = {}
        self._polling: asyncio.Task[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self._closed = False

    # --- life

    async def open(self) -> Hello:
        """Connect, bring the code, start polling. Raises `Unavailable`, `StoreBusy`, `BadRequest`."""
        try:
            hello = await self._port.connect(UP_SECONDS)
            async with asyncio.timeout(UP_SECONDS):
                await self._greet(hello)
        except (ShardGone, TimeoutError) as error:
            raise Unavailable(f"shard {self.number} did not come up: {error}") from error
        self._polling = asyncio.create_task(self._poll())
        return hello

    async def _greet(self, hello: Hello) -> None:
        """Make this session known to a new incarnation.

        The first poll comes before any request: from then on a stream of updates that is another tells that
        the shard started over, or gave this session up. Raises `ShardGone`.
        """
        # A copy: callers register features meanwhile, and have them published by a call of their own.
        for digest, blob in list(self._blobs.items()):
            if digest not in hello.registries:
                await self._port.call("publish", digest, blob)
        updates: Updates = await self._port.call("poll", self._session, "", 0, 0.0, self._counted())
        self._incarnation = hello.incarnation
        self._renew()
        self._stream, self._seen = updates.stream, updates.number
        self._is_counted(Counts("", {}), updates.incarnation)
        self._apply(updates, Mark(self._epoch, updates.changes))

    def _renew(self) -> None:
        """The shard started over: it is to be told everything again, and nothing read before may be kept."""
        self._epoch += 1
        self._seen = self._changes = 0
        self._plans.clear()
        for sent in self._requests.values():
            self._resend(sent)
        self._listener.doubted(self.number)

    async def close(self) -> None:
        """Send what is still to be sent, for a few seconds; then leave. Unaccepted requests end with that."""
        if self._sending is not None and not self._sending.done():
            await asyncio.wait({self._sending}, timeout=CLOSE_SECONDS)
        self._closed = True
        self._hears()
        tasks = [t for t in (self._polling, self._sending, self._reconnecting) if t is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for sent in list(self._requests.values()):
            self._drop(sent)
        self._fail_cancellations(self._closing())
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._port.call("leave", self._session, self._counted())
        except (ShardGone, AmberError, TimeoutError) as error:
            log.info("shard %d was not told that this engine leaves: %s", self.number, error)

    def _closing(self) -> Unavailable:
        return Unavailable("this engine is closed")

    # --- requests

    def submit(self, part: PlanPart, submission: Submission) -> None:
        """Have the shard work on a request from now on; the listener is told what comes of it."""
        old = self._requests.get(submission.id)
        if old is not None:
            self._drop(old)
        seconds = submission.deadline_seconds
        sent = Sent(
            submission.id,
            submission.attempt,
            submission,
            part,
            None if seconds is None else self._clock.now() + seconds,
        )
        self._requests[sent.id] = sent
        self._resend(sent)

    def follow(self, id: str, epoch: int | None = None) -> None:
        """Be told of a request from now on. `epoch`: the shard was asked about it in that epoch already."""
        sent = self._requests.get(id)
        if sent is None:
            sent = self._requests[id] = Sent(id, ask=True)
            if epoch == self._epoch:
                sent.taken.set()
                return
        sent.ask = True
        self._resend(sent)

    def confirm(self, id: str, *, replaced: bool = False, ended: bool = False) -> None:
        """Ask the shard what is true of a request; the listener is told its whole knowledge.

        `replaced`: the shard said that it is about other targets now; `ended`: that it was cancelled.
        """
        self.follow(id)
        self._requests[id].replaced |= replaced
        self._requests[id].ended |= ended

    def forget(self, id: str) -> None:
        """The request is over here; it need not be brought again."""
        sent = self._requests.get(id)
        if sent is not None:
            self._drop(sent)

    def withdraw(self, id: str, attempt: int) -> None:
        """This engine's interest in a request ended. The shard is told as soon as it can be."""
        sent = self._requests.get(id)
        if sent is not None and sent.attempt == attempt:
            sent.withdrawn = True
            self._drop(sent)
            if not sent.calls:
                return
        self._withdrawn[attempt] = id
        self._poke()

    async def cancel(self, id: str) -> None:
        """End a request for everyone; the listener has been told what became of it when this returns.

        Raises `Unavailable`.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._cancelled.setdefault(id, []).append(future)
        self._poke()
        await self._bounded(future, "cancel")

    async def accept(self, part: PlanPart, submission: Submission) -> None:
        """Have a request journaled, whose `record` is given; returns when it is, or is no longer wanted.

        Raises `StoreError`, `Unavailable`.
        """
        await self._bounded(self._accept(part, submission), "accept")

    async def _accept(self, part: PlanPart, submission: Submission) -> None:
        id = submission.id
        sent = self._requests.get(id)
        if sent is None or sent.submission is None:
            self.submit(part, submission)  # its part is done, and must not be missing from the journal
            sent = self._requests[id]
        elif sent.attempt != submission.attempt:
            return
        elif sent.submission.record is None:
            # From now on it travels along whenever the request is sent again. A new object: the old one may
            # be on its way.
            sent.submission = dataclasses.replace(sent.submission, record=submission.record)
        while True:
            await sent.taken.wait()
            if sent.unsaved:
                why, sent.unsaved = sent.unsaved, ""
                raise StoreError(why)
            if self._closed or sent.withdrawn or sent.journaled:
                return
            known_as = self._requests.get(id)
            if known_as is not sent:
                if known_as is not None:
                    return  # a newer attempt has taken its place
                # It ended here, and the shard may have started over since: it must be in the journal all the
                # same.
                self.submit(part, submission)
                sent = self._requests[id]
                continue
            epoch = self._epoch
            await self.call("accept", {id: submission.record})
            # A shard that started over unnoticed does not know the request, and has journaled nothing.
            known = await self.call("progress", [id])
            if epoch == self._epoch and self._requests.get(id) is sent:
                if id in known:
                    sent.journaled = True
                    return
                self._resend(sent)

    async def progress(self, id: str) -> tuple[int, int] | None:
        """(done, total) steps of a request; None if the shard does not say so soon."""
        epoch = self._epoch
        try:
            async with asyncio.timeout(PROGRESS_SECONDS):
                known: Mapping[str, tuple[int, int]] = await self._port.call("progress", [id])
        except (ShardGone, AmberError, TimeoutError) as error:
            log.info("shard %d does not say how far it is: %s", self.number, error, extra={"id": id})
            return None
        sent = self._requests.get(id)
        if id not in known and sent is not None and sent.taken.is_set() and epoch == self._epoch:
            self._resend(sent)  # it should know it
        return known.get(id)

    async def attach(self, id: str) -> tuple[Reply | None, int]:
        """All about a request, and the epoch in which the shard was asked; see `follow`."""
        epoch = self._epoch
        reply: Reply | None = await self.call("attach", self._session, id)
        return reply, epoch

    # --- what is counted

    async def stats(self) -> dict[str, float]:
        """The shard's counters and gauges; the first shard's with what all engines have counted."""
        asked = () if self.number else (self._session, self._counted())
        stats: dict[str, float] = await self.call("stats", *asked)
        return stats

    def _counted(self) -> Counts:
        """What this engine has counted since the shard began, as far as it is known to have."""
        before = self._counted_before
        totals = {name: total - before.get(name, 0) for name, total in self._counts.items()}
        return Counts(self._counted_for, totals, self._measured())

    def _is_counted(self, counted: Counts, incarnation: str) -> None:
        """The shard has heard this. One that started over begins at nought, as all its counters do."""
        if counted.incarnation == incarnation:
            for name, total in counted.totals.items():
                self._told[name] = self._counted_before.get(name, 0) + total
        elif incarnation != self._counted_for:
            self._counted_for = incarnation
            self._counted_before = dict(self._told)

    # --- values

    async def get(self, keys: Sequence[str]) -> tuple[Values, Mark]:
        """Where the values of keys are, and when that was said; see `is_fresh`."""
        epoch = self._epoch
        values: Values = await self.call("get", keys)
        mark = Mark(epoch, values.changes)
        self._hear(mark)
        return values, mark

    def is_fresh(self, mark: Mark) -> bool:
        """Whether nothing is known to have changed at the shard since; what is not fresh must not be kept."""
        return mark.epoch == self._epoch and mark.changes >= self._changes

    def _hear(self, mark: Mark) -> None:
        if mark.epoch == self._epoch:
            self._changes = max(self._changes, mark.changes)

    # --- calls

    def is_reviving(self) -> bool:
        """Whether the shard's process is gone, and another one waited for."""
        return self._reconnecting is not None and not self._reconnecting.done()

    async def call(self, method: str, *arguments: Any, seconds: float = CALL_SECONDS) -> Any:
        """Call the shard; while it restarts, wait and call again. All calls are repeatable. `Unavailable`."""
        return await self._bounded(self._persist(method, arguments), method, seconds)

    async def _persist(self, method: str, arguments: Sequence[Any]) -> Any:
        while True:
            connection = self._connection
            try:
                return await self._port.call(method, *arguments)
            except ShardGone as error:
                if self._closed:
                    raise self._closing() from error
            await self._reconnect(connection)

    async def _bounded(
        self,
        work: Coroutine[Any, Any, Any] | asyncio.Future[None],
        what: str,
        seconds: float = CALL_SECONDS,
    ) -> Any:
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError as error:
            raise Unavailable(f"shard {self.number} did not answer {what!r} within {seconds:g} s") from error

    async def _reconnect(self, connection: int) -> None:
        """Wait for the shard, once however many calls of this connection failed. Raises `Unavailable`."""
        if connection != self._connection:
            return  # another call has seen to it since
        if not self.is_reviving():
            self._reconnecting = asyncio.create_task(self._bring_back())
            self._reconnecting.add_done_callback(_noticed)
        assert self._reconnecting is not None
        await asyncio.shield(self._reconnecting)

    async def _bring_back(self) -> None:
        give_up = self._clock.now() + REVIVE_SECONDS
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            try:
                async with asyncio.timeout(REVIVE_SECONDS):
                    hello = await self._port.connect(max(0.1, give_up - self._clock.now()))
                    if hello.incarnation != self._incarnation:
                        await self._greet(hello)
            except (ShardGone, Unavailable, TimeoutError) as error:
                if self._closed or self._clock.now() >= give_up:
                    raise Unavailable(
                        f"shard {self.number} did not come back within {REVIVE_SECONDS:g} s"
                    ) from error
            else:
                self._connection += 1
                return

    # --- updates

    async def _poll(self) -> None:
        """Hear what happens, for as long as the engine lives."""
        while not self._closed:
            connection, epoch = self._connection, self._epoch
            try:
                async with asyncio.timeout(POLL_SECONDS + POLL_GRACE_SECONDS):
                    counted = self._counted()
                    updates: Updates = await self._port.call(
                        "poll", self._session, self._stream, self._seen, POLL_SECONDS, counted
                    )
                self._is_counted(counted, updates.incarnation)
                mark = Mark(epoch, updates.changes)
                if epoch == self._epoch:
                    if updates.stream != self._stream:
                        self._renew()
                        mark = Mark(self._epoch, updates.changes)
                    self._stream, self._seen = updates.stream, updates.number
                self._apply(updates, mark)
                self._hears()
            except (ShardGone, TimeoutError):
                self._hears_nothing()
                try:
                    await self._reconnect(connection)
                except Exception as error:  # also of a bug: without polls this engine would hear nothing more
                    log.error("%s", error, exc_info=not isinstance(error, AmberError))
                    await asyncio.sleep(1.0)
            except Exception:
                log.exception("updates of shard %d could not be had", self.number)
                await asyncio.sleep(1.0)

    def _hears_nothing(self) -> None:
        """A poll failed. Copies are let go of unless one succeeds soon."""
        if self._doubt is None:
            loop = asyncio.get_running_loop()
            self._doubt = loop.call_later(DOUBT_SECONDS, self._listener.doubted, self.number)

    def _hears(self) -> None:
        if self._doubt is not None:
            self._doubt.cancel()
            self._doubt = None

    def _apply(self, updates: Updates, mark: Mark) -> None:
        """Tell the listener. Updates that come twice, or of an incarnation that is gone, do no harm."""
        self._hear(mark)
        self._listener.updated(self.number, updates, fresh=mark.epoch == self._epoch)

    # --- sending

    def _resend(self, sent: Sent) -> None:
        """The shard is to be told of a request, again if need be."""
        sent.taken.clear()
        self._unsent[sent.id] = sent
        self._poke()

    def _resend_later(self, sent: Sent, seconds: float = 1.0) -> None:
        def again() -> None:
            if not self._closed and self._requests.get(sent.id) is sent:
                self._resend(sent)

        asyncio.get_running_loop().call_later(seconds, again)

    def _drop(self, sent: Sent) -> None:
        """Let go of a request here."""
        if self._requests.get(sent.id) is sent:
            del self._requests[sent.id]
        if self._unsent.get(sent.id) is sent:
            del self._unsent[sent.id]
        sent.taken.set()

    def _poke(self) -> None:
        if not self._closed and (self._sending is None or self._sending.done()):
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        """Tell the shard what it is to be told, one call after the other, until nothing is left.

        Withdrawals are told after the submission that they are about has been answered, and cancellations
        before a request is sent again, so that neither overtakes the other.
        """
        await asyncio.sleep(0)  # let the other callers of this turn join
        steps = self._send_cancellations, self._send_withdrawals, self._send_requests
        while self._cancelled or self._withdrawn or self._unsent:
            connection = self._connection
            pause = 0.0
            for step in steps:
                try:
                    await step()
                except ShardGone as gone:
                    try:
                        await self._reconnect(connection)
                    except AmberError as error:
                        self._give_up(error, now=not isinstance(error, Unavailable))
                        pause = 1.0
                    else:
                        self._give_up(gone)
                    break
                except AmberError as error:  # each has dealt with what it could not tell
                    log.warning("shard %d could not be told something: %s", self.number, error)
                    pause = 1.0
                except Exception:
                    log.exception("shard %d could not be told something", self.number)
                    pause = 1.0
            await asyncio.sleep(pause)

    def _give_up(self, error: BaseException, *, now: bool = False) -> None:
        """Refuse the requests that could not be sent for too long, or `now` all that could not be sent."""
        time = self._clock.now()
        why = error if isinstance(error, AmberError) else Unavailable(f"shard {self.number} is gone: {error}")
        for sent in list(self._unsent.values()):
            if sent.since is not None and (now or time - sent.since >= REVIVE_SECONDS):
                self._refuse(sent, why)
        if isinstance(error, AmberError):
            self._fail_cancellations(error)

    def _fail_cancellations(self, error: BaseException) -> None:
        for futures in self._cancelled.values():
            for future in futures:
                _fail(future, error)
        self._cancelled.clear()

    def _refuse(self, sent: Sent, error: BaseException) -> None:
        self._drop(sent)
        self._listener.refused(self.number, sent.id, sent.attempt, error)

    async def _send_cancellations(self) -> None:
        try:
            while self._cancelled:
                ids = list(self._cancelled)
                await self._port.call("cancel", ids)
                for id in ids:
                    await self._cancelled_one(id)
        except ShardGone:
            raise
        except Exception as error:
            self._fail_cancellations(error)
            raise

    async def _cancelled_one(self, id: str) -> None:
        """Ask what became of a request that was cancelled: it may have ended before."""
        sent = self._requests.get(id)
        reply: Reply | None = await self._port.call("attach", self._session, id)
        if sent is not None and (reply is None or reply.state != "running"):
            self._drop(sent)
        if reply is None:
            self._listener.vanished(self.number, id)
        else:
            self._listener.replied(self.number, reply)
        for future in self._cancelled.pop(id, ()):
            if not future.done():
                future.set_result(None)

    async def _send_withdrawals(self) -> None:
        while self._withdrawn:
            attempts: dict[str, int] = {}
            for attempt, id in self._withdrawn.items():
                attempts.setdefault(id, attempt)  # one of each request in a call
            await self._port.call("withdraw", self._session, attempts)
            for attempt in attempts.values():
                self._withdrawn.pop(attempt, None)

    async def _send_requests(self) -> None:
        batch = list(self._unsent.values())
        self._unsent.clear()
        try:
            # What the shard has not taken in is submitted before anything is asked about it: the request that
            # it knows by this id may be an earlier try, with more or fewer assets.
            questions: list[Sent] = []
            submissions: list[Sent] = []
            for sent in batch:
                asked = sent.submission is None or (sent.ask and sent.admitted)
                (questions if asked else submissions).append(sent)
            if submissions:
                await self._submit(submissions)
            for outcome in await asyncio.gather(*map(self._ask, questions), return_exceptions=True):
                if outcome is not None:
                    raise outcome
        except ShardGone:
            now = self._clock.now()
            for sent in batch:
                if self._requests.get(sent.id) is sent and not sent.taken.is_set():
                    sent.since = now if sent.since is None else sent.since
                    self._unsent.setdefault(sent.id, sent)
            raise

    async def _submit(self, batch: Sequence[Sent]) -> None:
        """Send requests in one call; an error that is not the connection's is found out one by one."""
        epoch = self._epoch
        for sent in batch:
            sent.calls += 1
        submissions = [self._submission(sent) for sent in batch]
        try:
            replies = await self._submit_all(batch, submissions)
        except ShardGone:
            raise
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for the request
            if len(batch) > 1:
                for sent in batch:
                    await self._submit([sent])
            elif self._requests.get(batch[0].id) is batch[0]:
                self._refuse(batch[0], error)
            return
        for sent, submission, reply in zip(batch, submissions, replies, strict=True):
            if self._requests.get(sent.id) is sent:
                self._answered(sent, submission, reply, epoch)

    def _submission(self, sent: Sent) -> Submission:
        """A request as it is sent now: its deadline is told as the time that is left."""
        assert sent.submission is not None
        if sent.deadline is None:
            return sent.submission
        left = max(0.0, sent.deadline - self._clock.now())
        return dataclasses.replace(sent.submission, deadline_seconds=left)

    async def _submit_all(self, batch: Sequence[Sent], submissions: Sequence[Submission]) -> Sequence[Reply]:
        """The shard's replies, after it was sent what it said it lacks. Raises `ShardGone`."""
        plans = {sent.submission.plan: sent.part for sent in batch if sent.submission and sent.part}
        lacking: set[str] = set()
        for _ in range(MISSING_PLANS):
            new = {
                name: part
                for name, part in plans.items()
                if name not in self._plans and (name in lacking or len(part.steps) not in NAMED_FIRST)
            }
            answer: Sequence[Reply] | MissingPlans = await self._port.call(
                "submit", self._session, new, submissions
            )
            if not isinstance(answer, MissingPlans):
                if len(self._plans) > SENT:
                    self._plans.clear()
                self._plans.update(plans)
                return answer
            lacking.update(answer.plans)
            self._plans.difference_update(answer.plans)  # it started over, or has forgotten them
            if answer.registry:
                if answer.registry not in self._blobs:
                    raise AmberError(f"registry {answer.registry} is not published and not known here")
                await self._port.call("publish", answer.registry, self._blobs[answer.registry])
        raise Unavailable(f"shard {self.number} forgets plans as fast as it is told them")

    def _answered(self, sent: Sent, submission: Submission, reply: Reply, epoch: int) -> None:
        """What the shard said to a submission."""
        again = sent.admitted
        if again and reply.refused:
            # It was admitted once: it has its turn as soon as there is room.
            self._resend_later(sent)
            return
        if again and reply.taken:
            sent.replaced = True  # by another engine, while the shard was away
            self.confirm(sent.id)
            return
        mark = Mark(epoch, reply.changes)
        # A record that was there before may hold answers that are older than the reply.
        fresh = sent.calls == 1 and reply.created == submission.created and self.is_fresh(mark)
        self._hear(mark)
        sent.since = None
        if not (reply.refused or reply.taken):
            sent.admitted = True
            sent.unsaved = reply.unsaved
            sent.journaled = sent.journaled or (submission.record is not None and not reply.unsaved)
        if reply.state != "running":
            self._drop(sent)
        elif epoch == self._epoch:
            if sent.replaced:
                sent.ask = True
                self._resend(sent)
            else:
                sent.taken.set()
        self._listener.replied(self.number, reply, attempt=sent.attempt, fresh=fresh)

    async def _ask(self, sent: Sent) -> None:
        """Ask about a request that the shard should know. Raises `ShardGone`."""
        epoch = self._epoch
        try:
            reply: Reply | None = await self._port.call("attach", self._session, sent.id)
        except ShardGone:
            raise
        except Exception as error:  # noqa: BLE001 - the store, say, can't be read now
            log.warning("shard %d does not tell of it: %s", self.number, error, extra={"id": sent.id})
            self._resend_later(sent)
            return
        if self._requests.get(sent.id) is not sent:
            return
        if reply is not None:
            sent.since = None
            sent.ask = sent.replaced or sent.submission is None
            if reply.state != "running":
                self._drop(sent)
            elif epoch == self._epoch:
                sent.taken.set()
            self._listener.replied(self.number, reply)
        elif sent.submission is not None:
            sent.ask = False
            self._resend(sent)
        else:
            now = self._clock.now()
            sent.since = now if sent.since is None else sent.since
            if not sent.ended and now - sent.since < FOLLOW_SECONDS:
                self._resend_later(sent)
            else:
                self._drop(sent)
                self._listener.vanished(self.number, sent.id)


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
        _noticed(future)


def _noticed(done: asyncio.Future[None]) -> None:
    """Its exception is told to those who wait for it; nobody may be left."""
    if not done.cancelled():
        done.exception()
