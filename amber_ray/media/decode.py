"""Pictures of an asset, by time: what the features that look at media are made from.

Which frames are chosen depends on the asset and the rate alone, never on where segments begin, so the same
picture carries the same time whatever the grid. Must not know: features, where values go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np

from amber_ray.core.model.naming import name_of
from amber_ray.core.model.units import MICRO, Asset, Segment, Stream
from amber_ray.errors import MediaError, Unsuitable
from amber_ray.media import bounds
from amber_ray.media.container import demuxed, readable, video_stream
from amber_ray.media.headers import missing
from amber_ray.media.reader import Reader, Source
from amber_ray.media.scale import Scaler, Size, native
from amber_ray.media.source import opened
from amber_ray.media.stills import still
from amber_ray.settings import Limits

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream


@dataclass(frozen=True, slots=True)
class Picture:
    """One upright picture: its exact time in seconds from the asset's beginning, and uint8[h, w, 3] RGB.

    `pair`, where it was asked for: this picture and the film's next one, small, uint8[2, h, w, 3]; of the
    film's last picture and of a still there is no next one, and both are the same.
    """

    time: float
    rgb: np.ndarray
    pair: np.ndarray | None = None


def window(clip: Segment) -> tuple[float, float | None]:
    """A segment as [start, end) in seconds; the last one is open, as a declared duration may fall short."""
    end = (clip.start_us + clip.length_us) / MICRO
    duration = clip.asset.duration
    return clip.start, None if duration is None or end >= duration or not clip.length_us else end


def pictures(
    asset: Asset,
    start: float = 0.0,
    end: float | None = None,
    fps: float | None = None,
    size: Size | None = None,
    lead: bool = False,
    pair: Size | None = None,
    scaler: Scaler = "area",
    limits: Limits | None = None,
) -> Iterator[Picture]:
    """The pictures whose time is in [start, end) seconds (None: to the end), in order.

    With `fps`, time is cut into slots [k / fps, (k + 1) / fps) counted from the asset's beginning, and the
    first picture of each slot is chosen, so a rate above the film's own gives every picture once. Without
    it, every picture; with `lead` also the one on screen just before `start`, first, where there is one.
    With `fps` and `pair`, each picture comes with its successor in the film, both at that size: what moves
    is told without a second look at the file. A still is one picture at time 0. Times are the frames' own.

    Raises `Unsuitable` for an asset without pictures, `MediaError` for damage within the span, a stream that
    breaks off early, or decoding that takes longer than `limits.decode_seconds`; `MediaNotFound` and
    `SystemFault` as `source.opened`.
    """
    size, limits = size or native(), limits or bounds.current()
    if asset.kind == "image":
        if start <= 0:
            small = None if pair is None else np.stack([_still(asset, pair, limits)] * 2)
            yield Picture(0.0, _still(asset, size, limits), small)
        return
    with _reader(asset, limits) as source:
        first, last = _exact(start), None if end is None else _exact(end)
        if fps is None:
            for at, frame in source.with_lead_frame(first, last) if lead else source.span(first, last):
                yield Picture(float(at), source.rgb(frame, size, scaler))
            return
        for at, frame, following in source.sampled(first, last, Fraction(fps), pair is not None):
            small = None
            if pair is not None:
                shown = source.rgb(frame, pair)
                small = np.stack([shown, shown if following is None else source.rgb(following, pair)])
            yield Picture(float(at), source.rgb(frame, size, scaler), small)


def pictures_at(
    asset: Asset, times: Sequence[float], size: Size | None = None, limits: Limits | None = None
) -> Iterator[Picture]:
    """For each of the ascending `times`, the picture on screen: the last one not after it, else the first.

    Errors as `pictures`.
    """
    size, limits = size or native(), limits or bounds.current()
    if asset.kind == "image":
        picture = Picture(0.0, _still(asset, size, limits))
        yield from (picture for _ in times)
        return
    with _reader(asset, limits) as source:
        for at, frame in source.at([_exact(moment) for moment in times]):
            yield Picture(float(at), source.rgb(frame, size))


def picture_times(asset: Asset, limits: Limits | None = None) -> np.ndarray:
    """When each picture of the asset is, in seconds: float64[n], strictly ascending. Nothing is decoded.

    A still is one picture at time 0. Errors as `pictures`, but for damage that only decoding would find.
    """
    if asset.kind == "image":
        return np.zeros(1)
    with _reader(asset, limits or bounds.current()) as source:
        return np.array([float(at) for at in source.times()], np.float64)


@contextlib.contextmanager
def _reader(asset: Asset, limits: Limits) -> Iterator[Reader]:
    name, look = name_of(asset.uri), asset.stream("video")
    if look is None:
        raise Unsuitable(f"{name!r} has no pictures, only sound")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(opened(asset))
        current = stack.enter_context(contextlib.ExitStack())

        def anew() -> Source:
            current.close()
            file.seek(0)
            container = current.enter_context(demuxed(file, name, limits))
            stream = _stream(container, asset, look)
            if stream is None:
                raise MediaError(f"{name!r} has no video stream")
            return container, stream

        yield Reader(anew, look, name, limits, lambda: missing(file) > 0)


def _stream(container: InputContainer, asset: Asset, look: Stream) -> VideoStream | None:
    """The stream that was chosen when the asset was registered."""
    number = next(n for n, stream in enumerate(asset.streams) if stream is look)
    chosen = container.streams[number] if look.chosen and number < len(container.streams) else None
    if chosen is not None and chosen.type == "video" and readable(chosen):
        return cast("VideoStream", chosen)
    return video_stream(container)


def _still(asset: Asset, size: Size, limits: Limits) -> np.ndarray:
    with opened(asset) as file:
        return still(file, name_of(asset.uri), size, limits)


def _exact(seconds: float) -> Fraction:
    """Whole microseconds, in which segments are cut, so that 0.1 means 1/10."""
    return Fraction(round(seconds * MICRO), MICRO)
