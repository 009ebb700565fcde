"""How large a picture comes out, and turning a decoded frame into upright RGB of that size.

Must not know: where frames come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

from amber_ray.core.model.units import Stream
from amber_ray.media import nvdec

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

Size = Callable[[int, int], tuple[int, int]]
"""From the upright picture's width and height to those wanted, in pixels.

Those made here are equal if they ask for the same.
"""

_AREA, _BICUBIC = 0x20, 0x4
# swscale's full chroma interpolation, accurate rounding and bit-exactness. Without the first, scaled pictures
# are two levels too dark (white is 253); with the others a value does not depend on the CPU's vector units.
_EXACT = 0x2000 | 0x40000 | 0x80000
_UNSPECIFIED, _BT709, _BT601 = 2, 1, 5
_FULL_RANGE = 2


@dataclass(frozen=True, slots=True)
class _Sized:
    """Of the picture's own shape: `side`, the longer or the shorter, has `pixels` (0: the size stays)."""

    side: Literal["shorter", "longer"]
    pixels: int
    enlarge: bool = True

    def __call__(self, w: int, h: int) -> tuple[int, int]:
        own = min(w, h) if self.side == "shorter" else max(w, h)
        if not self.pixels or (own <= self.pixels and not self.enlarge):
            return w, h
        by = Fraction(self.pixels, own)
        return max(1, round(w * by)), max(1, round(h * by))


@dataclass(frozen=True, slots=True)
class _Exactly:
    width: int
    height: int

    def __call__(self, w: int, h: int) -> tuple[int, int]:
        return self.width, self.height


def native() -> Size:
    """Leave the size as it is."""
    return shorter_side(0)


def shorter_side(pixels: int) -> Size:
    """Scale so that the shorter side has exactly `pixels`, the shape kept; 0 leaves the size as it is."""
    return _Sized("shorter", pixels)


def longer_side(pixels: int, enlarge: bool = True) -> Size:
    """Scale so that the longer side has `pixels`, the shape kept; without `enlarge`, at most `pixels`."""
    return _Sized("longer", pixels, enlarge)


def exactly(width: int, height: int) -> Size:
    """Scale to this size whatever the shape was."""
    return _Exactly(width, height)


Scaler = Literal["area", "bicubic"]
"""How pictures are made smaller: by averaging, exact and a little soft, or as FFmpeg does by itself."""


class Upright:
    """Turns one stream's frames into upright RGB; what FFmpeg prepares for a size is kept for the next frame.

    `look` tells how the film is shown: cropped, its pixels made square, turned and mirrored. For one thread.
    """

    def __init__(self, look: Stream) -> None:
        self._look = look
        self._kept: dict[tuple[int, int, int, str], VideoReformatter] = {}

    def rgb(self, frame: VideoFrame, size: Size, scaler: Scaler = "area") -> np.ndarray:
        """A frame as uint8[h, w, 3] full-range RGB, as a viewer sees it, of the wanted size.

        Transparency is laid over white, as in stills. A frame of another size than its film's is stretched to
        that. Scaled down by `scaler`, up by bicubic interpolation. The transfer curve stays the film's own
        (no HDR tone mapping).
        """
        look, frame = self._look, nvdec.planar(frame)
        shown = look.displayed or (frame.width, frame.height)
        turns = (look.rotation or 0) // 90
        w, h = size(*shown)[::-1] if turns % 2 else size(*shown)
        if look.crop or _transparent(frame):
            frame = self._opaque(frame)
        kind = _AREA if scaler == "area" and w <= frame.width and h <= frame.height else _BICUBIC
        picture = np.rot90(self._converted(frame, w, h, kind, "rgb24"), turns)
        return np.ascontiguousarray(picture[:, ::-1] if look.mirrored else picture)

    def _converted(self, frame: VideoFrame, w: int, h: int, interpolation: int, form: str) -> np.ndarray:
        from av.video.reformatter import VideoReformatter

        space = None
        if frame.colorspace == _UNSPECIFIED and not frame.format.is_rgb:
            # Untagged pictures are read as players do: high definition is BT.709, the rest BT.601.
            space = _BT709 if frame.height >= 720 else _BT601
        wanted = w, h, interpolation, form
        if wanted not in self._kept:
            self._kept[wanted] = VideoReformatter()
        return (
            self._kept[wanted]
            .reformat(
                frame,
                w,
                h,
                form,
                src_colorspace=space,
                dst_color_range=_FULL_RANGE,
                interpolation=interpolation | _EXACT,
                threads=1,
            )
            .to_ndarray()
        )

    def _opaque(self, frame: VideoFrame) -> VideoFrame:
        """A frame without transparency and without what the container crops, in RGB."""
        import av

        look, transparent = self._look, _transparent(frame)
        form = "rgba" if transparent else "rgb24"
        picture = self._converted(frame, frame.width, frame.height, _BICUBIC, form)
        if transparent:
            alpha = picture[..., 3:].astype(np.uint16)
            if look.codec == "rawvideo" and not alpha.any():
                alpha[:] = 255  # The fourth byte of raw pictures is often filler.
            picture = ((picture[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
        if look.crop and (frame.width, frame.height) == (look.width, look.height):
            left, top, right, bottom = look.crop
            picture = picture[top : frame.height - bottom, left : frame.width - right]
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")


def _transparent(frame: VideoFrame) -> bool:
    """Whether the pixels have an alpha of their own; entries of palettes are opaque in films."""
    return not frame.format.has_palette and any(c.is_alpha for c in frame.format.components)
