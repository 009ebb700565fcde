"""One engine's connection to one shard: calls gathered into few, news polled, a restart survived.

What bounds a shard is calls per second. So requests that arrive while a call is under way go out together
in the next one, and all answers come by one long poll, however many callers wait.

When the actor's process dies, Ray restarts it empty. The link then introduces itself again, brings the code
and every unfinished request with it, and the callers notice nothing but the delay. Requests carry their ids,
so one that the actor already resumed from its journal is joined, not repeated.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from amber_ray.errors import AmberError, Unavailable
from amber_ray.fabric.adapter import cluster
from amber_ray.fabric.transport.messages import Hello, MissingPlans, PlanPart, Reply, Submission, Updates
from amber_ray.fabric.transport.names import shard_name
from amber_ray.settings import Settings

log = logging.getLogger("amber.link")

POLL_SECONDS = 20.0
REVIVE_SECONDS = 120.0
SENT = 10_000
"""Names of plans that the actor is believed to know."""
GONE = (ray.exceptions.ActorDiedError, ray.exceptions.ActorUnavailableError)


class ShardClient:
    """Use `ShardClient.open`. All methods belong to one event loop."""

    def __init__(self, settings: Settings, shard: int, session: str, blobs: Mapping[str, bytes]) -> None:
        self.shard = shard
        self._settings = settings
        self._session = session
        self._blobs = blobs
        self._handle: Any = None
        self._incarnation = ""
        self._sent: set[str] = set()
        self._queue: list[tuple[str, PlanPart, Submission, asyncio.Future[Reply]]] = []
        self._live: dict[str, tuple[str, PlanPart, Submission]] = {}
        self._sending: asyncio.Task[None] | None = None
        self._polling: asyncio.Task[None] | None = None
        self._reviving: asyncio.Task[None] | None = None
        self._closed = False
        self.on_news: Callable[[int, Updates], None] = lambda shard, news: None
        self.on_reply: Callable[[int, Reply], None] = lambda shard, reply: None

    async def open(self, *, create: bool) -> Hello:
        """Connect, bring the code, start polling."""
        self._handle, hello = await cluster.shard(self._settings, self.shard, create=create)
        await self._greet(hello)
        self._polling = asyncio.create_task(self._poll())
        return hello

    async def _greet(self, hello: Hello) -> None:
        self._incarnation = hello.incarnation
        self._sent.clear()
        for digest, blob in self._blobs.items():
            if digest not in hello.registries:
                await self._handle.publish.remote(digest, blob)

    async def close(self) -> None:
        """Stop polling; requests that were not accepted are withdrawn."""
        self._closed = True
        for task in (self._polling, self._sending, self._reviving):
            if task is not None:
                task.cancel()
        try:
            await asyncio.wait_for(self._handle.leave.remote(self._session), 5.0)
        except (*GONE, TimeoutError) as error:
            log.info("shard %d was not told that this engine leaves: %s", self.shard, error)

    # --- requests

    async def submit(self, plan: str, part: PlanPart, submission: Submission) -> Reply:
        """Send one request, together with the others of this moment."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._queue.append((plan, part, submission, future))
        self._live[submission.id] = (plan, part, submission)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())
        return await future

    async def _send(self) -> None:
        await asyncio.sleep(0)  # let the other callers of this turn join
        while self._queue:
            batch, self._queue = self._queue, []
            try:
                replies = await self._submit_all([(p, part, s) for p, part, s, _ in batch])
            except Exception as error:  # noqa: BLE001 - handed to each caller, who raises it
                for _, _, submission, future in batch:
                    self._live.pop(submission.id, None)
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, _, _, future), reply in zip(batch, replies, strict=True):
                if reply.state != "running":
                    self._live.pop(reply.id, None)
                if not future.done():
                    future.set_result(reply)

    async def _submit_all(self, batch: Sequence[tuple[str, PlanPart, Submission]]) -> list[Reply]:
        plans = {plan: part for plan, part, _ in batch}
        submissions = [s for _, _, s in batch]
        while True:
            new = {plan: part for plan, part in plans.items() if plan not in self._sent}
            answer: Sequence[Reply] | MissingPlans = await self.call(
                "submit", self._session, new, submissions
            )
            if not isinstance(answer, MissingPlans):
                if len(self._sent) > SENT:
                    self._sent.clear()
                self._sent.update(new)
                return list(answer)
            self._sent.difference_update(answer.plans)  # it was restarted, or has forgotten them
            if answer.registry:
                if answer.registry not in self._blobs:
                    raise AmberError(f"registry {answer.registry} is not published and not known here")
                await self._handle.publish.remote(answer.registry, self._blobs[answer.registry])

    def forget(self, id: str) -> None:
        """The request is over; it need not be brought again after a restart."""
        self._live.pop(id, None)

    async def accept(self, id: str, body: Mapping[str, Any]) -> None:
        """Have the request journaled."""
        live = self._live.get(id)
        if live is not None:
            live[2].record = body
        await self.call("accept", {id: body})

    async def withdraw(self, id: str) -> None:
        """End the request here."""
        self._live.pop(id, None)
        await self.call("withdraw", [id])

    async def attach(self, id: str) -> Reply | None:
        """Ask for a request that this engine did not submit."""
        reply: Reply | None = await self.call("attach", self._session, id)
        return reply

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call the actor; while its process restarts, wait and call again. All calls are repeatable."""
        give_up = time.monotonic() + REVIVE_SECONDS
        while True:
            try:
                return await getattr(self._handle, method).remote(*arguments)
            except GONE as error:
                if self._closed or time.monotonic() > give_up:
                    raise Unavailable(
                        f"the cache actor of shard {self.shard} can't be reached: {error}"
                    ) from error
                await self._revive()
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, AmberError):
                    raise error.cause from None
                raise

    # --- news

    async def _poll(self) -> None:
        while not self._closed:
            try:
                news: Updates = await self._handle.poll.remote(self._session, POLL_SECONDS)
            except GONE:
                try:
                    await self._revive()
                except Unavailable as error:
                    log.error("%s", error)
                    await asyncio.sleep(1.0)
                continue
            for id, _ in news.finished:
                self._live.pop(id, None)
            if news:
                self.on_news(self.shard, news)

    async def _revive(self) -> None:
        """Wait for the restarted actor, once however many calls noticed; then bring what it has forgotten."""
        if self._reviving is None or self._reviving.done():
            self._reviving = asyncio.create_task(self._bring_back())
        await asyncio.shield(self._reviving)

    async def _bring_back(self) -> None:
        give_up = time.monotonic() + REVIVE_SECONDS
        while True:
            try:
                self._handle = ray.get_actor(shard_name(self.shard), namespace=self._settings.namespace)
                hello = await cluster.introduce(self._handle, max(0.1, give_up - time.monotonic()))
                if hello.incarnation == self._incarnation:
                    # It was only out of reach; news may have been lost on the way, so all is asked for again.
                    for id in list(self._live):
                        again = await self._handle.attach.remote(self._session, id)
                        if again is not None:
                            self.on_reply(self.shard, again)
                    return
                await self._greet(hello)
                live = list(self._live.values())
                if live:
                    for reply in await self._handle.submit.remote(
                        self._session, {p: part for p, part, _ in live}, [s for _, _, s in live]
                    ):
                        if reply.state != "running":
                            self._live.pop(reply.id, None)
                        self.on_reply(self.shard, reply)
                return
            except (ValueError, *GONE, Unavailable) as error:
                if self._closed or time.monotonic() > give_up:
                    raise Unavailable(
                        f"the cache actor of shard {self.shard} did not come back within {REVIVE_SECONDS:g} s"
                    ) from error
                await asyncio.sleep(0.2)
