"""Who is called with requests' ends and news of demands: down, slow, busy, forgetful, or gone for good.

It checks what it is sent: signed, known to the store as what it is, the same bytes each time, and about a
request that has ended.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amber_ray.core.deliveries.record import Delivery, Outcome
from amber_ray.core.deliveries.signature import signatures
from amber_ray.core.deliveries.urls import CallbackUrl
from tests.simulation.callers import Broken, Caller, connected

if TYPE_CHECKING:
    from tests.simulation.world import World

HOST = "hooks.example"
SECRETS = ("whsec_" + "bmV3" * 8, "whsec_" + "b2xk" * 8)
GONE = 410


class Receiver:
    """What all shards' ways out lead to. By message, `answers` are statuses it gave, `bodies` its bytes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.answers: dict[str, list[int]] = {}
        self.bodies: dict[str, bytes] = {}

    async def post(self, url: CallbackUrl, headers: Mapping[str, str], body: bytes) -> Outcome:
        """See `Sender.post`. Runs in the sender's process."""
        world, id = self._world, headers["webhook-id"]
        await asyncio.sleep(0.5 * world.draws.unit("to the receiver", id) ** 3)
        if world.chance("receiver down", id):
            world.saw("a receiver was down")
            return Outcome(error="no connection")
        if world.chance("receiver hangs", id):
            await asyncio.sleep(3600.0)
        try:
            self._check(url, headers, body)
        except AssertionError as error:
            world.fail(error)
        status, later = self._answer(id)
        self.answers.setdefault(id, []).append(status)
        world.note("receiver", f"receives {id} and answers {status}", ())
        await asyncio.sleep(0.5 * world.draws.unit("from the receiver", id) ** 3)
        if world.chance("receiver cuts", id):
            world.saw("a receiver's answer was lost")
            return Outcome(error="the connection broke")
        return Outcome(status, later)

    def _answer(self, id: str) -> tuple[int, str | None]:
        world = self._world
        if world.chance("receiver fails", id):
            world.saw("a receiver failed")
            return 500, None
        if world.chance("receiver busy", id):
            world.saw("a receiver was busy")
            return 429, "10"
        if world.chance("receiver gone", id):
            world.saw("a receiver was gone")
            return GONE, None
        return 204, None

    def _check(self, url: CallbackUrl, headers: Mapping[str, str], body: bytes) -> None:
        """Whether a message is what it should be."""
        world, id = self._world, headers["webhook-id"]
        signed = signatures(SECRETS, id, int(headers["webhook-timestamp"]), body)
        assert headers["webhook-signature"] == signed
        assert abs(int(headers["webhook-timestamp"]) - world.unix()) < 5.0
        assert self.bodies.setdefault(id, body) == body, f"{id} was sent with two bodies"
        kept = Delivery.from_json(json.loads(world.store.deliveries[id]))
        assert (kept.state, kept.body.encode()) == ("pending", body), f"{id} is sent, and kept as {kept}"
        ask = world.asks.get(kept.request)
        if ask is None:
            return  # of a case of the contract, which looks for itself
        assert ask.called, f"nobody asked to be told of {kept.request}"
        assert str(url) == kept.url == url_of(ask.id)
        message: Mapping[str, Any] = json.loads(body)
        data = message["data"]
        assert (message["type"], data["request"]) == (kept.type, kept.request)
        if kept.type == "request.result":
            assert "result" in ask.called
            assert sum(data["results"].values()) > 0
            return
        assert kept.type == f"request.{data['state']}"
        assert ("done" if data["state"] == "done" else "failed") in ask.called
        if data["state"] == "cancelled":
            assert ask.cancels is not None, f"{ask.id} was cancelled by nobody"
            return
        if data["failed_assets"] and not any(data["results"].values()):
            return  # nothing is asked of shards; what is in the journal is of an attempt that was withdrawn
        for shard in self._asked(ask.id):
            assert world.oracle.has_ended(ask.id, shard), f"{id} came before {ask.id} ended at {shard}"

    def _asked(self, request: str) -> list[int]:
        """The shards that have a part of a request on paper, as it was asked for last.

        Asked again when an asset was gone, it has no part any more at the shard of that.
        """
        paper = self._world.store.journal
        names = {shard: f"{request}.{shard}" for shard in range(self._world.scenario.shards)}
        parts = {shard: json.loads(paper[name]) for shard, name in names.items() if name in paper}
        newest = max(parts.values(), key=lambda part: part["created"], default=None)
        return [] if newest is None else [shard for shard in parts if shard in newest["shards"]]

    # --- at the end

    async def hurry(self) -> None:
        """Somebody has everything sent that waits for its next turn."""
        world = self._world
        for id, text in list(world.store.deliveries.items()):
            if json.loads(text)["state"] != "pending":
                continue
            node = world.engines[len(id) % len(world.engines)]
            try:
                await connected(world, node, lambda engine, id=id: engine.replay(id))
                world.saw("a delivery was replayed")
                world.changed("delivery.replayed", id)
            except Broken as error:
                raise AssertionError(f"{id} could not be replayed: {error}") from error

    def kept(self, callers: list[Caller]) -> None:
        """Nothing is left to be sent, and all who asked to be told were."""
        world = self._world
        for id, text in world.store.deliveries.items():
            state = json.loads(text)["state"]
            assert state in ("delivered", "failed"), f"{id} is {state}"
            given = self.answers.get(id, [])
            assert any(200 <= status < 300 or status == GONE for status in given), f"{id} got {given}"
        for caller in callers:
            ask, view = caller.ask, caller.view
            if not ask.called or view is None:
                continue
            world.saw("a caller was to be told")
            if self._resumed(ask.id) and not {"done", "failed"} <= set(ask.called):
                continue  # it may have come to another end than its caller was told of
            if ("done" if view.state == "done" else "failed") in ask.called:
                assert f"end_{ask.id}" in self.answers, f"nobody was told that {ask.id} is {view.state}"
            elif "result" in ask.called and any(r.state in ("ready", "failed") for r in view.results):
                about = [id for id in self.answers if id.partition("_")[2] == ask.id]
                assert about, f"nobody was told of the results of {ask.id}"

    def _resumed(self, request: str) -> bool:
        """Whether a part of a request may have come to two ends: the first was told, and never on paper.

        That takes a shard that died before it had journaled the end, or a write of that which failed.
        """
        cut_off = self._world.store.cut_off
        parts = (f"{request}.{shard}" for shard in range(self._world.scenario.shards))
        return bool(self._world.seen["a shard died"] or any(cut_off[part] for part in parts))


def url_of(request: str) -> str:
    """The URL of a request's callback."""
    return f"https://{HOST}/{request}"
