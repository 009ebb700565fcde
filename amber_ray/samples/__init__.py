"""Media that ships with the package, so that a first run needs no download (see `ATTRIBUTION.md` beside it).

Must not know: anything of Amber.
"""

from __future__ import annotations

from pathlib import Path

CLIP = "big-buck-bunny-30s.mp4"
"""30.0 s, 640x360, 24 fps, H.264 and AAC stereo; 3 cuts after a fade from black. (c) Blender Foundation."""

TRAILER = "big-buck-bunny-trailer.mp4"
"""55.1 s of the same film's trailer, with titles, 11 cuts and a few fades. (c) Blender Foundation."""


def clip() -> Path:
    """Where the sample clip lies; its folder, `clip().parent`, can serve as a media root."""
    return Path(__file__).resolve().parent / CLIP


def trailer() -> Path:
    """Where the other sample clip lies, beside the first."""
    return clip().parent / TRAILER
