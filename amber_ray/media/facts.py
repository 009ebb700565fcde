"""What a file is: media type by its content, duration, streams, and proof that something in it decodes.

Must not know: where the file lies, its identity, features.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from amber_ray.core.model.units import Stream
from amber_ray.errors import MediaError, TooLarge
from amber_ray.media.clock import Clock
from amber_ray.media.container import (
    MEASURED,
    audio_stream,
    demuxed,
    packets,
    readable,
    reason,
    stills_among,
    video_stream,
)
from amber_ray.media.headers import Crop, crops, joined
from amber_ray.media.stills import still_facts
from amber_ray.settings import Limits

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_TYPES = {
    "avi": "video/x-msvideo", "mpeg": "video/mpeg", "mpegts": "video/mp2t", "flv": "video/x-flv",
    "asf": "video/x-ms-asf", "mxf": "video/mxf", "ogg": "video/ogg", "nut": "video/x-nut",
    "ivf": "video/x-ivf", "dv": "video/dv", "rm": "video/x-realmedia", "yuv4mpegpipe": "video/x-yuv4mpeg",
    "wav": "audio/wav", "w64": "audio/x-w64", "aiff": "audio/aiff", "au": "audio/basic", "caf": "audio/x-caf",
    "mp3": "audio/mpeg", "flac": "audio/flac", "aac": "audio/aac", "ac3": "audio/ac3", "eac3": "audio/eac3",
    "dts": "audio/vnd.dts", "amr": "audio/amr", "ape": "audio/x-ape", "wv": "audio/x-wavpack",
    "tta": "audio/x-tta",
}  # fmt: skip
_WEBM = {"vp8", "vp9", "av1", "vorbis", "opus"}


_PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020",
    10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
_TRANSFERS = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100",
    10: "log316", 11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12",
    16: "smpte2084", 17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip
_MATRICES = {
    0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc",
    10: "bt2020c", 14: "ictcp",
}  # fmt: skip
_RANGES = {1: "limited", 2: "full"}
"""Code points of ITU-T H.273, which FFmpeg uses, and its names for them; 2 says unspecified."""

_LATE = 100_000
"""Microseconds from zero up to the first stamp that are taken for none: a codec's delay, B pictures."""

_TRIES = 2000
"""Packets in which one picture, or one piece of sound, must decode for the file to count as media."""


@dataclass(frozen=True, slots=True)
class Facts:
    """`duration` in seconds, None for a still picture; `note` says what of the file features do not see."""

    media_type: str
    duration: float | None
    streams: tuple[Stream, ...]
    note: str = ""


def facts(file: BinaryIO, name: str, limits: Limits) -> Facts:
    """Read the facts of an open file that messages call `name`.

    Raises `MediaError` when it is no media or nothing in it decodes, `TooLarge` when its duration or its
    picture is beyond `limits`.
    """
    if (still := still_facts(file, name, limits)) is not None:
        return Facts(still.media_type, None, (still.stream,), still.note)
    file.seek(0)
    if (second := joined(file)) is not None:
        raise MediaError(
            f"{name!r} holds two files, one behind the other, and only the first would be read: "
            f"cut it at byte {second}, or join what is in them with FFmpeg's concat"
        )
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(demuxed(file, name, limits))
        if (stills := stills_among(container)) is not None:
            stack.close()
            file.seek(0)
            container = stack.enter_context(demuxed(file, name, limits))
        shown, heard = _chosen(container, stills)
        media_type = _media_type(container, shown)
        for stream in filter(readable, container.streams.video):
            if stream.width * stream.height > limits.frame_pixels:
                raise TooLarge(
                    f"{name!r} has pictures of {stream.width}x{stream.height}; "
                    f"at most {limits.frame_pixels} pixels are allowed"
                )
        picture = _first_decoded(container, shown, heard, name, limits)
        streams = _streams(container, shown, heard, picture, crops(file, container.format.name))
        declared = container.duration / 1_000_000 if container.duration else None
        form = container.format.name
        # Matroska's header tells when the last picture ends, not for how long there are any.
        late = form.startswith("matroska") and (container.start_time or 0) > _LATE
        measured = form in MEASURED or late
    duration = declared
    if declared is None or measured:
        file.seek(0)
        with demuxed(file, name, limits) as container:
            duration = _packet_duration(container, stills, name)
    if not duration or duration <= 0:
        raise MediaError(
            f"{name!r} has no timestamps, so its duration can't be known; put it into a container that has"
        )
    if duration > limits.media_seconds:
        raise TooLarge(f"{name!r} lasts {duration:.0f} s; at most {limits.media_seconds:.0f} s are allowed")
    return Facts(media_type, duration, streams)


def _chosen(
    container: InputContainer, stills: frozenset[int] | None
) -> tuple[VideoStream | None, AudioStream | None]:
    return video_stream(container, stills or ()), audio_stream(container)


def _media_type(container: InputContainer, shown: VideoStream | None) -> str:
    """By the demuxer that recognised the bytes, the brand of an MP4, and the kinds of streams inside."""
    form = container.format.name
    codecs = {
        s.codec_context.codec.canonical_name
        for s in (*container.streams.video, *container.streams.audio)
        if readable(s)
    }
    pictures = shown is not None
    if form.startswith("matroska"):
        base = "webm" if codecs and codecs <= _WEBM else "x-matroska"
        return f"{'video' if pictures else 'audio'}/{base}"
    if form.startswith("mov"):
        brand = container.metadata.get("major_brand", "")
        if brand.startswith("qt") and pictures:
            return "video/quicktime"
        if brand.startswith("3gp"):
            return "video/3gpp" if pictures else "audio/3gpp"
        return "video/mp4" if pictures else "audio/mp4"
    found = _TYPES[form]
    return found if pictures or found.startswith("audio/") else "audio/" + found.partition("/")[2]


def _first_decoded(
    container: InputContainer,
    picture: VideoStream | None,
    sound: AudioStream | None,
    name: str,
    limits: Limits,
) -> VideoFrame | None:
    """Decode until a picture, else a piece of sound, comes out; the picture, None if there is only sound."""
    import av

    chosen = [s for s in (picture, sound) if s is not None]
    if not chosen:
        raise MediaError(f"{name!r} holds neither pictures nor sound")
    heard = False
    why = "it is truncated or damaged"
    for count, packet in enumerate(_packets(container, chosen)):
        try:
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    return frame
                heard = True
        except av.error.InvalidDataError:
            continue  # A stream may begin in mid-picture; what follows decides.
        except av.error.FFmpegError as error:
            why = f"FFmpeg can't do what it needs ({reason(error)})"
            continue
        if count > _TRIES or (heard and picture is None):
            break
    if not heard:
        raise MediaError(
            f"nothing in {name!r} can be decoded: {why}, "
            f"or its pictures have more than {limits.frame_pixels} pixels"
        )
    return None


def _packets(container: InputContainer, streams: list[Any]) -> Iterator[Any]:
    """Packets up to the first one that can't be read."""
    import av

    try:
        yield from packets(container, *streams)
    except av.error.FFmpegError:
        return


def _packet_duration(container: InputContainer, stills: frozenset[int] | None, name: str) -> float | None:
    """Seconds from the first packet's time to the end of the last, over pictures and sound.

    Raises `MediaError` if a stream's clock jumps back on the way.
    """
    chosen = [s for s in _chosen(container, stills) if s is not None]
    extents = {s.index: _Extent(Clock(container, s, name)) for s in chosen}
    for packet in _packets(container, chosen):
        if packet.time_base is not None and packet.size:
            extents[packet.stream_index].add(packet)
    stamped = [e for e in extents.values() if e.begins is not None]
    if not stamped:
        return None
    return float(max(e.end for e in stamped) - min(e.begins for e in stamped if e.begins is not None))


class _Extent:
    """From when to when a stream's packets last, on its own clock; `begins` is None without stamps."""

    def __init__(self, clock: Clock) -> None:
        self.begins: Fraction | None = None
        self._ends = self._counted = Fraction(0)
        self._all_stamped = True
        self._clock = clock

    def add(self, packet: Any) -> None:
        """Take the next packet. Raises `MediaError` where the clock jumps back."""
        length = _length(packet)
        self._clock.ordered(packet)
        self._counted += length
        if packet.pts is None:
            self._all_stamped = False
            return
        start = packet.pts * packet.time_base
        end = start + length
        self.begins, self._ends = (
            (start, end) if self.begins is None else (min(self.begins, start), max(self._ends, end))
        )

    @property
    def end(self) -> Fraction:
        """When the last packet ends; those without a stamp follow at the stream's rate, at the end too."""
        if self._all_stamped or self.begins is None:
            return self._ends
        return max(self._ends, self.begins + self._counted)


def _length(packet: Any) -> Fraction:
    """A packet's duration in seconds; where it is not written, one period of its stream's frame rate."""
    if packet.duration:
        return Fraction(packet.duration * packet.time_base)
    rate = packet.stream.average_rate if packet.stream.type == "video" else None
    return 1 / Fraction(rate) if rate else Fraction(0)


def _streams(
    container: InputContainer,
    shown: VideoStream | None,
    heard: AudioStream | None,
    picture: VideoFrame | None,
    cropped: list[Crop | None],
) -> tuple[Stream, ...]:
    """The streams as they are told to callers; `picture` is the first one of the stream that is looked at."""
    films = {s.index: n for n, s in enumerate(container.streams.video)}
    found: list[Stream] = []
    for stream in container.streams:
        told = _stream(stream)
        if shown is not None and stream.index == shown.index:
            number = films[stream.index]
            turn, mirrored = _turn(picture)
            told = dataclasses.replace(
                told,
                rotation=turn,
                mirrored=mirrored or None,
                crop=cropped[number] if number < len(cropped) else None,
                chosen=True,
            )
        elif heard is not None and stream.index == heard.index:
            told = dataclasses.replace(told, chosen=True)
        found.append(told)
    return tuple(found)


def _stream(stream: Any) -> Stream:
    """One stream; cover art, subtitles and data count as `other`."""
    from av.stream import Disposition

    if not readable(stream):
        return Stream(kind="other", codec="unknown")
    context = stream.codec_context
    codec = context.codec.canonical_name
    if stream.type == "video" and not stream.disposition & Disposition.attached_pic:
        rate = stream.average_rate or stream.guessed_rate
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        return Stream(
            kind="video",
            codec=codec,
            width=stream.width,
            height=stream.height,
            frame_rate=str(rate) if rate else None,
            frames=stream.frames or None,
            rotation=0,
            pixel_format=context.pix_fmt,
            color_primaries=_PRIMARIES.get(int(context.color_primaries)),
            color_transfer=_TRANSFERS.get(int(context.color_trc)),
            color_space=_MATRICES.get(int(context.colorspace)),
            color_range=_RANGES.get(int(context.color_range)),
            pixel_aspect=str(aspect) if aspect not in (0, 1) else None,
        )
    if stream.type == "audio":
        return Stream(kind="audio", codec=codec, sample_rate=context.sample_rate, channels=context.channels)
    return Stream(kind="other", codec=codec)


def _turn(picture: VideoFrame | None) -> tuple[int, bool]:
    """What the display matrix of a picture, the container's or else the stream's, means.

    That is degrees counter-clockwise, a multiple of 90, and whether the turned picture is mirrored left to
    right. Where both have one, the container's comes first. The matrix maps (x, y), y downward, to
    (a x + c y, b x + d y); see libavutil/display.h.
    """
    from av.sidedata.sidedata import Type

    told = [] if picture is None else list(cast(Any, picture.side_data))
    matrix = next((one for one in told if one.type == Type.DISPLAYMATRIX), None)
    if matrix is None:
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), "<i4")[:5].astype(float)
    mirrored = a * d - b * c < 0
    if mirrored:
        a = -a
    return round(math.degrees(math.atan2(-b, a)) / 90) % 4 * 90, bool(mirrored)
