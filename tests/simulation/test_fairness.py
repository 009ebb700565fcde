"""Nobody waits for ever: the real ledger under simulated time, with urgent work that never ends.

Tasks take random times, some are lost and tried again, callers keep the queue full. What is asserted is the
bound that `core.scheduler.schedule` states, in seconds of the simulated clock, and the tenants' shares.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict

import pytest

from amber_ray.core.declare.feature import Resources
from amber_ray.core.state import events as ev
from tests.core_kit import Graph, Story, asset, clip, fault

LONGEST = 3.0
"""Seconds of the longest task."""
OVERTAKES = 4


class Clock:
    """A story whose tasks end by themselves; `started` tells when which step was first handed over."""

    def __init__(self, seed: int, nodes: int, overtakes: int, lost: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.story = Story(
            nodes=[{"CPU": 2.0}] * nodes,
            lookahead=0,
            pack_seconds=0.0,
            overtakes=overtakes,
            costs={"urgent": 1.0, "slow": 1.0},
        )
        self.started: dict[str, float] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._lost = lost
        self._ends: list[tuple[float, int]] = []
        self._known: set[int] = set()
        self._made = 0

    def ask(self, feature: str, count: int, priority: int, tenant: str = "x", cpus: float = 1.0) -> list[str]:
        """That many new steps, each with nothing below it."""
        graph = Graph()
        for _ in range(count):
            self._made += 1
            unit = clip(asset(f"a{self._made}"), 0)
            graph.add(feature, unit=unit, resources=Resources(num_cpus=cpus))
        self.story.ask(f"r{self._made}", graph.steps, *graph.steps, priority=priority, tenant=tenant)
        self._begin()
        return list(graph.steps)

    def _begin(self) -> None:
        for id, task in self.story.ledger.tasks.items():
            if id not in self._known:
                self._known.add(id)
                for step in task.steps:
                    self.started.setdefault(step.key, self.story.now)
                took = self.random.uniform(0.2, LONGEST)
                heapq.heappush(self._ends, (self.story.now + took, id))
                tenant = self.story.ledger.entries[task.steps[0].key].tenant
                self.seconds[tenant] += took

    def advance(self) -> None:
        """Until the next task ends, well or lost."""
        when, id = heapq.heappop(self._ends)
        self.story.wait(max(0.0, when - self.story.now))
        task = self.story.ledger.tasks[id]
        if self.random.random() < self._lost:
            self.story.do(ev.TaskLost(id, fault()))
        else:
            self.story.done(*(s.key for s in task.steps))
        self._begin()

    @property
    def queued(self) -> int:
        """Steps that wait to be handed over."""
        return len([k for k in self.story.ledger.entries if k not in self.started])


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("cpus", [1.0, 2.0], ids=["as large as the others", "a whole node"])
@pytest.mark.parametrize("seed", range(5))
def test_a_backfill_goes_on_under_endless_urgent_work(seed: int, cpus: float, nodes: int) -> None:
    world = Clock(seed, nodes, OVERTAKES, lost=0.1)
    world.ask("urgent", 20, 2)
    began = world.story.now
    waiting = world.ask("slow", 6, 0, cpus=cpus)
    while any(key not in world.started for key in waiting):
        world.ask("urgent", 3, 2)
        world.advance()
        assert world.story.now - began <= 200.0, "it starves"
    for place, key in enumerate(waiting, 1):
        assert world.started[key] - began <= place * (OVERTAKES + 3) * LONGEST


def test_without_a_limit_to_overtaking_it_would_starve() -> None:
    """So the test above can fail."""
    world = Clock(0, 1, 10**9)
    world.ask("urgent", 20, 2)
    waiting = world.ask("slow", 1, 0)
    for _ in range(300):
        world.ask("urgent", 3, 2)
        world.advance()
    assert waiting[0] not in world.started


@pytest.mark.parametrize("seed", range(5))
def test_a_tenant_with_little_to_ask_has_its_share(seed: int) -> None:
    """One asks for ten times as much as another; as long as both have work waiting, each has half."""
    world = Clock(seed, 1, OVERTAKES)
    world.ask("urgent", 200, 2, "much")
    world.ask("urgent", 5, 2, "little")
    world.seconds.clear()
    for _ in range(150):
        world.ask("urgent", 10, 2, "much")
        world.ask("urgent", 1, 2, "little")
        world.advance()
    assert world.queued > 100
    gap = abs(world.seconds["much"] - world.seconds["little"])
    # What a task is charged is what its feature takes on the mean, so the two drift by its spread.
    assert gap <= 0.15 * sum(world.seconds.values()), dict(world.seconds)
