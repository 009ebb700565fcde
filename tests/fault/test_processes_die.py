"""`kill -9` of one process or one node at a time, in a cluster that goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import amber_ray
from amber_ray.testing import asset as identified
from tests.fault.cluster import Caller, Cluster, end, received

pytestmark = pytest.mark.timeout(600)
Told = Callable[..., None]


def test_a_worker_killed_in_mid_task(cluster: Cluster, told: Told) -> None:
    victim, other = cluster.clip(2)
    callers = [Caller(cluster, "pinned", clip) for clip in (victim, other)]
    cluster.until(lambda: cluster.runs("pinned") == 2)
    (pid, asset), (_, spared) = (line.split() for line in cluster.lines("pinned"))
    cluster.open(f"pinned-{spared}")
    cluster.until(lambda: any(not c.is_alive() for c in callers))

    end(int(pid))
    seconds = cluster.answered()

    cluster.until(lambda: cluster.runs("pinned") == 3)
    cluster.open(f"pinned-{asset}")
    views = [c.done().view for c in callers]
    assert [v["state"] for v in views] == ["done", "done"]
    ran = [line.split()[1] for line in cluster.lines("pinned")]
    assert (ran.count(asset), ran.count(spared)) == (2, 1)
    told("a worker in mid-task", seconds, ran.count(asset) - 1)


def test_the_node_that_holds_the_results(cluster: Cluster, told: Told) -> None:
    """Nobody reads a value before the node dies: a reader would have left a copy where it is."""
    (clip,) = cluster.clip()
    cluster.add_node("spare")
    kept = cluster.compute("far", clip).json()
    fleeting = cluster.compute("fleeting", clip).json()
    assert (kept["state"], fleeting["state"]) == ("done", "done")
    cluster.written()
    segments = len(kept["results"])
    assert (cluster.runs("far"), cluster.runs("fleeting")) == (segments, segments)

    cluster.kill_node("spare")
    reader = Caller(cluster, "from_far", clip)  # before anyone knows that its inputs are gone
    seconds = cluster.answered()

    assert reader.done().view["results"][0]["value"] == sum((i + 0.5) * 262_144 for i in range(segments))
    for i, found in enumerate(cluster.arrays(kept)):
        assert np.array_equal(found, np.full(262_144, i + 0.5, np.float32))
    assert cluster.runs("far") == segments
    told("the node that holds the results", seconds, 0)

    cluster.add_node("spare")
    with cluster.client() as client:
        lost = client.get(f"/v1/values/{fleeting['results'][0]['key']}")
    assert (lost.status_code, lost.json()["error"]) == (503, "Unavailable"), lost.text
    assert "lost with the node" in lost.json()["detail"]
    for result in fleeting["results"][1:]:
        with cluster.client() as client:
            assert client.get(f"/v1/values/{result['key']}").status_code == 503
    again = cluster.compute("fleeting", clip).json()
    for i, found in enumerate(cluster.arrays(again)):
        assert np.array_equal(found, np.full(262_144, i, np.float32))
    assert cluster.runs("fleeting") == 2 * segments
    told("... of values that are never stored", seconds, segments)
    cluster.kill_node("spare")


def test_whatever_makes_a_window_that_was_found(cluster: Cluster, told: Told) -> None:
    """Two windows of three are stored; the third one's worker, shard and node die, one after the other."""
    (clip,) = cluster.clip()
    film = identified(clip).id
    cluster.add_node("spare")
    for start in (0, 3):
        cluster.open(f"far_act-{film}-{start}")
    stored = cluster.compute("far_act", clip, range=[0, 4]).json()
    assert [r["value"] for r in stored["results"]] == [[0.0, 3.0], [3.0, 17.0]]
    cluster.written()

    with amber_ray.connect(cluster.url) as client:
        accepted = client.submit(["far_act", "far_play"], str(clip))
        cluster.until(lambda: cluster.runs("far_act") == 3)
        callers = [Caller(cluster, "far_act", clip)]
        victims = (
            ("the worker", lambda: end(int(cluster.lines("far_act")[-1].split()[0]))),
            ("the shard", lambda: end(cluster.actor())),
            ("the node", lambda: cluster.kill_node("spare")),
        )
        for tries, (victim, kill) in enumerate(victims, 4):
            kill()
            seconds = cluster.answered("probe")
            if victim == "the node":
                cluster.add_node("spare")
            cluster.until(lambda tries=tries: cluster.runs("far_act") == tries)
            callers.append(Caller(cluster, "far_act", clip))
            told(f"{victim} of a window that was found", seconds, 1)
        cluster.open(f"far_act-{film}-17")
        each = [[0.0, 3.0], [3.0, 17.0], [17.0, 20.0]]
        results = accepted.result(90)
        assert (results["far_act", str(clip)], results["far_play", str(clip)]) == (each, each)
    for caller in callers:
        reply = caller.done().reply
        assert reply is not None, caller.error
        assert reply.status_code in (200, 202), reply.text
    starts = [line.split()[-1] for line in cluster.lines("far_act")]
    assert [starts.count(start) for start in ("0", "3", "17")] == [1, 1, 4]
    assert (cluster.runs("acts"), cluster.runs("far_play")) == (1, 1)
    cluster.kill_node("spare")


def test_the_cache_actor_while_it_is_idle(cluster: Cluster, told: Told) -> None:
    (clip,) = cluster.clip()
    first = cluster.compute("near,size", clip).json()
    cluster.written()
    before = cluster.values(first)
    runs = cluster.runs("near"), cluster.runs("size")

    end(cluster.actor())
    seconds = cluster.answered("probe")

    again = cluster.compute("near,size", clip).json()
    assert {r["cached"] for r in again["results"]} == {True}
    assert cluster.values(again) == before
    assert (cluster.runs("near"), cluster.runs("size")) == runs
    told("the cache actor, idle", seconds, 0)


def test_the_cache_actor_while_requests_come_in(cluster: Cluster, told: Told) -> None:
    clips = cluster.clip(40)
    assert cluster.compute("size", *clips[:20]).json()["state"] == "done"
    cluster.written()
    runs = cluster.runs("size")
    actor = cluster.actor()
    os.kill(actor, signal.SIGSTOP)
    quiet = received(actor)
    callers = [Caller(cluster, "size,left,right,diamond", *clips[i::10]) for i in range(10)]
    # Their submissions are at its door, and it will never read them.
    cluster_until(lambda: received(actor) > quiet + 10_000)

    end(actor)
    seconds = cluster.answered("probe")

    assert [c.done().view["state"] for c in callers] == ["done"] * len(callers)
    assert {r["state"] for c in callers for r in c.view["results"]} == {"ready"}
    assert cluster.runs("size") == runs + 20
    assert cluster.runs("diamond") == 40
    told("the cache actor, as requests come in", seconds, cluster.runs("size") - runs - 20)


def test_one_of_two_replicas_with_callers_waiting(cluster: Cluster, told: Told) -> None:
    """The other one answers: who was accepted asks it, and who waited asks it the same again and joins."""
    clips = cluster.clip(6)
    bare = [Caller(cluster, "gated", clip) for clip in clips]  # one connection each, and no second try
    with amber_ray.connect(cluster.url) as client, ThreadPoolExecutor(2 * len(clips)) as pool:
        accepted = [client.submit("gated", str(clip)) for clip in clips]
        waiting = [pool.submit(client.get, "gated", str(clip), timeout=90) for clip in clips]
        polling = [pool.submit(future.result, 90) for future in accepted]
        cluster.until(lambda: cluster.stats()["requests_running"] == 3 * len(clips))
        replicas = cluster.pids("ray::ServeReplica")
        assert len(replicas) == 2

        end(replicas[0])
        cluster.open("gated")
        seconds = cluster.answered()

        sizes = [clip.stat().st_size for clip in clips]
        assert [call.result(90) for call in polling] == sizes
        assert [call.result(90) for call in waiting] == sizes
    cut_off = [c for c in bare if c.done().reply is None or c.reply.status_code >= 500]
    assert cut_off, "nobody was connected to the replica that died"
    assert sum(c.reply is not None and c.reply.status_code == 200 for c in bare) == len(bare) - len(cut_off)
    assert cluster.runs("gated") == len(clips)
    cluster.until(lambda: len(cluster.pids("ray::ServeReplica")) == 2)
    told("one of two Serve replicas, callers waiting", seconds, cluster.runs("gated") - len(clips))


def cluster_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Like `Service.until`, where nobody can be asked for statistics."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def parts(cluster: Cluster, feature: str) -> set[Path]:
    return set((cluster.store / "values" / feature).glob("*/part-*.parquet"))


def writing(cluster: Cluster) -> int:
    """The process that writes values now, stopped in its tracks."""
    give_up = time.monotonic() + 20
    known = set(cluster.processes())
    while True:
        assert time.monotonic() < give_up
        for pid in known:
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if line.startswith(b"ray::write"):
                end(pid, signal.SIGSTOP)
                return pid
        known = set(cluster.pids("ray::"))


def test_a_gcs_that_dies_and_comes_back(cluster: Cluster, told: Told) -> None:
    (clip, slow) = cluster.clip(2)
    first = cluster.compute("near,size", clip).json()
    cluster.written()
    before, runs = cluster.values(first), cluster.runs("size")
    caller = Caller(cluster, "pinned", slow)
    cluster.until(lambda: cluster.runs("pinned") == 1)

    argv, env = cluster.kill_gcs()
    assert cluster.values(first) == before  # nothing of it needs GCS
    cluster.start_gcs(argv, env)
    seconds = cluster.answered()

    cluster.open(f"pinned-{cluster.lines('pinned')[0].split()[1]}")
    assert caller.done().view["state"] == "done"
    assert cluster.compute("size", clip).json()["results"][0]["cached"]
    assert (cluster.runs("size"), cluster.runs("pinned")) == (runs + 1, 1)
    told("GCS, killed and started again", seconds, 0)


def test_the_serve_controller(cluster: Cluster, told: Told) -> None:
    (slow,) = cluster.clip()
    caller = Caller(cluster, "pinned", slow)
    cluster.until(lambda: cluster.runs("pinned") == 1)
    (controller,) = cluster.pids("ray::ServeController")

    end(controller)
    seconds = cluster.answered()

    cluster.open(f"pinned-{cluster.lines('pinned')[0].split()[1]}")
    assert caller.done().view["state"] == "done"
    assert cluster.runs("pinned") == 1
    cluster.until(lambda: cluster.pids("ray::ServeController") not in ([], [controller]))
    assert cluster.answered() < 30
    told("the Serve controller", seconds, 0)


def test_the_cache_actor_between_a_write_and_the_news_of_it(cluster: Cluster, told: Told) -> None:
    """The part is published, the actor never hears: it is found at the next start."""
    (clip,) = cluster.clip()
    actor = cluster.actor()
    cluster.written()
    with_writer = Caller(cluster, "near", clip, range=[2, 8])  # one segment, so one write
    writer = writing(cluster)
    end(actor, signal.SIGSTOP)
    known = parts(cluster, "near")
    end(writer, signal.SIGCONT)
    cluster_until(lambda: parts(cluster, "near") > known)

    end(actor)
    seconds = cluster.answered()

    view = with_writer.done().view
    assert view["state"] == "done"
    assert cluster.runs("near") == len(view["results"])
    told("the cache actor, just before it hears of a write", seconds, 0)


def test_the_cache_actor_during_a_spill(cluster: Cluster, told: Told) -> None:
    """The part is never published, and no reader ever sees half of it."""
    (stored, clip) = cluster.clip(2)
    before = cluster.values(cluster.compute("near", stored).json())
    cluster.written()
    known, runs = parts(cluster, "near"), cluster.runs("near")
    caller = Caller(cluster, "near", clip)
    writer = writing(cluster)
    assert parts(cluster, "near") == known

    end(cluster.actor())
    end(writer)
    seconds = cluster.answered()

    view = caller.done().view
    again = cluster.compute("near", stored, clip).json()
    assert (view["state"], again["state"]) == ("done", "done")
    assert cluster.values(again)[: len(before)] == before
    lost = cluster.runs("near") - runs - len(view["results"])
    assert lost <= len(view["results"])  # their only copies died with the actor
    told("the cache actor, during a spill", seconds, lost)
