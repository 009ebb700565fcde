"""Bodies on their way into a replica: a sender is slowed down instead of this process's memory being filled.

Serve reads a request's body as fast as it comes into an `asyncio.Queue` without end. With an end, a slow disk
slows the sender down. Who fills that queue decides whether it can have one:

    HAProxy      `await put` in this loop (throughput mode): waits for room
    HAProxy      `put_nowait`, from another thread's loop: can't wait
    Serve's own proxy (no HAProxy, and for a moment after a start)
                 `put_nowait`, in a task that ends for good if it is refused: can't wait

Must not know: Ray's classes, the app.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive

QUEUED_MESSAGES = 16
"""Pieces of a body that wait in memory for an upload to be written."""


class Patient(asyncio.Queue[Any]):
    """A bounded queue whose `put` waits for room and whose `put_nowait` is never refused."""

    def put_nowait(self, item: Any) -> None:
        """Add an item, whether there is room or not."""
        most, self._maxsize = self._maxsize, 0  # type: ignore[has-type]  # private, as its name says
        try:
            super().put_nowait(item)
        finally:
            self._maxsize = most


def slow_down(receive: Receive) -> None:
    """Bound the queue behind `receive`, if it is one of Serve's."""
    queue = getattr(receive, "queue", None)
    if type(queue) is asyncio.Queue:
        # The queue is in use already: it is made another kind of queue, not exchanged for one.
        queue.__class__ = Patient
        queue._maxsize = QUEUED_MESSAGES  # type: ignore[attr-defined]
