"""Which pictures of a film are wanted, told by when they and their successors are.

Must not know: how pictures are read.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

Wanted = Callable[[Fraction, Fraction | None], bool]
"""Whether the picture at a time is wanted, given the time of the next one (None: it is the film's last).

Called once for each picture, in the order in which they are shown.
"""


@dataclass(frozen=True, slots=True)
class Slots:
    """Time cut into slots of 1 / `fps` seconds; `rounding` is half a tick of the film's clock.

    0.033 counted in milliseconds stands for 1/30 s. A coarser clock than that is the film's own rate, and
    exact.
    """

    fps: Fraction
    rounding: Fraction

    def of(self, at: Fraction) -> int:
        """The number of the slot in which a picture is."""
        return math.floor((at + self.rounding) * self.fps)

    def begin(self, slot: int) -> Fraction:
        """The earliest time that `of` counts into `slot`."""
        return Fraction(slot) / self.fps - self.rounding


class FirstOfSlots:
    """The first picture of each slot after `taken`, and with `pairs` the film's next one as well.

    The first one at or after `end` is wanted too: it shows that all before it have come. Nothing is after it.
    `paired` is when a picture was that was taken before, and whose next one is still wanted.
    """

    def __init__(
        self, slots: Slots, taken: int, end: Fraction | None, *, pairs: bool, paired: Fraction | None = None
    ) -> None:
        self.over = False
        """Whether it wants no more pictures."""
        self._slots = slots
        self._taken = taken
        self._end = end
        self._pairs = pairs
        self._paired = paired

    @property
    def begins(self) -> Fraction:
        """The time before which it wants none."""
        following = self._slots.begin(self._taken + 1)
        return following if self._paired is None else min(self._paired, following)

    def __call__(self, at: Fraction, following: Fraction | None) -> bool:
        """Whether the next picture in the order of display is wanted."""
        if self.over:
            return False
        wanted = self._paired is not None and at > self._paired
        if wanted:
            self._paired = None
        if self._end is not None and at >= self._end:
            self.over = wanted = True
        elif (slot := self._slots.of(at)) > self._taken:
            self._taken, wanted = slot, True
            self._paired = at if self._pairs else None
        return wanted


class OnScreen:
    """The pictures on screen at ascending `moments`: the last one not after each, else the film's first.

    The first one after all moments is wanted too: it shows that the one before it stays until then.
    """

    def __init__(self, moments: Sequence[Fraction]) -> None:
        self.over = False
        """Whether it wants no more pictures."""
        self._moments = moments
        self._first = True

    @property
    def begins(self) -> Fraction:
        """The first moment: of the pictures before it, it wants the one that is on screen then."""
        return self._moments[0]

    def __call__(self, at: Fraction, following: Fraction | None) -> bool:
        """Whether the next picture in the order of display is wanted."""
        earliest = self._first and bool(self._moments) and self._moments[0] < at
        self._first = False
        if not self.over and self._moments and self._moments[-1] < at:
            self.over = True
            return True
        i = bisect.bisect_left(self._moments, at)
        return earliest or (i < len(self._moments) and (following is None or self._moments[i] < following))


class AnyOf:
    """What at least one of several is after; those that have not begun, or are over, are not asked.

    One is asked from the picture on screen when it begins.

    Where none is after anything, all is wanted until what showed that the last one is over has been `seen`:
    a decoder gives that picture out when it is given others behind it.
    """

    def __init__(self, choices: Sequence[FirstOfSlots | OnScreen], seen: Callable[[], Fraction]) -> None:
        self._coming = sorted(choices, key=lambda choice: choice.begins, reverse=True)
        self._asked: list[FirstOfSlots | OnScreen] = []
        self._seen = seen
        self._over: Fraction | None = None

    def __call__(self, at: Fraction, following: Fraction | None) -> bool:
        """Whether the next picture in the order of display is wanted."""
        while self._coming and (following is None or self._coming[-1].begins < following):
            self._asked.append(self._coming.pop())
        if not self._asked:
            return self._over is not None and self._seen() < self._over
        told = [wanted(at, following) for wanted in self._asked]  # Each is to know of every picture.
        if any(choice.over for choice in self._asked):
            self._asked = [choice for choice in self._asked if not choice.over]
            self._over = at
        return any(told)
