"""The catalogue: identity is content, digests are remembered, and what is no media is refused."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from amber_ray.core.model.pages import AssetFilter
from amber_ray.core.model.service import MEDIA_BYTES
from amber_ray.core.model.units import Asset
from amber_ray.errors import (
    Forbidden,
    MediaChanged,
    MediaError,
    MediaNotFound,
    StoreError,
    TooLarge,
    UnknownAsset,
)
from amber_ray.media import catalogue as catalogue_module
from amber_ray.media import facts, names, source, stills, uploads
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.decode import pictures
from amber_ray.media.locate import Location, Locator
from amber_ray.settings import Limits
from amber_ray.store.files import Files
from tests.media import (
    RED,
    catalogue,
    flat,
    settled,
    textured,
    tone,
    write_picture,
    write_sound,
    write_video,
)


class Opened(list[str]):
    """The URIs whose bytes were read, one entry for each time."""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Counts digests: each opens the file once."""
    seen = Opened()
    real = catalogue_module.open_uri

    def counted(uri: str) -> object:
        seen.append(uri)
        return real(uri)

    monkeypatch.setattr(catalogue_module, "open_uri", counted)
    return seen


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A film of 1 s, old enough to be remembered."""
    return settled(write_video(tmp_path / "film.mp4", [flat(RED)] * 24, sound=tone(1.0)))


def test_the_id_is_the_digest_of_the_bytes(tmp_path: Path, film: Path) -> None:
    asset = catalogue(tmp_path).add(str(film))
    assert asset.id == hashlib.blake2b(film.read_bytes(), digest_size=16).hexdigest()
    assert (asset.uri, asset.bytes) == (str(film), film.stat().st_size)
    assert (asset.media_type, asset.duration) == ("video/mp4", pytest.approx(1.0, abs=0.05))
    video, audio = asset.streams
    assert (video.kind, video.codec, video.width, video.height, video.frame_rate, video.frames) == (
        *("video", "h264", 64, 48, "24"),
        24,
    )
    assert (audio.kind, audio.codec, audio.sample_rate, audio.channels) == ("audio", "aac", 48_000, 1)


def test_a_known_uri_costs_one_stat_and_reads_nothing(
    tmp_path: Path, film: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = catalogue(tmp_path)
    first = known.add(str(film))
    assert opened == [str(film)]
    stats: list[object] = []
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda *a, **k: (stats.append(a[0]), real(*a, **k))[1])
    monkeypatch.setattr(Locator, "resolve", lambda *a: pytest.fail("resolved again"))
    assert known.add(str(film)) == first
    assert stats == [str(film)]
    assert opened == [str(film)]


def test_a_known_local_file_is_at_hand_until_it_changes(
    tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_module, "is_local", lambda device: device == film.stat().st_dev)
    known = catalogue(tmp_path)
    assert known.at_hand(str(film)) is None
    first = known.add(str(film))
    assert known.at_hand(str(film)) is first
    monkeypatch.setattr(catalogue_module, "is_local", lambda device: False)
    monkeypatch.setattr(os, "stat", lambda *a, **k: pytest.fail("a slow file system is asked"))
    assert known.at_hand(str(film)) is None
    monkeypatch.undo()
    film.write_bytes(film.read_bytes() + b"more")
    assert known.at_hand(str(film)) is None
    film.unlink()
    assert known.at_hand(str(film)) is None


def test_after_a_restart_nothing_is_digested(tmp_path: Path, film: Path, opened: Opened) -> None:
    first = catalogue(tmp_path).add(str(film))
    again = catalogue(tmp_path).add(f"file://{film}")
    assert (again.id, again.uri, again.streams) == (first.id, first.uri, first.streams)
    assert len(opened) == 1


def test_the_same_bytes_under_another_name_are_the_same_asset(tmp_path: Path, film: Path) -> None:
    known = catalogue(tmp_path)
    first = known.add(str(film))
    copy = tmp_path / "copy.bin"
    copy.write_bytes(film.read_bytes())
    os.link(film, tmp_path / "linked.mp4")
    assert known.add(str(copy)) == first
    assert known.add(str(tmp_path / "linked.mp4")) == first
    film.rename(tmp_path / "renamed.mov")
    assert known.add(str(tmp_path / "renamed.mov")) == first
    with pytest.raises(MediaNotFound):
        known.add(str(film))


def test_a_touch_digests_once_and_probes_never(
    tmp_path: Path, film: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = catalogue(tmp_path)
    first = known.add(str(film))
    monkeypatch.setattr(catalogue_module, "facts", lambda *a: pytest.fail("probed again"))
    os.utime(film)
    settled(film)
    assert known.add(str(film)) == first
    assert known.add(str(film)) == first
    assert len(opened) == 2


def test_changed_bytes_of_the_same_size_and_time_are_another_asset(tmp_path: Path, film: Path) -> None:
    known = catalogue(tmp_path)
    first = known.add(str(film))
    before = film.stat()
    data = bytearray(film.read_bytes())
    data[-1] ^= 1
    film.write_bytes(bytes(data))
    os.utime(film, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert film.stat().st_size == before.st_size
    assert film.stat().st_mtime_ns == before.st_mtime_ns
    assert known.add(str(film)).id != first.id


def test_a_signature_too_young_to_tell_changes_by_is_not_remembered(
    tmp_path: Path, film: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = catalogue(tmp_path)
    monkeypatch.setattr(catalogue_module.time, "time_ns", lambda: film.stat().st_ctime_ns + 1_000_000)
    known.add(str(film))
    known.add(str(film))
    catalogue(tmp_path).add(str(film))
    assert len(opened) == 3


def test_a_symlink_that_is_turned_elsewhere_leads_to_the_other_asset(tmp_path: Path, film: Path) -> None:
    other = settled(write_video(tmp_path / "other.mp4", [textured(1)] * 24))
    link = tmp_path / "link.mp4"
    link.symlink_to(film)
    known = catalogue(tmp_path)
    first = known.add(str(link))
    link.unlink()
    link.symlink_to(other)
    assert known.add(str(link)).id != first.id
    link.unlink()
    link.symlink_to("/etc/passwd")
    with pytest.raises(Forbidden):
        known.add(str(link))


def test_a_file_that_keeps_changing_is_refused(
    tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = catalogue_module.facts

    def busy(*arguments: object) -> object:
        with film.open("ab") as file:
            file.write(b"more")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(catalogue_module, "facts", busy)
    with pytest.raises(MediaError, match="keeps changing"):
        catalogue(tmp_path).add(str(film))


def test_one_file_asked_for_by_many_threads_is_digested_once(
    tmp_path: Path, film: Path, opened: Opened
) -> None:
    known = catalogue(tmp_path)
    gate = threading.Barrier(8)

    def add(_: int) -> str:
        gate.wait(timeout=10)
        return known.add(str(film)).id

    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(add, range(8)))
    assert len(ids) == 1
    assert len(opened) == 1


def test_two_catalogues_share_a_store(tmp_path: Path, film: Path, opened: Opened) -> None:
    one, two = catalogue(tmp_path), catalogue(tmp_path)
    asset = one.add(str(film))
    assert two.get(asset.id) == asset
    assert two.get(asset.id).uri == str(film)
    assert len(opened) == 1


def test_get_finds_the_asset_where_it_still_is(tmp_path: Path, film: Path) -> None:
    known = catalogue(tmp_path)
    first = known.add(str(film))
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(film.read_bytes())
    known.add(str(copy))
    write_video(copy, [textured(5)] * 24)
    assert known.get(first.id).uri == str(film)
    copy.write_bytes(b"no film at all")
    assert known.get(first.id).uri == str(film)


def test_an_asset_whose_media_is_gone_is_known_but_can_not_be_read(tmp_path: Path, film: Path) -> None:
    known = catalogue(tmp_path)
    first = known.add(str(film))
    film.unlink()
    found = known.get(first.id)
    assert (found.id, found.duration) == (first.id, first.duration)
    with pytest.raises(MediaNotFound, match=r"film\.mp4"), source.opened(found):
        pass


def test_content_that_changed_under_a_registered_asset_is_not_read(tmp_path: Path, film: Path) -> None:
    asset = catalogue(tmp_path).add(str(film))
    write_video(film, [textured(3)] * 48)
    with pytest.raises(MediaError, match="changed since"), source.opened(asset):
        pass
    film.unlink()
    film.symlink_to("/etc/passwd")
    with pytest.raises(Forbidden), source.opened(asset):
        pass


@pytest.mark.parametrize("id", ["", "0" * 32, "../../etc/passwd", "z" * 32, "0" * 31 + "\n"])
def test_an_unknown_id_is_told_so(tmp_path: Path, id: str) -> None:
    with pytest.raises(UnknownAsset):
        catalogue(tmp_path).get(id)


def test_a_damaged_record_is_written_anew(tmp_path: Path, film: Path, opened: Opened) -> None:
    first = catalogue(tmp_path).add(str(film))
    for record in (tmp_path / "store" / "assets").rglob("*.parquet"):
        record.write_bytes(b"half")
    assert catalogue(tmp_path).add(str(film)) == first
    assert catalogue(tmp_path).add(str(film)) == first
    assert len(opened) == 2
    assert not list((tmp_path / "store").rglob("*.tmp"))


def test_thousands_of_pictures_are_few_files(tmp_path: Path) -> None:
    pictures = [write_picture(tmp_path / f"{i}.png", flat((i % 256, i // 256, 0))) for i in range(600)]
    known = catalogue(tmp_path)
    asked = [*map(str, pictures[:300]), str(tmp_path / "none.png"), str(pictures[0])]
    *found, missing, again = known.add_all(asked)
    assert isinstance(missing, MediaNotFound)
    assert again == found[0]
    found += [known.add(str(p)) for p in pictures[300:310]]
    assert [a.uri for a in found if isinstance(a, Asset)] == [str(p) for p in pictures[:310]]
    files = [p for p in (tmp_path / "store").rglob("*") if p.is_file()]
    assert len(files) < 5
    assert sum(p.stat().st_size for p in files) < 310 * 200
    for asset in found:
        assert isinstance(asset, Asset)
        assert catalogue(tmp_path).get(asset.id) == asset


def test_new_files_of_one_call_are_looked_up_in_one_listing(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(settled(write_picture(tmp_path / f"{i}.png", flat((i, 2, 3))))) for i in range(20)]
    catalogue(tmp_path).add(paths[0])
    mine, other = catalogue(tmp_path), catalogue(tmp_path)
    listings: list[object] = []
    real = Files.sizes
    monkeypatch.setattr(Files, "sizes", lambda *a: (listings.append(a[1:]), real(*a))[1])
    opened.clear()
    assert len(mine.add_all(paths)) == 20
    assert len(opened) == 19  # the first is in the store
    assert len(listings) <= 4  # twice where it has changed, as a file may have two names while it is listed
    # Each call looks again: what another one has written meanwhile is not digested.
    assert len(other.add_all(paths)) == 20
    assert len(opened) == 19


def test_an_asset_is_not_told_before_it_is_written_whoever_found_it(
    tmp_path: Path, film: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = catalogue(tmp_path)
    other = settled(write_video(tmp_path / "other.mp4", [textured(1)] * 24))
    reached, go_on = threading.Event(), threading.Event()
    real = Catalogue._identified

    def identified(self: Catalogue, uri: str, location: Location, since: float) -> Any:
        if uri == str(other):
            assert go_on.wait(30)
        found = real(self, uri, location, since)
        if uri == str(film):
            reached.set()
        return found

    monkeypatch.setattr(Catalogue, "_identified", identified)
    with ThreadPoolExecutor(1) as threads:
        both = threads.submit(known.add_all, [str(film), str(other)])
        assert reached.wait(30)
        # The other call has found the film and not written it: this one does, and digests nothing.
        asset = known.add(str(film))
        assert opened == [str(film)]
        assert catalogue(tmp_path).get(asset.id) == asset
        go_on.set()
        assert both.result(30)[0] == asset
    assert opened == [str(film), str(other)]


def test_what_is_found_as_the_catalogue_is_released_is_written(tmp_path: Path) -> None:
    young = write_picture(tmp_path / "young.png", flat(RED))  # its signature can't be trusted yet
    held = catalogue(tmp_path)
    held.hold()
    lock = held._lock

    class Released:
        """The lock, before which another thread releases the catalogue once: as late as it can."""

        def __enter__(self) -> None:
            if sys._getframe(1).f_code.co_name == "_write" and held._holding:
                held.release()
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    held._lock = Released()  # type: ignore[assignment]
    asset = held.add(str(young))
    assert not held.held
    assert catalogue(tmp_path).get(asset.id).uri == str(young)


def test_what_an_older_version_found_is_probed_anew_and_not_digested(
    tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_module, "FORMAT", catalogue_module.FORMAT - 1)
    first = catalogue(tmp_path).add(str(film))
    gone = catalogue(tmp_path).add(str(settled(write_video(tmp_path / "gone.mp4", [textured(1)] * 24))))
    (tmp_path / "gone.mp4").unlink()
    monkeypatch.undo()
    monkeypatch.setattr(Catalogue, "_identity", lambda *_: pytest.fail("digested again"))
    probed: list[str] = []
    real = catalogue_module.facts
    monkeypatch.setattr(catalogue_module, "facts", lambda *a: (probed.append(a[1]), real(*a))[1])
    assert catalogue(tmp_path).get(first.id) == first
    assert catalogue(tmp_path).add(str(film)) == first
    assert probed == ["film.mp4"]
    assert catalogue(tmp_path).get(gone.id) == gone


def test_assets_that_can_not_be_written_are_refused_and_found_anew(
    tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = catalogue(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        refused = known.add_all([str(film), str(tmp_path / "none.mp4")])
    assert [type(answer) for answer in refused] == [StoreError, MediaNotFound]
    asset = known.add(str(film))
    assert catalogue(tmp_path).get(asset.id) == asset


def test_a_store_that_can_not_be_written_is_a_store_error(tmp_path: Path, film: Path) -> None:
    known = catalogue(tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "assets").write_text("in the way")
    with pytest.raises(StoreError):
        known.add(str(film))


@pytest.mark.parametrize(
    ("name", "write", "media_type"),
    [
        (
            "a.bin",
            lambda p: write_video(p.with_suffix(".mkv"), [flat(RED)] * 8).rename(p),
            "video/x-matroska",
        ),
        (
            "a.webm",
            lambda p: write_video(p, [flat(RED)] * 8, codec="libvpx-vp9", options={}),
            "video/webm",
        ),
        ("a.mov", lambda p: write_video(p, [flat(RED)] * 8), "video/quicktime"),
        ("a.ts", lambda p: write_video(p, [flat(RED)] * 8), "video/mp2t"),
        ("a.avi", lambda p: write_video(p, [flat(RED)] * 8, codec="mpeg4", options={}), "video/x-msvideo"),
        ("a.wav", lambda p: write_sound(p, tone(0.5)), "audio/wav"),
        ("a.mp3", lambda p: write_sound(p, tone(0.5)), "audio/mpeg"),
        ("a.flac", lambda p: write_sound(p, tone(0.5)), "audio/flac"),
        ("a.m4a", lambda p: write_sound(p, tone(0.5)), "audio/mp4"),
        ("a.mka", lambda p: write_sound(p, tone(0.5)), "audio/x-matroska"),
        ("a.mp4", lambda p: write_picture(p, flat(RED), format="PNG"), "image/png"),
        ("a.jpg", lambda p: write_picture(p, flat(RED)), "image/jpeg"),
        ("a.webp", lambda p: write_picture(p, flat(RED)), "image/webp"),
        ("a.gif", lambda p: write_picture(p, flat(RED)), "image/gif"),
    ],
)
def test_the_media_type_comes_from_the_content(tmp_path: Path, name: str, write, media_type: str) -> None:
    write(tmp_path / name)
    asset = catalogue(tmp_path).add(str(tmp_path / name))
    assert asset.media_type == media_type
    kind = media_type.partition("/")[0]
    assert asset.kind == kind
    assert asset.has_video == (kind != "audio")
    assert asset.has_audio == (kind == "audio")
    if kind == "image":
        assert asset.duration is None
    else:
        assert asset.duration == pytest.approx(0.5 if kind == "audio" else 8 / 24, abs=0.06)


@pytest.mark.parametrize(
    "content",
    [
        b"just some text\n" * 200,
        b"x",
        bytes(5000),
        b"<html><body>hello</body></html>" * 50,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{film}\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile '{film}'\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{film}"/></svg>',
        b'<?xml version="1.0"?><MPD><Period><BaseURL>{film}</BaseURL></Period></MPD>',
        b"[playlist]\nFile1={film}\n",
        b"WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n",
    ],
)
def test_what_is_no_film_sound_or_picture_is_a_media_error(
    tmp_path: Path, film: Path, content: bytes
) -> None:
    path = tmp_path / "false.mp4"
    path.write_bytes(content.replace(b"{film}", str(film).encode()))
    with pytest.raises(MediaError, match=r"'false\.mp4'") as caught:
        catalogue(tmp_path).add(str(path))
    assert caught.value.status == 422
    assert str(tmp_path) not in str(caught.value)


def test_a_film_without_its_index_or_its_data_is_a_media_error(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", [textured(i) for i in range(48)]).read_bytes()
    front = write_video(
        tmp_path / "front.mp4",
        [textured(i) for i in range(48)],
        container_options={"movflags": "faststart"},
    ).read_bytes()
    data = front.index(b"mdat") + 4
    for content in (whole[: len(whole) // 2], front[: data + 8], front[:data] + bytes(len(front) - data)):
        path = tmp_path / "cut.mp4"
        path.write_bytes(content)
        with pytest.raises(MediaError, match=r"cut\.mp4"):
            catalogue(tmp_path).add(str(path))


def test_a_film_that_breaks_off_is_registered_and_fails_where_it_breaks(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "front.mp4", [textured(i) for i in range(96)], container_options={"movflags": "faststart"}
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    asset = catalogue(tmp_path).add(str(path))
    assert asset.duration == pytest.approx(4.0, abs=0.1)
    assert len(list(pictures(asset, 0.0, 1.0))) == 24
    with pytest.raises(MediaError, match=r"front\.mp4"):
        list(pictures(asset, 2.0, 4.0))


def test_cover_art_is_no_picture_to_look_at(tmp_path: Path) -> None:
    import av

    path = tmp_path / "song.mp3"
    cover = write_picture(tmp_path / "cover.jpg", flat(RED)).read_bytes()
    with av.open(str(path), "w") as out:
        sound = out.add_stream("mp3", rate=48_000)
        art = out.add_stream("mjpeg", rate=1)
        art.width, art.height, art.pix_fmt = 64, 48, "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        out.start_encoding()
        packet = av.Packet(cover)
        packet.stream, packet.pts, packet.dts = art, 0, 0
        out.mux(packet)
        frame = av.AudioFrame.from_ndarray(tone(1.0)[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    asset = catalogue(tmp_path).add(str(path))
    assert (asset.media_type, asset.has_video, asset.has_audio) == ("audio/mpeg", False, True)


def test_limits_on_media_are_kept(tmp_path: Path, film: Path) -> None:
    for limits in (
        Limits(media_bytes=film.stat().st_size - 1),
        Limits(media_seconds=0.5),
    ):
        with pytest.raises(TooLarge):
            Catalogue(str(tmp_path / "store"), Locator([str(tmp_path)]), limits).add(str(film))
    picture = write_picture(tmp_path / "large.png", flat(RED, 640, 480))
    with pytest.raises((TooLarge, MediaError)):
        catalogue(tmp_path, limits=Limits(frame_pixels=64 * 48)).add(str(picture))


def test_an_upload_is_kept_and_deduplicated(tmp_path: Path, film: Path, opened: Opened) -> None:
    known = catalogue(tmp_path)
    data = film.read_bytes()
    chunks = [data[i : i + 1000] for i in range(0, len(data), 1000)]
    asset = known.upload(iter(chunks), "application/octet-stream")
    assert asset == known.upload([data])
    assert asset.id == known.add(str(film)).id
    assert asset.uri == str(tmp_path / "store" / "uploads" / f"{asset.id}.mp4")
    assert known.add(asset.uri) == asset
    assert opened == [str(film)]
    film.unlink()
    with source.opened(Catalogue(str(tmp_path / "store"), Locator([])).get(asset.id)) as file:
        assert file.read() == data


def test_an_upload_is_of_its_tenant_and_an_older_one_of_nobody(tmp_path: Path, film: Path) -> None:
    known, data = catalogue(tmp_path), film.read_bytes()
    sent = {tenant: known.upload([data], tenant=tenant) for tenant in ("", "web", "website")}
    assert len({asset.uri for asset in sent.values()}) == 3
    assert len({asset.id for asset in sent.values()}) == 1
    known.add(str(film))

    def listed(only: AssetFilter) -> set[str]:
        again = Catalogue(str(tmp_path / "store"), Locator([str(tmp_path)]))
        return {asset.uri for asset in again.page(only, 10, None)}

    everything = {str(film), *(asset.uri for asset in sent.values())}
    assert listed(AssetFilter()) == everything
    assert listed(AssetFilter(tenant="web")) == {str(film), sent["web"].uri}
    assert listed(AssetFilter(tenant="website")) == {str(film), sent["website"].uri}
    assert listed(AssetFilter(tenant="we")) == listed(AssetFilter(uploads=False)) == {str(film)}


def test_an_upload_of_every_kind_has_a_name_that_a_folder_of_media_would_list() -> None:
    told = {*stills.TYPES.values(), *facts._TYPES.values()}
    endings = {kind: uploads._EXTENSIONS.get(kind) for kind in told}
    assert {kind: ending for kind, ending in endings.items() if ending not in names.ENDINGS} == {}


@pytest.mark.parametrize("content", [b"", b"text, not media" * 100])
def test_a_bad_upload_leaves_nothing_behind(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(MediaError):
        catalogue(tmp_path).upload([content])
    assert [p for p in (tmp_path / "store").rglob("*") if p.is_file()] == []


def test_an_upload_that_is_too_large_or_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    known = catalogue(tmp_path, limits=Limits(upload_bytes=1000))
    with pytest.raises(TooLarge):
        known.upload(b"x" * 400 for _ in range(1_000_000))

    def broken() -> Iterator[bytes]:
        yield b"x" * 400
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        known.upload(broken())
    assert [p for p in (tmp_path / "store").rglob("*") if p.is_file()] == []


@pytest.fixture
def bucket(film: Path) -> Iterator[str]:
    """The film in fsspec's memory file system."""
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/films/film.mp4", film.read_bytes())
    yield "memory://films"
    memory.rm("/", recursive=True)


def test_a_remote_film_is_the_same_asset_and_decodes(
    tmp_path: Path, film: Path, bucket: str, opened: Opened
) -> None:
    known = Catalogue(str(tmp_path / "store"), Locator([str(tmp_path), bucket]))
    asset = known.add(f"{bucket}/film.mp4")
    assert asset.id == known.add(str(film)).id
    assert known.add(f"{bucket}/film.mp4").uri == f"{bucket}/film.mp4"
    assert opened == [f"{bucket}/film.mp4", str(film)]
    assert len(list(pictures(asset))) == 24


def test_bytes_are_read_from_where_the_content_still_is(tmp_path: Path, film: Path) -> None:
    known = catalogue(tmp_path)
    content = film.read_bytes()
    id = known.add(str(film)).id
    assert known.media(id, 3, 9, None).data == content[3:9]
    os.utime(film, ns=(5, 5))  # touched: only its digest tells
    assert known.media(id, 3, 9, None).data == content[3:9]
    film.write_bytes(content[:-1] + b"x")
    with pytest.raises(MediaChanged, match=r"'film\.mp4' has other content"):
        known.media(id, 0, 1, None)
    film.write_bytes(content)
    copy = film.with_name("copy.mp4")
    copy.write_bytes(content)
    known.add(str(settled(copy)))
    copy.unlink()
    assert known.media(id, 0, None, None).data == content[:MEDIA_BYTES]
    film.unlink()
    with pytest.raises(MediaNotFound):
        known.media(id, 0, 1, None)
    for unknown in ("0" * 32, "x", str(film)):
        with pytest.raises(UnknownAsset):
            known.media(unknown, 0, 1, None)


def test_bytes_that_are_written_to_while_they_are_read_are_refused(
    tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = catalogue(tmp_path)
    id = known.add(str(film)).id
    real = source.signature_of
    looks = itertools.count()

    def looked(status: os.stat_result) -> str:
        found = real(status)
        if next(looks) == 0:  # behind the look before the bytes are read
            with film.open("r+b") as file:
                file.write(b"x")
        return found

    assert known.media(id, 0, 1, None).data
    monkeypatch.setattr(source, "signature_of", looked)
    with pytest.raises(MediaChanged):
        known.media(id, 0, 1, None)


def test_bytes_outside_of_the_roots_of_today_and_through_a_link_are_refused(tmp_path: Path) -> None:
    roots = tmp_path / "old", tmp_path / "new"
    for root in roots:
        root.mkdir()
    film = settled(write_video(roots[0] / "film.mp4", [flat(RED)] * 24))
    store = str(tmp_path / "store")
    id = Catalogue(store, Locator([str(roots[0])])).add(str(film)).id
    with pytest.raises(Forbidden, match="outside the media roots"):
        Catalogue(store, Locator([str(roots[1])])).media(id, 0, 1, None)
    moved = film.rename(tmp_path / "film.mp4")
    film.symlink_to(moved)
    with pytest.raises(Forbidden):
        Catalogue(store, Locator([str(roots[0])])).media(id, 0, 1, None)


def test_the_bytes_of_another_tenants_upload_are_those_of_an_unknown_asset(
    tmp_path: Path, film: Path
) -> None:
    known = catalogue(tmp_path)
    data = film.read_bytes()
    id = known.upload([data], tenant="web").id
    assert known.media(id, 0, 4, "web").data == known.media(id, 0, 4, None).data == data[:4]
    told = []
    for one, tenant in ((id, "website"), (id, "we"), ("0" * 32, "website")):
        with pytest.raises(UnknownAsset) as refused:
            known.media(one, 0, 4, tenant)
        told.append(str(refused.value).replace(one, "ID"))
    assert len(set(told)) == 1
    known.upload([data], tenant="website")
    assert known.media(id, 0, 4, "website").data == data[:4]


def test_a_range_of_a_remote_film_is_all_that_is_fetched(
    tmp_path: Path, film: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Catalogue(str(tmp_path / "store"), Locator([bucket]))
    id = known.add(f"{bucket}/film.mp4").id
    memory = fsspec.filesystem("memory")
    fetched: list[int] = []
    real = type(memory)._open

    def counted(self: Any, *given: Any, **more: Any) -> Any:
        file = real(self, *given, **more)

        class Counted:
            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def read(self, size: int = -1) -> bytes:
                data = file.read(size)
                fetched.append(len(data))
                return bytes(data)

        return Counted()

    monkeypatch.setattr(type(memory), "_open", counted)
    assert known.media(id, 100, 164, None).data == film.read_bytes()[100:164]
    assert fetched == [64]
    memory.pipe_file("/films/film.mp4", film.read_bytes()[::-1])
    with pytest.raises(MediaChanged):
        known.media(id, 100, 164, None)
    assert fetched == [64]


def test_a_store_on_a_remote_url_keeps_records_and_uploads(film: Path, bucket: str, opened: Opened) -> None:
    def known() -> Catalogue:
        return Catalogue("memory://amber/store", Locator([str(film.parent)]))

    asset = known().add(str(film))
    assert known().add(str(film)) == asset
    assert len(opened) == 1
    uploaded = known().upload([film.read_bytes()])
    assert uploaded.uri == f"memory://amber/store/uploads/{asset.id}.mp4"
    film.unlink()
    assert len(list(pictures(known().get(asset.id)))) == 24


def test_the_etag_can_be_the_identity_of_a_remote_film(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from amber_ray.media import locate

    etags = iter(['"one"', '"one"', '"two"', 'W/"weak"'])
    real = locate._remote_info
    monkeypatch.setattr(locate, "_remote_info", lambda *a: {**real(*a), "ETag": next(etags)})
    known = Catalogue(str(tmp_path / "store"), Locator([bucket]), etag_identity=True)
    uri = f"{bucket}/film.mp4"
    first = known.add(uri)
    digest = hashlib.blake2b(fsspec.filesystem("memory").cat_file("/films/film.mp4"), digest_size=16)
    assert first.id != digest.hexdigest()
    assert known.add(uri) == first
    assert known.add(uri) != first
    assert known.add(uri).id == digest.hexdigest()


def test_a_prepared_process_imports_no_library_for_its_first_file(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", [textured(n) for n in range(3)])
    program = """
import sys
from amber_ray.media.catalogue import Catalogue, prepare
from amber_ray.media.locate import Location, Locator
prepare()
before = set(sys.modules)
asset = Catalogue(sys.argv[1], Locator([sys.argv[2]])).add(sys.argv[3])
print(asset.kind, {"av", "PIL", "pandas", "pyarrow.compute"} & (sys.modules.keys() - before))
"""
    arguments = [str(tmp_path / "store"), str(tmp_path), str(film)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "video set()\n"


def test_new_files_of_one_call_are_read_side_by_side_and_answered_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    # Two files of the same stripe are read one after the other, and which are is drawn anew in each process.
    places = (tmp_path / f"{i}.png" for i in itertools.count())
    stripes: dict[int, Path] = {}
    while len(stripes) < 6:
        place = next(places)
        stripes.setdefault(hash(str(place)) % 64, place)
    paths = [settled(write_picture(place, textured(i))) for i, place in enumerate(stripes.values())]
    three = threading.Barrier(3)
    real = Catalogue._identify

    def identify(self: Catalogue, *arguments: Any) -> tuple[Asset, Asset]:
        three.wait(30)  # passed by three at a time
        return real(self, *arguments)

    monkeypatch.setattr(Catalogue, "_identify", identify)
    uris = [*map(str, reversed(paths)), str(tmp_path / "gone.png")]
    *found, missing = catalogue(tmp_path).add_all(uris)
    assert [asset.uri for asset in found if isinstance(asset, Asset)] == uris[:-1]
    assert isinstance(missing, MediaNotFound)
    assert not three.broken
