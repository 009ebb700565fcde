"""How far one cluster can grow: the real core under a simulated clock, with costs measured in the same run.

Nodes of 16 CPUs and one GPU compute a catalogue whose steps take fixed simulated times. What is real is what
could stand in the way: every `Ledger.handle` runs, and its processor time, with that of submitting a Ray task
and of taking in its result (measured on a real cluster first), is how long the shard's event loop is busy.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.model.units import Asset
from amber_ray.core.planning.homes import home_of
from amber_ray.core.planning.plan import Planner
from amber_ray.core.state import events as ev
from amber_ray.settings import Settings
from benchmarks.core import REGISTRY
from benchmarks.measure import Measured
from benchmarks.session import Session, main

NODE = {"CPU": 16.0, "GPU": 1.0}
GPU_SHARE = 0.25
COSTS = {"frames": 0.25, "brightness": 0.02, "colour": 0.03, "embedding": 0.02, "summary": 0.005}
"""Simulated seconds of a step: a 10 s segment decoded, two looks at its frames, its embedding on a GPU."""
SEGMENTS = 10
WRITE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Overheads:
    """Processor seconds of the event loop's thread per task, and what a worker adds to it."""

    submit: float
    result: float
    worker: float


@dataclass(slots=True)
class Run:
    """What came of one simulated run: simulated seconds, and how much of them each kind was busy."""

    seconds: float
    steps: int
    tasks: int
    cpus: float
    gpus: float
    loops: list[float] = field(default_factory=list)

    @property
    def bound(self) -> str:
        """What was busiest."""
        busy = {"CPUs": self.cpus, "GPUs": self.gpus, "a shard's event loop": max(self.loops)}
        return max(busy, key=lambda name: busy[name])


class Cluster:
    """Simulated workers and the real ledgers of some shards."""

    def __init__(self, nodes: int, shards: int, over: Overheads, scale: float) -> None:
        self.over = over
        self.costs = {name: cost * scale for name, cost in COSTS.items()}
        self.cpus = [0.0] * int(nodes * NODE["CPU"])
        self.gpus = [0.0] * int(nodes * NODE["GPU"] / GPU_SHARE)
        self.busy = {"CPU": 0.0, "GPU": 0.0}
        self.index: list[set[str]] = [set() for _ in range(shards)]
        self.ledgers = [Ledger(Settings(shards=shards), self.index[i], shard=i) for i in range(shards)]
        self.loops = [0.0] * shards
        self.loop_busy = [0.0] * shards
        self.tasks = self.steps = 0
        self._queue: list[tuple[float, int, int, ev.Event]] = []
        self._numbers = itertools.count()
        for shard in range(shards):
            self.later(0.0, shard, ev.CapacityChanged([NODE] * nodes))

    def later(self, when: float, shard: int, event: ev.Event) -> None:
        heapq.heappush(self._queue, (when, next(self._numbers), shard, event))

    def run(self) -> Run:
        """Until nothing is left to do."""
        ended = 0.0
        while self._queue:
            when, _, shard, event = heapq.heappop(self._queue)
            ended = max(ended, self._handle(max(when, self.loops[shard]), shard, event))
        return Run(
            ended,
            self.steps,
            self.tasks,
            self.busy["CPU"] / len(self.cpus) / ended,
            self.busy["GPU"] / len(self.gpus) / ended,
            [busy / ended for busy in self.loop_busy],
        )

    def _handle(self, now: float, shard: int, event: ev.Event) -> float:
        """One event on a shard's loop; returns when the loop is free again."""
        started = time.thread_time()
        commands = self.ledgers[shard].handle(event, now)
        cost = time.thread_time() - started
        cost += self.over.result if isinstance(event, ev.Reported) else 0.0
        for command in commands:
            if isinstance(command, ev.Submit):
                cost += self.over.submit
                self._start(now + cost, shard, command.task)
            elif isinstance(command, ev.Spill):
                self.index[shard].update(command.keys)
                self.later(now + cost + WRITE_SECONDS, shard, ev.Stored(command.keys))
        self.loops[shard] = now + cost
        self.loop_busy[shard] += cost
        return now + cost

    def _start(self, when: float, shard: int, task: ev.Task) -> None:
        """The first worker that is free takes it, as in Ray's queue."""
        kind = "GPU" if task.needs.get("GPU") else "CPU"
        slots = self.gpus if kind == "GPU" else self.cpus
        begins = max(when, heapq.heappop(slots))
        work = self.over.worker + sum(self.costs[step.recipe.feature] for step in task.steps)
        heapq.heappush(slots, begins + work)
        self.busy[kind] += work
        self.tasks += 1
        self.steps += len(task.steps)
        reports = [
            ev.StepReport(step.key, 1000, self.costs[step.recipe.feature], step.key in task.outputs)
            for step in task.steps
        ]
        self.later(begins + work, shard, ev.Reported(task.id, reports))


def catalogue(nodes: int, shards: int, over: Overheads, assets: int, scale: float = 1.0) -> Run:
    """`assets` per node, each a request of its own, all there from the beginning."""
    cluster = Cluster(nodes, shards, over, scale)
    for number in range(assets * nodes):
        asset = Asset(f"{number:032x}", f"/{number}.mp4", "video/mp4", 1, duration=SEGMENTS * 10.0)
        planner = Planner(REGISTRY, features=["summary"], params={}, segment_seconds=10.0, shards=shards)
        planner.add_asset(asset)
        plan = planner.plan()
        request = ev.Requested(f"r{number}", plan.steps, [t.key for t in plan.targets], priority=0)
        cluster.later(0.0, home_of(asset, shards), request)
    return cluster.run()


def measured_overheads(count: int) -> Overheads:
    """From an actor that submits tasks as `fabric.shard.dispatch` does: on its event loop, awaiting each."""
    import ray

    @ray.remote(num_cpus=0)
    class Submitter:
        async def run(self, count: int) -> tuple[float, float]:
            function = ray.remote(_nothing).options(num_cpus=1, num_returns=2)
            steps = [(f"{i:032x}", i, "unit", ("input",)) for i in range(4)]
            await asyncio.gather(*(function.remote(steps)[0] for _ in range(8)))
            began = time.thread_time()
            refs = [function.remote(steps) for _ in range(count)]
            submitted = time.thread_time()
            await asyncio.gather(*(self._one(ref[0]) for ref in refs))
            return (submitted - began) / count, (time.thread_time() - submitted) / count

        async def _one(self, ref: Any) -> None:
            await ref

    submitter = Submitter.remote()
    submit, result = ray.get(submitter.run.remote(count), timeout=120)
    ray.kill(submitter)
    nothing = ray.remote(_nothing).options(num_cpus=1, num_returns=2)
    ray.get([nothing.remote([])[0] for _ in range(8)], timeout=60)
    began = time.perf_counter()
    for _ in range(100):
        ray.get(nothing.remote([])[0], timeout=60)
    return Overheads(submit, result, (time.perf_counter() - began) / 100)


def _nothing(steps: Sequence[Any]) -> tuple[Sequence[Any], int]:
    return steps, 1


def table(rows: Mapping[tuple[int, int], Run]) -> Iterator[str]:
    """A line per run, against one node with one shard."""
    base = rows[1, 1]
    yield "nodes shards  steps/s  of linear  CPUs busy  GPUs busy  loop busy  bound"
    for (nodes, shards), run in rows.items():
        share = (run.steps / run.seconds) / (base.steps / base.seconds) / nodes
        yield (
            f"{nodes:5} {shards:6} {run.steps / run.seconds:8,.0f} {share:10.2f} {run.cpus:10.0%} "
            f"{run.gpus:10.0%} {max(run.loops):10.0%}  {run.bound}"
        )


def run(session: Session) -> list[Measured]:
    """Nodes and shards, and at eight nodes ever shorter steps."""
    assets, most = session.size((60, 8), (6, 2))
    over = measured_overheads(session.size(1000, 50))
    print(
        f"measured per task: {over.submit * 1e6:.0f} us to submit, {over.result * 1e6:.0f} us to take in, "
        f"{over.worker * 1e3:.2f} ms of a worker's time"
    )
    sizes = [n for n in (1, 2, 4, 8) if n <= most]
    rows = {(n, s): catalogue(n, s, over, assets) for n in sizes for s in (1, 2, 4)}
    print(*table(rows), sep="\n")
    for scale in session.size((0.2, 0.04, 0.01), (0.2,)):
        print(f"steps of {scale:g} times that ({COSTS['frames'] * scale * 1e3:g} ms to decode):")
        shorter = {(1, 1): catalogue(1, 1, over, assets, scale)}
        shorter |= {(most, s): catalogue(most, s, over, assets, scale) for s in (1, 2, 4)}
        print(*table(shorter), sep="\n")
    base = rows[1, 1]
    made = []
    for shards in (1, 2, 4):
        one = rows[most, shards]
        made.append(
            Measured(
                f"scaling: {most} nodes, {shards} shard{'s' * (shards > 1)}",
                f"simulated seconds per step; CPUs {one.cpus:.0%} busy, the busiest event loop "
                f"{max(one.loops):.0%}",
                f"an {most}th of those of one node with one shard",
                one.seconds / one.steps,
                base.seconds / base.steps / most,
                "s",
                1 / 0.85,
            )
        )
    return made


if __name__ == "__main__":
    raise SystemExit(main(run))
