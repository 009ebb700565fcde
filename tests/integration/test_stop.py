"""`amber serve` that is told to stop while callers wait: nobody is cut off, nothing accepted is lost."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.server import CLIP, Server

pytestmark = pytest.mark.timeout(300)
BOUND = 60.0


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as made:
        yield made


def waiting(server: Server, threads: ThreadPoolExecutor, gate: str) -> Future[httpx.Response]:
    """A caller who waits for a step that waits at a gate."""
    return threads.submit(server.compute, "gated", CLIP, wait=BOUND, params={"gated.name": gate})


def events(server: Server, id: str, begun: threading.Event) -> list[str]:
    """The events of a request until the stream ends, which it does without an error."""
    found = []
    with server.client() as http, http.stream("GET", f"/v1/requests/{id}/events") as stream:
        for line in stream.iter_lines():
            begun.set()
            if line.startswith("event"):
                found.append(line)
    return found


def test_whoever_waits_is_answered_and_what_was_accepted_goes_on(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    options = ("--shards", "2", "--replicas", "2", "--drain-seconds", "4", "--access-log")
    server = Server(tmp_path / "served", *options, env={"HOME": str(home)}).start()
    try:
        assert server.compute("raises", CLIP).json()["state"] == "failed"
        accepted = server.compute("gated", CLIP, wait=0, params={"gated.name": "later"}).json()["id"]

        def polled() -> httpx.Response:
            with server.client() as http:
                return http.get(f"/v1/requests/{accepted}", headers={"Prefer": f"wait={BOUND:g}"})

        polling, streams = threads.submit(polled), threading.Event()
        streaming = threads.submit(events, server, accepted, streams)
        early = [waiting(server, threads, "early") for _ in range(4)]
        server.until(lambda: server.runs("gated") == 2)  # there are two CPUs
        late = [waiting(server, threads, "late") for _ in range(4)]
        assert streams.wait(BOUND)
        server.until(lambda: server.stats()["requests_running"] == 9)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)

        def refused() -> bool:
            with server.client() as http:
                answer = http.get("/v1/features")
            assert answer.status_code in (200, 503)
            return answer.status_code == 503 and answer.headers["Retry-After"] == "1"

        server.until(refused)
        server.open("early")
        for answer in [one.result(BOUND) for one in early]:
            assert (answer.status_code, answer.json()["state"]) == (200, "done"), answer.text
        for answer in [one.result(BOUND) for one in late]:
            assert (answer.status_code, answer.json()["state"]) == (202, "running"), answer.text
            assert answer.headers["Retry-After"] == "1"
        assert (polling.result(BOUND).status_code, polling.result().json()["state"]) == (200, "running")
        assert streaming.result(BOUND)[-1] == "event: progress"
        assert server.process.wait(BOUND) == 0
    finally:
        server.kill_everything()
    log = (server.folder / "serve.log").read_text()
    failed = [line for line in log.splitlines() if "WARNING" in line and "raises of" in line]
    assert len(failed) == 1
    assert "1 of 1 results failed" in failed[0]
    assert sum(" POST /v1/compute 202 " in line for line in log.splitlines()) >= 5
    assert "(raylet)" not in log
    assert "retries" not in log
    assert log.rstrip().endswith("stopped; everything is stored")
    assert sorted(home.rglob("*")) == []

    for gate in ("late", "later"):
        server.open(gate)
    server.start()
    try:
        ids = [one.result().json()["id"] for one in late]
        for id in [accepted, *ids]:
            with server.client() as http:
                view = http.get(f"/v1/requests/{id}", headers={"Prefer": f"wait={BOUND:g}"}).json()
            assert view["state"] == "done", view
        assert server.stop() == 0
    finally:
        server.kill_everything()


def test_each_process_logs_a_line_for_an_event_with_its_request_and_a_second_signal_ends_all(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    options = ("--drain-seconds", "3600", "--log-format", "json", "--access-log")
    server = Server(tmp_path, *options).start()

    def lines() -> list[str]:
        return (server.folder / "serve.log").read_text().splitlines()

    def told_of(id: str) -> dict[str, dict[str, object]]:
        every = [json.loads(line) for line in lines() if id in line]
        return {one["logger"]: one for one in every if id in (one.get("id"), one.get("request"))}

    try:
        failed = server.compute("raises", CLIP).json()["id"]
        by = ("a.library", "amber.http", "amber.requests")  # a worker, a replica, a cache actor
        server.until(lambda: told_of(failed).keys() >= set(by))
        worker, replica, actor = map(told_of(failed).__getitem__, by)
        assert (worker["message"], worker["feature"]) == ("clouds\ncome up", "raises")
        assert (replica["status"], replica["path"]) == (200, "/v1/compute")
        assert "the moon is full" in str(actor["message"])
        caller = waiting(server, threads, "never")
        server.until(lambda: server.runs("gated") == 1)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: "stopping" in server.log())
        with server.client() as http:
            stopping = http.get("/readyz")
        assert (stopping.status_code, "stop" in stopping.text) == (503, True), stopping.text
        began = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(BOUND) == 130
        assert time.monotonic() - began < BOUND
        assert isinstance(caller.exception(BOUND), httpx.TransportError)
        *others, last = lines()
        assert last == "amber: interrupted"  # what the command says of itself, not of the server
        told = [json.loads(line) for line in others]
        assert {one["level"] for one in told} <= {"INFO", "WARNING", "ERROR"}
        assert [one["logger"] for one in told if one["message"].startswith("stopping;")] == ["amber.serve"]
        server.until(lambda: not server.processes())
    finally:
        server.kill_everything()
    assert os.path.isdir(server.store)
