"""The app behind Ray Serve in HAProxy mode, for real: ports, callers that leave, streams, the end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.http_app import compute_body

ROOT = Path(__file__).parents[2]
KIT = Path(__file__).parent / "serving_kit.py"
pytestmark = pytest.mark.timeout(180)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(log: Path, *words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The kit's first line, and its process; it is told to stop at the end, and must."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "KIT_LOG": str(log), "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, str(KIT), str(free_port()), *words]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def listening(below: int) -> dict[str, set[str]]:
    """Program -> local addresses (IPv4, in hex) that it or its children listen on."""
    inodes = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
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
        if f"KIT_PID={below}".encode() in environ or b"KIT_LOG=" in environ:
            found.setdefault(name, set()).update(inodes[s] for s in sockets if s in inodes)
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Ray ships HAProxy for Linux")
def test_one_server_from_its_start_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with server(log) as (url, process), httpx.Client(base_url=url, timeout=20) as http:
        assert url.startswith("http://127.0.0.1:")

        # It answers, once under each name, and Serve's request id is the only one.
        answer = http.post("/v1/compute", json=compute_body("probe"))
        assert (answer.status_code, answer.json()["state"]) == (200, "done")
        assert len(answer.headers.get_list("x-request-id")) == 1
        problem = http.get("/v1/values/x", headers={"X-Request-Id": "trace-1"})
        assert (problem.status_code, problem.json()["instance"]) == (400, "trace-1")
        assert http.get("/v1/stats", headers={"Host": "evil.example"}).status_code == 403

        # Nothing of HTTP listens beyond loopback: neither the front nor HAProxy's own pages.
        haproxy = listening(process.pid)["haproxy"]
        assert len(haproxy) == 3
        assert {address.split(":")[0] for address in haproxy} == {"0100007F"}

        # A caller that leaves while it waits withdraws its request.
        with pytest.raises(httpx.ReadTimeout):
            http.post(
                "/v1/compute",
                json=compute_body("probe", tenant="hold"),
                headers={"Prefer": "wait=30"},
                timeout=0.5,
            )
        until(lambda: "withdrawn" in log.read_text())

        # Events come as they happen: the first while the request is held back.
        held = http.post(
            "/v1/compute", json=compute_body("brightness", tenant="hold"), headers={"Prefer": "wait=0"}
        )
        assert held.status_code == 202
        with http.stream("GET", held.headers["Location"] + "/events") as stream:
            lines = (line for line in stream.iter_lines() if line.startswith("event"))
            assert next(lines) == "event: progress"
            http.post("/v1/compute", json=compute_body("probe", tenant="open"))
            assert list(lines) == ["event: result"] * 3 + ["event: done"]

        # An upload larger than all buffers on the way arrives whole.
        size = 40 << 20
        kept = http.post("/v1/assets", content=bytes(size), headers={"Content-Type": "video/mp4"})
        assert (kept.status_code, kept.json()["bytes"]) == (201, size)

    assert process.returncode == 0
    assert log.read_text().splitlines()[-1] == "closed"
    assert listening(process.pid) == {}


def test_an_open_front_without_tokens_does_not_come_up(tmp_path: Path) -> None:
    with server(tmp_path / "log", "0.0.0.0") as (said, process):
        assert said.startswith("Unavailable: the HTTP replicas did not start")
        assert "there are no API tokens" in said
    assert process.returncode == 0
