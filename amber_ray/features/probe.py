"""`probe`: what the container says of an asset. No decoding; it was read when the asset was registered."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fractions import Fraction

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Asset


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One stream. `kind` is video, audio or other (subtitles, data, cover art); None where nothing is told.

    `width` and `height` are the stored pixels, `rotation` the degrees counter-clockwise that they are turned
    for display, `frame_rate` frames a second as a fraction (24, 30000/1001), `frames` their declared number.
    The four colour fields are named as in ITU-T H.273, None where the stream does not tell.
    """

    kind: str
    codec: str
    width: int | None
    height: int | None
    rotation: int | None
    frame_rate: str | None
    frames: int | None
    pixel_format: str | None
    color_primaries: str | None
    color_transfer: str | None
    color_space: str | None
    color_range: str | None
    sample_rate: int | None
    channels: int | None


@dataclass(frozen=True, slots=True)
class Probe:
    """`duration` in seconds, None for a still; `bytes` the file's size; `width` and `height` as displayed.

    `frame_rate` is in frames a second, that of the best stream of pictures.
    """

    media_type: str
    bytes: int
    duration: float | None
    width: int | None
    height: int | None
    frame_rate: float | None
    has_audio: bool
    streams: list[StreamFacts]


@feature(version="2")
def probe(asset: Asset) -> Probe:
    """Media type by content, duration, picture size as displayed, and every stream."""
    streams = [
        StreamFacts(**{f.name: getattr(s, f.name) for f in dataclasses.fields(StreamFacts)})
        for s in asset.streams
    ]
    picture = asset.stream("video")
    size = (picture and picture.displayed) or (None, None)
    return Probe(
        media_type=asset.media_type,
        bytes=asset.bytes,
        duration=asset.duration,
        width=size[0],
        height=size[1],
        frame_rate=None
        if picture is None or picture.frame_rate is None
        else float(Fraction(picture.frame_rate)),
        has_audio=asset.has_audio,
        streams=streams,
    )
