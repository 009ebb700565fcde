"""`compute`: one request for one id, whoever asks, how often, and whoever hangs up.

A request is tracked here before anything is awaited, so a second caller with the same id finds it and joins.
What it takes to start it and to have it journaled runs in tasks of the engine, none of which is a caller's:

    first caller ──→ track ──→ [resolve assets] ──→ plan ──→ send parts ──→ answers ──→ every caller
    others with the same id ──────────────────── join ──────────────────────────↑
    time is up for one of them ──→ [journal] ──→ accepted: it goes on without callers

A caller that hangs up only leaves. With the last one the request is withdrawn and forgotten, unless it was
accepted; the same id asked after that is a new attempt, which a withdrawal that is still on its way does not
concern.

A request that is answered by this process's memory takes no task and no call.

Must not know: Ray, what a shard is made of.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from collections import Counter
from collections.abc import Sequence

from amber_ray.core.model.request import AssetFailure, ComputeRequest, RequestView
from amber_ray.core.model.stats import CLASSES, HITS_REPLICA, HITS_STORE, Named, observe, series
from amber_ray.core.model.trace import Tracer
from amber_ray.core.model.units import Asset
from amber_ray.errors import Unavailable
from amber_ray.fabric.engine.audit import Auditor
from amber_ray.fabric.engine.planner import Planned, RequestPlanner
from amber_ray.fabric.engine.ports import Clock, Spawn
from amber_ray.fabric.engine.request import (
    Ended,
    Interest,
    NamedPart,
    TrackedRequest,
    failures_to_json,
    same_request,
)
from amber_ray.fabric.engine.requests import Known, RequestTracker, mismatch
from amber_ray.fabric.engine.shard_client import ShardClient
from amber_ray.fabric.transport.messages import Submission

CLOSE_SECONDS = 5.0
"""How long a promise that is being journaled may still take when the engine closes."""


class SingleFlight:
    """Starts, joins, accepts and gives up requests. `told`: other engines may be asked about each of them.

    `reading`: callers read the values that they ask for, unless they ask in a backfill. Answers from this
    process's memory, and requests that have ended, are added to `counts`.
    """

    def __init__(
        self,
        planner: RequestPlanner,
        tracker: RequestTracker,
        shards: Sequence[ShardClient],
        clock: Clock,
        spawn: Spawn,
        counts: Counter[str],
        tracer: Tracer,
        auditor: Auditor,
        *,
        told: bool,
        reading: bool,
    ) -> None:
        self._planner = planner
        self._tracker = tracker
        self._shards = shards
        self._clock = clock
        self._spawn = spawn
        self._counts = counts
        self._tracer = tracer
        self._auditor = auditor
        self._told = told
        self._reading = reading
        self._tenants = Named()
        self._attempts = itertools.count(1)
        self._closed = False

    async def compute(self, request: ComputeRequest, wait: float, id: str) -> RequestView:
        """Start or join the request with this id, and wait up to `wait` seconds; see `Service.compute`.

        Every caller gets the same answer or the same error. Raises `RequestMismatch` if the id belongs to a
        request for something else; the first caller's deadline and priority count.
        """
        if self._closed:
            raise _closing()
        known = self._tracker.find(id)
        if isinstance(known, Ended) and known.asked is None:
            known = None  # other engines brought it: the shards will say whether it is the same
        if known is None:
            return await self._first(request, wait, id)
        if known.asked is not None and not same_request(known.asked, request):
            raise mismatch(id)
        if isinstance(known, Ended):
            return known.view()
        interest = known.interest
        if interest is None:
            if known.asked is not None or not known.attached:
                return await self._tracker.status(id, wait)  # it is over, or about to be
            interest = self._join(known, request)
        return await self._attend(known, interest, wait)

    async def close(self) -> None:
        """Let promises be journaled for a few seconds; then tell everyone who waits that it is over."""
        self._closed = True
        running = self._tracker.running()
        promises = [r.interest.accepting for r in running if r.interest and r.interest.accepting]
        if promises:
            await asyncio.wait(promises, timeout=CLOSE_SECONDS)
        for tracked in self._tracker.running():
            for task in (tracked.interest.starting, tracked.interest.accepting) if tracked.interest else ():
                if task is not None:
                    task.cancel()
            tracked.fail(_closing())

    # --- how a request begins

    async def _first(self, request: ComputeRequest, wait: float, id: str) -> RequestView:
        """The first caller of an id. Up to the last line nothing is awaited."""
        looks_back = self._planner.looks_back(request)
        assets = None if looks_back else self._planner.at_hand(request.assets)
        planned: Planned | None = None
        refused: tuple[AssetFailure, ...] = ()
        if assets is not None:
            began = self._tracer.now() if request.trace else 0.0
            planned, refused = self._planner.plan(request, assets)
            known = None if _by_shards(request) else self._tracker.known(planned.plan.targets)
            if known is not None:
                return self._from_memory(request, id, planned, refused, known)
            # An answer from this process's memory has one span, the caller's: planning it took no time.
            self._tracer.end(self._tracer.start(request.trace, "plan", began=began))
        interest = Interest(request, next(self._attempts))
        tracked = TrackedRequest(
            id, request.tenant, self._clock.unix(), request, interest, features=request.features
        )
        tracked.at_end = self._count
        self._tracker.add(tracked)
        if planned is not None and assets is not None and not self._is_near(request, planned):
            self._dispatch(tracked, interest, planned, assets, refused, journal=wait <= 0)
        else:
            interest.starting = self._spawn(self._start(tracked, interest, journal=wait <= 0))
        return await self._attend(tracked, interest, wait)

    def _from_memory(
        self,
        request: ComputeRequest,
        id: str,
        planned: Planned,
        failed: tuple[AssetFailure, ...],
        known: Known,
    ) -> RequestView:
        """A request that is answered as soon as it is asked."""
        steps = len(known.answers)
        self._counts[HITS_REPLICA] += steps
        ended = Ended(
            id,
            planned.asked(request),
            tuple(known.targets),
            tuple(known.answers),
            failed,
            request.tenant,
            self._clock.unix(),
            request.features,
            False,
            (steps, steps),
            self._clock.now(),
        )
        self._tracker.add(ended)
        view = ended.view()
        self._count_ended(request, view.state, self._clock.unix() - ended.created)
        if self._told:
            # Another replica may be asked about this id, so the shards are told; nobody waits for that.
            attempt = next(self._attempts)
            for number, part in planned.parts.items():
                self._shards[number].submit(
                    part.plan,
                    _submission(id, request, ended.created, part, attempt, failed, answered=True),
                )
        return view

    def _count(self, tracked: TrackedRequest) -> None:
        assert tracked.asked is not None
        self._count_ended(tracked.asked, tracked.outcome, self._clock.unix() - tracked.created)

    def _count_ended(self, request: ComputeRequest, outcome: str, seconds: float) -> None:
        name = CLASSES[request.priority]
        self._counts[_ended(name, outcome, self._tenants.of(request.tenant))] += 1
        observe(self._counts, "request_seconds", seconds, **{"class": name})

    def _join(self, tracked: TrackedRequest, request: ComputeRequest) -> Interest:
        """Take an interest in a request that other engines brought; the shards say whether it is the same."""
        interest = tracked.interest = Interest(request, next(self._attempts))
        tracked.asked = request
        interest.starting = self._spawn(self._start(tracked, interest, journal=False))
        return interest

    async def _start(self, tracked: TrackedRequest, interest: Interest, *, journal: bool) -> None:
        """Find out what a request is about, and send it."""
        request = interest.request
        try:
            with self._tracer.during(request.trace, "plan"):
                assets, failed = await self._planner.resolve(request.assets)
                looks_back = self._planner.looks_back(request)
                kept = await self._planner.kept(request, assets) if looks_back else None
                if tracked.interest is not interest or tracked.cancelled:
                    return
                planned, refused = self._planner.plan(request, assets, kept)
            failed = (*failed, *refused)
            known = None
            read: int | None = 0
            if not (_by_shards(request) or tracked.attached):
                if self._is_near(request, planned):
                    read = await self._tracker.read_near(planned.plan.targets)
                    if tracked.interest is not interest or tracked.cancelled:
                        return
                known = self._tracker.known(planned.plan.targets)
            if known is not None:
                self._answer_from_memory(tracked, interest, planned, failed, known, read or 0)
            else:
                self._dispatch(tracked, interest, planned, assets, failed, journal=journal)
        except Exception as error:  # noqa: BLE001 - every caller is told
            if tracked.interest is interest:
                self._tracker.release(tracked, error)
        finally:
            interest.starting = None
            tracked.notify()

    def _is_near(self, request: ComputeRequest, planned: Planned) -> bool:
        """Whether this process can answer by what it has and what it may read from the store itself."""
        wanted = not _by_shards(request) and int(request.priority) > 0
        return wanted and self._tracker.is_near(planned.plan.targets)

    def _answer_from_memory(
        self,
        tracked: TrackedRequest,
        interest: Interest,
        planned: Planned,
        failed: tuple[AssetFailure, ...],
        known: Known,
        read: int,
    ) -> None:
        """Finish a request whose answers were here once its assets were known, and so many had been read."""
        self._counts[HITS_REPLICA] += len(known.answers) - read
        self._counts[HITS_STORE] += read
        tracked.failed_assets = failed
        tracked.plan({n: part.part for n, part in planned.parts.items()}, planned.plan.targets)
        tracked.expand(known.expanded)
        tracked.answer(known.answers)
        units = {key: len(its) for key, its in known.expanded}
        for number, part in planned.parts.items():
            steps = sum(units.get(target.key, 1) or 1 for target in part.part.targets)
            tracked.progress[number] = steps, steps
            tracked.finish(number, "done")
            if self._told:
                self._shards[number].submit(
                    part.plan,
                    _submission(
                        tracked.id,
                        interest.request,
                        tracked.created,
                        part,
                        interest.attempt,
                        failed,
                        answered=True,
                    ),
                )

    def _dispatch(
        self,
        tracked: TrackedRequest,
        interest: Interest,
        planned: Planned,
        assets: Sequence[Asset],
        failed: tuple[AssetFailure, ...],
        *,
        journal: bool,
    ) -> None:
        """Send each shard its part; with `journal` it is to be accepted at once. Nothing is awaited."""
        request = interest.request
        interest.assets, interest.failed = assets, failed
        interest.parts = planned.parts
        interest.untaken = set(planned.parts)
        tracked.asked = planned.asked(request)
        if request.refresh:
            self._tracker.forget_values([t.key for t in planned.plan.targets])
        if tracked.attached:
            for number, part in planned.parts.items():
                if number not in tracked.parts:
                    tracked.retarget(number, part.part)
        else:
            tracked.plan({n: part.part for n, part in planned.parts.items()}, planned.plan.targets)
        tracked.failed_assets = failed  # of an attached request too: the shards take the newest plan
        if journal:
            interest.body = self._planner.body(request, assets, failed, tracked.created)
        for number, part in planned.parts.items():
            self._shards[number].submit(part.plan, self._submission_of(tracked, interest, part))

    def _submission_of(self, tracked: TrackedRequest, interest: Interest, part: NamedPart) -> Submission:
        # A record that other engines began tells itself from one that this begins by another `created`.
        created = self._clock.unix() if tracked.attached else tracked.created
        submission = _submission(
            tracked.id, interest.request, created, part, interest.attempt, interest.failed
        )
        submission.record = interest.body
        submission.reading = self._reading and submission.load
        return submission

    # --- how its callers wait

    async def _attend(self, tracked: TrackedRequest, interest: Interest, wait: float) -> RequestView:
        """Wait as one of the callers: for the end, or until time is up and the request is accepted.

        It is accepted once its assets have been resolved and the shards have journaled it, which may be later
        than `wait`.
        """
        interest.callers += 1
        try:
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        while not _over(tracked, interest):
                            await tracked.change(tracked.version)
            if tracked.progress and not _over(tracked, interest):
                # Beside the journaling, for the view of a 202. Of one that has just come nothing is done.
                self._tracker.ask_progress(tracked)
            tried = False
            while not (_over(tracked, interest) or interest.accepted):
                version = tracked.version
                if interest.accepting is None:
                    if tried and interest.unaccepted is not None:
                        raise interest.unaccepted
                    interest.unaccepted = None
                    interest.accepting = self._spawn(self._accept(tracked, interest))
                tried = True
                await tracked.change(version)
            error = interest.error or tracked.error
            if error is not None:
                raise error
            if tracked.running and not tried:
                await self._tracker.refresh_progress(tracked)
            return tracked.view()
        finally:
            interest.callers -= 1
            unwanted = not interest.callers and not interest.accepted
            if unwanted and tracked.interest is interest and not _over(tracked, interest):
                self._tracker.release(tracked)

    async def _accept(self, tracked: TrackedRequest, interest: Interest) -> None:
        """Have the request journaled at every shard that has a part of it, also where that part is done."""
        try:
            while interest.starting is not None and not _over(tracked, interest):
                await tracked.change(tracked.version)
            if _over(tracked, interest):
                return
            if interest.body is None:
                interest.body = self._planner.body(
                    interest.request, interest.assets, interest.failed, tracked.created
                )
            outcomes = await asyncio.gather(
                *(
                    self._shards[number].accept(part.plan, self._submission_of(tracked, interest, part))
                    for number, part in interest.parts.items()
                ),
                return_exceptions=True,
            )
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
            await self._auditor.note(
                "request.accepted",
                tracked.id,
                tracked.tenant,
                features=interest.request.features,
                assets=len(interest.request.assets),
            )
            interest.accepted = True
        except Exception as error:  # noqa: BLE001 - those whose time is up are told
            interest.unaccepted = error
        finally:
            interest.accepting = None
            tracked.notify()


@functools.lru_cache(maxsize=1024)
def _ended(name: str, outcome: str, tenant: str) -> str:
    return series("requests_total", **{"class": name, "outcome": outcome, "tenant": tenant})


def _by_shards(request: ComputeRequest) -> bool:
    """Whether the shards have to answer: with new values, or because the request is to be in the journal."""
    return request.refresh or request.callback is not None


def _over(tracked: TrackedRequest, interest: Interest) -> bool:
    """Whether there is nothing to wait for: it has ended, and the shards have said that it is this one."""
    if interest.error is not None or tracked.error is not None:
        return True
    joining = tracked.attached and (interest.starting is not None or bool(interest.untaken))
    return not tracked.running and not joining


def _submission(
    id: str,
    request: ComputeRequest,
    created: float,
    part: NamedPart,
    attempt: int,
    failed: Sequence[AssetFailure],
    *,
    answered: bool = False,
) -> Submission:
    return Submission(
        id=id,
        plan=part.name,
        priority=int(request.priority),
        tenant=request.tenant,
        deadline_seconds=request.deadline_seconds,
        refresh=request.refresh,
        load=int(request.priority) > 0 and not answered,
        created=created,
        positions=part.part.positions,
        shards=part.shards,
        about={"features": list(request.features), "failed_assets": failures_to_json(failed)},
        attempt=attempt,
        answered=answered,
        trace="" if answered else request.trace,
    )


def _closing() -> Unavailable:
    return Unavailable("this engine is closed")
