"""What the parts of one shard share: its ledger, its index, the values in memory, and the ways out.

A part of the shell takes this, never the shard itself, so that each can be read, tested and run alone.
Must not know: which parts there are.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.state import events as ev
from amber_ray.fabric.shard.ports import Clock, Cluster, Parts, Ports, Process
from amber_ray.fabric.shard.traces import Traces
from amber_ray.fabric.transport.messages import OWN, Found, Handle, Inline, Slot, StepResult
from amber_ray.settings import Settings
from amber_ray.store.key_index import KeyIndex


@dataclass(slots=True)
class ShardContext:
    """One shard's state. All of it belongs to one event loop, so between two `await`s nothing changes.

    - `values`: handles of the values in memory, by key, kept in step with the ledger's AVAILABLE entries;
    - `registries`: the registries whose code is published, oldest first: their code by their digests;
    - `refreshing`: keys that a caller wants made anew and that have not been, so copies of the old value must
      go once more when the new one is there;
    - `changes`: how many times values were purged or made anew; see `Updates.changes`;
    - `feed`: the one way into the ledger; performs the commands that come back before it returns;
    - `spawn`: run a coroutine beside; an exception that nobody handles is logged;
    - `changed`: tell every session that these keys' values are others now; None: that values were purged;
    - `traces`: the spans of what goes on.
    """

    settings: Settings
    shard: int
    incarnation: str
    ports: Ports
    index: KeyIndex
    ledger: Ledger
    feed: Callable[[ev.Event], None]
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    changed: Callable[[list[str] | None], None]
    values: dict[str, Handle] = field(default_factory=dict)
    registries: dict[str, bytes] = field(default_factory=dict)
    refreshing: set[str] = field(default_factory=set)
    changes: int = 0
    traces: Traces = field(init=False)

    def __post_init__(self) -> None:
        self.traces = Traces(self.ports.tracer, self.ledger, self.shard)

    @property
    def clock(self) -> Clock:
        """Time."""
        return self.ports.clock

    @property
    def cluster(self) -> Cluster:
        """Where tasks run."""
        return self.ports.cluster

    @property
    def parts(self) -> Parts:
        """Values at rest."""
        return self.ports.parts

    @property
    def process(self) -> Process:
        """The process that this shard is."""
        return self.ports.process

    def keep(self, result: StepResult, ref: Any, part: str = "") -> None:
        """Hold a value that a task brought, or a read from a `part`: its bytes, or the object it is in."""
        assert result.made is not None
        self.values[result.key] = (
            Inline(result.inline, result.made, result.windows, part)
            if result.inline is not None
            else Slot(ref, result.place, result.size, result.made, result.windows)
        )

    def found(self, key: str) -> Found | None:
        """Where a key's value is in memory, as it is told to a reader; None if it is not.

        A value that another shard lent is not told: it may have been purged or made anew there since.
        """
        handle = self.values.get(key)
        entry = self.ledger.entries.get(key)
        if handle is None or entry is None or entry.step.home != self.shard:
            return None
        recipe, made = entry.step.recipe, handle.made.created
        if isinstance(handle, Inline):
            return Found(key, recipe.feature, recipe.version, handle.data, made=made, rank=OWN)
        ref, place = [handle.ref], handle.place
        return Found(
            key, recipe.feature, recipe.version, ref=ref, place=place, made=made, rank=OWN, size=handle.size
        )

    def in_object_store(self, key: str) -> bool:
        """Whether a key's value is in memory as an object, which a node's death can take along."""
        return isinstance(self.values.get(key), Slot)
