"""Pictures for people: tiles with labels on one JPEG. Drawing only.

Must not know: assets, features.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from amber_ray.errors import FeatureError

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

GAP, BACKGROUND, QUALITY = 8, (24, 24, 27), 88


def check_sheet(feature: str, columns: int, width: int) -> None:
    """Raise `FeatureError` for a sheet too small or too large to look at; tiles have 64 pixels at least."""
    if not 1 <= columns <= 20:
        raise FeatureError(f"{feature}.columns must be 1 to 20, not {columns}")
    if not 64 * columns <= width <= 8192:
        raise FeatureError(f"{feature}.width must be {64 * columns} to 8192 pixels, not {width}")


def tile_size(columns: int, width: int) -> Callable[[int, int], tuple[int, int]]:
    """The size of a picture that fills a tile's width, unless it is very tall: from its own size."""
    most = (width - GAP * (columns + 1)) // columns

    def size(w: int, h: int) -> tuple[int, int]:
        scale = min(most / w, 2 * most / h)
        return max(1, round(w * scale)), max(1, round(h * scale))

    return size


def sheet(tiles: list[np.ndarray], labels: list[str] | None, columns: int, width: int) -> bytes:
    """Pictures uint8[h, w, 3] of one size, in rows, each with its label, as a JPEG `width` pixels wide."""
    from PIL import Image, ImageDraw

    tile_width = (width - GAP * (columns + 1)) // columns
    tile_height = max(tile.shape[0] for tile in tiles)
    height = GAP + math.ceil(len(tiles) / columns) * (tile_height + GAP)
    whole = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(whole, "RGBA")
    for i, tile in enumerate(tiles):
        x = GAP + (i % columns) * (tile_width + GAP)
        y = GAP + (i // columns) * (tile_height + GAP)
        whole.paste(Image.fromarray(tile), (x, y))
        if labels is not None:
            label(draw, x, y + tile.shape[0], tile_width, labels[i])
    return jpeg(np.asarray(whole))


def time_code(seconds: float, duration: float) -> str:
    """`1:02:03` where the asset lasts an hour or more, else `2:03.4`; cut, not rounded: it is never late."""
    tenths = math.floor(seconds * 10 + 1e-6)
    hours, minutes, rest = tenths // 36_000, tenths // 600 % 60, tenths % 600
    if duration >= 3600:
        return f"{hours}:{minutes:02}:{rest // 10:02}"
    return f"{minutes}:{rest // 10:02}.{rest % 10}"


def label(draw: ImageDraw, left: int, bottom: int, width: int, text: str) -> None:
    """White on a dark veil in the lower left corner, so that it reads on any picture."""
    from PIL import ImageFont

    font = ImageFont.load_default(size=max(11, min(28, width // 16)))
    pad = max(3, width // 80)
    box = draw.textbbox((0, 0), text, font=font)
    across, down = box[2] - box[0] + 2 * pad, box[3] - box[1] + 2 * pad
    draw.rectangle((left, bottom - down, left + across, bottom - 1), fill=(0, 0, 0, 170))
    draw.text((left + pad - box[0], bottom - down + pad - box[1]), text, font=font, fill=(255, 255, 255, 255))


def jpeg(rgb: np.ndarray) -> bytes:
    """A picture uint8[h, w, 3] as the bytes of a JPEG file."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()
