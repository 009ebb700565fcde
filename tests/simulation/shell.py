"""What `fabric.actor` is to the real ledger, for a simulated one: values, workers, storage, peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amber_ray.core import events as ev
from amber_ray.core.ledger import Ledger
from amber_ray.core.plan import Step
from amber_ray.core.request import Failure
from amber_ray.core.states import AVAILABLE
from amber_ray.settings import Settings
from tests.core_kit import broken, fault
from tests.simulation.media import run

if TYPE_CHECKING:
    from tests.simulation.world import World


class Shell:
    """One shard. `values` is its memory, `index` what it knows to be in Parquet."""

    def __init__(self, world: World, id: int, settings: Settings) -> None:
        self.world = world
        self.id = id
        self.index: set[str] = set()
        self.ledger = Ledger(settings, self.index, shard=id)
        self.values: dict[str, str] = {}
        self.running: dict[int, ev.Task] = {}
        self.writing = 0
        self.steps: list[str] = []
        self._peers: dict[str, tuple[Shell, ev.Task, dict[str, Failure | None]]] = {}
        self._wake = float("inf")

    def feed(self, event: ev.Event) -> None:
        """Let the ledger take in an event and do what it says, in order."""
        world = self.world
        for command in self.ledger.handle(event, world.now):
            match command:
                case ev.Submit(task):
                    self._submit(task)
                case ev.Cancel(id):
                    self._cancel(id)
                case ev.Deliver(id, key, outcome):
                    self._deliver(id, key, outcome)
                case ev.Finished(id):
                    self._finished(id)
                case ev.Spill(keys):
                    self._spill({key: self.values[key] for key in keys})
                case ev.Restore(keys):
                    world.later(world.rng.random() * 0.5, lambda keys=keys: self._restore(keys))
                case ev.Drop(keys):
                    for key in keys:
                        self.values.pop(key, None)
        world.heard(self)
        wake = self.ledger.wake_at()
        if wake < self._wake:
            self._wake = wake
            world.later(max(0.0, wake - world.now), self._tick)

    def _tick(self) -> None:
        self._wake = float("inf")
        self.feed(ev.Tick())

    def forget(self, keys: list[str]) -> None:
        """A purge."""
        self.index.difference_update(keys)
        self.feed(ev.Purged(keys))
        assert not self.values.keys() & set(keys), "a purged value is still in memory"

    # --- answers

    def _deliver(self, id: str, key: str, outcome: ev.Ready | Failure) -> None:
        if id in self._peers:
            self._peers[id][2][key] = outcome if isinstance(outcome, Failure) else None
        else:
            self.world.told(self, id, key, outcome)

    def _finished(self, id: str) -> None:
        if id not in self._peers:
            self.world.callers[id].finished = True
            return
        asker, task, answers = self._peers.pop(id)
        reports: dict[str, tuple[str | None, Failure | None]] = {}
        for key, failure in answers.items():
            value = self.values.get(key, self.world.parquet.get(key))
            if failure is not None or value is not None:  # else it was evicted between answer and reading
                reports[key] = value, failure
        self.world.later(self.world.rng.random(), lambda: asker.heard_from_peer(task, reports))

    # --- workers

    def _submit(self, task: ev.Task) -> None:
        world = self.world
        self.running[task.id] = task
        if task.home is not None:
            peer = world.shells[task.home]
            assert all(s.home == peer.id for s in task.steps)
            if world.chance("message"):
                world.later(world.rng.random() * 3.0, lambda: self.kill(task.id))
            else:
                world.later(world.rng.random(), lambda: peer.asked(self, task))
            return
        for step in task.steps:
            assert step.home == self.id, "only its own shard runs a step"
            rivals = [t for t in self.running if t != task.id and self.ledger.accepts(t, step.key)]
            assert not rivals, f"{step.key} has two live attempts"
        inside = {s.key for s in task.steps}
        inputs = {n: self.values[n] for s in task.steps for n in s.needs if n not in inside}
        world.later(0.05 + world.rng.random() * 3.0, lambda: self._end(task, inputs))

    def _cancel(self, id: int) -> None:
        """Cancelling is a wish: the task may end at once, or as if nothing had been said."""
        task = self.running[id]
        if task.home is not None:
            self.world.shells[task.home].withdraw(self, task)
            self.world.later(0.1, lambda: self.kill(id, "Cancelled", retry=False))
        elif not self._fits(task) or self.world.rng.random() < 0.5:  # one that only pends can be stopped
            self.world.later(0.1, lambda: self.kill(id, "Cancelled", retry=False))

    def kill(self, id: int, type: str = "SystemFault", *, retry: bool = True) -> None:
        """The task ends without a report."""
        if self.running.pop(id, None) is not None:
            self.feed(ev.TaskLost(id, fault(type=type), retry))

    def _end(self, task: ev.Task, inputs: dict[str, str]) -> None:
        world = self.world
        if task.id not in self.running:
            return
        if not self._fits(task):
            if any(self.ledger.accepts(task.id, s.key) for s in task.steps):
                world.later(1.0, lambda: self._end(task, inputs))  # pends, as it would in Ray
            else:
                self.kill(task.id, "Cancelled", retry=False)
            return
        if world.chance("die"):
            self.kill(task.id)
            return
        del self.running[task.id]
        made, failed = dict(inputs), {}
        reports = []
        for step in task.steps:
            blocked = next((failed[n] for n in step.needs if n in failed), None)
            failure = blocked or self._breaks(step)
            if failure is not None:
                failed[step.key] = failure
                reports.append(ev.StepReport(step.key, failure=failure))
                continue
            made[step.key] = run(step, made)
            kept = step.key in task.outputs
            size = world.media.size[step.recipe.feature] if kept else 0
            reports.append(ev.StepReport(step.key, size, world.rng.random(), kept))
        if len(reports) > 1 and world.chance("mute"):
            reports.pop(world.rng.randrange(len(reports)))
        self._report(task, reports, made)

    def _fits(self, task: ev.Task) -> bool:
        return any(all(node.get(n, 0.0) >= a for n, a in task.needs.items()) for node in self.world.nodes)

    def _breaks(self, step: Step) -> Failure | None:
        world = self.world
        if step.key in world.media.bad:
            return broken(step, "input")
        if world.chance("step"):
            return broken(step)
        if world.chance("system"):
            return broken(step, "system", "out of memory")
        return None

    def _report(self, task: ev.Task, reports: list[ev.StepReport], made: dict[str, str]) -> None:
        for report in reports:
            if report.kept and report.failure is None and self.ledger.accepts(task.id, report.key):
                self.values[report.key] = made[report.key]
        event = ev.Reported(task.id, reports)
        self.feed(event)
        if self.world.chance("twice"):
            self.feed(event)

    # --- other shards

    def asked(self, asker: Shell, task: ev.Task) -> None:
        """Another shard wants steps of this one."""
        if task.id not in asker.running:
            return
        keys = [s.key for s in task.steps]
        id = f"peer/{asker.id}/{task.id}"
        self._peers[id] = (asker, task, {})
        plan = self.world.media.closure(keys)
        self.feed(ev.Requested(id, plan, keys, priority=task.priority, tenant=task.tenant))

    def withdraw(self, asker: Shell, task: ev.Task) -> None:
        """The other shard has given up."""
        id = f"peer/{asker.id}/{task.id}"
        if self._peers.pop(id, None) is not None:
            self.world.later(0.1, lambda: self.feed(ev.Left(id)))
            self._peers[id] = (asker, task, {})

    def heard_from_peer(self, task: ev.Task, answers: dict[str, tuple[str | None, Failure | None]]) -> None:
        """What another shard has said."""
        if self.running.pop(task.id, None) is None:
            return
        reports, made = [], {}
        for key, (value, failure) in answers.items():
            if value is not None and failure is None:
                made[key] = value
            size = self.world.media.size[self.world.media.steps[key].recipe.feature]
            reports.append(ev.StepReport(key, size, 1.0, failure is None, failure))
        self._report(task, reports, made)

    # --- storage

    def _spill(self, values: dict[str, str]) -> None:
        self.writing += 1
        self.world.later(self.world.rng.random(), lambda: self._spilled(values))

    def _spilled(self, values: dict[str, str]) -> None:
        self.writing -= 1
        if self.world.chance("spill"):
            self.feed(ev.StoreFailed(list(values)))
            return
        self.world.parquet.update(values)
        self.index.update(values)
        self.feed(ev.Stored(list(values)))

    def _restore(self, keys: tuple[str, ...]) -> None:
        found, gone = {}, []
        for key in keys:
            if key not in self.world.parquet or self.world.chance("restore"):
                gone.append(key)
            elif key in self.ledger.entries and self.ledger.state_of(key) not in AVAILABLE:
                found[key] = self.world.parquet[key]
        if found:
            self.values.update(found)
            sizes = {k: self.world.media.size[self.world.media.steps[k].recipe.feature] for k in found}
            self.feed(ev.Restored(sizes))
            if self.world.chance("twice"):
                self.feed(ev.Restored(sizes))
        if gone:
            self.index.difference_update(gone)
            self.feed(ev.RestoreFailed(gone))
