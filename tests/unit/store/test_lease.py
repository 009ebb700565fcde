"""One server per store: by a lock in a directory, by a record with a heartbeat in an object store."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from amber_ray.errors import StoreBusy, StoreError
from amber_ray.store import lease as module
from amber_ray.store.files import Files
from amber_ray.store.lease import Lease
from tests.store_faults import TroubledFileSystem, troubled_url

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys
from amber_ray.store.lease import Lease
lease = Lease(sys.argv[1])
lease.acquire("the other server")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate(timeout=30)


def test_a_second_server_is_told_who_holds_the_store(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(StoreBusy) as caught:
        Lease(str(tmp_path)).acquire("me")
    words = str(caught.value)
    assert f"the store '{tmp_path}' is in use by the other server (host {socket.gethostname()}" in words
    assert f"process {holder.pid}, since 20" in words
    assert "choose another --store" in words


def test_a_living_holder_is_seen_without_taking_the_store(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    with pytest.raises(StoreBusy, match=f"in use by the other server .*, process {holder.pid}, since 20"):
        Lease(str(tmp_path)).look()
    holder.kill()
    holder.wait(30)
    record = (tmp_path / module.NAME).read_text()
    Lease(str(tmp_path)).look()
    # Its number may be another process's by now, which holds nothing.
    (tmp_path / module.NAME).write_text(record.replace(str(holder.pid), str(os.getpid())))
    Lease(str(tmp_path)).look()
    Lease(str(tmp_path / "none")).look()
    Lease(f"memory://{uuid.uuid4().hex}/store").look()
    Lease(str(tmp_path)).acquire("me")


def test_a_killed_holder_holds_nothing(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.kill()
    holder.wait(30)
    lease = Lease(str(tmp_path))
    lease.acquire("me")
    lease.release()


def test_a_released_store_is_free(tmp_path: Path) -> None:
    first, second = Lease(str(tmp_path)), Lease(str(tmp_path))
    first.acquire("first")
    first.acquire("first")
    with pytest.raises(StoreBusy, match="in use by first"):
        second.acquire("second")
    first.release()
    first.release()
    second.acquire("second")
    second.renew(1e12)
    with pytest.raises(StoreBusy, match="in use by second"):
        first.acquire("first")
    second.release()


def test_a_holder_that_has_not_written_its_record_yet_is_respected(tmp_path: Path) -> None:
    holder = Lease(str(tmp_path))
    holder.acquire("holder")
    for text in ("", "{", "[]"):
        (tmp_path / module.NAME).write_text(text)
        with pytest.raises(StoreBusy, match="in use by another server"):
            Lease(str(tmp_path)).acquire("me")
    holder.release()


def test_a_file_system_without_locks_is_no_busy_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", fail)
    with pytest.raises(StoreError, match=r"can't be locked: .*No locks available") as caught:
        Lease(str(tmp_path)).acquire("me")
    assert not isinstance(caught.value, StoreBusy)


# --- object stores


class World:
    """A clock that only sleepers move, and what happens while they sleep."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.url = f"memory://{uuid.uuid4().hex}"
        self.files = Files(self.url)
        self.meanwhile: Callable[[], Any] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()

    def lease(self) -> Lease:
        return Lease(self.url, lambda: self.now, self.sleep)

    def record(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.files.read(module.NAME) or b"{}")
        return data

    def held_by(self, **changes: Any) -> None:
        record = {
            "owner": "other",
            "host": "elsewhere",
            "pid": 7,
            "since": 0.0,
            "beat": self.now,
            "token": "t",
        }
        self.files.put(module.NAME, json.dumps(record | changes).encode())


@pytest.fixture
def world() -> World:
    return World()


def test_a_free_object_store_is_taken_and_given_up(world: World) -> None:
    lease = world.lease()
    lease.acquire("me")
    assert (world.record()["owner"], world.record()["pid"]) == ("me", os.getpid())
    lease.acquire("me")
    assert world.now == 1_700_000_000.0 + module.SETTLE_SECONDS
    lease.release()
    lease.release()
    assert world.record() == {}


def test_a_living_holder_keeps_the_store(world: World) -> None:
    holder = world.lease()
    holder.acquire("holder")
    world.meanwhile = lambda: holder.renew(world.now)
    started = world.now
    with pytest.raises(StoreBusy, match="in use by holder"):
        world.lease().acquire("me")
    assert world.now - started <= module.RENEW_SECONDS + 1
    assert world.record()["owner"] == "holder"


def test_a_silent_holder_of_another_machine_loses_the_store_in_time(world: World) -> None:
    for skew in (-100.0, 0.0, 100.0):
        world.held_by(beat=world.now + skew)
        started = world.now
        lease = world.lease()
        lease.acquire("me")
        assert module.FRESH_SECONDS <= world.now - started <= module.FRESH_SECONDS + 2
        lease.release()


def test_a_holder_that_speaks_in_the_last_moment_keeps_it(world: World) -> None:
    world.held_by()
    until = world.now + module.FRESH_SECONDS
    world.meanwhile = lambda: world.held_by(beat=until) if world.now >= until else None
    with pytest.raises(StoreBusy, match="in use by other"):
        world.lease().acquire("me")


def test_a_holder_known_to_be_dead_loses_it_at_once(world: World) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait(30)
    for changes in ({"host": socket.gethostname(), "pid": done.pid}, {"beat": world.now - 3600}):
        world.held_by(**changes)
        started = world.now
        lease = world.lease()
        lease.acquire("me")
        assert world.now - started == module.SETTLE_SECONDS
        lease.release()


def test_a_living_process_of_this_machine_is_watched_like_any_other(world: World) -> None:
    world.held_by(host=socket.gethostname(), pid=os.getpid())
    started = world.now
    world.lease().acquire("me")
    assert world.now - started >= module.FRESH_SECONDS


def test_of_two_claimants_one_wins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = world.lease(), world.lease()

    read = Files.read

    def before_the_first_wrote(files: Files, name: str) -> bytes | None:
        monkeypatch.setattr(Files, "read", read)
        return None

    def interleave() -> None:
        world.meanwhile = lambda: None
        assert world.record()["owner"] == "first"
        monkeypatch.setattr(Files, "read", before_the_first_wrote)
        second.acquire("second")  # it saw no record either: it writes while the first one waits

    world.files.remove(module.NAME)
    world.meanwhile = interleave
    with pytest.raises(StoreBusy, match="in use by second"):
        first.acquire("first")
    assert world.record()["owner"] == "second"
    second.renew(world.now + 100)
    first.release()
    assert world.record()["owner"] == "second"


def test_the_heartbeat_is_written_when_it_is_time(world: World) -> None:
    lease = world.lease()
    lease.renew(world.now)
    assert world.record() == {}
    lease.acquire("me")
    start = world.record()["beat"]
    lease.renew(start + module.RENEW_SECONDS - 0.1)
    assert world.record()["beat"] == start
    lease.renew(start + module.RENEW_SECONDS)
    assert world.record()["beat"] == start + module.RENEW_SECONDS


def test_a_server_whose_store_was_taken_is_told(world: World) -> None:
    lease = world.lease()
    lease.acquire("me")
    world.held_by()
    with pytest.raises(StoreBusy, match="in use by other"):
        lease.renew(world.now + 100)
    lease.release()
    assert world.record()["owner"] == "other"


def test_a_server_that_stops_leaves_the_record_of_the_one_that_took_its_store(world: World) -> None:
    lease = world.lease()
    lease.acquire("me")
    world.held_by()
    lease.release()
    assert world.record()["owner"] == "other"


def test_a_record_that_is_delivered_in_part_is_of_a_living_holder(world: World) -> None:
    url = troubled_url(world.url)
    holder = Lease(url, lambda: world.now, world.sleep)
    holder.acquire("holder")
    TroubledFileSystem.trouble.tear()
    with pytest.raises(StoreError, match="bytes were delivered") as caught:
        Lease(url, lambda: world.now, world.sleep).acquire("me")
    assert not isinstance(caught.value, StoreBusy)
    with pytest.raises(StoreError, match="bytes were delivered"):
        holder.renew(world.now + 100)  # the holder tries again later, and takes nothing for its end
    TroubledFileSystem.trouble.end()
    holder.renew(world.now + 100)
    assert world.record()["owner"] == "holder"
    assert world.record()["beat"] == world.now + 100


def test_a_damaged_record_is_taken_over_when_nobody_has_renewed_it(world: World) -> None:
    holder = world.lease()
    holder.acquire("holder")
    world.files.put(module.NAME, b'{"owner": "hol')
    world.meanwhile = lambda: holder.renew(world.now)
    with pytest.raises(StoreBusy, match="in use by holder"):
        world.lease().acquire("me")
    assert world.record()["owner"] == "holder"
    world.files.put(module.NAME, b'{"owner": "hol')
    world.meanwhile = lambda: None
    started = world.now
    world.lease().acquire("me")
    assert module.FRESH_SECONDS <= world.now - started <= module.FRESH_SECONDS + 2
    assert world.record()["owner"] == "me"


def test_a_store_that_can_not_be_reached_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = world.lease()
    lease.acquire("me")
    now = world.now + 100

    def fail(*_: Any) -> Any:
        raise ConnectionError("no route")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "pipe_file", fail)
        with pytest.raises(StoreError, match="no route"):
            lease.renew(now)
    assert world.record()["beat"] < now
    lease.renew(now + 1)
    assert world.record()["beat"] == now + 1


def test_a_holder_that_was_stopped_for_a_while_may_change_nothing_until_it_has_renewed(world: World) -> None:
    lease = world.lease()
    with pytest.raises(StoreError, match="not renewed in time, so nothing is changed"):
        lease.guard()
    lease.acquire("me")
    lease.renew(world.now)
    lease.guard()
    world.now += module.SURE_SECONDS + 0.1
    with pytest.raises(StoreError, match="not renewed in time, so nothing is changed"):
        lease.guard()
    lease.renew(world.now)
    lease.guard()


def test_a_local_lock_that_is_gone_or_another_one_is_told(tmp_path: Path) -> None:
    lease = Lease(str(tmp_path / "store"))
    lease.acquire("me")
    lease.renew(0.0)
    lock = tmp_path / "store" / module.NAME
    lock.rename(tmp_path / "away")
    with pytest.raises(StoreError, match=r"lease\.json', is gone or another one"):
        lease.renew(1.0)
    lock.touch()
    with pytest.raises(StoreError, match=r"lease\.json', is gone or another one"):
        lease.renew(2.0)
    (tmp_path / "away").rename(lock)
    lease.renew(3.0)
    lease.release()


def test_the_holder_of_a_local_lock_needs_no_renewal(tmp_path: Path) -> None:
    now = [1_700_000_000.0]
    lease = Lease(str(tmp_path), lambda: now[0])
    lease.acquire("me")
    now[0] += 1e6
    lease.guard()
    lease.release()
    with pytest.raises(StoreError, match="not renewed"):
        lease.guard()
