"""Cache actors that are there: found by their names, and waited for until they answer.

    engine, steward ──→ found ──→ Ray's names ──→ introduce ──→ `Hello`

To make one is `adapter.cluster`'s. Must not know: what a cache actor is made of.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import ray

from amber_ray.errors import AmberError, StoreBusy, Unavailable
from amber_ray.fabric.transport.messages import Hello
from amber_ray.fabric.transport.names import shard_name
from amber_ray.settings import Settings

log = logging.getLogger("amber.cluster")

UP_SECONDS = 120.0
"""Longest wait for a cache actor to come up: it reads the keys of the whole store first."""


def named(settings: Settings, number: int) -> Any:
    """The cache actor of a shard that runs. Raises `Unavailable` if there is none."""
    try:
        return ray.get_actor(shard_name(number), namespace=settings.namespace)
    except ValueError as error:
        raise Unavailable(
            f"no Amber runs in namespace {settings.namespace!r} of this cluster; start one with `amber serve`"
        ) from error


async def introduce(handle: Any, timeout: float, *, new: bool = False) -> Hello:
    """Wait until a cache actor answers.

    What keeps a `new` one from coming up ends it and is raised, and so does a busy store. One that comes back
    after its death is asked again, since what it needs may come back too.
    """
    give_up = time.monotonic() + timeout
    while True:
        left = give_up - time.monotonic()
        if left <= 0:
            raise Unavailable(f"the cache actor did not come up within {timeout:g} s")
        try:
            hello: Hello = await asyncio.wait_for(handle.hello.remote(), left)
            return hello
        except ray.exceptions.RayTaskError as error:
            if not (new or isinstance(error.cause, StoreBusy)):
                log.warning("a cache actor can't come up yet: %s", error.cause)
                await asyncio.sleep(1.0)
                continue
            ray.kill(handle)
            if isinstance(error.cause, AmberError):
                raise error.cause from None
            raise
        except ray.exceptions.ActorUnavailableError:
            await asyncio.sleep(0.1)
        except ray.exceptions.ActorDiedError as error:
            # Ray's text is the whole traceback of an actor that could not be made, with the error last.
            reason = str(error).rstrip().rpartition("\n")[2]
            raise Unavailable(f"the cache actor died while it came up: {reason}") from error
        except TimeoutError:
            continue
