"""The cache actor: a shard as a detached Ray actor, named by `transport.names` and made by `adapter.cluster`.

Ray calls the coroutines of `Shard` on the actor's event loop. This adds only what concerns the process.
"""

from __future__ import annotations

import asyncio
import os

import ray

from amber_ray.core.declare.registry import Registry
from amber_ray.fabric import heap
from amber_ray.fabric.adapter import logs, shard_ports, tracing
from amber_ray.fabric.shard.shard import Shard
from amber_ray.fabric.transport import registry_blob
from amber_ray.fabric.transport.messages import Hello
from amber_ray.settings import Settings


class CacheActor(Shard):
    """One shard in a process of its own."""

    def __init__(self, settings_json: str, shard: int) -> None:
        settings = Settings.from_json(settings_json)
        logs.attach(settings)

        async def code() -> tuple[Registry, bytes]:
            registry = await asyncio.to_thread(registry_blob.build, settings)
            return registry, await asyncio.to_thread(registry_blob.pack, registry)

        super().__init__(settings, shard, shard_ports.ports(settings, shard), code)
        self._settled_heap = False
        # Ray restarts this actor when its process dies, perhaps with nobody there to call it: accepted
        # requests must go on all the same, so it makes the first call itself.
        ray.get_runtime_context().current_actor.hello.remote()

    async def hello(self) -> Hello:
        """See `Shard.hello`."""
        hello = await super().hello()
        if not self._settled_heap:
            self._settled_heap = True
            heap.settle()
        return hello

    async def close(self, timeout: float) -> bool:
        """See `Shard.close`."""
        closed = await super().close(timeout)
        await tracing.flush()
        return closed

    async def pid(self) -> int:
        """This shard's process, on its node."""
        return os.getpid()
