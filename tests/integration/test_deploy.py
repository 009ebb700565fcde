"""`serve deploy deployments/serve.yaml` on a Ray that is already running, guarded by its token."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from amber_ray.serving import front

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Cluster:
    dashboard: str
    token: str
    env: dict[str, str]
    port: int

    def command(self, *words: str, timeout: float = 90) -> str:
        done = subprocess.run(
            words, env=self.env, capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def processes_of(place: Path) -> list[int]:
    """The processes whose command line or environment names the cluster's own folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue  # it ended meanwhile
            if bytes(place) in text and state != "Z":
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # Ray puts sockets below its folder, and the path of a socket is at most 107 bytes long.
    place = Path("/tmp") / f"amber-deploy-{secrets.token_hex(4)}"
    place.mkdir()
    token = secrets.token_hex(32)
    (place / "token").write_text(token)
    head, dashboard, agent, agent_rpc, env_agent, metrics, client, proxy_stats, proxy_metrics = (
        front.free_ports((0,) * 9)
    )
    env = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(ROOT / "deployments" / "haproxy"),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(proxy_stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(proxy_metrics),
        "RAY_ADDRESS": f"127.0.0.1:{head}",
        "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{dashboard}",
    }
    start = [
        *(str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1", "--num-cpus=2"),
        *(f"--port={head}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"),
        *(f"--dashboard-agent-grpc-port={agent_rpc}", f"--runtime-env-agent-port={env_agent}"),
        *(f"--metrics-export-port={metrics}", f"--ray-client-server-port={client}"),
        *(f"--temp-dir={place}", "--object-store-memory=200000000", "--include-dashboard=true"),
    ]
    log = (place / "start.log").open("wb")
    daemon = subprocess.Popen(
        start,
        env={k: v for k, v in env.items() if k != "RAY_ADDRESS"},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        answer(
            f"http://127.0.0.1:{dashboard}/api/version", lambda: daemon.poll() is None, place / "start.log"
        )
        [port] = front.free_ports((0,))  # Serve keeps it for good
        yield Cluster(f"http://127.0.0.1:{dashboard}", token, env, port)
    finally:
        daemon.kill()  # asked to end, it would wait half a minute for Serve
        daemon.wait(10)
        log.close()
        for process in processes_of(place):
            with_no_such_process(process)
        shutil.rmtree(place, ignore_errors=True)


def with_no_such_process(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def answer(url: str, alive: Any, log: Path, seconds: float = 90) -> int:
    """The status of the first answer at `url`; fails with the log if there is none in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and alive():
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"nothing answered at {url}:\n{log.read_text()[-3000:]}")


def ask(url: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Prefer": "wait=60"}
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=90) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def deployed(cluster: Cluster) -> None:
    """Wait until what was deployed last runs, everywhere."""
    # What `serve status` asks; the command takes seconds of a CPU to import what it needs.
    told = urllib.request.Request(
        f"{cluster.dashboard}/api/serve/applications/", headers={"Authorization": f"Bearer {cluster.token}"}
    )
    until = time.monotonic() + 120
    while True:
        with urllib.request.urlopen(told, timeout=30) as response:
            status = json.load(response)["applications"].get("amber", {})
        if status.get("status") == "RUNNING":
            return
        assert status.get("status") != "DEPLOY_FAILED", status
        assert time.monotonic() < until, status
        time.sleep(0.2)


@pytest.mark.timeout(300)
def test_serve_deploy_brings_amber_up(cluster: Cluster, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    [clip] = (ROOT / "amber_ray/samples").glob("*-30s.mp4")
    shutil.copy(clip, media / "clip.mp4")
    port = cluster.port
    config = yaml.safe_load((ROOT / "deployments/serve.yaml").read_text())
    config["http_options"]["port"] = port
    args = config["applications"][0]["args"]
    args |= {"port": port, "store": str(tmp_path / "store"), "media_roots": [str(media)]}
    edited = tmp_path / "serve.yaml"
    edited.write_text(yaml.safe_dump(config))

    cluster.command(str(BIN / "serve"), "deploy", str(edited), "--address", cluster.dashboard)
    base = f"http://127.0.0.1:{port}"
    deployed(cluster)
    assert ask(f"{base}/healthz")[0] == 200
    code, view = ask(
        f"{base}/v1/compute", {"features": ["probe"], "assets": [{"uri": str(media / "clip.mp4")}]}
    )
    assert (code, view["state"]) == (200, "done")
    [result] = view["results"]
    assert result["state"] == "ready"
    assert (
        ask(f"{base}{result['href']}" if result.get("href") else f"{base}/v1/values/{result['key']}")[0]
        == 200
    )
    # The settings of the file are in force: nothing outside its media roots is read.
    code, problem = ask(f"{base}/v1/compute", {"features": ["probe"], "assets": [{"uri": str(clip)}]})
    assert "Forbidden" in json.dumps(problem), (code, problem)


CODE = """
import os, time
from amber_ray import Asset, feature

@feature
def answer(asset: Asset) -> int:
    return {answer}

@feature(version="1")
def gated(asset: Asset) -> int:
    while not os.path.exists({gate!r}):
        time.sleep(0.02)
    return 7
"""


@pytest.mark.timeout(300)
def test_new_code_under_the_same_file_is_deployed_and_nobody_is_cut_off(
    cluster: Cluster, tmp_path: Path
) -> None:
    gate, code, edited = tmp_path / "gate", tmp_path / "my_features.py", tmp_path / "serve.yaml"
    [clip] = (ROOT / "amber_ray/samples").glob("*-30s.mp4")
    port = cluster.port
    config = yaml.safe_load((ROOT / "deployments/serve.yaml").read_text())
    config["http_options"]["port"] = port
    config["applications"][0]["args"] |= {
        "port": port,
        "store": str(tmp_path / "store"),
        "media_roots": [str(clip.parent)],
        "features": [str(code)],
        "builtins": False,
        "namespace": "edited",
        "replicas": 2,
        "drain_seconds": 2.0,
    }
    edited.write_text(yaml.safe_dump(config))
    base = f"http://127.0.0.1:{port}"

    def deploy() -> None:
        cluster.command(
            *(sys.executable, "-m", "amber_ray.cli", "deploy", str(edited), "-a", cluster.dashboard)
        )

    def body(feature: str) -> dict[str, Any]:
        return {"features": [feature], "assets": [{"uri": str(clip)}]}

    code.write_text(CODE.format(answer=1, gate=str(gate)))
    deploy()
    deployed(cluster)
    assert ask(f"{base}/v1/compute", body("answer"))[1]["results"][0]["value"] == 1

    answers: list[tuple[int, Any]] = []
    with ThreadPoolExecutor(5) as threads:
        waiting = [threads.submit(ask, f"{base}/v1/compute", body("gated")) for _ in range(4)]
        code.write_text(CODE.format(answer=2, gate=str(gate)))
        deploy()
        until = time.monotonic() + 120
        while not answers or answers[-1][1]["results"][0]["value"] != 2:
            assert time.monotonic() < until, answers[-1]
            answers.append(ask(f"{base}/v1/compute", body("answer")))
            assert answers[-1][0] == 200
        deployed(cluster)
        accepted = [one.result(90) for one in waiting]
    assert [(status, view["state"]) for status, view in accepted] == [(202, "running")] * 4
    gate.touch()
    for _, view in accepted:
        status, later = ask(f"{base}/v1/requests/{view['id']}")
        assert (status, later["state"], later["results"][0]["value"]) == (200, "done", 7)
    assert [ask(f"{base}/v1/compute", body("answer"))[1]["results"][0]["value"] for _ in range(8)] == [2] * 8
