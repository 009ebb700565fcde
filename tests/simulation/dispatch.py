"""A shard's tasks, as `fabric.shard.dispatch` runs them: where they run and how they end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amber_ray.core.model.request import Failure
from amber_ray.core.planning.plan import Step
from amber_ray.core.state import events as ev
from tests.core_kit import broken, fault
from tests.simulation.media import run

if TYPE_CHECKING:
    from tests.simulation.shell import Handle, Shell


@dataclass(slots=True)
class Running:
    """A task under way: what it reads, and the node it runs on once it has started (-1 before)."""

    task: ev.Task
    inputs: dict[str, Handle]
    node: int = -1
    cancelled: bool = False


class Dispatch:
    """The tasks that one incarnation of a shard has handed over; they end with it."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._world = shell.world
        self.running: dict[int, Running] = {}

    def submit(self, task: ev.Task) -> None:
        """Start a task, or ask the shard that owns its steps."""
        world, shell = self._world, self._shell
        about = task.steps[0].key
        if task.home is not None:
            self.running[task.id] = Running(task, {})
            shell.peers.ask(task)
            return
        world.work.begins(shell, task)
        inside = {s.key for s in task.steps}
        inputs = {n: shell.values[n] for s in task.steps for n in s.needs if n not in inside}
        self.running[task.id] = Running(task, inputs)
        seconds = 0.05 + world.draws.unit("seconds", about) * 3.0
        if world.chance("slow", about):
            seconds += 10.0
        shell.later(seconds * 0.1, lambda: self._start(task.id, seconds * 0.9))

    def cancel(self, id: int) -> None:
        """Cancelling is a wish: the task may end at once, or as if nothing had been said."""
        one = self.running[id]
        one.cancelled = True
        if one.task.home is not None:
            self._shell.peers.withdraw(one.task)
        else:
            self._world.work.failed(self._shell, one.task, [s.key for s in one.task.steps])
        about = one.task.steps[0].key
        if one.task.home is not None or one.node < 0 or self._world.draws.unit("obeys", about) < 0.5:
            self._shell.later(0.1, lambda: self.lose(id, "Cancelled", retry=False))

    def lose(
        self,
        id: int,
        type: str = "SystemFault",
        *,
        retry: bool = True,
        crashed: bool = False,
        started: bool = True,
        shared: bool = False,
    ) -> None:
        """The task ends without a report."""
        one = self.running.pop(id, None)
        if one is None:
            return
        self._world.work.failed(self._shell, one.task, [s.key for s in one.task.steps])
        if one.cancelled:
            self._world.saw("a cancelled task ended")
        self._shell.feed(ev.TaskLost(id, fault(type=type), retry, crashed, started=started, shared=shared))

    def node_died(self, node: int) -> None:
        """What ran there is gone."""
        for id, one in list(self.running.items()):
            if one.node == node:
                self._world.saw("a node died with a task")
                self.lose(id, "NodeDied")

    def peer_died(self, shard: int) -> None:
        """A shard that was asked has died: the calls end with an error."""
        for id, one in list(self.running.items()):
            if one.task.home == shard:
                self._shell.later(0.1, lambda id=id: self.lose(id, "ActorDied"))

    # --- a task here

    def _start(self, id: int, seconds: float) -> None:
        """A node is found for the task and it takes what it reads, or it pends, as it would in Ray."""
        one = self.running.get(id)
        if one is None:
            return
        if one.task.pool and self._world.chance("die", f"queue of {one.task.steps[0].key}"):
            self._world.saw("a warm actor died before a batch's turn")
            self.lose(id, "ActorDied", started=False)
            return
        node = self._world.node_for(one.task.needs, one.task.steps[0].key)
        if node is None:
            if one.cancelled:
                self.lose(id, "Cancelled", retry=False)
            else:
                self._shell.later(1.0, lambda: self._start(id, seconds))
            return
        if any(handle.lost for handle in one.inputs.values()):
            self._world.saw("a task found its inputs gone")
            del self.running[id]
            self._world.work.failed(self._shell, one.task, [s.key for s in one.task.steps])
            self._shell.lost(
                [k for k in one.inputs if k in self._shell.values and not self._shell.values[k].inline]
            )
            self._shell.feed(ev.TaskLost(id, fault(type="ObjectLost"), inputs_lost=True))
            return
        one.node = node
        self._shell.later(seconds, lambda: self._end(id))

    def _end(self, id: int) -> None:
        world = self._world
        one = self.running.get(id)
        if one is None:
            return
        task = one.task
        if any(step.key in world.media.poison for step in task.steps):
            world.saw("a step killed its worker")
            self.lose(id, crashed=True, shared=task.pool and not task.isolated and self._behind(task))
            return
        if world.chance("die", task.steps[0].key):
            world.saw("a worker died")
            self.lose(id, shared=task.pool and world.draws.unit("shared", task.steps[0].key) < 0.5)
            return
        del self.running[id]
        made = {key: handle.value for key, handle in one.inputs.items()}
        failed: dict[str, Failure] = {}
        reports: list[ev.StepReport] = []
        for step in task.steps:
            blocked = next((failed[n] for n in step.needs if n in failed), None)
            failure = blocked or self._breaks(step)
            if failure is not None:
                failed[step.key] = failure
                reports.append(ev.StepReport(step.key, failure=failure))
                continue
            made[step.key] = run(step, made)
            kept = step.key in task.outputs
            size = world.media.bytes(step.key) if kept else 0
            reports.append(ev.StepReport(step.key, size, world.draws.unit("took", step.key), kept))
        if len(reports) > 1 and world.chance("mute", task.steps[0].key):
            world.saw("a report was incomplete")
            reports.pop(int(world.draws.unit("muted", task.steps[0].key) * len(reports)))
        if one.cancelled:
            world.saw("a result came after cancellation")
        self.report(task, reports, made, one.node)

    def _behind(self, task: ev.Task) -> bool:
        """Whether another batch stood at the same warm actor, so that nobody knows whose fault it was."""
        return self._world.draws.unit("behind", task.steps[0].key) < 0.5

    def _breaks(self, step: Step) -> Failure | None:
        if step.key in self._world.media.bad:
            return broken(step, "input")
        if self._world.chance("step", step.key):
            self._world.saw("a step failed")
            return broken(step)
        if self._world.chance("system", step.key):
            self._world.saw("a step had a system fault")
            return broken(step, "system", "out of memory")
        return None

    def report(self, task: ev.Task, reports: list[ev.StepReport], made: dict[str, str], node: int) -> None:
        """Keep what the ledger will take, then tell it."""
        shell, taken = self._shell, set()
        for report in reports:
            if report.failure is None and shell.ledger.accepts(task.id, report.key):
                taken.add(report.key)
                if report.kept:
                    shell.keep(report.key, made[report.key], node)
        if task.home is None:
            self._world.work.failed(shell, task, [s.key for s in task.steps if s.key not in taken])
        event = ev.Reported(task.id, reports)
        shell.feed(event)
        if self._world.chance("twice", task.steps[0].key):
            self._world.saw("a result came twice")
            shell.feed(event)
