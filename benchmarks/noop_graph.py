"""What the engine itself costs: a graph whose nodes do nothing, against one Ray task for each node."""

from __future__ import annotations

import itertools

from benchmarks.measure import Measured, paired, seconds
from benchmarks.session import Session, main


def top(index: int) -> int:
    return index


def side(value: int) -> int:
    return value


def leaf(left: int, right: int) -> int:
    return left + right


def run(session: Session) -> list[Measured]:
    import ray

    window, rounds = session.size((0.1, 5), (3.0, 1))
    salts = itertools.count(1)
    with session.client(segment_seconds=window) as client:
        count = len(client.get("noop_leaf", session.video))

        def ours() -> float:
            def graph() -> None:
                params = {"noop_top.salt": next(salts)}
                found = client.get("noop_leaf", session.video, params=params)
                if found != [2 * i for i in range(count)]:
                    raise RuntimeError(f"the graph answered {found[:5]}...")

            return seconds(graph)

        run_top, run_side, run_leaf = ray.remote(top), ray.remote(side), ray.remote(leaf)

        def peer() -> float:
            def graph() -> None:
                tops = [run_top.remote(i) for i in range(count)]
                ray.get([run_leaf.remote(run_side.remote(t), run_side.remote(t)) for t in tops])

            return seconds(graph)

        measured = paired(ours, peer, rounds)
    return [
        Measured(
            "no-op graph",
            f"a diamond of 4 features that do nothing on {count} segments: {4 * count} steps through Amber",
            f"the same diamonds with one Ray task for each of the {4 * count} nodes",
            *measured,
            "s",
            0.5,
        )
    ]


if __name__ == "__main__":
    raise SystemExit(main(run))
