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
from amber_ray.media import bounds
from amber_ray.media.container import audio_stream, demuxed, packets, reason, says_nothing
from amber_ray.media.locate import name_of
from amber_ray.media.source import opened
from amber_ray.settings import Limits

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_RUN_UP = Fraction(1, 2)
"""Seconds decoded before the wanted span, for decoders and the resampler to settle."""

_GAP = 0.05
"""Seconds by which a frame may begin off the end of the one before; codecs' rounding stays below."""


@contextlib.contextmanager
def heard(
    asset: Asset, feature: str, limits: Limits | None = None
) -> Iterator[tuple[InputContainer, AudioStream, Iterator[AudioFrame]]]:
    """The asset's best audio stream, open, with its decoded frames from the current position on.

    Raises `MediaError` when the asset has no sound, or a part of it does not decode.
    """
    name, limits = name_of(asset.uri), limits or bounds.current()
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
    for packet in packets(container, stream):
        if time.monotonic() > deadline:
            raise MediaError(f"the sound of {name!r} took longer to decode than {limits.decode_seconds:g} s")
        if packet.pts is not None and packet.time_base is not None:
            at = float(packet.pts * packet.time_base)
        if says_nothing(packet):
            continue
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

    Channels are mixed down by FFmpeg's matrix, scaled so that nothing clips: full scale is 1. Sample i is at
    `start` + i / `rate` on the asset's clock; silence before the stream begins, in its gaps and after its
    end. Raises as `heard`.
    """
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

        def put(blocks: Iterator[tuple[int, np.ndarray]]) -> None:
            for place, data in blocks:
                a, b = max(0, place - first), min(count, place - first + len(data))
                if a < b:
                    samples[a:b] = data[a - place + first : b - place + first]

        resampler: Resampler | None = None
        for frame in frames:
            at = None
            if frame.pts is not None and frame.time_base is not None:
                at = round((frame.pts * Fraction(frame.time_base) - origin) * frame.sample_rate)
            if resampler is not None and at is not None and resampler.astray(at):
                put(resampler.resample(None))
                resampler = None
            if resampler is None:
                if at is None:
                    continue
                resampler = Resampler(stream, frame.sample_rate, rate, at)
            put(resampler.resample(frame))
            if resampler.place - first >= count:
                return samples
        if resampler is not None:
            put(resampler.resample(None))
    return samples


class Resampler:
    """Mono samples at `rate` from a stream's frames, the first of which begins at its sample number `began`.

    Frames may begin anywhere, but the output's samples lie at whole multiples of 1 / `rate` on the asset's
    clock: so many input samples are dropped first that one falls on such a multiple.
    """

    def __init__(self, stream: AudioStream, given: int, rate: int, began: int) -> None:
        import av

        self._given = given
        self._came = began
        drop = -began % (given // math.gcd(given, rate))
        self.place = (began + drop) * rate // given
        # Held: the filters only borrow it, and using one after it is gone crashes the process.
        self._graph = graph = av.filter.Graph()
        self._source = graph.add_abuffer(template=stream)
        trim = graph.add("atrim", f"start_sample={drop}")
        mix = graph.add("aresample", f"osr={rate}:out_chlayout=mono:out_sample_fmt=fltp:rematrix_maxval=1")
        self._sink = graph.add("abuffersink")
        graph.link_nodes(self._source, trim, mix, self._sink).configure()

    def astray(self, at: int) -> bool:
        """Whether a frame that begins at sample number `at` does not follow on the last one."""
        return abs(at - self._came) > self._given * _GAP

    def resample(self, frame: AudioFrame | None) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks of samples, each with the number of its first one on the asset's clock; None flushes."""
        import av

        self._source.push(frame)
        self._came += 0 if frame is None else frame.samples
        while True:
            try:
                block = self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            data: np.ndarray = block.to_ndarray()[0]  # type: ignore[attr-defined]
            yield self.place, data
            self.place += len(data)
