"""Engines and what they were told: the other end of a shard's desk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amber_ray.core.model.request import Failure
from amber_ray.core.state import events as ev

if TYPE_CHECKING:
    from tests.simulation.desk import Record
    from tests.simulation.scenario import Ask
    from tests.simulation.shell import Shell
    from tests.simulation.world import World


class Caller:
    """One engine's request to one shard. The first answer to each target counts; repeats change nothing.

    `gone`: withdrew, or its engine died. `promised`: it was told 202, so its request outlives it.
    """

    def __init__(self, world: World, ask: Ask, id: str, shard: int, targets: tuple[str, ...]) -> None:
        self.world = world
        self.ask = ask
        self.id = id
        self.shard = shard
        self.generation = world.generation(ask.old)
        self.targets = targets
        self.answers: dict[str, ev.Ready | Failure] = {}
        self.sent = False
        self.finished = False
        self.gone = False
        self.promised = False

    @property
    def waits(self) -> bool:
        """Whether it is there and has not been told all."""
        return not (self.gone or self.finished)

    def hear(self, key: str, outcome: ev.Ready | Failure) -> None:
        """News of one key."""
        if not self.gone and key in self.targets:
            self.answers.setdefault(key, outcome)

    def end(self) -> None:
        """The shard says that this was all."""
        if not self.gone:
            self.finished = True
            assert self.answers.keys() == set(self.targets), f"{self.id} ended and was not told all"

    def reply(self, record: Record) -> None:
        """All that the shard knows of the request."""
        for key, outcome in record.answers.items():
            self.hear(key, outcome)
        if not record.running:
            self.end()

    # --- what it does by itself

    def begin(self) -> None:
        """Send the request: the message may be slow, or arrive twice; its link sends lost ones again."""
        world, ask = self.world, self.ask
        arrives = world.draws.unit("arrives", self.id) * 0.2
        world.later(arrives, self.send)
        if world.chance("repeated", self.id):
            world.saw("a request arrived twice")
            world.later(arrives + world.draws.unit("again", self.id), self.send)
        if ask.leaves is not None:
            world.later(ask.leaves, self.leave)
        if ask.dies is not None:
            world.later(ask.dies, self.die)
        if ask.accepted is not None:
            world.later(ask.accepted, self.accept)

    def send(self) -> None:
        """Hand the request to its shard; one that is down hears of it when it is back."""
        self.sent = True
        if self.waits and self._shell.up:
            self._shell.desk.submit(self)

    def accept(self) -> None:
        """Its wait is over: have the request journaled, then be told 202."""
        if self.waits and self._shell.up:
            self._shell.desk.accept(self)

    def leave(self) -> None:
        """Withdraw: told nothing more, and its interest ends."""
        if self.waits:
            self.gone, self.promised = True, False
            self.world.saw("a caller left")
            if self._shell.up:
                self._shell.desk.withdraw(self.id)

    def die(self) -> None:
        """The engine is gone without a word; the shard finds out by its silence."""
        if self.waits:
            self.gone = True
            self.world.saw("an engine died")
            self._shell.later(5.0, lambda: self._shell.desk.silence(self))

    @property
    def _shell(self) -> Shell:
        return self.world.shells[self.shard]
