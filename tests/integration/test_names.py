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
from tests.server import Server, running

pytestmark = pytest.mark.timeout(240)

COUNT = 40
CONNECTIONS = 6
"""New connections that ask for each request: with two replicas both are met."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from running(tmp_path_factory.mktemp("names"), "--shards", "3", "--replicas", "2")


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
