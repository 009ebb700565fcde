"""Whether the frames that come out of a decoder can be relied on: the state of one run from a key frame.

Pure bookkeeping over frame times. What is forgiven: an undecodable beginning of a recording, and anything
before the wanted span whose consequences end before it. Must not know: FFmpeg.
"""

from __future__ import annotations

from fractions import Fraction

from amber_ray.errors import MediaError

LEAD = Fraction(5)
"""Seconds of undecodable beginning that are forgiven: a recording may start in mid-picture."""


class Run:
    """Follows one run of decoding for the span [start, end); times in seconds.

    `beginning`: the run starts at the file's beginning, where a first frame need not be a key frame.
    `tail` is where the last reliable frame ends, None before the first.
    """

    def __init__(self, name: str, start: Fraction, end: Fraction | None, *, beginning: bool) -> None:
        self._name = name
        self._start = start
        self._end = end
        self._beginning = beginning
        self._whole = False
        self._hit: tuple[Fraction, str | None] | None = None
        self.tail: Fraction | None = None

    def hit(self, at: Fraction | None, why: str | None) -> None:
        """Something at `at` does not decode (None: at an unknown time). Raises `MediaError` if it matters."""
        where = at if at is not None else self.tail if self.tail is not None else self._start
        if self._end is not None and where >= self._end:
            return
        if self.tail is None:
            # No frame yet: behind a seek this is what comes before the key frame.
            if self._beginning and self._hit is None:
                self._hit = where, why
            return
        if self._whole:
            self._whole, self._hit = False, (where, why)
        if where >= self._start:
            raise self._error()

    def frame(self, at: Fraction, ends: Fraction, key: bool) -> bool:
        """A frame at `at`, shown until `ends`: whether it is reliable; `MediaError` if it has to be."""
        if not self._whole:
            first = self.tail is None
            if not (key or (first and self._beginning)):
                if self._hit is not None and at >= self._start:
                    raise self._error()
                return False
            if self._hit is not None and at > self._start:
                # Between the damage and this frame some of the span is lost.
                forgiven = first and at - max(self._hit[0], self._start) <= LEAD
                if not forgiven:
                    raise self._error()
            self._whole, self._hit = True, None
        self.tail = max(at, ends)
        return True

    def _error(self) -> MediaError:
        at, why = self._hit or (self._start, None)
        return MediaError(
            f"{self._name!r} is damaged at about {float(at):.2f} s" + (f": {why}" if why else "")
        )
