"""Waiting for the service while the caller still waits for us, and while there is time.

A caller that hangs up withdraws its request, and the way to withdraw is to cancel the coroutine. ASGI
servers tell of a disconnect only to who asks `receive`, so someone must ask while the work is awaited.
When the server is about to stop, whoever still waits is told so in time (`drain`).
Must not know: what the work is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from amber_ray.serving.drain import Drain, stopping

T = TypeVar("T")

GRACE = 0.02
"""Seconds before anyone listens: a hot answer is sooner than this, and pays for a timer instead of a task."""


class ClientGone(Exception):
    """The caller hung up before there was an answer; nobody is left to be told anything."""


async def _stopping() -> Any:
    raise stopping()


async def while_present(
    receive: Receive,
    work: Awaitable[T],
    drain: Drain | None = None,
    instead: Callable[[], Coroutine[Any, Any, T]] = _stopping,
) -> T:
    """The result of `work`; if the caller disconnects first, `work` is cancelled and `ClientGone` raised.

    When the drain's time is up, the result is that of `instead()`, unless `work` has ended before that; by
    default it is `Unavailable`. Until then `work` goes on, so what `instead` accepts is not withdrawn.
    The request's body must have been read: whatever else `receive` yields is skipped.
    """
    loop = asyncio.get_running_loop()
    watcher: asyncio.Task[None] | None = None
    late: asyncio.Task[T] | None = None
    try:
        # `timeout` is how the standard library cancels a block from outside and tells that apart from
        # someone else's cancellation; here the deadline is the moment of the disconnect.
        async with asyncio.timeout(None) as scope:

            def time_is_up() -> None:
                nonlocal late
                if late is None:
                    late = loop.create_task(instead())
                    late.add_done_callback(enough)

            def enough(done: asyncio.Task[T]) -> None:
                if not done.cancelled():
                    scope.reschedule(loop.time())

            def listen() -> None:
                nonlocal watcher
                watcher = loop.create_task(_hung_up(receive, scope))
                if drain is not None:
                    drain.add(time_is_up)

            timer = loop.call_later(GRACE, listen)
            try:
                return await work
            finally:
                timer.cancel()
                if watcher is not None:
                    watcher.cancel()
                if drain is not None:
                    drain.discard(time_is_up)
                if late is not None:
                    late.remove_done_callback(enough)
                    if not late.done():
                        late.cancel()
    except TimeoutError:
        if late is not None and late.done() and not late.cancelled():
            return late.result()
        if scope.expired():
            raise ClientGone from None
        raise
    finally:
        if late is not None and late.done() and not late.cancelled():
            late.exception()  # seen: it was raised, or the answer was there after all


async def _hung_up(receive: Receive, scope: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.reschedule(asyncio.get_running_loop().time())
