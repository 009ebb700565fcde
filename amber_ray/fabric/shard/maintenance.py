"""What a shard does every few seconds beside its work: the lease, capacity, idle actors, compaction.

Each periodic task stands for itself: one that fails, because the head node or the store can't be reached for
a while, is told to the log and tried again, and keeps none of the others from its turn. Only the loss of the
lease is final. Must not know: what the tasks do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from amber_ray.errors import StoreBusy
from amber_ray.fabric.shard.ports import Process

log = logging.getLogger("amber.maintenance")

LOST_LEASE = 71
"""Exit code of a process whose store has become another server's."""
HANGS_SECONDS = 15.0
"""A turn of a vital task that takes longer counts as failed until it ends."""


@dataclass(slots=True)
class PeriodicTask:
    """Something to be done every so many seconds. `name` completes the sentence "could not ...".

    `soon` says that its first turn is at once, for what a process that lives for seconds has to do too.
    `vital`: while it fails, the service should not be asked.
    """

    name: str
    seconds: float
    do: Callable[[], Awaitable[None]]
    soon: bool = False
    vital: bool = False
    failing: bool = False
    """Whether its last turn failed."""
    began: float | None = None
    """When the turn began that is under way, on the event loop's clock."""


class Maintenance:
    """Runs periodic tasks side by side: one that hangs keeps no other waiting."""

    def __init__(self, tasks: Sequence[PeriodicTask], process: Process) -> None:
        self._tasks = tasks
        self._process = process
        self._stopped = False

    def stop(self) -> None:
        """No more turns."""
        self._stopped = True

    def troubles(self) -> list[str]:
        """What vital tasks could not do in their last turn, a sentence each; the log says why."""
        late = asyncio.get_running_loop().time() - HANGS_SECONDS
        return [
            f"it could not {task.name}"
            for task in self._tasks
            if task.vital and (task.failing or (task.began is not None and task.began < late))
        ]

    async def run(self) -> None:
        """Give each task its turns until `stop`."""
        await asyncio.gather(*map(self._repeat, self._tasks))

    async def _repeat(self, task: PeriodicTask) -> None:
        if task.soon:
            await self._do(task)
        while not self._stopped:
            await asyncio.sleep(task.seconds)
            if not self._stopped:
                await self._do(task)

    async def _do(self, task: PeriodicTask) -> None:
        task.began = asyncio.get_running_loop().time()
        try:
            await task.do()
        except StoreBusy as error:
            # This process ends; the one that is started in its place finds the store taken, and says so.
            log.critical("this shard ends: %s", error)
            self._process.end(LOST_LEASE)
        except Exception as error:
            if not task.failing:
                log.error("could not %s, and will try again: %s", task.name, error, exc_info=error)
            task.failing = True
        else:
            if task.failing:
                log.warning("could %s again", task.name)
            task.failing = False
        finally:
            task.began = None
