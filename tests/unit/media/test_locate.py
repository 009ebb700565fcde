"""Where media may be read from: everything outside the roots is refused, whatever it is written like."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from amber_ray.core.model.naming import name_of
from amber_ray.errors import AmberError, BadRequest, Forbidden, MediaError, MediaNotFound
from amber_ray.media import locate
from amber_ray.media.locate import Locator


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A media root with a film, beside a folder with a secret."""
    media = tmp_path / "media"
    (media / "sub").mkdir(parents=True)
    (media / "film 1.mp4").write_bytes(b"film")
    (media / "sub" / "a%20b.mp4").write_bytes(b"odd name")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.mp4").write_bytes(b"secret")
    return media


@pytest.fixture
def bucket() -> Iterator[str]:
    """A remote store: fsspec's memory file system."""
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/films/a.mp4", b"remote film")
    memory.pipe_file("/films/empty.mp4", b"")
    memory.pipe_file("/other/b.mp4", b"other")
    yield "memory://films"
    memory.rm("/", recursive=True)


def test_one_file_is_found_however_it_is_written(root: Path) -> None:
    film = str(root / "film 1.mp4")
    locator = Locator([str(root)])
    for uri in (
        film,
        f"file://{root}/film%201.mp4",
        f"file://localhost{root}/film%201.mp4",
        f"file:{root}/film%201.mp4",
        f"FILE://{root}/film%201.mp4",
        f"{root}/sub/../film 1.mp4",
        f"{root}//film 1.mp4",
        f"file://{root}/sub/%2e%2e/film%201.mp4",
    ):
        location = locator.resolve(uri)
        assert location.uri == film
        assert (location.size, location.remote) == (4, False)


def test_a_plain_path_is_not_decoded_and_a_uri_once_only(root: Path) -> None:
    locator = Locator([str(root)])
    assert locator.resolve(f"{root}/sub/a%20b.mp4").size == 8
    assert locator.resolve(f"file://{root}/sub/a%2520b.mp4").size == 8
    with pytest.raises(MediaNotFound):
        locator.resolve(f"file://{root}/sub/a%20b.mp4")


def test_a_symlink_inside_the_root_leads_to_its_real_place(root: Path) -> None:
    (root / "link.mp4").symlink_to(root / "film 1.mp4")
    assert Locator([str(root)]).resolve(f"{root}/link.mp4").uri == str(root / "film 1.mp4")


def test_a_root_that_is_a_symlink_works(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert Locator([str(tmp_path / "alias")]).resolve(f"{root}/film 1.mp4").uri == f"{root}/film 1.mp4"


@pytest.mark.parametrize(
    "uri",
    [
        "{root}/../secret/key.mp4",
        "{root}/sub/../../secret/key.mp4",
        "{root}/../secret/absent.mp4",
        "{root}/../secret",
        "{root}/link-out.mp4",
        "{root}/folder-out/key.mp4",
        "file://{root}/%2e%2e/secret/key.mp4",
        "file://{root}/..%2fsecret/key.mp4",
        "{root}-secret/key.mp4",
        "/etc/passwd",
        "/proc/self/environ",
        "/",
        "file:///etc/passwd",
        "secret/key.mp4",
        "../secret/key.mp4",
        "~/key.mp4",
        "file:secret/key.mp4",
        "file://example.org/etc/passwd",
        "file://%65xample.org/etc/passwd",
    ],
)
def test_everything_outside_the_roots_is_forbidden_and_alike(root: Path, tmp_path: Path, uri: str) -> None:
    (root / "link-out.mp4").symlink_to(tmp_path / "secret" / "key.mp4")
    (root / "folder-out").symlink_to(tmp_path / "secret")
    (tmp_path / "media-secret").mkdir()
    (tmp_path / "media-secret" / "key.mp4").write_bytes(b"secret")
    written = uri.format(root=root)
    with pytest.raises(Forbidden) as caught:
        Locator([str(root)]).resolve(written)
    told = str(caught.value).replace(written, "")
    assert str(tmp_path / "secret") not in told
    assert "\n" not in told


def test_there_and_not_there_are_told_alike_outside_the_roots(root: Path) -> None:
    locator = Locator([str(root)])
    words = set()
    for name in ("key.mp4", "absent.mp4", ""):
        uri = f"{root}/../secret/{name}"
        with pytest.raises(Forbidden) as caught:
            locator.resolve(uri)
        words.add(str(caught.value).replace(repr(uri), ""))
    assert len(words) == 1


@pytest.mark.parametrize(
    "uri", ["", "a\0b", "{root}/a\0.mp4", "file://{root}/a%00.mp4", "file://{root}/%ff.mp4", "/\ud800"]
)
def test_malformed_uris_are_media_errors(root: Path, uri: str) -> None:
    with pytest.raises(MediaError) as caught:
        Locator([str(root)]).resolve(uri.format(root=root))
    assert caught.value.status == 422


def test_what_is_absent_inside_a_root_is_not_found(root: Path) -> None:
    locator = Locator([str(root)])
    for name in ("absent.mp4", "film 1.mp4/below", "x" * 300 + ".mp4", "sub/loop"):
        (root / "sub" / "loop").unlink(missing_ok=True)
        (root / "sub" / "loop").symlink_to(root / "sub" / "loop")
        with pytest.raises(MediaNotFound) as caught:
            locator.resolve(f"{root}/{name}")
        assert caught.value.status == 404


def test_what_is_no_file_of_media_is_refused_and_nothing_hangs(root: Path) -> None:
    os.mkfifo(root / "fifo.mp4")
    (root / "empty.mp4").touch()
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(root)
        listener.bind("socket.mp4")
        for name, words in (
            ("sub", "directory"),
            ("", "directory"),
            ("fifo.mp4", "regular file"),
            ("socket.mp4", "regular file"),
            ("empty.mp4", "empty"),
        ):
            with pytest.raises(MediaError, match=words):
                Locator([str(root)]).resolve(f"{root}/{name}")


def test_a_device_is_refused() -> None:
    with pytest.raises(MediaError, match="regular file"):
        Locator(["/dev"]).resolve("/dev/zero")


def test_a_name_that_is_not_utf8_is_refused(root: Path) -> None:
    odd = os.fsencode(root) + b"/\xff.mp4"
    with open(odd, "wb") as file:
        file.write(b"film")
    (root / "alias.mp4").symlink_to(os.fsdecode(odd))
    with pytest.raises(MediaError, match="UTF-8"):
        Locator([str(root)]).resolve(f"{root}/alias.mp4")


def test_a_uri_has_a_longest_length(root: Path) -> None:
    with pytest.raises(MediaError, match="characters"):
        Locator([str(root)]).resolve("/" + "a" * locate.LONGEST_URI)


def test_without_roots_the_sentence_says_so() -> None:
    with pytest.raises(Forbidden, match="none is configured"):
        Locator([]).resolve("/media/a.mp4")


def test_a_root_that_is_no_directory_is_a_bad_request(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="not a directory"):
        Locator([str(tmp_path / "absent")])


@pytest.mark.parametrize(
    "uri",
    [
        "memory://films/a.mp4",
        "http://169.254.169.254/latest",
        "https://example.org/a.mp4",
        "s3://bucket/a.mp4",
        "concat:/etc/passwd|/etc/hosts",
        "pipe:0",
        "data:video/mp4;base64,AAAA",
        "hls+http://example.org/x.m3u8",
        "subfile,,start,0,end,0,,:/etc/passwd",
        "c:\\films\\a.mp4",
    ],
)
def test_other_schemes_are_off(root: Path, bucket: str, uri: str) -> None:
    with pytest.raises(Forbidden):
        Locator([str(root)]).resolve(uri)


def test_an_allowed_scheme_is_read_through_fsspec(root: Path, bucket: str) -> None:
    location = Locator([str(root)], ["memory"]).resolve(f"{bucket}/a.mp4")
    assert (location.size, location.remote, location.uri) == (11, True, f"{bucket}/a.mp4")
    assert location.signature


def test_a_remote_root_allows_what_lies_below_it_and_nothing_else(root: Path, bucket: str) -> None:
    locator = Locator([str(root), bucket])
    assert locator.resolve(f"{bucket}/a.mp4").size == 11
    for uri in ("memory://other/b.mp4", f"{bucket}-2/a.mp4", "memory://films", "https://example.org/"):
        with pytest.raises(Forbidden):
            locator.resolve(uri)


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("memory://films/absent.mp4", MediaNotFound),
        ("memory://films/empty.mp4", MediaError),
        ("memory://films", MediaError),
        ("memory://films/../other/b.mp4", Forbidden),
        ("memory://films/%2e%2e/other/b.mp4", Forbidden),
        ("memory://user:word@films/a.mp4", Forbidden),
        ("memory://films/a.mp4::file:///etc/passwd", Forbidden),
        ("memory:films/a.mp4", Forbidden),
    ],
)
def test_odd_remote_urls_are_refused(root: Path, bucket: str, uri: str, error: type[AmberError]) -> None:
    with pytest.raises(error) as caught:
        Locator([str(root)], ["memory"]).resolve(uri)
    assert "word" not in str(caught.value)


def test_messages_name_a_url_without_its_secrets() -> None:
    assert name_of("https://user:pass@host/films/a.mp4?token=secret") == "a.mp4"
    assert name_of("/media/films/a.mp4") == "a.mp4"
