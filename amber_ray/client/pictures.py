"""Pictures among values, as a notebook shows them: small, as `data:` URIs, made when they are shown.

Must not know: tables, where values come from.
"""

from __future__ import annotations

import base64
import html
import io
from typing import Any

from amber_ray.core.values.annotations import Bytes, ValueType

PIXELS = 64_000_000
"""A picture of more is not decoded to be shown."""
EDGE, LARGE_EDGE = 160, 800
"""Pixels that a picture in a table, and one by itself, has along its longer edge at most."""


class Picture(bytes):
    """Bytes of a picture that a notebook shows as one. Equal to the plain bytes, and used like them."""

    media_type: str

    def __new__(cls, data: bytes, media_type: str = "image/jpeg") -> Picture:
        """`media_type` is what the feature declares."""
        made = super().__new__(cls, data)
        made.media_type = media_type
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Picture, (bytes(self), self.media_type)

    def __repr__(self) -> str:
        return f"<{self.media_type} of {len(self):,} bytes>"

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        return picture_html(self, LARGE_EDGE) or html.escape(repr(self))


def is_picture(type: ValueType | None) -> bool:
    """Return whether values of a type are bytes of a picture."""
    return isinstance(type, Bytes) and (type.media_type or "").startswith("image/")


def pictured(type: ValueType, value: Any) -> Any:
    """Return a value of a type, as a `Picture` if it is one."""
    if isinstance(type, Bytes) and is_picture(type) and isinstance(value, bytes):
        return Picture(value, type.media_type or "image/jpeg")
    return value


def picture_html(value: Any, edge: int = EDGE) -> str | None:
    """Return an `<img>` of bytes that Pillow can read, or of an array of height, width and 3 colours.

    Return None for anything else, for what is damaged and for what is too large.
    """
    data = _small(value, edge)
    if data is None:
        return None
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(data).decode()}" alt="a picture">'


def _small(value: Any, edge: int) -> bytes | None:
    from PIL import Image, UnidentifiedImageError

    try:
        if isinstance(value, bytes):
            picture: Image.Image = Image.open(io.BytesIO(value))
        elif _is_rgb(value):
            picture = Image.fromarray(value)
        else:
            return None
        if picture.width * picture.height > PIXELS:
            return None
        picture.thumbnail((edge, edge))
        if "A" in picture.getbands() or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        made = io.BytesIO()
        picture.convert("RGB").save(made, "JPEG", quality=80)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        return None
    return made.getvalue()


def _is_rgb(value: Any) -> bool:
    """Return whether this is a numpy array of a picture, told without importing numpy."""
    shape: tuple[int, ...] = getattr(value, "shape", ())
    dtype = str(getattr(value, "dtype", ""))
    return dtype == "uint8" and len(shape) == 3 and shape[2] == 3 and 0 not in shape
