"""Steps that harm the process they run in, or won't leave it, in a cluster that goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory

from tests.fault.cluster import Caller, Cluster

pytestmark = pytest.mark.timeout(600)
Told = Callable[..., None]


def test_a_step_that_segfaults(cluster: Cluster, told: Told) -> None:
    """It takes its worker along three times and no more; what was packed with it has its value."""
    clips = cluster.clip(4)
    (running,) = cluster.clip()
    neighbour = Caller(cluster, "pinned", running)
    cluster.until(lambda: cluster.runs("pinned") == 1)
    poison = asset_id(cluster, clips[0])
    given = {"params": {"segfaults.poison": poison}}

    view = cluster.compute("segfaults", *clips, **given).json()
    seconds = cluster.answered()

    bad, *good = view["results"]
    assert [r["value"] for r in good] == [clip.stat().st_size for clip in clips[1:]]
    assert bad["state"] == "failed"
    told_of = bad["error"]
    assert (told_of["kind"], told_of["type"], told_of["step"]) == ("system", "Quarantined", "segfaults")
    assert (told_of["attempts"], told_of["unit"]) == (3, poison)
    assert told_of["message"] == (
        "the worker process died while it ran the step, each of the 3 times it was tried alone; "
        "this unit is set aside for a while, and refresh tries it again"
    )
    ran = cluster.lines("segfaults")
    assert ran.count(poison) <= 1 + 3  # once among others, then alone
    recomputed = len(ran) - ran.count(poison) - len(good)
    assert recomputed <= len(good)

    again = cluster.compute("segfaults", *clips, **given).json()["results"]
    assert [r["state"] for r in again] == ["failed", "ready", "ready", "ready"]
    assert cluster.lines("segfaults") == ran
    cluster.open(f"pinned-{cluster.lines('pinned')[0].split()[1]}")
    assert neighbour.done().view["state"] == "done"
    assert cluster.runs("pinned") == 1
    told("a step that segfaults", seconds, recomputed)


def test_a_step_that_eats_all_memory(cluster: Cluster, told: Told) -> None:
    """Ray ends the worker before the machine is full; here \"full\" is 2 GiB more than is in use now.

    What other tests take or give back meanwhile is less than that.
    """
    greedy, running = cluster.clip(2)
    neighbour = Caller(cluster, "pinned", running)
    cluster.until(lambda: cluster.runs("pinned") == 1)
    full = (get_used_memory() + (2 << 30)) / get_system_memory()
    watched = {"RAY_memory_monitor_refresh_ms": "50", "RAY_memory_usage_threshold": f"{full:.4f}"}
    cluster.add_node("cramped", env=watched)
    try:
        failed = cluster.compute("greedy", greedy).json()["results"][0]
        seconds = cluster.answered()
    finally:
        cluster.kill_node("cramped")

    assert failed["state"] == "failed"
    told_of = failed["error"]
    assert (told_of["type"], told_of["step"], told_of["attempts"]) == ("Quarantined", "greedy", 2)
    assert told_of["message"].startswith("the worker ran out of memory and was stopped, each of the 2 times")
    assert cluster.runs("greedy") == 2
    cluster.open(f"pinned-{cluster.lines('pinned')[0].split()[1]}")
    assert neighbour.done().view["state"] == "done"
    assert cluster.runs("pinned") == 1
    told("a step that eats all memory", seconds, 0)


@pytest.mark.parametrize(
    ("feature", "leave"),
    [("stubborn", "hang up"), ("headstrong", "delete")],
)
def test_a_step_that_ignores_cancellation(cluster: Cluster, told: Told, feature: str, leave: str) -> None:
    """Its process is ended and its CPU free; a step that someone else waits for too goes on."""
    common, mine = cluster.clip(2)
    other = Caller(cluster, "stubborn", common)
    cluster.until(lambda: cluster.runs("stubborn") == 1)
    (shared,) = pids(cluster, "stubborn")
    left = cluster.compute("stubborn", common, wait=0)
    assert left.status_code == 202

    with contextlib.ExitStack() as stack:
        if leave == "hang up":
            asking = stack.enter_context(Hanging(cluster, feature, mine))
        else:
            asking = cluster.compute(feature, mine, wait=0)
        cluster.until(lambda: len(pids(cluster, feature) - {shared}) == 1)
        (alone,) = pids(cluster, feature) - {shared}
        # The shared step is left first: had it been given up, it would be gone before the other one.
        cancel(cluster, left)
        if leave == "delete":
            cancel(cluster, asking)
    cluster.until(lambda: alone not in cluster.processes())
    seconds = cluster.answered(seconds=30)

    assert shared in cluster.processes()
    cluster.open("stubborn")
    assert other.done().view["results"][0]["value"] == common.stat().st_size
    assert [line.split()[0] for line in cluster.lines("stubborn")].count(str(shared)) == 1
    told(f"{feature}: a step that ignores cancellation ({leave})", seconds, 0)


class Hanging:
    """One who asks and hangs up: the connection is closed when the block ends, before any answer."""

    def __init__(self, cluster: Cluster, feature: str, clip: Path) -> None:
        self._url = httpx.URL(cluster.url)
        self._ask = cluster, feature, clip

    def __enter__(self) -> Hanging:
        import json
        import socket

        _, feature, clip = self._ask
        body = json.dumps({"features": [feature], "assets": [{"uri": str(clip)}]}).encode()
        self._socket = socket.create_connection((self._url.host, self._url.port), timeout=30)
        head = (
            f"POST /v1/compute HTTP/1.1\r\nHost: {self._url.host}\r\nContent-Type: application/json\r\n"
            f"Prefer: wait=60\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()


def cancel(cluster: Cluster, accepted: Any) -> None:
    with cluster.client() as client:
        reply = client.delete(accepted.headers["location"])
    assert reply.json()["state"] == "cancelled", reply.text


def pids(cluster: Cluster, feature: str) -> set[int]:
    return {int(line.split()[0]) for line in cluster.lines(feature)}


def asset_id(cluster: Cluster, clip: Path) -> str:
    with cluster.client() as client:
        return str(client.post("/v1/assets", json={"uri": str(clip)}).json()["id"])
