"""What tokens, metrics and traces cost a hot read and a hot question: all of them on, beside all of them off.

Both servers run at once and are asked in turn. What counts is the processor time of the process that
answers: the time of the collector, and of whoever scrapes, is not Amber's.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.load import Request, send
from benchmarks.measure import Measured
from benchmarks.session import Served, Session, main

SIZE = 1000
CONNECTIONS = 32
TOKEN = "a-token-of-the-benchmark"
SCRAPE_SECONDS = 10.0
"""As in deployments/prometheus."""
LIMIT = 1.15
COLLECTOR = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def run(session: Session) -> list[Measured]:
    """A read and a question of one small value each, on many connections."""
    total, rounds = session.size((4000, 15), (40, 1))
    with (
        collector() as endpoint,
        session.server() as off,
        session.server(tokens=(TOKEN,), trace_endpoint=endpoint) as on,
        scraping(on),
    ):
        bare, full = Asked(session, off, ()), Asked(session, on, (("Authorization", f"Bearer {TOKEN}"),))
        found: list[Measured] = []
        for kind, words in (
            ("hot read", f"GET /v1/values/KEY of {SIZE} characters"),
            ("hot compute", "POST /v1/compute of the same value, which finds it ready"),
        ):
            turns: list[tuple[float, float]] = []
            if rounds > 1:
                full.cost(kind, total)
                bare.cost(kind, total)
            for i in range(rounds):  # a slow spell of the machine falls on both
                if i % 2:
                    turns.append((full.cost(kind, total), bare.cost(kind, total)))
                else:
                    turns.append((bare.cost(kind, total), full.cost(kind, total))[::-1])
            ours, peer = (statistics.median(side) for side in zip(*turns, strict=True))
            what = f"{words} on {CONNECTIONS} connections, processor time of the replica per request, with a"
            what += " token, every request traced, metrics scraped"
            found.append(
                Measured(f"telemetry: {kind}", what, "the same with all of it off", ours, peer, "s", LIMIT)
            )
        return found


class Asked:
    """One server's value, and what asking for it costs."""

    def __init__(self, session: Session, served: Served, headers: tuple[tuple[str, str], ...]) -> None:
        body = json.dumps(
            {
                "features": ["letters"],
                "assets": [{"uri": session.video.as_uri()}],
                "params": {"letters.size": SIZE},
            }
        ).encode()
        compute = Request(f"{served.amber}/v1/compute", "POST", body, (("Prefer", "wait=60"), *headers))
        first = json.loads(send(compute, total=1, processes=1, connections=1).sample)
        value = Request(f"{served.amber}/v1/values/{first['results'][0]['key']}", headers=headers)
        self._requests = {"hot read": value, "hot compute": compute}
        self._replica = replica_of(served)

    def cost(self, kind: str, total: int) -> float:
        """Processor seconds of the replica for each of so many requests."""
        before = spent(self._replica)
        load = send(self._requests[kind], total=total, processes=1, connections=CONNECTIONS)
        if {status for status, _ in load.bodies} != {200}:
            raise RuntimeError(f"{kind}: {load.bodies}")
        return max(spent(self._replica) - before, 1 / os.sysconf("SC_CLK_TCK")) / total


def replica_of(served: Served) -> int:
    """The process that answers."""
    name = served.amber.rpartition("/")[2]
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"ServeReplica:{name}:" in place.read_text():
                return int(place.parent.name)
    raise RuntimeError(f"no process here answers at {served.amber}")


def spent(pid: int) -> float:
    """Processor seconds of a process, of all its threads."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def collector() -> Iterator[str]:
    """A collector of traces in a process of its own, which throws them away."""
    with subprocess.Popen([sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


@contextlib.contextmanager
def scraping(served: Served) -> Iterator[None]:
    """Somebody asks for the metrics all the time, as Prometheus does."""
    over = threading.Event()

    def scrape() -> None:
        asked = urllib.request.Request(
            f"{served.amber}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        while not over.wait(SCRAPE_SECONDS):
            urllib.request.urlopen(asked, timeout=30).read()

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)


if __name__ == "__main__":
    raise SystemExit(main(run))
