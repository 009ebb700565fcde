"""`start_engine`: how every way in gets an engine, over cache actors that are there or are made.

Must not know: HTTP, how a request is followed.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import Any

import ray

from amber_ray.fabric.adapter import cluster, machine
from amber_ray.fabric.adapter.engine_ports import opened, unpack
from amber_ray.fabric.engine.engine import Engine
from amber_ray.fabric.transport import registry_blob
from amber_ray.fabric.transport.messages import Hello
from amber_ray.fabric.worker import tasks
from amber_ray.media.catalogue import Catalogue
from amber_ray.settings import Settings


async def start_engine(
    settings: Settings,
    *,
    features: Sequence[Any] = (),
    create: bool = True,
    warm: bool = False,
    catalogue: Catalogue | None = None,
    code: bytes | None = None,
    reading: bool = True,
) -> Engine:
    """An engine over the cache actors of this Ray cluster, which are made if `create`.

    `features` are decorated functions or classes beside those of `settings`. With `create` False the running
    cluster's settings are adopted. With `warm` a worker imports the features while the cache actors start, as
    their first step would. `catalogue`: one that this process has of the store already. `code`: the features,
    as another engine has pickled them (`Engine.code`), in place of those that settings and `features` name.
    `reading`: see `Ports`. Raises `DeclarationError`, `StoreBusy`, `BadRequest`, `Unavailable`.
    """
    if not create:
        settings = await _adopted(settings)
    if code is None:
        registry = await asyncio.to_thread(registry_blob.build, settings, features)
        registry_blob.remember(registry)
        blob = await asyncio.to_thread(registry_blob.pack, registry)
    else:
        registry, blob = await unpack(code), code
    if warm:
        ray.remote(tasks.get_ready).options(num_cpus=0, max_retries=0).remote(registry.digest, blob)
    catalogue = catalogue or machine.catalogue(settings)
    find = functools.partial(_found, settings, create)
    return await opened(settings, registry, blob, catalogue, find, reading=reading)


async def _found(settings: Settings, create: bool, number: int, timeout: float) -> tuple[Any, Hello]:
    return await cluster.shard(settings, number, create=create, timeout=timeout)


async def _adopted(settings: Settings) -> Settings:
    """The settings of the Amber that runs here; media roots of the caller's own are added."""
    _, hello = await cluster.shard(settings, 0, create=False)
    running = Settings.from_json(hello.settings)
    roots = tuple(dict.fromkeys((*running.media_roots, *settings.media_roots)))
    return running.replace(media_roots=roots)
