"""A request as one engine follows it: answers from the shards, gathered for whoever waits.

Several callers may wait for one request (a long poll, an event stream); none of them is the work. Must not
know Ray: answers come in as messages, and `changed` wakes those who wait.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from amber_ray.core.model.request import MISSING, AssetFailure, AssetRef, Failure, RequestView, Result, State
from amber_ray.core.planning.plan import Target
from amber_ray.fabric.transport import pickled
from amber_ray.fabric.transport.messages import Answer, Reply


@dataclass(slots=True)
class TrackedRequest:
    """One request. `open` are the shards that have not finished their part of it."""

    id: str
    targets: Sequence[Target]
    failed_assets: tuple[AssetFailure, ...]
    tenant: str
    created: float
    open: set[int]
    features: tuple[str, ...] = ()
    accepted: bool = False
    cancelled: bool = False
    answers: dict[str, Answer] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    progress: dict[int, tuple[int, int]] = field(default_factory=dict)
    ended: float = 0.0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _wanted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._wanted = {t.key for t in self.targets}

    # --- what the shards say

    def answer(self, answers: Iterable[Answer]) -> None:
        """Some keys are answered; a repeat (after a reconnection) changes nothing."""
        before = len(self.order)
        for answer in answers:
            key = answer.key
            if key in self._wanted and key not in self.answers:
                self.answers[key] = answer
                self.order.append(key)
        if len(self.order) > before:
            self._notify()

    def reply(self, shard: int, reply: Reply) -> None:
        """A shard's whole knowledge of the request."""
        self.answer(reply.answers)
        self.progress[shard] = reply.done, reply.total
        if reply.state != "running":
            self.finish(shard, reply.state)

    def finish(self, shard: int, state: str) -> None:
        """A shard has answered all it will."""
        self.cancelled = self.cancelled or state == "cancelled"
        self.open.discard(shard)
        if not self.open and not self.ended:
            self.ended = time.monotonic()
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # --- what callers see

    @property
    def running(self) -> bool:
        """Whether answers are still to come."""
        return bool(self.open)

    @property
    def state(self) -> State:
        """In the words of `RequestView`."""
        if self.cancelled:
            return "cancelled"
        if self.open:
            return "running"
        ready = any(a.failure is None for a in self.answers.values())
        nothing_asked = not self.targets and not self.failed_assets
        return "done" if ready or nothing_asked else "failed"

    async def wait(self, seconds: float) -> bool:
        """Until it is finished or time is up; True if finished."""
        give_up = time.monotonic() + seconds
        while self.open:
            left = give_up - time.monotonic()
            if left <= 0 or not await self.change(left):
                break
        return not self.open

    async def change(self, seconds: float) -> bool:
        """Until the next answer or the end; False if time is up first."""
        changed = self._changed
        try:
            # Not `wait_for`: before Python 3.12 it could swallow a cancellation that met the event.
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            return False
        return True

    def result(self, target: Target) -> Result:
        """One target as it stands."""
        answer = self.answers.get(target.key)
        if answer is None:
            return Result(
                target.feature, target.key, target.unit, "cancelled" if self.cancelled else "pending"
            )
        if answer.failure is not None:
            return Result(target.feature, target.key, target.unit, "failed", failure=answer.failure)
        return Result(
            target.feature,
            target.key,
            target.unit,
            "ready",
            value=MISSING if answer.inline is None else pickled.loads(answer.inline),
            seconds=answer.seconds,
            cached=answer.cached,
        )

    def view(self) -> RequestView:
        """The whole request as it stands."""
        done = sum(d for d, _ in self.progress.values())
        total = sum(t for _, t in self.progress.values())
        if not self.open and not self.cancelled:
            done = total
        return RequestView(
            id=self.id,
            state=self.state,
            done=done,
            total=total,
            results=tuple(map(self.result, self.targets)),
            failed_assets=self.failed_assets,
            tenant=self.tenant,
            created=self.created,
            features=self.features,
        )

    def ended_as(self) -> Ended:
        """A finished request as it is remembered."""
        return Ended(
            self.id,
            self.targets,
            tuple(self.answers[key] for key in self.order),
            self.failed_assets,
            self.tenant,
            self.created,
            self.features,
            self.accepted,
            self.cancelled,
            tuple(self.progress.items()),
            self.ended,
        )


class Ended(NamedTuple):
    """A request that is over, kept in case that somebody asks about it.

    A busy service ends many thousands of requests within the minutes that it remembers them, and the garbage
    collector walks over all of them while callers wait: so this is one tuple that shares its answers, where a
    `TrackedRequest` is a dozen objects.
    """

    id: str
    targets: Sequence[Target]
    answers: tuple[Answer, ...]
    failed_assets: tuple[AssetFailure, ...]
    tenant: str
    created: float
    features: tuple[str, ...]
    accepted: bool
    cancelled: bool
    progress: tuple[tuple[int, tuple[int, int]], ...]
    ended: float

    def pending(self) -> TrackedRequest:
        """The request as it was."""
        again = TrackedRequest(
            self.id,
            self.targets,
            self.failed_assets,
            self.tenant,
            self.created,
            set(),
            self.features,
            self.accepted,
            self.cancelled,
            progress=dict(self.progress),
            ended=self.ended,
        )
        again.answer(self.answers)
        return again


def failures_to_json(failed: Iterable[AssetFailure]) -> list[dict[str, Any]]:
    """For the journal."""
    return [dataclasses.asdict(f) for f in failed]


def failures_from_json(data: Sequence[Mapping[str, Any]]) -> tuple[AssetFailure, ...]:
    """Read what `failures_to_json` wrote."""
    return tuple(AssetFailure(AssetRef(**d["ref"]), Failure(**d["failure"])) for d in data)
