"""The end of an app: whoever waits gets an answer in time, and nobody is cut off.

    begin(seconds) ──→ callers who wait get their values ──→ time is up ──→ the others are told to come again

Must not know: Ray, routes, what is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from amber_ray.errors import Unavailable

T = TypeVar("T")

LATE_SECONDS = 3.0
"""How long it may take to answer those whose time is up: an accepted request is journaled first."""


class Drain:
    """Whether an app is about to end. All of it belongs to the app's event loop.

    `ongoing` counts the requests that are under way; the guard sees to it.
    """

    def __init__(self) -> None:
        self.ongoing = 0
        self.refusing = False
        self._begun = self._up = False
        self._waiting: set[Callable[[], None]] = set()
        self._idle: asyncio.Event | None = None

    def begin(self, seconds: float, *, refuse: bool) -> None:
        """Give whoever waits so many seconds; with `refuse`, new requests are told to come again at once.

        Without it another process takes the new ones, and those that still come here are answered. Of two
        calls the first says how long.
        """
        self.refusing |= refuse
        if not self._begun:
            self._begun = True
            asyncio.get_running_loop().call_later(seconds, self._time_is_up)

    @property
    def begun(self) -> bool:
        """Whether the app is about to end."""
        return self._begun

    def _time_is_up(self) -> None:
        self._up = True
        for tell in list(self._waiting):
            tell()

    def add(self, tell: Callable[[], None]) -> None:
        """Have `tell` called when time is up; at once if it is."""
        self._waiting.add(tell)
        if self._up:
            tell()

    def discard(self, tell: Callable[[], None]) -> None:
        """The answer is there; nobody has to be told."""
        self._waiting.discard(tell)

    async def in_time(self, work: Awaitable[T]) -> T:
        """The result of `work`, which is cancelled when time is up. Raises `Unavailable` then."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as scope:

                def tell() -> None:
                    scope.reschedule(loop.time())

                self.add(tell)
                try:
                    return await work
                finally:
                    self.discard(tell)
        except TimeoutError:
            if scope.expired():
                raise stopping() from None
            raise

    def left(self) -> None:
        """One request less is under way."""
        self.ongoing -= 1
        if not self.ongoing and self._idle is not None:
            self._idle.set()

    async def ended(self) -> None:
        """Wait until no request is under way."""
        while self.ongoing:
            self._idle = self._idle or asyncio.Event()
            self._idle.clear()
            await self._idle.wait()


def stopping() -> Unavailable:
    """What is told to those who come too late, or whose time is up."""
    return Unavailable("this server is about to stop; ask again in a moment")
