"""What a benchmark reports, and how two things are timed fairly on a machine that is busy with other work."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Measured:
    """One comparison. `ours` and `peer` are in `unit`, smaller is better; `limit` is the largest ratio."""

    name: str
    what: str
    against: str
    ours: float
    peer: float
    unit: str
    limit: float

    @property
    def ratio(self) -> float:
        return self.ours / self.peer if self.peer else float("inf")

    @property
    def within(self) -> bool:
        return self.ratio <= self.limit

    def line(self) -> str:
        verdict = "ok" if self.within else "ABOVE THE LIMIT"
        return (
            f"{self.name}: {self.ratio:.2f} (limit {self.limit:g}, {verdict})\n"
            f"    {shown(self.ours, self.unit):>12}  {self.what}\n"
            f"    {shown(self.peer, self.unit):>12}  {self.against}"
        )


def shown(value: float, unit: str) -> str:
    """A number as people read it: 1.5 ms, 12 runs."""
    if not unit:
        return f"{value:.2f}"
    if unit != "s":
        return f"{value:g} {unit}"
    for factor, name in ((1.0, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {name}"
    return f"{value * 1e6:.3g} us"


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes; what garbage was made before it is not collected at its cost."""
    gc.collect()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cpu_seconds(work: Callable[[], object]) -> float:
    """How much processor time of this process one call takes: other work of the machine does not count."""
    gc.collect()
    started = time.process_time()
    work()
    return time.process_time() - started


def paired(
    ours: Callable[[], float], peer: Callable[[], float], rounds: int, *, warm: bool = True
) -> tuple[float, float]:
    """The medians of both over alternating rounds, so that a slow spell of the machine falls on both.

    With `warm`, each runs once beforehand and is not counted; a single round only shows that both work.
    """
    if warm and rounds > 1:
        ours()
        peer()
    pairs = [(ours(), peer()) if i % 2 == 0 else (peer(), ours())[::-1] for i in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def actor_bytes(namespace: str) -> int:
    """Private memory of the first cache actor of an Amber, by its namespace."""
    import ray

    from amber_ray.fabric.transport.names import shard_name

    pid = ray.get(ray.get_actor(shard_name(0), namespace=namespace).pid.remote(), timeout=60)
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Private_"))
