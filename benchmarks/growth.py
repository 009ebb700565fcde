"""How cost grows with assets, keys and callers: curves over factors of ten, with the exponent fitted to each.

An exponent of 1 is a cost that grows as fast as the work, 0 one that does not grow; it is the slope of the
least-squares line through the logarithms. The curves are drawn in `docs/growth.svg`.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from amber_ray.core.state import events as ev
from amber_ray.store.key_index import KeyIndex
from benchmarks.chart import STYLE
from benchmarks.core import Shell, assets, plan
from benchmarks.measure import Measured, actor_bytes
from benchmarks.session import ROOT, Session, main

CHART = ROOT / "docs/growth.svg"


@dataclass(frozen=True, slots=True)
class Curve:
    """Costs (seconds or bytes, all together) over sizes."""

    name: str
    sizes: Sequence[int]
    costs: Sequence[float]

    @property
    def exponent(self) -> float:
        """The slope in log-log."""
        x, y = (np.log(np.asarray(v, float)) for v in (self.sizes, self.costs))
        return float(np.polyfit(x, y, 1)[0])

    def measured(self, limit: float = 1.1) -> Measured:
        ends = f"{_short(self.costs[0])} to {_short(self.costs[-1])}"
        what = f"exponent of the growth from {self.sizes[0]:,} to {self.sizes[-1]:,} ({ends})"
        return Measured(f"growth: {self.name}", what, "growth in proportion", self.exponent, 1.0, "", limit)


def run(session: Session) -> list[Measured]:
    """The core by itself, then an actor with many callers who wait."""
    many = session.size((100, 1000, 10_000), (10, 30, 100))
    keys = session.size((10_000, 100_000, 1_000_000), (1000, 3000, 10_000))
    rounds = session.size(3, 1)
    curves = [
        Curve("planning, by assets", many, [timed(lambda n=n: plan(assets(n)), rounds) for n in many]),
        Curve("a cold request, by assets", many, [timed(cold(n), rounds) for n in many]),
        Curve("1,000 hits, by values in memory", many, [timed(hits(n), rounds) for n in many]),
        Curve("callers of one value", many, [timed(crowd(n), rounds) for n in many]),
        Curve("10,000 look-ups, by keys stored", keys, [timed(look_ups(n), rounds) for n in keys]),
        Curve("memory of the index, by keys stored", keys, [index_bytes(n) for n in keys]),
    ]
    waiting = waiting_callers(session, session.size((100, 1000, 10_000), (10, 30)))
    curves += waiting
    for curve in curves:
        costs = ", ".join(
            f"{size:,}: {_short(cost)}" for size, cost in zip(curve.sizes, curve.costs, strict=True)
        )
        print(f"{curve.name:<44} n^{curve.exponent:.2f}   {costs}")
    if not session.small:
        CHART.write_text(picture([c for c in curves if "memory" not in c.name]))
    return [curve.measured() for curve in curves]


def timed(work: Callable[[], object], rounds: int) -> float:
    """Processor seconds, the median of some rounds, without garbage collection."""
    taken = []
    for _ in range(rounds):
        gc.collect()
        gc.disable()
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
        gc.enable()
    return statistics.median(taken)


def cold(count: int) -> Callable[[], object]:
    """One request for all assets, from the question to the last answer."""
    whole = plan(assets(count))
    targets = [t.key for t in whole.targets]
    return lambda: Shell().feed(ev.Requested("r", whole.steps, targets))


def hits(count: int) -> Callable[[], object]:
    """1,000 requests for one value each, of so many assets' values in memory."""
    whole = plan(assets(count))
    shell = Shell()
    shell.feed(ev.Requested("r", whole.steps, [t.key for t in whole.targets]))
    keys = [t.key for t in whole.targets]

    def ask() -> None:
        for i in range(1000):
            shell.ledger.handle(ev.Requested(f"h{i}", whole.steps, [keys[i % count]]), 1e6)

    return ask


def crowd(count: int) -> Callable[[], object]:
    """So many callers of one value that nobody has: from the first question to the last answer."""
    one = plan(assets(1))
    key = one.targets[0].key

    def ask() -> None:
        shell = Shell()
        shell.ledger.handle(ev.Requested("first", one.steps, [key]), 1.0)
        for i in range(count):
            shell.ledger.handle(ev.Requested(f"r{i}", one.steps, [key]), 1.0)
        shell.feed(ev.Purged([]))
        tasks = list(shell.ledger.tasks.values())
        while tasks:
            for task in tasks:
                reports = [ev.StepReport(s.key, 1000, 0.2, s.key in task.outputs) for s in task.steps]
                shell.ledger.handle(ev.Reported(task.id, reports), 2.0)
            tasks = list(shell.ledger.tasks.values())
        if shell.ledger.requests:
            raise RuntimeError("somebody was not answered")

    return ask


def filled(count: int) -> KeyIndex:
    """An index of parts of 10,000 keys."""
    index = KeyIndex()
    rng = np.random.default_rng(0)
    for start in range(0, count, 10_000):
        size = min(10_000, count - start)
        index.add(f"part-{start}", rng.integers(0, 256, (size, 16), np.uint8))
    return index


def look_ups(count: int) -> Callable[[], object]:
    """10,000 keys, half of them there."""
    index = filled(count)
    rng = np.random.default_rng(0)
    some = [bytes(row).hex() for row in rng.integers(0, 256, (min(5000, count), 16), np.uint8)]
    some += [os.urandom(16).hex() for _ in range(10_000 - len(some))]
    index.find(some[0])
    return lambda: [index.find(key) for key in some]


def index_bytes(count: int) -> float:
    """Bytes that the index holds."""
    gc.collect()
    tracemalloc.start()
    index = filled(count)
    index.find("0" * 32)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del index
    return float(held)


def waiting_callers(session: Session, counts: Sequence[int]) -> list[Curve]:
    """Requests for one value that a gate holds back: the actor's memory, and how long their answers take."""
    grown: list[float] = []
    taken: list[float] = []
    for count in counts:
        memory, time_taken = asyncio.run(_waiting(session, count))
        grown.append(memory)
        taken.append(time_taken)
    each = grown[-1] / counts[-1] / 1024
    print(f"{counts[-1]:,} waiting callers take {each:.1f} KiB each in the cache actor")
    return [
        Curve("answers to waiting callers", counts, taken),
        Curve("memory of the actor, by waiting callers", counts, grown),
    ]


async def _waiting(session: Session, count: int) -> tuple[float, float]:
    import amber_ray
    from amber_ray.fabric.adapter import cluster
    from amber_ray.settings import Limits

    settings = session.settings(limits=Limits(requests_per_tenant=2 * count))
    gate = session.folder / f"gate-{count}"
    try:
        async with await amber_ray.aconnect("auto", settings=settings, store=settings.store) as client:
            await client.get("noop_leaf", session.video)
            before = actor_bytes(settings.namespace)
            params = {"held.gate": str(gate)}
            callers = [
                asyncio.create_task(client.get("held", session.video, params=params)) for _ in range(count)
            ]
            until = time.monotonic() + 60
            while (await client.stats())["requests_running"] < count:
                if time.monotonic() > until:
                    raise TimeoutError(f"{count} callers did not get as far as to wait")
                await asyncio.sleep(0.05)
            grown = max(1.0, float(actor_bytes(settings.namespace) - before))
            began = time.perf_counter()
            gate.touch()
            await asyncio.wait_for(asyncio.gather(*callers), 120)
            return grown, time.perf_counter() - began
    finally:
        await cluster.close_shards(settings)


def picture(curves: Sequence[Curve]) -> str:
    """Time against size, both logarithmic: one line each, its exponent at its end."""
    width, height, left, right, top, bottom = 860, 440, 60, 330, 50, 40
    xs = [math.log10(size) for curve in curves for size in curve.sizes]
    ys = [math.log10(cost) for curve in curves for cost in curve.costs]
    low, high = math.floor(min(ys)), math.ceil(max(ys))

    def at(size: float, cost: float) -> tuple[float, float]:
        x = left + (math.log10(size) - min(xs)) / (max(xs) - min(xs)) * (width - left - right)
        y = top + (high - math.log10(cost)) / (high - low) * (height - top - bottom)
        return x, y

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<style>\n{STYLE}\n</style>",
        '<text class="title" x="16" y="24">How time grows with size (both logarithmic)</text>',
    ]
    for power in range(low, high + 1):
        _, y = at(10 ** min(xs), 10.0**power)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{width - right}"/>')
        parts.append(
            f'<text class="dim" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(10.0**power)}</text>'
        )
    for power in range(math.ceil(min(xs)), math.floor(max(xs)) + 1):
        x, _ = at(10.0**power, 10.0**low)
        parts.append(
            f'<text class="dim" x="{x:.1f}" y="{height - 16}" text-anchor="middle">{10**power:,}</text>'
        )
    ends = sorted((at(c.sizes[-1], c.costs[-1])[1], i) for i, c in enumerate(curves))
    places: dict[int, float] = {}
    last = -math.inf
    for y, number in ends:
        last = places[number] = max(y, last + 16)
    for number, curve in enumerate(curves):
        points = [at(size, cost) for size, cost in zip(curve.sizes, curve.costs, strict=True)]
        hue = number * 360 // len(curves)
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        x, y = points[-1]
        parts += [
            f'<polyline points="{line}" fill="none" stroke="hsl({hue} 60% 45%)" stroke-width="2"/>',
            f'<path d="M{x:.1f} {y:.1f}L{width - right + 14} {places[number]:.1f}" class="grid"/>',
            f'<text x="{width - right + 18}" y="{places[number] + 4:.1f}" fill="hsl({hue} 60% 45%)">'
            f"{curve.name}: n^{curve.exponent:.2f}</text>",
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _short(value: float) -> str:
    """Seconds below a thousand as such, more as bytes."""
    if value >= 1000:
        return f"{value / (1 << 20):.1f} MiB"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


if __name__ == "__main__":
    raise SystemExit(main(run))
