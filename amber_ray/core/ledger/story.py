"""The last changes of state in a ledger, kept for the day when one of them was wrong.

A ring of the events that were taken in and the changes that each of them made, in order. A key's story is
what the ring has of the key and of the keys beside it. Keeping it costs one append for each change: no text
is made before somebody asks. Must not know: what an event means.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

from amber_ray.core.state.entry import Cause, State

KEPT = 20_000
"""Events and changes that the ring holds: a few megabytes, and minutes of a busy shard."""
TOLD = 60
"""Most lines of one story; the newest are told."""

_EVENT = ""
"""Stands where a change has its key: a key is never empty."""


class Story:
    """What happened last in one ledger. `note` takes a change as (key, cause, new state)."""

    def __init__(self) -> None:
        self._ring: deque[tuple[str, Any, Any]] = deque(maxlen=KEPT)
        self.note = self._ring.append

    def begin(self, event: type, now: float) -> None:
        """An event is being taken in; the changes that follow are its own."""
        self.note((_EVENT, event, now))

    def of(self, keys: Collection[str]) -> Iterator[str]:
        """Return a line for each event that changed one of these keys: the newest `TOLD`, oldest first.

        `12.5 Reported: a DONE HOT, b READY QUEUED`
        """
        lines: deque[str] = deque(maxlen=TOLD)
        event, changes = "", list[str]()
        for key, what, then in (*self._ring, (_EVENT, None, 0.0)):
            if key != _EVENT:
                if key in keys:
                    changes.append(_change(key, what, then))
                continue
            if changes:
                lines.append(f"{event or 'earlier'}: {', '.join(changes)}")
            event, changes = f"{then} {what.__name__}" if what is not None else "", []
        return iter(lines)


def _change(key: str, cause: Cause, state: State) -> str:
    return f"{key} {cause.name} {state.name}"
