"""Many callers want one missing value at once, over HTTP from several processes: it is computed once."""

from __future__ import annotations

import json

from benchmarks.load import Request, send
from benchmarks.measure import Measured
from benchmarks.session import Session, main


def run(session: Session) -> list[Measured]:
    callers, processes = session.size((1000, 4), (60, 2))
    log = session.folder / "stampede.log"
    with session.server() as served:

        def ask(salt: int) -> Request:
            body = {
                "features": ["counted"],
                "assets": [{"uri": session.video.as_uri()}],
                "params": {"counted.log": str(log), "counted.seconds": 0.5, "counted.salt": salt},
            }
            headers = (("Prefer", "wait=60"),)
            return Request(f"{served.amber}/v1/compute", "POST", json.dumps(body).encode(), headers)

        send(ask(0), total=1, processes=1, connections=1)
        alone = send(ask(1), total=1, processes=1, connections=1)
        crowd = send(ask(2), total=callers, processes=processes, connections=-(-callers // processes))
        echoes = send(
            Request(f"{served.empty}/?size=400"),
            total=callers,
            processes=processes,
            connections=-(-callers // processes),
        )
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
            f"until the last of {callers} callers has the value of a feature that takes 0.5 s",
            "one lone caller of the same, and as many calls of an empty Serve application",
            crowd.seconds,
            alone.seconds + echoes.seconds,
            "s",
            2.0,
        ),
    ]


if __name__ == "__main__":
    raise SystemExit(main(run))
