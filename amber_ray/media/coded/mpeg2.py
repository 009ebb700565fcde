"""MPEG-1 and MPEG-2 (ISO/IEC 13818-2, 6.2 and 6.1.1.11): no picture refers to a B picture.

Pictures come out in a fixed order: B pictures as they are decoded, the others when the next one of theirs is.
Followed are whole pictures, not fields apart.
"""

from __future__ import annotations

from amber_ray.media.coded.bits import Unread
from amber_ray.media.coded.nal import units
from amber_ray.media.coded.picture import Coded, Headers

_PICTURE, _LAST_SLICE, _WORDS, _SEQUENCE, _EXTENSION, _GROUP = 0, 0xAF, 0xB2, 0xB3, 0xB5, 0xB8
_I, _P, _B, _OF_PICTURE, _WHOLE = 1, 2, 3, 8, 3
_BEHIND = 1 << 30


class Mpeg2(Headers):
    """Reads the packets of one MPEG-1 or MPEG-2 stream."""

    reorders = 1
    """How many pictures at most are decoded before another one and shown after it."""

    def __init__(self, extradata: bytes) -> None:
        self._size: bytes | None = None
        super().__init__(extradata)

    def restart(self) -> None:
        """Forget the pictures read so far: reading goes on behind a seek, with a key picture."""
        self._others = 0
        self._between = 0
        self._began = False

    def _read(self, data: bytes) -> Coded:
        needed = False
        kinds: list[int] = []
        for unit in units(data, 0):
            code = unit[0]
            if code == _PICTURE:
                if len(unit) < 3:
                    raise Unread
                kinds.append(unit[2] >> 3 & 7)
            elif code == _SEQUENCE:
                self._sequence(unit)
                needed = True
            elif code == _EXTENSION:
                needed = not self._of_picture(unit) or needed
            elif code == _GROUP:
                needed = True
            elif code > _LAST_SLICE and code != _WORDS:
                raise Unread
        if len(kinds) != 1 or kinds[0] not in (_I, _P, _B):
            raise Unread  # No picture, or several, or one of MPEG-1's coarse ones.
        if kinds[0] == _B:
            self._between += 1
            return Coded((self._others, self._between), needed, leading=self._began)
        self._others, self._between, self._began = self._others + 1, 0, kinds[0] == _I
        return Coded((self._others, _BEHIND), True, fresh=self._began)

    def _sequence(self, unit: bytes) -> None:
        if self._size not in (None, unit[1:4]):
            raise Unread  # A size that changes on the way.
        self._size = unit[1:4]

    def _of_picture(self, unit: bytes) -> bool:
        """Whether an extension is about nothing but its picture. Raises `Unread` for a field."""
        if len(unit) < 4:
            raise Unread
        if unit[1] >> 4 != _OF_PICTURE:
            return False
        if unit[3] & 3 != _WHOLE:
            raise Unread
        return True
