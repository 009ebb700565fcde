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
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from amber_ray.media.choice import Wanted
from amber_ray.media.clock import Clock
from amber_ray.media.coded.picture import Coded, Headers
from amber_ray.media.container import says_nothing

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

_PACKETS, _BYTES = 300, 32 << 20
"""What is held back at most while it is not known whether anything wanted will refer to it."""

_UNKNOWN = 64
"""Pictures, from one of which it is not known whether it is wanted, that are read on at most."""


class Doubt(Exception):
    """A film is not as passing over pictures needs it: decode all of it. Never leaves this room."""


@dataclass(slots=True, eq=False)
class _Picture:
    """A packet on its way: the `number`-th, of the `era` in which what it refers to was decoded.

    `at` is None where its picture is never shown, `wanted` until that is known.
    """

    packet: Packet[VideoStream]
    at: Fraction | None
    coded: Coded
    number: int
    era: int
    forced: bool
    wanted: bool | None = None


class Ahead:
    """One run over a stream's packets, from its beginning or behind a seek. Raises `Doubt` at any time."""

    def __init__(self, headers: Headers, clock: Clock, wanted: Wanted) -> None:
        headers.restart()
        self._headers = headers
        self._clock = clock
        self._wanted = wanted
        self._keyed = False
        # Packets in the order of decoding, and those that are shown in that of display, until it is final.
        self._held: deque[_Picture] = deque()
        self._bytes = 0
        self._open: list[_Picture] = []
        self._closed: _Picture | None = None
        # Of each era: up to which number its pictures are needed, how many are not judged, what began it.
        self._number = 0
        self._era = 0
        self._over = -2
        self._until: dict[int, int] = {}
        self._unjudged: Counter[int] = Counter()
        self._began: dict[int, int] = {}
        # Times of pictures that must come out, of those that may, and of those that did and are not judged.
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
        if coded is None or at is None:
            raise Doubt
        self._number += 1
        if coded.fresh:
            self._over, self._era = self._era - 1, self._era + 1
            self._began[self._era] = self._number
        elif not coded.leading:
            self._over = self._era - 1
        era = self._era - 1 if coded.leading else self._era
        # Up to the first key picture, and where the container knows of damage, the decoder is to judge.
        forced = not self._keyed or packet.is_corrupt
        picture = _Picture(packet, None if packet.is_discard else at, coded, self._number, era, forced)
        self._held.append(picture)
        self._bytes += packet.size
        if forced:
            self._need(picture)
        self._keyed = self._keyed or packet.is_keyframe
        if picture.at is None:
            picture.wanted = False
        else:
            self._unjudged[era] += 1
            self._place(picture, at)

    def _need(self, picture: _Picture) -> None:
        """Have the decoder given a picture, and before it whatever it may refer to."""
        self._until[picture.era] = max(self._until.get(picture.era, 0), picture.number)
        if picture.coded.leading:
            key = picture.era + 1
            self._until[key] = max(self._until.get(key, 0), self._began.get(key, 0))

    def _place(self, picture: _Picture, at: Fraction) -> None:
        """Put a picture between those that are shown before and after it."""
        place = bisect.bisect_left(self._open, at, key=_time)
        before = self._open[place - 1] if place else self._closed
        if before is not None and not (_time(before) < at and before.coded.order < picture.coded.order):
            raise Doubt
        after = self._open[place : place + 1]
        if after and not (at < _time(after[0]) and picture.coded.order < after[0].coded.order):
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
        self._unjudged[picture.era] -= 1
        if picture.wanted:
            self._need(picture)
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
        self._over = self._era

    def _decided(self) -> Iterator[Packet[VideoStream]]:
        """Packets whose fate is known, up to the first of which it is not."""
        while self._held:
            picture = self._held[0]
            if (needed := self._needed(picture)) is None:
                return
            self._held.popleft()
            self._bytes -= picture.packet.size
            if not needed or (picture.coded.rest is not None and not (picture.wanted or picture.forced)):
                if picture.at is not None:
                    ends = picture.at + (picture.packet.duration or 0) * self._clock.base
                    self.passed_until = max(self.passed_until, ends)
                if needed and picture.coded.rest:
                    yield _without(picture.packet, picture.coded.rest)
                continue
            if picture.at is not None:
                self._given.add(picture.at)
            yield picture.packet

    def _needed(self, picture: _Picture) -> bool | None:
        """Whether the decoder needs the first held packet, or all but its picture; None: not known yet."""
        era = picture.era
        if picture.forced or picture.wanted:
            return True
        waits = picture.wanted is None and (not picture.coded.needed or picture.coded.rest is not None)
        if waits:
            if self._number - picture.number > _UNKNOWN:
                raise Doubt
            return None
        if not picture.coded.needed:
            return False
        if picture.number <= self._until.get(era, 0):
            return True
        if era <= self._over and not self._unjudged[era]:
            return False
        if len(self._held) > _PACKETS or self._bytes > _BYTES:
            self._until[era] = self._number
            return True
        return None


def _without(packet: Packet[VideoStream], rest: bytes) -> Packet[VideoStream]:
    """A packet that has lost the picture that is shown."""
    import av

    found = cast("Packet[VideoStream]", av.Packet(rest))
    found.pts, found.dts, found.time_base = packet.pts, packet.dts, packet.time_base
    return found


def _time(picture: _Picture) -> Fraction:
    assert picture.at is not None  # Only pictures that are shown are placed.
    return picture.at
