"""Values between memory and Parquet, as `fabric.shard.spill` moves them: write, publish, index, then tell."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import AVAILABLE
from tests.simulation.storage import Full, packed

if TYPE_CHECKING:
    from tests.simulation.shell import Handle, Shell

WRITERS = 2


class Spiller:
    """One shard's writes and reads. What is under way when the shard dies may be published all the same."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._world = shell.world
        self._waiting: collections.deque[dict[str, Handle]] = collections.deque()
        self._writing: list[dict[str, Handle]] = []
        self._held: list[str] = []

    @property
    def busy(self) -> bool:
        """Whether a part is being written."""
        return bool(self._writing or self._waiting)

    def handles(self) -> Iterator[Handle]:
        """The values that are being written, or wait for that."""
        for group in (*self._writing, *self._waiting):
            yield from group.values()

    # --- to storage

    def spill(self, keys: Sequence[str]) -> None:
        """Write values, one part per feature and version; while a purge runs they are held back."""
        shell = self._shell
        under_way = {key for group in (*self._writing, *self._waiting) for key in group}
        assert not under_way & set(keys), "two writers of one key"
        if self._world.purging:
            self._held.extend(keys)
            return
        groups: dict[str, dict[str, Handle]] = collections.defaultdict(dict)
        for key in keys:
            assert shell.ledger.entries[key].step.home == shell.id, "only its own shard writes a value"
            groups[self._world.folder(key)][key] = shell.values[key]
        self._waiting.extend(groups.values())
        self._begin()

    def _begin(self) -> None:
        while self._waiting and len(self._writing) < WRITERS:
            group = self._waiting.popleft()
            self._writing.append(group)
            about = next(iter(group))
            slow = self._world.draws.unit("writing", about)
            self._shell.later(slow, lambda group=group: self._end(group))

    def _end(self, group: dict[str, Handle]) -> None:
        shell, world = self._shell, self._world
        self._writing.remove(group)
        keys = list(group)
        try:
            if any(handle.lost for handle in group.values()):
                world.saw("a write found its values gone")
                shell.lost([k for k in keys if k in shell.values and not shell.values[k].inline])
                shell.feed(ev.StoreFailed(keys))
            elif world.chance("spill", keys[0]):
                shell.feed(ev.StoreFailed(keys))
            else:
                self._publish(group)
        finally:
            if shell.up:
                self._begin()

    def _publish(self, group: dict[str, Handle]) -> None:
        shell, keys = self._shell, list(group)
        try:
            part = self._world.publish(group)
        except Full:
            self._world.saw("a write met a full disk")
            shell.feed(ev.StoreFailed(keys))
            return
        shell.step()  # it may die with the part published and nobody told
        shell.index.add(part.name, packed(keys))
        shell.feed(ev.Stored(keys))

    def orphan(self) -> None:
        """The shard is dead: each write under way ends before or after its part is published, or soon."""
        world = self._world
        for group in self._writing:
            fate = world.draws.pick("orphaned write", next(iter(group)), ("lost", "published", "late"))
            if any(handle.lost for handle in group.values()) or fate == "lost":
                continue
            world.saw("a part nobody was told of")
            world.later(0.0 if fate == "published" else 2.0, lambda group=group: self._unheard(group))

    def _unheard(self, group: dict[str, Handle]) -> None:
        try:
            self._world.publish(group)
        except Full:
            self._world.saw("a write met a full disk")

    def resume(self) -> None:
        """A purge is over: what was to be written meanwhile is asked for again, if the purge has left it."""
        if self._held:
            held, self._held = self._held, []
            self._shell.feed(ev.StoreFailed(held))

    # --- and back

    def restore(self, keys: Sequence[str]) -> None:
        """Read values back into memory."""
        slow = self._world.draws.unit("reading", keys[0]) * 0.5
        self._shell.later(slow, lambda: self._restored(keys))

    def _restored(self, keys: Sequence[str]) -> None:
        shell, world = self._shell, self._world
        if world.chance("restore", keys[0]):
            world.saw("a store could not be read")
            shell.feed(ev.Unreadable(dict.fromkeys(keys, "the store does not answer")))
            return
        read = self.read(keys)
        sizes: dict[str, int] = {}
        for key, value in read.items():
            entry = shell.ledger.entries.get(key)
            if entry is not None and entry.state not in AVAILABLE:
                shell.keep(key, value, world.place("restored", key))
                sizes[key] = world.media.bytes(key)
        if sizes:
            event = ev.Restored(sizes)
            shell.feed(event)
            if world.chance("twice", keys[0]):
                world.saw("a read ended twice")
                shell.feed(event)
        if missing := [key for key in keys if key not in read]:
            world.saw("a read failed")
            world.work.undone(missing)
            shell.feed(ev.RestoreFailed(missing))

    def read(self, keys: Sequence[str]) -> dict[str, str]:
        """What can be read, with a second look: a part may be damaged, or joined to another since."""
        shell, storage = self._shell, self._world.storage
        read: dict[str, str] = {}
        for attempt in range(3):
            left = [key for key in keys if key not in read]
            for key, place in zip(left, shell.index.find_many(left), strict=True):
                if place is None:
                    continue
                part = storage.parts.get(place[0])
                if part is None or key not in part.values:
                    self._world.saw("a part had vanished")
                    self._forget(place[0])
                    self._rescan(attempt)
                elif part.damaged:
                    self._world.saw("a damaged part was read")
                    storage.remove(part.name)
                    self._forget(part.name)
                    self._rescan(attempt)
                else:
                    read[key] = part.values[key]
        return read

    def _rescan(self, attempt: int) -> None:
        """There may be other copies of a lost part's values, which the index has let go of."""
        if attempt == 0:
            for name, known in self._world.storage.scan():
                self._shell.index.add(name, known)

    def _forget(self, part: str) -> None:
        """The index lets go of a part; until it looks again it knows no other copy of its values."""
        self._world.work.undone(self._shell.index.remove_part(part))
