"""Odd media of our own making, of the same kinds as the files of `cases.json` in other containers and codecs.

`MADE` maps each file's name to what makes it and to what a user should get, in the words of `cases.json`.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from PIL import Image, PngImagePlugin

from amber_ray.testing.media import add_sound, encode_sound
from tests.media import textured, tone, write_video

FPS = 25
GREYS = (40, 190, 90, 230, 65, 140, 210, 50)
CORNERS = {"tl": "red", "tr": "green", "bl": "blue", "br": "white"}
SAME = {"times": "ascending, each once", "in_segments_of_1_s": "the same"}
SOUND = {"in_segments_of_1_s": "the same"}
REFUSED = {"or": "refused in a sentence that gives the true reason"}

Make = Callable[[Path], Any]
MADE: dict[str, tuple[Make, dict[str, Any] | str]] = {}


def corners(width: int = 96, height: int = 72) -> np.ndarray:
    """Four quarters of four colours: uint8[h, w, 3]."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (255, 0, 0)
    picture[: height // 2, width // 2 :] = (0, 255, 0)
    picture[height // 2 :, : width // 2] = (0, 0, 255)
    picture[height // 2 :, width // 2 :] = 255
    return picture


def greys(seconds: int, width: int = 96, height: int = 72, first: int = 0) -> list[np.ndarray]:
    """A film of another grey each second."""
    return [
        np.full((height, width, 3), GREYS[(first + i // FPS) % len(GREYS)], np.uint8)
        for i in range(seconds * FPS)
    ]


def moving(seconds: int, width: int = 96, height: int = 72) -> list[np.ndarray]:
    """A film in which no two pictures are alike."""
    count = seconds * FPS
    wide = textured(7, width + 8 * count, height)
    return [np.ascontiguousarray(wide[:, 4 * i : 4 * i + width]) for i in range(count)]


def logo(seconds: int = 1) -> list[np.ndarray]:
    """A dark box on a clear ground: uint8[h, w, 4]."""
    picture = np.zeros((72, 96, 4), np.uint8)
    picture[18:54, 24:72] = (20, 20, 20, 255)
    return [picture] * (seconds * FPS)


def film(
    path: Path,
    pictures: Sequence[np.ndarray],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    b_frames: int = 0,
    gop: int = 12,
    aspect: Fraction | None = None,
    matrix: tuple[int, ...] | None = None,
    form: str | None = None,
    first: int = 0,
    tags: dict[str, str] | None = None,
) -> Path:
    """Encode pictures at 25 a second, the first at `first` / 25 s."""

    def prepare(stream: Any) -> None:
        stream.metadata.update(tags or {})
        if b_frames:
            stream.codec_context.max_b_frames = b_frames
        if aspect:
            stream.sample_aspect_ratio = aspect
        if matrix:
            stream.set_display_matrix(matrix)

    return write_video(
        path,
        pictures,
        FPS,
        codec=codec,
        gop=gop,
        first=first,
        pixels=pixels,
        options=options or {},
        form=form,
        container_options=container,
        prepare=prepare,
    )


def tracks(path: Path, *films: Sequence[np.ndarray], default: int, codec: str = "libx264") -> Path:
    """Several tracks of pictures in one file, one of them flagged as the default."""
    with av.open(str(path), "w") as out:
        streams: list[Any] = []
        for number, pictures in enumerate(films):
            stream: Any = out.add_stream(codec, rate=FPS)
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.disposition = Disposition.default if number == default else Disposition(0)
            streams.append(stream)
        for stream, pictures in zip(streams, films, strict=True):
            for number, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return path


def voice(
    path: Path, sound: np.ndarray, codec: str, rate: int = 48_000, channels: int = 1, **options: str
) -> Path:
    """Encode float32[n], the same in all channels; `options` are the container's."""
    with av.open(str(path), "w", options=options) as out:
        encode_sound(out, add_sound(out, path, rate, channels, codec), sound, rate, channels)
    return path


def joined(path: Path, *makes: Make) -> Path:
    """Files one behind the other, as `cat` joins them."""
    parts = []
    for number, make in enumerate(makes):
        part = path.with_name(f"part{number}{path.suffix}")
        make(part)
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))
    return path


def changed(path: Path, make: Make, change: Callable[[bytes], bytes]) -> Path:
    """A file whose bytes are changed after it was made."""
    make(path)
    path.write_bytes(change(path.read_bytes()))
    return path


def copied(
    path: Path,
    make: Make,
    suffix: str = ".avi",
    *,
    filters: str = "",
    keep: Callable[[Any], bool] = lambda packet: True,
    stamp: Callable[[Any], None] = lambda packet: None,
    matrix: tuple[int, ...] | None = None,
) -> Path:
    """A film copied into another container without encoding it anew: FFmpeg's `-c copy`.

    Packets go through bit stream `filters`; what `keep` refuses is left out, and `stamp` may change times.
    """
    make(source := path.with_name(f"source_of_{path.stem}{suffix}"))
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        streams: dict[int, Any] = {s.index: out.add_stream_from_template(s) for s in given.streams}
        changed_by = {s.index: av.BitStreamFilterContext(filters, s) for s in given.streams.video if filters}
        for stream in streams.values():
            if matrix and stream.type == "video":
                stream.set_display_matrix(matrix)
        for packet in given.demux():
            if packet.dts is None or not keep(packet):
                continue
            index = packet.stream_index
            for one in changed_by[index].filter(packet) if index in changed_by else [packet]:
                stamp(one)
                one.stream = streams[index]
                out.mux_one(one)
    source.unlink()
    return path


def by_decoding(packet: Any) -> None:
    """Stamp a packet as AVI does, by when it is decoded, which is what FFmpeg makes of it when it copies."""
    packet.pts = packet.dts


def unstamped(data: bytes, keep: int) -> bytes:
    """A transport stream of which only each `keep`-th picture has a time stamp (ISO/IEC 13818-1, PES)."""
    stream, count = bytearray(data), 0
    for at in range(0, len(stream), 188):
        if not stream[at + 1] & 0x40:
            continue
        pes = at + 4 + (1 + stream[at + 4] if stream[at + 3] & 0x20 else 0)
        if stream[pes : pes + 3] == b"\0\0\1" and stream[pes + 3] & 0xF0 == 0xE0:
            if count % keep:
                length = stream[pes + 8]
                stream[pes + 7] &= 0x3F
                stream[pes + 9 : pes + 9 + length] = b"\xff" * length
            count += 1
    return bytes(stream)


def clean_aperture(data: bytes, width: int, height: int) -> bytes:
    """An MP4 whose index is behind its media, cropped evenly by a box `clap` in its description."""
    box = struct.pack(">I4sIIIIiIiI", 40, b"clap", width, 1, height, 1, 0, 1, 0, 1)
    at = data.index(b"avcC") - 4
    grown = bytearray(data[:at] + box + data[at:])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        place = grown.rindex(kind) - 4
        size = int.from_bytes(grown[place : place + 4], "big")
        grown[place : place + 4] = (size + len(box)).to_bytes(4, "big")
    return bytes(grown)


def jpeg(**options: Any) -> bytes:
    """The corners as a JPEG."""
    into = io.BytesIO()
    Image.fromarray(corners()).save(into, "JPEG", quality=95, **options)
    return into.getvalue()


def with_exif(
    entries: Sequence[tuple[int, int, int, bytes]], behind: bytes = b"", following: int = 0
) -> bytes:
    """A JPEG with an EXIF directory of raw entries: tag, type, count, four bytes."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHI4s", *e) for e in entries)
    body = b"Exif\0\0II*\0\x08\0\0\0" + directory + struct.pack("<I", following) + behind
    data = jpeg()
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def still(path: Path, image: Image.Image | None = None, **options: Any) -> None:
    """The corners, or another picture, by the name's ending."""
    (image or Image.fromarray(corners())).save(path, **options)


def _made(name: str, make: Make, expected: dict[str, Any] | str) -> None:
    MADE[name] = make, expected


def _bright(seconds: int) -> dict[str, Any]:
    return {"at": {f"{s}.5": GREYS[s % len(GREYS)] / 255 for s in range(seconds)}, "within": 0.02}


def _film(seconds: int, grey: bool = True, **more: Any) -> dict[str, Any]:
    expected: dict[str, Any] = {"pictures": seconds * FPS, **SAME, **more}
    return expected | ({"brightness": _bright(seconds)} if grey else {})


_ONE = 1 << 16
_HFLIP = (-_ONE, 0, 0, 0, _ONE, 0, 0, 0, 1 << 30)
_VFLIP = (_ONE, 0, 0, 0, -_ONE, 0, 0, 0, 1 << 30)
_TRANSPOSE = (0, _ONE, 0, _ONE, 0, 0, 0, 0, 1 << 30)
_TURN = (0, _ONE, 0, -_ONE, 0, 0, 0, 0, 1 << 30)
_TURNED = {"tl": "blue", "tr": "red", "bl": "white", "br": "green"}

# Turn and mirror.
for _name, _codec, _matrix, _size, _seen in (
    ("hflip.mov", "mpeg4", _HFLIP, "96x72", {"tl": "green", "tr": "red", "bl": "white", "br": "blue"}),
    ("vflip.mov", "libx264", _VFLIP, "96x72", {"tl": "blue", "tr": "white", "bl": "red", "br": "green"}),
    (
        "transpose.mp4",
        "mpeg4",
        _TRANSPOSE,
        "72x96",
        {"tl": "red", "tr": "blue", "bl": "green", "br": "white"},
    ),
    ("turn.mkv", "libx264", _TURN, "72x96", _TURNED),
):
    _made(
        _name,
        lambda path, codec=_codec, matrix=_matrix: film(path, [corners()] * FPS, codec, matrix=matrix),
        {"size_as_displayed": _size, "corners_as_seen": _seen, **SAME},
    )

for _name in ("turned_twice.mp4", "turned_twice.mov"):
    # The stream says upside down, the container a quarter: the container's word is the last one.
    _made(
        _name,
        lambda path: copied(
            path,
            lambda p: film(p, [corners()] * FPS),
            ".ts",
            filters="h264_metadata=display_orientation=insert:rotate=180",
            matrix=_TURN,
        ),
        {"size_as_displayed": "72x96", "corners_as_seen": _TURNED, **SAME},
    )

# Size.
for _name, _codec in (("left_off.mp4", "h264"), ("left_off.ts", "hevc")):
    _made(
        _name,
        lambda path, codec=_codec: copied(
            path,
            lambda p: film(
                p,
                [np.hstack([np.zeros((80, 16, 3), np.uint8), corners(96, 80)])] * FPS,
                {"h264": "libx264", "hevc": "libx265"}[codec],
                options={"crf": "12", "preset": "ultrafast", "x265-params": "log-level=none"},
            ),
            ".ts",
            filters=f"{codec}_metadata=crop_left=16",
        ),
        {
            "size_as_displayed": "96x80",
            "corners_as_seen": CORNERS,
            "brightness": {"at": {"0": 0.5}, "within": 0.03},
            **SAME,
        },
    )
for _name, _codec, _aspect, _size in (
    ("wide.mp4", "libx264", Fraction(4, 3), "128x72"),
    ("wide.mkv", "mpeg4", Fraction(16, 11), "140x72"),
    ("high.avi", "mpeg4", Fraction(2, 3), "96x108"),
):
    _made(
        _name,
        lambda path, codec=_codec, aspect=_aspect: film(path, greys(2), codec, aspect=aspect),
        _film(2, size_as_displayed=_size),
    )
_made(
    "wide_turned.mp4",
    lambda path: film(path, [corners()] * FPS, aspect=Fraction(4, 3), matrix=_TURN),
    {"size_as_displayed": "72x128", "corners_as_seen": _TURNED, **SAME},
)
_made(
    "cropped.mp4",
    lambda path: changed(
        path, lambda p: film(p, [corners()] * FPS, form="mp4"), lambda d: clean_aperture(d, 64, 48)
    ),
    {"size_as_displayed": "64x48", "corners_as_seen": CORNERS, **SAME},
)

# Stamps, order, seeking.
_made(
    "every_third.ts",
    lambda path: changed(
        path, lambda p: film(p, greys(4), options={"bf": "0"}, gop=10), lambda d: unstamped(d, 3)
    ),
    _film(4, duration={"seconds": 4.0, "within": 0.01}),
)
_made(
    "every_fourth_hevc.ts",
    lambda path: changed(
        path,
        lambda p: film(p, greys(4), "libx265", options={"x265-params": "bframes=0:log-level=none"}),
        lambda d: unstamped(d, 4),
    ),
    _film(4),
)
_made(
    "every_twelfth_mpeg2.ts",
    lambda path: changed(
        path, lambda p: film(p, moving(4), "mpeg2video", b_frames=2), lambda d: unstamped(d, 12)
    ),
    _film(4, grey=False),
)
_made("b_mpeg4.avi", lambda path: film(path, greys(4), "mpeg4", b_frames=2, gop=25), _film(4))
_made(
    "b_h264.avi",
    lambda path: film(path, greys(4), options={"bf": "3", "b-adapt": "0"}, gop=25),
    _film(4, first_and_last_time={"seconds": [0.0, 3.96], "within": 0.001}),
)
for _name, _codec, _options in (
    ("b_h264.mp4", "libx264", {"x264-params": "bframes=3:b-adapt=0:b-pyramid=normal"}),
    ("b_h264.mkv", "libx264", {"x264-params": "bframes=3:b-adapt=0:b-pyramid=normal:open-gop=1"}),
    ("b_h264.ts", "libx264", {"x264-params": "bframes=3:b-adapt=0:b-pyramid=normal"}),
    ("b_hevc.mp4", "libx265", {"x265-params": "bframes=3:b-adapt=0:log-level=none"}),
    ("b_hevc.ts", "libx265", {"x265-params": "bframes=3:open-gop=0:log-level=none"}),
    ("b_mpeg2.mkv", "mpeg2video", {"bf": "2"}),
    ("b_mpeg2.ts", "mpeg2video", {"bf": "2"}),
    ("av1.mkv", "libsvtav1", {"preset": "10"}),
):
    _made(
        _name,
        lambda path, codec=_codec, options=_options: film(path, moving(4), codec, options=options, gop=25),
        _film(4, grey=False),
    )
for _name, _codec, _form in (
    ("b.mpg", "mpeg2video", None),
    ("b.vob", "mpeg2video", "vob"),
    ("b1.mpg", "mpeg1video", None),
):
    _made(
        _name,
        lambda path, codec=_codec, form=_form: film(path, moving(4), codec, b_frames=2, form=form),
        _film(4, grey=False),
    )
_made("grey8.mov", lambda path: film(path, greys(4), "qtrle", "gray"), _film(4))
_made("raw.avi", lambda path: film(path, greys(4), "rawvideo", "bgra"), _film(4))

for _name, _codec in (("from_avi.mp4", "libx264"), ("from_avi.mov", "mpeg4"), ("from_avi.nut", "mpeg4")):
    _made(
        _name,
        lambda path, codec=_codec: copied(
            path,
            lambda p: film(p, moving(4), codec, b_frames=2, options={"bf": "2", "b-adapt": "0"}, gop=25),
            stamp=by_decoding,
        ),
        _film(4, grey=False, first_and_last_time={"seconds": [0.0, 3.96], "within": 0.001}),
    )
for _name, _codec in (("b_h264.wmv", "libx264"), ("b_mpeg4.wmv", "mpeg4"), ("b_mpeg4.nut", "mpeg4")):
    _made(
        _name,
        lambda path, codec=_codec: film(
            path, greys(4), codec, b_frames=2, options={"bf": "2", "b-adapt": "0"}, gop=25
        ),
        _film(4, first_and_last_time={"seconds": [0.0, 3.96], "within": 0.001}),
    )


def _begun_late(packet: Any) -> bool:
    """Pictures from the second key frame on, with the B pictures that need what came before it."""
    at = packet.pts * packet.time_base
    return bool(at >= Fraction(10, FPS) if packet.stream.type == "video" else at >= Fraction(4, FPS))


for _name in ("cut_tv.ts", "cut_tv.mkv"):
    _made(
        _name,
        lambda path: copied(
            path,
            lambda p: write_video(
                p,
                moving(4),
                FPS,
                codec="mpeg2video",
                gop=12,
                options={"bf": "2"},
                sound=tone(4.0, 1000.0),
            ),
            ".ts",
            keep=_begun_late,
        ),
        {"last_time": {"seconds": 3.8, "within": 0.05}, **SAME},
    )


def _late_sound(path: Path) -> None:
    """Sound from the second second on; in FLV nothing leads a seek back to before it."""
    film(shown := path.with_name("picture.avi"), greys(4), "flv1")
    voice(heard := path.with_name("sound.mp3"), tone(2.0, 500.0, rate=44_100), "libmp3lame", 44_100)
    with av.open(str(path), "w") as out:
        later: list[Any] = []
        for source, late in ((shown, 0), (heard, 1)):
            with av.open(str(source)) as given:
                stream = out.add_stream_from_template(given.streams[0])
                packets = [p for p in given.demux() if p.dts is not None]
            for packet in packets:
                packet.dts += round(late / packet.time_base)
                packet.pts, packet.stream = packet.dts, stream
            later += packets
        for packet in sorted(later, key=lambda packet: packet.dts * packet.time_base):
            out.mux_one(packet)


_made("late_sound.flv", _late_sound, _film(4))
for _name, _codec in (("late.mkv", "libx264"), ("late.webm", "libvpx")):
    _made(
        _name,
        lambda path, codec=_codec: film(path, greys(3), codec, first=30 * 3600 * FPS),
        _film(3, duration={"seconds": 3.0, "within": 0.05}),
    )

# Clocks and joined files.
for _name, _codec in (("clock.ts", "mpeg2video"), ("clock.mpg", "mpeg2video")):
    _made(
        _name,
        lambda path, codec=_codec: joined(
            path, lambda p: film(p, greys(3), codec), lambda p: film(p, greys(3, first=3), codec)
        ),
        "refused: it jumps back from 2.9",
    )
for _name, _codec in (
    ("two.mp4", "libx264"),
    ("two.mkv", "libx264"),
    ("two.avi", "mpeg4"),
    ("two.flv", "flv1"),
):
    _made(
        _name,
        lambda path, codec=_codec: joined(path, *[lambda p: film(p, greys(3), codec)] * 2),
        "refused: it holds two files, one behind the other",
    )
_made(
    "fragments.mp4",
    lambda path: film(path, moving(4), container={"movflags": "frag_keyframe+empty_moov"}),
    _film(4, grey=False),
)

# Which track, a size that changes, tags of another film.
for _name, _codec in (("second_default.mp4", "libx264"), ("second_default.mkv", "mpeg4")):
    _made(
        _name,
        lambda path, codec=_codec: tracks(
            path, greys(2, 64, 48, first=4), greys(2, 192, 144), default=1, codec=codec
        ),
        _film(2, size_as_displayed="192x144"),
    )
for _name, _codec in (("still_first.mp4", "mpeg4"), ("still_first.mov", "libx264")):
    _made(
        _name,
        lambda path, codec=_codec: tracks(
            path, greys(1, 384, 288, first=4)[:1], greys(2), default=0, codec=codec
        ),
        _film(2, size_as_displayed="96x72"),
    )
for _name, _codec in (("still_first.mkv", "libx264"), ("still_first.nut", "mpeg4")):
    # Nothing in the header tells that the first track, the default one, is a still.
    _made(
        _name,
        lambda path, codec=_codec: tracks(
            path, greys(1, 384, 288, first=4)[:1], greys(2), default=0, codec=codec
        ),
        _film(2, size_as_displayed="96x72"),
    )
for _name, _codec in (("resized_mpeg2.ts", "mpeg2video"), ("resized.ts", "libx264")):
    _made(
        _name,
        lambda path, codec=_codec: joined(
            path,
            lambda p: film(p, greys(3, 160, 120), codec),
            lambda p: film(p, greys(3, 160, 90, first=3), codec, first=3 * FPS),
        ),
        # The second part's clock begins up to two pictures early, and each time counts once.
        _film(6, size_as_displayed="160x120", pictures=[148, 150], **REFUSED),
    )
# Raw pictures in an order of bytes that QuickTime has no name for: nobody can tell what they are.
_made(
    "nameless.mov",
    lambda path: film(path, greys(1), "rawvideo", "yuv420p"),
    "refused: it can be decoded: FFmpeg can't do what it needs (invalid argument)",
)
for _name, _codec in (("stale.webm", "libvpx-vp9"), ("stale.mkv", "mpeg4")):
    _made(
        _name,
        lambda path, codec=_codec: film(path, greys(3), codec, tags={"DURATION-eng": "00:00:10.000000000"}),
        _film(3, duration={"seconds": 3.0, "within": 0.05}),
    )

# Transparency.
for _name, _codec, _pixels in (
    ("logo.webm", "libvpx-vp9", "yuva420p"),
    ("logo_prores.mov", "prores_ks", "yuva444p10le"),
    ("logo_png.mov", "png", "rgba"),
    ("logo.mkv", "ffv1", "bgra"),
):
    _made(
        _name,
        lambda path, codec=_codec, pixels=_pixels: film(path, logo(), codec, pixels),
        {"brightness": {"at": {"0": 0.77}, "within": 0.02}, **SAME},
    )

# Sound that changes its form, ends early, is short.
_TONE = tone(2.0, 1000.0)
_LOUD = {"loudness_LUFS": {"least": -23.6, "most": -22.6}}
for _ending, _codec in (("ac3", "ac3"), ("aac", "aac"), ("eac3", "eac3"), ("mp3", "libmp3lame")):
    _made(
        f"mono_stereo.{_ending}",
        lambda path, codec=_codec: joined(
            path, lambda p: voice(p, _TONE, codec), lambda p: voice(p, _TONE, codec, channels=2)
        ),
        {"loudness_LUFS": {"least": -22.4, "most": -20.5}, **SOUND},
    )
for _ending, _codec in (("flac", "flac"), ("opus", "libopus")):
    _made(
        f"chained.{_ending}",
        lambda path, codec=_codec: joined(path, *[lambda p: voice(p, _TONE, codec)] * 2),
        "refused: it jumps back from",
    )
for _ending, _codec in (
    ("aac", "aac"),
    ("ac3", "ac3"),
    ("flac", "flac"),
    ("opus", "libopus"),
    ("mp2", "mp2"),
):
    _made(
        f"cut.{_ending}",
        lambda path, codec=_codec: changed(path, lambda p: voice(p, _TONE, codec), lambda d: d[:-60]),
        {**_LOUD, **SOUND},
    )
    _made(
        f"zeros.{_ending}",
        lambda path, codec=_codec: changed(
            path, lambda p: voice(p, _TONE, codec), lambda d: d + bytes(30_000)
        ),
        {**_LOUD, **SOUND},
    )
    _made(
        f"tagged.{_ending}",
        lambda path, codec=_codec: changed(
            path,
            lambda p: voice(p, _TONE, codec),
            lambda d: d + b"APETAGEX" + b"\1" * 192 + b"TAG" + b"x" * 125,
        ),
        {**_LOUD, **SOUND},
    )
    _made(
        f"short.{_ending}",
        lambda path, codec=_codec: voice(path, tone(0.2, 1000.0), codec),
        {"loudness_LUFS": {"least": -24.0, "most": -22.5}, **SOUND},
    )
# The last bytes of a NUT tell how far before them its index begins: with more behind, that is nowhere.
_made(
    "longer.nut",
    lambda path: changed(path, lambda p: film(p, greys(2), "mpeg4"), lambda d: d + bytes(range(256)) * 8),
    {"pictures": 50, "in_segments_of_1_s": "the same", "brightness": _bright(2)},
)
_made(
    "cut.m4a",
    lambda path: changed(path, lambda p: voice(p, _TONE, "aac", movflags="faststart"), lambda d: d[:-60]),
    {**_LOUD, **SOUND},
)


def surround(path: Path, *, tag: int) -> None:
    """Eight channels of 32-bit floats in CAF, in an order told by one of Apple's tags."""
    samples = np.repeat(tone(1.0, 1000.0)[:, None], 8, 1).astype("<f4").tobytes()
    description = struct.pack(">d4sIIIII", 48_000.0, b"lpcm", 3, 32, 1, 8, 32)
    path.write_bytes(
        b"caff\0\1\0\0"
        + struct.pack(">4sq", b"desc", len(description))
        + description
        + struct.pack(">4sqIII", b"chan", 12, tag, 0, 0)
        + struct.pack(">4sqI", b"data", len(samples) + 4, 0)
        + samples
    )


# MPEG 7.1 C has its sides before its backs, MPEG 7.1 A begins with the left and right of the centre.
for _name, _tag in (("sides_first.caf", 0x0080_0008), ("order_of_its_own.caf", 0x007E_0008)):
    _made(
        _name,
        lambda path, tag=_tag: surround(path, tag=tag),
        {
            "channels": 8,
            "loudness_LUFS": {"least": -20.0, "most": -10.0},
            "tone": {"hertz": 1000, "from": 0.0, "to": 0.9, "within_hertz": 45},
            **SOUND,
        },
    )
for _name, _codec, _rate in (
    ("burst_ms.wav", "adpcm_ms", 44_100),
    ("burst_ima.wav", "adpcm_ima_wav", 22_050),
    ("burst_ima.aiff", "adpcm_ima_qt", 44_100),
    ("burst_ima.mov", "adpcm_ima_qt", 44_100),
    ("burst.au", "pcm_mulaw", 8_000),
    ("burst.mka", "libopus", 48_000),
    ("burst.m4a", "alac", 44_100),
    ("burst.wv", "wavpack", 44_100),
    ("burst_mp3.mka", "libmp3lame", 44_100),
):
    _made(
        _name,
        lambda path, codec=_codec, rate=_rate: voice(
            path,
            np.concatenate(
                [np.zeros(4 * rate, np.float32), tone(1.0, 1000.0, -10.0, rate), np.zeros(rate, np.float32)]
            ),
            codec,
            rate,
        ),
        {"burst_begins": {"seconds": 4.0, "within": 0.015}, **SOUND},
    )

# Stills.
_UPRIGHT = {"size_as_displayed": "96x72", "corners_as_seen": CORNERS}
_SIX = {"size_as_displayed": "72x96", "corners_as_seen": _TURNED}
_GREY = {"size_as_displayed": "80x60", "brightness": {"at": {"0": 0.7843}, "within": 0.02}}
for _ending in ("jpg", "png", "webp", "avif"):

    def _turned(path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        still(path, exif=exif)

    _made(f"six.{_ending}", _turned, _SIX)
for _ending in ("gif", "webp", "png", "avif", "tiff"):

    def _several(path: Path) -> None:
        first, *rest = (Image.fromarray(np.full((60, 80, 3), v, np.uint8)) for v in (200, 100, 50))
        still(path, first, save_all=True, append_images=rest, duration=100)

    _made(f"several.{_ending}", _several, _GREY)


def _heic(path: Path) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    still(path)


_made("photo.heic", _heic, _UPRIGHT)
_made(
    "pair.mpo", lambda path: still(path, save_all=True, append_images=[Image.fromarray(corners())]), _UPRIGHT
)
_made(
    "motion.jpg",
    lambda path: path.write_bytes(jpeg() + film(path.with_suffix(".mkv"), greys(1)).read_bytes()),
    _UPRIGHT,
)


def _wordy(path: Path) -> None:
    words = PngImagePlugin.PngInfo()
    words.add_text("workflow", "x" * 3_000_000, zip=True)
    words.add_itxt("prompt", "y" * 2_000_000)
    still(path, pnginfo=words, icc_profile=bytes(3_000_000))


_made("wordy.png", _wordy, _UPRIGHT)
_six = (0x0112, 3, 1, struct.pack("<HH", 6, 0))
for _name, _entries, _behind, _next, _expected in (
    ("round.jpg", [_six, (0x8769, 4, 1, struct.pack("<I", 8))], b"", 8, _SIX),
    ("strange_type.jpg", [_six, (0x011A, 99, 1, b"\1\2\3\4")], b"", 0, _SIX),
    ("endless.jpg", [_six, (0x011A, 5, 0xFFFFFFFF, b"\1\2\3\4")], b"", 0, _SIX),
    ("signed.jpg", [_six, (0x011A, 10, 1, struct.pack("<I", 38))], struct.pack("<ii", -1, 0), 0, _SIX),
    ("text.jpg", [(0x0112, 2, 4, b"abc\0")], b"", 0, _UPRIGHT),
    ("float.jpg", [(0x0112, 11, 1, struct.pack("<f", 6.0))], b"", 0, _UPRIGHT),
):
    _made(
        _name,
        lambda path, e=_entries, b=_behind, n=_next: path.write_bytes(with_exif(e, b, n)),
        _expected,
    )
_made(
    "float.tiff",
    lambda path: still(path, Image.fromarray(np.full((72, 96), 0.5, np.float32))),
    "refused: it has floating-point pixels",
)
for _name, _head, _kind in (
    ("layers.psd", b"8BPS\0\1", "a Photoshop document"),
    ("new.jxl", b"\xff\x0a", "a JPEG XL picture"),
    ("old.jp2", b"\0\0\0\x0cjP  \r\n", "a JPEG 2000 picture"),
    ("paper.pdf", b"%PDF-1.7", "a PDF document"),
    ("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg">', "an SVG drawing"),
    ("canon.cr2", b"II*\0\x10\0\0\0CR\2\0", "a camera's raw picture"),
    ("canon.cr3", b"\0\0\0\x18ftypcrx ", "a camera's raw picture"),
    ("fuji.raf", b"FUJIFILMCCD-RAW 0201", "a camera's raw picture"),
):
    _made(
        _name,
        lambda path, head=_head: path.write_bytes(head + bytes(100)),
        f"refused: it is {_kind}, which is not",
    )
for _name, _tags in (("adobe.dng", {0xC612: b"\1\4\0\0"}), ("nikon.nef", {0x00FE: 1, 0x014A: 8})):
    # What stands in front is a preview of a hundred pixels.
    _made(
        _name,
        lambda path, tags=_tags: still(path, format="TIFF", tiffinfo=tags),
        "refused: it is a camera's raw picture, which is not read",
    )
for _ending in ("png", "jpg", "gif", "tiff"):
    _made(
        f"half.{_ending}",
        lambda path: changed(
            path, lambda p: still(p, Image.fromarray(textured(1, 640, 480))), lambda d: d[: len(d) // 2]
        ),
        "refused: it is truncated or damaged",
    )
