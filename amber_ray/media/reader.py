"""One open video stream, read by time: seek to a key frame, decode, choose frames, and notice damage.

Damage inside what was asked for is an error, never a grey or a missing picture; damage before it is not.
Must not know: assets, files, features.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from amber_ray.core.model.units import Stream
from amber_ray.errors import MediaError
from amber_ray.media.clock import Clock
from amber_ray.media.container import ESTIMATED, decoder, packets, reason, says_nothing
from amber_ray.media.damage import Run
from amber_ray.media.scale import Scaler, Size, upright
from amber_ray.settings import Limits

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Timed = tuple[Fraction, "VideoFrame"]

Pair = tuple[Fraction, "VideoFrame", "VideoFrame | None"]
"""A frame's time, the frame, and the film's next one (None: it is the last)."""

_BACK_OFF = (0, 1, 4, 16)
"""Seconds by which a seek is tried earlier while no whole picture comes in time; then from the beginning."""

_SKIP = 10
"""Seconds between wanted pictures from which a seek is cheaper than decoding what lies between."""

_SLACK = Fraction(1)
"""Seconds by which a stream may end before its declared end and still count as whole."""

_INSTANT = Fraction(1, 1_000_000)

_COARSEST = Fraction(1, 1000)
"""Seconds of the coarsest clock that rounds times: Matroska's and FLV's."""

Source = tuple["InputContainer", "VideoStream"]


class Reader:
    """Decoded frames of one video stream by time, in exact seconds from the container's beginning.

    `opened` opens the file anew, at its beginning: what a decoder and a demuxer know there they may lose by a
    seek (palettes, a programme stream's first group of pictures). `look` is how the asset's pictures are
    shown. `cut` tells whether the file is shorter than its header says.
    """

    def __init__(
        self, opened: Callable[[], Source], look: Stream, name: str, limits: Limits, cut: Callable[[], bool]
    ) -> None:
        self._opened = opened
        self._look = look
        self._name = name
        self._limits = limits
        self._cut = cut
        self._deadline = time.monotonic() + limits.decode_seconds
        self._unread: str | None = None
        self._run_of_at: Iterator[Timed] | None = None
        self._shown: Timed | None = None
        self._next: Timed | None = None
        self._open()

    def _open(self) -> None:
        self._container, self._stream = self._opened()
        self._clock = Clock(self._container, self._stream, self._name)
        self._decoder = decoder(self._stream)
        self._rounding = min(self._clock.base, _COARSEST) / 2
        self._fresh = True

    @property
    def _seekable(self) -> bool:
        """Whether what comes after a seek is what one pass gives.

        Not where pictures are told apart by their number in display order, which a seek into a group of
        pictures hides, nor where a palette was told once, at the beginning or along the way.
        """
        context = self._stream.codec_context
        return not (self._clock.counts and context.has_b_frames) and context.pix_fmt != "pal8"

    def span(self, start: Fraction, end: Fraction | None) -> Iterator[Timed]:
        """All frames of [start, end)."""
        return (timed for timed in self.with_lead_frame(start, end) if timed[0] >= start)

    def times(self) -> list[Fraction]:
        """When each frame of the film is, in order, as decoding all would tell; only packets are read."""
        found: set[Fraction] = set()
        for packet in self._packets() if self._seekable else ():
            if packet is None or packet.is_discard or not packet.size:
                continue  # Edited out, empty, or the stream's end.
            at = self._clock.stamped(packet)
            if at is None or (packet.pts is None and not self._clock.counts):
                break
            self._clock.ordered(packet)
            found.add(at)
        else:
            if found:
                return sorted(found)
        # Stamps are missing: only pictures in their order tell.
        return [at for at, _ in self.with_lead_frame(Fraction(0), None)]

    def with_lead_frame(self, start: Fraction, end: Fraction | None) -> Iterator[Timed]:
        """All frames of [start, end), and before them the one on screen just before `start`, if any."""
        before: Timed | None = None
        for at, frame in self._from(start - _INSTANT if start > 0 else start, end):
            if at < start:
                before = at, frame
                continue
            if before is not None:
                yield before
                before = None
            if end is not None and at >= end:
                return
            yield at, frame
        if before is not None:
            yield before

    def sampled(self, start: Fraction, end: Fraction | None, fps: Fraction) -> Iterator[Pair]:
        """The first frame of each slot of 1 / fps seconds of [start, end), with the film's next frame."""
        taken = -1
        position = start
        if start > 0:
            # Begin with the slot that holds `start`: its first frame may belong to the segment before.
            taken = self._slot(start, fps) - 1
            position = self._begin(taken + 1, fps)
        while end is None or position < end:
            chosen: Timed | None = None
            for at, frame in self._from(position, end):
                if chosen is not None:
                    yield *chosen, frame
                    chosen = None
                    if position - at > _SKIP and self._seekable:
                        break
                if end is not None and at >= end:
                    return
                if (slot := self._slot(at, fps)) <= taken:
                    continue
                taken = slot
                position = self._begin(taken + 1, fps)
                if at >= start:
                    chosen = at, frame
            else:
                if chosen is not None:
                    yield *chosen, None
                return

    def at(self, moment: Fraction) -> Timed:
        """The frame on screen at `moment`: the last one not after it, else the first. Moments must ascend."""
        far = self._shown is None or (moment - self._shown[0] > _SKIP and self._seekable)
        if self._run_of_at is None or far:
            self._run_of_at = self._from(moment, None)
            self._shown = self._next = None
        while self._next is None or self._next[0] <= moment:
            self._shown = self._next or self._shown
            self._next = next(self._run_of_at, None)
            if self._next is None:
                break
        chosen = self._shown or self._next
        if chosen is None:
            raise MediaError(f"{self._name!r} has no picture at {float(moment):.2f} s")
        return chosen

    def rgb(self, frame: VideoFrame, size: Size, scaler: Scaler = "area") -> np.ndarray:
        """A frame as upright uint8[h, w, 3] RGB of the wanted size."""
        return upright(frame, self._look, size, scaler)

    def _slot(self, at: Fraction, fps: Fraction) -> int:
        # Half a tick of the stream's clock: 0.033 counted in milliseconds stands for 1/30 s. A coarser clock
        # than that is the film's own rate, and exact.
        return math.floor((at + self._rounding) * fps)

    def _begin(self, slot: int, fps: Fraction) -> Fraction:
        """The earliest time that `_slot` counts into `slot`."""
        return Fraction(slot) / fps - self._rounding

    def _from(self, start: Fraction, end: Fraction | None) -> Iterator[Timed]:
        """Frames from one at or before `start`, where there is one, to the first at or after `end`.

        A seek may land behind its target (MPEG streams, open groups of pictures), so it is tried from
        further back until a whole key frame comes out in time.
        """
        for back in _BACK_OFF if self._seekable else ():
            if start - back <= 0:
                break
            run = self._run(start - back, start, end)
            first = next(run, None)
            if first is not None and first[0] <= start:
                yield first
                yield from run
                return
        yield from self._run(None, start, end)

    def _run(self, seek: Fraction | None, start: Fraction, end: Fraction | None) -> Iterator[Timed]:
        """Decode after a seek (None: from the beginning); ends after the first frame at or after `end`.

        Comes out empty when a seek led to no key frame before `start`. Raises `MediaError` for damage that
        touches [start, end).
        """
        self._seek(seek)
        run = Run(self._name, start, end, beginning=seek is None)
        # What does not decode counts once something follows it: less than a frame may miss at the end.
        bad: tuple[Fraction | None, str | None] | None = None
        for packet in self._packets():
            if time.monotonic() > self._deadline:
                raise MediaError(
                    f"{self._name!r} took longer to decode than {self._limits.decode_seconds:g} s; "
                    "ask for less of it"
                )
            for at, frame, why in self._decoded(packet):
                if bad is not None:
                    run.hit(*bad)
                    bad = None
                if frame is None or at is None or frame.is_corrupt:
                    bad = at, why
                elif run.frame(at, at + (frame.duration or 0) * self._clock.base, bool(frame.key_frame)):
                    yield at, frame
                elif at >= start:
                    return
                if frame is not None and at is not None and end is not None and at >= end:
                    return
        # A seek that finds nothing may be the index's fault; the run from the beginning decides.
        if run.tail is not None or seek is None:
            self._check_end(run.tail, start, end)

    def _seek(self, to: Fraction | None) -> None:
        import av

        if to is not None:
            try:
                target = (self._clock.origin + to) / self._clock.base
                self._container.seek(math.floor(target), stream=self._stream)
                self._decoder.flush_buffers()
                self._clock.restart()
                self._fresh = False
                return
            except av.error.FFmpegError:
                pass  # No index to seek by: from the beginning, where nothing needs one.
        if not self._fresh:
            self._open()

    def _packets(self) -> Iterator[Packet[VideoStream] | None]:
        """The stream's packets; the last one, empty or None, makes the decoder give what it holds."""
        import av

        self._fresh = False
        try:
            yield from packets(self._container, self._stream)
        except av.error.FFmpegError as error:
            self._unread = reason(error)
            yield None

    def _decoded(
        self, packet: Packet[VideoStream] | None
    ) -> Iterator[tuple[Fraction | None, VideoFrame | None, str | None]]:
        """(time, frame, None) for each frame of a packet, or (time, None, why) where it does not decode."""
        import av

        if packet is not None:
            if says_nothing(packet):
                return
            self._clock.fed(packet)
        try:
            frames = self._decoder.decode(packet)
        except av.error.EOFError:
            return  # The decoder was emptied before; a seek will wake it.
        except av.error.FFmpegError as error:
            at = None
            if packet is not None:
                at = self._clock.stamped(packet)
                self._clock.lost(packet)
            yield at, None, reason(error)
            return
        for frame in frames:
            at = self._clock.shown(frame)
            if at is not None:
                yield at, frame, None

    def _check_end(self, tail: Fraction | None, start: Fraction, end: Fraction | None) -> None:
        """Raise where the file ran out before the pictures that it declares and that were asked for."""
        reached = tail or Fraction(0)
        declared = self._declared_end()
        if declared is None:
            if self._unread is None:
                return
            declared = Fraction(self._container.duration or 0, 1_000_000)
        wanted = declared if end is None else min(declared, end)
        if reached + max(_SLACK, self._clock.period) < wanted:
            where = f"before {float(start):.2f} s" if tail is None else f"at {float(reached):.2f} s"
            raise MediaError(
                f"{self._name!r} breaks off {where} of {float(declared):.2f} s; "
                "the file is truncated or damaged"
            )

    def _declared_end(self) -> Fraction | None:
        """When the pictures should end by the container's own words; None where it only guesses.

        Matroska's header tells of the whole file only, its tags may be another film's: they count once the
        file is known to be cut.
        """
        container, stream = self._container, self._stream
        form = container.format.name
        if form in ESTIMATED:
            return None
        if form.startswith("matroska"):
            if not self._cut():
                return None
            tag = next((v for k, v in stream.metadata.items() if k.upper().startswith("DURATION")), "")
            return _seconds(tag) or Fraction(container.duration or 0, 1_000_000)
        if self._clock.counts and stream.frames:
            # FFmpeg shortens the duration to what is there.
            return stream.frames * self._clock.period
        if not stream.duration or not stream.time_base:
            return None
        return (stream.duration + (stream.start_time or 0)) * self._clock.base - self._clock.origin


def _seconds(text: str) -> Fraction | None:
    """`00:01:02.5` in seconds; None for anything else."""
    try:
        hours, minutes, seconds = text.strip("\0 ").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None
