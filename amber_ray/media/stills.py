"""Still pictures through Pillow: what they are and how they look, by one reader, so that both always agree.

A moving GIF, WebP, PNG or AVIF counts as its first picture. Orientation, transparency and deep greys are as a
viewer shows them. Must not know: assets, features.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from amber_ray.core.model.units import Stream
from amber_ray.errors import AmberError, MediaError, TooLarge
from amber_ray.media.scale import Size
from amber_ray.media.source import Watched
from amber_ray.settings import Limits

if TYPE_CHECKING:
    from PIL.Image import Image

TYPES = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
}
"""Pillow's plug-ins that may look at the bytes, and the media types of what they read."""

_CODECS = {"JPEG": "mjpeg", "MPO": "mjpeg", "AVIF": "av1", "HEIF": "hevc"}
"""FFmpeg's names where they are not the format's own."""

_PIXELS = {
    "1": "monob",
    "L": "gray",
    "LA": "ya8",
    "P": "pal8",
    "RGB": "rgb24",
    "RGBA": "rgba",
    "CMYK": "cmyk",
}
"""FFmpeg's names of Pillow's modes."""

_RAW = "a camera's raw picture"

_UNREAD = {
    b"8BPS": "a Photoshop document",
    b"\xff\x0a": "a JPEG XL picture",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    b"%PDF": "a PDF document",
    b"\0\0\x01\0": "an icon",
    b"DDS ": "a DirectDraw surface",
    b"v/1\x01": "an OpenEXR picture",
    b"#?RADIANCE": "a Radiance HDR picture",
    b"\xff\xd8\xff\xf7": "a JPEG-LS picture",
    b"FUJIFILMCCD-RAW": _RAW,
    b"II*\0\x10\0\0\0CR": _RAW,
    b"IIU\0": _RAW,
    b"IIRO": _RAW,
    b"IIRS": _RAW,
    b"MMOR": _RAW,
    b"\0\0\0\x18ftypcrx ": _RAW,
    b"<svg": "an SVG drawing",
}
"""How pictures begin that people have and Amber does not read."""

_HEIF = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
"""Brands of HEIF files (ISO/IEC 23008-12), which FFmpeg takes for films."""

_TURNS = {2: (0, True), 3: (180, False), 4: (180, True), 5: (270, True), 6: (270, False), 7: (90, True),
          8: (90, False)}  # fmt: skip
"""EXIF's orientation: degrees counter-clockwise, and whether what was turned is mirrored left to right."""

_ORIENTATION = 0x0112
_SUBFILE, _SUBIFDS, _DNG = 0x00FE, 0x014A, 0xC612
"""Tags of a TIFF: whether a picture stands for a larger one, where others are, the version of Adobe's raw."""
_PNG = b"\x89PNG\r\n\x1a\n"
_BEGINNINGS = (_PNG, b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")
"""How nothing but the pictures that are read begins."""

_XMP = b"XML:com.adobe.xmp\0\0"
_TEXT = 64 << 10
"""Bytes of a PNG's XMP that are looked at, for the orientation in it."""
_GAPS = 1000
"""Texts and profiles, apart from each other, that are left out of a PNG. One with more is read as it is."""


@dataclass(frozen=True, slots=True)
class Still:
    """What a still is; `note` says what of the file features do not see."""

    media_type: str
    stream: Stream
    note: str


def still_facts(file: BinaryIO, name: str, limits: Limits) -> Still | None:
    """What a still is; None for what is no still, and FFmpeg may know.

    Raises `MediaError` for a kind of picture that is not read, or one that does not decode, `TooLarge` for
    one of too many pixels, `SystemFault` when the file can't be read.
    """
    head = _head(file)
    for magic, kind in _UNREAD.items():
        if head.startswith(magic):
            raise MediaError(f"{name!r} is {kind}, which is not read; {_READ}")
    heif = head[4:8] == b"ftyp" and head[8:12] in _HEIF
    if heif and not _reads_heif():
        raise MediaError(
            f"{name!r} is a HEIC picture, which is read only where pillow-heif is installed "
            f"(pip install 'amber-ray[heif]'); {_READ}"
        )
    with _opened(file, name, limits) as image:
        if image is None:
            if heif or head.startswith(_BEGINNINGS):
                raise MediaError(f"the picture {name!r} is truncated or damaged")
            return None
        if _stands_for_raw(image):
            raise MediaError(f"{name!r} is {_RAW}, which is not read; {_READ}")
        rotation, mirrored = _turn(image)
        kind = str(image.format)
        stream = Stream(
            kind="video",
            codec=_CODECS.get(kind, kind.lower()),
            width=image.width,
            height=image.height,
            frames=1,
            rotation=rotation,
            pixel_format=_PIXELS.get(
                image.mode, "gray16" if image.mode.startswith("I") else image.mode.lower()
            ),
            mirrored=mirrored or None,
            chosen=True,
        )
        _rgb(image, name)
        return Still(TYPES[kind], stream, _unseen(image))


def still(file: BinaryIO, name: str, size: Size, limits: Limits) -> np.ndarray:
    """The (first) picture of a file as upright uint8[h, w, 3] RGB.

    EXIF orientation is honoured, transparency is laid over white, 16-bit greys are scaled to 8 bits. Errors
    as `still_facts`.
    """
    from PIL import Image

    with _opened(file, name, limits) as image:
        if image is None:
            raise MediaError(f"{name!r} is no picture of a kind that is read; {_READ}")
        rotation, mirrored = _turn(image)
        rgb = _rgb(image, name)
        if rotation:
            rgb = rgb.rotate(rotation, expand=True)
        if mirrored:
            rgb = rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        wanted = size(rgb.width, rgb.height)
        if wanted != rgb.size:
            rgb = rgb.resize(wanted, Image.Resampling.BICUBIC)
        return np.asarray(rgb)


_READ = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIC pictures are read"


@contextlib.contextmanager
def _opened(file: BinaryIO, name: str, limits: Limits) -> Iterator[Image | None]:
    """The decoded picture; None if none of the plug-ins knows the bytes."""
    from PIL import Image, UnidentifiedImageError

    known = _known()
    source = Watched(file)
    try:
        try:
            image = Image.open(_pixels_of(source), formats=[f for f in TYPES if f in known])
        except UnidentifiedImageError:
            source.check(name)
            yield None
            return
        with image:
            if image.width * image.height > limits.frame_pixels:
                raise TooLarge(
                    f"{name!r} has a picture of {image.width}x{image.height}; "
                    f"at most {limits.frame_pixels} pixels are allowed"
                )
            image.load()
            yield image
    except AmberError:
        raise
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise TooLarge(f"{name!r} has more than the {most} pixels that a picture may have") from error
    except Exception as error:
        # A plug-in raises whatever its parsing of strange bytes comes to.
        source.check(name)
        raise MediaError(f"the picture {name!r} is truncated or damaged") from error


def _stands_for_raw(image: Image) -> bool:
    """Whether a TIFF's first picture is the small preview of what a camera's sensor saw (DNG, NEF, ARW)."""
    if image.format != "TIFF":
        return False
    tags: Any = getattr(image, "tag_v2", {})
    try:
        preview = tags.get(_SUBFILE)
    except Exception:  # noqa: BLE001 - metadata never costs the picture, see `_turn`
        preview = None
    return _DNG in tags or (_SUBIFDS in tags and isinstance(preview, int) and bool(preview & 1))


_OTHERS = {"GIF": "moving", "PNG": "moving", "WEBP": "moving", "AVIF": "moving", "TIFF": "paged"}


def _unseen(image: Image) -> str:
    """What features do not see of a picture's file, in words: the others of a moving one, or other pages.

    Empty where there is but one picture, or where they can't be counted. Other kinds are not looked at: what
    some JPEGs have beside their picture is made from the same one.
    """
    kind = _OTHERS.get(str(image.format))
    try:
        count = int(getattr(image, "n_frames", 1)) if kind else 1
    except Exception:  # noqa: BLE001 - Pillow's plug-ins raise all kinds for what is damaged behind the first
        return ""
    if count < 2:
        return ""
    if kind == "paged":
        return f"of its {count} pages, features see the first only"
    return f"it moves: of its {count} pictures, features see the first only"


def _head(file: BinaryIO) -> bytes:
    head = file.read(32)
    file.seek(0)
    return head


def import_readers() -> None:
    """Import now what the first picture would wait for."""
    _known()


def _known() -> set[str]:
    from PIL import Image

    Image.init()
    _reads_heif()
    return set(Image.OPEN)


def _reads_heif() -> bool:
    """Whether HEIC pictures can be read; registers the plug-in, once."""
    from PIL import Image

    if "HEIF" in Image.OPEN:
        return True
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _turn(image: Image) -> tuple[int, bool]:
    """The picture's orientation; upright where its metadata can't be read."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001
        # As many kinds of errors as there are ways to write EXIF wrongly; none of them costs the picture.
        return 0, False
    return _TURNS.get(orientation, (0, False)) if isinstance(orientation, int) else (0, False)


def _pixels_of(file: Watched) -> Any:
    """The file; a PNG without texts and profiles, which may be larger than Pillow reads, and are not used."""
    if file.read(8) != _PNG:
        file.seek(0)
        return file
    kept, at = [(0, 8)], 8
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        after = at + 12 + length
        dropped = kind in (b"tEXt", b"zTXt", b"iCCP") or (
            kind == b"iTXt" and (length > _TEXT or file.read(len(_XMP)) != _XMP)
        )
        if not dropped and kept[-1][1] == at:
            kept[-1] = kept[-1][0], after
        elif not dropped:
            kept.append((at, after))
        if len(kept) > _GAPS:
            break
        at = after
        file.seek(at)
    file.seek(0)
    if len(kept) > _GAPS or kept == [(0, at)]:
        return file
    rest = io.BytesIO()
    for a, b in kept:
        file.seek(a)
        rest.write(file.read(b - a))
    rest.seek(0)
    return rest


def _rgb(image: Image, name: str) -> Image:
    import PIL.Image

    if image.mode.startswith("I;16") or image.mode == "I":
        deep = np.asarray(image).astype(np.int64)
        return PIL.Image.fromarray((deep.clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise MediaError(
            f"{name!r} has floating-point pixels, and nothing in it tells which of them is white"
        )
    if image.mode == "LAB":
        from PIL import ImageCms

        # TIFF's a and b are signed, those of colour management lie around 128.
        light, a, b = image.split()
        image = PIL.Image.merge("LAB", (light, *(c.point(lambda v: v ^ 128) for c in (a, b))))
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        shown = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
        assert shown is not None  # It is None only where the picture is changed in place.
        return shown
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = PIL.Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return PIL.Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
