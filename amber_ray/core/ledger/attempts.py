"""Tasks: how steps are handed over, and what each way in which a task can end means for its steps.

An attempt is a task's hold on a key (`Entry.task`). A key has at most one. What a task reports of a key that
it no longer holds is dropped (I1): that key was dropped, cancelled or failed meanwhile, and its waiters have
been answered. A cancelled task is reported once more, when it ends, and holds its resources until then.

Must not know: requests, storage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from amber_ray.core.ledger.graph import NOT_THERE, QUARANTINED, Charge, Graph, failure_of, moved
from amber_ray.core.model.request import Failure
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import DONE, DROP, NEED, START, VANISH, Entry


class Attempts:
    """The live tasks of one shard, by number."""

    def __init__(self, graph: Graph) -> None:
        self.tasks: dict[int, ev.Task] = {}
        self._graph = graph
        self._scheduler = graph.scheduler
        self._last = 0

    def submit(
        self,
        entries: Sequence[Entry],
        needs: Mapping[str, float],
        home: int | None = None,
        threads: int = 1,
    ) -> None:
        """Hand steps over as one task; with `home`, as a question to the shard that owns them."""
        number = self._last = self._last + 1
        graph, scheduler = self._graph, self._scheduler
        inside = {entry.key for entry in entries}
        outputs: list[str] = []
        small = True
        priority = entries[0].rank[0]
        for entry in entries:
            entry.move(START)
            entry.task = number
            priority = max(priority, entry.rank[0])
            recipe = entry.step.recipe
            if recipe.store != "never" or entry.waiters or not entry.dependents.keys() <= inside:
                outputs.append(entry.key)
                size = scheduler.cost(entry.step).bytes
                small = small and size is not None and size * 2 < graph.settings.inline_bytes
        first = entries[0]
        task = ev.Task(
            id=number,
            steps=tuple([entry.step for entry in entries]),
            outputs=frozenset(outputs),
            needs=needs,
            recipe=first.step.recipe,
            pool=home is None and first.step.recipe.pooled,
            home=home,
            priority=priority,
            tenant=first.tenant,
            small=small,
            isolated=first.isolated,
            threads=threads,
        )
        self.tasks[task.id] = task
        graph.out.append(ev.Submit(task))

    def held_by(self, task: ev.Task) -> Iterator[Entry]:
        """Yield the entries that this task still holds, inputs before dependents."""
        for step in task.steps:
            entry = self._graph.entries.get(step.key)
            if entry is not None and entry.task == task.id:
                yield entry

    def _ended(self, id: int) -> ev.Task | None:
        """Remove a live task that has ended and release its resources. Return None if it had ended before."""
        task = self.tasks.pop(id, None)
        if task is None:
            self._graph.counters["superseded"] += 1
        elif task.home is None:
            self._scheduler.release(task.recipe, task.needs, task.threads)
        return task

    def reported(self, event: ev.Reported, now: float) -> None:
        """Take in the report of a task that ended by itself."""
        task = self._ended(event.task)
        if task is None:
            return
        graph = self._graph
        vanished: list[Entry] = []
        told = 0
        for report in event.reports:
            entry = graph.entries.get(report.key)
            if entry is None or entry.task != task.id:
                graph.counters["superseded"] += 1
                continue
            told += 1
            if report.failure is not None:
                self._step_failed(entry, report, task, now)
            else:
                entry.ran(report.seconds)
                if task.home is None:
                    graph.counters["computed"] += 1
                    graph.tally.ran(entry.step.recipe.feature, report.seconds)
                    size = report.bytes if report.kept else None
                    ranges = len(report.windows) if isinstance(report.windows, tuple) else None
                    self._scheduler.cost(entry.step).learn(report.seconds, size, ranges)
                graph.consumed(entry)
                if report.kept:
                    graph.hold(entry, DONE, report.bytes, now, report.windows)
                    graph.available(entry, ev.Ready(cached=False, seconds=report.seconds))
                else:
                    vanished.append(entry)
        for entry in vanished:
            # Its dependents in the task are done. For whoever came while it ran it is computed again.
            entry.move(VANISH)
            if entry.wanted:
                entry.move(NEED)
                graph.plan(entry, now)
                graph.release_interest(entry)
            else:
                graph.forget(entry)
        if told == len(task.steps):
            return
        for entry in self.held_by(task):
            silent = failure_of(entry, "SystemFault", "the task ended and said nothing of this step", 503)
            graph.again(entry, silent, now)

    def _step_failed(self, entry: Entry, report: ev.StepReport, task: ev.Task, now: float) -> None:
        """Take in a step's own failure. Another shard's is final, since that shard has made its own tries."""
        assert report.failure is not None
        missed = task.home is None and report.failure.type in NOT_THERE
        if missed and self._relocated(task, report.failure.key):
            # The asset moved while the task ran, and a newer request says where to: read it there.
            self._graph.again(entry, report.failure, now, charge="nobody")
            return
        if report.later is not None and task.home is None:
            self._graph.later(entry, report.failure, report.later, now)
        elif report.failure.kind == "system" and task.home is None:
            # A step that was blocked by another one of its task is not charged with that one's fault.
            own = report.failure.key == entry.key
            self._graph.again(entry, report.failure, now, charge="tries" if own else "nobody")
        else:
            self._graph.fail(entry, report.failure, now)

    def _relocated(self, task: ev.Task, key: str) -> bool:
        """Return whether a step's asset is known to be elsewhere than where the task looked for it."""
        entry = self._graph.entries.get(key)
        step = next((s for s in task.steps if s.key == key), None)
        return entry is not None and step is not None and moved(step.unit, entry.step.unit)

    def lost(self, event: ev.TaskLost, now: float) -> None:
        """Take in that a task ended without a report."""
        task = self._ended(event.task)
        if task is None:
            return
        # One of several killed the worker. Each is tried alone, so the guilty one can't fail the others.
        several = len(task.steps) > 1 or event.shared
        together = several and event.started and task.home is None and event.retry and not event.inputs_lost
        for entry in self.held_by(task):
            step = entry.step
            failure = dataclasses.replace(
                event.failure, step=step.recipe.feature, key=step.key, unit=step.unit_id
            )
            entry.isolated = entry.isolated or together
            if event.crashed and not together and entry.tries:
                failure = quarantined(failure, entry.tries + 1)
            charge: Charge = "input_losses" if event.inputs_lost else "tries"
            if together or not event.started:
                charge = "nobody"
            self._graph.again(entry, failure, now, charge=charge, final=not event.retry)

    def abandon(self, entry: Entry, now: float) -> None:
        """Cancel a step's task if no step of it has been wanted throughout the grace period (I6)."""
        task = self.tasks[entry.task]
        mates = list(self.held_by(task))
        inside = {mate.key for mate in mates}
        for mate in mates:
            if mate.waiters or not mate.dependents.keys() <= inside:
                return  # another step of the task is wanted, so this one's value will be kept too
            if not mate.dependents and mate.until > now:
                return  # its waiters left later, and its own alarm is set
        self._graph.out.append(ev.Cancel(task.id))
        for mate in reversed(mates):
            self._graph.consumed(mate)
            mate.task = 0
            self._graph.remove(mate, DROP)

    def stop_unfit(self, now: float) -> None:
        """Cancel the tasks that no node could start any more, after the cluster has changed.

        Ray would keep such a task pending for ever. Should it run after all, its end is handled like any
        other.
        """
        gone = "the nodes that could run it are gone"
        for task in list(self.tasks.values()):
            if task.home is None and not self._scheduler.capacity.can_run(task.needs):
                if any(self.held_by(task)):
                    self._graph.out.append(ev.Cancel(task.id))
                for entry in self.held_by(task):  # one that fails may take the next ones along
                    failure = failure_of(entry, "SystemFault", gone, 503)
                    self._graph.again(entry, failure, now, charge="nobody")


def quarantined(failure: Failure, times: int) -> Failure:
    """Return a crash as the last failure of a step without tries: one more would kill another worker."""
    message = (
        f"{failure.message}, each of the {times} times it was tried alone; "
        "this unit is set aside for a while, and refresh tries it again"
    )
    return dataclasses.replace(failure, type=QUARANTINED, message=message)
