"""Ray itself: start a local one, join another, find or make the cache actors, and stop what was started.

`environment` names the variables that must be set before Ray starts; the entry points set them, nothing
here reads the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import ray
from ray._private.node import Node

from amber_ray.errors import BadRequest, Unavailable
from amber_ray.fabric.adapter.cache_actor import CacheActor
from amber_ray.fabric.adapter.introduction import UP_SECONDS, introduce, named
from amber_ray.fabric.transport.messages import Hello
from amber_ray.fabric.transport.names import shard_name
from amber_ray.settings import MIB, Settings
from amber_ray.store.files import Files
from amber_ray.store.lease import Lease

log = logging.getLogger("amber.cluster")

TRIES = 3
"""How often a Ray of its own is started, where its node does not come up."""
NOT_UP = "node timed out during startup"
"""What Ray says then: it waits 15 s for a helper of its own and 30 s in all, whatever else is done here."""
START = "start_ray_processes"
"""What a node's processes are started by."""
WRITERS = 6
"""Workers that may stay at hand beside one for each CPU."""


def environment() -> dict[str, str]:
    """Variables for a process that is about to start Ray, where the user has not set them.

    Workers inherit them: the path so that they find modules beside the caller, and GPUs hidden from steps
    that did not ask for one.
    """
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
        # Ray ends workers beyond one per CPU after a second without work. Values are written by such workers,
        # and a new one takes most of a second of CPU to import what it needs, while steps are running.
        "RAY_num_workers_soft_limit": str((os.cpu_count() or 1) + WRITERS),
        # Ray takes that number for the CPUs when it starts workers ahead for tasks that wait, though no more
        # can run: a third of a second of CPU for each, in the midst of a question about much that is new.
        "RAY_enable_worker_prestart": "0",
        "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # a lost task is one event here; its other refs say nothing new
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(p for p in (*sys.path, os.getcwd()) if p)),
    }


def start_local(settings: Settings, **options: Any) -> None:
    """Start a Ray of its own in this machine; it ends with this process or with `stop`.

    `options` go to `ray.init`. Raises `Unavailable` if Ray is already running in this process, or does not
    come up; `StoreError` if the store's folder can't be made and `StoreBusy` if a process of this machine has
    it: that is found out sooner here than by an actor.
    """
    if ray.is_initialized():
        raise Unavailable(
            "this process is already connected to a Ray cluster; use connect('auto') to join it"
        )
    Files(settings.store).make("values")
    Lease(settings.store).look()
    memory = min(
        2 * settings.memory_bytes + 512 * MIB,
        int(0.8 * shutil.disk_usage("/dev/shm").free) if os.path.isdir("/dev/shm") else 512 * MIB,
    )
    defaults: dict[str, Any] = {
        "address": "local",
        "namespace": settings.namespace,
        "num_gpus": settings.num_gpus,
        "object_store_memory": max(memory, 128 * MIB),
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "_node_ip_address": "127.0.0.1",
    }
    _forget_token()
    given = {**defaults, **options}
    unneeded = {"start_monitor"}  # which would ask for more nodes
    unneeded |= set() if given["log_to_driver"] else {"start_log_monitor"}
    unneeded |= set() if given["include_dashboard"] else {"start_api_server"}
    with _without(unneeded), _noted() as nodes:
        for tries_left in reversed(range(TRIES)):
            try:
                ray.init(**given)
                return
            except Exception as error:
                if NOT_UP not in str(error):
                    raise
                for node in nodes:
                    node.kill_all_processes(check_alive=False, allow_graceful=False)
                nodes.clear()
                if not tries_left:
                    raise Unavailable(
                        f"Ray's node did not come up, {TRIES} times in a row; this machine may have too "
                        "much else to do"
                    ) from error
                log.warning("Ray's node did not come up within 30 s; it is started again")


@contextlib.contextmanager
def _noted() -> Iterator[list[Any]]:
    """Note the nodes that Ray starts: what there is of one that is not up it ends with this process only."""
    started: list[Any] = []
    start = getattr(Node, START)

    def noted(node: Any) -> None:
        started.append(node)
        start(node)

    setattr(Node, START, noted)
    try:
        yield started
    finally:
        setattr(Node, START, start)


@contextlib.contextmanager
def _without(unneeded: Iterable[str]) -> Iterator[None]:
    """Have Ray leave out processes that serve nobody in a cluster of one machine.

    Each is a Python program that takes half a second of CPU and 80 MB, and Ray waits for one of them. There
    are options for `ray start` and none for `ray.init`; where a method has another name, its process starts.
    """
    methods = {name: getattr(Node, name) for name in unneeded if hasattr(Node, name)}
    for name in methods:
        setattr(Node, name, _nothing)
    try:
        yield
    finally:
        for name, method in methods.items():
            setattr(Node, name, method)


def _nothing(node: Any, **options: Any) -> None:
    """Start no process."""
    node._webui_url = None  # what the dashboard's address would be


def _forget_token() -> None:
    """Have Ray read its token anew: it keeps in this process what it has read once."""
    import ray._raylet as raylet

    loader: Any = getattr(raylet, "AuthenticationTokenLoader", None)
    if loader is not None:  # a private name; where it is gone, only a second cluster in one process is hurt
        loader.instance().reset_cache()


def connect(address: str, namespace: str) -> None:
    """Join a running cluster: "auto", or "host:port" of its head. Raises `Unavailable`."""
    if ray.is_initialized():
        return
    try:
        ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        raise Unavailable(f"no Ray cluster can be reached at {address!r}: {str(error).strip()}") from error


def log_folder() -> str | None:
    """Where the Ray that this process has started keeps its logs; None if it does not say."""
    node: Any = getattr(ray._private.worker, "_global_node", None)
    find = getattr(node, "get_logs_dir_path", None)
    return None if find is None else str(find())


def running() -> bool:
    """Whether this process is connected to a cluster."""
    return bool(ray.is_initialized())


def stop() -> None:
    """Leave the cluster; a local one that this process started ends."""
    ray.shutdown()
    _forget_token()


async def shard(
    settings: Settings, number: int, *, create: bool = True, timeout: float = UP_SECONDS
) -> tuple[Any, Hello]:
    """The cache actor of one shard, made if there is none, once it answers.

    Raises `StoreBusy` if another cluster owns the store, `BadRequest` if this one serves other settings,
    `Unavailable` if it does not come up in time.
    """
    name = shard_name(number)
    handle: Any
    if create:
        handle = (
            ray.remote(CacheActor)
            .options(
                name=name,
                namespace=settings.namespace,
                lifetime="detached",
                max_restarts=-1,
                max_task_retries=0,
                max_concurrency=100_000,
                num_cpus=0,
                get_if_exists=True,
            )
            .remote(settings.to_json(), number)
        )
    else:
        handle = named(settings, number)
    hello = await introduce(handle, timeout, new=create)
    if create:
        _same(Settings.from_json(hello.settings), settings)
    return handle, hello


def _same(running: Settings, wanted: Settings) -> None:
    """Refuse to share a cluster under settings that mean other keys or another store."""
    for name in ("store", "segment_seconds", "shards"):
        if getattr(running, name) != getattr(wanted, name):
            raise BadRequest(
                f"the Amber that runs in namespace {running.namespace!r} has {name}="
                f"{getattr(running, name)!r}, not {getattr(wanted, name)!r}"
            )


async def close_shards(settings: Settings, timeout: float = 30.0) -> bool:
    """Flush and end the cache actors; True if every value was written first."""
    clean = True
    for number in range(settings.shards):
        try:
            handle = ray.get_actor(shard_name(number), namespace=settings.namespace)
        except ValueError:
            continue
        try:
            clean &= await asyncio.wait_for(handle.close.remote(timeout), timeout + 5)
        except (ray.exceptions.RayError, TimeoutError):
            clean = False
        ray.kill(handle)
    return clean
