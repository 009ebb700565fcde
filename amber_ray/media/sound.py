"""Sound of an asset: decoded frames as they are, or mono samples at a rate.

Must not know: features, where values go.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from amber_ray.core.model.units import Asset
from amber_ray.errors import MediaError, Unsuitable
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

    Raises `Unsuitable` when the asset has no sound, `MediaError` when a part of it does not decode.
    """
    name, limits = name_of(asset.uri), limits or bounds.current()
    if not asset.has_audio:
        raise Unsuitable(f"{feature} needs sound; {name!r} has no audio stream")
    with opened(asset) as file, demuxed(file, name, limits) as container:
        stream = audio_stream(container)
        if stream is None:
            raise MediaError(f"{feature} needs sound; {name!r} has no audio stream that can be read")
        stream.codec_context.thread_count = 1
        yield container, stream, _frames(container, stream, name, limits)


def _frames(
    container: InputContainer, stream: AudioStream, name: str, limits: Limits, wanted: float = 0.0
) -> Iterator[AudioFrame]:
    """The frames from where the container stands. None is no error if all packets come before `wanted`."""
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
    if not began and at >= wanted:
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
    first = sample_at(start, rate)
    count = max(0, sample_at(end, rate) - first)
    samples = np.zeros(count, np.float32)
    with contextlib.closing(_placed(asset, rate, start, feature, limits)) as found:
        for place, data in found:
            a, b = max(0, place - first), min(count, place - first + len(data))
            if a < b:
                samples[a:b] = data[a - place + first : b - place + first]
            if place + len(data) >= first + count:
                break
    return samples


def blocks(
    asset: Asset, rate: int, size: int, *, feature: str = "this feature", limits: Limits | None = None
) -> Iterator[np.ndarray]:
    """The samples that `mono` gives of the whole asset, in order: float32[`size`] each, the last one shorter.

    One pass that holds a block, however long the asset. Raises as `heard`, at any block.
    """
    begin, count = 0, sample_at(asset.duration or 0.0, rate)
    block = np.zeros(size, np.float32)
    with contextlib.closing(_placed(asset, rate, 0.0, feature, limits)) as found:
        for place, data in found:
            # What comes too late for its block is dropped: only streams whose time jumps back have it.
            data, place = data[max(0, begin - place) :], max(place, begin)
            while len(data) and place < count:
                if place >= begin + size:
                    yield block
                    begin, block = begin + size, np.zeros(size, np.float32)
                    continue
                fits = min(len(data), begin + size - place)
                block[place - begin : place - begin + fits] = data[:fits]
                data, place = data[fits:], place + fits
    while begin < count:
        yield block[: count - begin]
        begin, block = begin + size, np.zeros(size, np.float32)


def sample_at(seconds: float, rate: int) -> int:
    """The number of the first sample at or after `seconds`; products' rounding errors do not count."""
    return math.ceil(round(seconds * rate, 6))


def _placed(
    asset: Asset, rate: int, start: float, feature: str, limits: Limits | None
) -> Generator[tuple[int, np.ndarray], None, None]:
    """Blocks of mono samples from before `start` seconds on, each with the number of its first sample."""
    with heard(asset, feature, limits) as (container, stream, frames):
        base = Fraction(stream.time_base or Fraction(1, rate))
        origin = Fraction(container.start_time or 0, 1_000_000)
        target = Fraction(start) - _RUN_UP
        if target > 0:
            container.seek(math.floor((target + origin) / base), stream=stream)
            stream.codec_context.flush_buffers()
            # The sound may end before the picture: what is left to go back to is then too little to decode.
            name, limits = name_of(asset.uri), limits or bounds.current()
            frames = _frames(container, stream, name, limits, float(Fraction(start) + origin))
        resampler: Resampler | None = None
        for began, frame in _anchored(frames, origin):
            if began is not None:
                if resampler is not None:
                    yield from resampler.resample(None)
                resampler = Resampler(stream, frame.sample_rate, rate, began)
            if resampler is not None:
                yield from resampler.resample(frame)
        if resampler is not None:
            yield from resampler.resample(None)


def _anchored(frames: Iterator[AudioFrame], origin: Fraction) -> Iterator[tuple[int | None, AudioFrame]]:
    """The frames from the first one with a time on; one that does not follow on the last has its place.

    A place is the number of the frame's first sample, by the time stamps of all frames of the half second
    that it begins: Matroska, FLV and ASF round each to a millisecond, and after a seek Ogg's first one is off
    by a block. Frames before `origin` seconds have negative places.
    """
    waiting: list[AudioFrame] = []
    began: list[int] = []  # Where the run would begin by each of its first frames.
    counted = 0

    def settled() -> Iterator[tuple[int | None, AudioFrame]]:
        place: int | None = _agreed(began, waiting[0].sample_rate) if waiting else None
        for frame in waiting:
            yield place, frame
            place = None
        waiting.clear()

    for frame in frames:
        at = None
        if frame.pts is not None and frame.time_base is not None:
            at = round((frame.pts * Fraction(frame.time_base) - origin) * frame.sample_rate)
        if at is not None and (not began or abs(at - began[0] - counted) > frame.sample_rate * _GAP):
            yield from settled()
            waiting, began, counted = [frame], [at], frame.samples
            continue
        if not began:
            continue
        if waiting:
            waiting.append(frame)
            began += [] if at is None else [at - counted]
            if counted >= frame.sample_rate * _RUN_UP:
                yield from settled()
        else:
            yield None, frame
        counted += frame.samples
    yield from settled()


def _agreed(began: list[int], rate: int) -> int:
    """The middle of what most frames say, to within a millisecond: rounding errors lie on both sides."""
    usual = sorted(began)[len(began) // 2]
    near = [b for b in began if abs(b - usual) <= rate // 1000]
    return (min(near) + max(near)) // 2


class Resampler:
    """Mono samples at `rate` from a stream's frames, the first of which begins at its sample number `began`.

    Frames may begin anywhere, but the output's samples lie at whole multiples of 1 / `rate` on the asset's
    clock: so many input samples are dropped first that one falls on such a multiple.
    """

    def __init__(self, stream: AudioStream, given: int, rate: int, began: int) -> None:
        import av

        self._given = given
        drop = -began % (given // math.gcd(given, rate))
        self.place = (began + drop) * rate // given
        # Held: the filters only borrow it, and using one after it is gone crashes the process.
        self._graph = graph = av.filter.Graph()
        self._source = graph.add_abuffer(template=stream)
        trim = graph.add("atrim", f"start_sample={drop}")
        mix = graph.add("aresample", f"osr={rate}:out_chlayout=mono:out_sample_fmt=fltp:rematrix_maxval=1")
        self._sink = graph.add("abuffersink")
        graph.link_nodes(self._source, trim, mix, self._sink).configure()

    def resample(self, frame: AudioFrame | None) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks of samples, each with the number of its first one on the asset's clock; None flushes."""
        import av

        self._source.push(frame)
        while True:
            try:
                block = self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            data: np.ndarray = block.to_ndarray()[0]  # type: ignore[attr-defined]
            yield self.place, data
            self.place += len(data)
