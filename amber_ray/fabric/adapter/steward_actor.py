"""The process that sees to demands: a steward with an engine of its own, in a Ray actor of the first shard's.

    first shard's actor ──owns──→ steward's actor: Ray restarts it when it dies, and ends it with its owner
      ↑ tend, note ─────────────── Steward ──→ Engine ──→ all shards

It has a process to itself since a listing of a million files takes seconds of Python's interpreter lock,
which neither the shard nor a server's replica has to spare. It runs on the node of the first shard.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from amber_ray.fabric.adapter import logs, machine
from amber_ray.fabric.adapter.engine_ports import opened
from amber_ray.fabric.adapter.introduction import introduce, named
from amber_ray.fabric.adapter.listings import StoreListings
from amber_ray.fabric.adapter.watching import FolderWatching
from amber_ray.fabric.demands.desk import EngineDesk
from amber_ray.fabric.demands.ports import Ports
from amber_ray.fabric.demands.steward import Steward, remembering_nothing
from amber_ray.fabric.transport import registry_blob
from amber_ray.fabric.transport.messages import Hello
from amber_ray.settings import Settings

log = logging.getLogger("amber.demands")

BROKEN = 72
"""Exit code of a steward that met what it did not expect."""


class StewardActor:
    """One steward in a process of its own."""

    def __init__(self, settings_json: str, name: str) -> None:
        self._settings = Settings.from_json(settings_json)
        self._name = name
        logs.attach(self._settings)
        # Ray makes it anew when its process dies, and nobody calls it then but itself.
        ray.get_runtime_context().current_actor.run.remote()

    async def run(self) -> None:
        """Follow the demands until another steward is named."""
        try:
            settings = remembering_nothing(self._settings)
            catalogue = machine.catalogue(settings)
            registry = await asyncio.to_thread(registry_blob.build, settings)
            registry_blob.remember(registry)
            code = await asyncio.to_thread(registry_blob.pack, registry)
            engine = await opened(settings, registry, code, catalogue, self._found, reading=False)
            ports = Ports(
                desk=EngineDesk(engine, self._name, time.time()),
                service=engine,
                assets=machine.CatalogueAssets(catalogue),
                listings=StoreListings(settings),
                watching=FolderWatching(settings),
                clock=machine.MachineClock(),
            )
            await Steward(ports, engine.by).run()
            await engine.aclose()
        except Exception:
            log.critical("whoever sees to the demands can't go on, and starts over", exc_info=True)
            await asyncio.sleep(1.0)
            os._exit(BROKEN)

    async def _found(self, number: int, timeout: float) -> tuple[Any, Hello]:
        """A cache actor that is there: a steward makes none."""
        handle = named(self._settings, number)
        return handle, await introduce(handle, timeout)

    async def pid(self) -> int:
        """This steward's process, on its node."""
        return os.getpid()


class RayStewards:
    """Starts stewards as actors that this process owns. Implements `Stewards`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._handle: Any = None

    async def start(self, name: str) -> None:
        """See `Stewards.start`."""
        await self.stop()
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(StewardActor).options(
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=8,
            num_cpus=0,
            scheduling_strategy=here,
        )
        self._handle = actor.remote(self._settings.to_json(), name)

    async def stop(self) -> None:
        """See `Stewards.stop`."""
        if self._handle is not None:
            ray.kill(self._handle)
            self._handle = None
