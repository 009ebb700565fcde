"""Many callers want one missing value at once, over HTTP from several processes: it is computed once."""

from __future__ import annotations

import json

from benchmarks.load import Request, send
from benchmarks.measure import Measured
from benchmarks.session import Session, main

SECONDS = 5.0
"""How long the feature takes: about what a model takes for a short clip."""


def run(session: Session) -> list[Measured]:
    """One lone caller first, then all of them at once for something else."""
    callers, processes, takes = session.size((1000, 8, SECONDS), (60, 2, 0.5))
    log = session.folder / "stampede.log"
    with session.server() as served:

        def ask(salt: int, seconds: float) -> Request:
            body = {
                "features": ["counted"],
                "assets": [{"uri": session.video.as_uri()}],
                "params": {"counted.log": str(log), "counted.seconds": seconds, "counted.salt": salt},
            }
            headers = (("Prefer", "wait=60"),)
            return Request(f"{served.amber}/v1/compute", "POST", json.dumps(body).encode(), headers)

        send(ask(0, 0.1), total=1, processes=1, connections=1)
        alone = send(ask(1, takes), total=1, processes=1, connections=1)
        crowd = send(ask(2, takes), total=callers, processes=processes, connections=-(-callers // processes))
    values = {json.loads(body)["results"][0]["value"] for body in (alone.sample, crowd.sample)}
    if {status for status, _ in crowd.bodies} != {200} or len(values) != 2:
        raise RuntimeError(f"not every caller got the value: {crowd.bodies}")
    runs = [line.split()[1] for line in log.read_text().splitlines()].count("2")
    return [
        Measured(
            "stampede: computations",
            f"runs of the feature, asked for by {callers} callers at once from {processes} processes",
            "runs that are needed",
            runs,
            1,
            "runs",
            1.0,
        ),
        Measured(
            "stampede: time",
            f"until the last of {callers} callers has the value of a feature that takes {takes:g} s",
            "one lone caller of the same, a tenth more, and 100 ms",
            crowd.seconds,
            alone.seconds * 1.1 + 0.1,
            "s",
            1.0,
        ),
    ]


if __name__ == "__main__":
    raise SystemExit(main(run))
