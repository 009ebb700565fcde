"""One open video stream, read by time: seek to a key frame, decode, choose frames, and notice damage.

Damage inside what was asked for is an error, never a grey or a missing picture; damage before it is not.
Must not know: assets, files, features.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from amber_ray.errors import MediaError
from amber_ray.media.container import ESTIMATED, packets, reason, says_nothing
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


class Reader:
    """Decoded frames of one video stream by time, in exact seconds from the container's beginning."""

    def __init__(self, container: InputContainer, stream: VideoStream, name: str, limits: Limits) -> None:
        self._container = container
        self._stream = stream
        self._name = name
        self._limits = limits
        self._base = Fraction(stream.time_base or Fraction(1, 1_000_000))
        self._origin = _origin(container)
        self._deadline = time.monotonic() + limits.decode_seconds
        self._fresh = True
        self._unread: str | None = None
        self._run_of_at: Iterator[Timed] | None = None
        self._shown: Timed | None = None
        self._next: Timed | None = None
        # One thread: a task holds one CPU, and segments run side by side.
        stream.codec_context.thread_count = 1

    def span(self, start: Fraction, end: Fraction | None) -> Iterator[Timed]:
        """All frames of [start, end)."""
        return (timed for timed in self.with_lead_frame(start, end) if timed[0] >= start)

    def times(self) -> list[Fraction]:
        """When each frame of the film is, in order, as decoding all would tell; only packets are read."""
        times: set[Fraction] = set()
        for packet in self._packets():
            if packet is None or packet.is_discard or not packet.size:
                continue  # Edited out, empty, or the stream's end.
            if packet.pts is None:
                # A container that keeps only the order of decoding.
                return [max(at, Fraction(0)) for at, _ in self.with_lead_frame(Fraction(0), None)]
            times.add(max(packet.pts * self._base - self._origin, Fraction(0)))
        return sorted(times)

    def with_lead_frame(self, start: Fraction, end: Fraction | None) -> Iterator[Timed]:
        """All frames of [start, end), and before them the one on screen just before `start`, if any."""
        before: Timed | None = None
        for at, frame in self._from(start - _INSTANT if start > 0 else start, end):
            timed = max(at, Fraction(0)), frame
            if at < start and start > 0:
                before = timed
                continue
            if before is not None:
                yield before
                before = None
            if end is not None and at >= end:
                return
            yield timed
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
                    if position - at > _SKIP:
                        break
                if end is not None and at >= end:
                    return
                if (slot := self._slot(at, fps)) <= taken:
                    continue
                taken = slot
                position = self._begin(taken + 1, fps)
                if at >= start or start <= 0:
                    chosen = max(at, Fraction(0)), frame
            else:
                if chosen is not None:
                    yield *chosen, None
                return

    def at(self, moment: Fraction) -> Timed:
        """The frame on screen at `moment`: the last one not after it, else the first. Moments must ascend."""
        if self._run_of_at is None or self._shown is None or moment - self._shown[0] > _SKIP:
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
        return max(chosen[0], Fraction(0)), chosen[1]

    def rgb(self, frame: VideoFrame, size: Size, scaler: Scaler = "area") -> np.ndarray:
        """A frame as upright uint8[h, w, 3] RGB of the wanted size."""
        return upright(frame, Fraction(self._stream.sample_aspect_ratio or 1), size, scaler)

    def _slot(self, at: Fraction, fps: Fraction) -> int:
        # Half a tick of the stream's clock: 0.033 counted in milliseconds stands for 1/30 s.
        return math.floor((at + self._base / 2) * fps)

    def _begin(self, slot: int, fps: Fraction) -> Fraction:
        """The earliest time that `_slot` counts into `slot`."""
        return Fraction(slot) / fps - self._base / 2

    def _from(self, start: Fraction, end: Fraction | None) -> Iterator[Timed]:
        """Frames from one at or before `start`, where there is one, to the first at or after `end`.

        A seek may land behind its target (MPEG streams, open groups of pictures), so it is tried from
        further back until a whole key frame comes out in time.
        """
        for back in _BACK_OFF:
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
        for packet in self._packets():
            if time.monotonic() > self._deadline:
                raise MediaError(
                    f"{self._name!r} took longer to decode than {self._limits.decode_seconds:g} s; "
                    "ask for less of it"
                )
            for at, frame, why in self._decoded(packet):
                if frame is None or at is None or frame.is_corrupt:
                    run.hit(at, why)
                elif run.frame(at, at + (frame.duration or 0) * self._base, bool(frame.key_frame)):
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

        fresh, self._fresh = self._fresh, False
        if fresh and to is None:
            return
        target = self._origin + (to or 0)
        try:
            self._container.seek(math.floor(target / self._base), stream=self._stream)
        except av.error.FFmpegError:
            # No index to seek by: from the beginning, where nothing needs one.
            self._container.seek(0)
        self._stream.codec_context.flush_buffers()

    def _packets(self) -> Iterator[Packet[VideoStream] | None]:
        """The stream's packets; the last one, empty or None, makes the decoder give what it holds."""
        import av

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

        if packet is not None and says_nothing(packet):
            return
        try:
            frames = self._stream.decode(packet)
        except av.error.EOFError:
            return  # The decoder was emptied before; a seek will wake it.
        except av.error.FFmpegError as error:
            stamp = None if packet is None else packet.pts if packet.pts is not None else packet.dts
            yield (None if stamp is None else stamp * self._base - self._origin), None, reason(error)
            return
        for frame in frames:
            if frame.pts is not None:
                yield frame.pts * self._base - self._origin, frame, None

    def _check_end(self, tail: Fraction | None, start: Fraction, end: Fraction | None) -> None:
        """Raise where the file ran out before the pictures that it declares and that were asked for."""
        reached = tail or Fraction(0)
        declared = _declared_end(self._container, self._stream, self._origin)
        if declared is None:
            if self._unread is None:
                return
            declared = Fraction(self._container.duration or 0, 1_000_000)
        wanted = declared if end is None else min(declared, end)
        if reached + max(_SLACK, _period(self._stream)) < wanted:
            where = f"before {float(start):.2f} s" if tail is None else f"at {float(reached):.2f} s"
            raise MediaError(
                f"{self._name!r} breaks off {where} of {float(declared):.2f} s; "
                "the file is truncated or damaged"
            )


def _origin(container: InputContainer) -> Fraction:
    """Time zero on the streams' clocks: the earliest stream's first timestamp, exactly.

    The container tells it rounded to microseconds, which would shift every frame's time by up to one.
    """
    rounded = Fraction(container.start_time or 0, 1_000_000)
    for stream in container.streams:
        if stream.start_time is not None and stream.time_base:
            exact = stream.start_time * Fraction(stream.time_base)
            if abs(exact - rounded) <= Fraction(2, 1_000_000):
                return exact
    return rounded


def _declared_end(container: InputContainer, stream: VideoStream, origin: Fraction) -> Fraction | None:
    """When the pictures should end by the container's own words; None where it only guesses."""
    form = container.format.name
    if form in ESTIMATED:
        return None
    if form.startswith("matroska"):
        tag = next((v for k, v in stream.metadata.items() if k.upper().startswith("DURATION")), None)
        return None if tag is None else _clock(tag)
    if not stream.duration or not stream.time_base:
        return None
    return (stream.duration + (stream.start_time or 0)) * Fraction(stream.time_base) - origin


def _clock(text: str) -> Fraction | None:
    """`00:01:02.5` in seconds; None for anything else."""
    try:
        hours, minutes, seconds = text.strip("\0 ").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None


def _period(stream: VideoStream) -> Fraction:
    return 1 / Fraction(stream.average_rate) if stream.average_rate else Fraction(0)
