"""A cluster in a single thread: clock, nodes, storage, shards and callers, all from one scenario.

The core under it is the real one, unchanged; the rest is the smallest honest shell around it (`fabric`, piece
by piece). A fault is anything that can happen to the real shell. `run()` raises when a promise is broken.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from amber_ray.core.ledger.graph import QUARANTINED
from amber_ray.core.ledger.invariants import check
from amber_ray.core.model.request import Failure
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import AVAILABLE, State
from amber_ray.settings import Settings
from tests.simulation.callers import Caller
from tests.simulation.desk import Record
from tests.simulation.draws import Draws
from tests.simulation.faults import Faults
from tests.simulation.media import Media
from tests.simulation.oracle import Work
from tests.simulation.scenario import SMALL_GPU, Ask, Scenario
from tests.simulation.shell import Died, Handle, Shell
from tests.simulation.storage import Part, Storage

MOST_EVENTS = 40_000
"""More than that is a livelock."""
START = 1000.0


class World:
    """One run of a scenario. `seen` counts what befell it; `trace`, if asked for, is the whole story."""

    def __init__(self, scenario: Scenario, *, traced: bool = False) -> None:
        self.scenario = scenario
        self.draws = Draws(scenario.seed)
        self.chances: Mapping[str, float] = scenario.chances
        self.settings = Settings(**scenario.settings)
        self.media = Media(scenario, self.draws)
        self.storage = Storage()
        self.work = Work(self)
        self.callers: dict[str, Caller] = {}
        self.nodes: dict[int, Mapping[str, float]] = dict(enumerate(scenario.nodes))
        self.now = START
        self.events = 0
        self.purging = 0
        self.seen: Counter[str] = Counter()
        self.trace: list[tuple[float, int, Any, Sequence[ev.Command]]] | None = [] if traced else None
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._calm = not scenario.dangerous
        self.shells = [Shell(self, i) for i in range(scenario.shards)]
        self.faults = Faults(self)

    def run(self) -> None:
        """Trouble, then calm, then everything once more without any fault."""
        for shell in self.shells:
            shell.start()
        for stimulus in self.scenario.stimuli:
            at, what = stimulus.at, stimulus
            self.later(
                at, lambda what=what: self.ask(what) if isinstance(what, Ask) else self.faults.happen(what)
            )
        self._drain()
        self.chances = dict.fromkeys(self.chances, 0.0)
        self._drain()
        self._settled()
        self._calm = True
        self.nodes = {max(self.nodes) + 1: SMALL_GPU}
        self.faults.nodes_changed()
        last = [
            caller
            for caller in self.ask(Ask(0.0, "last", tuple(self.media.generations[-1])))
            if caller.targets
        ]
        self._drain()
        for caller in last:
            for key in caller.targets:
                good = isinstance(caller.answers[key], ev.Ready)
                assert good != self.media.doomed(key), caller.answers[key]
        self._settled()

    # --- time and chance

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something after a while."""
        heapq.heappush(self._queue, (self.now + seconds, next(self._order), what))

    def _drain(self) -> None:
        for _ in range(MOST_EVENTS):
            if not self._queue:
                return
            when, _, what = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            try:
                what()
            except Died:
                continue  # an actor's process ended in the middle of it; its restart is on the queue
        raise AssertionError("the world does not come to rest")

    def chance(self, fault: str, about: object) -> bool:
        """Whether the fault happens this time."""
        likely = self.chances[fault]
        return likely > 0.0 and self.draws.unit(fault, about) < likely

    def saw(self, what: str) -> None:
        """Count something that happened."""
        self.seen[what] += 1

    def note(self, shell: Shell, event: Any, commands: Sequence[ev.Command]) -> None:
        """Write the story, if somebody wants to read it."""
        if self.trace is not None:
            self.trace.append((self.now, shell.id, event, list(commands)))

    def heard(self, shell: Shell) -> None:
        """An event has been taken in: everything must still hold."""
        self.events += 1
        check(shell.ledger)
        held = {k for k, e in shell.ledger.entries.items() if e.state in AVAILABLE}
        assert held == shell.values.keys(), "the shell and the ledger differ on what is in memory"

    # --- callers

    def generation(self, old: bool) -> int:
        """The registry of a new caller, by its number."""
        return max(0, len(self.media.generations) - 1 - old)

    def again(self, targets: Sequence[str]) -> tuple[str, ...]:
        """The same targets by today's registry."""
        return tuple(self.media.generations[-1][self.media.names[key]] for key in targets)

    def ask(self, ask: Ask) -> list[Caller]:
        """An engine plans a request and sends each shard its part."""
        keys = self.media.generations[self.generation(ask.old)]
        parts: dict[int, list[str]] = {} if ask.targets else {0: []}
        for name in ask.targets:
            parts.setdefault(self.media.steps[keys[name]].home, []).append(keys[name])
        made = []
        for shard, targets in parts.items():
            caller = Caller(self, ask, f"{ask.id}.{shard}", shard, tuple(targets))
            self.callers[caller.id] = caller
            made.append(caller)
            caller.begin()
        return made

    # --- the cluster

    def capacities(self) -> list[Mapping[str, float]]:
        """What each node has."""
        return list(self.nodes.values())

    def node_for(self, needs: Mapping[str, float], about: str) -> int | None:
        """A node that a task can run on, or None."""
        fit = [n for n, has in self.nodes.items() if all(has.get(r, 0.0) >= a for r, a in needs.items())]
        return self.draws.pick("node", about, fit) if fit else None

    def place(self, what: str, about: str) -> int:
        """The node that a value read or borrowed is put on."""
        return self.draws.pick(what, about, list(self.nodes))

    def folder(self, key: str) -> str:
        """Where a key's part is."""
        made = self.media.steps[key].recipe
        return f"values/{made.feature}/{made.version}"

    def publish(self, group: Mapping[str, Handle]) -> Part:
        """A part comes to be in storage. Raises `Full`."""
        for key, handle in group.items():
            assert handle.value == self.media.reference(key), f"a wrong value of {key} is written"
        return self.storage.publish(
            self.folder(next(iter(group))), {k: handle.value for k, handle in group.items()}
        )

    # --- what must be so

    def judge(self, shell: Shell, record: Record, key: str, outcome: ev.Ready | Failure) -> None:
        """Whether an answer is true."""
        caller = self.callers[record.id]
        if isinstance(outcome, Failure):
            self._honest(key, outcome, caller)
            return
        anew = caller.ask.refresh and not record.resumed
        assert not (anew and outcome.cached), f"{record.id} wanted {key} anew"
        if caller.ask.load and not record.resumed:
            assert shell.values[key].value == self.media.reference(key), f"{record.id} got a wrong value"
        else:
            assert key in shell.values or key in shell.index

    def _honest(self, key: str, failure: Failure, caller: Caller) -> None:
        """A failure names a step that did fail, and that is the key or something under it."""
        if failure.type == "Expired":
            assert caller.ask.patience is not None
            assert START + caller.ask.at + caller.ask.patience <= self.now + 1e-6
            return
        assert failure.key in self.media.below(key), f"{key} failed because of {failure.key}, not below it"
        assert failure.step == self.media.steps[failure.key].recipe.feature
        if failure.type == QUARANTINED:
            # Whoever was in the same task, or stood behind it at the same actor, is not charged with it.
            assert failure.key in self.media.poison, f"{failure.key} is set aside and kills nobody"
            return
        known = self.media.doomed(failure.key) if failure.kind == "input" else not self._calm
        poisoned = failure.key in self.media.poison
        assert known or poisoned or failure.type == "MissingResource", failure

    def _settled(self) -> None:
        """Nothing is under way: all have been answered and memory is within its budget."""
        for caller in self.callers.values():
            assert not caller.waits, f"{caller.id} never ended"
        for paper in self.storage.journal.values():
            caller = self.callers[paper.id]
            record = self.shells[paper.shard].desk.records.get(paper.id)
            done = record is not None and not record.running
            assert done or not paper.running or not caller.promised, f"{paper.id} was promised and is lost"
        for shell in self.shells:
            ledger = shell.ledger
            assert shell.up
            assert not ledger.requests
            assert not ledger.tasks
            assert not ledger.spilling
            assert not shell.dispatch.running
            assert ledger.memory.held <= ledger.settings.memory_bytes
            assert {e.state for e in ledger.entries.values()} <= {State.HOT, State.KEPT, State.FAILED}
            for key, handle in shell.values.items():
                assert handle.value == self.media.reference(key)
        for part in self.storage.parts.values():
            for key, value in part.values.items():
                assert value == self.media.reference(key)
