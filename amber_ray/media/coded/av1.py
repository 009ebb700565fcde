"""AV1 (AV1 Bitstream & Decoding Process Specification, 5.5 and 5.9): frames that refresh no slot.

All that a decoder keeps of a frame it keeps in slots: pixels, probabilities, motion, segments, filters. A
frame that is shown and refreshes none leaves no trace. Followed are streams of one layer without a model of
the decoder's time; frames that are only shown again are always given to the decoder, which has no work with
them.
"""

from __future__ import annotations

from dataclasses import dataclass

from amber_ray.media.coded.bits import Bits, Unread
from amber_ray.media.coded.picture import Coded, Headers

_SEQUENCE, _DELIMITER, _HEADER, _TILES, _METADATA, _FRAME, _AGAIN, _PADDING = 1, 2, 3, 4, 5, 6, 7, 15
_KEY, _INTRA_ONLY, _SWITCH = 0, 2, 3
_TOLD_BY_FRAMES = 2
"""A tool of which each frame says whether it is used."""

_HEAD = 64
"""Bytes of a frame that are looked at."""


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What is read of a sequence header."""

    screen: int
    whole_motion: int
    order_bits: int


class Av1(Headers):
    """Reads the packets, temporal units, of one AV1 stream; `extradata` is an `av1C` record or empty."""

    reorders = 0
    """How many pictures at most are decoded before another one and shown after it."""

    def __init__(self, extradata: bytes) -> None:
        self._sequence: _Sequence | None = None
        super().__init__(extradata)

    def restart(self) -> None:
        """Forget the pictures read so far: reading goes on behind a seek, with a key picture."""
        self._count = 0

    def _described(self, extradata: bytes) -> None:
        if extradata[:1] == b"\x81":
            for kind, unit, _ in _units(extradata[4:]):
                self._beside(kind, unit)

    def _read(self, data: bytes) -> Coded:
        needed = fresh = kept = False
        shown = 0
        last: int | None = None
        for kind, unit, at in _units(data):
            if kind in (_HEADER, _FRAME):
                shows, kept, key = self._frame(Bits(unit[:_HEAD]))
                shown, fresh = shown + shows, fresh or key
                last = at if kind == _FRAME and shows and not kept else None
                needed = needed or kept
            else:
                needed, last = self._beside(kind, unit) or needed, None
        if shown != 1:
            raise Unread
        self._count += 1
        # Frames that are shown later travel before the one that is shown now.
        rest = data[:last] if needed and last else None
        return Coded((0, self._count), needed, fresh, rest=rest)

    def _beside(self, kind: int, unit: bytes) -> bool:
        """Take what is no frame: whether decoders must be given it."""
        if kind == _SEQUENCE:
            found = _sequence(Bits(unit))
            if self._sequence not in (None, found):
                raise Unread  # Parameters that change on the way.
            self._sequence = found
            return True
        if kind not in (_DELIMITER, _TILES, _METADATA, _AGAIN, _PADDING):
            raise Unread
        return kind == _METADATA

    def _frame(self, bits: Bits) -> tuple[bool, bool, bool]:
        """Whether a frame is shown, whether a decoder needs it later, and whether it begins anew with it."""
        sequence = self._sequence
        if sequence is None:
            raise Unread
        if bits.flag():
            return True, True, False  # One that was decoded before is shown.
        kind = bits.take(2)
        shows = bits.flag()
        if not shows:
            return False, True, False
        if kind == _KEY:
            return True, True, True
        resilient = kind == _SWITCH or bits.flag()
        bits.flag()
        screen = bits.take(1) if sequence.screen == _TOLD_BY_FRAMES else sequence.screen
        if screen and sequence.whole_motion == _TOLD_BY_FRAMES:
            bits.flag()
        if kind != _SWITCH:
            bits.flag()
        bits.take(sequence.order_bits)
        if not (resilient or kind == _INTRA_ONLY):
            bits.take(3)
        return True, kind == _SWITCH or bits.take(8) != 0, False


def _units(data: bytes) -> list[tuple[int, bytes, int]]:
    """Type, body and place of a packet's units (OBUs). Raises `Unread` for other layers, or a torn one."""
    found, at, end = [], 0, len(data)
    while at < end:
        head, began = data[at], at
        if head & 0x85:
            raise Unread  # A bit that is never set, or a unit of one layer of several.
        at += 1
        size = end - at
        if head & 2:
            size, at = _size(data, at)
        if at + size > end:
            raise Unread
        found.append((head >> 3 & 15, data[at : at + size], began))
        at += size
    return found


def _size(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first; and where it ends."""
    value = 0
    for place in range(8):
        if at + place >= len(data):
            break
        value |= (data[at + place] & 0x7F) << 7 * place
        if not data[at + place] & 0x80:
            return value, at + place + 1
    raise Unread


def _sequence(bits: Bits) -> _Sequence:
    """A sequence header. Raises `Unread` where it tells of what is not followed."""
    bits.take(3)
    if bits.take(2):
        raise Unread  # A still.
    if bits.flag():
        bits.take(64)
        if bits.flag():
            bits.count()
        if bits.flag():
            raise Unread  # A model of the decoder.
    delayed = bits.flag()
    if bits.take(5):
        raise Unread  # Several operating points.
    bits.take(12)
    if bits.take(5) > 7:
        bits.flag()
    if delayed and bits.flag():
        bits.take(4)
    wide, high = bits.take(4) + 1, bits.take(4) + 1
    bits.take(wide + high)
    if bits.flag():
        raise Unread  # Frames have numbers, of which none may be missing.
    bits.take(7)
    ordered = bits.flag()
    if ordered:
        bits.take(2)
    screen = _TOLD_BY_FRAMES if bits.flag() else bits.take(1)
    whole_motion = _TOLD_BY_FRAMES
    if screen and not bits.flag():
        whole_motion = bits.take(1)
    return _Sequence(screen, whole_motion, bits.take(3) + 1 if ordered else 0)
