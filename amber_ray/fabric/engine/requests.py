"""The requests that one engine tracks: its own, and those that it was asked about by id.

What the shards say comes in here, is kept where it may be kept, and wakes whoever waits. A shard that says
that a request is over, cancelled or about other things is asked once more (`ShardClient.confirm`) where that
does not fit what is known here: messages about an earlier attempt may still be under way.

Must not know: plans, how a request comes to be sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from amber_ray.core.model.asked import Place, RequestInfo
from amber_ray.core.model.pages import Told, first
from amber_ray.core.model.request import RequestView
from amber_ray.core.model.service import RequestEvent
from amber_ray.core.model.units import EachRange
from amber_ray.core.planning.plan import Target
from amber_ray.errors import AmberError, Overloaded, RequestMismatch, Unavailable, UnknownRequest
from amber_ray.fabric.engine.cache import Answers, Cache, Places, Units
from amber_ray.fabric.engine.near import NearValues
from amber_ray.fabric.engine.ports import Clock, Spawn
from amber_ray.fabric.engine.request import Ended, Part, TrackedRequest, failures_from_json
from amber_ray.fabric.engine.shard_client import ShardClient
from amber_ray.fabric.transport.messages import Answer, Expansion, Found, Reply, Updates

REMEMBERED = 20_000
"""Finished requests remembered at most."""
REMEMBERED_SECONDS = 300.0
"""How long a finished request is answered from here before the shards are asked about it."""
PROGRESS_SECONDS = 0.5
"""How often a stream of events asks how far its request has come."""
SWEEP_SECONDS = 10.0
NEAR_TARGETS = 64
"""Largest request that is looked at for values that this process may read itself."""
BROUGHT_SECONDS = 30.0
"""How long a request may take from the first of its shards to the last."""
BROUGHT_PAUSE = 0.2


class Known(NamedTuple):
    """A request that this process's memory answers: its targets, and an answer to each of them.

    Units stand in the places of targets that were each range of a finder; `expanded` says in whose.
    """

    targets: Collection[Target]
    answers: list[Answer]
    expanded: list[Expansion]


class RequestTracker:
    """The requests that one engine knows, by id. Implements `shard_client.Listener`."""

    def __init__(
        self,
        shards: Sequence[ShardClient],
        answers: Answers,
        units: Units,
        cache: Cache,
        places: Places,
        near: NearValues,
        clock: Clock,
        spawn: Spawn,
    ) -> None:
        self._shards = shards
        self._answers = answers
        self._units = units
        self._cache = cache
        self._places = places
        self._near = near
        self._clock = clock
        self._spawn = spawn
        self._requests: dict[str, TrackedRequest | Ended] = {}
        self._asking: dict[str, list[set[int]]] = {}
        self._progress: dict[TrackedRequest, asyncio.Task[None]] = {}

    # --- which requests there are

    def find(self, id: str) -> TrackedRequest | Ended | None:
        """A request that this engine knows, whether it is over or not."""
        return self._requests.get(id)

    def add(self, tracked: TrackedRequest | Ended) -> None:
        """Track a request, or remember one that is over."""
        self._requests[tracked.id] = tracked

    def running(self) -> list[TrackedRequest]:
        """The requests that are under way."""
        return [r for r in self._requests.values() if isinstance(r, TrackedRequest) and r.running]

    def told(
        self, tenant: str | None, after: Place | None, most: int, known: Collection[str]
    ) -> Told[RequestInfo]:
        """The newest requests that this engine knows and that are not `known` otherwise, after a place.

        One that came to nothing is none.
        """
        its = first(
            (
                one
                for one in self._requests.values()
                if (isinstance(one, Ended) or one.error is None)
                and tenant in (None, one.tenant)
                and one.id not in known
            ),
            after,
            most,
        )
        return Told(tuple(one.info() for one in its.values), its.end)

    def registries(self) -> set[str]:
        """The digests that requests under way name as what they are planned with."""
        return {r.asked.registry for r in self.running() if r.asked is not None}

    def known(self, asked: Collection[Target]) -> Known | None:
        """Answers to all targets from this process's memory; None if one of them is not here.

        Where units have come in a target's place, answers to those.
        """
        targets: list[Target] = []
        answers: list[Answer] = []
        found: list[Target] = []
        for one in asked:
            units: Sequence[Target] = (one,)
            if isinstance(one.unit, EachRange):
                its = self._units.get(one)
                if its is None:
                    return None
                found.append(one)
                if not its:
                    answers.append(Answer(one.key))
                    targets.append(one)
                units = its
            for target in units:
                answer = self._known(target.key)
                if answer is None:
                    return None
                answers.append(answer)
            targets.extend(units)
        return Known(targets if found else asked, answers, [self._units.expansion(one) for one in found])

    def _known(self, key: str) -> Answer | None:
        answer = self._answers.get(key)
        return None if answer is None or (answer.inline is None and key not in self._cache) else answer

    def is_near(self, targets: Sequence[Target]) -> bool:
        """Whether the answers that are not in this process's memory can be read from the store by it."""
        if len(targets) > NEAR_TARGETS:
            return False
        return self._near.has({t.key for t in targets if self._known(t.key) is None})

    async def read_near(self, targets: Sequence[Target]) -> int | None:
        """Have the answers that `is_near` tells of in memory, so that `known` has all.

        Returns how many were read; None if the shards have to be asked.
        """
        keys = list(dict.fromkeys(t.key for t in targets if self._known(t.key) is None))
        read = await self._near.read(keys)
        if read is None:
            return None
        for key, (_, result) in read.items():
            seconds = result.made.seconds if result.made else None
            self._answers.put(Answer(key, seconds=seconds, size=result.size, inline=result.inline))
        return len(read)

    def forget_values(self, keys: Collection[str]) -> None:
        """Let go of copies of values that were purged or are made anew, and of units found by them."""
        units = [unit for key in keys for unit in self._units.keys(key)]
        self._units.forget(keys)
        for some in (keys, units):
            self._cache.forget(some)
            self._answers.forget(some)
            self._places.forget(some)
            self._near.forget(some)

    def _forget_all(self) -> None:
        self._cache.clear()
        self._answers.clear()
        self._units.clear()
        self._places.clear()
        self._near.clear()

    def release(
        self, tracked: TrackedRequest, error: BaseException | None = None, *, but: int | None = None
    ) -> None:
        """End this engine's interest in a request; `error` is told to every caller that waits.

        The shards are told, except `but`, which said it itself. The request is forgotten here, so that the
        same id begins it anew, unless other engines brought it too: then it is followed as before.
        """
        interest = tracked.interest
        if interest is None:
            return
        tracked.interest = None
        interest.error = error
        for task in (interest.starting, interest.accepting):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        for number in interest.parts:
            if number != but and (number in tracked.open or number in interest.untaken):
                self._shards[number].withdraw(tracked.id, interest.attempt)
        if tracked.attached:
            tracked.asked = None
            for number in tracked.open:
                self._shards[number].confirm(tracked.id)
            tracked.notify()
            return
        if self._requests.get(tracked.id) is tracked:
            del self._requests[tracked.id]
        if error is None:
            tracked.cancel()
        else:
            tracked.fail(error)

    async def sweep(self) -> None:
        """Forget old requests, for as long as the engine lives."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self._clock.now()
            self._places.sweep(now - SWEEP_SECONDS)
            for id, tracked in list(self._requests.items()):
                if isinstance(tracked, Ended):
                    if now - tracked.since > REMEMBERED_SECONDS or len(self._requests) > REMEMBERED:
                        del self._requests[id]
                elif not tracked.running and not (tracked.interest and tracked.interest.callers):
                    self._requests[id] = tracked.ended(now)

    # --- what callers ask

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        """The request, as soon as it is finished or `wait` seconds have passed. Raises `UnknownRequest`.

        Whoever waits here keeps no request alive: only callers of `compute` do, and a promise (202).
        """
        give_up = self._clock.now() + wait
        tracked = await self.follow(id)
        while not isinstance(tracked, Ended):
            try:
                if not await tracked.wait(give_up - self._clock.now()):
                    await self.refresh_progress(tracked)
                break
            except AmberError as error:
                tracked = await self._meant(tracked, error)
        return tracked.view()

    async def events(self, id: str) -> AsyncIterator[RequestEvent]:
        """What happens to the request from now on, beginning with what is already known.

        Like `status`, a stream keeps no request alive. An answer that comes while an event is on its way to
        the reader follows at once: each turn waits for a change since the state that it told.
        """
        tracked = _listened(await self.follow(id))
        told = 0
        last = (-1, -1)
        before: set[str] = set()
        while True:
            version, running = tracked.version, tracked.running
            if (error := tracked.error) is not None:
                before.update(tracked.order[:told])
                tracked, told = _listened(await self._meant(tracked, error)), 0
                continue
            progress = tracked.progressed()
            if progress != last:
                last = progress
                yield RequestEvent("progress", *last)
            while told < len(tracked.order):
                key = tracked.order[told]
                told += 1
                for target in tracked.about(key) if key not in before else ():
                    yield RequestEvent("result", *last, result=tracked.result(target))
            if not running:
                view = tracked.view()
                yield RequestEvent("done", view.done, view.total, view=view)
                return
            if not await tracked.change(version, PROGRESS_SECONDS):
                self.ask_progress(tracked)

    async def cancel(self, id: str) -> RequestView:
        """End the request for everyone; work that others wait for goes on. A finished one stays as it is.

        It is remembered as cancelled, here and at the shards. Raises `Unavailable`, `UnknownRequest`.
        """
        tracked = await self.follow(id)
        if isinstance(tracked, Ended):
            return tracked.view()
        if tracked.error is not None:
            raise tracked.error
        if tracked.starting:
            return await self._cancel_start(tracked)
        await asyncio.gather(*(self._shards[number].cancel(id) for number in sorted(tracked.open)))
        return tracked.view()

    async def _cancel_start(self, tracked: TrackedRequest) -> RequestView:
        """End a request that no shard was told of here, and the one that they may know by its id.

        Somebody may be asking again for what was accepted long ago, by an engine that is no more.
        """
        interest = tracked.interest
        tracked.cancel()
        if interest is not None and interest.starting is not None:
            interest.starting.cancel()
        del self._requests[tracked.id]
        try:
            return await self.cancel(tracked.id)
        except UnknownRequest:
            self._requests.setdefault(tracked.id, tracked)
            return tracked.view()

    async def follow(self, id: str) -> TrackedRequest | Ended:
        """A request known here, or asked of the shards: any engine can answer for any request."""
        if (known := self._requests.get(id)) is not None:
            return known
        # Updates about it may come before all shards have answered, when nobody tracks it here yet.
        told: set[int] = set()
        self._asking.setdefault(id, []).append(told)
        try:
            replies = await self._attach(id)
        finally:
            # By identity: two that ask at once may have been told the same.
            self._asking[id] = [other for other in self._asking[id] if other is not told]
            if not self._asking[id]:
                del self._asking[id]
        if (known := self._requests.get(id)) is not None:
            return known  # another caller asked meanwhile
        homes = _homes(replies)
        answered = {n: (r, epoch) for n, (r, epoch) in replies.items() if r is not None and n in homes}
        if not answered:
            raise UnknownRequest(f"no request has the id {id!r}; ids come from POST /v1/compute")
        # Shards that were asked at different times may know different assets as failed: the newest counts.
        newest = sorted((reply for reply, _ in answered.values()), key=lambda r: r.created, reverse=True)
        first = newest[0]
        body = next((reply.record for reply in newest if reply.record), {})
        tracked = TrackedRequest(
            id,
            first.tenant,
            first.created,
            attached=True,
            features=tuple(body.get("features") or ()),
            failed_assets=failures_from_json(body.get("failed_assets") or []),
        )
        tracked.plan({n: _part(reply) for n, (reply, _) in answered.items()})
        self.add(tracked)
        for number, (reply, epoch) in answered.items():
            tracked.reply(number, reply)
            if number in tracked.open:
                self._shards[number].follow(id, epoch)
        for number in told & tracked.open:
            self._shards[number].confirm(id)
        return tracked

    async def _meant(self, tracked: TrackedRequest, error: BaseException) -> TrackedRequest | Ended:
        """What whoever follows a request by its id means where one of that id came to nothing here.

        Somebody asked this engine for something else under that id, or could not be answered: of that a
        follower is told only if the shards know no other request of the id. Raises `error`, or as `follow`.
        """
        if tracked.attached or self._requests.get(tracked.id) is tracked:
            raise error
        try:
            return await self.follow(tracked.id)
        except UnknownRequest:
            raise error from None

    async def _attach(self, id: str) -> dict[int, tuple[Reply | None, int]]:
        """Ask every shard about a request; wait for those that have a part of it and were not brought it yet.

        Whoever submitted it may still be bringing its part to a shard that is slow, or was just restarted.
        Raises `Unavailable` if that takes long.
        """
        replies = dict(enumerate(await asyncio.gather(*(shard.attach(id) for shard in self._shards))))
        give_up = self._clock.now() + BROUGHT_SECONDS
        while lacking := _lacking(replies):
            if self._clock.now() > give_up:
                raise Unavailable(
                    f"request {id!r} has not reached all of its shards yet; ask again in a moment"
                )
            await asyncio.sleep(BROUGHT_PAUSE)
            again = await asyncio.gather(*(self._shards[number].attach(id) for number in lacking))
            replies.update(zip(lacking, again, strict=True))
        return replies

    async def refresh_progress(self, tracked: TrackedRequest) -> None:
        """Ask the shards how far it is; one that does not say so soon is left as it was."""
        numbers = sorted(tracked.open)
        known = await asyncio.gather(*(self._shards[number].progress(tracked.id) for number in numbers))
        for number, progress in zip(numbers, known, strict=True):
            if progress is not None and tracked.progress.get(number) != progress and number in tracked.open:
                tracked.progress[number] = progress
                tracked.notify()

    def ask_progress(self, tracked: TrackedRequest) -> None:
        """`refresh_progress` beside whoever wants to know, and once however many do."""
        if tracked not in self._progress:
            task = self._progress[tracked] = self._spawn(self.refresh_progress(tracked))
            task.add_done_callback(lambda _: self._progress.pop(tracked, None))

    # --- what the shards say

    def replied(self, shard: int, reply: Reply, *, attempt: int = 0, fresh: bool = False) -> None:
        """A shard's answer to a submission, or its whole knowledge of a request."""
        if fresh:
            self._keep(shard, reply.answers)
            self._keep_places(shard, reply.places)
        self._note(reply.id, shard)
        tracked = self._requests.get(reply.id)
        if not isinstance(tracked, TrackedRequest):
            return
        interest = tracked.interest
        if interest is not None and attempt == interest.attempt:
            if reply.taken:
                self.release(tracked, mismatch(reply.id), but=shard)
                return
            if reply.refused:
                self.release(tracked, Overloaded(reply.refused), but=shard)
                return
            interest.untaken.discard(shard)
            tracked.notify()
        elif attempt:
            return  # of an attempt that has been given up
        tracked.reply(shard, reply)
        if fresh:
            self._keep_units(tracked, reply.expanded)

    def refused(self, shard: int, id: str, attempt: int, error: BaseException) -> None:
        """A shard can't take a request in, or does not know it and can't be told."""
        tracked = self._requests.get(id)
        if isinstance(tracked, TrackedRequest):
            if tracked.interest is not None and tracked.interest.attempt == attempt:
                self.release(tracked, error, but=shard)
            elif not attempt:
                tracked.fail(error)
                del self._requests[id]

    def vanished(self, shard: int, id: str) -> None:
        """A shard does not know a request any more, and nobody brings it again."""
        tracked = self._requests.get(id)
        if isinstance(tracked, TrackedRequest):
            tracked.finish(shard, "cancelled")

    def updated(self, shard: int, updates: Updates, *, fresh: bool) -> None:
        """What a shard's poll brought."""
        changed = set(updates.changed)
        if changed:
            self.forget_values(changed)
        if updates.purged:
            self._forget_all()
            fresh = False
        if fresh:
            # Before or after its change: that is not told.
            self._keep(shard, (a for a in updates.answers.values() if a.key not in changed))
            self._keep_places(shard, (p for p in updates.places.values() if p.key not in changed))
        for id, expansion in updates.expanded:
            self._note(id, shard)
            tracked = self._requests.get(id)
            # A part that is over here may have been brought again, to be journaled, to a shard that started
            # over, and be made anew there. Its units could be others, which nobody here waits for.
            if isinstance(tracked, TrackedRequest) and shard in tracked.open:
                tracked.expand([expansion])
                if fresh:
                    self._keep_units(tracked, [expansion], changed)
        about: dict[str, list[Answer]] = {}
        for id, answer in updates.about:
            about.setdefault(id, []).append(answer)
        for id, answers in about.items():
            self._note(id, shard)
            tracked = self._requests.get(id)
            if isinstance(tracked, TrackedRequest):
                tracked.answer(answers)
        replaced = dict.fromkeys(updates.replaced)
        for id in replaced:
            self._note(id, shard)
            if self._is_open(id, shard):
                self._shards[shard].confirm(id, replaced=True)
        for id, state in updates.finished:
            self._note(id, shard)
            if id not in replaced:
                self._finished(id, shard, state)

    def _finished(self, id: str, shard: int, state: str) -> None:
        """A shard is done with a request, or was with an earlier attempt of it."""
        tracked = self._requests.get(id)
        if not isinstance(tracked, TrackedRequest) or shard not in tracked.open:
            self._shards[shard].forget(id)
        elif state == "cancelled" or tracked.lacks(shard):
            self._shards[shard].confirm(id, ended=state == "cancelled")
        else:
            self._shards[shard].forget(id)
            tracked.finish(shard, state)

    def doubted(self, shard: int) -> None:
        """A shard started over, or is not heard: what it said of values may have changed unheard."""
        self._forget_all()

    def _is_open(self, id: str, shard: int) -> bool:
        tracked = self._requests.get(id)
        return isinstance(tracked, TrackedRequest) and shard in tracked.open

    def _note(self, id: str, shard: int) -> None:
        """Whoever is asking about this request has missed something."""
        for told in self._asking.get(id, ()):
            told.add(shard)

    def _keep(self, shard: int, answers: Iterable[Answer]) -> None:
        for answer in answers:
            self._answers.put(answer)
            if answer.part and answer.inline is not None:
                self._near.hint(shard, answer.part)

    def _keep_units(
        self, tracked: TrackedRequest, expansions: Iterable[Expansion], changed: Collection[str] = ()
    ) -> None:
        """Remember what targets came to, unless their finder's value is among those that have `changed`."""
        for key, units in expansions:
            each = tracked.each(key)
            if each is not None and isinstance(each.unit, EachRange) and each.unit.key not in changed:
                self._units.put(each, units)

    def _keep_places(self, shard: int, places: Iterable[Found]) -> None:
        now = self._clock.now()
        for found in places:
            self._places.put(found, shard, now)


def _listened(found: TrackedRequest | Ended) -> TrackedRequest:
    """A request for whoever wants to be told its events."""
    return found.tracked() if isinstance(found, Ended) else found


def _homes(replies: Mapping[int, tuple[Reply | None, int]]) -> tuple[int, ...]:
    """The shards that have a part of a request, by the newest that is said of it.

    An asset may have been found by one of two that asked with the same id, and not by the other: then a shard
    may still know a part that the request has no more.
    """
    known = {number: reply for number, (reply, _) in replies.items() if reply is not None}
    newest = max(known.values(), key=lambda reply: reply.created, default=None)
    return tuple(known) if newest is None or not newest.shards else tuple(newest.shards)


def _lacking(replies: Mapping[int, tuple[Reply | None, int]]) -> list[int]:
    """The shards that have a part of a request and were not brought it yet, or only an older one."""
    homes = _homes(replies)

    def lacks(home: int) -> bool:
        reply, _ = replies[home]
        return reply is None or (bool(reply.shards) and tuple(reply.shards) != homes)

    return sorted(home for home in homes if home in replies and lacks(home))


def mismatch(id: str) -> RequestMismatch:
    """The id belongs to another request."""
    return RequestMismatch(
        f"request id {id!r} belongs to a request for something else; choose a new id for each request"
    )


def _part(reply: Reply) -> Part:
    return Part(tuple(reply.positions), tuple(reply.targets))
