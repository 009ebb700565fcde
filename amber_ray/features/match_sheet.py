"""`match_sheet`: match cuts as a picture for people, the only feature of a set that looks at media."""

from __future__ import annotations

import numpy as np

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Collection
from amber_ray.core.values.annotations import Jpeg
from amber_ray.errors import FeatureError
from amber_ray.features.match_cuts import MatchCut, ShotOf
from amber_ray.features.sheets import BACKGROUND, GAP, jpeg, label, time_code
from amber_ray.media.decode import pictures_at

BEFORE = 0.001
"""Seconds before a cut at which the picture on screen is still that of the shot that ends."""


@feature(version="3", per="collection")
def match_sheet(collection: Collection, match_cuts: list[MatchCut], rows: int = 8, width: int = 960) -> Jpeg:
    """The `rows` (1 to 100) best match cuts as one JPEG `width` (128 to 4096) pixels wide, best on top.

    On the left the last picture before the cut, on the right the first one after it, each in a frame of 16:9
    with the beginning of its asset's id and its time code; on the right also the score. A sheet without match
    cuts is one empty row.
    """
    if not 1 <= rows <= 100:
        raise FeatureError(f"match_sheet.rows must be 1 to 100, not {rows}")
    if not 128 <= width <= 4096:
        raise FeatureError(f"match_sheet.width must be 128 to 4096 pixels, not {width}")
    from PIL import Image, ImageDraw

    shown = match_cuts[:rows]
    across = (width - 3 * GAP) // 2
    down = max(1, across * 9 // 16)
    wanted = [(c.out, max(0.0, c.out.end - BEFORE)) for c in shown] + [(c.into, c.into.start) for c in shown]
    seen = _pictures(collection, wanted, across, down)
    durations = {a.id: a.duration or 0.0 for a in collection.assets}
    sheet = Image.new("RGB", (width, GAP + max(1, len(shown)) * (down + GAP)), BACKGROUND)
    draw = ImageDraw.Draw(sheet, "RGBA")
    for row, cut in enumerate(shown):
        top = GAP + row * (down + GAP)
        for column, (shot, at, score) in enumerate(
            ((cut.out, cut.out.end, ""), (cut.into, cut.into.start, f"  {cut.score:.3f}"))
        ):
            rgb = seen[row + column * len(shown)]
            left = GAP + column * (across + GAP)
            place = left + (across - rgb.shape[1]) // 2, top + (down - rgb.shape[0]) // 2
            sheet.paste(Image.fromarray(rgb), place)
            text = f"{shot.asset[:8]}  {time_code(at, durations[shot.asset])}{score}"
            label(draw, left, top + down, across, text)
    return jpeg(np.asarray(sheet))


def _pictures(
    collection: Collection, wanted: list[tuple[ShotOf, float]], width: int, height: int
) -> list[np.ndarray]:
    """The pictures on screen at these times, uint8[h, w, 3] each, within `width` x `height`.

    Each asset that has any is opened once.
    """
    found: dict[int, np.ndarray] = {}
    for asset in collection.assets:
        places = sorted((at, i) for i, (shot, at) in enumerate(wanted) if shot.asset == asset.id)
        if not places:
            continue
        shown = pictures_at(asset, [at for at, _ in places], lambda w, h: _within(w, h, width, height))
        found.update((i, picture.rgb) for (_, i), picture in zip(places, shown, strict=True))
    return [found[i] for i in range(len(wanted))]


def _within(width: int, height: int, widest: int, highest: int) -> tuple[int, int]:
    scale = min(widest / width, highest / height)
    return max(1, round(width * scale)), max(1, round(height * scale))
