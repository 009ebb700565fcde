"""The desk of the first shard, as a steward reaches it through its engine. Must not know: what is said."""

from __future__ import annotations

from collections.abc import Mapping

from amber_ray.core.model.demands import DemandState, DemandStatus
from amber_ray.fabric.engine.engine import Engine
from amber_ray.fabric.transport.messages import Tended


class EngineDesk:
    """Implements `Desk` by a steward's name, of which there is one for each process that is started.

    What is noted is numbered, since a call that seemed lost may be carried out after later ones. A process
    that Ray has started again goes on under the same name, so its numbers begin where the time is.
    """

    def __init__(self, engine: Engine, steward: str, began: float) -> None:
        """`began` in Unix seconds."""
        self._engine = engine
        self._steward = steward
        self._number = int(began * 1e6)

    async def tend(self, live: Mapping[str, DemandStatus], wait: float) -> Tended | None:
        """See `Desk.tend`."""
        return await self._engine.tend(self._steward, live, wait)

    async def note(self, id: str, state: DemandState) -> bool:
        """See `Desk.note`."""
        self._number += 1
        return await self._engine.note(self._steward, id, self._number, state)
