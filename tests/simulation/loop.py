"""An event loop with virtual time and a seeded order of ready callbacks, whose processes can be killed.

Time stands still while callbacks are ready and jumps to the next timer when none is, so an hour takes as long
as what happens in it. Callbacks that are ready together run in an order drawn from the seed: an order that
the real loop does not promise must not matter. A process is whatever runs in its context; once it is dead
none of its callbacks runs any more, so it can end between any two of them, as by `kill -9`.

Written for asyncio of Python 3.11 to 3.13: it replaces `BaseEventLoop._run_once`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import itertools
import random
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

DISORDER = 12
"""By how many turns a callback may be overtaken."""
MOST_TURNS = 3_000_000
"""More than that is a livelock."""

CLOSINGS = 20
"""How often a coroutine is told to close, in its own context: each `finally` may wait once more."""

_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Stuck(AssertionError):
    """Nothing is left that could ever happen, and somebody still waits; or it goes round in circles."""


class Process:
    """What runs together and dies together.

    `dies_after`: callbacks it has left, if it is doomed; `dies_writing`: its next write is the last;
    `priority` draws the next number in [0, 1) of this process's own.
    """

    def __init__(self, loop: VirtualLoop, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.alive = True
        self.dies_after: int | None = None
        self.dies_writing = False
        self.died: list[Callable[[], None]] = []
        self._loop = loop
        self.priority = random.Random(f"{loop.seed}/{name}/{number}").random
        self._context = contextvars.copy_context()
        self._context.run(_PROCESS.set, self)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in this process."""
        return self._loop.create_task(coroutine, context=self._context.copy())

    def call(self, function: Callable[[], Any]) -> None:
        """Call something in this process at its next turn."""
        self._loop.call_soon(function, context=self._context.copy())

    def context(self) -> contextvars.Context:
        """A context of this process, for what is to run in it."""
        return self._context.copy()

    def kill(self) -> None:
        """It ends now: nothing of it runs any more."""
        if self.alive:
            self.alive, self.dies_after = False, None
            for told in self.died:
                told()

    def __repr__(self) -> str:
        return f"<{self.name} {self.number}>"


class _Due(float):
    """When a timer is due, and the timer; compared as numbers are, without a call of Python."""

    __slots__ = ("timer",)
    timer: Any

    def __new__(cls, timer: asyncio.TimerHandle) -> _Due:
        due = super().__new__(cls, timer.when())
        due.timer = timer
        return due


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module. `turns` counts callbacks; `after_turn` is called after each, with its process."""

    def __init__(self, seed: int, start: float = 1000.0) -> None:
        super().__init__()
        self.seed = seed
        self.turns = 0
        self.after_turn: Callable[[Process | None], None] = lambda process: None
        self._now = start
        self._draw = random.Random(f"{seed}/loop").random
        self._timers: list[_Due] = []
        self._waiting: list[tuple[float, int, asyncio.Handle]] = []
        self._numbers = itertools.count()
        self._tasks: dict[asyncio.Task[Any], contextvars.Context] = {}
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._failed)
        self.failures: list[str] = []

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        # Held until it is done: the task of a dead process must not be collected, which would run its
        # `finally`.
        context = options.pop("context", None) or contextvars.copy_context()
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, context=context, **options)
        self._tasks[task] = context
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        quiet = "never retrieved" in str(context.get("message"))
        if isinstance(error, Exception) and not quiet:
            self.failures.append(f"{context.get('message')}: {type(error).__name__}: {error}")

    # --- callbacks: as `BaseEventLoop` has them, but with an order of their own, and little else for each

    def call_soon(
        self, callback: Any, *arguments: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """See `AbstractEventLoop.call_soon`."""
        self._check_closed()  # type: ignore[attr-defined]
        handle = asyncio.Handle(callback, arguments, self, context)
        self._is_ready(handle)
        return handle

    call_soon_threadsafe = call_soon
    """There is no other thread. Python closes generators that nobody ended by it."""

    def call_at(
        self, when: float, callback: Any, *arguments: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """See `AbstractEventLoop.call_at`."""
        self._check_closed()  # type: ignore[attr-defined]
        timer = asyncio.TimerHandle(when, callback, arguments, self, context)
        heapq.heappush(self._timers, _Due(timer))
        return timer

    def _is_ready(self, handle: Any) -> None:
        process = handle._context.get(_PROCESS)
        draw = self._draw() if process is None else process.priority()
        heapq.heappush(self._waiting, (self.turns + draw * DISORDER, next(self._numbers), handle))

    def _run_once(self) -> None:
        timers, waiting = self._timers, self._waiting
        while True:
            while timers and (timers[0] <= self._now or timers[0].timer._cancelled):
                timer = heapq.heappop(timers).timer
                if not timer._cancelled:
                    self._is_ready(timer)
            if waiting:
                break
            if not timers:
                raise Stuck("nothing is left that could happen")
            self._now = max(self._now, float(timers[0]))
        handle: Any = heapq.heappop(waiting)[2]
        if handle._cancelled:
            return
        process = handle._context.get(_PROCESS)
        if process is not None:
            if process.dies_after is not None:
                process.dies_after -= 1
                if process.dies_after < 0:
                    process.kill()
            if not process.alive:
                return
        self.turns += 1
        if self.turns > MOST_TURNS:
            raise Stuck("the world does not come to rest")
        handle._run()
        self.after_turn(process)

    def _process_events(self, event_list: Any) -> None:
        """There are no files or sockets."""

    def end(self) -> None:
        """Close what is left: tasks of dead processes, and of living ones that wait for ever.

        What their `finally` spawns is a task of this loop too, and is closed unbegun. A coroutine that a dead
        process has made and not begun is no mistake of the code; Python's warning of others is then one.
        """
        asyncio._set_running_loop(self)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
                while self._tasks:
                    task, context = self._tasks.popitem()
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    coroutine: Any = task.get_coro()
                    for _ in range(CLOSINGS):
                        if coroutine.cr_frame is None:
                            break
                        with contextlib.suppress(BaseException):
                            context.run(coroutine.close)
                    del task
        finally:
            asyncio._set_running_loop(None)
        self._waiting.clear()
        self._timers.clear()
        self.close()
