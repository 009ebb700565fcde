"""Demands in small clusters under trouble: each becomes true in the end, and nothing runs twice for it."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.simulation.demands import DemandWorld
from tests.simulation.runs import no_cycles_freed, said
from tests.simulation.scenario import Scenario

SEEDS = 40
BEFALLS = (
    *("a medium was written", "a medium vanished", "a steward died", "a shard died", "an engine died"),
    *("a call was carried out twice", "a call was given up and came late", "a demand was true in the end"),
    *("what is said to be true was looked up", "what was noted was looked up"),
    *("an event was dropped", "an event was taken", "a demand was glanced at"),
)


def attempt(seed: int) -> tuple[int, Counter[str], str]:
    """One world: its seed, what befell it, and what went wrong as text; empty if nothing did."""
    world = DemandWorld(Scenario.of(seed))
    try:
        with no_cycles_freed():
            world.run()
    except Exception as error:
        return seed, world.seen, said(error)
    return seed, world.seen, ""


@pytest.mark.timeout(600)
def test_every_demand_becomes_true_whatever_befalls_it() -> None:
    beside = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    seen: Counter[str] = Counter()
    failed: dict[int, str] = {}
    with ProcessPoolExecutor(max(1, (os.cpu_count() or 1) // beside), get_context("spawn")) as pool:
        for seed, befell, wrong in pool.map(attempt, range(SEEDS)):
            seen += befell
            if wrong:
                failed[seed] = wrong
    assert not failed, f"{len(failed)} worlds failed, as {next(iter(failed.items()))}"
    assert set(BEFALLS) <= seen.keys()
