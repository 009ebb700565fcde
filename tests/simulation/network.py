"""Calls between processes: slow, lost, late, carried out twice, answered to nobody.

A node is a name under which a process offers an object; it may be restarted, as Ray restarts an actor. What
is sent is pickled and read again, so that no two processes share an object.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from amber_ray.errors import AmberError
from tests.simulation.loop import Process

if TYPE_CHECKING:
    from tests.simulation.world import World


class Gone(Exception):
    """The process that was called has died or can't be reached; the call may have been carried out."""


class Node:
    """A named process through all its incarnations; `make` starts the object that it offers."""

    def __init__(self, world: World, name: str, make: Callable[[Process], Any]) -> None:
        self.name = name
        self.incarnation = 0
        self.started = 0.0
        self.process: Process | None = None
        self.offers: Any = None
        self._world = world
        self._make = make
        self._open: dict[Message, None] = {}

    @property
    def up(self) -> bool:
        """Whether a process runs now."""
        return self.process is not None and self.process.alive

    def start(self) -> None:
        """Start a process, unless one runs."""
        if self.up:
            return
        self.incarnation += 1
        self.started = self._world.loop.time()
        process = self.process = Process(self._world.loop, self.name, self.incarnation)
        process.died.append(self._died)
        self._world.saw_start(self)
        process.call(lambda: self._begin(process))

    def _begin(self, process: Process) -> None:
        self.offers = self._make(process)

    def _died(self) -> None:
        world = self._world
        world.saw_death(self)
        self.offers = None
        for message in list(self._open):
            message.breaks()
        self._open.clear()

    def opened(self, message: Message) -> None:
        """A call is carried out here."""
        self._open[message] = None

    def ended(self, message: Message) -> None:
        """A call is over."""
        self._open.pop(message, None)


class Message:
    """One call of a method of a node; `answer` is resolved in the caller's process."""

    def __init__(
        self, world: World, node: Node, method: str, arguments: tuple[Any, ...], sender: str = ""
    ) -> None:
        self._world = world
        self._node = node
        self._sender = sender
        self._method = method
        self._data = pickle.dumps(arguments, protocol=5)
        self._about = f"{node.name}.{method}"
        self._tasks: list[asyncio.Task[Any]] = []
        self._cancelled = False
        self.answer: asyncio.Future[Any] = world.loop.create_future()
        # Whoever called may have died, or may have given up: then nobody asks how it ended.
        self.answer.add_done_callback(lambda answer: answer.cancelled() or answer.exception())
        self._send()

    def _send(self) -> None:
        world, about = self._world, self._about
        arrives = 0.001 + 0.02 * world.draws.unit("latency", about)
        if world.chance("slow message", about):
            arrives += world.draws.unit("slow message takes", about)
        if world.loop.time() < world.cut_until.get((self._sender, self._node.name), 0.0):
            world.later(arrives + world.draws.unit("noticed", about), lambda: self._fail("it is cut off"))
            return
        if world.chance("lost", about):
            if world.draws.unit("lost or late", about) < 0.5:
                world.saw("a call was lost")
            else:
                world.saw("a call was given up and came late")
                world.later(arrives + 4.0 * world.draws.unit("late", about), self._arrive_late)
            world.later(arrives + world.draws.unit("noticed", about), lambda: self._fail("it was lost"))
            return
        world.later(arrives, self._arrive)
        if world.chance("repeated", about):
            world.saw("a call was carried out twice")
            world.later(arrives + 2.0 * world.draws.unit("again", about), self._arrive_late)

    def _arrive(self) -> None:
        if not self._node.up or self._node.offers is None:
            self._world.later(0.05, lambda: self._fail("it is down"))
        else:
            self._carry_out(self._reply)

    def _arrive_late(self) -> None:
        if self._node.up and self._node.offers is not None:
            self._carry_out(lambda outcome, error: None)

    def _carry_out(self, then: Callable[[Any, BaseException | None], None]) -> None:
        node = self._node
        assert node.process is not None
        node.opened(self)
        arguments = pickle.loads(self._data)

        async def run() -> None:
            try:
                outcome = await getattr(node.offers, self._method)(*arguments)
                then(pickle.dumps(outcome, protocol=5), None)
            except AmberError as error:
                then(None, error)
            except Exception as error:
                self._world.fail(error)

        def ended(task: asyncio.Task[Any]) -> None:
            if task.cancelled():  # also before it began
                then(None, asyncio.CancelledError())

        task = node.process.start(run())
        task.add_done_callback(ended, context=node.process.context())
        self._tasks.append(task)
        if self._cancelled:
            self.cancel()

    def _reply(self, outcome: Any, error: BaseException | None) -> None:
        """Runs in the process that was called; the answer travels from here."""
        world = self._world
        self._node.ended(self)
        takes = 0.001 + 0.02 * world.draws.unit("reply", self._about)
        if world.chance("reply lost", self._about):
            world.saw("an answer was lost")
            world.later(takes + world.draws.unit("noticed", self._about), lambda: self._fail("no answer"))
        else:
            world.later(takes, lambda: self._resolve(outcome, error))

    def _resolve(self, outcome: Any, error: BaseException | None) -> None:
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(pickle.loads(outcome))
        elif isinstance(error, asyncio.CancelledError):
            self.answer.set_exception(Gone("the call was cancelled"))
        else:
            self.answer.set_exception(error)

    def _fail(self, why: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(Gone(f"{self._node.name}: {why}"))

    def breaks(self) -> None:
        """The process that carried it out has died."""
        self._world.later(
            0.02 + 0.2 * self._world.draws.unit("breaks", self._about), lambda: self._fail("it died")
        )

    def cancel(self) -> None:
        """Ask the one who carries it out to stop."""
        self._cancelled = True
        for task in self._tasks:
            task.cancel()
