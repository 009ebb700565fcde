"""Shards among each other, one asks, the owner answers; messages are slow or lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amber_ray.core.model.request import Failure
from amber_ray.core.planning.plan import Step, closure
from amber_ray.core.state import events as ev

if TYPE_CHECKING:
    from tests.simulation.shell import Handle, Shell

Answers = dict[str, tuple[str | None, Failure | None]]


@dataclass(slots=True)
class Selection:
    """Another shard's question: who asked, in which incarnation, and what it has been told."""

    asker: Shell
    incarnation: int
    task: ev.Task
    answers: dict[str, Handle | Failure] = field(default_factory=dict)


class Peers:
    """One incarnation's questions to the others, and theirs to it."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._world = shell.world
        self.asked: dict[str, Selection] = {}

    # --- the asker's side

    def ask(self, task: ev.Task) -> None:
        """Send a foreign task to its owner."""
        world, shell = self._world, self._shell
        assert task.home is not None
        owner = world.shells[task.home]
        assert all(s.home == owner.id for s in task.steps)
        about, incarnation = task.steps[0].key, shell.incarnation
        if not owner.up or world.chance("lost", about):
            world.saw("a question was lost")
            shell.later(world.draws.unit("hears of it", about) * 3.0, lambda: shell.dispatch.lose(task.id))
            return
        plan: dict[str, Step] = {}  # by the time the question arrives the asker may have forgotten it
        for step in task.steps:
            origin = shell.ledger.entries[step.key].origin
            assert origin is not None
            plan.update(closure(origin, [step.key]))
        arrives = world.draws.unit("question", about)
        world.later(arrives, lambda: self._arrive(owner, incarnation, task, plan))
        if world.chance("repeated", about):
            world.saw("a question arrived twice")
            again = arrives + world.draws.unit("question again", about) * 3.0
            world.later(again, lambda: self._arrive(owner, incarnation, task, plan))

    def _arrive(self, owner: Shell, incarnation: int, task: ev.Task, plan: dict[str, Step]) -> None:
        if owner.up:
            owner.peers.question(self._shell, incarnation, task, plan)

    def withdraw(self, task: ev.Task) -> None:
        """The asker has given up: the owner hears of it, if it is still there."""
        assert task.home is not None
        owner, id = self._world.shells[task.home], self._id(self._shell, self._shell.incarnation, task)

        def leave() -> None:
            if owner.up and id in owner.peers.asked:
                del owner.peers.asked[id]
                owner.feed(ev.Left(id))

        self._world.later(0.1, leave)

    def heard(self, task: ev.Task, answers: Answers) -> None:
        """What the owner has said."""
        if self._shell.dispatch.running.pop(task.id, None) is None:
            self._world.saw("an answer nobody waited for")
            return
        reports, made = [], {}
        for key, (value, failure) in answers.items():
            if value is not None and failure is None:
                made[key] = value
            reports.append(ev.StepReport(key, self._world.media.bytes(key), 1.0, failure is None, failure))
        self._shell.dispatch.report(task, reports, made, self._world.place("borrowed", task.steps[0].key))

    # --- the owner's side

    @staticmethod
    def _id(asker: Shell, incarnation: int, task: ev.Task) -> str:
        return f"peer/{asker.id}-{incarnation}-{task.id}"

    def question(self, asker: Shell, incarnation: int, task: ev.Task, plan: dict[str, Step]) -> None:
        """Another shard wants steps of this one; a question that is known is joined, not asked again."""
        id = self._id(asker, incarnation, task)
        if id in self.asked:
            return
        self.asked[id] = Selection(asker, incarnation, task)
        keys = [s.key for s in task.steps]
        self._shell.feed(ev.Requested(id, plan, keys, priority=task.priority, tenant=task.tenant))

    def deliver(self, id: str, key: str, outcome: ev.Ready | Failure) -> None:
        """The ledger answers another shard: the value is taken hold of now, or it might be evicted."""
        answers = self.asked[id].answers
        assert key not in answers, f"{id} was told twice of {key}"
        answers[key] = outcome if isinstance(outcome, Failure) else self._shell.values[key]

    def finished(self, id: str) -> None:
        """All is answered: the values go along, but for those whose node has died meanwhile."""
        world, one = self._world, self.asked.pop(id)
        reports: Answers = {}
        for key, answer in one.answers.items():
            if isinstance(answer, Failure):
                reports[key] = None, answer
            elif not answer.lost:
                reports[key] = answer.value, None
        about = one.task.steps[0].key
        if world.chance("reply lost", about):
            world.saw("an answer was lost")
            later = world.draws.unit("hears of it", about) * 3.0
            world.later(later, lambda: self._lost(one))
        else:
            world.later(world.draws.unit("answer", about), lambda: self._answer(one, reports))

    def _answer(self, one: Selection, reports: Answers) -> None:
        if one.asker.up and one.asker.incarnation == one.incarnation:
            one.asker.peers.heard(one.task, reports)

    def _lost(self, one: Selection) -> None:
        if one.asker.up and one.asker.incarnation == one.incarnation:
            one.asker.dispatch.lose(one.task.id)
