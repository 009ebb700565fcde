"""Pictures and sound by time: exact, the same whatever the grid, upright, and never silently damaged."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from amber_ray.core.model.units import Asset, segments
from amber_ray.errors import MediaError, Unsuitable
from amber_ray.media import reader
from amber_ray.media.decode import pictures, pictures_at, window
from amber_ray.media.scale import exactly, longer_side, native, shorter_side
from amber_ray.media.sound import mono
from amber_ray.samples import clip
from amber_ray.settings import Limits
from tests.media import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    RED,
    WHITE,
    catalogue,
    counted_pictures,
    damage,
    flat,
    textured,
    tone,
    write_picture,
    write_sound,
    write_video,
)


def numbered(count: int) -> list[np.ndarray]:
    """Grey pictures, each a little brighter than the one before: the frame's number can be read off."""
    return [flat((i % 64 * 4,) * 3) for i in range(count)]


def numbers(asset: Asset, **options: object) -> list[int]:
    """Which of the `numbered` pictures come out."""
    return [round(float(p.rgb.mean()) / 4) for p in pictures(asset, **options)]  # type: ignore[arg-type]


@pytest.fixture
def film(tmp_path: Path) -> Asset:
    """60 pictures at 12 a second (5 s), a key frame every second."""
    path = write_video(tmp_path / "film.mp4", numbered(60), fps=12, gop=12, options={"qp": "0", "bf": "2"})
    return catalogue(tmp_path).add(str(path))


def test_times_are_the_frames_own(film: Asset) -> None:
    times = [p.time for p in pictures(film)]
    assert times == [i / 12 for i in range(60)]
    assert numbers(film) == list(range(60))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0.0, 1.0, range(12)),
        (1.0, 2.0, range(12, 24)),
        (1.01, 2.01, range(13, 25)),
        (0.5, 0.51, range(6, 7)),
        (0.51, 0.52, range(0)),
        (4.5, None, range(54, 60)),
        (4.99, None, range(0)),
        (7.0, None, range(0)),
    ],
)
def test_a_span_holds_the_pictures_whose_time_is_in_it(
    film: Asset, start: float, end: float | None, expected: range
) -> None:
    assert numbers(film, start=start, end=end) == list(expected)


def test_a_rate_takes_the_first_picture_of_each_slot(film: Asset) -> None:
    assert numbers(film, fps=2.0) == list(range(0, 60, 6))
    assert numbers(film, fps=5.0) == [
        0,
        3,
        5,
        8,
        10,
        12,
        15,
        17,
        20,
        22,
        *(24 + i for i in (0, 3, 5, 8, 10)),
        36,
        39,
        41,
        44,
        46,
        48,
        51,
        53,
        56,
        58,
    ]
    assert numbers(film, fps=0.25) == [0, 48]
    assert numbers(film, fps=12.0) == numbers(film, fps=1000.0) == list(range(60))


@pytest.mark.parametrize("fps", [None, 0.3, 1.0, 2.0, 5.0, 7.3, 12.0, 30.0])
@pytest.mark.parametrize("seconds", [0.7, 1.0, 1.3, 3.3])
def test_the_grid_of_segments_does_not_change_which_pictures_are_chosen(
    film: Asset, fps: float | None, seconds: float
) -> None:
    whole = [(p.time, p.rgb.tobytes()) for p in pictures(film, fps=fps)]
    parts = []
    for segment in segments(film, seconds):
        start, end = window(segment)
        parts += [(p.time, p.rgb.tobytes()) for p in pictures(film, start, end, fps=fps)]
    assert parts == whole


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".flv", ".avi", ".mpg", ".webm"])
def test_every_container_gives_the_same_pictures(tmp_path: Path, suffix: str) -> None:
    codec = {".avi": "mpeg4", ".mpg": "mpeg2video", ".webm": "libvpx-vp9"}.get(suffix, "libx264")
    options = {"libx264": {"crf": "4", "bf": "2"}, "libvpx-vp9": {"crf": "4", "cpu-used": "8"}}.get(
        codec, {"q": "2"}
    )
    path = write_video(tmp_path / f"film{suffix}", numbered(60), fps=25, gop=10, codec=codec, options=options)
    asset = catalogue(tmp_path).add(str(path))
    assert [round(p.time * 25) for p in pictures(asset)] == list(range(60))
    assert [round(p.time * 25) for p in pictures(asset, 1.0, 2.0)] == list(range(25, 50))
    for i, number in enumerate(numbers(asset, start=1.0, end=1.4)):
        assert number == pytest.approx(25 + i, abs=1)


def test_rounded_timestamps_do_not_lose_pictures_at_the_films_own_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mkv", numbered(60), fps=30, options={"qp": "0"})
    asset = catalogue(tmp_path).add(str(path))
    assert [p.time for p in pictures(asset)][1] == 0.033
    assert numbers(asset, fps=30.0) == list(range(60))
    assert numbers(asset, fps=10.0) == list(range(0, 60, 3))


def test_time_begins_with_the_container(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.ts", numbered(24), first=240)
    asset = catalogue(tmp_path).add(str(path))
    assert [p.time for p in pictures(asset)] == pytest.approx([i / 24 for i in range(24)], abs=1e-4)
    assert next(pictures(asset)).time == 0.0


def test_a_beginning_between_microseconds_shifts_no_time(tmp_path: Path) -> None:
    asset = catalogue(tmp_path).add(str(write_video(tmp_path / "film.mp4", numbered(24), first=1)))
    assert [p.time for p in pictures(asset)] == [i / 24 for i in range(24)]


def test_an_uneven_film_keeps_its_times(tmp_path: Path) -> None:
    stamps = [0, 40, 80, 1500, 1501, 3999, 9000]
    path = write_video(
        tmp_path / "uneven.mkv",
        numbered(len(stamps)),
        time_base=Fraction(1, 1000),
        stamp=lambda i: stamps[i],
        options={"crf": "4", "bf": "0"},
    )
    asset = catalogue(tmp_path).add(str(path))
    assert [p.time for p in pictures(asset)] == [s / 1000 for s in stamps]
    assert [p.time for p in pictures(asset, fps=1.0)] == [0.0, 1.5, 3.999, 9.0]
    assert [p.time for p in pictures(asset, 4.0, 8.0)] == []
    assert [p.time for p in pictures(asset, 4.0, 8.0, lead=True)] == [3.999]
    assert [p.time for p in pictures(asset, 4.0, None, lead=True)] == [3.999, 9.0]
    assert [p.time for p in pictures_at(asset, [0.0, 0.079, 1.2, 1.5, 8.9, 9.0, 100.0])] == [
        *(0.0, 0.04, 0.08, 1.5, 3.999, 9.0),
        9.0,
    ]


def test_the_lead_is_the_picture_on_screen_before(film: Asset) -> None:
    assert numbers(film, start=1.0, end=1.2, lead=True) == [11, 12, 13, 14]
    assert numbers(film, start=0.0, end=0.2, lead=True) == [0, 1, 2]


def test_pictures_at_times_seek_and_go_on_alike(film: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [0.0, 0.3, 1.0, 2.6, 2.61, 4.0, 4.95, 60.0]
    expected = [0, 3, 12, 31, 31, 48, 59, 59]
    assert [round(p.time * 12) for p in pictures_at(film, times)] == expected
    monkeypatch.setattr(reader, "_SKIP", 0.1)
    assert [round(p.time * 12) for p in pictures_at(film, times)] == expected
    assert numbers(film, fps=1.0) == [0, 12, 24, 36, 48]


def test_known_colours_come_out_right(tmp_path: Path) -> None:
    colours = (RED, GREEN, BLUE, BLACK, WHITE, GREY)
    for codec, suffix in (("libx264", ".mp4"), ("libvpx-vp9", ".webm")):
        path = write_video(
            tmp_path / f"colours{suffix}",
            [flat(c) for c in colours for _ in range(4)],
            fps=4,
            gop=4,
            codec=codec,
            options={"crf": "1"},
        )
        asset = catalogue(tmp_path).add(str(path))
        for colour, picture in zip(colours, pictures(asset, fps=1.0), strict=True):
            assert np.abs(picture.rgb.mean(axis=(0, 1)) - colour).max() < 4, (
                colour,
                picture.rgb.mean(axis=(0, 1)),
            )


def test_scaling_keeps_black_white_and_the_greys_between(tmp_path: Path) -> None:
    levels = [0, 32, 64, 128, 192, 255]
    path = write_video(tmp_path / "greys.mp4", [flat((v, v, v)) for v in levels], options={"qp": "0"})
    asset = catalogue(tmp_path).add(str(path))
    for size in (native(), shorter_side(24), shorter_side(30), shorter_side(96)):
        means = [float(p.rgb.mean()) for p in pictures(asset, size=size)]
        assert means == pytest.approx(levels, abs=1.2)
        assert (means[0], means[-1]) == (0.0, 255.0)


def test_untagged_high_definition_is_read_as_bt709(tmp_path: Path) -> None:
    import av

    path = tmp_path / "hd.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=4, options={"crf": "4", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        frame = av.VideoFrame.from_ndarray(flat(GREEN, 1280, 720), format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        frame.colorspace, frame.color_range = 2, 1
        frame.pts, frame.time_base = 0, Fraction(1, 4)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    picture = next(pictures(catalogue(tmp_path).add(str(path))))
    assert np.abs(picture.rgb.mean(axis=(0, 1)) - GREEN).max() < 4


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_honoured(tmp_path: Path, rotation: int) -> None:
    stored = flat(BLACK, 64, 48)
    stored[:16, :16] = WHITE
    path = write_video(tmp_path / "turned.mp4", [stored] * 4, rotation=rotation)
    asset = catalogue(tmp_path).add(str(path))
    assert asset.streams[0].rotation == rotation % 360
    expected = np.rot90(stored, rotation // 90)
    picture = next(pictures(asset)).rgb
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected).mean() < 8
    assert next(pictures(asset, size=shorter_side(24))).rgb.shape == (
        (24, 32, 3) if rotation == 180 else (32, 24, 3)
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_stands_upright(tmp_path: Path, orientation: int) -> None:
    upright = flat(BLACK, 64, 48)
    upright[:16, :24] = RED
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, 3),
    }[orientation]
    path = write_picture(tmp_path / "photo.jpg", np.ascontiguousarray(stored), orientation, quality=95)
    picture = next(pictures(catalogue(tmp_path).add(str(path)))).rgb
    assert picture.shape == upright.shape
    assert np.abs(picture.astype(int) - upright).mean() < 4


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    import av

    path = tmp_path / "dv.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        for i in range(4):
            frame = av.VideoFrame.from_ndarray(flat(RED), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 4)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    asset = catalogue(tmp_path).add(str(path))
    assert next(pictures(asset)).rgb.shape == (48, 96, 3)
    assert next(pictures(asset, size=longer_side(48))).rgb.shape == (24, 48, 3)


def test_sizes() -> None:
    assert shorter_side(224)(640, 360) == (398, 224)
    assert shorter_side(224)(360, 640) == (224, 398)
    assert shorter_side(0)(7, 5) == native()(7, 5) == (7, 5)
    assert shorter_side(10)(5, 5) == (10, 10)
    assert longer_side(320)(640, 360) == (320, 180)
    assert longer_side(320)(64, 36) == (320, 180)
    assert longer_side(320, enlarge=False)(64, 36) == (64, 36)
    assert longer_side(10)(1, 100_000) == (1, 10)
    assert exactly(3, 4)(640, 360) == (3, 4)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff", "gif"])
def test_a_still_is_one_picture_at_time_0(tmp_path: Path, suffix: str) -> None:
    path = write_picture(tmp_path / f"still.{suffix}", flat(GREEN))
    asset = catalogue(tmp_path).add(str(path))
    (picture,) = pictures(asset, fps=2.0, size=shorter_side(24))
    assert (picture.time, picture.rgb.shape) == (0.0, (24, 32, 3))
    assert np.abs(picture.rgb.mean(axis=(0, 1)) - GREEN).max() < 4
    assert [p.time for p in pictures_at(asset, [0.0, 5.0])] == [0.0, 0.0]
    assert list(pictures(asset, 1.0, 2.0)) == []


@pytest.mark.parametrize(
    ("suffix", "note"),
    [
        ("gif", "it moves: of its 3 pictures, features see the first only"),
        ("png", "it moves: of its 3 pictures, features see the first only"),
        ("avif", "it moves: of its 3 pictures, features see the first only"),
        ("tiff", "of its 3 pages, features see the first only"),
    ],
)
def test_of_a_moving_picture_the_first_is_read_and_the_asset_says_so(
    tmp_path: Path, suffix: str, note: str
) -> None:
    from PIL import Image

    first, *more = [Image.fromarray(flat(colour)) for colour in (GREEN, RED, BLUE)]
    path = tmp_path / f"moving.{suffix}"
    first.save(path, save_all=True, append_images=more)
    known = catalogue(tmp_path)
    asset = known.add(str(path))
    assert asset.note == note
    assert catalogue(tmp_path).add(str(path)).note == note  # from the record
    assert known.get(asset.id).note == note
    (picture,) = pictures(asset, fps=2.0)
    assert np.abs(picture.rgb.mean(axis=(0, 1)) - GREEN).max() < 4
    assert known.add(str(write_picture(tmp_path / f"still.{suffix}", flat(BLUE)))).note == ""


def test_transparency_lies_over_white_and_deep_greys_keep_their_tone(tmp_path: Path) -> None:
    from PIL import Image

    layer = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    layer.save(tmp_path / "clear.png")
    Image.fromarray(np.full((8, 8), 32_896, np.uint16)).save(tmp_path / "deep.png")
    known = catalogue(tmp_path)
    assert (next(pictures(known.add(str(tmp_path / "clear.png")))).rgb == 255).all()
    assert (next(pictures(known.add(str(tmp_path / "deep.png")))).rgb == 128).all()


def test_a_truncated_photograph_is_refused_at_once(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "photo.jpg", textured(1, 640, 480))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"photo\.jpg.*truncated"):
        catalogue(tmp_path).add(str(path))


def test_damage_fails_the_segments_that_it_touches_and_no_others(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "film.mp4",
        [textured(i // 6) for i in range(240)],
        gop=24,
        options={"crf": "12", "preset": "ultrafast", "sc_threshold": "0"},
        container_options={"movflags": "faststart"},
    )
    asset = catalogue(tmp_path).add(str(damage(path, [(0.50, 0.51)])))
    failed = []
    for segment in segments(asset, 1.0):
        start, end = window(segment)
        try:
            assert len(list(pictures(asset, start, end))) == 24
        except MediaError as error:
            failed.append((segment.index, str(error)))
    assert [index for index, _ in failed] in ([4], [5], [4, 5])
    assert all("'film.mp4' is damaged at about" in message for _, message in failed)


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".mp4"])
def test_a_film_that_breaks_off_says_where(tmp_path: Path, suffix: str) -> None:
    path = write_video(
        tmp_path / f"film{suffix}",
        [textured(i // 6) for i in range(240)],
        codec="mpeg4" if suffix == ".avi" else "libx264",
        options={} if suffix == ".avi" else None,
        container_options={"movflags": "faststart"} if suffix == ".mp4" else {},
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    asset = catalogue(tmp_path).add(str(path))
    assert len(list(pictures(asset, 0.0, 2.0))) == 48
    with pytest.raises(MediaError, match=r"breaks off|damaged"):
        list(pictures(asset, 4.0, 8.0))
    with pytest.raises(MediaError, match=r"breaks off at \d\.\d\d s of 10\.00 s"):
        list(pictures(asset, 8.0 if suffix != ".avi" else 5.0, None))


def test_a_recording_that_begins_in_mid_picture_is_forgiven(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "film.ts", [textured(i // 6) for i in range(96)], gop=24, options={"sc_threshold": "0"}
    )
    whole = path.read_bytes()
    path.write_bytes(whole[len(whole) // 3 // 188 * 188 :])
    asset = catalogue(tmp_path).add(str(path))
    assert 40 <= len(list(pictures(asset))) <= 72


def test_sound_alone_has_no_pictures(tmp_path: Path) -> None:
    asset = catalogue(tmp_path).add(str(write_sound(tmp_path / "song.mp3", tone(0.5))))
    for read in (pictures(asset), pictures_at(asset, [0.0])):
        with pytest.raises(Unsuitable, match=r"'song\.mp3' has no pictures"):
            next(read)


def test_decoding_has_a_longest_time(film: Asset) -> None:
    with pytest.raises(MediaError, match="took longer"):
        list(pictures(film, limits=Limits(decode_seconds=0.0)))


def test_a_wide_span_between_pictures_is_skipped_by_seeking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "long.mp4", numbered(240), fps=4, gop=4, options={"crf": "4"})
    asset = catalogue(tmp_path).add(str(path))
    decoded: list[int] = []
    real: Callable = reader.Reader._decoded
    monkeypatch.setattr(reader.Reader, "_decoded", lambda *a: (decoded.append(1), real(*a))[1])
    assert [p.time for p in pictures(asset, fps=0.05)] == [0.0, 20.0, 40.0]
    assert len(decoded) < 60


@pytest.mark.parametrize("start", [0.0, 50.0, 110.0])
def test_a_segment_decodes_about_its_own_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: float
) -> None:
    # Two minutes; a key frame every 2 s, as films have them, and none where segments begin.
    path = write_video(tmp_path / "long.mp4", numbered(1447), fps=12, gop=25, options={"crf": "30"})
    asset = catalogue(tmp_path).add(str(path))
    (segment,) = (s for s in segments(asset, 10.0) if s.start == start)
    frames = counted_pictures(monkeypatch)
    chosen = [p.time for p in pictures(asset, *window(segment), fps=2.0)]
    assert chosen == [start + i / 2 for i in range(20)]
    # At most its own 120, one group of pictures before it, and the one that shows that it is over.
    assert 20 <= frames() <= 120 + 2 * 25


@pytest.mark.parametrize("suffix", [".wav", ".m4a", ".mka"])
def test_mono_sound_at_a_rate_has_the_tone_in_place(tmp_path: Path, suffix: str) -> None:
    sound = np.concatenate(
        [np.zeros(48_000, np.float32), tone(2.0, 440.0, -6.0), np.zeros(48_000, np.float32)]
    )
    asset = catalogue(tmp_path).add(str(write_sound(tmp_path / f"tone{suffix}", sound, channels=2)))
    samples = mono(asset, 16_000, 0.0, 4.0)
    assert (samples.dtype, samples.shape) == (np.float32, (64_000,))
    loud = np.abs(samples.reshape(-1, 1600)).max(axis=1) > 0.1
    assert loud.tolist() == [*([False] * 10), *([True] * 20), *([False] * 10)]
    middle = samples[20_000:36_000]
    assert np.abs(np.fft.rfft(middle)).argmax() == 440
    assert np.abs(middle).max() == pytest.approx(10 ** (-6 / 20), abs=0.02)


def test_a_span_of_sound_equals_that_part_of_the_whole(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 5 * 48_000).astype(np.float32)
    sound = np.convolve(sound, np.ones(16) / 16, "same").astype(np.float32)
    asset = catalogue(tmp_path).add(str(write_sound(tmp_path / "noise.wav", sound)))
    whole = mono(asset, 16_000)
    parts = [mono(asset, 16_000, s.start, s.end) for s in segments(asset, 1.3)]
    assert sum(map(len, parts)) == len(whole) == 80_000
    assert np.abs(np.concatenate(parts) - whole).max() < 1e-3


def test_a_gap_in_the_sound_is_silence(tmp_path: Path) -> None:
    import av

    path = tmp_path / "gap.mka"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=48_000)
        stream.layout = "mono"
        for second in (0, 3):
            frame = av.AudioFrame.from_ndarray(tone(1.0, 500.0)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, second * 48_000, Fraction(1, 48_000)
            resampler = av.AudioResampler(format="s16")
            for part in resampler.resample(frame):
                part.pts = second * 48_000
                out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    samples = mono(catalogue(tmp_path).add(str(path)), 16_000)
    loud = np.abs(samples[: 16_000 * 4].reshape(-1, 16_000)).max(axis=1) > 0.05
    assert loud.tolist() == [True, False, False, True]


def test_sound_that_is_absent_is_a_media_error(film: Asset) -> None:
    with pytest.raises(Unsuitable, match=r"speech needs sound; 'film\.mp4' has no audio stream"):
        mono(film, 16_000, feature="speech")


def test_the_shipped_clip_is_what_it_says() -> None:
    asset = catalogue_of_samples()
    assert (asset.media_type, round(asset.duration or 0), asset.has_audio) == ("video/mp4", 30, True)
    assert sum(1 for _ in pictures(asset, size=exactly(16, 9))) == 720
    assert [p.time for p in pictures(asset, 7.0, 9.0, fps=1.0, size=exactly(16, 9))] == [7.0, 8.0]
    assert math.isclose(next(pictures(asset, 29.95, None)).time, 719 / 24)


def catalogue_of_samples() -> Asset:
    import tempfile

    from amber_ray.media.catalogue import Catalogue
    from amber_ray.media.locate import Locator

    with tempfile.TemporaryDirectory() as folder:
        return Catalogue(folder, Locator([str(clip().parent)])).add(str(clip()))
