"""Reading a value that is in memory, over HTTP, against an empty Serve application in the same mode."""

from __future__ import annotations

import json
import urllib.request

from benchmarks.load import Request, send
from benchmarks.measure import Measured, paired
from benchmarks.session import Session, main

SIZE = 1000


def run(session: Session) -> list[Measured]:
    total, rounds = session.size((2000, 5), (40, 1))
    with session.server() as served:
        compute = Request(
            f"{served.amber}/v1/compute",
            "POST",
            json.dumps(
                {
                    "features": ["letters"],
                    "assets": [{"uri": session.video.as_uri()}],
                    "params": {"letters.size": SIZE},
                }
            ).encode(),
            (("Prefer", "wait=60"),),
        )
        first = json.loads(send(compute, total=1, processes=1, connections=1).sample)
        value = Request(f"{served.amber}/v1/values/{first['results'][0]['key']}")
        empty = Request(f"{served.empty}/?size={SIZE}")
        check(value, SIZE)
        check(empty, SIZE)

        def pace(request: Request, count: int, connections: int) -> float:
            return send(request, total=count, processes=1, connections=connections).per_request

        def pair(ours: Request, connections: int, count: int) -> tuple[float, float]:
            return paired(
                lambda: pace(ours, count, connections), lambda: pace(empty, count, connections), rounds
            )

        alone = pair(value, 1, total // 4)
        many = pair(value, 32, total)
        asked = pair(compute, 32, total)
    return [
        Measured(
            "hot read: one connection",
            f"GET /v1/values/KEY of {SIZE} characters, one after the other",
            "GET of as many characters from an empty Serve application in the same mode",
            *alone,
            "s",
            1.5,
        ),
        Measured(
            "hot read: 32 connections",
            "the same on 32 connections, time per request",
            "the empty application on 32 connections",
            *many,
            "s",
            1.5,
        ),
        Measured(
            "hot compute: 32 connections",
            "POST /v1/compute of the same value, which finds it ready",
            "the empty application on 32 connections",
            *asked,
            "s",
            3.0,
        ),
    ]


def check(request: Request, size: int) -> None:
    """Both answer what is to be compared: a JSON string of that length."""
    with urllib.request.urlopen(request.url, timeout=30) as response:
        body = response.read()
    if len(json.loads(body)) != size:
        raise RuntimeError(f"{request.url} answered {body[:80]!r}, not a string of {size} characters")


if __name__ == "__main__":
    raise SystemExit(main(run))
