"""How large a picture comes out, and turning a decoded frame into upright RGB of that size.

Must not know: where frames come from.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Size = Callable[[int, int], tuple[int, int]]
"""From the upright picture's width and height to those wanted, in pixels."""

_AREA, _BICUBIC = 0x20, 0x4
# swscale's full chroma interpolation, accurate rounding and bit-exactness. Without the first, scaled pictures
# are two levels too dark (white is 253); with the others a value does not depend on the CPU's vector units.
_EXACT = 0x2000 | 0x40000 | 0x80000
_UNSPECIFIED, _BT709, _BT601 = 2, 1, 5
_FULL_RANGE = 2


def native() -> Size:
    """Leave the size as it is."""
    return lambda w, h: (w, h)


def shorter_side(pixels: int) -> Size:
    """Scale so that the shorter side has exactly `pixels`, the shape kept; 0 leaves the size as it is."""
    return native() if pixels == 0 else lambda w, h: _scaled(w, h, Fraction(pixels, min(w, h)))


def longer_side(pixels: int, enlarge: bool = True) -> Size:
    """Scale so that the longer side has `pixels`, the shape kept; without `enlarge`, at most `pixels`."""

    def size(w: int, h: int) -> tuple[int, int]:
        return (w, h) if not enlarge and max(w, h) <= pixels else _scaled(w, h, Fraction(pixels, max(w, h)))

    return size


def exactly(width: int, height: int) -> Size:
    """Scale to this size whatever the shape was."""
    return lambda w, h: (width, height)


Scaler = Literal["area", "bicubic"]
"""How pictures are made smaller: by averaging, exact and a little soft, or as FFmpeg does by itself."""


def upright(frame: VideoFrame, aspect: Fraction, size: Size, scaler: Scaler = "area") -> np.ndarray:
    """A frame as uint8[h, w, 3] full-range RGB: turned as its display matrix says, its pixels made square.

    `aspect` is the shape of the stored pixels (width / height). Scaled down by `scaler`, up by
    bicubic interpolation. The transfer curve stays the film's own (no HDR tone mapping).
    """
    turns = round(frame.rotation / 90) % 4
    w, h = frame.width, frame.height
    if aspect > 1:
        w = round(w * aspect)
    elif 0 < aspect < 1:
        h = round(h / aspect)
    w, h = size(h, w)[::-1] if turns % 2 else size(w, h)
    space = None
    if frame.colorspace == _UNSPECIFIED and not frame.format.is_rgb:
        # Untagged pictures are read as players do: high definition is BT.709, the rest BT.601.
        space = _BT709 if frame.height >= 720 else _BT601
    kind = _AREA if scaler == "area" and w <= frame.width and h <= frame.height else _BICUBIC
    picture = frame.reformat(
        w,
        h,
        "rgb24",
        src_colorspace=space,
        dst_color_range=_FULL_RANGE,
        interpolation=kind | _EXACT,
        threads=1,
    ).to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, turns))


def _scaled(w: int, h: int, by: Fraction) -> tuple[int, int]:
    return max(1, round(w * by)), max(1, round(h * by))
