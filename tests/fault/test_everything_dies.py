"""`kill -9` of every process of a server, and another start on the same store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from amber_ray.testing import asset as identified
from tests.fault import storm
from tests.fault.hooks import SECRETS, Hooks
from tests.server import CLIP, Server
from tests.unit.core.deliveries.test_urls import MALFORMED

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    hooks = Hooks()
    yield hooks
    hooks.close()


@pytest.fixture
def inner() -> Iterator[Hooks]:
    """One whose host is named and whose address is not allowed."""
    inner = Hooks("127.0.0.2")
    yield inner
    inner.close()


@pytest.fixture
def server(tmp_path: Path, hooks: Hooks, inner: Hooks) -> Iterator[Server]:
    server = Server(
        tmp_path,
        *("--callback-host", hooks.origin, "--callback-address", "127.0.0.1"),
        *("--callback-host", inner.origin),
        env={"AMBER_CALLBACK_SECRETS": ",".join(SECRETS)},
    )
    yield server
    server.kill_everything()


def test_an_accepted_request_finishes_after_everything_died_and_nothing_is_computed_again(
    server: Server, hooks: Hooks
) -> None:
    server.start()
    hooks.down = True
    callback = {"url": f"{hooks.origin}/"}
    early = server.compute("size", callback=callback).json()["id"]
    server.until(lambda: hooks.about(early))
    assert server.compute("size,diamond").json()["state"] == "done"
    film = identified(CLIP).id
    for start in (0, 3):
        server.open(f"act-{film}-{start}")
    assert server.compute("act", range=[0, 4]).json()["state"] == "done"  # two windows of three
    server.until(lambda: server.stats()["keys_hot"] == 0)
    accepted = server.compute("gated", wait=0, callback=callback)
    windows = server.compute("act,play", wait=0)
    assert (accepted.status_code, windows.status_code) == (202, 202)
    server.until(lambda: server.runs("gated") == 1 and server.runs("act") == 3)
    before = {name: server.runs(name) for name in ("size", "diamond", "left", "right", "root", "acts")}

    server.kill_everything()
    hooks.down = False
    server.start()

    with server.client() as client:
        place = accepted.headers["location"]
        assert client.get(place).json()["state"] == "running"
        server.open("gated")
        server.until(lambda: client.get(place).json()["state"] == "done", 120)
        view = client.get(place).json()
        assert view["results"][0]["value"] == os.path.getsize(CLIP)
        # Those who asked to be called are: of what had ended before, and of what went on.
        for id in (early, view["id"]):
            server.until(lambda id=id: any(one.status == 204 for one in hooks.about(id)))
            assert {(one.id, one.body["type"]) for one in hooks.about(id)} == {(f"end_{id}", "request.done")}
            assert len({one.body["timestamp"] for one in hooks.about(id)}) == 1
        told = hooks.about(view["id"])[0].body["data"]
        assert (told["state"], told["results"]) == ("done", {"ready": 1, "failed": 0})
        assert client.get(told["links"]["request"]).json()["state"] == "done"
        server.until(lambda: len(client.get("/v1/deliveries?state=delivered").json()["deliveries"]) == 2)
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
    server.until(lambda: not server.processes(), 60)


def test_the_cache_actor_dies_while_callers_wait(server: Server, hooks: Hooks, inner: Hooks) -> None:
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
    callback = {"url": f"{hooks.origin}/"}
    callers = [
        threading.Thread(
            target=lambda p=p: replies.append(server.compute("gated,size", p, callback=callback).json())
        )
        for p in clips
    ]
    nowhere = server.compute("size", clips[0], callback={"url": f"{inner.origin}/"})
    assert nowhere.json()["state"] == "done"
    for url in (*MALFORMED, "http://169.254.169.254/latest/meta-data/", f"https://127.0.0.1:{hooks.port}/"):
        refused = server.compute("gated", clips[0], callback={"url": url})
        assert (refused.status_code, "callback" in refused.json()["detail"]) == (400, True), url
    for caller in callers:
        caller.start()
    server.until(lambda: server.runs("gated") >= 2)
    assert server.kill("CacheActor") == 1
    server.open("gated")
    for caller in callers:
        caller.join(90)
    assert [r["state"] for r in replies] == ["done"] * len(clips)
    assert server.runs("size") == sizes
    ids = {str(reply["id"]) for reply in replies}
    server.until(lambda: ids <= {one.body["data"]["request"] for one in hooks.heard})
    assert {one.status for one in hooks.heard} == {204}
    with server.client() as client:
        listed = client.get("/v1/deliveries").json()["deliveries"]
        assert {one["request"] for one in listed} == ids | {nowhere.json()["id"]}
        [unsent] = [one for one in listed if one["request"] == nowhere.json()["id"]]
        assert (unsent["state"], "leads to this machine" in unsent["error"]) == ("pending", True)
        again = client.post(f"/v1/deliveries/{unsent['id']}/replay").json()
        assert (again["state"], again["attempts"]) == ("pending", 0)
        server.until(
            lambda: next(
                one["attempts"]
                for one in client.get("/v1/deliveries").json()["deliveries"]
                if one["id"] == unsent["id"]
            )
        )
    assert inner.met == 0


def test_in_a_storm_nothing_is_lost_or_made_twice_and_everybody_is_told(tmp_path: Path, hooks: Hooks) -> None:
    """With two deaths of everything; `python -m tests.fault.storm` has twenty."""
    server = storm.served(tmp_path, hooks)
    try:
        raging = storm.Storm(server, hooks, seed=0)
        raging.rage(kills=2)
        assert "2 kills" in raging.holds()
    finally:
        server.kill_everything()
