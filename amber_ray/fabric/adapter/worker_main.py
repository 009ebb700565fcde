"""What Ray runs on workers: the bodies of `fabric.worker`, in a process whose log lines reach the operator.

Must not know: what steps do.
"""

from __future__ import annotations

from typing import Any

from amber_ray.fabric.adapter import logs
from amber_ray.fabric.transport.messages import Work
from amber_ray.fabric.worker import calls, tasks, warm


def run(blob: bytes, work: Work, *slots: list[Any]) -> tuple[Any, ...]:
    """See `tasks.run`."""
    logs.attach_worker(work.lines)
    return tasks.run(blob, work, *slots)


class Warm(warm.Warm):
    """See `warm.Warm`."""

    def run(self, work: Work, *slots: list[Any]) -> tuple[Any, ...]:
        """See `WarmModel.run`."""
        logs.attach_worker(work.lines)
        return super().run(work, *slots)


class Calling(calls.Calling):
    """See `calls.Calling`."""

    async def run(self, work: Work, *slots: list[Any]) -> tuple[Any, ...]:
        """See `CallMaker.run`."""
        logs.attach_worker(work.lines)
        return await self._maker.run(work, *slots)
