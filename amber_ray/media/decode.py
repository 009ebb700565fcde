"""Pictures of an asset, by time: what the features that look at media are made from.

Which frames are chosen depends on the asset and the rate alone, never on where segments begin, so the same
picture carries the same time whatever the grid. Must not know: features, where values go.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence, Set
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from amber_ray.core.model.naming import name_of
from amber_ray.core.model.units import MICRO, Asset, Segment, Stream
from amber_ray.errors import MediaError, Unsuitable
from amber_ray.media import bounds, looks
from amber_ray.media.container import demuxed, readable, video_stream
from amber_ray.media.headers import missing
from amber_ray.media.looks import Look, Picture
from amber_ray.media.reader import Reader, Source
from amber_ray.media.scale import Scaler, Size, native
from amber_ray.media.selection import AtMoment, Every, Selection
from amber_ray.media.source import opened
from amber_ray.media.stills import still
from amber_ray.settings import Limits

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


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
    return looked(Look(asset, start, end, size or native(), fps, lead, pair, scaler), limits)


def looked(look: Look, limits: Limits | None = None) -> Iterator[Picture]:
    """As `pictures`, of what a look asks for. Looks that were foretold share a pass (`looks`)."""
    limits = limits or bounds.current()
    sharing = looks.current()
    given = 0
    if sharing.begin(look, partial(_decoded, limits)):
        try:
            for picture in sharing.pictures(look):
                given += 1
                yield picture
            return
        except Exception:  # noqa: S110, BLE001 - it may be about other looks only: each finds out by itself
            pass
    for _, made in itertools.islice(_decoded(limits, [look]), given, None):
        if made is not None:
            yield made()


def _decoded(limits: Limits, asked: Sequence[Look], dropped: Set[Look] = frozenset()) -> looks.Run:
    """The pictures of looks at one asset, in the order of one pass; see `looks.Run`.

    Of looks that are `dropped` meanwhile no more is decoded. Each look has `limits.decode_seconds`, or what
    the one before it has left of them.
    """
    asset = asked[0].asset
    if asset.kind == "image":
        for look in asked:
            if look.start <= 0 or look.moment:
                yield look, partial(_of_still, look, limits)
            yield look, None
        return
    with _reader(asset, limits) as source:
        shown = _Shown(source, several=len(asked) > 1)
        selections = [_selection(source, look) for look in asked]
        for number, pair in source.selected(selections):
            if pair is None:
                yield asked[number], None
                source.renew(bounds.decoding())
            else:
                yield asked[number], partial(shown.picture, asked[number], *pair)
            if dropped:
                for look, selection in zip(asked, selections, strict=True):
                    selection.over = selection.over or look in dropped


def _selection(source: Reader, look: Look) -> Selection:
    start, end = _exact(look.start), None if look.end is None else _exact(look.end)
    if look.moment:
        return AtMoment(start)
    if look.fps is None:
        return Every(start, end, lead=look.lead)
    return source.sampled(start, end, Fraction(look.fps), pairs=look.pair is not None)


class _Shown:
    """Pictures of frames; those that several looks have of one frame, at one size, are converted once."""

    def __init__(self, source: Reader, *, several: bool) -> None:
        self._source = source
        self._several = several
        self._made: list[tuple[VideoFrame, Size, Scaler, np.ndarray]] = []

    def picture(self, look: Look, at: Fraction, frame: VideoFrame, following: VideoFrame | None) -> Picture:
        """What a look has of a frame: arrays of its own, since whoever looks may draw into them."""
        self._made = [made for made in self._made if made[0] is frame or made[0] is following]
        small = None
        if look.pair is not None:
            pair = (self._rgb(one, look.pair, "area") for one in (frame, following or frame))
            small = np.stack(list(pair))
        if self._several:
            return Picture(float(at), self._rgb(frame, look.size, look.scaler).copy(), small)
        return Picture(float(at), self._source.rgb(frame, look.size, look.scaler), small)

    def _rgb(self, frame: VideoFrame, size: Size, scaler: Scaler) -> np.ndarray:
        for of, its_size, its_scaler, made in self._made:
            if of is frame and its_size == size and its_scaler == scaler:
                return made
        made = self._source.rgb(frame, size, scaler)
        self._made.append((frame, size, scaler, made))
        return made


def _of_still(look: Look, limits: Limits) -> Picture:
    small = None if look.pair is None else np.stack([_still(look.asset, look.pair, limits)] * 2)
    return Picture(0.0, _still(look.asset, look.size, limits), small)


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

        yield Reader(anew, look, name, limits, lambda: missing(file) > 0, bounds.decoding())


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
