"""Many small clusters under trouble. A failing seed is in the test name: `pytest -k "test_a_world[SEED]"`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from amber_ray.core import states
from amber_ray.core.invariants import check
from tests.simulation.world import World

SEEDS = 300


@pytest.fixture(scope="module", autouse=True)
def taken() -> Iterator[set[tuple[states.State, states.Cause]]]:
    """The transitions that the worlds take."""
    seen: set[tuple[states.State, states.Cause]] = set()
    plain = states.Entry.move

    def move(self: states.Entry, cause: states.Cause) -> None:
        seen.add((self.state, cause))
        plain(self, cause)

    states.Entry.move = move  # type: ignore[method-assign]
    yield seen
    states.Entry.move = plain  # type: ignore[method-assign]


ran: set[int] = set()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_world(seed: int) -> None:
    World(seed).run()
    ran.add(seed)


def test_the_worlds_take_every_way_between_states(taken: set[tuple[states.State, states.Cause]]) -> None:
    if len(ran) < SEEDS:
        pytest.skip("only when all worlds have run")
    assert taken == states.TRANSITIONS.keys()


def test_a_seed_replays() -> None:
    def trace() -> list[str]:
        world, seen = World(7), []
        for shell in world.shells:
            shell.feed = _recording(shell.feed, seen, world)  # type: ignore[method-assign]
        world.run()
        return seen

    assert trace() == trace()


def test_trouble_is_not_only_imagined() -> None:
    """Each kind of fault happens in the first worlds, and each shard count."""
    counters: dict[str, int] = {}
    shards = set()
    for seed in range(40):
        world = World(seed)
        world.run()
        shards.add(len(world.shells))
        for shell in world.shells:
            check(shell.ledger)
            for name, n in shell.ledger.counters.items():
                counters[name] = counters.get(name, 0) + n
    assert shards == {1, 2, 3}
    assert min(counters.values()) > 20, counters


def _recording(feed, seen: list[str], world: World):  # type: ignore[no-untyped-def]
    order = itertools.count()

    def record(event: object) -> None:
        seen.append(f"{next(order)} {world.now} {event}")
        feed(event)

    return record
