"""Decoding on a GPU's own decoder (NVDEC), for a step that holds a GPU; where it can't be, the CPU decodes.

Only codecs are taken whose standards say to the bit what a picture is, in 8 bits and 4:2:0. Even so drivers
differ, and a GPU crops otherwise: so the first picture of each film that is opened is decoded by the CPU as
well, and unless both are the same the CPU decodes it all. It does not tell of damage within a picture.
Must not know: which pictures are wanted, assets.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

log = logging.getLogger("amber.media")

EXACT = frozenset({"h264", "hevc", "av1", "vp9"})
"""Codecs that leave a decoder no choice. MPEG-2's transform may be rounded in several ways."""

PLANAR = frozenset({"yuv420p", "yuvj420p"})
DOWNLOADED = "nv12"
"""How such pictures come from the GPU: the same samples, those of both colours in one plane."""


class Refused(Exception):
    """The GPU does not decode a stream; says why."""


def decoder(stream: VideoStream) -> VideoCodecContext:
    """What decodes a stream's packets on the GPU. Raises `Refused` with the reason why nothing does."""
    import av

    context = stream.codec_context
    codec = context.codec.canonical_name
    if codec not in EXACT:
        raise Refused(f"{codec} is not decoded to the bit")
    if context.pix_fmt not in PLANAR:
        raise Refused(f"its pictures are {context.pix_fmt}, not 8 bits in 4:2:0")
    try:
        made = create(codec)
    except (av.error.FFmpegError, NotImplementedError, RuntimeError, ValueError) as error:
        raise Refused(f"no GPU decodes {codec} here: {error}") from error
    made.extradata = context.extradata
    made.options = dict(context.options)
    return made


def create(codec: str) -> VideoCodecContext:
    """FFmpeg's decoder of a codec on the GPU that this process sees."""
    import av
    from av.codec.hwaccel import HWAccel

    made = av.CodecContext.create(codec, "r", hwaccel=HWAccel("cuda", allow_software_fallback=False))
    if not made.is_hwaccel:
        raise NotImplementedError(f"FFmpeg was built without NVDEC for {codec}")
    return cast("VideoCodecContext", made)


def planar(frame: VideoFrame) -> VideoFrame:
    """A frame as the CPU's decoder gives it: the same samples, each colour in a plane of its own."""
    return frame.reformat(format="yuv420p") if frame.format.name == DOWNLOADED else frame


class Proof:
    """Compares the first picture with the CPU's, from the packets that it was made of."""

    def __init__(self, cpu: VideoCodecContext) -> None:
        self._cpu = cpu
        self._packets: list[Packet[VideoStream]] = []

    def fed(self, packet: Packet[VideoStream]) -> None:
        """Note a packet that the GPU was given before its first picture came."""
        self._packets.append(packet)

    def restart(self) -> None:
        """Forget what was given: the GPU goes on from another place."""
        self._packets.clear()
        self._cpu.flush_buffers()

    def holds(self, frame: VideoFrame) -> bool:
        """Whether the CPU makes the same picture of them."""
        import av

        if frame.format.name != DOWNLOADED:
            return False
        shown: list[VideoFrame] = []
        try:
            for packet in self._packets:
                shown += self._cpu.decode(packet)
            shown += self._cpu.decode(None)
        except av.error.FFmpegError:
            return False
        same = next((one for one in shown if one.pts == frame.pts), None)
        return (
            same is not None
            and (same.width, same.height) == (frame.width, frame.height)
            and (same.colorspace, same.color_range) == (frame.colorspace, frame.color_range)
            and np.array_equal(same.to_ndarray(), planar(frame).to_ndarray())
        )
