"""H.264 (ITU-T H.264, 7.3 and 8.2.1): pictures to which none refers have `nal_ref_idc` 0.

Followed are progressive streams of one layer whose parameters stay the same and say by how much pictures are
reordered; without that FFmpeg guesses along the way, and what it guesses depends on what it is given.
"""

from __future__ import annotations

from dataclasses import dataclass

from amber_ray.media.coded.bits import Bits, Unread
from amber_ray.media.coded.nal import listed, messages, plain, units, unwrapped
from amber_ray.media.coded.picture import Coded, Headers

_SLICE, _IDR, _SEI, _SPS, _PPS, _DELIMITER, _FILLER = 1, 5, 6, 7, 8, 9, 12

_TIMING = 1
_PASSING = frozenset({0, _TIMING, 3, 4, 5})
"""Messages about nothing but their own picture: buffering, timing, filler, registered and private data."""

_HIGH = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
"""Profiles whose parameters tell the chroma format."""


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What is read of a sequence parameter set; `order_bits` is None where nothing is reordered."""

    planes: bool
    number_bits: int
    order_bits: int | None
    reorders: int
    structured: bool


class H264(Headers):
    """Reads the packets of one H.264 stream; `extradata` is an `avcC` record or units after start codes."""

    def __init__(self, extradata: bytes) -> None:
        self._length_size = 0
        self._sequence: _Sequence | None = None
        super().__init__(extradata)

    @property
    def reorders(self) -> int:
        """How many pictures at most are decoded before another one and shown after it."""
        return self._sequence.reorders if self._sequence else 0

    def restart(self) -> None:
        """Forget the pictures read so far: reading goes on behind a seek, with a key picture."""
        self._era = 0
        self._count = 0
        self._number: int | None = None
        self._order: int | None = None

    def _described(self, extradata: bytes) -> None:
        if extradata[:1] != b"\1":
            for unit in units(extradata, 0) if extradata else ():
                self._parameters(unit)
            return
        if len(extradata) < 7:
            raise Unread
        self._length_size = (extradata[4] & 3) + 1
        at = 5
        for mask in (0x1F, 0xFF):
            count, at = extradata[at] & mask if at < len(extradata) else 0, at + 1
            found, at = listed(extradata, at, count)
            for unit in found:
                self._parameters(unit)

    def _read(self, data: bytes) -> Coded:
        needed = False
        slices: list[bytes] = []
        for unit in units(data, self._length_size):
            kind = unit[0] & 0x9F  # With the bit that is never set.
            if kind in (_SLICE, _IDR):
                slices.append(unit)
            elif kind in (_SPS, _PPS):
                self._parameters(unit)
                needed = True
            elif kind == _SEI:
                needed = needed or not self._passing(unit)
            elif kind not in (_DELIMITER, _FILLER):
                raise Unread
        if not slices or len({unit[0] for unit in slices}) != 1:
            raise Unread  # No picture, or slices of which some are referred to.
        reference = slices[0][0] & 0x60 != 0
        fresh = slices[0][0] & 0x1F == _IDR
        return Coded(self._placed(slices, reference), needed or reference, fresh)

    def _passing(self, unit: bytes) -> bool:
        """Whether messages tell of nothing but the picture that they come with."""
        structured = self._sequence is None or self._sequence.structured
        return all(
            kind in _PASSING and not (kind == _TIMING and structured)
            for kind in messages(plain(unit, len(unit))[1:])
        )

    def _placed(self, slices: list[bytes], reference: bool) -> tuple[int, int]:
        """The picture's place in the order of output. Raises `Unread` where one is missing before it."""
        sequence = self._sequence
        if sequence is None:
            raise Unread
        heads = [Bits(plain(unit)[1:]) for unit in slices]
        firsts = [bits.count() for bits in heads]
        if firsts[0] != 0 or 0 in firsts[1:]:
            raise Unread  # Several pictures in one packet, or a picture without its beginning.
        bits = heads[0]
        bits.count()  # The slice's type.
        bits.count()  # The picture parameter set.
        if sequence.planes:
            bits.take(2)
        number = bits.take(sequence.number_bits)
        idr = slices[0][0] & 0x1F == _IDR
        if idr:
            bits.count()  # The number of the IDR picture.
            self._era, self._number, self._order = self._era + 1, None, 0
            if number or not reference:
                raise Unread
        size = 1 << sequence.number_bits
        if self._number is not None and number != (self._number + 1) % size:
            raise Unread  # Pictures are missing, and decoders make some up, or their numbers were reset.
        self._count += 1
        order = self._count
        if sequence.order_bits is not None:
            order = unwrapped(bits.take(sequence.order_bits), 1 << sequence.order_bits, self._order)
        if reference:
            self._number, self._order = number, order
        return self._era, order

    def _parameters(self, unit: bytes) -> None:
        kind = unit[0] & 0x1F
        if kind == _SPS:
            found = _sequence(Bits(plain(unit, len(unit))[1:]))
            if self._sequence is not None and found != self._sequence:
                raise Unread  # Parameters that change on the way.
            self._sequence = found
        elif kind == _PPS:
            bits = Bits(plain(unit)[1:])
            bits.count()
            bits.count()
            bits.flag()
            if bits.flag():
                raise Unread  # The order of fields is told apart.
        else:
            raise Unread


def _sequence(bits: Bits) -> _Sequence:
    """A sequence parameter set. Raises `Unread` where it tells of what is not followed."""
    profile = bits.take(8)
    bits.take(16)
    bits.count()
    planes = False
    if profile in _HIGH:
        if bits.count() == 3:
            planes = bits.flag()
        bits.count()
        bits.count()
        bits.flag()
        if bits.flag():
            raise Unread  # Scaling matrices: allowed, rare, and long to skip.
    number_bits = bits.count() + 4
    kind = bits.count()
    order_bits = bits.count() + 4 if kind == 0 else None
    if kind not in (0, 2) or number_bits > 16 or (order_bits or 0) > 16:
        raise Unread
    bits.count()
    bits.flag()
    bits.count()
    bits.count()
    if not bits.flag():
        raise Unread  # Fields.
    bits.flag()
    if bits.flag():
        for _ in range(4):
            bits.count()
    structured, reorders = _usability(bits) if bits.flag() else (False, None)
    if kind == 2:
        reorders = 0
    if reorders is None or reorders > 16:
        raise Unread
    return _Sequence(planes, number_bits, order_bits, reorders, structured)


def _usability(bits: Bits) -> tuple[bool, int | None]:
    """Whether timing messages tell a picture's structure, and by how much pictures are reordered, if told."""
    if bits.flag() and bits.take(8) == 255:
        bits.take(32)
    if bits.flag():
        bits.flag()
    if bits.flag():
        bits.take(4)
        if bits.flag():
            bits.take(24)
    if bits.flag():
        bits.count()
        bits.count()
    if bits.flag():
        bits.take(65)
    buffered = [_buffering(bits) for _ in range(2) if bits.flag()]
    if buffered:
        bits.flag()
    structured = bits.flag()
    if not bits.flag():
        return structured, None
    bits.flag()
    for _ in range(4):
        bits.count()
    return structured, bits.count()


def _buffering(bits: Bits) -> bool:
    """Skip the parameters of a hypothetical reference decoder."""
    count = bits.count() + 1
    if count > 32:
        raise Unread
    bits.take(8)
    for _ in range(count):
        bits.count()
        bits.count()
        bits.flag()
    bits.take(20)
    return True
