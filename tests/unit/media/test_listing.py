"""What lies under a prefix, and what could not be seen of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from amber_ray.core.model.listing import Listed
from amber_ray.media import listing
from amber_ray.media.listing import pages
from amber_ray.media.locate import Locator, signature_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    media = tmp_path / "media"
    for name in ("a.mp4", "sub/b.MP4", "sub/deep/c.png", ".hidden.mp4", ".cache/d.mp4", "notes.txt"):
        (media / name).parent.mkdir(parents=True, exist_ok=True)
        (media / name).write_bytes(b"film")
    (media / "empty.mp4").touch()
    return media


def found(prefix: str | Path, *roots: str | Path, **more: list[str]) -> tuple[list[Listed], list[str]]:
    unseen: list[str] = []
    locator = Locator([str(root) for root in roots], ["memory"])
    rows = [
        row for page in pages(str(prefix), locator, lambda place, why: unseen.append(why)) for row in page
    ]
    return rows, unseen


def names(rows: list[Listed], root: Path) -> list[str]:
    return sorted(os.path.relpath(row.uri, root) for row in rows)


def test_a_folder_has_all_media_below_it(root: Path) -> None:
    rows, unseen = found(root, root)
    assert names(rows, root) == ["a.mp4", "sub/b.MP4", "sub/deep/c.png"]
    assert unseen == []
    [film] = [row for row in rows if row.uri.endswith("a.mp4")]
    status = (root / "a.mp4").stat()
    assert film == Listed(str(root / "a.mp4"), signature_of(status), status.st_ctime)


def test_a_slash_at_the_end_and_a_file_url_mean_the_same_places(root: Path) -> None:
    plain, _ = found(root, root)
    assert found(f"{root}/", root)[0] == plain
    assert found(f"file://{root}", root)[0] == plain
    assert names(found(root / "a.mp4", root)[0], root) == ["a.mp4"]


def test_pages_are_of_bounded_length(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE", 2)
    locator = Locator([str(root)])
    assert [len(page) for page in pages(str(root), locator, lambda place, why: None)] == [2, 1]


def test_what_is_outside_the_roots_is_not_looked_at(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key.mp4").write_bytes(b"secret")
    (root / "way").symlink_to(tmp_path / "secret")
    rows, unseen = found(tmp_path / "secret", root)
    assert rows == []
    assert "outside the media roots" in unseen[0]
    assert "way/key.mp4" not in names(found(root, root)[0], root)
    assert found("s3://elsewhere/films/", root)[0] == []
    assert "switched off" in found("s3://elsewhere/films/", root)[1][0]


def test_what_is_not_there_or_can_not_be_read_is_not_gone(root: Path) -> None:
    assert "no such file" in found(root / "nowhere", root)[1][0]
    (root / "sub/deep").chmod(0)
    try:
        if os.access(root / "sub/deep", os.R_OK):
            pytest.skip("nothing is forbidden to this user")
        rows, unseen = found(root, root)
        assert names(rows, root) == ["a.mp4", "sub/b.MP4"]
        assert "sub/deep' can't be read: permission denied" in unseen[0]
    finally:
        (root / "sub/deep").chmod(0o755)


def test_a_link_is_followed_once_and_a_circle_not_at_all(root: Path) -> None:
    (root / "again").symlink_to(root / "sub")
    (root / "sub/up").symlink_to(root)
    (root / "lost.mp4").symlink_to(root / "nowhere.mp4")
    (root / "linked.mp4").symlink_to(root / "a.mp4")
    rows, unseen = found(root, root)
    assert names(rows, root) == ["a.mp4", "linked.mp4", "sub/b.MP4", "sub/deep/c.png"]
    assert unseen == []


def test_a_name_that_can_not_be_sent_is_told(root: Path) -> None:
    with open(os.fsencode(str(root)) + b"/\xff.mp4", "wb") as file:
        file.write(b"film")
    rows, unseen = found(root, root)
    assert len(rows) == 3
    assert "not UTF-8" in unseen[0]


@pytest.fixture
def bucket() -> Iterator[str]:
    memory = fsspec.filesystem("memory")
    for name in ("films/a.mp4", "films/new/b.mp4", "films/new/c.txt", "other/d.mp4"):
        memory.pipe_file(f"/listed/{name}", b"film")
    memory.pipe_file("/listed/films/empty.mp4", b"")
    yield "memory://listed"
    memory.rm("/listed", recursive=True)


def test_a_url_that_ends_with_a_slash_has_all_below_it(bucket: str) -> None:
    rows, unseen = found(f"{bucket}/films/")
    assert sorted(row.uri for row in rows) == [f"{bucket}/films/a.mp4", f"{bucket}/films/new/b.mp4"]
    assert unseen == []
    before = {row.uri: row.signature for row in rows}
    fsspec.filesystem("memory").pipe_file("/listed/films/a.mp4", b"longer film")
    after = {row.uri: row.signature for row in found(f"{bucket}/films/")[0]}
    assert {uri for uri in before if before[uri] != after[uri]} == {f"{bucket}/films/a.mp4"}


def test_a_url_that_does_not_is_one_object(bucket: str) -> None:
    assert [row.uri for row in found(f"{bucket}/other/d.mp4")[0]] == [f"{bucket}/other/d.mp4"]


def test_what_an_object_store_can_not_tell_is_unseen(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise TimeoutError("slow down")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "ls", broken)
    rows, [why] = found(f"{bucket}/films/")
    assert rows == []
    assert "can't be listed: TimeoutError: slow down" in why
