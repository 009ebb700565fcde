"""Many worlds: in several processes, each failure with its seed."""

from __future__ import annotations

import gc
import multiprocessing
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field

from amber_ray.core.state.entry import Cause, Entry, State
from tests.simulation.scenario import Scenario
from tests.simulation.world import START, World

CHUNK = 25

Transition = tuple[State, Cause]


@dataclass(slots=True)
class Outcome:
    """What came of some seeds: what befell the worlds, and what went wrong by seed.

    `events` were taken in by ledgers, `turns` are callbacks of the event loop, `seconds` are virtual ones.
    """

    seeds: int = 0
    events: int = 0
    turns: int = 0
    seconds: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    failed: dict[int, str] = field(default_factory=dict)
    transitions: set[tuple[str, str]] = field(default_factory=set)

    def add(self, other: Outcome) -> None:
        """Take in what came of other seeds."""
        self.seeds += other.seeds
        self.events += other.events
        self.turns += other.turns
        self.seconds += other.seconds
        self.seen.update(other.seen)
        self.failed.update(other.failed)
        self.transitions |= other.transitions


def attempt(scenario: Scenario, kind: type[World] = World) -> tuple[World | None, str]:
    """Run a world: the world, and what went wrong as text; empty if nothing did."""
    world = None
    try:
        with no_cycles_freed():
            world = kind(scenario)
            world.run()
    except Exception as error:
        return world, said(error)
    return world, ""


@contextmanager
def no_cycles_freed() -> Iterator[None]:
    """Keep Python from looking for cycles meanwhile.

    When it does hangs on what this process has run before, and what it frees may have callbacks: a world
    would not be the same each time. It takes a tenth of a world's time, too.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def said(error: Exception) -> str:
    """An error with the place it came from, without what differs from run to run."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    name = frame.filename.rpartition("/")[2]
    return f"{type(error).__name__} in {name} {frame.name}: {str(error) or frame.line}"


def kind_of(failure: str) -> str:
    """A failure without keys and numbers: two of the same kind have the same cause, most likely."""
    return re.sub(r"[0-9a-f]{32}|\d+", "#", failure)


def run_seeds(seeds: Sequence[int], kind: type[World] = World) -> Outcome:
    """Run worlds of a kind one after the other."""
    outcome = Outcome()
    gc.freeze()  # what is imported has no part in what each world leaves behind
    with watched(outcome.transitions), no_cycles_freed():  # but between two of them
        for seed in seeds:
            world, failure = attempt(Scenario.of(seed), kind)
            outcome.seeds += 1
            if world is not None:
                outcome.events += world.events
                outcome.turns += world.loop.turns
                outcome.seconds += world.loop.time() - START
                outcome.seen.update(world.seen)
            if failure:
                outcome.failed[seed] = failure
            del world
            gc.collect()
    return outcome


class watched:
    """Notes every transition that an entry takes meanwhile."""

    def __init__(self, taken: set[tuple[str, str]]) -> None:
        self._taken = taken
        self._plain: Callable[[Entry, Cause], None] = Entry.move
        self._seen: set[Transition] = set()

    def __enter__(self) -> None:
        seen, plain = self._seen, self._plain

        def move(entry: Entry, cause: Cause) -> None:
            seen.add((entry.state, cause))
            plain(entry, cause)

        Entry.move = move  # type: ignore[method-assign]

    def __exit__(self, *error: object) -> None:
        Entry.move = self._plain  # type: ignore[method-assign]
        self._taken.update((state.name, cause.name) for state, cause in self._seen)


def run_many(seeds: Sequence[int], jobs: int, kind: type[World] = World) -> Iterator[Outcome]:
    """Run worlds of a kind in so many processes; yields what came of each chunk as it is done."""
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    if jobs == 1:
        yield from (run_seeds(chunk, kind) for chunk in chunks)
        return
    # Not forked: the parent may have threads.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(run_seeds, chunk, kind) for chunk in chunks]):
            yield done.result()
