"""Requests under way, as one engine follows them: its own, and those it was asked about by id.

News from the shards comes in here and wakes whoever waits. Must not know: plans, how a request was made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence

from amber_ray.core.model.request import RequestView
from amber_ray.core.model.service import RequestEvent
from amber_ray.core.planning.plan import Target
from amber_ray.errors import UnknownRequest
from amber_ray.fabric.engine.cache import Answers, Cache
from amber_ray.fabric.engine.request import Ended, TrackedRequest, failures_from_json
from amber_ray.fabric.engine.shard_client import ShardClient
from amber_ray.fabric.transport.messages import Answer, Reply, Updates

PENDINGS = 20_000
"""Finished requests remembered at most."""
PENDING_SECONDS = 300.0
"""How long a finished request is answered from here before the shards are asked about it."""
PROGRESS_SECONDS = 0.5
"""How often a stream of events asks how far its request has come."""
SWEEP_SECONDS = 10.0


class RequestTracker:
    """The requests that one engine knows, by id."""

    def __init__(self, links: Sequence[ShardClient], answers: Answers, cache: Cache) -> None:
        self._links = links
        self._answers = answers
        self._cache = cache
        self._pending: dict[str, TrackedRequest | Ended] = {}

    def __contains__(self, id: str) -> bool:
        return id in self._pending

    def add(self, pending: TrackedRequest) -> None:
        """A request that this engine is about to send."""
        self._pending[pending.id] = pending

    def forget(self, id: str) -> None:
        """The request came to nothing."""
        self._pending.pop(id, None)

    def known(self, pending: TrackedRequest, parts: Collection[int]) -> bool:
        """Answer a request from this process's memory, if it has all of it: no call, no wait."""
        answers: list[Answer] = []
        for target in pending.targets:
            answer = self._answers.get(target.key)
            if answer is None or (answer.inline is None and target.key not in self._cache):
                return False
            answers.append(answer)
        pending.answer(answers)
        for number in parts:
            pending.progress[number] = len(answers), len(answers)
            pending.finish(number, "done")
        self._pending[pending.id] = pending.ended_as()
        return True

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        """The request, as soon as it is finished or `wait` seconds have passed."""
        pending = await self.follow(id)
        if not await pending.wait(wait):
            await self.refresh_progress(pending)
        return pending.view()

    async def events(self, id: str) -> AsyncIterator[RequestEvent]:
        """What happens to the request from now on, beginning with what is already known."""
        pending = await self.follow(id)
        targets: dict[str, list[Target]] = {}
        for target in pending.targets:
            targets.setdefault(target.key, []).append(target)
        told = 0
        last = (-1, -1)
        while True:
            running = pending.running
            view_progress = self._progress_of(pending)
            if view_progress != last:
                last = view_progress
                yield RequestEvent("progress", *last)
            while told < len(pending.order):
                key = pending.order[told]
                told += 1
                for target in targets[key]:
                    yield RequestEvent("result", *last, result=pending.result(target))
            if not running:
                view = pending.view()
                yield RequestEvent("done", view.done, view.total, view=view)
                return
            if told == len(pending.order) and not await pending.change(PROGRESS_SECONDS):
                await self.refresh_progress(pending)

    async def cancel(self, id: str) -> RequestView:
        """Withdraw the request; work that others wait for goes on."""
        pending = await self.follow(id)
        if pending.running:
            await self.withdraw(pending)
        return pending.view()

    async def withdraw(self, pending: TrackedRequest) -> None:
        """End the request at every shard that still works on it."""
        for number in sorted(pending.open):
            await self._links[number].withdraw(pending.id)
            pending.finish(number, "cancelled")

    async def follow(self, id: str) -> TrackedRequest:
        """A request known here, or asked of the shards: any engine can answer for any request."""
        pending = self._remembered(id)
        if pending is not None:
            return pending
        replies = await asyncio.gather(*(link.attach(id) for link in self._links))
        known = {n: r for n, r in enumerate(replies) if r is not None}
        if not known:
            raise UnknownRequest(f"no request has the id {id!r}; ids come from POST /v1/compute")
        if (pending := self._remembered(id)) is not None:
            return pending  # another caller asked meanwhile
        first = next(iter(known.values()))
        body = first.record or {}
        pending = TrackedRequest(
            id,
            [t for r in known.values() for t in r.targets],
            failures_from_json(body.get("failed_assets") or []),
            first.tenant,
            first.created,
            set(known),
            tuple(body.get("features") or ()),
            accepted=True,
        )
        self._pending[id] = pending
        for number, reply in known.items():
            pending.reply(number, reply)
        return pending

    def _remembered(self, id: str) -> TrackedRequest | None:
        """A request that this engine knows, whether it is over or not."""
        found = self._pending.get(id)
        return found.pending() if isinstance(found, Ended) else found

    def _progress_of(self, pending: TrackedRequest) -> tuple[int, int]:
        done = sum(d for d, _ in pending.progress.values())
        total = sum(t for _, t in pending.progress.values())
        return (total if not pending.running else done), total

    async def refresh_progress(self, pending: TrackedRequest) -> None:
        """Ask the shards how far it is."""
        for number in sorted(pending.open):
            known = await self._links[number].call("progress", [pending.id])
            if pending.id in known:
                pending.progress[number] = known[pending.id]

    def news(self, shard: int, news: Updates) -> None:
        """What a shard's poll brought."""
        for id, key in news.about:
            pending = self._pending.get(id)
            if isinstance(pending, TrackedRequest):
                pending.answer((news.answers[key],))
        for answer in news.answers.values():
            self._answers.put(answer)
        for id, state in news.finished:
            pending = self._pending.get(id)
            if isinstance(pending, TrackedRequest):
                pending.finish(shard, state)
        self._cache.forget(news.purged)
        self._answers.forget(news.purged)

    def reply(self, shard: int, reply: Reply) -> None:
        """A shard's answer to a submission, or its whole knowledge after a reconnection."""
        for answer in reply.answers:
            self._answers.put(answer)
        pending = self._pending.get(reply.id)
        if isinstance(pending, TrackedRequest):
            pending.reply(shard, reply)

    async def sweep(self) -> None:
        """Forget old requests, for as long as the engine lives."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for id, pending in list(self._pending.items()):
                if pending.ended and (now - pending.ended > PENDING_SECONDS or len(self._pending) > PENDINGS):
                    del self._pending[id]
                elif pending.ended and isinstance(pending, TrackedRequest):
                    self._pending[id] = pending.ended_as()
