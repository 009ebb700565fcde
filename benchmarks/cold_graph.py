"""A graph of real features of a real video that nobody has computed yet, against a hand-written script."""

from __future__ import annotations

import numpy as np

from benchmarks import by_hand
from benchmarks.measure import Measured, paired, seconds
from benchmarks.session import Session, main


def run(session: Session) -> list[Measured]:
    """A short graph, where what surrounds the work shows most, and a longer one."""
    rounds = session.size(5, 1)
    short = measure(session, "cold graph: short", session.size(12.0, 1.0), session.size(5.0, 10.0), rounds)
    if session.small:
        return [short]
    return [short, measure(session, "cold graph: long", 24.0, 2.5, rounds)]


def measure(session: Session, name: str, fps: float, window: float, rounds: int) -> Measured:
    """Both ways at `fps` frames a second in segments of `window` seconds; the values must be the same."""
    from amber_ray.core.model.units import segments

    params = {"frames.fps": fps}
    names = list(by_hand.FEATURES)
    with (
        session.client(segment_seconds=window, builtins=True) as client,
        by_hand.pool() as processes,
    ):
        clips = segments(client.asset(session.video), window)
        found: list[dict[str, list[np.ndarray]]] = [{}, {}]

        def ours() -> float:
            for feature in names:
                client.purge(feature=feature)

            def ask() -> None:
                table = client.get_many(names, [session.video], params=params, progress=False)
                found[0] = {feature: table[feature, session.video] for feature in names}

            return seconds(ask)

        def peer() -> float:
            def script() -> None:
                values = by_hand.run(processes, clips, fps, session.folder / "by_hand.parquet")
                found[1] = {feature: [segment[feature] for segment in values] for feature in names}

            return seconds(script)

        ours_seconds, peer_seconds = paired(ours, peer, rounds)
    for feature in names:
        for mine, other in zip(found[0][feature], found[1][feature], strict=True):
            np.testing.assert_array_equal(mine, other)
    return Measured(
        name,
        f"{', '.join(names)} of {len(clips)} segments of a 30 s video at {fps:g} frames/s, nothing known",
        "a script with two processes that calls the same functions and writes one Parquet file",
        ours_seconds,
        peer_seconds,
        "s",
        1.5,
    )


if __name__ == "__main__":
    raise SystemExit(main(run))
