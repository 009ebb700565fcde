"""`thumbnail` and `contact_sheet`: JPEG pictures for people."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np

from amber_ray.core.feature import feature
from amber_ray.core.types import Jpeg
from amber_ray.core.units import Asset
from amber_ray.errors import FeatureError
from amber_ray.media.decode import Picture, pictures_at
from amber_ray.media.scale import longer_side

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

PLACES = (0.1, 0.3, 0.5, 0.7)
"""Parts of the duration at which a thumbnail is looked for; a film's first picture is often black."""

GAP, BACKGROUND, QUALITY = 8, (24, 24, 27), 88


@feature(version="1")
def thumbnail(asset: Asset, size: int = 320) -> Jpeg:
    """One telling picture as a JPEG whose longer side has `size` pixels, or its own if those are fewer.

    Of four pictures along the asset the one with the most contrast; a still is itself.
    """
    if not 16 <= size <= 4096:
        raise FeatureError(f"thumbnail.size must be 16 to 4096 pixels, not {size}")
    times = [place * (asset.duration or 0.0) for place in PLACES]
    best = max(pictures_at(asset, times, longer_side(size, enlarge=False)), key=lambda p: float(p.rgb.std()))
    return jpeg(best.rgb)


@feature(version="1")
def contact_sheet(asset: Asset, columns: int = 4, rows: int = 4, width: int = 1280) -> Jpeg:
    """Pictures evenly spaced along the asset, each with its time code, as one JPEG `width` pixels wide.

    Each picture stands for an equal stretch of time and is taken from its middle. An asset with fewer
    different pictures has fewer tiles; a still is one tile without a time code. No tile is higher than twice
    its width: taller pictures are narrower.
    """
    if not (1 <= columns <= 20 and 1 <= rows <= 100):
        raise FeatureError(f"contact_sheet takes 1 to 20 columns and 1 to 100 rows, not {columns} and {rows}")
    if not 64 * columns <= width <= 8192:
        raise FeatureError(f"contact_sheet.width must be {64 * columns} to 8192 pixels, not {width}")
    from PIL import Image, ImageDraw

    count = columns * rows if asset.duration else 1
    columns = min(columns, count)
    tile_width = (width - GAP * (columns + 1)) // columns
    times = [(i + 0.5) * (asset.duration or 0.0) / count for i in range(count)]
    tiles: list[Picture] = []
    for picture in pictures_at(asset, times, lambda w, h: _tile(w, h, tile_width)):
        if not tiles or picture.time > tiles[-1].time:
            tiles.append(picture)
    tile_height = max(tile.rgb.shape[0] for tile in tiles)
    height = GAP + math.ceil(len(tiles) / columns) * (tile_height + GAP)
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet, "RGBA")
    for i, tile in enumerate(tiles):
        x = GAP + (i % columns) * (tile_width + GAP)
        y = GAP + (i // columns) * (tile_height + GAP)
        sheet.paste(Image.fromarray(tile.rgb), (x, y))
        if asset.duration:
            label(draw, x, y + tile.rgb.shape[0], tile_width, time_code(tile.time, asset.duration))
    return jpeg(np.asarray(sheet))


def _tile(width: int, height: int, most: int) -> tuple[int, int]:
    """The size of a picture that is to fill a tile's width, unless it is very tall."""
    scale = min(most / width, 2 * most / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


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
