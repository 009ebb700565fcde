"""When a decoded picture is shown, where the file's own stamps say it, half say it, or say it wrongly.

Three kinds of files: those that stamp each picture, those that stamp some of them (the others follow at the
film's rate), and those that keep only the order of decoding (AVI, and what is copied out of one: pictures, as
they come out in display order, take the packets' times in ascending order). Times ascend, each comes once.
Must not know: features, what the pictures are for.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from amber_ray.errors import MediaError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

JUMP = Fraction(1, 4)
"""Seconds by which a stamp may lie before the one before it: encoders' sloppiness, not another recording."""

ORDER_ONLY = frozenset({"avi"})
"""Containers without stamps for display. FFmpeg invents some from the order of decoding."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the first packets of a stream of pictures tell, and the container's header does not.

    `ordered_only`: stamps tell when packets are decoded. `at`: the first stamp, in seconds; None if unknown.
    """

    ordered_only: bool = False
    at: Fraction | None = None


GUESSED_AFTER_A_SEEK = frozenset({"mpeg"})
"""Containers in which FFmpeg's stamps behind a seek are guesses, up to the first that the file has."""

STAMPED_WITHIN = Fraction(1)
"""Seconds within which a programme stream has a stamp: 0.7 at most (ISO/IEC 13818-1, 2.7.4), and a margin."""


class Clock:
    """Times of one stream's pictures, in exact seconds from the container's beginning.

    After a seek no time is known before a stamp has come: pictures up to there are left out, so that a
    picture has the same time wherever reading began.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream | AudioStream,
        name: str,
        beginning: Beginning = Beginning(),
    ) -> None:
        self.base = Fraction(stream.time_base or Fraction(1, 1_000_000))
        self.origin = origin(container, beginning.at)
        self._by_decoding = container.format.name in ORDER_ONLY
        self.counts = self._by_decoding or beginning.ordered_only
        rate = stream.type == "video" and (stream.average_rate or stream.guessed_rate)
        self.period = 1 / Fraction(rate) if rate else Fraction(0)
        self.told = not self.counts and container.format.name not in GUESSED_AFTER_A_SEEK
        self._name = name
        self._guesses = container.format.name in GUESSED_AFTER_A_SEEK
        self._restarted = False
        self._stamped_from: Fraction | None = None
        self._due: list[int] = []
        self._last: Fraction | None = None
        self._decoded: Fraction | None = None

    def restart(self) -> None:
        """Forget everything: reading goes on behind a seek."""
        self._restarted, self._stamped_from = self._guesses, None
        self._due.clear()
        self._last = self._decoded = None

    def fed(self, packet: Packet[VideoStream]) -> None:
        """Note a packet that the decoder was given."""
        if self.counts and (stamp := self._stamp(packet)) is not None:
            heapq.heappush(self._due, stamp)

    def lost(self, packet: Packet[VideoStream]) -> None:
        """Note that a packet, the last one fed, will never become a picture."""
        if self.counts and (stamp := self._stamp(packet)) in self._due:
            self._due.remove(stamp)
            heapq.heapify(self._due)

    def stamped(self, packet: Packet[VideoStream]) -> Fraction | None:
        """The time at which a packet's picture is due, None where the packet does not tell."""
        stamp = self._stamp(packet)
        return None if stamp is None else self._seconds(stamp)

    def _stamp(self, packet: Packet[VideoStream]) -> int | None:
        return packet.dts if self._by_decoding or packet.pts is None else packet.pts

    def shown(self, frame: VideoFrame) -> Fraction | None:
        """The time of the next picture in display order; None if it has none of its own and is left out.

        Raises `MediaError` where the clock jumps back.
        """
        at: Fraction | None = None
        if self.counts:
            at = self._seconds(heapq.heappop(self._due)) if self._due else None
        elif frame.pts is not None:
            at = self._seconds(frame.pts)
        if at is None:
            if self._last is None:
                return None
            length = frame.duration * self.base if frame.duration else self.period
            at = self._last + length if length else None
        if self._restarted and at is not None:
            self._stamped_from = self._stamped_from or at + STAMPED_WITHIN
            if at < self._stamped_from:
                return None
        if at is None or (self._last is not None and not self._follows(at)):
            return None
        self._last = at
        return at

    def ordered(self, packet: Packet[VideoStream] | Packet[AudioStream]) -> None:
        """Take the next packet in the order of decoding. Raises `MediaError` where the clock jumps back."""
        if packet.dts is None:
            return
        at = self._seconds(packet.dts)
        if self._decoded is not None:
            self._check(self._decoded, at)
        self._decoded = at

    def _check(self, before: Fraction, at: Fraction) -> None:
        if before - at > JUMP:
            raise MediaError(
                f"the clock of {self._name!r} jumps back from {float(before):.2f} s to {float(at):.2f} s, as "
                "where two recordings were joined: cut it there, or write its times anew"
            )

    def _follows(self, at: Fraction) -> bool:
        assert self._last is not None
        self._check(self._last, at)
        return at > self._last

    def _seconds(self, stamp: int) -> Fraction:
        return max(stamp * self.base - self.origin, Fraction(0))


def tells_start(container: InputContainer) -> bool:
    """Whether FFmpeg knows when the container's streams begin; PyAV's types do not say that it may not."""
    return cast("int | None", container.start_time) is not None


def origin(container: InputContainer, seen: Fraction | None = None) -> Fraction:
    """Time zero on the streams' clocks: the earliest stream's first timestamp, exactly.

    The container tells it rounded to microseconds, which would shift every frame's time by up to one. Where
    it does not tell, what was `seen`, if anything.
    """
    if seen is not None and not tells_start(container):
        return seen
    rounded = Fraction(container.start_time or 0, 1_000_000)
    for stream in container.streams:
        if stream.start_time is not None and stream.time_base:
            exact = stream.start_time * Fraction(stream.time_base)
            if abs(exact - rounded) <= Fraction(2, 1_000_000):
                return exact
    return rounded
