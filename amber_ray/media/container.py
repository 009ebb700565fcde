"""FFmpeg's demuxers, fenced in: a container opens no other file and no network, and no picture is too large.

FFmpeg reads the bytes through a Python file and is refused everything it tries to open itself; only plain
containers are on its list of formats (no playlists, `concat`, SDP, SVG, device or filter inputs), and they
are recognised by content, never by name. FFmpeg's errors become Amber's here.
Must not know: assets' ids, features, what the pictures are for.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from amber_ray.errors import MediaError
from amber_ray.media.source import Watched
from amber_ray.settings import Limits

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpeg", "mpegts", "flv", "asf", "mxf", "ogg", "nut",
    "ivf", "dv", "rm", "yuv4mpegpipe", "wav", "w64", "aiff", "au", "caf", "mp3", "flac", "aac", "ac3", "eac3",
    "dts", "amr", "ape", "wv", "tta",
)  # fmt: skip
"""Demuxers of film and sound that are allowed. Raw streams without timestamps are not among them."""

ESTIMATED = frozenset({"mp3", "aac", "ac3", "eac3", "dts", "amr", "flv", "mpegts", "mpeg"})
"""Formats whose header holds no duration: FFmpeg guesses it, by bit rate or the last timestamp it finds."""

MEASURED = ESTIMATED | {"ogg", "flac"}
"""Formats whose packets are counted for their duration: guessed, or told of the first of several streams."""

_FORMATS = ",".join(CONTAINERS)
_BUFFER = 1 << 18


class _Sought(Watched):
    """A file that answers as FFmpeg's own do where a demuxer follows a damaged table to where no file is."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file, but for a position that can't be: FFmpeg takes a negative number for an error."""
        try:
            return super().seek(offset, whence)
        except ValueError:
            return -errno.EINVAL
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return -errno.EINVAL


@contextlib.contextmanager
def demuxed(file: BinaryIO, name: str, limits: Limits) -> Iterator[InputContainer]:
    """The container in `file`; `name` is what messages call it.

    Raises `MediaError` for what is no media, is of a format that is not allowed, or is broken at any time
    while the container is in use; `SystemFault` when the file can't be read.
    """
    import av

    def refuse(url: str, flags: int, options: dict[str, str]) -> Any:
        raise MediaError(f"{name!r} refers to another file or to the network, which media may not")

    source = _Sought(file)
    options = {
        "format_whitelist": _FORMATS,
        "protocol_whitelist": "",
        "max_pixels": str(limits.frame_pixels),
        "max_streams": "64",
    }
    try:
        try:
            container = av.open(
                source, "r", options=options, io_open=refuse, buffer_size=_BUFFER, metadata_errors="replace"
            )
        except av.error.FFmpegError as error:
            if source.failure is not None:
                raise
            raise MediaError(
                f"{name!r} is not a film, sound or picture of a kind that can be read"
            ) from error
        with container:
            for stream in filter(readable, container.streams.video):
                stream.codec_context.options = {"max_pixels": str(limits.frame_pixels)}
            for sound in filter(readable, container.streams.audio):
                _order_plainly(sound)
            yield container
    except av.error.PatchWelcomeError as error:
        raise MediaError(f"{name!r} can't be read to its end: FFmpeg does not do what it needs") from error
    except av.error.FFmpegError as error:
        source.check(name)
        raise MediaError(f"{name!r} is damaged: {reason(error)}") from error
    except OSError as error:
        if error is source.failure:
            source.check(name)
        raise


def video_stream(container: InputContainer, stills: Collection[int] = ()) -> VideoStream | None:
    """The pictures to look at: moving ones before a still, then the default track, then FFmpeg's best.

    Cover art and thumbnails for seeking are left out. `stills`: indices of streams that were found to have
    one picture, see `stills_among`.
    """
    streams = _films(container)
    return min(streams, key=_rank(container.streams.best("video"), stills), default=None)


def stills_among(container: InputContainer) -> frozenset[int] | None:
    """Indices of the streams of pictures that have one only, beside others; found by reading packets.

    None, and nothing is read, where there is no choice or the header tells how many each has.
    """
    import av

    streams = _films(container)
    if len(streams) < 2 or all(s.frames or _counted(s) for s in streams):
        return None
    seen = dict.fromkeys((s.index for s in streams), 0)
    try:
        for number, packet in enumerate(packets(container, *streams)):
            if packet.size:
                seen[packet.stream_index] += 1
            if min(seen.values()) > 1 or number > _TELLING:
                break
    except av.error.FFmpegError:
        pass  # Whoever reads on is told.
    return frozenset(index for index, count in seen.items() if count == 1)


_TELLING = 1000
"""Packets within which a film beside others has shown its second picture."""


def _films(container: InputContainer) -> list[VideoStream]:
    from av.stream import Disposition

    aside = Disposition.attached_pic | Disposition.timed_thumbnails
    return [s for s in container.streams.video if readable(s) and not s.disposition & aside]


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The sound to listen to: the default track, else FFmpeg's best."""
    streams = filter(readable, container.streams.audio)
    return min(streams, key=_rank(container.streams.best("audio")), default=None)


def _rank(best: Stream | None, stills: Collection[int] = ()) -> Callable[[Any], tuple[bool, bool, bool, int]]:
    from av.stream import Disposition

    def rank(stream: Any) -> tuple[bool, bool, bool, int]:
        # A phone's moving photograph has its still beside the film, in a track of one picture.
        still = stream.type == "video" and (stream.index in stills or 1 in (stream.frames, _counted(stream)))
        default = bool(stream.disposition & Disposition.default)
        return still, not default, best is None or stream.index != best.index, stream.index

    return rank


def _counted(stream: Any) -> int | None:
    """How many pictures Matroska's statistics tag tells of; it may be stale, and only orders tracks."""
    told = next((v for k, v in stream.metadata.items() if k.startswith("NUMBER_OF_FRAMES")), "")
    return int(told) if told.isdecimal() else None


_PLAIN = ("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC", "TFR",
          "TBL", "TBC", "TBR")  # fmt: skip
"""Channels in the order in which FFmpeg has them by itself."""

_SWAPPED = {"SL": "BL", "SR": "BR", "BL": "SL", "BR": "SR"}


def _order_plainly(stream: AudioStream) -> None:
    """Give a stream whose channels lie in an order of their own one that FFmpeg knows.

    PyAV frees the list of such an order once for each object that tells of it, which ends the process. Sides
    and backs are exchanged where that is all, as in QuickTime's and CAF's 7.1; any others lose their names.
    """
    context = stream.codec_context
    layout = context.layout
    names = [channel.name for channel in layout.channels]
    if "(" not in layout.name or _ascend(names):
        return
    names = [_SWAPPED.get(name, name) for name in names]
    context.layout = "+".join(names) if _ascend(names) else f"{len(names)} channels"


def _ascend(names: list[str]) -> bool:
    places = [_PLAIN.index(name) for name in names if name in _PLAIN]
    return len(places) == len(names) and places == sorted(set(places))


def decoder(stream: VideoStream, threads: int = 1) -> VideoCodecContext:
    """What decodes a stream's packets: libvpx where VP8 or VP9 is transparent, which FFmpeg's own ignore.

    With several threads it gives up at whatever is damaged, which one thread may conceal.
    """
    import av
    from av.codec.context import Flags

    context = stream.codec_context
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(context.codec.canonical_name)
    if name and stream.metadata.get("alpha_mode") == "1" and name in av.codecs_available:
        context = cast("VideoCodecContext", av.CodecContext.create(name, "r"))
    context.thread_count = threads
    if threads > 1:
        # Pictures side by side, slices where a decoder can't do that: few films have slices.
        context.thread_type = "AUTO"
        context.options = {**context.options, "err_detect": "explode"}
        if context.name == "libdav1d":
            # With several pictures at a time it passes over what it can't decode.
            context.options = {**context.options, "max_frame_delay": "1"}
    # A stream may crop any number of pixels on the left; decoders would round it down to whole vectors.
    context.flags |= Flags.unaligned
    return context


def readable(stream: Any) -> bool:
    """Whether there is a decoder for a stream; one of an unknown codec has no context."""
    return stream.codec_context is not None


def packets(container: InputContainer, *streams: Any) -> Iterator[Any]:
    """The packets of streams, each stream's empty last one included, which flushes its decoder."""
    try:
        yield from container.demux(*streams)
    except IndexError:
        # PyAV's own, at the end of a file in which more streams turned up than its head told of. All packets,
        # and the last ones of the streams wanted, have come by then.
        return


def says_nothing(packet: Packet[Any]) -> bool:
    """Whether a packet is empty, as Theora's are where a picture stays; FFmpeg's decoders refuse those.

    The packet that ends a stream is empty too, but has no time, and decoders need it.
    """
    return packet.size == 0 and (packet.pts is not None or packet.dts is not None)


def reason(error: Exception) -> str:
    """FFmpeg's words for an error, without its code and the function's name."""
    text = getattr(error, "strerror", None) or type(error).__name__
    return str(text)[:1].lower() + str(text)[1:]
