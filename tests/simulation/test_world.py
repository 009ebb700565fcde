"""Many small clusters under trouble: a fixed share of the seeds, in as many processes as there are cores.

Any failure says how to replay its world, and `make simulate SEEDS=...` runs others.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from amber_ray.core.ledger.memory import Memory
from amber_ray.core.state import entry
from tests.simulation.runs import Outcome, attempt, run_many
from tests.simulation.scenario import Ask, Scenario
from tests.simulation.shrink import Shrinker

SEEDS = 6500
EVENTS = 1_000_000

BEFALLS = (
    *(
        "a step failed",
        "a step killed its worker",
        "a step had a system fault",
        "a worker died",
        "a report was incomplete",
    ),
    *(
        "a node died",
        "a node died with a task",
        "a node died with a value",
        "objects vanished",
        "other nodes",
    ),
    "a warm actor died before a batch's turn",
    *("a task found its inputs gone", "a write found its values gone"),
    *("a result came twice", "a result came after cancellation", "a cancelled task ended"),
    *(
        "a read ended twice",
        "a read failed",
        "a store could not be read",
        "the disk was full",
        "a write met a full disk",
    ),
    *(
        "a part was damaged",
        "a part of several was damaged",
        "a damaged part was read",
        "a part had vanished",
    ),
    *("parts were joined", "a purge", "a request could not be journaled"),
    *("an actor died", "a part nobody was told of", "a request was resumed"),
    *("a caller joined a resumed request", "a resumed request gave way", "a caller left", "an engine died"),
    *("a request arrived twice", "a question was lost", "a question arrived twice", "an answer was lost"),
    *("an answer nobody waited for", "new versions", "a shared step became urgent"),
)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """What came of all seeds."""
    total = Outcome()
    for some in run_many(range(SEEDS), os.cpu_count() or 1):
        total.add(some)
    return total


@pytest.mark.timeout(600)
def test_a_million_events_and_every_promise_kept(outcome: Outcome) -> None:
    failed = [
        f"python -m tests.simulation --seed {seed} --trace   # {failure}"
        for seed, failure in sorted(outcome.failed.items())
    ]
    assert not failed, "\n".join([f"{len(failed)} worlds failed; replay or --shrink:", *failed[:20]])
    assert outcome.seeds == SEEDS
    assert outcome.events >= EVENTS


def test_trouble_is_not_only_imagined(outcome: Outcome) -> None:
    rare = {what: outcome.seen[what] for what in BEFALLS if outcome.seen[what] < 20}
    assert not rare


def test_the_worlds_take_every_way_between_states(outcome: Outcome) -> None:
    known = {(state.name, cause.name) for state, cause in entry.TRANSITIONS}
    assert outcome.transitions == known


def test_a_seed_replays_exactly_in_another_process() -> None:
    """The whole story, whatever order that process gives to sets of strings."""

    def story(hash_seed: str) -> str:
        command = [sys.executable, "-m", "tests.simulation", "--seed", "12", "--trace"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    first = story("1")
    assert len(first.splitlines()) > 100
    assert first == story("2")


def test_a_failing_world_shrinks_to_a_short_story(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "must_stay", lambda self, key: None)
    seed = next(seed for seed in range(100) if attempt(Scenario.of(seed))[1])
    scenario = Scenario.of(seed)
    shrinker = Shrinker(scenario)
    small = shrinker.shrink()
    assert "evictable while a step is about to read it" in attempt(small)[1]
    assert len(small.stimuli) <= 3 < len(scenario.stimuli)
    assert sum(len(s.targets) for s in small.stimuli if isinstance(s, Ask)) <= 3
