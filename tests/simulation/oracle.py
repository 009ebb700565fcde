"""What must be so in every world, beyond what `core.ledger.invariants` says of one ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from amber_ray.core.state import events as ev

if TYPE_CHECKING:
    from tests.simulation.shell import Shell
    from tests.simulation.world import World

Attempt = tuple[int, int, int]
"""Shard, incarnation, task."""


class Work:
    """Never twice: which attempt has made, or is making, each value, until something undoes it.

    A step may run when it never ran, or when what it made is gone for a reason that the product names: its
    task was lost or stopped, its value was lost before it was written, damaged, purged or asked for anew.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._done: dict[str, Attempt] = {}
        self._live: dict[str, Attempt] = {}
        self.executions: Counter[str] = Counter()

    def begins(self, shell: Shell, task: ev.Task) -> None:
        """A shard hands a task over: nobody else may be at it, and what is stored is not made again."""
        attempt = shell.id, shell.incarnation, task.id
        for step in task.steps:
            key = step.key
            assert step.home == shell.id, f"{key} is run by shard {shell.id}, not its own"
            other = self._live.get(key)
            assert other is None or not self._alive(other, key), f"{key} has two live attempts"
            assert key not in shell.values, f"{key} is in memory and made again"
            if self._world.media.durable(key):
                assert key not in self._done, f"{key} is made again, and nothing had undone it"
                self._done[key] = attempt
            self._live[key] = attempt
            self.executions[key] += 1

    def _alive(self, attempt: Attempt, key: str) -> bool:
        shell = self._world.shells[attempt[0]]
        return shell.incarnation == attempt[1] and shell.up and shell.ledger.accepts(attempt[2], key)

    def failed(self, shell: Shell, task: ev.Task, keys: Iterable[str]) -> None:
        """An attempt came to nothing for these keys."""
        attempt = shell.id, shell.incarnation, task.id
        for key in keys:
            if self._done.get(key) == attempt:
                del self._done[key]

    def undone(self, keys: Iterable[str]) -> None:
        """What was made is gone, or somebody wants it new."""
        for key in keys:
            self._done.pop(key, None)

    def restarted(self, shell: Shell) -> None:
        """A shard begins again: it knows what the index found, and nothing else."""
        steps = self._world.media.steps
        self.undone([k for k in self._done if steps[k].home == shell.id and k not in shell.index])
