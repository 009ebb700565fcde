"""What one look at a film takes of the pictures that come by, in the order in which they are shown.

Several selections may watch the same run of pictures. What each takes depends on times alone, never on who
else watches, nor on pictures that it does not want being left out or not.
Must not know: how pictures are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Protocol

from amber_ray.media.choice import FirstOfSlots, OnScreen, Slots

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Pair = tuple[Fraction, "VideoFrame", "VideoFrame | None"]
"""A frame's time, the frame, and the film's next one (None: it is the last, or nobody asked for it)."""

_INSTANT = Fraction(1, 1_000_000)


class Selection(Protocol):
    """Takes pictures out of a run that begins at or before `position` and goes on to the first at `end`."""

    end: Fraction | None
    """From where on nothing is taken; None: the film's own end."""
    position: Fraction
    """Before this nothing more is taken, but for the picture on screen at that time."""
    over: bool
    """Whether nothing more will be taken."""

    @property
    def pending(self) -> bool:
        """Whether the very next picture belongs to one that was seen already."""

    def choice(self) -> Callable[[], FirstOfSlots | OnScreen] | None:
        """Which pictures of a run that begins now are wanted; None: all."""

    def see(self, at: Fraction, frame: VideoFrame) -> Iterator[Pair]:
        """Look at the run's next picture; yields what is complete with it."""

    def ended(self) -> Iterator[Pair]:
        """Note that the film has no more pictures; yields what is complete now."""


class Every:
    """All pictures of [start, end), and with `lead` the one on screen just before `start` first."""

    def __init__(self, start: Fraction, end: Fraction | None, *, lead: bool = False) -> None:
        self.end = end
        self.position = start - _INSTANT if start > 0 else start
        self.over = False
        self._start = start
        self._lead = lead
        self._before: Pair | None = None

    @property
    def pending(self) -> bool:
        """Never."""
        return False

    def choice(self) -> None:
        """All."""

    def see(self, at: Fraction, frame: VideoFrame) -> Iterator[Pair]:
        """See `Selection`."""
        self.position = max(self.position, at)
        if at < self._start:
            self._before = (at, frame, None) if self._lead else None
            return
        yield from self.ended()
        if self.end is not None and at >= self.end:
            self.over = True
        else:
            yield at, frame, None

    def ended(self) -> Iterator[Pair]:
        """See `Selection`."""
        before, self._before = self._before, None
        if before is not None:
            yield before


class AtMoment:
    """The picture on screen at a moment: the last one not after it, else the film's first."""

    def __init__(self, moment: Fraction) -> None:
        self.end: Fraction | None = moment + _INSTANT
        self.position = moment
        self.over = False
        self._moment = moment
        self._last: Pair | None = None

    @property
    def pending(self) -> bool:
        """Never."""
        return False

    def choice(self) -> Callable[[], OnScreen]:
        """See `Selection`."""
        return partial(OnScreen, [self._moment])

    def see(self, at: Fraction, frame: VideoFrame) -> Iterator[Pair]:
        """See `Selection`."""
        if at <= self._moment:
            self._last = at, frame, None
            return
        self._last = self._last or (at, frame, None)
        self.over = True
        yield from self.ended()

    def ended(self) -> Iterator[Pair]:
        """See `Selection`."""
        last, self._last = self._last, None
        if last is not None:
            yield last


class Sampled:
    """The first picture of each slot of [start, end), with `pairs` together with the film's next one."""

    def __init__(self, slots: Slots, start: Fraction, end: Fraction | None, *, pairs: bool) -> None:
        self.end = end
        self.position = start
        self._slots = slots
        self._start = start
        self._pairs = pairs
        self._taken = -1
        self._chosen: tuple[Fraction, VideoFrame] | None = None
        if start > 0:
            # Begin with the slot that holds `start`: its first picture may belong to the segment before.
            self._take(slots.of(start) - 1)
        self.over = False

    @property
    def pending(self) -> bool:
        """See `Selection`."""
        return self._chosen is not None

    def choice(self) -> Callable[[], FirstOfSlots]:
        """See `Selection`."""
        paired = None if self._chosen is None else self._chosen[0]
        return partial(FirstOfSlots, self._slots, self._taken, self.end, pairs=self._pairs, paired=paired)

    def see(self, at: Fraction, frame: VideoFrame) -> Iterator[Pair]:
        """See `Selection`."""
        chosen, self._chosen = self._chosen, None
        if chosen is not None:
            yield *chosen, frame
        if self.end is not None and at >= self.end:
            self.over = True
        elif (slot := self._slots.of(at)) > self._taken:
            self._take(slot)
            if at >= self._start and self._pairs:
                self._chosen = at, frame
            elif at >= self._start:
                yield at, frame, None

    def ended(self) -> Iterator[Pair]:
        """See `Selection`."""
        chosen, self._chosen = self._chosen, None
        if chosen is not None:
            yield *chosen, None

    def _take(self, slot: int) -> None:
        self._taken = slot
        self.position = self._slots.begin(slot + 1)
