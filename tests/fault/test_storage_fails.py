"""Disks that are full, read-only or slow, parts that are damaged or gone, and two servers on one store."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from amber_ray.store import lease
from tests.server import CLIP, Server

pytestmark = pytest.mark.timeout(600)
Told = Callable[..., None]
STORAGE_KIT = str(Path(__file__).parent / "storage_kit.py")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """On a disk of 4 MiB of its own."""
    server = Server(tmp_path, "--features", STORAGE_KIT)
    server.store.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(server.store)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield server
    finally:
        server.kill_everything()
        subprocess.run(["umount", "--lazy", str(server.store)], check=True)


def test_disks_fail_and_parts_are_damaged(server: Server, told: Told) -> None:
    """One server lives through all of it: each act leaves it as it was."""
    server.start()
    clips = [clip(server, i) for i in range(8)]
    assert server.compute("size", *clips).json()["state"] == "done"
    written(server)
    a_full_disk(server, clips, told)
    a_read_only_store(server, clips, told)
    a_part_that_can_not_be_read(server, clips, told)
    damaged_parts(server, clips, told)
    a_server_says_whether_it_is_ready(server)
    assert server.stop() == 0
    server.until(lambda: not server.processes(), 60)


def a_full_disk(server: Server, clips: list[Path], told: Told) -> None:
    """Answers come from memory, acceptance is refused, and what waits is written when there is room."""
    ballast = server.store / "ballast"
    fill(ballast)
    began = time.monotonic()
    view = server.compute("first,second", *clips).json()
    seconds = time.monotonic() - began
    assert view["state"] == "done"
    server.until(lambda: server.stats()["unwritten_total"] > 0)
    refused = server.compute("gated", clips[0], wait=0)
    assert refused.status_code == 503, refused.text
    assert "No space left" in refused.json()["detail"]
    assert server.compute("size", *clips).json()["state"] == "done"
    ballast.unlink()
    written(server)
    assert server.compute("first,second", *clips).json()["results"] == cached(view)
    assert server.runs("second") == len(clips)
    told("a full disk", seconds, 0)


def a_read_only_store(server: Server, clips: list[Path], told: Told) -> None:
    with read_only(server.store / "values"), read_only(server.store / "requests"):
        seconds, view = while_read_only(server, clips)
    written(server)
    assert server.compute("size,third", *clips).json()["results"] == cached(view)
    assert server.runs("third") == len(clips)
    told("a store that becomes read-only", seconds, 0)


def while_read_only(server: Server, clips: list[Path]) -> tuple[float, dict[str, Any]]:
    began = time.monotonic()
    view = server.compute("size,third", *clips).json()
    seconds = time.monotonic() - began
    assert view["state"] == "done"
    assert [r["cached"] for r in view["results"]] == [True, False] * len(clips)
    refused = server.compute("gated", clips[0], wait=0)
    assert refused.status_code == 503, refused.text
    assert "Read-only file system" in refused.json()["detail"]
    return seconds, view


def a_part_that_can_not_be_read(server: Server, clips: list[Path], told: Told) -> None:
    """A directory in its place gives an error of the file system, as a disk in trouble would."""
    forget(server)
    taken = parts(server, "third")
    for part in taken:
        part.rename(part.with_suffix(".aside"))
        part.mkdir()
    (failed,) = server.compute("after_third", clips[0]).json()["results"]
    assert failed["state"] == "failed", failed
    assert (failed["error"]["step"], failed["error"]["type"]) == ("third", "StoreUnavailable")
    assert "is stored and can't be read now" in failed["error"]["message"]
    with server.client() as client:
        reply = client.get(f"/v1/values/{failed['error']['key']}")
        assert reply.status_code == 503, reply.text
    for part in taken:
        part.rmdir()
        part.with_suffix(".aside").rename(part)
    began = time.monotonic()
    view = server.compute("after_third", *clips, refresh=True).json()
    assert view["state"] == "done", view
    assert all(r["value"].startswith("after third ") for r in view["results"]), view
    seconds = time.monotonic() - began
    assert server.runs("third") == len(clips)
    told("parts that can't be read for a while", seconds, 0)


def damaged_parts(server: Server, clips: list[Path], told: Told) -> None:
    """The values of a damaged part are made again, unless another part has them; no others are."""
    runs = {name: server.runs(name) for name in ("size", "first", "second", "third")}
    harms: dict[str, Callable[[Path], object]] = {
        "a truncated part": lambda path: os.truncate(path, path.stat().st_size // 2),
        "a bit-flipped part": flip,
        "a vanished part": Path.unlink,
    }
    bad = 0
    for (name, harm), feature in zip(harms.items(), ("first", "second", "third"), strict=True):
        forget(server)
        harmed = parts(server, feature)
        for part in harmed:
            harm(part)
        bad += len(harmed) if name != "a vanished part" else 0
        began = time.monotonic()
        word = {"after_third.word": "then"} if feature == "third" else {}
        view = server.compute(f"size,after_{feature}", *clips, params=word).json()
        seconds = time.monotonic() - began
        assert view["state"] == "done", view
        values = [r["value"] for r in view["results"] if r["feature"] != "size"]
        assert all(f"{feature} " in value for value in values)
        again = server.runs(feature) - runs[feature]
        assert again == len(clips)
        assert server.runs("size") == runs["size"]
        written(server)
        told(name, seconds, again)
    assert len(list((server.store / "quarantine").iterdir())) == bad


def a_server_says_whether_it_is_ready(server: Server) -> None:
    """Not while its lock is gone from its place, nor while its cache actor says nothing."""

    def ready() -> tuple[int, str]:
        with server.client() as client:
            assert client.get("/healthz").status_code == 200
            answer = client.get("/readyz")
        return answer.status_code, answer.text

    server.until(lambda: ready()[0] == 200)
    lock = server.store / lease.NAME
    lock.rename(lock.with_suffix(".aside"))
    server.until(lambda: ready()[0] == 503)
    assert "could not renew the lease of the store" in ready()[1]
    lock.with_suffix(".aside").rename(lock)
    server.until(lambda: ready()[0] == 200)
    [actor] = [pid for pid, line in server.processes().items() if "CacheActor" in line]
    os.kill(actor, signal.SIGSTOP)
    status, words = ready()
    os.kill(actor, signal.SIGCONT)
    assert (status, "shard 0" in words) == (503, True), words
    server.until(lambda: ready()[0] == 200)


def test_two_servers_in_one_bucket(tmp_path: Path, told: Told) -> None:
    """The second is refused while the first lives. Stopped for long, the first loses the store and ends."""
    s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    host, port = s3.get_host_and_port()
    known = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    known |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    bucket = s3fs.S3FileSystem(
        endpoint_url=known["AWS_ENDPOINT_URL"], key="test", secret="test", skip_instance_cache=True
    )
    bucket.mkdir("reels")
    first, second = (Server(tmp_path / name, store="s3://reels/amber", env=known) for name in "ab")
    try:
        first.start()
        assert first.compute("size").json()["state"] == "done"
        first.until(lambda: first.stats()["keys_hot"] == 0)
        with pytest.raises(AssertionError, match="is in use by"):
            second.start()
        (actor,) = (pid for pid, line in first.processes().items() if "CacheActor" in line)
        os.kill(actor, signal.SIGSTOP)
        began = time.monotonic()
        second.start()
        seconds = time.monotonic() - began
        os.kill(actor, signal.SIGCONT)
        first.until(lambda: actor not in first.processes(), 60)
        assert second.compute("size,odd").json()["state"] == "done"
        assert second.runs("size") == 0
        told("two clusters on one store, the first stopped until the second took over", seconds, 0)
    finally:
        for one in (first, second):
            one.kill_everything()
        s3.stop()


def clip(server: Server, number: int) -> Path:
    """The film, with a few bytes that make it another asset."""
    path = server.media / f"{number}.mp4"
    path.write_bytes(CLIP.read_bytes() + (12).to_bytes(4, "big") + b"free" + number.to_bytes(4, "big"))
    return path


def parts(server: Server, feature: str) -> list[Path]:
    return sorted(server.store.glob(f"values/{feature}/*/*.parquet"))


def written(server: Server) -> None:
    """Wait until nothing is in memory only."""
    server.until(lambda: server.stats()["keys_hot"] == 0)


def forget(server: Server) -> None:
    """Nothing is in memory: the cache actor starts anew."""
    assert server.kill("CacheActor") == 1
    server.until(lambda: server.stats()["keys_indexed"] > 0)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing can be made in it."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """A file that takes all the room there is."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


def flip(path: Path) -> None:
    """One bit, in the middle of the values."""
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def cached(view: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**r, "cached": True} for r in view["results"]]
