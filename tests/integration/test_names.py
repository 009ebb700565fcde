"""Every value stands under its own name: real pictures, several shards and replicas, new connections.

The brightness of each picture is known, and no two are equally bright, so a value under another picture's
name is seen, whoever put it there.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import amber_ray as amber
from amber_ray.serving.front import free_ports
from tests.collector import Collector, Received
from tests.server import Server, running

pytestmark = pytest.mark.timeout(240)

COUNT = 40
CONNECTIONS = 6
"""New connections that ask for each request: with two replicas both are met."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector().running() as made:
        yield made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Server]:
    options = ("--shards", "3", "--replicas", "2", "--trace-endpoint", collector.url)
    yield from running(tmp_path_factory.mktemp("names"), *options)


@pytest.fixture(scope="module")
def pictures(server: Server) -> dict[str, float]:
    """Paths of pictures, in an order that says nothing, and how bright each is."""
    numbers = random.Random(1).sample(range(COUNT), COUNT)
    made: dict[str, float] = {}
    for number in numbers:
        grey = 5 + 6 * number
        path = server.media / f"{(number * 7) % COUNT}.png"
        Image.new("L", (32, 32), grey).save(path)
        made[str(path)] = grey / 255
    return made


def orders(pictures: dict[str, float]) -> Iterator[list[str]]:
    chance = random.Random(2)
    for _ in range(3):
        yield chance.sample(list(pictures), COUNT)


def brightness_of(results: amber.Results, path: str) -> float:
    [of_segment] = results["brightness", path]
    [of_frame] = of_segment
    return float(of_frame)


def test_futures_found_by_their_ids_give_each_picture_its_own_brightness(
    server: Server, pictures: dict[str, float]
) -> None:
    futures: list[tuple[list[str], str]] = []
    for order in orders(pictures):
        with amber.connect(server.url) as client:
            futures.append((order, client.submit(["brightness", "size"], order).id))
    for order, id in futures:
        expected = [pictures[path] for path in order]
        sizes = [Path(path).stat().st_size for path in order]
        for _ in range(CONNECTIONS):
            with amber.connect(server.url) as client:
                results = client.future(id).results(120)
            found = [brightness_of(results, path) for path in order]
            np.testing.assert_allclose(found, expected, atol=0.002)
            assert [results["size", path] for path in order] == sizes
    assert server.runs("size") == COUNT


def test_a_table_stands_under_the_names_that_were_asked(server: Server, pictures: dict[str, float]) -> None:
    for order in orders(pictures):
        with amber.connect(server.url) as client:
            results = client.get_many(["brightness"], order, progress=False)
        assert [path for _, path in results] == order
        found = [brightness_of(results, path) for path in order]
        np.testing.assert_allclose(found, [pictures[path] for path in order], atol=0.002)


def test_a_server_lists_results_in_the_order_of_the_request(
    server: Server, pictures: dict[str, float]
) -> None:
    for gate, order in zip("abc", orders(pictures), strict=True):
        body = {"features": ["gated"], "assets": [{"uri": path} for path in order]}
        before = server.runs("gated")
        with server.client() as http:
            ids = [http.post("/v1/assets", json={"uri": path}).json()["id"] for path in order]
            body["params"] = {"gated.name": gate}
            view = http.post("/v1/compute", json=body, headers={"Prefer": "wait=0"}).json()
        assert view["state"] == "running"
        # Callers who wait at the same time are spread over the replicas.
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            waiting = [threads.submit(asked_about, server, view["id"]) for _ in range(CONNECTIONS)]
            server.until(lambda before=before: server.runs("gated") > before)
            server.open(gate)
            for later in [one.result(90) for one in waiting]:
                assert [r["asset"] for r in later["results"]] == ids
                assert [r["state"] for r in later["results"]] == ["ready"] * COUNT


def hits(server: Server) -> float:
    """How many answers were there already, as each of several new connections is told."""
    told = set()
    for _ in range(CONNECTIONS):
        lines = again(server, lambda http: http.get("/metrics")).text.splitlines()
        told.add(sum(float(line.split()[1]) for line in lines if line.startswith("amber_hits_total{")))
    assert len(told) == 1
    return told.pop()


def again(server: Server, call: Callable[[httpx.Client], httpx.Response]) -> httpx.Response:
    """An answer, also where a process that was just killed had been handed the connection."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with server.client() as http:
                return call(http)
        except httpx.TransportError:
            assert time.monotonic() < deadline


def test_every_answer_counts_once_whichever_replica_gave_it(
    server: Server, pictures: dict[str, float]
) -> None:
    body = {"features": ["brightness"], "assets": [{"uri": path} for path in list(pictures)[:10]]}

    wait = {"Prefer": "wait=60"}

    def asked(times: int) -> None:
        for _ in range(times):
            view = again(server, lambda http: http.post("/v1/compute", json=body, headers=wait)).json()
            assert [r["state"] for r in view["results"]] == ["ready"] * 10

    asked(1)
    before = hits(server)
    asked(30)
    assert hits(server) == before + 300
    replica, *others = [pid for pid, line in server.processes().items() if "ServeReplica" in line]
    assert others
    os.kill(replica, signal.SIGKILL)
    assert hits(server) == before + 300
    asked(10)
    assert hits(server) == before + 400


def test_a_callers_trace_goes_through_every_process_to_the_writing_of_the_values(
    server: Server, pictures: dict[str, float], collector: Collector
) -> None:
    trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    body = {
        "features": ["brightness", "gated"],
        "assets": [{"uri": path} for path in list(pictures)[:4]],
        "params": {"gated.name": "traced"},
        "refresh": True,
    }

    def ask(traceparent: str, **more: Any) -> dict[str, Any]:
        headers = {"traceparent": traceparent, "Prefer": "wait=0"}
        answer = again(server, lambda http: http.post("/v1/compute", json=body | more, headers=headers))
        view: dict[str, Any] = answer.json()
        return view

    before = server.runs("gated")
    first = ask(f"00-{trace}-{caller}-01")
    server.until(lambda: server.runs("gated") > before)
    # Others ask for the same while it runs: in a trace of their own, in one that is not to be recorded,
    # and in one that can't be read.
    second = ask(f"00-{'b' * 32}-{caller}-01", refresh=False)
    third = ask(f"00-{'c' * 32}-{caller}-00", refresh=False)
    ask(f"00-{'d' * 32}-{caller}-01-too-much", refresh=False)
    server.open("traced")
    for view in (first, second, third):
        assert asked_about(server, view["id"])["state"] == "done"

    def named(name: str, trace: str = trace) -> list[Received]:
        return [span for span in collector.of(trace) if span.name == name]

    def all_there() -> bool:  # each process sends its own
        known = {caller, *(span.span for span in collector.of(trace))}
        written = {span.attributes["amber.feature"] for span in named("write")}
        return (
            len(named("gated")) == 4
            and written == {"brightness", "gated"}
            and bool(named("plan") and named("wait", "b" * 32))
            and all(span.parent in known for span in collector.of(trace))
        )

    collector.until(all_there)
    spans = {span.span: span for span in collector.of(trace)}
    [request] = named("POST /v1/compute")
    assert request.parent == caller
    assert request.attributes["http.response.status_code"] == 202
    for span in spans.values():
        assert span is request or span.parent in spans, span
    below = {
        "plan": request.name,
        "wait": request.name,
        "gated": "task",
        "brightness": "task",
        "write": "task",
    }
    for name, above in below.items():
        assert {spans[span.parent].name for span in named(name)} == {above}
    lines = server.processes()
    for name, words in (("plan", "ServeReplica"), ("wait", "CacheActor"), ("gated", "ray::")):
        assert all(words in lines.get(span.pid, words) for span in named(name)), (name, lines)
    assert len({one.pid for name in ("plan", "wait", "gated") for one in named(name)[:1]}) == 3
    joined = {link for span in named("wait", "b" * 32) for link in span.links}
    assert joined
    assert {spans[link].name for link in joined} == {"task"}
    assert not collector.of("c" * 32)
    assert not collector.of("d" * 32)


def asked_about(server: Server, id: str) -> Any:
    """The request as a new connection is told it at its end."""
    with httpx.Client(base_url=server.url, timeout=90, trust_env=False) as http:
        return http.get(f"/v1/requests/{id}", headers={"Prefer": "wait=60"}).json()


@pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="no Prometheus here reads what the server tells: apt-get install prometheus",
)
def test_prometheus_finds_every_series_of_the_dashboard(
    server: Server, pictures: dict[str, float], tmp_path: Path
) -> None:
    server.compute("brightness,size", *list(pictures)[:2])
    server.compute("doubler", range=[0, 5])  # a warm actor's
    demand = {"features": ["size"], "prefixes": [f"{server.media}/"], "every": 3600}
    assert again(server, lambda http: http.put("/v1/demands/pictures", json=demand)).is_success
    text = again(server, lambda http: http.get("/metrics")).text
    deployed = Path(__file__).parents[2] / "deployments"
    for words, given in (("check metrics", text), (f"check rules {deployed}/prometheus/alerts.yaml", "")):
        done = subprocess.run(
            ["promtool", *words.split()], input=given, capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
    [port] = free_ports((0,))
    scraped = {"job_name": "amber", "static_configs": [{"targets": [server.url.removeprefix("http://")]}]}
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scraped]}
    (tmp_path / "prometheus.yaml").write_text(json.dumps(config))
    panels = json.loads((deployed / "grafana" / "dashboard.json").read_text())["panels"]
    asked = {name for p in panels for t in p["targets"] for name in re.findall(r"amber_\w+", t["expr"])}
    with subprocess.Popen(
        [
            "prometheus",
            f"--config.file={tmp_path}/prometheus.yaml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            missing = asked
            deadline = time.monotonic() + 60
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as http:
                while missing:
                    assert time.monotonic() < deadline, missing
                    time.sleep(0.2)
                    with contextlib.suppress(httpx.TransportError):  # it does not listen yet
                        answer = http.get("/api/v1/label/__name__/values")
                        if answer.is_success:  # it answers 503, in plain text, until it has read its own log
                            missing = asked - set(answer.json()["data"])
        finally:
            process.terminate()
            process.wait(30)
