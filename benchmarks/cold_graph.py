"""A graph of real features of a real video that nobody has computed yet, against a hand-written script."""

from __future__ import annotations

import numpy as np

from benchmarks import by_hand
from benchmarks.measure import Measured, paired, seconds
from benchmarks.session import Session, main


def run(session: Session) -> list[Measured]:
    from amber_ray.core.units import segments

    fps, window, rounds = session.size((24.0, 2.5, 5), (1.0, 10.0, 1))
    params = {"frames.fps": fps}
    names = list(by_hand.FEATURES)
    with (
        session.client(segment_seconds=window, builtins=True) as client,
        by_hand.pool() as processes,
    ):
        clips = segments(client.asset(session.video), window)
        found: list[dict[str, list[np.ndarray]]] = [{}, {}]

        def ours() -> float:
            for name in names:
                client.purge(feature=name)

            def ask() -> None:
                table = client.get_many(names, [session.video], params=params, progress=False)
                found[0] = {name: table[name, session.video] for name in names}

            return seconds(ask)

        def peer() -> float:
            def script() -> None:
                values = by_hand.run(processes, clips, fps, session.folder / "by_hand.parquet")
                found[1] = {name: [segment[name] for segment in values] for name in names}

            return seconds(script)

        measured = paired(ours, peer, rounds)
    for name in names:
        for mine, other in zip(found[0][name], found[1][name], strict=True):
            np.testing.assert_array_equal(mine, other)
    return [
        Measured(
            "cold graph",
            f"{', '.join(names)} of {len(clips)} segments of a 30 s video at {fps:g} frames/s, nothing known",
            "a script with two processes that calls the same functions and writes one Parquet file",
            *measured,
            "s",
            1.5,
        )
    ]


if __name__ == "__main__":
    raise SystemExit(main(run))
