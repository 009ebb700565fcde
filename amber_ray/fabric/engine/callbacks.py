"""`compute` with a callback: the request is accepted, who is to be called is kept, and then it is waited for.

    room at the first shard ──→ flight.compute (wait 0) ──→ journaled ──→ promise there ──→ wait ──→ answer

So whatever the caller is answered, its callback is on paper by then. Whoever dies in between has answered
nobody; the same id asked again finds what is there and adds what is lacking.

Must not know: how a callback is made.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from amber_ray.core.deliveries.policy import Policy
from amber_ray.core.model.audit import host_of
from amber_ray.core.model.callback import Callback
from amber_ray.core.model.request import ComputeRequest, RequestView
from amber_ray.errors import AmberError
from amber_ray.fabric.engine.audit import Auditor
from amber_ray.fabric.engine.requests import RequestTracker
from amber_ray.fabric.engine.shard_client import ShardClient
from amber_ray.fabric.engine.single_flight import SingleFlight
from amber_ray.fabric.transport.messages import Promise
from amber_ray.settings import Settings


class Callbacks:
    """Requests with callbacks of one engine; and who may be called at all."""

    def __init__(
        self,
        settings: Settings,
        flight: SingleFlight,
        tracker: RequestTracker,
        shards: Sequence[ShardClient],
        auditor: Auditor,
    ) -> None:
        self._policy = Policy.of(settings)
        self._flight = flight
        self._tracker = tracker
        self._shards = shards
        self._auditor = auditor

    def allowed(self, callback: Callback) -> Callback:
        """Who is to be called, by the URL in its canonical form.

        Raises `BadRequest` where it may not be, and where it would not be told anything.
        """
        callback.check()
        return dataclasses.replace(callback, url=str(self._policy.allow(callback.url)))

    async def compute(self, request: ComputeRequest, callback: Callback, wait: float, id: str) -> RequestView:
        """See `Service.compute`.

        Raises `BadRequest` for a URL that may not be called, `Overloaded` where the tenant has too many
        callbacks that are still to be made; then nothing was accepted.
        """
        callback = self.allowed(callback)
        request = dataclasses.replace(request, callback=callback)
        await self._shards[0].call("reserve_callback", id, request.tenant)
        try:
            view = await self._flight.compute(request, 0.0, id)
        except AmberError:
            await self._shards[0].call("release_callback", id)
            raise
        promise = Promise(view.id, view.tenant, callback, len(view.failed_assets), _end(view))
        async with self._auditor.change(
            "callback.promised", view.id, view.tenant, host=host_of(callback.url), on=callback.on
        ):
            await self._shards[0].call("promise", promise)
        if view.state == "running" and wait > 0:
            view = await self._tracker.status(view.id, wait)
        return view


def _end(view: RequestView) -> tuple[str, int, int] | None:
    """What has become of a request that is over: its state, values, failures."""
    if view.state == "running":
        return None
    states = Counter(result.state for result in view.results)
    return view.state, states["ready"], states["failed"]
