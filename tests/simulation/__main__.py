"""`python -m tests.simulation`: many seeds, or one of them as a story, or a failing one made short."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation import corpus
from tests.simulation.demands import DemandWorld
from tests.simulation.runs import Outcome, run_many, said
from tests.simulation.scenario import Scenario
from tests.simulation.shrink import Shrinker
from tests.simulation.story import scenario_lines, story_lines
from tests.simulation.world import World


def main() -> int:
    """Exit status 1 if a world fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="with --seed: print every event and command")
    parser.add_argument("--shrink", type=int, metavar="SEED", help="make a failing seed short and tell it")
    parser.add_argument("--keep", metavar="NAME", help="with --shrink: keep it as a world of the corpus")
    parser.add_argument("--world", metavar="NAME", help="only this one of the corpus")
    parser.add_argument(
        "--demands", action="store_true", help="worlds with demands, where all dies at once, too"
    )
    parser.add_argument("--first", action="store_true", help="the corpus, then seeds, to the first failure")
    arguments = parser.parse_args()
    if arguments.shrink is not None:
        return _shrink(arguments.shrink, arguments.keep)
    if arguments.world is not None:
        return tell(corpus.scenario(arguments.world), trace=arguments.trace)
    kind = DemandWorld if arguments.demands else World
    if arguments.seed is not None:
        return tell(Scenario.of(arguments.seed), trace=arguments.trace, kind=kind)
    if arguments.first:
        name, failure = corpus.first_failure()
        if failure:
            print(f"world {name} failed after: {failure}")
            return 1
    seeds = range(arguments.start, arguments.start + arguments.seeds)
    return _many(seeds, arguments.jobs, arguments.first, kind)


def _many(seeds: range, jobs: int, first: bool, kind: type[World]) -> int:
    total, began, shown = Outcome(), time.monotonic(), 0.0
    for outcome in run_many(seeds, jobs, kind):
        total.add(outcome)
        for seed, failure in outcome.failed.items():
            print(f"seed {seed} failed after: {failure}")
            again = f"--seed {seed} --trace" + (
                " --demands" if kind is DemandWorld else f"    or    --shrink {seed}"
            )
            print(f"  python -m tests.simulation {again}", flush=True)
        spent = time.monotonic() - began
        if first and total.failed:
            break
        if spent - shown > 10.0:
            shown = spent
            print(f"{total.seeds} of {len(seeds)} seeds, {total.events} events", flush=True)
    spent = time.monotonic() - began
    print(
        f"{total.seeds} seeds, {total.events} events in {spent:.1f} s ({total.events / spent:.0f} a second), "
        f"{len(total.failed)} failed; {total.turns} callbacks, "
        f"{total.seconds / spent:.0f} simulated seconds per second"
    )
    for what, times in sorted(total.seen.items(), key=lambda item: -item[1]):
        print(f"{times:9}  {what}")
    return 1 if total.failed else 0


def tell(scenario: Scenario, *, trace: bool, kind: type[World] = World) -> int:
    """Run one world, and print what was laid upon it, what it did if asked for, and how it ended."""
    world = kind(scenario, traced=True)
    failure = ""
    try:
        world.run()
    except Exception as error:
        failure = said(error)
    print(*scenario_lines(scenario), sep="\n")
    if trace:
        print(*story_lines(world), sep="\n")
    print(f"{world.events} events; " + (f"FAILED: {failure}" if failure else "every promise was kept"))
    return 1 if failure else 0


def _shrink(seed: int, name: str | None) -> int:
    try:
        shrinker = Shrinker(Scenario.of(seed))
    except ValueError as error:
        print(error)
        return 0
    small = shrinker.shrink()
    if name is not None:
        corpus.keep(name, small)
    print(f"after {shrinker.runs} worlds; names draws of seed {seed}:")
    return tell(small, trace=True)


if __name__ == "__main__":
    sys.exit(main())
