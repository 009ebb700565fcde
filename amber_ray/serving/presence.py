"""Waiting for the service while the caller still waits for us.

A caller that hangs up withdraws its request, and the way to withdraw is to cancel the coroutine. ASGI
servers tell of a disconnect only to who asks `receive`, so someone must ask while the work is awaited.
Must not know: what the work is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Receive

T = TypeVar("T")

GRACE = 0.02
"""Seconds before anyone listens: a hot answer is sooner than this, and pays for a timer instead of a task."""


class ClientGone(Exception):
    """The caller hung up before there was an answer; nobody is left to be told anything."""


async def while_present(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`; if the caller disconnects first, `work` is cancelled and `ClientGone` raised.

    The request's body must have been read: whatever else `receive` yields is skipped.
    """
    loop = asyncio.get_running_loop()
    watcher: asyncio.Task[None] | None = None
    try:
        # `timeout` is how the standard library cancels a block from outside and tells that apart from
        # someone else's cancellation; here the deadline is the moment of the disconnect.
        async with asyncio.timeout(None) as scope:

            def listen() -> None:
                nonlocal watcher
                watcher = loop.create_task(_hung_up(receive, scope))

            timer = loop.call_later(GRACE, listen)
            try:
                return await work
            finally:
                timer.cancel()
                if watcher is not None:
                    watcher.cancel()
    except TimeoutError:
        if scope.expired():
            raise ClientGone from None
        raise


async def _hung_up(receive: Receive, scope: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.reschedule(asyncio.get_running_loop().time())
