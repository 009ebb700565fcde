"""How fast the core alone is: planner and ledger, no Ray, workers or storage (`python -m benchmarks.core`).

Rates depend on the machine, so a plain loop is timed in the same run: one BLAKE2b-128 digest of 100 bytes and
one dictionary entry per item, which is the least that planning a step could cost.
"""

from __future__ import annotations

import gc
import hashlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from amber_ray.core.declare.feature import feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.model.units import Asset, Clip
from amber_ray.core.planning.plan import Plan, Planner
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import Cause, Entry
from amber_ray.settings import Settings
from benchmarks.measure import Measured
from benchmarks.session import Session

NODES = [{"CPU": 64.0, "GPU": 8.0}] * 4


@feature(version="1", store="never")
def frames(clip: Clip, fps: float = 2.0) -> int:
    return 0


@feature(version="1", per="segment")
def brightness(frames: int) -> float:
    return 0.0


@feature(version="1", per="segment")
def colour(frames: int) -> float:
    return 0.0


@feature(version="1", per="segment", num_gpus=0.25, batch=16)
class Embedding:
    def __call__(self, frames: int) -> float:
        return 0.0

    def batch(self, frames: list[int]) -> list[float]:
        return [0.0 for _ in frames]


@feature(version="1", per="asset")
def summary(brightness: list[float], colour: list[float], embedding: list[float]) -> float:
    return 0.0


REGISTRY = Registry([f.__amber__ for f in (frames, brightness, colour, Embedding, summary)])


def assets(count: int) -> list[Asset]:
    return [
        Asset(f"{i:032x}", f"file:///media/{i}.mp4", "video/mp4", 1 << 20, duration=600.0)
        for i in range(count)
    ]


def plan(of: Sequence[Asset], *, shards: int = 1) -> Plan:
    planner = Planner(REGISTRY, features=["summary"], params={}, segment_seconds=60.0, shards=shards)
    for asset in of:
        planner.add_asset(asset)
    return planner.plan()


class Shell:
    """Answers every command at once and well; what is timed is `handle` and little else."""

    def __init__(self, **settings: object) -> None:
        self.index: set[str] = set()
        self.ledger = Ledger(Settings(**settings), self.index)  # type: ignore[arg-type]
        self.events = 0
        self.steps = 0
        self.feed(ev.CapacityChanged(NODES))

    def feed(self, event: ev.Event) -> None:
        queue: list[ev.Event] = [event]
        now = 0.0
        for one in queue:
            self.events += 1
            now += 0.001
            for command in self.ledger.handle(one, now):
                if isinstance(command, ev.Submit):
                    task = command.task
                    self.steps += len(task.steps)
                    queue.append(
                        ev.Reported(
                            task.id,
                            [ev.StepReport(s.key, 1000, 0.2, s.key in task.outputs) for s in task.steps],
                        )
                    )
                elif isinstance(command, ev.Spill):
                    self.index.update(command.keys)
                    queue.append(ev.Stored(command.keys))


def rate(work: Callable[[], int], rounds: int) -> float:
    """Items per second of processor time: the median of some rounds, without garbage collection."""
    rates = []
    for _ in range(rounds):
        gc.collect()
        gc.disable()
        started = time.process_time()
        count = work()
        rates.append(count / (time.process_time() - started))
        gc.enable()
    return statistics.median(rates)


def floor(count: int) -> int:
    found: dict[str, int] = {}
    text = b"x" * 100
    for i in range(count):
        found[hashlib.blake2b(text + i.to_bytes(8, "big"), digest_size=16).hexdigest()] = i
    return len(found)


PER_SECOND = 100_000
"""Steps that should be planned in a second, and events that the ledger should take in."""


def run(session: Session) -> list[Measured]:
    """Planner and ledger against their goals, in processor seconds per step and per event."""
    scale, rounds = session.size((1000, 3), (20, 1))
    many = assets(scale)
    by_asset = [plan([asset]) for asset in many]
    moves = 0

    def small_tasks() -> Shell:
        shell = Shell(pack_seconds=0.0)
        for i, one in enumerate(by_asset):
            shell.feed(ev.Requested(f"r{i}", one.steps, [t.key for t in one.targets]))
        return shell

    def counted(entry: Entry, cause: Cause) -> None:
        nonlocal moves
        moves += 1
        move(entry, cause)

    planned = rate(lambda: len(plan(many).steps), rounds)
    events = rate(lambda: small_tasks().events, rounds)
    move = Entry.move
    Entry.move = counted  # type: ignore[method-assign]
    try:
        shell = small_tasks()
    finally:
        Entry.move = move  # type: ignore[method-assign]
    each = moves / shell.events
    goal = f"{PER_SECOND:,} a second"
    return [
        Measured(
            "planning",
            f"processor time per step of {scale:,} assets: {planned:,.0f} a second",
            goal,
            1 / planned,
            1 / PER_SECOND,
            "s",
            1.0,
        ),
        Measured(
            "ledger",
            f"processor time per event, one unit a task: {events:,.0f} a second, each with {each:.1f} "
            f"changes of state ({events * each:,.0f} a second)",
            goal,
            1 / events,
            1 / PER_SECOND,
            "s",
            1.0,
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    small = "--small" in (sys.argv[1:] if arguments is None else arguments)
    scale, rounds = (20, 1) if small else (500, 5)
    many = assets(scale)
    whole = plan(many)
    by_asset = [plan([asset]) for asset in many]

    def say(name: str, what: str, of: Callable[[], int], unit: str) -> None:
        print(f"{name:<22} {rate(of, rounds):>12,.0f} {unit:<9} {what}", flush=True)

    def cold(plans: Sequence[Plan], **settings: object) -> Shell:
        shell = Shell(**settings)
        for i, one in enumerate(plans):
            shell.feed(ev.Requested(f"r{i}", one.steps, [t.key for t in one.targets]))
        return shell

    say("floor", "a digest and a dictionary entry, in a loop", lambda: floor(100_000), "steps/s")
    say(
        "planner",
        f"{len(whole.steps):,} steps of {scale} assets: keys, edges, recipes",
        lambda: len(plan(many).steps),
        "steps/s",
    )
    say(
        "planner, 4 shards",
        "the same, with each step's home",
        lambda: len(plan(many, shards=4).steps),
        "steps/s",
    )
    say(
        "ledger, one request",
        "steps taken from request to answer: one request for all assets",
        lambda: cold([whole]).steps,
        "steps/s",
    )
    say(
        "ledger, per asset",
        f"the same in {scale} requests, each with its own plan",
        lambda: cold(by_asset).steps,
        "steps/s",
    )
    say(
        "ledger, small tasks",
        "events of the same with one unit a task",
        lambda: cold(by_asset, pack_seconds=0.0).events,
        "events/s",
    )
    say(
        "ledger, tight memory",
        "the same with room for 100 values: every one is spilled and evicted",
        lambda: cold(by_asset, pack_seconds=0.0, memory_bytes=200_000).events,
        "events/s",
    )
    warm = cold([whole])
    requests = [
        ev.Requested(f"h{i}", one.steps, [t.key for t in one.targets]) for i, one in enumerate(by_asset)
    ]

    def hits() -> int:
        for request in requests:
            warm.ledger.handle(request, 1e6)
        return len(requests)

    say("ledger, hits", "requests for one value in memory, answered at once", hits, "events/s")
    keys = [k for k, s in whole.steps.items() if s.recipe.store == "parquet"]

    def many_hits() -> int:
        warm.ledger.handle(ev.Requested("all", whole.steps, keys), 1e6)
        return len(keys)

    say(
        "ledger, hits at once",
        f"values of one request for {len(keys):,} values in memory",
        many_hits,
        "values/s",
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
