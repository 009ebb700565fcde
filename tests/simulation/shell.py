"""What `fabric.shard.actor` is to the real ledger, for a simulated one: life, values, and the one way in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import State
from amber_ray.store.key_index import KeyIndex
from tests.simulation.desk import RequestTable
from tests.simulation.dispatch import Dispatch
from tests.simulation.peers import Peers
from tests.simulation.shelf import Spiller
from tests.simulation.storage import Part, packed

if TYPE_CHECKING:
    from tests.simulation.world import World


class Died(Exception):
    """The actor's process is gone in the middle of what it did; nothing of that goes on."""


@dataclass(slots=True)
class Handle:
    """A value in memory. A small one is with the actor, others on a node; `lost` once that node is gone."""

    value: str
    node: int | None
    lost: bool = False

    @property
    def inline(self) -> bool:
        """Whether it is in the actor's own memory."""
        return self.node is None


class Shell:
    """One shard, through all its incarnations. Storage outlives it, and so does nothing else."""

    def __init__(self, world: World, id: int) -> None:
        self.world = world
        self.id = id
        self.incarnation = 0
        self.up = False
        self.index: KeyIndex
        self.ledger: Ledger
        self.values: dict[str, Handle] = {}
        self._steps_left = -1
        self._wake = float("inf")

    # --- life

    def start(self) -> None:
        """A process begins: the index from the parts, accepted requests from the journal."""
        world = self.world
        self.incarnation += 1
        self.up = True
        self.values = {}
        self.index = KeyIndex()
        for part, keys in world.storage.scan():
            self.index.add(part, keys)
        world.work.restarted(self)
        self.ledger = Ledger(world.settings, self.index, shard=self.id)
        self.dispatch = Dispatch(self)
        self.shelf = Spiller(self)
        self.peers = Peers(self)
        self.desk = RequestTable(self)
        self._wake = float("inf")
        self.feed(ev.CapacityChanged(world.capacities()))
        self.desk.resume()
        for caller in world.callers.values():  # their links notice, and bring what is unfinished
            if caller.shard == self.id and caller.waits and caller.sent:
                self.later(0.05 + 0.5 * world.draws.unit("reconnects", caller.id), caller.send)

    def doom(self, steps: int) -> None:
        """Its process will die after so many more steps: an event, or a command, each."""
        if self.up and self._steps_left < 0:
            self._steps_left = steps

    def step(self) -> None:
        """Between two steps the process may die."""
        if self._steps_left >= 0:
            self._steps_left -= 1
            if self._steps_left < 0:
                self.die()

    def die(self) -> None:
        """The process ends now: its values, tasks and promises that are not on disk with it."""
        world = self.world
        world.saw("an actor died")
        world.note(self, "the actor dies", [])
        self.up, self._steps_left = False, -1
        self.shelf.orphan()
        for other in world.shells:
            if other.up:
                other.dispatch.peer_died(self.id)
        world.later(0.1 + 2.0 * world.draws.unit("restart", self.id), self.start)
        raise Died

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something after a while, unless this incarnation has ended by then."""
        incarnation = self.incarnation

        def then() -> None:
            if self.up and self.incarnation == incarnation:
                what()

        self.world.later(seconds, then)

    # --- events in, commands out

    def feed(self, event: ev.Event) -> None:
        """Let the ledger take in an event and do what it says, in order."""
        world = self.world
        self.step()
        commands = self.ledger.handle(event, world.now)
        world.note(self, event, commands)
        for command in commands:
            self.step()
            match command:
                case ev.Submit(task):
                    self.dispatch.submit(task)
                case ev.Cancel(id):
                    self.dispatch.cancel(id)
                case ev.Deliver(id, key, outcome):
                    if id in self.peers.asked:
                        self.peers.deliver(id, key, outcome)
                    else:
                        self.desk.deliver(id, key, outcome)
                case ev.Finished(id):
                    if id in self.peers.asked:
                        self.peers.finished(id)
                    else:
                        self.desk.finished(id)
                case ev.Spill(keys):
                    self.shelf.spill(keys)
                case ev.Restore(keys):
                    self.shelf.restore(keys)
                case ev.Drop(keys):
                    for key in keys:
                        self.values.pop(key, None)
        world.heard(self)
        self.desk.flush()
        wake = self.ledger.wake_at()
        if wake < self._wake:
            self._wake = wake
            self.later(max(0.0, wake - world.now), self._tick)

    def _tick(self) -> None:
        self._wake = float("inf")
        self.feed(ev.Tick())

    def learn(self) -> None:
        """The cluster has changed."""
        self.feed(ev.CapacityChanged(self.world.capacities()))

    # --- values

    def keep(self, key: str, value: str, node: int) -> None:
        """A value has come into memory: a small one inline, a large one where it was made."""
        inline = self.world.media.bytes(key) < self.world.settings.inline_bytes
        self.values[key] = Handle(value, None if inline else node)

    def lost(self, keys: Iterable[str]) -> None:
        """Somebody could not get these from the object store."""
        gone = [key for key in keys if key in self.values]
        self.world.work.undone([k for k in gone if self.ledger.state_of(k) is State.HOT])
        self.feed(ev.Lost(gone))

    def reindex(self, removed: Sequence[str], added: Part) -> None:
        """Parts were joined: point the index at the new one."""
        for name in removed:
            self.index.remove_part(name)
        self.index.add(added.name, packed(added.values))

    def forget(self, keys: list[str]) -> None:
        """A purge."""
        self.index.remove(keys)
        self.feed(ev.Purged(keys))
        assert not self.values.keys() & set(keys), "a purged value is still in memory"
