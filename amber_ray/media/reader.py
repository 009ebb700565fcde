"""One open video stream, read by time: seek to a key frame, decode, choose frames, and notice damage.

Damage inside what was asked for is an error, never a grey or a missing picture; damage before it is not.
Must not know: assets, files, features.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from amber_ray.core.model.units import Stream
from amber_ray.errors import MediaError
from amber_ray.media import nvdec
from amber_ray.media.ahead import Ahead, Doubt
from amber_ray.media.bounds import Decoding
from amber_ray.media.choice import AnyOf, OnScreen, Slots, Wanted
from amber_ray.media.clock import ORDER_ONLY, Beginning, Clock, tells_start
from amber_ray.media.coded import headers
from amber_ray.media.container import ESTIMATED, decoder, packets, reason, says_nothing
from amber_ray.media.damage import Run
from amber_ray.media.scale import Scaler, Size, Upright
from amber_ray.media.selection import Every, Pair, Sampled, Selection
from amber_ray.settings import Limits

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Timed = tuple[Fraction, "VideoFrame"]

_BACK_OFF = (0, 1, 4, 16)
"""Seconds by which a seek is tried earlier while no whole picture comes in time; then from the beginning."""

_SKIP = 10
"""Seconds between wanted pictures from which a seek is cheaper than decoding what lies between."""

_SLACK = Fraction(1)
"""Seconds by which a stream may end before its declared end and still count as whole."""

_LOOKED_AT = 30
"""Packets from the beginning that show whether stamps are in the order of decoding."""

_COARSEST = Fraction(1, 1000)
"""Seconds of the coarsest clock that rounds times: Matroska's and FLV's."""

Source = tuple["InputContainer", "VideoStream"]


class Reader:
    """Decoded frames of one video stream by time, in exact seconds from the container's beginning.

    `opened` opens the file anew, at its beginning: what a decoder and a demuxer know there they may lose by a
    seek (palettes, a programme stream's first group of pictures). `look` is how the asset's pictures are
    shown. `cut` tells whether the file is shorter than its header says. As many threads, or the GPU, as
    `decoding` says decode until there is something that one thread might take otherwise: where a film is
    damaged, one decodes it from there on.
    """

    def __init__(
        self,
        opened: Callable[[], Source],
        look: Stream,
        name: str,
        limits: Limits,
        cut: Callable[[], bool],
        decoding: Decoding | None = None,
    ) -> None:
        self._opened = opened
        self._upright = Upright(look)
        self._name = name
        self._limits = limits
        self._cut = cut
        self._deadline = time.monotonic() + limits.decode_seconds
        self._unread: str | None = None
        self._doubted = False
        self._decoding = decoding or Decoding()
        self._threads, self._gpu = self._decoding.threads, self._decoding.gpu
        self._proof: nvdec.Proof | None = None
        self._beginning: Beginning | None = None
        self._open()

    def _open(self) -> None:
        self._container, self._stream = self._opened()
        self._decoder = decoder(self._stream)
        self._waiting: list[Packet[VideoStream]] = []
        if self._beginning is None:
            self._beginning, used = self._looked_at()
            if used:
                return self._open()
        self._clock = Clock(self._container, self._stream, self._name, self._beginning)
        self._rounding = min(self._clock.base, _COARSEST) / 2
        self._fresh = True
        if not self._clock.told:
            self._threads, self._gpu = 1, False
        if self._gpu:
            try:
                self._decoder = nvdec.decoder(self._stream)
            except nvdec.Refused as refused:
                self._decode_alone(str(refused))
        if self._gpu:
            self._proof = nvdec.Proof(decoder(self._stream))
        elif self._threads > 1:
            self._decoder = decoder(self._stream, self._threads)
        context = self._stream.codec_context
        told = not self._doubted and self._clock.told
        self._headers = headers(context.codec.canonical_name, context.extradata or b"") if told else None

    def _decode_alone(self, why: str) -> None:
        """Have one thread decode from now on, or as many as there may be if it was the GPU that did."""
        if self._gpu:
            nvdec.log.warning("%r is decoded by the CPU: %s", self._name, why)
            self._gpu, self._proof = False, None
        else:
            self._threads = 1

    def _looked_at(self) -> tuple[Beginning, bool]:
        """What the stream's first packets tell, and whether the file must be opened anew.

        Where a decoder reorders pictures whose packets' stamps ascend, the stamps are those of decoding.
        Packets that were only read are in `_waiting`.
        """
        import av

        reorders = bool(self._stream.codec_context.has_b_frames)
        if self._container.format.name in ORDER_ONLY or (not reorders and tells_start(self._container)):
            return Beginning(), False
        stamps: list[int] = []
        shown: list[int | None] = []
        try:
            for packet in packets(self._container, self._stream):
                self._waiting.append(packet)
                stamp = packet.dts if packet.pts is None else packet.pts
                if stamp is None or len(stamps) == _LOOKED_AT:
                    break
                stamps.append(stamp)
                if not reorders or (len(stamps) > 1 and stamp <= stamps[-2]):
                    reorders = False  # It does, and so do the stamps.
                    break
            for packet in self._waiting if reorders else ():
                shown += [frame.pts for frame in self._decoder.decode(packet)]
        except av.error.FFmpegError:
            reorders = True  # Whoever asks for what is damaged is told.
        at = min(stamps) * Fraction(self._stream.time_base or 1) if stamps else None
        told = [pts for pts in shown if pts is not None]
        return Beginning(told != sorted(told) or (bool(shown) and not told), at), reorders

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
        return (pair[:2] for _, pair in self.selected([Every(start, end)]) if pair is not None)

    def sampled(self, start: Fraction, end: Fraction | None, fps: Fraction, *, pairs: bool) -> Sampled:
        """The first frame of each slot of 1 / fps seconds of a span, see `Sampled`, for `selected`."""
        return Sampled(Slots(fps, self._rounding), start, end, pairs=pairs)

    def selected(self, selections: Sequence[Selection]) -> Iterator[tuple[int, Pair | None]]:
        """What each selection takes, with its number, of one pass over all that they need; last, None.

        Selections lie anywhere: what is far from all of them is passed over by a seek.
        """
        left = list(enumerate(selections))
        while left:
            empty = [n for n, s in left if s.over or (s.end is not None and s.position >= s.end)]
            yield from ((n, None) for n in empty)
            left = [(n, s) for n, s in left if n not in empty]
            if left:
                left = yield from self._stretch(left)

    def _stretch(
        self, left: list[tuple[int, Selection]]
    ) -> Generator[tuple[int, Pair | None], None, list[tuple[int, Selection]]]:
        """As `selected`, up to where a seek is cheaper than reading on; returns those that are left then."""
        left.sort(key=lambda one: one[1].position, reverse=True)
        begins = left[-1][1].position
        ends = [s.end for _, s in left if s.end is not None]
        end = max(ends) if len(ends) == len(left) else None
        seeing: list[tuple[int, Selection]] = []
        before: Timed | None = None
        choice = _choice([s for _, s in left], lambda: Fraction(-1) if before is None else before[0])
        for at, frame in self._from(begins, end, choice):
            while left and (left[-1][1].over or left[-1][1].position <= at):
                seeing.append(left.pop())
                if before is not None and not seeing[-1][1].over:
                    # It takes nothing of this one, but it may be on screen when the selection begins.
                    list(seeing[-1][1].see(*before))
            before = at, frame
            for number, selection in seeing:
                if not selection.over:
                    yield from ((number, pair) for pair in selection.see(at, frame))
                if selection.over:
                    yield number, None
            seeing = [(n, s) for n, s in seeing if not s.over]
            if not seeing and not left:
                return []
            position = min(s.position for _, s in (*seeing, *left[-1:]))
            if position > begins and self._far(at, position) and not any(s.pending for _, s in seeing):
                return [*seeing, *left]
        for _, selection in left:
            if before is not None and not selection.over:
                # It begins behind the film's last picture, which stays on screen.
                list(selection.see(*before))
        for number, selection in (*seeing, *left):
            for pair in selection.ended():
                yield number, pair
            yield number, None
        return []

    def renew(self, decoding: Decoding) -> None:
        """Go on for somebody else, who has a time of his own to decode in."""
        self._deadline = time.monotonic() + self._limits.decode_seconds
        decoding.nvdec, self._decoding = self._decoding.nvdec, decoding

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
            # A recording may begin with pictures that need one before its beginning.
            first = next((at for at, _ in self.span(Fraction(0), None)), None)
            if found and first is not None:
                return sorted(at for at in found if at >= first)
        # Stamps are missing: only pictures in their order tell.
        return [at for at, _ in self.span(Fraction(0), None)]

    def at(self, moments: Sequence[Fraction]) -> Iterator[Timed]:
        """The frame on screen at each ascending moment: the last one not after it, else the first."""
        run: Iterator[Timed] | None = None
        shown: Timed | None = None
        coming: Timed | None = None
        reaches = 0
        for number, moment in enumerate(moments):
            if run is None or shown is None or number == reaches or self._far(shown[0], moment):
                reaches = number + 1
                while reaches < len(moments) and not self._far(moments[reaches - 1], moments[reaches]):
                    reaches += 1
                run = self._from(moment, None, partial(OnScreen, moments[number:reaches]))
                shown = coming = None
            while coming is None or coming[0] <= moment:
                shown = coming or shown
                coming = next(run, None)
                if coming is None:
                    break
            chosen = shown or coming
            if chosen is None:
                raise MediaError(f"{self._name!r} has no picture at {float(moment):.2f} s")
            yield chosen

    def _far(self, at: Fraction, to: Fraction) -> bool:
        """Whether a seek is cheaper than reading on."""
        return to - at > _SKIP and self._seekable

    def rgb(self, frame: VideoFrame, size: Size, scaler: Scaler = "area") -> np.ndarray:
        """A frame as upright uint8[h, w, 3] RGB of the wanted size."""
        return self._upright.rgb(frame, size, scaler)

    def _from(
        self, start: Fraction, end: Fraction | None, choice: Callable[[], Wanted] | None = None
    ) -> Iterator[Timed]:
        """Frames from one at or before `start`, where there is one, to the first at or after `end`.

        With `choice` some of those that it does not want may be left out.
        """
        last: Fraction | None = None
        while True:
            try:
                for at, frame in self._reached(start, end, None if self._headers is None else choice):
                    if last is None or at > last:
                        yield at, frame
                        last = at
                return
            except Doubt:
                self._doubted, self._headers = True, None
            except MediaError as error:
                if (self._threads == 1 and not self._gpu) or time.monotonic() > self._deadline:
                    raise
                self._decode_alone(str(error))
                self._open()

    def _reached(
        self, start: Fraction, end: Fraction | None, choice: Callable[[], Wanted] | None
    ) -> Iterator[Timed]:
        """As `_from`; raises `Doubt` where pictures can't be left out after all.

        A seek may land behind its target (MPEG streams, open groups of pictures), so it is tried from
        further back until a whole key frame comes out in time.
        """
        for back in _BACK_OFF if self._seekable else ():
            if start - back <= 0:
                break
            run = self._run(start - back, start, end, choice)
            first = next(run, None)
            if first is not None and first[0] <= start:
                yield first
                yield from run
                return
        yield from self._run(None, start, end, choice)

    def _run(
        self,
        seek: Fraction | None,
        start: Fraction,
        end: Fraction | None,
        choice: Callable[[], Wanted] | None,
    ) -> Iterator[Timed]:
        """Decode after a seek (None: from the beginning); ends after the first frame at or after `end`.

        Comes out empty when a seek led to no key frame before `start`. Raises `MediaError` for damage that
        touches [start, end), `Doubt` with `choice` only.
        """
        self._seek(seek)
        ahead = None
        if choice is not None and self._headers is not None:
            ahead = Ahead(self._headers, self._clock, choice())
        run = Run(self._name, start, end, beginning=seek is None)
        # What does not decode counts once something follows it: less than a frame may miss at the end.
        bad: tuple[Fraction | None, str | None] | None = None
        for packet in self._packets() if ahead is None else ahead.packets(self._packets()):
            if time.monotonic() > self._deadline:
                raise MediaError(
                    f"{self._name!r} took longer to decode than {self._limits.decode_seconds:g} s; "
                    "ask for less of it"
                )
            for at, frame, why in self._decoded(packet):
                if bad is not None:
                    run.hit(*bad)
                    bad = None
                if ahead is not None and frame is not None and at is not None:
                    ahead.decoded(at)
                if frame is None or at is None or frame.is_corrupt:
                    if self._threads > 1 or self._gpu:
                        raise MediaError(why or "a picture is damaged")  # `_from` has one thread look.
                    bad = at, why
                elif run.frame(at, at + (frame.duration or 0) * self._clock.base, bool(frame.key_frame)):
                    if ahead is not None:
                        ahead.used(at)
                    yield at, frame
                elif at >= start:
                    return
                if frame is not None and at is not None and end is not None and at >= end:
                    return
        tail = run.tail
        if tail is None and seek is None and bad is not None and bad[1] is not None:
            raise MediaError(f"no picture of {self._name!r} can be decoded: {bad[1]}")
        if ahead is not None:
            ahead.ended()
            tail = tail if tail is None else max(tail, ahead.passed_until)
        # A seek that finds nothing may be the index's fault; the run from the beginning decides.
        if tail is not None or seek is None:
            self._check_end(tail, start, end)

    def _seek(self, to: Fraction | None) -> None:
        import av

        if to is not None:
            try:
                target = (self._clock.origin + to) / self._clock.base
                self._container.seek(math.floor(target), stream=self._stream)
                self._decoder.flush_buffers()
                if self._proof is not None:
                    self._proof.restart()
                self._waiting.clear()
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
        waiting, self._waiting = self._waiting, []
        try:
            yield from waiting
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
            if self._proof is not None:
                self._proof.fed(packet)
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
            if self._proof is not None:
                if not self._proof.holds(frame):
                    raise MediaError("the GPU's first picture is not the CPU's")  # Caught by `_from`.
                self._proof, self._decoding.nvdec = None, True
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


def _choice(selections: Sequence[Selection], seen: Callable[[], Fraction]) -> Callable[[], Wanted] | None:
    """What any of the selections wants of a run that begins now; None: every picture. See `AnyOf`."""
    made = [selection.choice() for selection in selections]
    begun = [choice for choice in made if choice is not None]
    return (lambda: AnyOf([choice() for choice in begun], seen)) if len(begun) == len(made) else None


def _seconds(text: str) -> Fraction | None:
    """`00:01:02.5` in seconds; None for anything else."""
    try:
        hours, minutes, seconds = text.strip("\0 ").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None
