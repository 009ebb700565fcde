"""`Loop`: an event loop on a thread of its own, on which the sync client runs the async one.

A caller's Ctrl-C cancels the coroutine there and waits, for a bounded time, until it has cleaned up
(withdrawn its request); only then does KeyboardInterrupt go on. Must not know: what runs on it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from amber_ray.errors import Unavailable

T = TypeVar("T")

CLEANUP_SECONDS = 10.0
"""How long a cancelled coroutine, or the loop itself, may take to clean up."""


class Loop:
    """Starts its thread at once; a daemon thread, so that a forgotten `close` can't hang the interpreter."""

    def __init__(self, name: str = "amber-client") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._loop.is_closed() or not self._thread.is_alive()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end and return or raise what it does; any thread but the loop's may call.

        The coroutine bounds its own waits. On KeyboardInterrupt (or any other exception that arrives in the
        waiting thread) it is cancelled and given `CLEANUP_SECONDS` to finish.
        """
        if self.closed or threading.current_thread() is self._thread:
            work.close()
            raise Unavailable(
                "the client is closed; connect again"
                if self.closed
                else "a callback on the client's own thread can't wait for it; use another thread"
            )
        ended = threading.Event()
        task: asyncio.Task[T] | None = None

        def start() -> None:
            nonlocal task
            task = self._loop.create_task(work)
            task.add_done_callback(lambda _: ended.set())

        def cancel() -> None:
            # `start` was queued before this, unless the interrupt came even sooner.
            if task is not None:
                task.cancel()
            else:
                work.close()
                ended.set()

        try:
            self._loop.call_soon_threadsafe(start)
            ended.wait()
        except BaseException:
            self._loop.call_soon_threadsafe(cancel)
            ended.wait(CLEANUP_SECONDS)
            if task is not None and task.done() and not task.cancelled():
                task.exception()  # Looked at, so that asyncio does not report it as lost.
            raise
        assert task is not None
        try:
            return task.result()
        except asyncio.CancelledError:
            raise Unavailable("the client was closed while it waited") from None

    def call(self, function: Callable[[], object]) -> None:
        """Queue a function to run on the loop's thread."""
        self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """Cancel what still runs, stop the loop and join its thread, for at most `CLEANUP_SECONDS` each."""
        if self.closed:
            return

        async def cancel_all() -> None:
            others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for t in others:
                t.cancel()
            await asyncio.wait(others, timeout=CLEANUP_SECONDS) if others else None

        self.run(cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLEANUP_SECONDS)
