"""HEVC (ITU-T H.265, 7.3 and 8.3.1): pictures of the highest temporal layer of a type to which none refers.

Those are the types whose names end in N: none of the same layer refers to them, and above theirs there is no
other. Followed are streams of one layer whose parameters stay the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from amber_ray.media.coded.bits import Bits, Unread
from amber_ray.media.coded.nal import listed, messages, plain, units, unwrapped
from amber_ray.media.coded.picture import Coded, Headers

_LAST_TRAILING, _FIRST_KEY, _LAST_KEY = 9, 16, 21
_NEVER_REFERRED = frozenset({0, 2, 4, 6, 8})
_RESTARTING = frozenset({16, 17, 18, 19, 20})
"""Key pictures from which the order of output begins anew; the others go on with it."""

_IDR = frozenset({19, 20})
_CRA = 21
_LEADING = frozenset({8, 9})
"""Pictures that refer both to the key picture before them and to what was decoded before that."""

_VPS, _SPS, _PPS, _DELIMITER, _FILLER, _SEI_BEFORE, _SEI_AFTER = 32, 33, 34, 35, 38, 39, 40

_PASSING = frozenset({3, 5, 132})
"""Messages about nothing but their own picture: filler, private data, checksums."""


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What is read of a sequence parameter set."""

    highest: int
    planes: bool
    order_bits: int
    reorders: int


@dataclass(frozen=True, slots=True)
class _Pictures:
    """What is read of a picture parameter set: bits in a slice's header that stand there or do not."""

    extra: int
    output: bool


class Hevc(Headers):
    """Reads the packets of one HEVC stream; `extradata` is an `hvcC` record or units after start codes."""

    def __init__(self, extradata: bytes) -> None:
        self._length_size = 0
        self._sequence: _Sequence | None = None
        self._pictures: _Pictures | None = None
        super().__init__(extradata)

    @property
    def reorders(self) -> int:
        """How many pictures at most are decoded before another one and shown after it."""
        return self._sequence.reorders if self._sequence else 0

    def restart(self) -> None:
        """Forget the pictures read so far: reading goes on behind a seek, with a key picture."""
        self._era = 0
        self._order: int | None = None
        self._began = 0

    def _described(self, extradata: bytes) -> None:
        if extradata[:1] != b"\1":
            for unit in units(extradata, 0) if extradata else ():
                self._beside(unit)
            return
        if len(extradata) < 23:
            raise Unread
        self._length_size = (extradata[21] & 3) + 1
        at = 23
        for _ in range(extradata[22]):
            count = int.from_bytes(extradata[at + 1 : at + 3], "big")
            found, at = listed(extradata, at + 3, count)
            for unit in found:
                self._beside(unit)

    def _read(self, data: bytes) -> Coded:
        needed = False
        slices: list[bytes] = []
        for unit in units(data, self._length_size):
            if len(unit) < 3:
                raise Unread
            kind = _kind(unit)
            if kind <= _LAST_TRAILING or _FIRST_KEY <= kind <= _LAST_KEY:
                slices.append(unit)
            else:
                needed = self._beside(unit) or needed
        if not slices or len({unit[:2] for unit in slices}) != 1 or self._sequence is None:
            raise Unread  # No picture, or slices of several.
        kind, layer = _kind(slices[0]), (slices[0][1] & 7) - 1
        free = kind in _NEVER_REFERRED and layer == self._sequence.highest
        placed = self._placed(slices, kind, layer)
        return Coded(placed, needed or not free, self._fresh(kind, placed), kind in _LEADING)

    def _fresh(self, kind: int, placed: tuple[int, int]) -> bool:
        """Whether decoding can begin at a picture, and orders after it be told from their low bits."""
        if kind not in _RESTARTING and kind != _CRA:
            return False
        assert self._sequence is not None
        near = placed[1] - self._began < 1 << (self._sequence.order_bits - 1)
        self._began = placed[1]
        return near or kind != _CRA

    def _beside(self, unit: bytes) -> bool:
        """Take what is no slice: whether decoders must be given it."""
        kind = _kind(unit)
        if kind in (_SEI_BEFORE, _SEI_AFTER):
            return any(message not in _PASSING for message in messages(plain(unit, len(unit))[2:]))
        if kind in (_DELIMITER, _FILLER):
            return False
        bits = Bits(plain(unit, len(unit))[2:])
        if kind == _SPS:
            found = _sequence(bits)
            if self._sequence not in (None, found):
                raise Unread  # Parameters that change on the way.
            self._sequence = found
        elif kind == _PPS:
            bits.count()
            bits.count()
            bits.flag()
            output = bits.flag()
            pictures = _Pictures(bits.take(3), output)
            if self._pictures not in (None, pictures):
                raise Unread
            self._pictures = pictures
        elif kind != _VPS:
            raise Unread
        return True

    def _placed(self, slices: list[bytes], kind: int, layer: int) -> tuple[int, int]:
        """The picture's place in the order of output."""
        sequence, pictures = self._sequence, self._pictures
        if sequence is None or pictures is None:
            raise Unread
        if [unit[2] >> 7 for unit in slices] != [1] + [0] * (len(slices) - 1):
            raise Unread  # Several pictures in one packet, or one without its beginning.
        bits = Bits(plain(slices[0])[2:])
        bits.flag()
        if kind >= _FIRST_KEY:
            bits.flag()
        bits.count()  # The picture parameter set.
        bits.take(pictures.extra)
        bits.count()  # The slice's type.
        if pictures.output and not bits.flag():
            raise Unread  # A picture that is never shown.
        if sequence.planes:
            bits.take(2)
        if kind in _RESTARTING:
            self._era, self._order = self._era + 1, None
        order = 0
        if kind not in _IDR:
            order = unwrapped(bits.take(sequence.order_bits), 1 << sequence.order_bits, self._order)
        if layer == 0 and (kind in (1, 3, 5) or kind >= _FIRST_KEY):
            self._order = order
        return self._era, order


def _kind(unit: bytes) -> int:
    """A unit's type. Raises `Unread` for one of another layer."""
    if len(unit) < 2 or unit[0] & 0x81 or unit[1] & 0xF8 or not unit[1] & 7:
        raise Unread
    return unit[0] >> 1


def _sequence(bits: Bits) -> _Sequence:
    """A sequence parameter set. Raises `Unread` where it tells of what is not followed."""
    bits.take(4)
    highest = bits.take(3)
    bits.flag()
    bits.take(96)
    present = [(bits.flag(), bits.flag()) for _ in range(highest)]
    if highest:
        bits.take(2 * (8 - highest))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.count()
    planes = bits.count() == 3 and bits.flag()
    bits.count()
    bits.count()
    if bits.flag():
        for _ in range(4):
            bits.count()
    bits.count()
    bits.count()
    order_bits = bits.count() + 4
    reorders = 0
    for _ in range(highest + 1 if bits.flag() else 1):
        buffered = bits.count()
        reorders = bits.count()
        bits.count()
        if not reorders <= buffered <= 16:
            raise Unread
    if order_bits > 16:
        raise Unread
    return _Sequence(highest, planes, order_bits, reorders)
