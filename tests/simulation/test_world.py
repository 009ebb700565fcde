"""Many small clusters under trouble: a fixed share of the seeds, in as many processes as this run has cores.

Any failure says how to replay its world, and `make simulate SEEDS=...` runs others.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from amber_ray.core.ledger.memory import Memory
from amber_ray.core.state import entry
from amber_ray.fabric.engine.engine import Engine
from amber_ray.fabric.shard.shard import Shard
from tests.simulation import corpus
from tests.simulation.runs import Outcome, attempt, run_many
from tests.simulation.scenario import Scenario
from tests.simulation.shrink import Shrinker
from tests.simulation.world import World

SEEDS = 1000
EVENTS = 350_000
BEFALLS = (
    *("a step failed", "a step killed its worker", "a step had a system fault", "a worker died"),
    *("a step ran past its timeout", "a report was incomplete", "a result came after cancellation"),
    *("a warm actor died", "a warm actor died before a batch's turn", "a step killed its warm actor"),
    *("a node died", "a node died with a task", "other nodes", "objects vanished"),
    "a task found its inputs gone",
    *("the disk was full", "the store refused a write", "a part could not be read for a while"),
    *("a part was damaged", "a part was torn", "a part was away", "a damaged part was quarantined"),
    *("parts were joined", "a purge", "a purge found a late write", "a dead shard's write was published"),
    *("a shard died", "an engine died", "an engine was redeployed", "new versions", "an asset moved"),
    *("a call was lost", "a call was given up and came late", "a call was carried out twice"),
    *("an answer was lost", "a connection broke"),
    *("a caller left", "a caller hung up and asked again", "two asked at once with one id"),
    *("a request was cancelled", "values were loaded", "an asset was gone from its place"),
    "a shard died in the middle of a write",
    *("calls were in flight side by side", "a call was cancelled", "a call ran past its timeout"),
    *("an actor died with calls in flight", "a suspected call was made beside others"),
    *("a call took its time to stop", "a step asked to be tried later", "a step was put off for too long"),
    *("a value was read by its key", "an engine was cut off from a shard", "an engine read a part by itself"),
)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """What came of all seeds."""
    total = Outcome()
    beside = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))  # processes that run tests, each on a core
    for some in run_many(range(SEEDS), max(1, (os.cpu_count() or 1) // beside)):
        total.add(some)
    return total


@pytest.mark.timeout(1800)
def test_many_events_and_every_promise_kept(outcome: Outcome) -> None:
    failed = [
        f"python -m tests.simulation --seed {seed} --trace   # {failure}"
        for seed, failure in sorted(outcome.failed.items())
    ]
    assert not failed, "\n".join([f"{len(failed)} worlds failed; replay or --shrink:", *failed[:20]])
    assert outcome.seeds == SEEDS
    assert outcome.events >= EVENTS


@pytest.mark.parametrize("name", corpus.names())
def test_what_failed_once_does_not_fail_again(name: str) -> None:
    _, failure = attempt(corpus.scenario(name))
    assert not failure, f"python -m tests.simulation --world {name} --trace   # {failure}"


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
    seed = next(seed for seed in range(200) if "evictable" in attempt(Scenario.of(seed))[1])
    scenario = Scenario.of(seed)
    shrinker = Shrinker(scenario)
    small = shrinker.shrink()
    assert "evictable while a step is about to read it" in attempt(small)[1]
    assert len(small.stimuli) <= 6
    assert len(small.stimuli) < len(scenario.stimuli)


def test_the_real_shell_and_engine_run() -> None:
    """No twin: what the worlds drive are the classes that serve."""
    world = World(Scenario.of(0))
    world.run()
    assert {type(node.offers) for node in world.shards} == {Shard}
    assert {type(node.offers.service) for node in world.engines} == {Engine}
