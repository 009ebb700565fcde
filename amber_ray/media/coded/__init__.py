"""What the bytes of a packet say of its picture, before anything is decoded: one module for each codec.

    picture     the nouns: `Coded`, what is said of a picture, and `Headers`, what reads it
    ├ h264      H.264
    ├ hevc      HEVC
    ├ mpeg2     MPEG-1 and MPEG-2
    └ av1       AV1
    nal         units of H.264 and HEVC: cut apart, and their messages named
    bits        bits and Exp-Golomb codes

A decoder need not be given a picture that nobody wants to see and that no other picture refers to. These
modules find such pictures where the bitstream proves it. They follow what real encoders write and give up at
everything else: `read` returns None, and the film is decoded whole. So nothing here raises for any bytes.
Must not know: FFmpeg, files, times.
"""

from __future__ import annotations

from collections.abc import Callable

from amber_ray.media.coded.av1 import Av1
from amber_ray.media.coded.h264 import H264
from amber_ray.media.coded.hevc import Hevc
from amber_ray.media.coded.mpeg2 import Mpeg2
from amber_ray.media.coded.picture import Headers

_READERS: dict[str, Callable[[bytes], Headers]] = {
    "h264": H264,
    "hevc": Hevc,
    "mpeg1video": Mpeg2,
    "mpeg2video": Mpeg2,
    "av1": Av1,
}


def headers(codec: str, extradata: bytes) -> Headers | None:
    """What reads the packets of a stream; None for a codec of which nothing is known.

    `codec` is FFmpeg's name, `extradata` what the container tells of the stream beside its packets.
    """
    reader = _READERS.get(codec)
    return None if reader is None else reader(extradata)
