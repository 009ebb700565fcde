"""`probe`: what the container says of an asset. No decoding; it was read when the asset was registered."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from amber_ray.core.feature import feature
from amber_ray.core.units import Asset


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One stream. `kind` is video, audio or other (subtitles, data, cover art); None where nothing is told.

    `width` and `height` are the stored pixels, `rotation` the degrees counter-clockwise that they are turned
    for display, `frame_rate` frames a second, `frames` their declared number.
    """

    kind: str
    codec: str
    width: int | None
    height: int | None
    rotation: int | None
    frame_rate: float | None
    frames: int | None
    pixel_format: str | None
    sample_rate: int | None
    channels: int | None


@dataclass(frozen=True, slots=True)
class Probe:
    """`duration` in seconds, None for a still; `bytes` the file's size; `width` and `height` as displayed."""

    media_type: str
    bytes: int
    duration: float | None
    width: int | None
    height: int | None
    frame_rate: float | None
    has_audio: bool
    streams: list[StreamFacts]


@feature(version="1")
def probe(asset: Asset) -> Probe:
    """Media type by content, duration, picture size as displayed, and every stream."""
    streams = [
        StreamFacts(
            s.kind,
            s.codec,
            s.width,
            s.height,
            s.rotation,
            float(Fraction(s.frame_rate)) if s.frame_rate else None,
            s.frames,
            s.pixel_format,
            s.sample_rate,
            s.channels,
        )
        for s in asset.streams
    ]
    picture = next((s for s in streams if s.kind == "video"), None)
    size = (None, None) if picture is None else (picture.width, picture.height)
    if picture is not None and picture.rotation in (90, 270):
        size = size[::-1]
    return Probe(
        media_type=asset.media_type,
        bytes=asset.bytes,
        duration=asset.duration,
        width=size[0],
        height=size[1],
        frame_rate=None if picture is None else picture.frame_rate,
        has_audio=asset.has_audio,
        streams=streams,
    )
