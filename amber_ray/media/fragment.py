"""Pictures and sound as one piece of a fragmented MP4, which players append to those before it.

A piece begins with its initialisation (`ftyp`, `moov`), which is the same in all pieces of a film, so that a
player may begin with any of them. One fragment follows (`moof`, `mdat`), whose times are the film's own
(ISO/IEC 14496-12). There is a picture at every moment of it: the first is on screen from the piece's
beginning, the last until its end. Frames of sound lie on a grid that begins with the film, so each is in one
piece only.
Must not know: where pictures and sound come from.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from amber_ray.errors import FeatureError

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

MUXED = {
    "movflags": "empty_moov+default_base_moof+frag_discont+skip_trailer",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",
    "write_btrt": "0",
}
"""Times as they are, and nothing in the initialisation that hangs on the piece, such as its bits a second."""
TICKS = 90_000
"""Of pictures' clock, a second."""
RATE = 48_000
"""Samples a second."""
_BT709, _LIMITED = 1, 1
_RUN_UP = 2
"""Frames of sound that are encoded on either side of those that are wanted, for the encoder to settle."""


@dataclass(frozen=True, slots=True)
class Coding:
    """Encoders by FFmpeg's names, their options, and bits a second of pictures and sound at most."""

    video: str
    video_options: tuple[tuple[str, str], ...]
    audio: str
    video_rate: int = 600_000
    audio_rate: int = 96_000


CODINGS = {
    # No B pictures, so that a picture's place in the file is its place in time, and one key frame at the
    # beginning. One thread: what comes out does not hang on how many there are.
    "h264": Coding(
        "libx264",
        (
            ("preset", "veryfast"),
            ("profile", "main"),
            ("crf", "26"),
            ("maxrate", "600k"),
            ("bufsize", "1200k"),
            ("x264-params", "bframes=0:keyint=infinite:scenecut=0:threads=1"),
        ),
        "aac",
    ),
    "vp9": Coding(
        "libvpx-vp9",
        (("deadline", "realtime"), ("cpu-used", "8"), ("lag-in-frames", "0"), ("auto-alt-ref", "0")),
        "libopus",
    ),
}


def fragment(
    start: float,
    end: float,
    size: tuple[int, int] | None,
    pictures: Iterable[tuple[float, np.ndarray]],
    sound: Sound | None,
    coding: Coding,
) -> bytes:
    """Encode [start, end) seconds of a film.

    Args:
        start: seconds from the film's beginning, as all times are.
        end: where the last picture ends.
        size: width and height, even, of pictures; None where there are none.
        pictures: by time, uint8[h, w, 3] RGB; those before `start` are on screen at `start`. Where there is
            none yet it is black.
        sound: None where there is none.
        coding: by what.

    Raises `FeatureError` where FFmpeg has not the encoder.
    """
    import av

    written = io.BytesIO()
    with av.open(written, "w", format="mp4", options=MUXED) as output:
        packets: list[Packet[Any]] = []
        if size is not None:
            packets += _pictures(output, coding, start, end, size, pictures)
        if sound is not None:
            packets += _sound(output, coding, start, end, sound)
        for packet in sorted(packets, key=lambda p: (p.dts or 0) * (p.time_base or Fraction(1))):
            output.mux(packet)
    return written.getvalue()


@dataclass(frozen=True, slots=True)
class Sound:
    """Samples at `RATE` that begin with number `first` of the film: float32[2, n], left and right."""

    first: int
    samples: np.ndarray


def sound_span(start: float, end: float, coding: Coding) -> tuple[int, int]:
    """Which samples the sound of [start, end) is made from: those of its frames, and a few around them."""
    frame = FRAME[coding.audio]
    first, stop = _frames(start, end, frame)
    return max(0, first - _RUN_UP) * frame, (stop + _RUN_UP) * frame


FRAME = {"aac": 1024, "libopus": 960}
"""Samples in one frame of sound."""


def _frames(start: float, end: float, frame: int) -> tuple[int, int]:
    """The numbers of the frames of sound that begin in [start, end): from the first up to the last."""
    first, stop = (-(-round(seconds * RATE) // frame) for seconds in (start, end))
    return first, stop


def _add(output: OutputContainer, encoder: str, rate: int, options: dict[str, str]) -> Any:
    return output.add_stream(encoder, rate=rate, options=options)


def _stream(output: OutputContainer, encoder: str, rate: int, options: dict[str, str]) -> Any:
    import av

    try:
        return _add(output, encoder, rate, options)
    except (ValueError, av.error.FFmpegError) as error:
        raise FeatureError(
            f"the FFmpeg of this machine's PyAV has no encoder {encoder}; ask for another proxy.codec "
            f"({', '.join(CODINGS)}), or install PyAV from its wheels"
        ) from error


def _pictures(
    output: OutputContainer,
    coding: Coding,
    start: float,
    end: float,
    size: tuple[int, int],
    pictures: Iterable[tuple[float, np.ndarray]],
) -> list[Packet[Any]]:
    import av

    stream = _stream(output, coding.video, 30, dict(coding.video_options))
    context = stream.codec_context
    context.width, context.height = size
    context.pix_fmt = "yuv420p"
    context.bit_rate = coding.video_rate if coding.video != "libx264" else 0
    context.time_base = stream.time_base = Fraction(1, TICKS)
    context.thread_count = 1
    context.gop_size = 1 << 20
    context.color_range, context.colorspace = _LIMITED, _BT709
    context.color_primaries = context.color_trc = _BT709
    first, stop = round(start * TICKS), round(end * TICKS)
    times: list[int] = []
    packets: list[Packet[Any]] = []
    for tick, rgb in _at_ticks(first, stop, size, pictures):
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED, threads=1
        )
        frame.pts, frame.time_base = tick, Fraction(1, TICKS)
        times.append(tick)
        packets += stream.encode(frame)
    packets += stream.encode(None)
    ends = dict(zip(times, [*times[1:], max(stop, times[-1] + 1)], strict=True))
    for packet in packets:
        if packet.pts is not None:
            packet.duration = ends[packet.pts] - packet.pts
    return packets


def _at_ticks(
    first: int, stop: int, size: tuple[int, int], pictures: Iterable[tuple[float, np.ndarray]]
) -> Iterator[tuple[int, np.ndarray]]:
    """Pictures at ascending ticks, one at `first`: of several at one tick the last one."""
    held: tuple[int, np.ndarray] = first, np.zeros((size[1], size[0], 3), np.uint8)
    for time, rgb in pictures:
        tick = max(first, round(time * TICKS))
        if tick > held[0]:
            yield held
        held = tick, rgb
    yield held


def _sound(
    output: OutputContainer, coding: Coding, start: float, end: float, sound: Sound
) -> list[Packet[Any]]:
    import av

    stream = _stream(output, coding.audio, RATE, {})
    stream.layout = "stereo"
    stream.bit_rate = coding.audio_rate
    context, frame_size = stream.codec_context, FRAME[coding.audio]
    context.thread_count = 1
    form = "flt" if coding.audio == "libopus" else "fltp"
    context.format = form
    packets: list[Packet[Any]] = []
    for begin in range(0, sound.samples.shape[1] - frame_size + 1, frame_size):
        part = np.ascontiguousarray(sound.samples[:, begin : begin + frame_size])
        if form == "flt":
            part = np.ascontiguousarray(part.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(part, format=form, layout="stereo")
        frame.sample_rate, frame.pts = RATE, sound.first + begin
        frame.time_base = Fraction(1, RATE)
        packets += stream.encode(frame)
    packets += stream.encode(None)
    first, stop = (number * frame_size for number in _frames(start, end, frame_size))
    # Opus begins a frame before the samples that were given to it. There is no time before the film's.
    return [p for p in packets if p.pts is not None and p.pts >= 0 and first <= p.pts + _delay(coding) < stop]


def _delay(coding: Coding) -> int:
    """Samples by which the encoder's frames begin before the grid: Opus' 6.5 ms (RFC 7845 section 4.2)."""
    return 312 if coding.audio == "libopus" else 0
