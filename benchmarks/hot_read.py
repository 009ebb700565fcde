"""Values that are there at once, over HTTP, against an empty FastAPI application on Serve in that mode."""

from __future__ import annotations

import json
import statistics
import urllib.request

from benchmarks.load import Load, Request, send
from benchmarks.measure import Measured
from benchmarks.session import Session, main

SIZE = 1000
MANY = 32


def run(session: Session) -> list[Measured]:
    """Reads one after the other and many at once; questions, whose peer takes a body of the same length."""
    total, rounds = session.size((3000, 7), (40, 1))
    with session.server() as served:
        body = json.dumps(
            {
                "features": ["letters"],
                "assets": [{"uri": session.video.as_uri()}],
                "params": {"letters.size": SIZE},
            }
        ).encode()
        compute = Request(f"{served.amber}/v1/compute", "POST", body, (("Prefer", "wait=60"),))
        first = json.loads(send(compute, total=1, processes=1, connections=1).sample)
        value = Request(f"{served.amber}/v1/values/{first['results'][0]['key']}")
        empty = Request(f"{served.empty}/?size={SIZE}")
        posted = Request(empty.url, "POST", body)
        for request in (value, empty, posted):
            check(request, SIZE)

        def pair(ours: Request, peer: Request, connections: int, count: int) -> list[tuple[Load, Load]]:
            def once(request: Request) -> Load:
                return send(request, total=count, processes=1, connections=connections)

            if rounds > 1:
                once(ours)
                once(peer)
            turns: list[tuple[Load, Load]] = []
            for i in range(rounds):  # a slow spell of the machine falls on both
                if i % 2:
                    turns.append((once(ours), once(peer)))
                else:
                    turns.append((once(peer), once(ours))[::-1])
            return turns

        alone = pair(value, empty, 1, total // 4)
        many = pair(value, empty, MANY, total)
        asked = pair(compute, posted, MANY, total)
    read = f"GET /v1/values/KEY of {SIZE} characters"
    of_empty = "of an empty FastAPI application on Serve, in the same mode"
    return [
        pace("hot read: one connection", f"{read}, one after the other", f"GET {of_empty}", alone, 1 / 0.9),
        pace(
            f"hot read: {MANY} connections",
            f"{read} on {MANY} connections, time per request",
            f"GET {of_empty}",
            many,
            1 / 0.9,
        ),
        p99("hot read: p99", f"the same, the slowest in a hundred on {MANY} connections", "the same", many),
        pace(
            f"hot compute: {MANY} connections",
            "POST /v1/compute of the same value, which finds it ready",
            f"POST of as long a body and answer {of_empty}",
            asked,
            1 / 0.7,
        ),
        p99(
            "hot compute: p99", f"the same, the slowest in a hundred on {MANY} connections", "the same", asked
        ),
    ]


def pace(name: str, what: str, against: str, turns: list[tuple[Load, Load]], limit: float) -> Measured:
    """Wall time per request, the median of the turns."""
    ours, peer = (statistics.median(load.per_request for load in side) for side in zip(*turns, strict=True))
    return Measured(name, what, against, ours, peer, "s", limit)


def p99(name: str, what: str, against: str, turns: list[tuple[Load, Load]]) -> Measured:
    """The 99th percentile of a turn, the median of the turns."""
    ours, peer = (statistics.median(load.p99 for load in side) for side in zip(*turns, strict=True))
    return Measured(name, what, against, ours, peer, "s", 2.0)


def check(request: Request, size: int) -> None:
    """Both answer what is to be compared: a JSON string of that length."""
    asked = urllib.request.Request(request.url, request.body or None, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as response:
        body = response.read()
    if len(json.loads(body)) != size:
        raise RuntimeError(f"{request.url} answered {body[:80]!r}, not a string of {size} characters")


if __name__ == "__main__":
    raise SystemExit(main(run))
