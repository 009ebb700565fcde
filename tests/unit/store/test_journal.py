"""The request journal, in a directory and in an object store."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from amber_ray.errors import StoreError
from amber_ray.store.files import Files
from amber_ray.store.journal import Journal


@pytest.fixture(params=["directory", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "directory" else f"memory://{uuid.uuid4().hex}"


def test_a_record_is_there_for_the_next_process(url: str) -> None:
    record = {"id": "r-1.0", "state": "running", "features": ["naïve"], "created": 1.5}
    Journal(url).write("r-1.0", record)
    assert Journal(url).read("r-1.0") == record
    Journal(url).write("r-1.0", {**record, "state": "done"})
    assert Journal(url).read("r-1.0") == {**record, "state": "done"}
    assert Journal(url).ids() == ["r-1.0"]
    assert Journal(url).read("r-2") is None


def test_an_empty_store_has_no_records(url: str) -> None:
    assert Journal(url).ids() == []
    assert list(Journal(url).unfinished()) == []
    assert Journal(url).sweep(1e12) == 0


def test_unfinished_requests_are_found(url: str) -> None:
    journal = Journal(url)
    for id, state in (("a", "running"), ("b", "done"), ("c", "failed"), ("d", "running")):
        journal.write(id, {"id": id, "state": state})
    assert [r["id"] for r in journal.unfinished()] == ["a", "d"]
    journal.remove("a")
    journal.remove("a")
    assert [r["id"] for r in journal.unfinished()] == ["d"]


def test_finished_requests_are_swept_once_they_are_old(url: str) -> None:
    journal = Journal(url)
    for id, state, created in (
        ("a", "running", 1.0),
        ("b", "done", 1.0),
        ("c", "done", 5.0),
        ("d", "done", 4.9),
    ):
        journal.write(id, {"state": state, "created": created})
    assert journal.sweep(before=5.0) == 2
    assert journal.ids() == ["a", "c"]


@pytest.mark.parametrize("id", ["", ".", "..", ".hidden", "a/b", "../x", "a\n", "é", "a" * 129, "a b", "a\0"])
def test_what_can_be_no_file_name_is_refused(url: str, id: str) -> None:
    journal = Journal(url)
    for call in (journal.read, journal.remove, lambda id: journal.write(id, {})):
        with pytest.raises(StoreError, match="can't be a request id"):
            call(id)


@pytest.mark.parametrize("text", [b"", b'{"state": "runn', b"[1]", b"\xff"])
def test_a_damaged_record_is_set_aside_and_the_others_are_found(
    url: str, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    journal, files = Journal(url), Files(url)
    journal.write("good", {"id": "good", "state": "running"})
    files.write("requests/bad.json", text)
    with pytest.raises(StoreError, match=r"requests/bad\.json is damaged"):
        journal.read("bad")
    assert [r["id"] for r in journal.unfinished()] == ["good"]
    assert "requests/bad.json is damaged" in caplog.text
    assert journal.ids() == ["good"]
    assert files.read("quarantine/requests__bad.json") == text


def test_a_record_that_cant_be_read_now_is_left_alone(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(url)
    for id in ("a", "b"):
        journal.write(id, {"id": id, "state": "running"})
    real = Files.read

    def slow(files: Files, name: str) -> bytes | None:
        if name == "requests/a.json":
            raise StoreError("requests/a.json can't be read: timed out")
        return real(files, name)

    with monkeypatch.context() as patch:
        patch.setattr(Files, "read", slow)
        assert [r["id"] for r in journal.unfinished()] == ["b"]
    assert "can't be read now and stays: requests/a.json can't be read: timed out" in caplog.text
    assert [r["id"] for r in journal.unfinished()] == ["a", "b"]


def test_a_process_that_may_have_lost_the_store_changes_no_record(url: str) -> None:
    def closed() -> None:
        raise StoreError("not now")

    Journal(url).write("a", {"state": "done", "created": 1.0})
    fenced = Journal(url, closed)
    for change in (
        lambda: fenced.write("a", {"state": "failed"}),
        lambda: fenced.write("b", {"state": "running"}),
        lambda: fenced.remove("a"),
        lambda: fenced.sweep(2.0),
    ):
        with pytest.raises(StoreError, match="not now"):
            change()
    Files(url).write("requests/bad.json", b"{")
    assert list(fenced.unfinished()) == []
    assert fenced.ids() == ["a", "bad"]
    assert fenced.read("a") == {"state": "done", "created": 1.0}


def test_other_files_are_no_records(url: str) -> None:
    journal, files = Journal(url), Files(url)
    for name in ("requests/.a.json", "requests/a.json.bak", "requests/sub/b.json", "c.json"):
        files.write(name, b"{}")
    assert journal.ids() == []


def test_a_write_that_fails_keeps_the_old_record_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(str(tmp_path))
    journal.write("a", {"state": "running"})

    def fail(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(StoreError, match=r"can't be written: .*No space left on device"):
                journal.write("a", {"state": "done"})
    assert journal.read("a") == {"state": "running"}
    assert [p.name for p in (tmp_path / "requests").iterdir()] == ["a.json"]
