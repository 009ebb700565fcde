"""What a file is: media type by its content, duration, streams, and proof that something in it decodes.

Must not know: where the file lies, its identity, features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

from amber_ray.core.model.units import Stream
from amber_ray.errors import MediaError, TooLarge
from amber_ray.media.container import (
    ESTIMATED,
    STILLS,
    audio_stream,
    demuxed,
    packets,
    readable,
    video_stream,
)
from amber_ray.media.stills import unseen
from amber_ray.settings import Limits

if TYPE_CHECKING:
    from av.container import InputContainer

_TYPES = {
    "avi": "video/x-msvideo", "mpeg": "video/mpeg", "mpegts": "video/mp2t", "flv": "video/x-flv",
    "asf": "video/x-ms-asf", "mxf": "video/mxf", "ogg": "video/ogg", "nut": "video/x-nut",
    "ivf": "video/x-ivf", "dv": "video/dv", "rm": "video/x-realmedia", "yuv4mpegpipe": "video/x-yuv4mpeg",
    "wav": "audio/wav", "w64": "audio/x-w64", "aiff": "audio/aiff", "au": "audio/basic", "caf": "audio/x-caf",
    "mp3": "audio/mpeg", "flac": "audio/flac", "aac": "audio/aac", "ac3": "audio/ac3", "eac3": "audio/eac3",
    "dts": "audio/vnd.dts", "amr": "audio/amr", "ape": "audio/x-ape", "wv": "audio/x-wavpack",
    "tta": "audio/x-tta",
}  # fmt: skip
_BRANDS = {
    "qt  ": "video/quicktime",
    "avif": "image/avif",
    "avis": "image/avif",
    "heic": "image/heic",
    "mif1": "image/heif",
}
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
    with demuxed(file, name, limits) as container:
        media_type = _media_type(container)
        still = media_type.startswith("image/")
        for stream in filter(readable, container.streams.video):
            if stream.width * stream.height > limits.frame_pixels:
                raise TooLarge(
                    f"{name!r} has pictures of {stream.width}x{stream.height}; "
                    f"at most {limits.frame_pixels} pixels are allowed"
                )
        rotation = _first_decoded(container, name, limits)
        streams = tuple(_stream(s, rotation, still) for s in container.streams)
        declared = container.duration / 1_000_000 if container.duration else None
        estimated = container.format.name in ESTIMATED
    if still:
        file.seek(0)
        return Facts(media_type, None, streams, unseen(file))
    duration = declared
    if declared is None or estimated:
        file.seek(0)
        with demuxed(file, name, limits) as container:
            duration = _packet_duration(container)
    if not duration or duration <= 0:
        raise MediaError(
            f"{name!r} has no timestamps, so its duration can't be known; put it into a container that has"
        )
    if duration > limits.media_seconds:
        raise TooLarge(f"{name!r} lasts {duration:.0f} s; at most {limits.media_seconds:.0f} s are allowed")
    return Facts(media_type, duration, streams)


def _media_type(container: InputContainer) -> str:
    """By the demuxer that recognised the bytes, the brand of an MP4, and the kinds of streams inside."""
    form = container.format.name
    if form in STILLS:
        return STILLS[form]
    codecs = {
        s.codec_context.codec.canonical_name
        for s in (*container.streams.video, *container.streams.audio)
        if readable(s)
    }
    pictures = video_stream(container) is not None
    if form.startswith("matroska"):
        base = "webm" if codecs and codecs <= _WEBM else "x-matroska"
        return f"{'video' if pictures else 'audio'}/{base}"
    if form.startswith("mov"):
        brand = container.metadata.get("major_brand", "")
        if brand in _BRANDS and (pictures or not brand.startswith("qt")):
            return _BRANDS[brand]
        if brand.startswith("3gp"):
            return "video/3gpp" if pictures else "audio/3gpp"
        return "video/mp4" if pictures else "audio/mp4"
    found = _TYPES[form]
    return found if pictures or found.startswith("audio/") else "audio/" + found.partition("/")[2]


def _first_decoded(container: InputContainer, name: str, limits: Limits) -> int | None:
    """Decode until one picture (else one piece of sound) comes out; the picture's rotation in degrees."""
    import av

    picture, sound = video_stream(container), audio_stream(container)
    chosen = [s for s in (picture, sound) if s is not None]
    if not chosen:
        raise MediaError(f"{name!r} holds neither pictures nor sound")
    heard = False
    for count, packet in enumerate(_packets(container, chosen)):
        try:
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    return int(frame.rotation)
                heard = True
        except av.error.FFmpegError:
            continue  # A stream may begin in mid-picture; what follows decides.
        if count > _TRIES or (heard and picture is None):
            break
    if not heard:
        raise MediaError(
            f"nothing in {name!r} can be decoded: it is truncated or damaged, "
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


def _packet_duration(container: InputContainer) -> float | None:
    """Seconds from the first packet's time to the end of the last, over pictures and sound."""
    chosen = [s for s in (video_stream(container), audio_stream(container)) if s is not None]
    first: Fraction | None = None
    last = Fraction(0)
    for packet in _packets(container, chosen):
        if packet.pts is None or packet.time_base is None:
            continue
        start = packet.pts * packet.time_base
        first = start if first is None else min(first, start)
        last = max(last, start + _length(packet))
    return None if first is None else float(last - first)


def _length(packet: Any) -> Fraction:
    """A packet's duration in seconds; where it is not written, one period of its stream's frame rate."""
    if packet.duration:
        return Fraction(packet.duration * packet.time_base)
    rate = packet.stream.average_rate if packet.stream.type == "video" else None
    return 1 / Fraction(rate) if rate else Fraction(0)


def _stream(stream: Any, rotation: int | None, still: bool) -> Stream:
    """One stream as it is told to callers; cover art, subtitles and data count as `other`.

    `rotation` is how many degrees the picture is turned counter-clockwise for display, 0 to 359.
    """
    from av.stream import Disposition

    if not readable(stream):
        return Stream(kind="other", codec="unknown")
    context = stream.codec_context
    codec = context.codec.canonical_name
    if stream.type == "video" and not stream.disposition & Disposition.attached_pic:
        rate = None if still else stream.average_rate or stream.guessed_rate
        return Stream(
            kind="video",
            codec=codec,
            width=stream.width,
            height=stream.height,
            frame_rate=str(rate) if rate else None,
            frames=1 if still else stream.frames or None,
            rotation=(rotation or 0) % 360,
            pixel_format=context.pix_fmt,
            color_primaries=_PRIMARIES.get(int(context.color_primaries)),
            color_transfer=_TRANSFERS.get(int(context.color_trc)),
            color_space=_MATRICES.get(int(context.colorspace)),
            color_range=_RANGES.get(int(context.color_range)),
        )
    if stream.type == "audio":
        return Stream(kind="audio", codec=codec, sample_rate=context.sample_rate, channels=context.channels)
    return Stream(kind="other", codec=codec)
