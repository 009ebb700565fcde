"""A cluster in a single thread: clock, workers, storage and faults, all from one seed.

The core under it is the real one, unchanged; this is the smallest honest shell around it. A fault is anything
that can happen to the real shell: a task fails or dies, values are lost, writes and reads fail, reports come
late or twice, messages between shards are slow or lost, nodes come and go, callers come and go.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

from amber_ray.core import events as ev
from amber_ray.core.invariants import check
from amber_ray.core.request import Failure
from amber_ray.core.states import AVAILABLE, State
from amber_ray.settings import Settings
from tests.simulation.media import Media
from tests.simulation.shell import Shell

SECONDS = 30.0
"""How long callers come and faults happen; then everything is let run to its end."""
SMALL = {"CPU": 2.0}
SMALL_GPU = {"CPU": 2.0, "GPU": 1.0}
MOST_EVENTS = 20_000
"""More than that is a livelock."""


class Caller:
    """One request and what it was told."""

    def __init__(
        self, targets: list[str], load: bool = True, refresh: bool = False, deadline: float | None = None
    ) -> None:
        self.targets = targets
        self.load = load
        self.refresh = refresh
        self.deadline = deadline
        self.answers: dict[str, ev.Ready | Failure] = {}
        self.finished = False
        self.left = False


class World:
    """One run. `run()` goes through it; any broken promise raises."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.now = 1000.0
        self.calm = False
        self.events = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ids = itertools.count()
        shards = rng.choice((1, 1, 2, 3))
        self.media = Media(rng, shards)
        self.parquet: dict[str, str] = {}
        self.callers: dict[str, Caller] = {}
        # How dangerous this world is: some are calm, so that the usual paths are seen too.
        danger = rng.choice((0.0, 0.3, 1.0, 1.0))
        self.fault = {
            name: danger * rng.choice((0.0, 0.05, 0.2))
            for name in ("step", "system", "die", "twice", "spill", "restore", "message", "forget", "mute")
        }
        settings = Settings(
            memory_bytes=rng.choice((5_000, 20_000, 1_000_000)),
            spill_bytes=rng.choice((2_000, 100_000)),
            spill_seconds=0.25,
            grace_seconds=rng.choice((0.5, 2.0)),
            retry_seconds=0.2,
            lookahead=rng.choice((0, 1, 2)),
            pack_seconds=rng.choice((0.0, 1.0, 5.0)),
            feature_failure_seconds=rng.choice((1.0, 20.0)),
            system_failure_seconds=2.0,
            input_failure_seconds=60.0,
        )
        self.shells = [Shell(self, i, settings) for i in range(shards)]
        self.nodes = [SMALL_GPU, SMALL][rng.randint(0, 1) :]

    def run(self) -> None:
        """Trouble, then calm, then everything once more without any fault."""
        self.capacity()
        self._arrive()
        self._mischief()
        self._drain()
        self.fault = dict.fromkeys(self.fault, 0.0)
        self.calm = True
        self._drain()
        self._settled()
        self.nodes = [SMALL_GPU]
        self.capacity()
        last = [self.request(list(s.steps), s) for s in self._by_shard()]
        self._drain()
        for caller in last:
            for key in caller.targets:
                assert isinstance(caller.answers[key], ev.Ready) != self.media.doomed(key), caller.answers[
                    key
                ]
        self._settled()

    # --- time

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something after a while."""
        heapq.heappush(self._queue, (self.now + seconds, next(self._order), what))

    def _drain(self) -> None:
        for _ in range(MOST_EVENTS):
            if not self._queue:
                return
            when, _, what = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            what()
        raise AssertionError("the world does not come to rest")

    def chance(self, fault: str) -> bool:
        """Whether the fault happens now."""
        return self.rng.random() < self.fault[fault]

    def heard(self, shell: Shell) -> None:
        """An event has been taken in: everything must still hold."""
        self.events += 1
        check(shell.ledger)
        held = {k for k, e in shell.ledger.entries.items() if e.state in AVAILABLE}
        assert held == shell.values.keys(), "the shell and the ledger differ on what is in memory"

    # --- callers

    def _arrive(self) -> None:
        for _ in range(self.rng.choice((5, 15, 40))):
            self.later(self.rng.random() * SECONDS, self._somebody)

    def _somebody(self) -> None:
        shell = self.rng.choice(self.shells)
        own = [k for k, s in self.media.steps.items() if s.home == shell.id]
        targets = self.rng.sample(own, min(len(own), self.rng.choice((0, 1, 1, 2, 5))))
        id = f"r{next(self._ids)}"
        deadline = self.now + self.rng.choice((0.0, 1.0, 5.0)) if self.rng.random() < 0.2 else None
        self.request(
            targets + targets[:1],
            shell,
            id,
            priority=self.rng.randint(0, 2),
            tenant=self.rng.choice("xyz"),
            deadline=deadline,
            refresh=self.rng.random() < 0.15,
            load=self.rng.random() < 0.8,
        )
        if self.rng.random() < 0.3:
            self.later(self.rng.random() * 6.0, lambda: self._leave(id, shell))

    def request(self, targets: list[str], shell: Shell, id: str | None = None, **how: Any) -> Caller:
        """Ask a shard for some of its own steps."""
        id = id or f"r{next(self._ids)}"
        caller = Caller(targets, **{n: how[n] for n in ("load", "refresh", "deadline") if n in how})
        self.callers[id] = caller
        shell.feed(ev.Requested(id, self.media.closure(targets), targets, **how))
        return caller

    def _leave(self, id: str, shell: Shell) -> None:
        self.callers[id].left = True
        shell.feed(ev.Left(id))

    def _by_shard(self) -> list[Shell]:
        for shell in self.shells:
            shell.steps = [k for k, s in self.media.steps.items() if s.home == shell.id]
        return self.shells

    # --- faults that come by themselves

    def _mischief(self) -> None:
        if self.calm or self.now > 1000.0 + SECONDS:
            return
        self.later(self.rng.random() * 2.0, self._mischief)
        if not any(self.fault.values()):
            return
        self.rng.choice((self._lose, self._purge, self._change_nodes, self._nothing))()

    def _nothing(self) -> None:
        pass

    def _lose(self) -> None:
        shell = self.rng.choice(self.shells)
        gone = [k for k in shell.values if self.rng.random() < 0.3]
        shell.feed(ev.Lost(gone))

    def _purge(self) -> None:
        if any(shell.writing for shell in self.shells):
            self.later(0.1, self._purge)  # what is being written must be found, or it would come back
            return
        gone = self.media.matching(self.rng)
        for key in gone:
            self.parquet.pop(key, None)
        for shell in self.shells:
            shell.forget(gone)

    def _change_nodes(self) -> None:
        self.nodes = self.rng.choice(
            ([SMALL], [SMALL_GPU], [SMALL_GPU, SMALL], [{"CPU": 1.0}], [{"CPU": 8.0}, SMALL_GPU])
        )
        for shell in self.shells:
            for task in list(shell.running):
                if self.rng.random() < 0.3:
                    shell.kill(task)
        self.capacity()

    def capacity(self) -> None:
        """Tell every shard what there is."""
        for shell in self.shells:
            shell.feed(ev.Capacity(self.nodes))

    # --- what must be so

    def told(self, shell: Shell, id: str, key: str, outcome: ev.Ready | Failure) -> None:
        """A caller gets an answer."""
        caller = self.callers[id]
        assert not caller.finished, f"{id} was told of {key} after its end"
        assert not caller.left, f"{id} was told of {key} after it left"
        assert key not in caller.answers, f"{id} was told twice of {key}"
        assert key in caller.targets, f"{id} did not ask for {key}"
        caller.answers[key] = outcome
        if isinstance(outcome, Failure):
            self._honest(key, outcome, caller)
            return
        assert not (caller.refresh and outcome.cached), f"{id} wanted {key} anew"
        if caller.load:
            assert shell.values[key] == self.media.reference(key), f"{id} got a wrong value of {key}"
        else:
            assert key in shell.values or key in shell.index

    def _honest(self, key: str, failure: Failure, caller: Caller) -> None:
        """A failure names a step that did fail, and that is the key or something under it."""
        if failure.type == "Expired":
            assert caller.deadline is not None
            assert caller.deadline <= self.now
            return
        assert failure.key in self.media.closure([key]), (
            f"{key} failed because of {failure.key}, not below it"
        )
        assert failure.step == self.media.steps[failure.key].recipe.feature
        known = self.media.doomed(failure.key) if failure.kind == "input" else any(self.fault.values())
        assert known or failure.type == "MissingResource", failure

    def _settled(self) -> None:
        """Nothing is under way: all have been answered and memory is within its budget."""
        for id, caller in self.callers.items():
            if not caller.left:
                assert caller.finished, f"{id} never ended"
                assert caller.answers.keys() == set(caller.targets), f"{id} was not told all"
        for shell in self.shells:
            ledger = shell.ledger
            assert not ledger.requests
            assert not ledger.tasks
            assert not ledger.spilling
            assert ledger.memory.held <= ledger.settings.memory_bytes
            assert {e.state for e in ledger.entries.values()} <= {State.HOT, State.KEPT, State.FAILED}
            for key in shell.index:
                assert self.parquet[key] == self.media.reference(key)
