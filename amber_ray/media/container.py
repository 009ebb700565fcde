"""FFmpeg's demuxers, fenced in: a container opens no other file and no network, and no picture is too large.

FFmpeg reads the bytes through a Python file and is refused everything it tries to open itself; only plain
containers are on its list of formats (no playlists, `concat`, SDP, SVG, device or filter inputs), and they
are recognised by content, never by name. FFmpeg's errors become Amber's here.
Must not know: assets' ids, features, what the pictures are for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from amber_ray.errors import MediaError, SystemFault
from amber_ray.settings import Limits

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

STILLS = {
    "jpeg_pipe": "image/jpeg",
    "png_pipe": "image/png",
    "webp_pipe": "image/webp",
    "webp": "image/webp",
    "bmp_pipe": "image/bmp",
    "tiff_pipe": "image/tiff",
    "gif": "image/gif",
    "apng": "image/png",
}
"""Demuxers of stills, and their media types. Moving GIF, WebP and PNG count as their first picture."""

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpeg", "mpegts", "flv", "asf", "mxf", "ogg", "nut",
    "ivf", "dv", "rm", "yuv4mpegpipe", "wav", "w64", "aiff", "au", "caf", "mp3", "flac", "aac", "ac3", "eac3",
    "dts", "amr", "ape", "wv", "tta",
)  # fmt: skip
"""Demuxers of film and sound that are allowed. Raw streams without timestamps are not among them."""

ESTIMATED = frozenset({"mp3", "aac", "ac3", "eac3", "dts", "amr", "flv", "mpegts", "mpeg"})
"""Formats whose header holds no duration: FFmpeg guesses it, by bit rate or the last timestamp it finds."""

_FORMATS = ",".join((*CONTAINERS, *STILLS))
_BUFFER = 1 << 18


class _Bytes:
    """A file without a name, so that no extension sways FFmpeg's guess; remembers a failed read."""

    name = ""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: Exception | None = None

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except Exception as error:
            self.failure = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextlib.contextmanager
def demuxed(file: BinaryIO, name: str, limits: Limits) -> Iterator[InputContainer]:
    """The container in `file`; `name` is what messages call it.

    Raises `MediaError` for what is no media, is of a format that is not allowed, or is broken at any time
    while the container is in use; `SystemFault` when the file can't be read.
    """
    import av

    def refuse(url: str, flags: int, options: dict[str, str]) -> Any:
        raise MediaError(f"{name!r} refers to another file or to the network, which media may not")

    source = _Bytes(file)
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
            yield container
    except av.error.FFmpegError as error:
        if source.failure is not None:
            raise _unreadable(name, source.failure) from source.failure
        raise MediaError(f"{name!r} is damaged: {reason(error)}") from error
    except OSError as error:
        if error is source.failure:
            raise _unreadable(name, error) from error
        raise


def video_stream(container: InputContainer) -> VideoStream | None:
    """The pictures to look at: FFmpeg's choice of best stream, cover art left out."""
    from av.stream import Disposition

    streams = [
        s for s in container.streams.video if readable(s) and not s.disposition & Disposition.attached_pic
    ]
    best = container.streams.best("video")
    chosen = next((s for s in streams if best is not None and s.index == best.index), None)
    return chosen or (streams[0] if streams else None)


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The sound to listen to: FFmpeg's choice of best stream."""
    best = container.streams.best("audio")
    streams = filter(readable, container.streams.audio)
    return next((s for s in streams if best is not None and s.index == best.index), None)


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


def _unreadable(name: str, failure: Exception) -> SystemFault:
    return SystemFault(f"{name!r} could not be read to its end: {type(failure).__name__}")
