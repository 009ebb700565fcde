"""`proxy`: pieces that a player appends one after the other, whatever the film is like."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from amber_ray.core.model.units import Asset, Segment
from amber_ray.errors import FeatureError, MediaError
from amber_ray.features.proxy import Fitting, proxy, proxy_parts
from amber_ray.media.fragment import RATE
from amber_ray.media.sound import stereo
from tests.media import (
    BLACK,
    BLUE,
    GREEN,
    RED,
    catalogue,
    flat,
    textured,
    tone,
    write_picture,
    write_sound,
    write_video,
)


def pieces(asset: Asset, **params: Any) -> list[bytes]:
    """The asset's proxy, piece by piece."""
    made = []
    for part in proxy_parts(asset):
        start, end = round(part.start * 1e6), round(part.end * 1e6)
        made.append(proxy(Segment(asset, start, end - start, found=True), **params))
    return made


def split(piece: bytes) -> tuple[bytes, bytes]:
    """A piece's initialisation, and its fragment."""
    at = piece.index(b"moof") - 4
    return piece[:at], piece[at:]


def joined(made: Sequence[bytes]) -> bytes:
    """What a source buffer holds: one initialisation, and all fragments."""
    init = {split(piece)[0] for piece in made}
    assert len(init) == 1
    return init.pop() + b"".join(split(piece)[1] for piece in made)


def frames(data: bytes) -> list[tuple[float, np.ndarray]]:
    with av.open(io.BytesIO(data)) as container:
        return [(float(f.time), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def heard(data: bytes) -> tuple[float, np.ndarray]:
    """When the sound begins, and its samples."""
    with av.open(io.BytesIO(data)) as container:
        found = list(container.decode(audio=0))
    return float(found[0].time), np.concatenate([f.to_ndarray() for f in found], axis=1)


@pytest.fixture
def film(tmp_path: Path) -> Asset:
    """Nine seconds of three colours, with sound that gets higher."""
    shown = [flat(colour) for colour in (RED, GREEN, BLUE) for _ in range(36)]
    sound = np.concatenate([tone(3.0, hertz) for hertz in (440, 660, 880)])
    return catalogue(tmp_path).add(str(write_video(tmp_path / "film.mp4", shown, fps=12, sound=sound)))


@pytest.mark.parametrize("codec", ["h264", "vp9"])
def test_pieces_follow_each_other_without_a_gap_and_have_the_films_times(film: Asset, codec: str) -> None:
    made = pieces(film, codec=codec)
    assert [(p.start, p.end) for p in proxy_parts(film)] == [(0.0, 4.0), (4.0, 8.0), (8.0, film.duration)]
    found = frames(joined(made))
    assert [time for time, _ in found] == pytest.approx([i / 12 for i in range(108)], abs=1e-4)
    for time, picture in found:
        wanted = (RED, GREEN, BLUE)[min(2, int(time / 3 + 1e-3))]
        assert np.abs(picture.mean((0, 1)) - wanted).max() < 12, time
    for piece, part in zip(made, proxy_parts(film), strict=True):
        with av.open(io.BytesIO(piece)) as container:
            packets = [p for p in container.demux(video=0) if p.size]
        assert packets[0].is_keyframe
        assert float(packets[0].pts * packets[0].time_base) == part.start
        last = packets[-1]
        if codec == "h264":  # of VP9 FFmpeg's demuxer tells no duration
            assert float((last.pts + last.duration) * last.time_base) == pytest.approx(part.end, abs=1e-4)


@pytest.mark.parametrize("codec", ["h264", "vp9"])
def test_sound_goes_on_over_the_edges_of_pieces(film: Asset, codec: str) -> None:
    began, samples = heard(joined(pieces(film, codec=codec)))
    assert 0 <= began < 0.03
    wanted = stereo(film, RATE)
    offset = round(began * RATE)
    length = min(samples.shape[1], wanted.shape[1] - offset) - 4096
    error = samples[:, 2048:length] - wanted[:, offset + 2048 : offset + length]
    assert np.sqrt((error**2).mean()) < 0.1 * np.sqrt((wanted**2).mean())
    for edge in (4.0, 8.0):
        around = slice(round((edge - began) * RATE) - 2048, round((edge - began) * RATE) + 2048)
        apart = samples[:, around] - wanted[:, around.start + offset : around.stop + offset]
        assert np.sqrt((apart**2).mean()) < 0.2 * np.sqrt((wanted**2).mean()), edge


def test_a_picture_is_there_at_every_moment_of_a_film_whose_pictures_are_far_apart(tmp_path: Path) -> None:
    times = [500, 900, 6500]
    path = write_video(
        tmp_path / "uneven.mkv",
        [flat(RED), flat(GREEN), flat(BLUE)],
        time_base=Fraction(1, 1000),
        stamp=lambda i: times[i],
        sound=tone(10.0),
    )
    film = catalogue(tmp_path).add(str(path))
    made = [frames(piece) for piece in pieces(film)]
    assert [[round(time, 3) for time, _ in one] for one in made] == [[0.0, 0.5, 0.9], [4.0, 6.5], [8.0]]
    seen = [picture.mean((0, 1)) for one in made for _, picture in one]
    for picture, wanted in zip(seen, (BLACK, RED, GREEN, GREEN, BLUE, BLUE), strict=True):
        assert np.abs(picture - wanted).max() < 12


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((1920, 1080), (640, 360)),
        ((1080, 1920), (360, 640)),
        ((65, 49), (64, 48)),
        ((1, 1), (2, 2)),
        ((720, 405), (640, 360)),
        ((10_000, 20), (1440, 2)),
    ],
)
def test_pictures_fit_and_their_sides_are_even(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    width, height = Fitting(360)(*size)
    assert (width, height) == wanted


def test_turned_deep_and_odd_pictures_are_shown_as_they_are_meant(tmp_path: Path) -> None:
    known = catalogue(tmp_path)
    shown, lossless = [flat(RED, 66, 50)] * 6, {"codec": "ffv1", "options": {}}
    turned = known.add(str(write_video(tmp_path / "turned.mp4", shown, rotation=90)))
    deep = known.add(str(write_video(tmp_path / "deep.mkv", shown, pixels="yuv420p10le", **lossless)))
    odd = [flat(RED, 65, 49)] * 6
    strange = known.add(str(write_video(tmp_path / "odd.mkv", odd, pixels="yuv444p", **lossless)))
    for film, size in ((turned, (66, 50)), (deep, (50, 66)), (strange, (48, 64))):
        for _, picture in frames(pieces(film)[0]):
            assert picture.shape[:2] == size
            assert np.abs(picture.mean((0, 1)) - RED).max() < 12


def test_a_sound_has_no_pictures_and_a_still_no_pieces(tmp_path: Path) -> None:
    known = catalogue(tmp_path)
    song = known.add(str(write_sound(tmp_path / "song.flac", tone(5.0))))
    made = pieces(song)
    assert len(made) == 2
    with av.open(io.BytesIO(made[0])) as container:
        assert [stream.type for stream in container.streams] == ["audio"]
    began, samples = heard(joined(made))
    assert (began, samples.shape[1] / RATE) == (0.0, pytest.approx(5.0, abs=0.03))
    photo = known.add(str(write_picture(tmp_path / "photo.jpg", flat(RED))))
    assert proxy_parts(photo) == []


def test_what_can_not_be_made_is_said_in_a_sentence(film: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    for params in ({"height": 8}, {"height": 721}, {"codec": "theora"}):
        with pytest.raises(FeatureError, match=r"proxy\.\w+ must be"):
            pieces(film, **params)

    def without(self: Any, name: str, *given: Any, **more: Any) -> Any:
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr("amber_ray.media.fragment._add", without)
    with pytest.raises(FeatureError, match=r"no encoder libx264; ask for another proxy\.codec"):
        pieces(film)


def test_damage_is_of_the_pieces_that_it_is_in(tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mkv", [textured(i) for i in range(108)], fps=12, gop=12)
    data = bytearray(path.read_bytes())
    lost = slice(len(data) * 60 // 100, len(data) * 65 // 100)
    data[lost] = bytes(lost.stop - lost.start)
    path.write_bytes(data)
    film = catalogue(tmp_path).add(str(path))
    first, second, _ = (
        Segment(film, round(part.start * 1e6), round((part.end - part.start) * 1e6), found=True)
        for part in proxy_parts(film)
    )
    assert proxy(first)
    with pytest.raises(MediaError, match="damaged"):
        proxy(second)
