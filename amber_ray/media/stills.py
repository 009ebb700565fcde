"""Still pictures through Pillow: orientation, transparency and deep greys as a viewer shows them.

Must not know: assets, features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from amber_ray.errors import MediaError
from amber_ray.media.scale import Size
from amber_ray.settings import Limits

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Pillow's plug-ins that may look at the bytes."""


def still(file: BinaryIO, name: str, size: Size, limits: Limits) -> np.ndarray:
    """The (first) picture of a file as upright uint8[h, w, 3] RGB.

    EXIF orientation is honoured, transparency is laid over white, 16-bit greys are scaled to 8 bits.
    Raises `MediaError` for a damaged or truncated file, one that is too large, or of no known kind.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file, formats=[f for f in FORMATS if f in _known()]) as image:
            if image.width * image.height > limits.frame_pixels:
                raise MediaError(
                    f"{name!r} has {image.width}x{image.height} pixels; "
                    f"at most {limits.frame_pixels} are allowed"
                )
            image.load()
            rgb = _rgb(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(f"the picture {name!r} is truncated or damaged") from error
    wanted = size(rgb.width, rgb.height)
    if wanted != rgb.size:
        rgb = rgb.resize(wanted, Image.Resampling.BICUBIC)
    return np.asarray(rgb)


def unseen(file: BinaryIO) -> str:
    """What `still` does not read of a picture's file, in words: the others of a moving one, or other pages.

    Empty where there is but one picture, and for a file that Pillow can't count, since it decodes or fails
    elsewhere. JPEGs are not looked at: what some have beside their picture is made from the same one.
    """
    from PIL import Image

    kinds = {"GIF": "moving", "PNG": "moving", "WEBP": "moving", "AVIF": "moving", "TIFF": "paged"}
    try:
        with Image.open(file, formats=[f for f in kinds if f in _known()]) as image:
            count, kind = int(getattr(image, "n_frames", 1)), kinds[image.format or ""]
    except Exception:  # noqa: BLE001 - Pillow's plug-ins raise all kinds for a damaged file
        return ""
    if count < 2:
        return ""
    if kind == "paged":
        return f"of its {count} pages, features see the first only"
    return f"it moves: of its {count} pictures, features see the first only"


def _known() -> set[str]:
    from PIL import Image

    Image.init()
    return set(Image.OPEN)


def _rgb(image: Image) -> Image:
    import PIL.Image

    if image.mode.startswith("I;16") or image.mode == "I":
        deep = np.asarray(image).astype(np.int64)
        return PIL.Image.fromarray((deep.clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = PIL.Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return PIL.Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
