"""A request as one engine tracks it: answers from the shards, gathered for whoever waits.

Several callers may wait for one request (a call of `compute`, a long poll, an event stream); none of them is
the work. Each looks at the state, notes its `version`, and waits for another one, so that no change falls
between the look and the wait.

Must not know: how answers arrive, what a shard is.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from amber_ray.core.model.asked import Place, RequestInfo
from amber_ray.core.model.naming import assets_of
from amber_ray.core.model.request import (
    MISSING,
    AssetFailure,
    AssetRef,
    ComputeRequest,
    Failure,
    RequestState,
    RequestView,
    Result,
)
from amber_ray.core.model.units import Asset, EachRange
from amber_ray.core.planning.plan import Target
from amber_ray.fabric.transport import pickled
from amber_ray.fabric.transport.messages import Answer, Expansion, FoundUnit, PlanPart, Reply


class Part(NamedTuple):
    """What one shard answers of a request: its targets, and where each stands in the whole request."""

    positions: tuple[int, ...]
    targets: tuple[Target, ...]


class NamedPart(NamedTuple):
    """The part of a plan that a shard is asked for, its name, what the shard answers, all shards asked."""

    name: str
    plan: PlanPart
    part: Part
    shards: tuple[int, ...]


@dataclass(slots=True, eq=False)
class Interest:
    """Why this engine keeps a request alive: callers of `compute` wait for it, or it was accepted.

    - `attempt`: its number, under which the shards know it (see `Submission`);
    - `callers`: how many wait now; with the last one the interest ends, unless the request was accepted;
    - `starting`: the task that resolves the request's assets, while it runs;
    - `assets`, `failed`: what they were resolved to, which the journal needs;
    - `parts`: what the shards have been asked for; `untaken`: those that have not answered yet;
    - `body`: the request for the journal, once it is to be accepted;
    - `accepting`: the task that has it journaled, while it runs; `accepted`: it is journaled everywhere;
      `unaccepted`: why the last try did not succeed;
    - `error`: why it came to nothing, which every caller is told.
    """

    request: ComputeRequest
    attempt: int
    callers: int = 0
    starting: asyncio.Task[None] | None = None
    assets: Sequence[Asset] = ()
    failed: tuple[AssetFailure, ...] = ()
    parts: Mapping[int, NamedPart] = field(default_factory=dict)
    untaken: set[int] = field(default_factory=set)
    body: Mapping[str, Any] | None = None
    accepting: asyncio.Task[None] | None = None
    accepted: bool = False
    unaccepted: BaseException | None = None
    error: BaseException | None = None


@dataclass(slots=True, eq=False)
class TrackedRequest:
    """One request.

    - `asked`: what was asked for, in the caller's words; None if this engine was only asked about its id;
    - `interest`: why this engine keeps it alive; None if it only follows it;
    - `attached`: other engines brought it to the shards;
    - `parts`: by shard, which may be several; `expanded`: the units that are targets in the place of one that
      was each range of a finder, by its key; `early`: answers about units that are not known yet;
    - `starting`: its targets are not known yet; `open`: the shards that have not finished their part;
    - `order`: keys in the order in which they were answered;
    - `version`: counts the changes of all this;
    - `at_end`: is called once, when it is over.
    """

    id: str
    tenant: str
    created: float
    asked: ComputeRequest | None = None
    interest: Interest | None = None
    attached: bool = False
    features: tuple[str, ...] = ()
    failed_assets: tuple[AssetFailure, ...] = ()
    parts: dict[int, Part] = field(default_factory=dict)
    starting: bool = True
    open: set[int] = field(default_factory=set)
    cancelled: bool = False
    error: BaseException | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    expanded: dict[str, tuple[FoundUnit, ...]] = field(default_factory=dict)
    early: dict[str, Answer] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    progress: dict[int, tuple[int, int]] = field(default_factory=dict)
    version: int = 0
    at_end: Callable[[TrackedRequest], None] | None = None
    _changed: asyncio.Event | None = None
    _planned: Sequence[Target] = ()
    _targets: Sequence[Target] | None = ()
    _each: dict[str, list[Target]] = field(default_factory=dict)
    _about: dict[str, list[Target]] | None = None
    _wanted: set[str] = field(default_factory=set)

    # --- what it is about

    def plan(self, parts: Mapping[int, Part], targets: Sequence[Target] | None = None) -> None:
        """It is known what each shard answers; `targets` are all of them, if the caller has them in order."""
        self.starting = False
        self.parts = dict(parts)
        self.open = set(parts)
        self._aim(merged(self.parts) if targets is None else targets)

    def retarget(self, shard: int, part: Part) -> None:
        """A shard's part is about other targets than was thought; those of other shards stay."""
        if self.parts.get(shard) == part:
            return
        if shard not in self.parts:
            self.open.add(shard)
        self.parts[shard] = part
        self._aim(merged(self.parts))

    def _aim(self, targets: Sequence[Target]) -> None:
        self._planned = targets
        self._each = {}
        for target in targets:
            if isinstance(target.unit, EachRange):
                self._each.setdefault(target.key, []).append(target)
        self._targets = None if self._each else targets
        self._about = None
        self._wanted = {t.key for t in targets} - {key for key, units in self.expanded.items() if units}
        self._wanted.update(unit.key for key in self._each for unit in self.expanded.get(key, ()))
        self._look_again()

    def each(self, key: str) -> Target | None:
        """Return a target with this key if it is each range of a finder."""
        return self._each[key][0] if key in self._each else None

    def expand(self, expansions: Iterable[Expansion]) -> None:
        """Windows of targets are known. A repeat changes nothing; a shard that starts over may say others.

        Where nothing was found the target itself stays, and is answered by that.
        """
        news = [(key, units) for key, units in expansions if self.expanded.get(key) != units]
        for key, units in news:
            before = self.expanded.get(key, ())
            self._now_about(key, units, known_before=key in self.expanded)
            self.expanded[key] = units
            if key in self._each:
                self._wanted.difference_update((key, *(unit.key for unit in before)))
                self._wanted.update(unit.key for unit in units)
            if not units:
                self._wanted.add(key)
                self.early[key] = Answer(key)
        if news:
            self._targets = None
            self._look_again()

    def about(self, key: str) -> Sequence[Target]:
        """The targets that an answer about a key is for.

        Noted from the first question on and kept up to date, since a stream of events asks of each answer:
        `targets` would be put together anew for each asset whose windows have been found.
        """
        if self._about is None:
            self._about = {}
            for target in self.targets:
                self._about.setdefault(target.key, []).append(target)
        return self._about.get(key, ())

    def _now_about(self, key: str, units: Sequence[FoundUnit], *, known_before: bool) -> None:
        """Units come in the place of the targets with a key."""
        if self._about is None or not (units or known_before):
            return
        if known_before:
            self._about = None
            return
        self._about.pop(key, None)
        for target in self._each.get(key, ()):
            for unit in units:
                self._about.setdefault(unit.key, []).append(unit.target(target))

    def _forget_units(self, shard: int, but: Collection[str]) -> None:
        """A shard has ended its part, and has found units for no other targets than these.

        Others are from before it started over; their finder has failed since.
        """
        part = self.parts.get(shard)
        gone = [t.key for t in part.targets if t.key in self.expanded and t.key not in but] if part else []
        for key in gone:
            del self.expanded[key]
        if gone:
            self._aim(self._planned)

    def _look_again(self) -> None:
        """The targets are others now: answers that came too early may be about some of them."""
        early, self.early = self.early, {}
        self.answer(early.values())
        self.notify()

    @property
    def targets(self) -> Sequence[Target]:
        """In the order of the request: units in the place of each range of a finder, once they are known."""
        if self._targets is None:
            self._targets = [unit for target in self._planned for unit in self._units(target)]
        return self._targets

    def _units(self, target: Target) -> Iterable[Target]:
        """A target, or the units that are known to be targets in its place."""
        found = self.expanded.get(target.key)
        return (unit.target(target) for unit in found) if found else (target,)

    # --- what the shards say

    def answer(self, answers: Iterable[Answer]) -> None:
        """Some keys are answered; a repeat changes nothing, and neither does a key that nobody asked for."""
        before = len(self.order)
        for answer in answers:
            key = answer.key
            if key in self._wanted:
                if key not in self.answers:
                    self.answers[key] = answer
                    self.order.append(key)
            elif self._each:
                self.early[key] = answer  # it overtook what tells that this is a target
        if len(self.order) > before:
            self.notify()

    def reply(self, shard: int, reply: Reply) -> None:
        """A shard's whole knowledge of the request. A part that is over here stays as it is."""
        if shard in self.parts and shard not in self.open:
            return
        if reply.targets:
            self.retarget(shard, Part(tuple(reply.positions), tuple(reply.targets)))
        if reply.state != "running":
            self._forget_units(shard, {key for key, _ in reply.expanded})
        self.expand(reply.expanded)
        self.answer(reply.answers)
        self.progress[shard] = reply.done, reply.total
        if reply.state != "running":
            self.finish(shard, reply.state)

    def lacks(self, shard: int) -> bool:
        """Whether a target of this shard has no answer."""
        part = self.parts.get(shard)
        return part is not None and any(
            one.key not in self.answers
            for target in part.targets
            for one in self.expanded.get(target.key) or (target,)
        )

    def finish(self, shard: int, state: str) -> None:
        """A shard has answered all it will."""
        if shard in self.open:
            self.cancelled = self.cancelled or state == "cancelled"
            self.open.discard(shard)
            self.notify()

    def cancel(self) -> None:
        """It is over for everyone who waits here, whatever the shards still say."""
        self.starting = False
        self.cancelled = True
        self.open.clear()
        self.notify()

    def fail(self, error: BaseException) -> None:
        """It came to nothing: whoever waits is told why."""
        self.error = error
        self.starting = False
        self.open.clear()
        self.notify()

    # --- what callers see

    @property
    def outcome(self) -> RequestState | Literal["refused"]:
        """What came of it, once it is over: its state, or that it was refused."""
        return "refused" if self.error is not None else _state(self, self.answers)

    @property
    def running(self) -> bool:
        """Whether answers are still to come."""
        return self.starting or bool(self.open)

    def notify(self) -> None:
        """Something changed: wake those who wait."""
        self.version += 1
        if self.at_end is not None and not self.running:
            at_end, self.at_end = self.at_end, None
            at_end(self)
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def change(self, seen: int, seconds: float | None = None) -> bool:
        """Until it has another version than `seen`; False if `seconds` pass first."""
        if self.version != seen:
            return True
        if self._changed is None:
            self._changed = asyncio.Event()
        changed = self._changed
        try:
            # Not `wait_for`: before Python 3.12 it could swallow a cancellation that met the event.
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            return self.version != seen
        return True

    async def wait(self, seconds: float) -> bool:
        """Until it is finished or time is up; True if finished. Raises what it came to nothing by."""
        if self.running and seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    while self.running:
                        await self.change(self.version)
            except TimeoutError:
                pass
        if self.error is not None:
            raise self.error
        return not self.running

    def result(self, target: Target) -> Result:
        """One target as it stands."""
        return _result(target, self.answers.get(target.key), self.cancelled)

    def progressed(self) -> tuple[int, int]:
        """Steps that are done, and all steps: those of which shards have told, and no fewer than results.

        Units that were found and made at once are in no shard's count: nobody asked for it meanwhile.
        """
        done = sum(d for d, _ in self.progress.values())
        total = max(sum(t for _, t in self.progress.values()), len(self._wanted))
        return (done if self.running or self.cancelled else total), total

    def view(self) -> RequestView:
        """The whole request as it stands."""
        done, total = self.progressed()
        return RequestView(
            id=self.id,
            state="running" if self.running else _state(self, self.answers),
            done=done,
            total=total,
            results=tuple(map(self.result, self.targets)),
            failed_assets=self.failed_assets,
            tenant=self.tenant,
            created=self.created,
            features=self.features,
        )

    @property
    def place(self) -> Place:
        """Where it comes in a listing."""
        return -self.created, self.id

    def info(self) -> RequestInfo:
        """What a listing tells of it."""
        state = "running" if self.running else _state(self, self.answers)
        return _info(self, state, self.targets, self.answers)

    def ended(self, now: float) -> Ended:
        """A finished request as it is remembered from `now` on."""
        return Ended(
            self.id,
            self.asked,
            self.targets,
            tuple(self.answers[key] for key in self.order if key in self._wanted),
            self.failed_assets,
            self.tenant,
            self.created,
            self.features,
            self.cancelled,
            self.progressed(),
            now,
        )


class Ended(NamedTuple):
    """A request that is over, kept in case that somebody asks about it.

    A busy service ends many thousands of requests within the minutes that it remembers them, and the garbage
    collector walks over all of them while callers wait: so this is one tuple that shares its answers, where a
    `TrackedRequest` is a dozen objects.
    """

    id: str
    asked: ComputeRequest | None
    targets: Sequence[Target]
    answers: tuple[Answer, ...]
    failed_assets: tuple[AssetFailure, ...]
    tenant: str
    created: float
    features: tuple[str, ...]
    cancelled: bool
    progress: tuple[int, int]
    since: float

    def view(self) -> RequestView:
        """The request as it was."""
        answers = {a.key: a for a in self.answers}
        return RequestView(
            id=self.id,
            state=_state(self, answers),
            done=self.progress[0],
            total=self.progress[1],
            results=tuple(_result(t, answers.get(t.key), self.cancelled) for t in self.targets),
            failed_assets=self.failed_assets,
            tenant=self.tenant,
            created=self.created,
            features=self.features,
        )

    @property
    def place(self) -> Place:
        """Where it comes in a listing."""
        return -self.created, self.id

    def info(self) -> RequestInfo:
        """What a listing tells of it."""
        answers = {a.key: a for a in self.answers}
        return _info(self, _state(self, answers), self.targets, answers)

    def tracked(self) -> TrackedRequest:
        """The request as it was, for whoever wants to be told its events."""
        again = TrackedRequest(
            self.id,
            self.tenant,
            self.created,
            self.asked,
            features=self.features,
            failed_assets=self.failed_assets,
            starting=False,
            cancelled=self.cancelled,
            progress={0: self.progress},
        )
        again.plan({0: Part(tuple(range(len(self.targets))), tuple(self.targets))}, self.targets)
        again.answer(self.answers)
        again.open.clear()
        return again


def merged(parts: Mapping[int, Part]) -> tuple[Target, ...]:
    """The targets of all shards in the order of the request."""
    placed = [
        (position, shard, place)
        for shard, part in parts.items()
        for place, position in enumerate(
            part.positions if len(part.positions) == len(part.targets) else range(len(part.targets))
        )
    ]
    return tuple(parts[shard].targets[place] for _, shard, place in sorted(placed))


def same_request(one: ComputeRequest, other: ComputeRequest) -> bool:
    """Whether two requests ask for the same; deadline and priority do not count."""
    return one is other or (
        one.features == other.features
        and one.assets == other.assets
        and one.range == other.range
        and one.refresh == other.refresh
        and one.tenant == other.tenant
        and named_params(one) == named_params(other)
        and one.expect == other.expect
        and one.registry == other.registry
        and one.callback == other.callback
    )


def named_params(request: ComputeRequest) -> tuple[tuple[str, str], ...]:
    """Parameters as text, in which 1, 1.0 and true are three things."""
    return tuple(sorted((k, repr(v)) for k, v in request.params.items()))


def _result(target: Target, answer: Answer | None, cancelled: bool) -> Result:
    if answer is None:
        return Result(target.feature, target.key, target.unit, "cancelled" if cancelled else "pending")
    if answer.failure is not None:
        failure = answer.failure.told(assets_of(target.unit))
        return Result(target.feature, target.key, target.unit, "failed", failure=failure)
    return Result(
        target.feature,
        target.key,
        target.unit,
        "ready",
        value=MISSING if answer.inline is None else pickled.loads(answer.inline),
        seconds=answer.seconds,
        cached=answer.cached,
    )


def _info(
    one: TrackedRequest | Ended, state: RequestState, targets: Sequence[Target], answers: Mapping[str, Answer]
) -> RequestInfo:
    """What a listing tells of a request. No value is opened."""
    its = [answers.get(target.key) for target in targets]
    ready = sum(answer is not None and answer.failure is None for answer in its)
    failed = sum(answer is not None and answer.failure is not None for answer in its)
    lost = len(one.failed_assets) * len(one.features)
    return RequestInfo(
        one.id, state, one.tenant, one.created, one.features, len(its) + lost, ready, failed + lost
    )


def _state(one: TrackedRequest | Ended, answers: Mapping[str, Answer]) -> RequestState:
    """The state of a request that is over, in the words of `RequestView`."""
    if one.cancelled:
        return "cancelled"
    nothing_asked = not one.targets and not one.failed_assets
    ready = any((a := answers.get(t.key)) is not None and a.failure is None for t in one.targets)
    return "done" if ready or nothing_asked else "failed"


def failures_to_json(failed: Iterable[AssetFailure]) -> list[dict[str, Any]]:
    """For the journal."""
    return [dataclasses.asdict(f) for f in failed]


def failures_from_json(data: Sequence[Mapping[str, Any]]) -> tuple[AssetFailure, ...]:
    """Read what `failures_to_json` wrote."""
    return tuple(AssetFailure(AssetRef(**d["ref"]), Failure(**d["failure"])) for d in data)
