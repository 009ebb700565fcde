"""Which packets a decoder need not be given: those of pictures that nobody wants and none refers to.

Packets are read a few pictures ahead of the decoder, until the times around a picture are known, for that
decides whether it is wanted: the first of a slot of time, or the one on screen at a moment. So a picture is
passed over only if

- its codec's headers prove that no other refers to it (`coded`),
- the film's stamps ascend in the very order in which the decoder gives pictures out, by the headers again,
  and no picture comes later than the headers allow: then the pictures that come out are, but for those passed
  over, the ones of a full decode, at the same times,
- and what is wanted does come out, and nothing that was not foreseen.

Where one of these fails there is a `Doubt`, and the reader decodes that film whole, from the same place.
Must not know: how pictures are chosen, damage.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from amber_ray.media.clock import Clock
from amber_ray.media.coded.picture import Headers
from amber_ray.media.container import says_nothing

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

Wanted = Callable[[Fraction, Fraction | None], bool]
"""Whether the picture at a time is wanted, given the time of the next one (None: it is the film's last).

Called once for each picture, in the order in which they are shown.
"""

_HELD = 64
"""Packets held back at most; a film that needs more is not as its headers say."""


class Doubt(Exception):
    """A film is not as passing over pictures needs it: decode all of it. Never leaves this room."""


@dataclass(slots=True, eq=False)
class _Picture:
    """A packet on its way. `at` is None where its picture is never shown, `wanted` until that is known."""

    packet: Packet[VideoStream]
    at: Fraction | None
    order: tuple[int, int]
    needed: bool
    wanted: bool | None = None


class Ahead:
    """One run over a stream's packets, from its beginning or behind a seek. Raises `Doubt` at any time."""

    def __init__(self, headers: Headers, clock: Clock, wanted: Wanted) -> None:
        headers.restart()
        self._headers = headers
        self._clock = clock
        self._wanted = wanted
        self._keyed = False
        self._held: deque[_Picture] = deque()
        self._open: list[_Picture] = []
        self._closed: _Picture | None = None
        self._promised: deque[Fraction] = deque()
        self._given: set[Fraction] = set()
        self._used: set[Fraction] = set()
        self._last: Fraction | None = None
        self.passed_until = Fraction(0)
        """When the last picture that was passed over ends."""

    def packets(self, source: Iterable[Packet[VideoStream] | None]) -> Iterator[Packet[VideoStream] | None]:
        """Those of the source's packets that the decoder must be given, in their order."""
        for packet in source:
            if packet is None or (not packet.size and not says_nothing(packet)):
                self._end()
                yield from self._decided()
                yield packet
                continue
            self._add(packet)
            yield from self._decided()

    def decoded(self, at: Fraction) -> None:
        """Note a picture that came out of the decoder."""
        if at not in self._given:
            raise Doubt
        self._given.remove(at)

    def used(self, at: Fraction) -> None:
        """Note a picture that is handed on: every wanted one before it was."""
        self._last = at
        if not self._promised or at < self._promised[0]:
            self._used.add(at)
        elif self._promised.popleft() != at:
            raise Doubt

    def ended(self) -> None:
        """Note that nothing more comes out of the decoder."""
        if self._promised:
            raise Doubt

    def _add(self, packet: Packet[VideoStream]) -> None:
        coded = None
        if packet.size and packet.pts is not None and not packet.has_sidedata("new_extradata"):
            coded = self._headers.read(bytes(packet))
        at = self._clock.stamped(packet)
        if coded is None or at is None or len(self._held) == _HELD:
            raise Doubt
        self._keyed = self._keyed or packet.is_keyframe
        # Before the first key picture, and where the container knows of damage, the decoder is to judge.
        needed = coded.needed or packet.is_corrupt or packet.is_discard or not self._keyed
        picture = _Picture(packet, None if packet.is_discard else at, coded.order, needed)
        self._held.append(picture)
        if picture.at is not None:
            self._place(picture, at)

    def _place(self, picture: _Picture, at: Fraction) -> None:
        """Put a picture between those that are shown before and after it."""
        place = bisect.bisect_left(self._open, at, key=_time)
        before = self._open[place - 1] if place else self._closed
        if before is not None and not (_time(before) < at and before.order < picture.order):
            raise Doubt
        after = self._open[place : place + 1]
        if after and not (at < _time(after[0]) and picture.order < after[0].order):
            raise Doubt
        self._open.insert(place, picture)
        if len(self._open) - 1 - place > self._headers.reorders:
            raise Doubt
        while len(self._open) > self._headers.reorders:
            # As many are shown after the first as may be decoded before another: none comes before it now.
            self._close(self._open.pop(0))

    def _close(self, picture: _Picture | None) -> None:
        """No picture will come between the one closed before and this one."""
        if self._closed is not None:
            self._judge(self._closed, None if picture is None else picture.at)
        self._closed = picture

    def _judge(self, picture: _Picture, following: Fraction | None) -> None:
        at = _time(picture)
        picture.wanted = self._wanted(at, following)
        if at in self._used:
            # Needed pictures go to the decoder at once, and may be out by now.
            self._used.remove(at)
        elif picture.wanted:
            if self._last is not None and self._last > at:
                raise Doubt
            self._promised.append(at)

    def _end(self) -> None:
        for picture in self._open:
            self._close(picture)
        self._open.clear()
        self._close(None)

    def _decided(self) -> Iterator[Packet[VideoStream]]:
        while self._held and (self._held[0].needed or self._held[0].wanted is not None):
            picture = self._held.popleft()
            if picture.at is not None and not (picture.needed or picture.wanted):
                ends = picture.at + (picture.packet.duration or 0) * self._clock.base
                self.passed_until = max(self.passed_until, ends)
                continue
            if picture.at is not None:
                self._given.add(picture.at)
            yield picture.packet


def _time(picture: _Picture) -> Fraction:
    assert picture.at is not None  # Only pictures that are shown are placed.
    return picture.at
