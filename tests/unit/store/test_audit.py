"""The audit log at rest, in a directory and in an object store; read by SQL, joined, bounded."""

from __future__ import annotations

import dataclasses
import random
import uuid
from pathlib import Path

import duckdb
import pytest

from amber_ray.core.model.audit import EVERY_LINE, AuditFilter, AuditLine, told_url, without_secrets
from amber_ray.errors import StoreError
from amber_ray.store import audit
from amber_ray.store.audit import AuditBook
from amber_ray.store.files import Files

NOW = 1_764_400_000.0


@pytest.fixture(params=["directory", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "directory" else f"memory://{uuid.uuid4().hex}"


def line(number: int, **but: object) -> AuditLine:
    one = AuditLine(f"l{number:05d}", NOW + number / 4, "values.purged", f"feature f{number}", "search", "ci")
    return dataclasses.replace(one, **but)  # type: ignore[arg-type]


def names(url: str) -> list[str]:
    return sorted(Files(url).sizes(audit._NAME, audit.FOLDER, 1))


def walked(book: AuditBook, only: AuditFilter = EVERY_LINE, most: int = 3) -> list[AuditLine]:
    found: list[AuditLine] = []
    place = None
    while True:
        told = book.read(only, place, most)
        assert len(told.values) <= most
        found += told.values
        if told.end is None:
            return found
        place = told.end


def test_lines_are_told_the_newest_first_whatever_files_they_are_in(url: str) -> None:
    book = AuditBook(url)
    assert walked(book) == []
    book.write([])
    assert names(url) == []
    lines = [line(n, time=NOW + n // 3, detail={"values": n, "on": ["a"]}) for n in range(40)]
    shuffled = random.Random(7).sample(lines, len(lines))
    for first in range(0, 40, 7):
        book.write(shuffled[first : first + 7])
    book.write(lines[:5])  # once more, as a call that is made again does
    newest = sorted(lines, key=lambda one: one.place)
    for most in (1, 3, 50):
        assert walked(AuditBook(Files(url)), most=most) == newest
    assert walked(book, AuditFilter(since=NOW + 5)) == [one for one in newest if one.time >= NOW + 5]


def test_lines_are_chosen_by_tenant_change_and_time(url: str) -> None:
    book = AuditBook(url)
    for number in range(30):
        book.write([line(number, tenant=f"t{number % 3}", what=("token.made", "values.purged")[number % 2])])
    lines = walked(book)
    for only in (AuditFilter(NOW + 2.25, "t1"), AuditFilter(what="token.made"), AuditFilter(None, "t9")):
        assert walked(book, only) == [one for one in lines if only.fits(one)]


def test_a_look_at_the_newest_opens_few_files(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    book = AuditBook(url)
    for number in range(40):
        book.write([line(40 * number)])
    opened: list[str] = []
    read = Files.read
    monkeypatch.setattr(Files, "read", lambda self, name: (opened.append(name), read(self, name))[1])
    assert len(book.read(EVERY_LINE, None, 2).values) == 2
    assert len(opened) == 2


def test_small_files_are_joined_and_tell_each_line_once(url: str) -> None:
    book = AuditBook(url)
    for number in range(audit.JOIN - 1):
        book.write([line(number), line(number + 1)])
    book.tidy(NOW)
    assert len(names(url)) == audit.JOIN - 1
    book.write([line(99)])
    lines = walked(book)
    book.tidy(NOW)
    assert len(names(url)) == 1
    assert walked(book) == lines
    [whole] = book.read(EVERY_LINE, None, 1).values
    assert whole == line(99)
    book.tidy(NOW)
    assert walked(book) == lines


def test_a_join_that_was_cut_off_tells_no_line_twice(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    book = AuditBook(url)
    for number in range(audit.JOIN):
        book.write([line(number)])
    lines = walked(book)

    def dies(self: Files, name: str) -> None:
        raise StoreError("it died")

    monkeypatch.setattr(Files, "remove", dies)
    with pytest.raises(StoreError):
        book.tidy(NOW)
    monkeypatch.undo()
    assert len(names(url)) == audit.JOIN + 1
    assert walked(book) == lines
    book.tidy(NOW)
    assert (len(names(url)), walked(book)) == (1, lines)


def test_old_lines_and_the_oldest_of_too_many_bytes_go(url: str) -> None:
    book = AuditBook(url, seconds=10.0)
    for number in range(60):
        book.write([line(number)])
    book.tidy(NOW + 20)  # those from NOW + 10 on stay: numbers 40 to 59
    kept = [one.id for one in walked(book)]
    assert kept == [line(n).id for n in range(59, 39, -1)]
    size = max(Files(url).sizes(audit._NAME, audit.FOLDER, 1).values())
    AuditBook(url, most_bytes=5 * size).tidy(NOW + 20)
    assert 4 <= len(left := [one.id for one in walked(book)]) <= 5
    assert left == kept[: len(left)]


def test_a_damaged_file_hides_no_other(url: str, caplog: pytest.LogCaptureFixture) -> None:
    book = AuditBook(url)
    for number in range(audit.JOIN + 1):
        book.write([line(number)])
    Files(url).write(names(url)[5], b"PAR1 no more")
    kept = [one.id for one in walked(book)]
    assert len(kept) == audit.JOIN
    assert "damaged" in caplog.text
    book.tidy(NOW)
    assert [one.id for one in walked(book)] == kept
    assert len(names(url)) == 2  # the damaged one stays for whoever may mend it


def test_any_sql_reads_it(tmp_path: Path) -> None:
    AuditBook(str(tmp_path)).write([line(1, detail={"values": 3}), line(2, tenant="web")])
    files = f"{tmp_path}/audit/*.parquet"
    told = "DISTINCT epoch(time), what, subject, detail->>'values'"
    asked = f"SELECT {told} FROM '{files}' WHERE tenant = 'search'"
    assert duckdb.sql(asked).fetchall() == [(NOW + 0.25, "values.purged", "feature f1", "3")]


def test_a_process_that_may_not_own_the_store_any_more_changes_nothing(url: str) -> None:
    def lost() -> None:
        raise StoreError("the lease was not renewed in time")

    for number in range(audit.JOIN):
        AuditBook(url).write([line(number)])
    book = AuditBook(url, lost, seconds=1.0)
    for change in (lambda: book.write([line(1)]), lambda: book.tidy(NOW), lambda: book.tidy(NOW + 900)):
        with pytest.raises(StoreError, match="lease"):
            change()
    assert len(names(url)) == audit.JOIN


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("/media/a b.mp4", "/media/a b.mp4"),
        ("s3://bucket/films/", "s3://bucket/films/"),
        ("https://h.example/a.mp4?X-Amz-Signature=SECRET#SECRET", "https://h.example/a.mp4"),
        ("https://user:SECRET@h.example/a", "https://…@h.example/a"),
        ("https://user:SE@CRET@h.example/a", "https://…@h.example/a"),
        ("https://user:SE/CRET@h.example/a", "https://…@h.example/a"),
        ("https://user:SE?CRET@h.example/a", "https://…"),
        ("https://user:SE#CRET@h.example/a", "https://…"),
        ("https://h.example/?next=https://user:SECRET@other", "https://…"),
        ("s3://KEY:SECRET@bucket/films", "s3://…@bucket/films"),
        ("simplecache::s3://KEY:SECRET@bucket", "simplecache::s3://…@bucket"),
        ("user:SECRET@://x", "…"),
        ("://SECRET@x", "…"),
    ],
)
def test_a_line_names_no_credentials(uri: str, told: str) -> None:
    assert without_secrets(uri) == told


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://hooks.example", "https://hooks.example"),
        ("https://hooks.example/", "https://hooks.example/"),
        ("https://hooks.example:8443/services/T0/B0/SECRET", "https://hooks.example:8443/…"),
        ("https://hooks.example/?token=SECRET", "https://hooks.example/…"),
        ("https://hooks.example?token=SECRET", "https://hooks.example/…"),
        ("https://user:SECRET@hooks.example/", "https://hooks.example/…"),
        ("https://user:p/SECRET@hooks.example/a", "https://hooks.example/…"),
        ("http://[::1]:80/a", "http://[::1]:80/…"),
    ],
)
def test_of_a_callback_only_scheme_and_host_are_told(url: str, told: str) -> None:
    assert told_url(url) == told
