"""The app behind Ray Serve in HAProxy mode, for real: ports, callers that leave, streams, the end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from amber_ray.serving import front
from tests.http_app import compute_body
from tests.integration.serving_kit import PAGE
from tests.server import first_line

ROOT = Path(__file__).parents[2]
KIT = Path(__file__).parent / "serving_kit.py"
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Ray ships HAProxy for Linux"),
]


SERVING = {"haproxy", "ray::ServeRepli", "ray::ProxyActor"}
"""The programs that answer HTTP, by the first 15 letters of their names, as the kernel tells them."""


@contextmanager
def server(log: Path, *words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The kit's first line, and its process; it is told to stop at the end, and must."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "KIT_LOG": str(log), "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, str(KIT), str(front.free_ports((0,))[0]), *words]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        try:
            yield first_line(process).strip(), process
        finally:
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@contextmanager
def other_machine() -> Iterator[tuple[str, Callable[[str, int], bytes]]]:
    """A network namespace: this machine's address as seen from it, and a function that asks from there."""
    name, net = f"amber-{os.getpid()}", f"10.213.{os.getpid() % 250}"
    here, there = f"va{os.getpid() % 10**6}", f"vb{os.getpid() % 10**6}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)

    def ask(address: str, port: int) -> bytes:
        script = (
            "import socket, sys\n"
            "with socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as s:\n"
            "    s.settimeout(3)\n"
            "    s.sendall(b'GET /v1/stats HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n')\n"
            "    sys.stdout.buffer.write(s.recv(65536))\n"
        )
        done = subprocess.run(
            ["ip", "netns", "exec", name, sys.executable, "-c", script, address, str(port)],
            capture_output=True,
            timeout=30,
            check=False,
        )
        return done.stdout

    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("network namespaces can't be made here")
    try:
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        ip("addr", "add", f"{net}.1/24", "dev", here)
        ip("link", "set", here, "up")
        ip("-n", name, "addr", "add", f"{net}.2/24", "dev", there)
        ip("-n", name, "link", "set", there, "up")
        yield f"{net}.1", ask
    finally:
        ip("netns", "del", name)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def listening(log: Path) -> dict[str, set[str]]:
    """Program -> addresses (in hex, as the kernel tells them) that a server's processes listen on."""
    inodes = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                inodes[f"socket:[{fields[9]}]"] = fields[1]
    found: dict[str, set[str]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name = (entry / "comm").read_text().strip()
            sockets = {os.readlink(f) for f in (entry / "fd").iterdir()}
            environ = (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"KIT_LOG={log}".encode() in environ:
            found.setdefault(name, set()).update(inodes[s] for s in sockets if s in inodes)
    return found


@dataclass(frozen=True)
class Served:
    url: str
    log: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all of this module; how it ends is looked at, too."""
    log = tmp_path_factory.mktemp("served") / "log"
    with server(log) as (url, process):
        assert url.startswith("http://127.0.0.1:")
        yield Served(url, log)
    assert process.returncode == 0
    assert log.read_text().splitlines()[-1] == "closed"
    assert listening(log) == {}


def said(served: Served, line: str) -> int:
    return served.log.read_text().splitlines().count(line)


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=20) as client:
        yield client


def test_it_answers_through_the_front_and_under_one_request_id(http: httpx.Client) -> None:
    answer = http.post("/v1/compute", json=compute_body("probe"))
    assert (answer.status_code, answer.json()["state"]) == (200, "done")
    assert len(answer.headers.get_list("x-request-id")) == 1
    problem = http.get("/v1/values/x", headers={"X-Request-Id": "trace-1"})
    assert (problem.status_code, problem.json()["instance"]) == (400, "trace-1")
    assert http.get("/v1/stats", headers={"Host": "evil.example"}).status_code == 403
    assert http.get("/v1/stats", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 403


@pytest.mark.parametrize("pieces", ["together", "head and body", "body in two", "chunks"])
def test_a_caller_that_leaves_while_it_waits_withdraws_its_request(
    served: Served, http: httpx.Client, pieces: str
) -> None:
    body = json.dumps(compute_body("probe", tenant="hold")).encode()
    half = len(body) // 2
    length = b"Transfer-Encoding: chunked" if pieces == "chunks" else b"Content-Length: %d" % len(body)
    head = (
        b"POST /v1/compute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Prefer: wait=60\r\n" + length + b"\r\n\r\n"
    )
    sent = {
        "together": [head + body],
        "head and body": [head, body],
        "body in two": [head, body[:half], body[half:]],
        "chunks": [head, b"%x\r\n%b\r\n" % (len(body), body), b"0\r\n\r\n"],
    }[pieces]
    asked, withdrawn = said(served, "asked hold"), said(served, "withdrawn")
    with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])), 10) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in sent:
            caller.sendall(piece)
            time.sleep(0.1)  # HAProxy can't be asked whether it has read a piece; this makes them separate
        until(lambda: said(served, "asked hold") == asked + 1)
    until(lambda: said(served, "withdrawn") == withdrawn + 1)
    http.post("/v1/compute", json=compute_body("probe", tenant="open"))


def test_events_come_as_they_happen(http: httpx.Client) -> None:
    body = compute_body("brightness", tenant="hold")
    held = http.post("/v1/compute", json=body, headers={"Prefer": "wait=0"})
    assert held.status_code == 202
    with http.stream("GET", held.headers["Location"] + "/events") as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("event"))
        assert next(lines) == "event: progress"  # while the request is still held back
        http.post("/v1/compute", json=compute_body("probe", tenant="open"))
        assert list(lines) == ["event: result"] * 3 + ["event: done"]


def test_an_upload_larger_than_all_buffers_on_the_way_arrives_whole(http: httpx.Client) -> None:
    size = 40 << 20
    kept = http.post("/v1/assets", content=bytes(size), headers={"Content-Type": "video/mp4"})
    assert (kept.status_code, kept.json()["bytes"]) == (201, size)


def test_a_form_larger_than_all_buffers_on_the_way_arrives_whole(http: httpx.Client) -> None:
    size = 40 << 20
    kept = http.post("/v1/assets", files={"file": ("a.mp4", bytes(size), "video/mp4")})
    assert (kept.status_code, kept.json()["bytes"]) == (201, size)


def test_a_page_of_another_site_asks_as_a_browser_does_and_long_answers_are_compressed(
    http: httpx.Client,
) -> None:
    page = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}
    may = http.options("/v1/compute", headers={**page, "Access-Control-Request-Method": "POST"})
    assert (may.status_code, may.headers["Access-Control-Allow-Origin"]) == (200, PAGE)
    answer = http.post("/v1/compute", json=compute_body("brightness"), headers=page)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, PAGE)
    features = http.get("/v1/features", headers=page)
    assert (features.headers["Content-Encoding"], len(features.json()["features"])) == ("gzip", 6)
    foreign = http.options(
        "/v1/compute", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert foreign.status_code == 403


def test_without_tokens_nothing_of_it_answers_another_machine(served: Served) -> None:
    programs = listening(served.log)
    assert programs.keys() >= SERVING
    assert len(programs["haproxy"]) == 3
    ports = {int(a.split(":")[1], 16) for name in SERVING for a in programs[name]}
    with other_machine() as (address, ask):
        answers = {port: ask(address, port) for port in sorted(ports)}
    # Not the front, not HAProxy's own pages, not Serve's proxy, not a replica. What Ray has open for itself
    # in those processes greets in gRPC, and then asks for Ray's token.
    assert {port: said for port, said in answers.items() if said.startswith(b"HTTP/")} == {}


def test_an_open_front_without_tokens_does_not_come_up(tmp_path: Path) -> None:
    with server(tmp_path / "log", "0.0.0.0") as (said, process):
        assert said.startswith("Unavailable: the HTTP replicas did not start")
        assert "there are no API tokens" in said
    assert process.returncode == 0
