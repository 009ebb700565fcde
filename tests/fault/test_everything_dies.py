"""`kill -9` of every process of a server, and another start on the same store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    server.until(lambda: server.stats()["keys_hot"] == 0)
    accepted = server.compute("gated", wait=0)
    assert accepted.status_code == 202
    server.until(lambda: server.runs("gated") == 1)
    before = {name: server.runs(name) for name in ("size", "diamond", "left", "right", "root")}

    server.kill_everything()
    server.start()

    with server.client() as client:
        place = accepted.headers["location"]
        assert client.get(place).json()["state"] == "running"
        server.open("gated")
        server.until(lambda: client.get(place).json()["state"] == "done", 120)
        view = client.get(place).json()
        assert view["results"][0]["value"] == os.path.getsize(CLIP)
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
