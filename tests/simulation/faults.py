"""What befalls a world from outside at a given time; faults that need an occasion are in `World.chance`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.scenario import CLUSTERS, Ask, Happening
from tests.simulation.shell import Died, Shell

if TYPE_CHECKING:
    from tests.simulation.world import World


class Faults:
    """Does to the world what a scenario says."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._full_until = 0.0

    def happen(self, it: Happening) -> None:
        """Let it happen; the rest is the cluster's business."""
        match it.kind:
            case "objects vanish":
                self._vanish(it)
            case "purge":
                self._world.purging += 1
                self._purge(it)
            case "nodes change":
                self._change(it)
            case "node dies":
                self._node_dies(it)
            case "actor dies":
                shell = self._one(it, self._world.shells)
                shell.doom(int(it.much * 12))
                if it.much < 0.2 and shell.up:
                    shell.step()  # at once, and idle
            case "disk full":
                self._full(it)
            case "part damaged":
                self._damage(it)
            case "upgrade":
                self._world.saw("new versions")
                self._world.media.upgrade()
            case "compaction":
                self._compact(it)
            case "urgency":
                self._urge(it)

    @staticmethod
    def _one(it: Happening, options: list) -> Shell:  # type: ignore[type-arg]
        return options[int(it.which * len(options))]

    # --- memory and nodes

    def _vanish(self, it: Happening) -> None:
        """Objects are gone and a reader tells."""
        shell = self._one(it, self._world.shells)
        if shell.up:
            gone = [k for i, k in enumerate(shell.values) if (i * 0.37 + it.much) % 1.0 < 0.3]
            if gone:
                self._world.saw("objects vanished")
            shell.lost(gone)

    def _node_dies(self, it: Happening) -> None:
        """A node goes with its tasks and its values, and another like it comes; who reads them finds out."""
        world = self._world
        number = list(world.nodes)[int(it.which * len(world.nodes))]
        kind = world.nodes.pop(number)
        world.saw("a node died")
        values = [h for s in world.shells for h in s.values.values() if h.node == number]
        writing = [h for s in world.shells if s.up for h in s.shelf.handles() if h.node == number]
        for handle in (*values, *writing):
            handle.lost = True
            world.saw("a node died with a value")
        if it.much < 0.5 or not world.nodes:
            world.nodes[number + 100] = kind
        for shell in world.shells:
            if shell.up:
                shell.later(0.05, lambda shell=shell: shell.dispatch.node_died(number))
        self.nodes_changed()

    def _change(self, it: Happening) -> None:
        """Other nodes in place of all; what ran there may be lost."""
        world = self._world
        world.saw("other nodes")
        first = max(world.nodes) + 1
        world.nodes = dict(enumerate(CLUSTERS[int(it.which * len(CLUSTERS))], first))
        for shell in world.shells:
            for id in list(shell.dispatch.running) if shell.up else ():
                if world.draws.unit("moved", id) < 0.3:
                    shell.later(0.0, lambda shell=shell, id=id: shell.dispatch.lose(id))
        self.nodes_changed()

    def nodes_changed(self) -> None:
        """Every shard learns of it, each for itself."""
        for shell in self._world.shells:
            shell.later(0.0, shell.learn)

    # --- storage

    def _purge(self, it: Happening) -> None:
        """Forget values everywhere, once nothing is being written: what is would come back."""
        world = self._world
        if any(shell.up and shell.shelf.busy for shell in world.shells):
            world.later(0.1, lambda: self._purge(it))
            return
        world.saw("a purge")
        gone = world.media.matching(it.which, it.much)
        world.storage.purge(gone)
        world.work.undone(gone)
        world.purging -= 1
        for shell in world.shells:
            if shell.up:
                try:
                    shell.forget(gone)
                    shell.shelf.resume()
                except Died:
                    continue  # its next incarnation reads the rewritten parts

    def _full(self, it: Happening) -> None:
        world = self._world
        world.saw("the disk was full")
        world.storage.full = True
        self._full_until = max(self._full_until, world.now + 0.5 + it.much * 8.0)
        world.later(self._full_until - world.now, self._free)

    def _free(self) -> None:
        if self._world.now >= self._full_until - 1e-9:
            self._world.storage.full = False

    def _damage(self, it: Happening) -> None:
        storage = self._world.storage
        parts = list(storage.parts.values())
        if parts:
            part = parts[int(it.which * len(parts))]
            self._world.saw(
                "a part was damaged" if len(part.values) == 1 else "a part of several was damaged"
            )
            storage.damage(part)

    def _compact(self, it: Happening) -> None:
        """Small parts are joined; the other shards hear of it, or find out."""
        world = self._world
        folders = sorted({name.rpartition("/")[0] for name in world.storage.parts})
        if not folders:
            return
        old, new = world.storage.compact(folders[int(it.which * len(folders))])
        if new is None:
            return
        world.saw("parts were joined")
        for name in old:
            world.storage.remove(name)
        for shell in world.shells:
            if shell.up and world.draws.unit("told of joined parts", shell.id) < 0.7:
                shell.reindex(old, new)

    # --- callers

    def _urge(self, it: Happening) -> None:
        """Somebody in a hurry wants what a patient caller waits for."""
        world = self._world
        patient = [
            c for c in world.callers.values() if c.waits and c.sent and c.ask.priority < 2 and c.targets
        ]
        if patient:
            one = patient[int(it.which * len(patient))]
            world.saw("a shared step became urgent")
            names = tuple(world.media.names[key] for key in one.targets)
            world.ask(Ask(it.at, f"urgent{len(world.callers)}", names, 2, "z", load=it.much < 0.7))
