"""Ends a worker process whose step runs past its bound: a hung call can't be stopped any other way.

One thread per process watches all of its steps, so that arming it costs a step next to nothing.
Must not know: what a step is, Ray.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable


class Watchdog:
    """Calls what it was armed with once its time has come, on a thread of its own, unless disarmed before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._armed: dict[int, Callable[[], None]] = {}
        self._due: list[tuple[float, int]] = []
        self._numbers = itertools.count()
        self._asleep_until = float("-inf")
        self._thread: threading.Thread | None = None

    def arm(self, seconds: float, act: Callable[[], None]) -> int:
        """Have `act` called after that many seconds. Returns what `disarm` takes."""
        when = self._clock() + seconds
        with self._changed:
            number = next(self._numbers)
            self._armed[number] = act
            heapq.heappush(self._due, (when, number))
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="amber-watchdog", daemon=True)
                self._thread.start()
            elif when < self._asleep_until:
                self._changed.notify()
        return number

    def disarm(self, number: int) -> None:
        """It ended in time. The thread is not woken for that; it finds nothing to do when it wakes."""
        with self._changed:
            self._armed.pop(number, None)
            while self._due and self._due[0][1] not in self._armed:
                heapq.heappop(self._due)

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not (self._due and self._due[0][0] <= self._clock()):
                    self._asleep_until = self._due[0][0] if self._due else float("inf")
                    pause = None if not self._due else self._asleep_until - self._clock()
                    self._changed.wait(pause)
                _, number = heapq.heappop(self._due)
                act = self._armed.pop(number, None)
            if act is not None:
                act()
