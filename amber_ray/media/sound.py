"""Sound of an asset: decoded frames as they are, those of a window, or mono samples at a rate.

Must not know: features, where values go.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

from amber_ray.core.model.naming import name_of
from amber_ray.core.model.units import Asset
from amber_ray.errors import MediaError, Unsuitable
from amber_ray.media import bounds
from amber_ray.media.clock import origin
from amber_ray.media.container import audio_stream, demuxed, packets, reason, says_nothing
from amber_ray.media.source import opened
from amber_ray.settings import Limits

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

Layout = Literal["mono", "stereo"]

_RUN_UP = Fraction(1, 2)
"""Seconds decoded before the wanted span, for decoders and the resampler to settle."""

_VOTES = 8
"""Frames whose stamps are asked where a run begins, at least: each is rounded, to a millisecond in places."""

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
    container: InputContainer, stream: AudioStream, name: str, limits: Limits, wanted: float = -math.inf
) -> Iterator[AudioFrame]:
    """The frames from where the container stands. None is no error if all packets come before `wanted`.

    What does not decode is damage only if sound follows it, or if it is more than one packet: a recording may
    end in mid-frame, and tags or zeros may stand behind the last one.
    """
    import av

    deadline = time.monotonic() + limits.decode_seconds
    zero = float(origin(container))
    began, at = False, 0.0
    damage: str | None = None  # What is said if sound follows.
    lost = 0  # Packets behind the last frame, but for tags, and for zeros that begin right behind it.
    for packet in packets(container, stream):
        if time.monotonic() > deadline:
            raise MediaError(f"the sound of {name!r} took longer to decode than {limits.decode_seconds:g} s")
        if packet.pts is not None and packet.time_base is not None:
            at = float(packet.pts * packet.time_base) - zero
        if says_nothing(packet):
            continue
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            data = bytes(packet)
            if began and not data.startswith(_TAGS):  # A recording, or a seek, may begin in mid-frame.
                damage = damage or f"the sound of {name!r} is damaged at about {at:.2f} s: {reason(error)}"
                lost += lost > 0 or any(data)
            continue
        for frame in frames:
            if damage is not None:
                raise MediaError(damage)
            began = True
            yield frame
    if damage is not None and lost > 1:
        raise MediaError(damage)
    if not began and at >= wanted:
        raise MediaError(f"no sound of {name!r} can be decoded")


_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICS")
"""How what people write behind or between frames of sound begins."""


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
    [samples] = _span(asset, rate, start, end, "mono", feature, limits)
    return np.asarray(samples)


def stereo(
    asset: Asset,
    rate: int,
    start: float = 0.0,
    end: float | None = None,
    *,
    feature: str = "this feature",
    limits: Limits | None = None,
) -> np.ndarray:
    """The sound that `mono` gives in one channel, in two, left and right: float32[2, n]."""
    return _span(asset, rate, start, end, "stereo", feature, limits)


def _span(
    asset: Asset,
    rate: int,
    start: float,
    end: float | None,
    layout: Layout,
    feature: str,
    limits: Limits | None,
) -> np.ndarray:
    end = end if end is not None else asset.duration or 0.0
    first = sample_at(start, rate)
    count = max(0, sample_at(end, rate) - first)
    samples = np.zeros((1 if layout == "mono" else 2, count), np.float32)
    with contextlib.closing(_placed(asset, rate, start, feature, limits, layout)) as found:
        for place, data in found:
            length = data.shape[1]
            a, b = max(0, place - first), min(count, place - first + length)
            if a < b:
                samples[:, a:b] = data[:, a - place + first : b - place + first]
            if place + length >= first + count:
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
        for place, channels in found:
            [data] = channels
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


def between(
    asset: Asset,
    start: float,
    end: float,
    *,
    feature: str = "this feature",
    limits: Limits | None = None,
) -> Generator[AudioFrame, None, None]:
    """The sound of [start, end) seconds as it was decoded, in its own rate and channels, cut to the sample.

    Gaps in the stream are left out, and what lies beyond its ends. Raises as `heard`.
    """
    place = 0
    with contextlib.closing(_reached(asset, start, feature, limits)) as found:
        for began, frame in found:
            place = place if began is None else began
            first, last = (sample_at(seconds, frame.sample_rate) - place for seconds in (start, end))
            if last <= 0:
                return
            place += frame.samples
            if first <= 0 and last >= frame.samples:
                yield frame
            elif first < frame.samples:
                yield from Filters(frame, f"atrim=start_sample={max(0, first)}:end_sample={last}").filtered(
                    frame
                )


def sample_at(seconds: float, rate: int) -> int:
    """The number of the first sample at or after `seconds`; products' rounding errors do not count."""
    return math.ceil(round(seconds * rate, 6))


def _placed(
    asset: Asset, rate: int, start: float, feature: str, limits: Limits | None, layout: Layout = "mono"
) -> Generator[tuple[int, np.ndarray], None, None]:
    """Blocks of samples, [channel, n], from before `start` seconds on, each with the number of its first."""
    resampler: Resampler | None = None
    with contextlib.closing(_reached(asset, start, feature, limits)) as found:
        for began, frame in found:
            if began is not None:
                if resampler is not None:
                    yield from resampler.resample(None)
                resampler = Resampler(frame, rate, began, layout)
            if resampler is not None:
                yield from resampler.resample(frame)
    if resampler is not None:
        yield from resampler.resample(None)


def _reached(
    asset: Asset, start: float, feature: str, limits: Limits | None
) -> Generator[tuple[int | None, AudioFrame], None, None]:
    """The frames from before `start` seconds on, with their places as `_anchored` tells them."""
    import av

    with contextlib.ExitStack() as stack:
        container, stream, frames = stack.enter_context(heard(asset, feature, limits))
        base = Fraction(stream.time_base or 1)
        zero = Fraction(container.start_time or 0, 1_000_000)
        target = Fraction(start) - _RUN_UP
        if target > 0 and _seekable(container, stream):
            try:
                container.seek(math.floor((target + zero) / base), stream=stream)
            except av.error.FFmpegError:
                # No index to seek by: from the beginning, where nothing needs one.
                stack.close()
                container, stream, frames = stack.enter_context(heard(asset, feature, limits))
            else:
                stream.codec_context.flush_buffers()
                # The sound may end before the picture: what is left behind is then too little to decode.
                name, limits = name_of(asset.uri), limits or bounds.current()
                frames = _frames(container, stream, name, limits, start)
        yield from _anchored(frames, zero)


_BY_BYTES = frozenset({"wav", "w64", "aiff", "au"})
"""Formats in which FFmpeg seeks by the mean number of bytes a second, which holds for plain samples only."""


def _seekable(container: InputContainer, stream: AudioStream) -> bool:
    """Whether time stamps after a seek are those of one pass."""
    return container.format.name not in _BY_BYTES or stream.codec_context.name.startswith("pcm_")


def form(frame: AudioFrame) -> tuple[str, int, str]:
    """What filters are made for: sample format, rate and channel layout. They may change along a stream."""
    return frame.format.name, frame.sample_rate, frame.layout.name


def _anchored(frames: Iterator[AudioFrame], zero: Fraction) -> Iterator[tuple[int | None, AudioFrame]]:
    """The frames from the first one with a time on; one that does not follow on the last has its place.

    Nor does one of another form. A place is the number of the frame's first sample, by the time stamps of all
    frames of the half second that it begins: Matroska, FLV and ASF round each to a millisecond, and after a
    seek the first one of Ogg and Opus is off by a block. Frames before `zero` seconds have negative places.
    """
    waiting: list[AudioFrame] = []
    began: list[int] = []  # Where the run would begin by each of its first frames.
    counted = 0
    kind: tuple[str, int, str] | None = None

    def settled() -> Iterator[tuple[int | None, AudioFrame]]:
        place: int | None = _agreed(began, waiting[0].sample_rate) if waiting else None
        for frame in waiting:
            yield place, frame
            place = None
        waiting.clear()

    for frame in frames:
        at = None
        if frame.pts is not None and frame.time_base is not None:
            at = round((frame.pts * Fraction(frame.time_base) - zero) * frame.sample_rate)
        if form(frame) != kind and began and kind is not None:
            # Without a stamp it begins where the run before has ended.
            at = at if at is not None else (began[0] + counted) * frame.sample_rate // kind[1]
            yield from settled()
            began = []
        if at is not None and (not began or abs(at - began[0] - counted) > frame.sample_rate * _GAP):
            yield from settled()
            waiting, began, counted, kind = [frame], [at], frame.samples, form(frame)
            continue
        if not began:
            continue
        if waiting:
            waiting.append(frame)
            began += [] if at is None else [at - counted]
            if counted >= frame.sample_rate * _RUN_UP and len(waiting) >= _VOTES:
                yield from settled()
        else:
            yield None, frame
        counted += frame.samples
    yield from settled()


def _agreed(began: list[int], rate: int) -> int:
    """The middle of what most frames say, to within a millisecond: rounding errors lie on both sides."""
    said = sorted(began[1:] if len(began) > 2 else began)
    usual = said[len(said) // 2]
    near = [b for b in said if abs(b - usual) <= rate // 1000]
    return (min(near) + max(near)) // 2


class Filters:
    """A chain of FFmpeg's audio filters for frames of one form; `chain` is written as on its command line."""

    def __init__(self, first: AudioFrame, chain: str) -> None:
        import av

        # Held: the filters only borrow it, and using one after it is gone crashes the process.
        self._graph = graph = av.filter.Graph()
        self._source = graph.add_abuffer(
            sample_rate=first.sample_rate,
            format=first.format.name,
            layout=first.layout.name,
            time_base=first.time_base or Fraction(1, first.sample_rate),
        )
        self._sink = graph.add("abuffersink")
        filters = (graph.add(*part.split("=", 1)) for part in chain.split(","))
        graph.link_nodes(self._source, *filters, self._sink).configure()

    def filtered(self, frame: AudioFrame | None) -> Iterator[AudioFrame]:
        """The frames that are ready once `frame` is there; None is the end."""
        import av

        self._source.push(frame)
        while True:
            try:
                yield self._sink.pull()  # type: ignore[misc]
            except (av.error.BlockingIOError, av.error.EOFError):
                return


def in_form(frames: Iterator[AudioFrame], chain: str) -> Iterator[AudioFrame]:
    """Frames whose form may change along the way, each run of one form through its own filters."""
    filters: Filters | None = None
    kind: tuple[str, int, str] | None = None
    for frame in frames:
        if filters is None or form(frame) != kind:
            if filters is not None:
                yield from filters.filtered(None)
            filters, kind = Filters(frame, chain), form(frame)
        yield from filters.filtered(frame)
    if filters is not None:
        yield from filters.filtered(None)


def silence(like: AudioFrame, samples: int) -> AudioFrame:
    """Silence of a frame's form that follows on it."""
    import av

    frame = av.AudioFrame(format=like.format.name, layout=like.layout.name, samples=samples)
    frame.sample_rate, frame.time_base = like.sample_rate, like.time_base
    frame.pts = None if like.pts is None else like.pts + like.samples
    # Of 8 planes and more PyAV lists one too many: it looks for the end of a list that has no mark there.
    for plane in frame.planes[: like.layout.nb_channels if like.format.is_planar else 1]:
        # Unsigned bytes are the one format whose silence is not zero.
        plane.update((b"\x80" if like.format.name.startswith("u8") else b"\0") * plane.buffer_size)
    return frame


class Resampler:
    """Samples at `rate`, in one channel or two, from frames of one form.

    The first of them begins at its sample number `began`.

    Frames may begin anywhere, but the output's samples lie at whole multiples of 1 / `rate` on the asset's
    clock: so many input samples are dropped first that one falls on such a multiple. Channels of which
    nothing tells where they stand are mixed evenly.
    """

    def __init__(self, first: AudioFrame, rate: int, began: int, layout: Layout = "mono") -> None:
        given, count = first.sample_rate, first.layout.nb_channels
        drop = -began % (given // math.gcd(given, rate))
        self.place = (began + drop) * rate // given
        chain = [f"atrim=start_sample={drop}"]
        if count > 2 and first.layout.name == f"{count} channels":
            evenly = "+".join(f"{1 / count:.9f}*c{i}" for i in range(count))
            chain.append(f"pan=mono|c0={evenly}")
        chain.append(f"aresample=osr={rate}:out_chlayout={layout}:out_sample_fmt=fltp:rematrix_maxval=1")
        self._filters = Filters(first, ",".join(chain))

    def resample(self, frame: AudioFrame | None) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks [channel, n], each with its first sample's number on the asset's clock; None flushes."""
        for block in self._filters.filtered(frame):
            data: np.ndarray = block.to_ndarray()
            yield self.place, data
            self.place += data.shape[1]
