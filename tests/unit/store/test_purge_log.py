"""The log of purges: what was purged stays purged, whoever publishes it afterwards."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from amber_ray.errors import StoreError
from amber_ray.store.files import Files
from amber_ray.store.parquet import ValueStore
from amber_ray.store.purge_log import PENDING_SECONDS, Purge, PurgeLog
from tests.store_contract import FLOAT, everything, key, row
from tests.store_faults import TroubledFileSystem, troubled_url

NOW = 1_700_000_000.25


@pytest.fixture(params=["directory", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "directory" else f"memory://{uuid.uuid4().hex}"


def applied(url: str, now: float) -> None:
    """What the owner of a store does at a start."""
    for asset, feature, version, at in PurgeLog(url).pending(now):
        ValueStore(url).purge(asset, feature, version, made_before=at)


def test_a_purge_is_pending_for_the_next_process_and_for_a_day(url: str) -> None:
    log = PurgeLog(url)
    assert log.pending(NOW) == []
    log.note(None, "score", "1", NOW + 5)
    log.note(("a1", "a2"), None, None, NOW)
    purges = [Purge(("a1", "a2"), None, None, NOW), Purge(None, "score", "1", NOW + 5)]
    assert PurgeLog(url).pending(NOW + 6) == purges
    assert PurgeLog(Files(url)).pending(NOW + PENDING_SECONDS) == purges
    assert PurgeLog(url).pending(NOW + PENDING_SECONDS + 1) == purges[1:]
    assert PurgeLog(url).pending(NOW + PENDING_SECONDS + 6) == []


def test_purges_of_one_moment_are_all_kept(url: str) -> None:
    log = PurgeLog(url)
    ids = {log.note(f"a{i}", None, None, NOW) for i in range(20)}
    assert len(ids) == 20
    assert {purge.asset for purge in log.pending(NOW)} == {f"a{i}" for i in range(20)}


def test_old_purges_are_swept(url: str) -> None:
    log, files = PurgeLog(url), Files(url)
    old = log.note("a1", None, None, NOW)
    young = log.note("a2", None, None, NOW + 10)
    log.sweep(NOW + PENDING_SECONDS + 5)
    assert files.read(f"purges/{old}.json") is None
    assert files.read(f"purges/{young}.json") is not None
    log.sweep(NOW + PENDING_SECONDS + 15)
    assert log.pending(NOW) == []


def test_a_part_of_a_process_that_died_does_not_bring_back_what_was_purged(url: str) -> None:
    ValueStore(url).write("score", "1", FLOAT, [row("a", created=NOW - 10)])
    PurgeLog(url).note("a1", None, None, NOW)
    ValueStore(url).purge("a1", made_before=NOW)
    worker = ValueStore(url)
    worker.write("score", "1", FLOAT, [row("late", created=NOW - 1), row("new", created=NOW + 1)])
    assert set(everything(ValueStore(url))) == {key("late"), key("new")}
    applied(url, NOW + 60)
    assert set(everything(ValueStore(url))) == {key("new")}


def test_a_purge_whose_process_died_after_it_was_noted_is_done_by_the_next(url: str) -> None:
    ValueStore(url).write("score", "1", FLOAT, [row("a", created=NOW - 10), row("b", asset="a2")])
    PurgeLog(url).note("a1", "score", "1", NOW)
    applied(url, NOW + 60)
    assert set(everything(ValueStore(url))) == {key("b")}


def test_a_purge_that_can_not_be_read_now_is_not_passed_over() -> None:
    url = troubled_url(f"memory://{uuid.uuid4().hex}")
    log = PurgeLog(url)
    log.note("a1", None, None, NOW)
    for trouble in (
        lambda: TroubledFileSystem.trouble.fail("read", TimeoutError("slow")),
        lambda: TroubledFileSystem.trouble.fail("list", TimeoutError("slow")),
        TroubledFileSystem.trouble.tear,
    ):
        trouble()
        with pytest.raises(StoreError, match=r"slow|delivered"):
            log.pending(NOW)
        TroubledFileSystem.trouble.end()
        assert log.pending(NOW) == [Purge("a1", None, None, NOW)]


def test_a_record_that_lacks_a_filter_purges_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    log, files = PurgeLog(url), Files(url)
    log.note("a1", None, None, NOW)
    whole = {"asset": None, "feature": None, "version": None, "at": 5}
    for i, name in enumerate(whole):
        for kind, other in (
            ("less", {n: v for n, v in whole.items() if n != name}),
            ("odd", whole | {name: []}),
        ):
            files.write(f"purges/{kind}{i}.json", json.dumps(other).encode())
    assert log.pending(NOW) == [Purge("a1", None, None, NOW)]
    assert "'less0' in the log of purges is none of a purge" in caplog.text


def test_a_damaged_purge_is_set_aside_and_the_others_are_found(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    log, files = PurgeLog(url), Files(url)
    bad = log.note("a0", None, None, NOW)
    log.note("a1", None, None, NOW)
    files.write(f"purges/{bad}.json", b'{"asset": "a')
    assert log.pending(NOW) == [Purge("a1", None, None, NOW)]
    assert f"purges/{bad}.json is damaged" in caplog.text
    assert files.read(f"quarantine/purges__{bad}.json") == b'{"asset": "a'


def test_a_process_that_may_have_lost_the_store_notes_nothing(url: str) -> None:
    def closed() -> None:
        raise StoreError("not now")

    PurgeLog(url).note("a1", None, None, NOW)
    fenced = PurgeLog(url, closed)
    for change in (lambda: fenced.note("a2", None, None, NOW), lambda: fenced.sweep(NOW + 1e6)):
        with pytest.raises(StoreError, match="not now"):
            change()
    assert len(fenced.pending(NOW)) == 1
