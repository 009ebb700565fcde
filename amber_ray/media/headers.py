"""What PyAV does not pass on of a container's header: the crop, where the file should end, what follows it.

Matroska (RFC 9559, elements `PixelCrop...`) and ISO base media files (ISO/IEC 14496-12, the box `clap`). A
header that can't be followed crops nothing: FFmpeg, which reads the same bytes, decides what is damaged.
Must not know: FFmpeg, streams.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

Crop = tuple[int, int, int, int]
"""Pixels cut off at the left, top, right and bottom."""

_EBML, _SEGMENT, _CLUSTER, _TRACKS, _ENTRY = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
_TRACK_TYPE, _VIDEO = 0x83, 0xE0
_CROPS = (0x54CC, 0x54BB, 0x54DD, 0x54AA)
_UNKNOWN = -1
"""The size of an element whose end its writer did not know."""

_HEADER = 16 << 20
"""Bytes of a header that are read at most."""

_BOXES = 10_000
"""Boxes or elements that are looked at on one level."""

_TAGS = 8_000_000
"""Tags of an FLV file that are followed: a day of film has fewer."""


def crops(file: BinaryIO, form: str) -> list[Crop | None]:
    """The crop of each track of pictures, in the order of the tracks; empty where the format has none.

    `form` is FFmpeg's name of the demuxer. The file's position is kept.
    """
    position = file.tell()
    try:
        if form.startswith("matroska"):
            return list(_matroska_crops(file))
        if form.startswith("mov"):
            return list(_mp4_crops(file))
        return []
    except (ValueError, struct.error):
        return []  # Not as the standard says; FFmpeg judges the file.
    finally:
        file.seek(position)


def missing(file: BinaryIO) -> int:
    """How many bytes a Matroska file is shorter than its header says; 0 where nothing tells."""
    position = file.tell()
    try:
        size = file.seek(0, os.SEEK_END)
        _, end = _segment(file, size)
        return 0 if end == _UNKNOWN else max(0, end - size)
    except ValueError:
        return 0
    finally:
        file.seek(position)


def joined(file: BinaryIO) -> int | None:
    """Where a second film begins in the file, as after `cat a.mp4 b.mp4`; None if there is only one.

    FFmpeg reads the first one and says nothing. Followed by structure: fragments and their repeated headers,
    AVI's further parts and Matroska's live segments are one film.
    """
    position = file.tell()
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(12)
        if head[:4] == b"RIFF":
            return _second_riff(file, size, head[8:12])
        if head[4:8] == b"ftyp":
            return _second_movie(file, size)
        if head[:4] == b"FLV\x01":
            return _second_flv(file, size, int.from_bytes(head[5:9], "big"))
        if head[:4] == _EBML.to_bytes(4, "big"):
            _, end = _segment(file, size)
            return end if 0 < end < size and _begins(file, end, _EBML.to_bytes(4, "big")) else None
        return None
    except (ValueError, struct.error):
        return None
    finally:
        file.seek(position)


def _second_riff(file: BinaryIO, size: int, kind: bytes) -> int | None:
    at = 0
    for _ in range(_BOXES):
        file.seek(at)
        head = file.read(12)
        if len(head) < 12 or head[:4] != b"RIFF" or at >= size:
            return None
        if at and head[8:12] == kind:
            return at
        length = int.from_bytes(head[4:8], "little")
        at += 8 + length + length % 2
    return None


def _second_movie(file: BinaryIO, size: int) -> int | None:
    kinds = [(kind, first - 8) for kind, first, _ in _boxes(file, 0, size)]
    if any(kind == b"moof" for kind, _ in kinds) or sum(kind == b"moov" for kind, _ in kinds) < 2:
        return None
    return next((at for kind, at in kinds[1:] if kind == b"ftyp"), None)


def _second_flv(file: BinaryIO, size: int, at: int) -> int | None:
    """Tag by tag, each with its length before and behind it."""
    for _ in range(_TAGS):
        if at + 15 > size:
            return None
        file.seek(at + 4)
        head = file.read(11)
        if head[:4] == b"FLV\x01":
            return at + 4
        at += 15 + int.from_bytes(head[1:4], "big")
    return None


def _begins(file: BinaryIO, at: int, magic: bytes) -> bool:
    file.seek(at)
    return file.read(len(magic)) == magic


def _matroska_crops(file: BinaryIO) -> Iterator[Crop | None]:
    size = file.seek(0, os.SEEK_END)
    first, last = _segment(file, size)
    for id, begin, end in _elements(file, first, size if last == _UNKNOWN else min(last, size)):
        if id == _CLUSTER:
            return  # Tracks stand before the media.
        if id == _TRACKS and end != _UNKNOWN:
            yield from _track_crops(file, begin, min(end, begin + _HEADER))
            return


def _segment(file: BinaryIO, size: int) -> tuple[int, int]:
    """First byte and declared end of the segment, behind the EBML header; `ValueError` without them."""
    for number, (id, begin, end) in enumerate(_elements(file, 0, size)):
        if id == _SEGMENT:
            return begin, end
        if number == 0 and id != _EBML:
            break
    raise ValueError("no Matroska")


def _track_crops(file: BinaryIO, begin: int, end: int) -> Iterator[Crop | None]:
    for id, a, b in _elements(file, begin, end):
        if id != _ENTRY:
            continue
        inner = {id: (c, d) for id, c, d in _elements(file, a, b)}
        if _VIDEO not in inner or _number(file, inner.get(_TRACK_TYPE)) != 1:
            continue
        said = {id: (c, d) for id, c, d in _elements(file, *inner[_VIDEO])}
        left, top, right, bottom = (_number(file, said.get(id)) for id in _CROPS)
        yield (left, top, right, bottom) if left or top or right or bottom else None


def _number(file: BinaryIO, place: tuple[int, int] | None) -> int:
    """An unsigned integer of at most 8 bytes; without one 0, the default of what is asked for here."""
    if place is None or not 0 < place[1] - place[0] <= 8:
        return 0
    file.seek(place[0])
    return int.from_bytes(file.read(place[1] - place[0]), "big")


def _elements(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(id, first byte, end) of each element of a range; the end is `_UNKNOWN` where it is not told."""
    for _ in range(_BOXES):
        if begin >= end:
            return
        file.seek(begin)
        id, id_length = _vint(file, keep_marker=True)
        size, size_length = _vint(file, keep_marker=False)
        first = begin + id_length + size_length
        if size == (1 << 7 * size_length) - 1:
            yield id, first, _UNKNOWN
            return
        yield id, first, first + size
        begin = first + size


def _vint(file: BinaryIO, *, keep_marker: bool) -> tuple[int, int]:
    """EBML's variable-size integer and how many bytes it takes (RFC 8794, section 4)."""
    head = file.read(1)
    if not head or not head[0]:
        raise ValueError("no EBML")
    length = 9 - head[0].bit_length()
    value = head[0] if keep_marker else head[0] & (0x7F >> (length - 1))
    return value << 8 * (length - 1) | int.from_bytes(file.read(length - 1), "big"), length


def _mp4_crops(file: BinaryIO) -> Iterator[Crop | None]:
    size = file.seek(0, os.SEEK_END)
    for begin, end in _inside(file, 0, size, b"moov", b"trak", b"mdia"):
        if _handler(file, begin, end) == b"vide":
            yield _aperture(file, begin, end)


def _handler(file: BinaryIO, begin: int, end: int) -> bytes:
    """What a track holds: the type in `hdlr`."""
    for first, _ in _inside(file, begin, end, b"hdlr"):
        file.seek(first + 8)
        return file.read(4)
    return b""


def _aperture(file: BinaryIO, begin: int, end: int) -> Crop | None:
    """The clean aperture in a track's first sample description."""
    for descriptions, last in _inside(file, begin, end, b"minf", b"stbl", b"stsd"):
        # Before the descriptions stand version, flags and their count; before a description's own boxes, 78
        # bytes of fields, width and height among them.
        for _, first, after in _boxes(file, descriptions + 8, last):
            file.seek(first + 24)
            width, height = struct.unpack(">HH", file.read(4))
            for clap, _ in _inside(file, first + 78, after, b"clap"):
                file.seek(clap)
                return _cut(width, height, struct.unpack(">IIIIiIiI", file.read(32)))
            return None
    return None


def _cut(width: int, height: int, clap: tuple[int, ...]) -> Crop | None:
    """The crop that a clean aperture means: its size, and how far its centre lies off the picture's."""
    if not all(clap[1::2]):
        return None
    clean_width, clean_height, right, down = (n / d for n, d in zip(clap[::2], clap[1::2], strict=True))
    left = round((width - clean_width) / 2 + right)
    top = round((height - clean_height) / 2 + down)
    across, below = width - left - round(clean_width), height - top - round(clean_height)
    crop = left, top, across, below
    return crop if any(crop) and min(crop) >= 0 and clean_width >= 1 and clean_height >= 1 else None


def _inside(file: BinaryIO, begin: int, end: int, *path: bytes) -> Iterator[tuple[int, int]]:
    """First byte of the content, and end, of each box that lies at a path of types."""
    for kind, first, after in _boxes(file, begin, end):
        if kind != path[0]:
            continue
        if len(path) > 1:
            yield from _inside(file, first, after, *path[1:])
        else:
            yield first, after


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte of the content, end) of each box of a range."""
    for _ in range(_BOXES):
        if begin + 8 > end:
            return
        file.seek(begin)
        size, kind = struct.unpack(">I4s", file.read(8))
        first = begin + 8
        if size == 1:
            size, first = struct.unpack(">Q", file.read(8))[0], begin + 16
        after = end if size == 0 else begin + size
        if after < first or after > end:
            return
        yield kind, first, after
        begin = after
