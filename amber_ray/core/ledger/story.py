"""The last changes of state in a ledger, kept for the day when one of them was wrong.

A ring buffer of the events that were taken in and the changes that each of them made, in order. A key's story
is what the ring has of the key and of its inputs. Recording must cost next to nothing: no text is made before
somebody asks, and no tuple either, so what belongs together lies side by side in the ring.

Must not know: what an event means.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Any

from amber_ray.core.state.entry import TRANSITIONS, Cause

KEPT = 25_000
"""Events and changes that the ring holds: a tenth of a second of a shard at its limit, minutes of most."""
TOLD = 40
"""Most lines of one story; the newest are told."""

_LEADS_TO = {
    cause: "/".join(dict.fromkeys(to.name for (_, by), to in TRANSITIONS.items() if by is cause))
    for cause in Cause
}


class Story:
    """What happened last in one ledger.

    `note` is called twice for each event, with its type and its time, and then twice for each change that
    comes of it, with the key and the cause.
    """

    def __init__(self) -> None:
        self._ring: deque[Any] = deque(maxlen=2 * KEPT)
        self.note = self._ring.append

    def of(self, keys: Collection[str]) -> list[str]:
        """Return a line for each event that changed one of these keys, oldest first; the newest `TOLD` lines.

        As in `12.5 Reported: a DONE (HOT), b READY (QUEUED)`.
        """
        lines: deque[tuple[str, list[str]]] = deque([("earlier", [])], maxlen=TOLD + 1)
        pairs = iter(self._ring)
        for what, then in zip(pairs, pairs, strict=True):
            if isinstance(what, str):
                if what in keys:
                    lines[-1][1].append(f"{what} {then.name} ({_LEADS_TO[then]})")
            elif lines[-1][1]:
                lines.append((f"{then} {what.__name__}", []))
            else:
                lines[-1] = f"{then} {what.__name__}", []
        told = [f"{event}: {', '.join(changes)}" for event, changes in lines if changes]
        return told[-TOLD:]
