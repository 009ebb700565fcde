"""`kill -9` of every process of a server, and another start on the same store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from amber_ray.testing import asset as identified
from tests.server import CLIP, Server

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill_everything()


def test_an_accepted_request_finishes_after_everything_died_and_nothing_is_computed_again(
    server: Server,
) -> None:
    server.start()
    assert server.compute("size,diamond").json()["state"] == "done"
    film = identified(CLIP).id
    for start in (0, 3):
        server.open(f"act-{film}-{start}")
    assert server.compute("act", range=[0, 4]).json()["state"] == "done"  # two windows of three
    server.until(lambda: server.stats()["keys_hot"] == 0)
    accepted = server.compute("gated", wait=0)
    windows = server.compute("act,play", wait=0)
    assert (accepted.status_code, windows.status_code) == (202, 202)
    server.until(lambda: server.runs("gated") == 1 and server.runs("act") == 3)
    before = {name: server.runs(name) for name in ("size", "diamond", "left", "right", "root", "acts")}

    server.kill_everything()
    server.start()

    with server.client() as client:
        place = accepted.headers["location"]
        assert client.get(place).json()["state"] == "running"
        server.open("gated")
        server.until(lambda: client.get(place).json()["state"] == "done", 120)
        view = client.get(place).json()
        assert view["results"][0]["value"] == os.path.getsize(CLIP)
        server.open(f"act-{film}-17")
        place = windows.headers["location"]
        server.until(lambda: client.get(place).json()["state"] == "done", 120)
        each = [[0.0, 3.0], [3.0, 17.0], [17.0, 20.0]]
        assert [r["value"] for r in client.get(place).json()["results"]] == [*each, each]
        starts = [line.split()[-1] for line in server.lines("act")]
        assert sorted(starts) == ["0", "17", "17", "3"]  # what was stored was not made again
    again = server.compute("size,diamond").json()
    assert [r["cached"] for r in again["results"]] == [True, True]
    assert {name: server.runs(name) for name in before} == before
    assert server.stop() == 0
    server.until(lambda: not server.processes(), 15)


def test_the_cache_actor_dies_while_callers_wait(server: Server) -> None:
    import threading

    server.start()
    clips = []
    for i in range(8):
        path = server.media / f"{i}.mp4"
        path.write_bytes(CLIP.read_bytes() + (12).to_bytes(4, "big") + b"free" + i.to_bytes(4, "big"))
        clips.append(path)
    assert server.compute("size", *clips).json()["state"] == "done"
    server.until(lambda: server.stats()["keys_hot"] == 0)
    sizes = server.runs("size")
    replies: list[dict[str, object]] = []
    callers = [
        threading.Thread(target=lambda p=p: replies.append(server.compute("gated,size", p).json()))
        for p in clips
    ]
    for caller in callers:
        caller.start()
    server.until(lambda: server.runs("gated") >= 2)
    assert server.kill("CacheActor") == 1
    server.open("gated")
    for caller in callers:
        caller.join(90)
    assert [r["state"] for r in replies] == ["done"] * len(clips)
    assert server.runs("size") == sizes
