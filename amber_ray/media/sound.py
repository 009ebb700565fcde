"""Sound of an asset: decoded frames as they are, or mono samples at a rate.

Must not know: features, where values go.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from amber_ray.core.units import Asset
from amber_ray.errors import MediaError
from amber_ray.media.container import audio_stream, demuxed, reason
from amber_ray.media.locate import name_of
from amber_ray.media.source import opened
from amber_ray.settings import Limits

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_RUN_UP = Fraction(1, 2)
"""Seconds decoded before the wanted span, for decoders and the resampler to settle."""


@contextlib.contextmanager
def heard(
    asset: Asset, feature: str, limits: Limits | None = None
) -> Iterator[tuple[InputContainer, AudioStream, Iterator[AudioFrame]]]:
    """The asset's best audio stream, open, with its decoded frames from the current position on.

    Raises `MediaError` when the asset has no sound, or a part of it does not decode.
    """
    name, limits = name_of(asset.uri), limits or Limits()
    if not asset.has_audio:
        raise MediaError(f"{feature} needs sound; {name!r} has no audio stream")
    with opened(asset) as file, demuxed(file, name, limits) as container:
        stream = audio_stream(container)
        if stream is None:
            raise MediaError(f"{feature} needs sound; {name!r} has no audio stream that can be read")
        stream.codec_context.thread_count = 1
        yield container, stream, _frames(container, stream, name, limits)


def _frames(
    container: InputContainer, stream: AudioStream, name: str, limits: Limits
) -> Iterator[AudioFrame]:
    import av

    deadline = time.monotonic() + limits.decode_seconds
    began, at = False, 0.0
    for packet in container.demux(stream):
        if time.monotonic() > deadline:
            raise MediaError(f"the sound of {name!r} took longer to decode than {limits.decode_seconds:g} s")
        if packet.pts is not None and packet.time_base is not None:
            at = float(packet.pts * packet.time_base)
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            if not began:
                continue  # A recording, or a seek, may begin in mid-frame.
            raise MediaError(
                f"the sound of {name!r} is damaged at about {at:.2f} s: {reason(error)}"
            ) from error
        for frame in frames:
            began = True
            yield frame
    if not began:
        raise MediaError(f"no sound of {name!r} can be decoded")


def mono(
    asset: Asset,
    rate: int,
    start: float = 0.0,
    end: float | None = None,
    *,
    feature: str = "this feature",
    limits: Limits | None = None,
) -> np.ndarray:
    """The sound of [start, end) seconds (None: to the asset's end) as float32[n] at `rate` samples a second.

    Channels are mixed down by FFmpeg's matrix; full scale is 1. Sample i is at `start` + i / `rate` on the
    asset's clock; silence fills what the stream leaves out. Raises as `heard`.
    """
    import av

    end = end if end is not None else asset.duration or 0.0
    first, count = math.ceil(start * rate), max(0, math.ceil(end * rate) - math.ceil(start * rate))
    samples = np.zeros(count, np.float32)
    with heard(asset, feature, limits) as (container, stream, frames):
        base = Fraction(stream.time_base or Fraction(1, rate))
        origin = Fraction(container.start_time or 0, 1_000_000)
        target = Fraction(start) - _RUN_UP
        if target > 0:
            container.seek(math.floor((target + origin) / base), stream=stream)
            stream.codec_context.flush_buffers()
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
        place: int | None = None
        for frame in _then_flush(frames):
            if frame is not None and place is None:
                if frame.pts is None or frame.time_base is None:
                    continue
                place = round((frame.pts * frame.time_base - origin) * rate) - first
            for block in resampler.resample(frame):
                data = block.to_ndarray()[0]
                at = place or 0
                a, b = max(0, at), min(count, at + len(data))
                if a < b:
                    samples[a:b] = data[a - at : b - at]
                place = at + len(data)
            if (place or 0) >= count:
                break
    return samples


def _then_flush(frames: Iterator[AudioFrame]) -> Iterator[AudioFrame | None]:
    yield from frames
    yield None
