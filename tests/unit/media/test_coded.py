"""What packets say of their pictures before they are decoded; of anything strange they say nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amber_ray.media.coded import headers
from amber_ray.media.coded.bits import Bits, Unread
from amber_ray.media.coded.picture import Coded, Headers
from tests.media import textured, write_video

PYRAMID = {"x264-params": "bframes=3:b-adapt=0:b-pyramid=normal:scenecut=0"}
"""Of three pictures between two others the middle one is referred to."""

CODECS = {
    "H.264": ("libx264", ".mp4", PYRAMID),
    "H.264 after start codes": ("libx264", ".ts", PYRAMID),
    "HEVC": ("libx265", ".mp4", {"x265-params": "bframes=3:b-adapt=0:scenecut=0:log-level=none"}),
    "HEVC, closed": ("libx265", ".mkv", {"x265-params": "open-gop=0:b-adapt=0:log-level=none"}),
    "HEVC after start codes": ("libx265", ".ts", {"x265-params": "bframes=3:b-adapt=0:log-level=none"}),
    "MPEG-2": ("mpeg2video", ".mkv", {"bf": "2", "sc_threshold": "1000000000"}),
    "MPEG-2, transported": ("mpeg2video", ".ts", {"bf": "2", "sc_threshold": "1000000000"}),
    "MPEG-1": ("mpeg1video", ".mkv", {"bf": "2", "sc_threshold": "1000000000"}),
    "AV1": ("libsvtav1", ".mp4", {"preset": "10"}),
    "AV1 in Matroska": ("libsvtav1", ".mkv", {"preset": "8"}),
}


def film(folder: Path, codec: str, ending: str, options: dict[str, str], count: int = 24) -> Path:
    pictures = [textured(i // 3, 192, 128) for i in range(count)]
    return write_video(folder / f"film{ending}", pictures, codec=codec, gop=12, options=options)


def packets(path: Path) -> tuple[str, bytes, list[Any]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = [p for p in container.demux(stream) if p.size]
        context = stream.codec_context
        return context.codec.canonical_name, context.extradata or b"", found


def said(path: Path) -> list[Coded | None]:
    codec, extradata, found = packets(path)
    reader = headers(codec, extradata)
    assert reader is not None
    return [reader.read(bytes(packet)) for packet in found]


@pytest.mark.parametrize("name", CODECS)
def test_pictures_that_none_refers_to_are_told_and_all_come_in_the_order_of_their_stamps(
    name: str, tmp_path: Path
) -> None:
    path = film(tmp_path, *CODECS[name])
    _, _, found = packets(path)
    coded = [c for c in said(path) if c is not None]
    assert len(coded) == len(found) == 24
    by_stamp = [c.order for _, c in sorted(zip((p.pts for p in found), coded, strict=True))]
    assert by_stamp == sorted(set(by_stamp))
    free = sum(not c.needed or c.rest is not None for c in coded)
    assert 8 <= free <= 16
    assert coded[0].needed
    assert coded[0].fresh


@pytest.mark.parametrize(
    ("codec", "ending", "options"),
    [
        pytest.param("libx264", ".mp4", {"x264-params": "interlaced=1"}, id="fields"),
        pytest.param("libx264", ".mp4", {"x264-params": "fake-interlaced=1"}, id="fields in name only"),
    ],
)
def test_of_what_is_not_followed_nothing_is_said(
    codec: str, ending: str, options: dict[str, str], tmp_path: Path
) -> None:
    assert set(said(film(tmp_path, codec, ending, options))) == {None}


def test_a_missing_picture_is_noticed(tmp_path: Path) -> None:
    codec, extradata, found = packets(film(tmp_path, *CODECS["H.264"]))
    reader = headers(codec, extradata)
    assert reader is not None
    lost = next(i for i, p in enumerate(found) if i > 2 and (c := reader.read(bytes(p))) and c.needed)
    reader = headers(codec, extradata)
    assert reader is not None
    heard = [reader.read(bytes(p)) for i, p in enumerate(found[:12]) if i not in (lost, lost + 1)]
    assert heard[0] is not None
    assert heard[-1] is None


def test_of_other_codecs_nothing_is_known() -> None:
    assert headers("prores", b"") is None


def test_codes_of_a_header_are_read_and_its_end_is_noticed() -> None:
    # 1, 010, 011, 00100, 00101: 0, 1, 2, 3 and signed 4, which is -2.
    bits = Bits(0b1_010_011_00100_00101_1.to_bytes(3, "big"))
    assert bits.take(6) == 0
    assert [bits.count() for _ in range(4)] == [0, 1, 2, 3]
    assert (bits.signed(), bits.flag()) == (-2, True)
    for read in (bits.flag, bits.count, bits.signed, lambda: bits.take(1)):
        with pytest.raises(Unread):
            read()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes, list[bytes]]]:
    found = []
    for codec, ending, options in CODECS.values():
        name, extradata, some = packets(film(tmp_path_factory.mktemp("coded"), codec, ending, options, 9))
        found.append((name, extradata, [bytes(p) for p in some]))
    return found


@settings(deadline=None)
@given(data=st.data())
def test_no_bytes_are_too_strange(real: list[tuple[str, bytes, list[bytes]]], data: st.DataObject) -> None:
    codec, extradata, some = data.draw(st.sampled_from(real))
    given_extradata = data.draw(st.one_of(st.just(extradata), changed(extradata), st.binary(max_size=80)))
    reader = headers(codec, given_extradata)
    assert reader is not None
    packet = st.sampled_from(some).flatmap(lambda p: st.one_of(st.just(p), changed(p)))
    for one in data.draw(st.lists(st.one_of(packet, st.binary(max_size=80)), max_size=8)):
        check(reader, one)


def changed(data: bytes) -> st.SearchStrategy[bytes]:
    """A few of the first bytes are others, or some are missing."""

    def change(edits: list[tuple[int, int]], cut: int) -> bytes:
        into = bytearray(data)
        for at, value in edits:
            if into:
                into[at % len(into)] = value
        return bytes(into[: len(into) - cut])

    edit = st.tuples(st.integers(0, 60), st.integers(0, 255))
    return st.builds(change, st.lists(edit, max_size=4), st.integers(0, 20))


def check(reader: Headers, packet: bytes) -> None:
    coded = reader.read(packet)
    assert 0 <= reader.reorders <= 16
    if coded is None:
        reader.restart()
        assert reader.read(packet) is None
