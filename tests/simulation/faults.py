"""What befalls a world from outside at a given time; faults that need an occasion are in `World.chance`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from amber_ray.errors import AmberError
from amber_ray.store.purge_log import Purge
from tests.simulation.callers import PATIENCE_SECONDS, Broken, connected
from tests.simulation.cluster import objects
from tests.simulation.scenario import CLUSTERS, FEATURES, Happening

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")


class Faults:
    """Does to the world what a scenario says. `purges` are under way: what they are told may be old."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.purges = 0

    def happen(self, it: Happening) -> None:
        """Let it happen; the rest is the cluster's business."""
        world = self._world
        match it.kind:
            case "objects vanish":
                self._vanish(it)
            case "purge":
                world.spawn(self._purge(it))
            case "nodes change":
                self._change(it)
            case "node dies":
                self._node_dies(it)
            case "shard dies":
                self._doom(_one(it, world.shards), it)
            case "engine dies":
                self._doom(_one(it, world.engines), it)
            case "engine cut off":
                world.saw("an engine was cut off from a shard")
                pair = _one(it, world.engines).name, world.shards[int(it.much * len(world.shards))].name
                until = world.loop.time() + 5.0 + 90.0 * world.draws.unit("cut off", pair) ** 0.5
                world.cut_until[pair] = until
                world.oracle.cut_off(pair[0], until)
            case "engine changes":
                world.saw("an engine was redeployed")
                _one(it, world.engines).process.kill()  # type: ignore[union-attr]
            case "disk full":
                world.saw("the disk was full")
                world.store.full_until = max(world.store.full_until, world.loop.time() + 0.5 + it.much * 8.0)
            case "part damaged":
                self._damage(it)
            case "part away":
                self._away(it)
            case "upgrade":
                world.saw("new versions")
                world.media.upgrade()
            case "asset moves":
                world.saw("an asset moved")
                world.moves += 1
                world.media.move(int(it.which * len(world.media.assets)))

    def _doom(self, node: Any, it: Happening) -> None:
        """A process will die after so many more callbacks of its own, or when it has begun a write."""
        if node.up and it.much < 0.7:
            node.process.dies_after = int(it.much * 60)
        elif node.up:
            node.process.dies_writing = True

    def _vanish(self, it: Happening) -> None:
        """Objects are gone, as by a store that was too full."""
        world = self._world
        for node in world.nodes.all:
            for n, one in enumerate(objects().on(node)):
                if (n * 0.37 + it.much) % 1.0 < 0.3 and not one.lost:
                    one.lost = True
                    world.saw("objects vanished")

    def _node_dies(self, it: Happening) -> None:
        """A node goes with its tasks and its values, and perhaps another like it comes."""
        world = self._world
        number = list(world.nodes.all)[int(it.which * len(world.nodes.all))]
        world.saw("a node died")
        has = world.nodes.dies(number)
        if it.much < 0.5 or not world.nodes.all:
            world.nodes.all[number + 100] = has

    def _change(self, it: Happening) -> None:
        """Other nodes in place of all; what ran there is lost."""
        world = self._world
        world.saw("other nodes")
        first = max(world.nodes.all) + 1
        for number in list(world.nodes.all):
            if self._world.draws.unit("node goes", number) < 0.5:
                world.nodes.dies(number)
            else:
                del world.nodes.all[number]
        world.nodes.all = dict(enumerate(CLUSTERS[int(it.which * len(CLUSTERS))], first))

    async def _purge(self, it: Happening) -> None:
        """Somebody purges an asset or a feature, and asks again until it is done."""
        self.purges += 1
        await self._purged(it)
        self.purges -= 1

    async def _purged(self, it: Happening) -> None:
        world = self._world
        asset = feature = None
        if it.much < 0.5:
            feature = FEATURES[int(it.which * len(FEATURES))]
        else:
            asset = world.media.assets[int(it.which * len(world.media.assets))].id
        number = int(it.much * 100) % len(world.engines)
        give_up = world.loop.time() + PATIENCE_SECONDS
        while world.loop.time() < give_up:
            executions = world.media.executions
            try:
                await connected(
                    world, world.engines[number], lambda engine: engine.purge(asset=asset, feature=feature)
                )
            except Broken:
                number = (number + 1) % len(world.engines)
                await asyncio.sleep(0.1)
            except AmberError as error:
                world.allowed(error)
                await asyncio.sleep(1.0)
            else:
                world.saw("a purge")
                purge = Purge(asset, feature, None, 0.0)
                matching = [
                    key
                    for key, step in world.media.steps.items()
                    if purge.feature in (None, step.recipe.feature)
                    and (asset is None or world.oracle.about(key, asset))
                ]
                world.oracle.purged(matching, executions)
                return
        raise AssertionError("a purge never ended")

    def _damage(self, it: Happening) -> None:
        """A part's bytes are wrong."""
        world = self._world
        parts = list(world.store.parts.values())
        if parts:
            part = _one(it, parts)
            part.damaged = True
            world.saw("a part was damaged")
            world.oracle.damaged(part.rows)

    def _away(self, it: Happening) -> None:
        """A part can't be read for a while: the store is slow, not wrong."""
        world = self._world
        parts = list(world.store.parts.values())
        if parts:
            _one(it, parts).away_until = world.loop.time() + 1.0 + 20.0 * it.much
            world.saw("a part was away")


def _one(it: Happening, options: Sequence[T]) -> T:
    return options[int(it.which * len(options))]
