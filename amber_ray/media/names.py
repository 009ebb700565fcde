"""Which names stand for media, the same on every machine: the endings of the kinds that are read.

Python's `mimetypes` reads the machine's own table, which a slim image has not. Content decides what a file
is; names only decide what is looked at in a folder. Must not know: files.
"""

from __future__ import annotations

import posixpath

_FILMS = """
    mp4 m4v mov qt 3gp 3g2 mkv mk3d webm avi divx mpg mpeg mpe m1v m2v vob ts m2ts mts m2t trp tp flv f4v asf
    wmv mxf ogv ogm nut ivf dv rm rmvb y4m mj2
"""
_SOUND = """
    wav wave w64 bwf rf64 aif aiff aifc au snd caf mp1 mp2 mp3 mpa flac aac adts m4a m4b m4p mka ac3 eac3 ec3
    dts amr awb ape wv tta ogg oga opus spx wma ra
"""
_PICTURES = "jpg jpeg jpe jfif jif mpo png apng webp gif bmp dib tif tiff avif avifs heic heif hif"

ENDINGS = frozenset(f"{_FILMS} {_SOUND} {_PICTURES}".split())
"""Of names, in lower case, of what FFmpeg's permitted demuxers and the reader of stills take."""


def is_media(path: str) -> bool:
    """Return whether a name ends like that of a film, a sound or a picture of a kind that is read."""
    return ending_of(path) in ENDINGS


def ending_of(path: str) -> str:
    """Return what stands behind a name's last dot, in lower case; empty without one."""
    return posixpath.splitext(path)[1][1:].lower()
