"""Demands in small clusters under trouble: each becomes true in the end, and nothing runs twice for it.

`python -m tests.simulation --demands` runs others.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.demands import DemandWorld
from tests.simulation.runs import Outcome, run_many

SEEDS = 40
BEFALLS = (
    *("a medium was written", "a medium vanished", "a steward died", "a shard died", "an engine died"),
    *("a call was carried out twice", "a call was given up and came late", "a demand was true in the end"),
    *("what is said to be true was looked up", "what was noted was looked up"),
    *("an event was dropped", "an event was taken", "a demand was glanced at"),
    *("everything died", "a caller was to be told"),
    *("news of a demand was told", "the last end of a demand was told"),
)


@pytest.mark.timeout(600)
def test_every_demand_becomes_true_whatever_befalls_it() -> None:
    beside = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    total = Outcome()
    for some in run_many(range(SEEDS), max(1, (os.cpu_count() or 1) // beside), DemandWorld):
        total.add(some)
    failed = [
        f"python -m tests.simulation --demands --seed {seed} --trace   # {failure}"
        for seed, failure in sorted(total.failed.items())
    ]
    assert not failed, "\n".join([f"{len(failed)} worlds failed; replay:", *failed])
    assert total.seeds == SEEDS
    assert set(BEFALLS) <= total.seen.keys()
