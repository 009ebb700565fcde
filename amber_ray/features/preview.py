"""`thumbnail` and `contact_sheet`: JPEG pictures for people."""

from __future__ import annotations

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Asset
from amber_ray.core.values.annotations import Jpeg
from amber_ray.errors import FeatureError
from amber_ray.features.sheets import check_sheet, jpeg, sheet, tile_size, time_code
from amber_ray.media.decode import pictures_at
from amber_ray.media.looks import Picture, decoding
from amber_ray.media.scale import longer_side

PLACES = (0.1, 0.3, 0.5, 0.7)
"""Parts of the duration at which a thumbnail is looked for; a film's first picture is often black."""


@feature(version="3")
@decoding
def thumbnail(asset: Asset, size: int = 320) -> Jpeg:
    """One telling picture as a JPEG whose longer side has `size` pixels, or its own if those are fewer.

    Of four pictures along the asset the one with the most contrast; a still is itself.
    """
    if not 16 <= size <= 4096:
        raise FeatureError(f"thumbnail.size must be 16 to 4096 pixels, not {size}")
    times = [place * (asset.duration or 0.0) for place in PLACES]
    best = max(pictures_at(asset, times, longer_side(size, enlarge=False)), key=lambda p: float(p.rgb.std()))
    return jpeg(best.rgb)


@feature(version="3")
@decoding
def contact_sheet(asset: Asset, columns: int = 4, rows: int = 4, width: int = 1280) -> Jpeg:
    """Pictures evenly spaced along the asset, each with its time code, as one JPEG `width` pixels wide.

    Each picture stands for an equal stretch of time and is taken from its middle. An asset with fewer
    different pictures has fewer tiles; a still is one tile without a time code. No tile is higher than twice
    its width: taller pictures are narrower.
    """
    check_sheet("contact_sheet", columns, width)
    if not 1 <= rows <= 100:
        raise FeatureError(f"contact_sheet.rows must be 1 to 100, not {rows}")
    count = columns * rows if asset.duration else 1
    columns = min(columns, count)
    times = [(i + 0.5) * (asset.duration or 0.0) / count for i in range(count)]
    tiles: list[Picture] = []
    for picture in pictures_at(asset, times, tile_size(columns, width)):
        if not tiles or picture.time > tiles[-1].time:
            tiles.append(picture)
    return sheet(
        [tile.rgb for tile in tiles],
        [time_code(tile.time, asset.duration) for tile in tiles] if asset.duration else None,
        columns,
        width,
    )
