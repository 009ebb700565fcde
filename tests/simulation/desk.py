"""Requests at one shard, a record each, the journal, news for who follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amber_ray.core.model.request import Failure
from amber_ray.core.state import events as ev
from tests.simulation.storage import Full, Paper

if TYPE_CHECKING:
    from tests.simulation.callers import Caller
    from tests.simulation.shell import Shell


@dataclass(slots=True)
class Record:
    """One request at this shard. `follower`: the caller that is told its news."""

    id: str
    targets: tuple[str, ...]
    tenant: str
    priority: int
    accepted: bool = False
    resumed: bool = False
    running: bool = True
    answers: dict[str, ev.Ready | Failure] = field(default_factory=dict)
    follower: Caller | None = None


class RequestTable:
    """What the ledger answers goes to the records at once, and to the callers when the event is through."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._world = shell.world
        self.records: dict[str, Record] = {}
        self._news: list[tuple[Record, str, ev.Ready | Failure | None]] = []

    # --- what the ledger answers

    def deliver(self, id: str, key: str, outcome: ev.Ready | Failure) -> None:
        """An answer: one for each target of a live request, and a true one."""
        record = self.records[id]
        assert record.running, f"{id} was told of {key} after its end"
        assert key not in record.answers, f"{id} was told twice of {key}"
        assert key in record.targets, f"{id} did not ask for {key}"
        record.answers[key] = outcome
        self._world.judge(self._shell, record, key, outcome)
        if isinstance(outcome, ev.Ready) and key in self._shell.values and self._shell.values[key].lost:
            self._shell.later(0.1, lambda: self._shell.lost([key]))  # its reader finds out
        self._news.append((record, key, outcome))

    def finished(self, id: str) -> None:
        """The ledger has answered all of a request."""
        record = self.records[id]
        assert record.running, f"{id} ended twice"
        assert record.answers.keys() == set(record.targets), f"{id} ended and was not told all"
        record.running = False
        self._news.append((record, "", None))
        if record.accepted:
            self._shell.later(0.02, lambda: self._write(record))

    def flush(self) -> None:
        """The event is through: the polls that wait are answered."""
        news, self._news = self._news, []
        for record, key, outcome in news:
            if record.follower is None:
                continue
            if outcome is None:
                record.follower.end()
            else:
                record.follower.hear(key, outcome)

    # --- what callers ask

    def submit(self, caller: Caller) -> None:
        """Take a request in, or join it to the one that is known by its id."""
        record = self.records.get(caller.id)
        if record is not None and set(record.targets) != set(caller.targets):
            # It was resumed by newer code than its engine's, which has come back with its own plan.
            self._world.saw("a resumed request gave way")
            del self.records[caller.id]
            if record.running:
                self._shell.feed(ev.Left(caller.id))
            record = None
        if record is None:
            ask = caller.ask
            record = Record(caller.id, caller.targets, ask.tenant, ask.priority, accepted=caller.promised)
            self._begin(record, caller.generation, refresh=ask.refresh, load=ask.load, patience=ask.patience)
            if record.accepted:
                self._shell.later(0.02, lambda: self._write(record))
        elif record.follower is not caller:
            self._world.saw("a caller joined a resumed request")
        record.follower = caller
        caller.reply(record)

    def _begin(
        self, record: Record, generation: int, *, refresh: bool, load: bool, patience: float | None
    ) -> None:
        now = self._world.now
        self.records[record.id] = record
        if refresh:
            self._world.work.undone(record.targets)
        self._shell.feed(
            ev.Requested(
                record.id,
                self._world.media.closure(record.targets, generation),
                record.targets,
                priority=record.priority,
                tenant=record.tenant,
                deadline=None if patience is None else now + patience,
                refresh=refresh,
                load=load,
            )
        )

    def accept(self, caller: Caller) -> None:
        """Journal a request; when it is on disk its caller is told 202."""
        record = self.records.get(caller.id)
        if record is not None and not record.accepted:
            record.accepted = True
            self._shell.later(0.02, lambda: self._accepted(record, caller))

    def _accepted(self, record: Record, caller: Caller) -> None:
        if self._write(record):
            self._shell.step()  # it may die with the paper written and nobody told
            caller.promised = not caller.gone
        else:
            record.accepted = False

    def _write(self, record: Record) -> bool:
        shard = self._shell.id
        paper = Paper(record.id, shard, record.targets, record.tenant, record.priority, record.running)
        try:
            self._world.storage.note(paper)
        except Full:
            self._world.saw("a request could not be journaled")
            return False
        return True

    def withdraw(self, id: str) -> None:
        """End a request: its waiters leave; what others wait for goes on."""
        record = self.records.get(id)
        if record is not None and record.running:
            record.running = False
            self._shell.feed(ev.Left(id))
            if record.accepted:
                self._shell.later(0.02, lambda: self._write(record))

    def silence(self, caller: Caller) -> None:
        """An engine has not polled for long: its request goes on only if it was accepted."""
        record = self.records.get(caller.id)
        if record is not None and not record.accepted:
            self.withdraw(caller.id)

    # --- a new incarnation

    def resume(self) -> None:
        """Go on with accepted requests that an earlier incarnation left unfinished, by today's registry."""
        world = self._world
        for paper in list(world.storage.journal.values()):
            if paper.shard != self._shell.id or not paper.running:
                continue
            world.saw("a request was resumed")
            targets = world.again(paper.targets)
            record = Record(paper.id, targets, paper.tenant, paper.priority, accepted=True, resumed=True)
            self._begin(record, world.generation(False), refresh=False, load=False, patience=None)
