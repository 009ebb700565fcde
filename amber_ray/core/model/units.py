"""What a value is computed for: a segment of an asset, an asset, or a collection of assets.

An asset is its content: two URIs with the same bytes are equal assets. Segments lie on a fixed grid that
does not depend on the asset's duration, or where a feature found something; in whole microseconds, so that a
unit's identity never hangs on a float. Must not know: features, files, how media is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from amber_ray.errors import BadRequest

Per = str
"""What a feature's values are for: "segment", "asset", "collection", or the name of the feature that finds
the windows."""
RANK: dict[str, int] = {"segment": 0, "asset": 1, "collection": 2}
MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Stream:
    """One elementary stream. Sizes in pixels, rates in 1/s; fields that don't apply are None.

    `frame_rate` is a fraction, as 24000/1001. The colours are named as in ITU-T H.273 by FFmpeg (bt709,
    smpte2084, bt2020nc), None where the stream does not tell; `color_range` is limited or full.

    How the stored `width` by `height` pixels are shown: `crop` pixels are cut off at the left, top, right and
    bottom, each pixel is `pixel_aspect` times as wide as high (64/45; None: square), the picture is turned
    counter-clockwise by `rotation` degrees (a multiple of 90), and then mirrored left to right if `mirrored`.
    `chosen` is the stream of its kind that features look at or listen to.
    """

    kind: Literal["video", "audio", "other"]
    codec: str
    width: int | None = None
    height: int | None = None
    frame_rate: str | None = None
    frames: int | None = None
    rotation: int | None = None
    pixel_format: str | None = None
    color_primaries: str | None = None
    color_transfer: str | None = None
    color_space: str | None = None
    color_range: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    crop: tuple[int, int, int, int] | None = None
    pixel_aspect: str | None = None
    mirrored: bool | None = None
    chosen: bool | None = None

    @property
    def displayed(self) -> tuple[int, int] | None:
        """Width and height of the pictures as a viewer sees them; None for what is no picture."""
        if self.width is None or self.height is None:
            return None
        left, top, right, bottom = self.crop or (0, 0, 0, 0)
        w, h = self.width - left - right, self.height - top - bottom
        if min(w, h) < 1:  # so says a damaged header
            return None
        w, h = squared(w, h, self.pixel_aspect)
        return (h, w) if (self.rotation or 0) % 180 else (w, h)


def squared(width: int, height: int, pixel_aspect: str | None) -> tuple[int, int]:
    """The size of a picture when its pixels are made square: one side grows, neither shrinks."""
    aspect = Fraction(pixel_aspect or 1)
    if aspect > 1:
        return max(1, round(width * aspect)), height
    return width, max(1, round(height / aspect))


@dataclass(frozen=True, slots=True)
class Asset:
    """One media object, identified by the digest of its content.

    `id` is the BLAKE2b-128 of the bytes in hex; `bytes` the size; `duration` seconds (None for a still
    image); `uri` where it can be read now; `signature` what the file looked like (size, times, inode) when
    its content was digested, empty where that is not known; `note` what of it features do not see, in words,
    empty where they see all. Everything but `id` is left out of comparisons and keys.
    """

    id: str
    uri: str = field(compare=False)
    media_type: str = field(compare=False)
    bytes: int = field(compare=False)
    duration: float | None = field(compare=False, default=None)
    streams: tuple[Stream, ...] = field(compare=False, default=())
    signature: str = field(compare=False, default="")
    note: str = field(compare=False, default="")

    @property
    def kind(self) -> str:
        """`video`, `audio` or `image`."""
        return self.media_type.partition("/")[0]

    @property
    def timed(self) -> bool:
        """Whether it has a length in time: a still image has none, nor what is of unknown duration."""
        return self.duration is not None and self.kind != "image"

    @property
    def unit_id(self) -> str:
        """This unit as text, as it stands in keys and in Parquet."""
        return self.id

    @property
    def has_video(self) -> bool:
        """Whether there are pictures to look at (a still image counts)."""
        return any(s.kind == "video" for s in self.streams)

    @property
    def has_audio(self) -> bool:
        """Whether there is sound to listen to."""
        return any(s.kind == "audio" for s in self.streams)

    def stream(self, kind: Literal["video", "audio"]) -> Stream | None:
        """The stream of a kind that features look at or listen to; None where there is none."""
        of_kind = [s for s in self.streams if s.kind == kind]
        return next((s for s in of_kind if s.chosen), of_kind[0] if of_kind else None)


@dataclass(frozen=True, slots=True)
class Segment:
    """A window of an asset: `[start_us, start_us + length_us)`, in microseconds.

    It is one of a fixed grid, or `found` by a feature; who found it is no part of it. The grid's window may
    reach past the asset's end; `end` is cut there. A still image is one segment of length 0. Features receive
    it under the name `clip`.
    """

    asset: Asset
    start_us: int
    length_us: int
    found: bool = field(compare=False, default=False)

    @property
    def index(self) -> int:
        """Position on the grid, from 0; 0 for a window that was found."""
        return 0 if self.found or not self.length_us else self.start_us // self.length_us

    @property
    def start(self) -> float:
        """Seconds from the asset's beginning, inclusive."""
        return self.start_us / MICRO

    @property
    def end(self) -> float:
        """Seconds from the asset's beginning, exclusive; never past the asset's duration."""
        end = (self.start_us + self.length_us) / MICRO
        return end if self.asset.duration is None else max(self.start, min(end, self.asset.duration))

    @property
    def unit_id(self) -> str:
        """This unit as text, as it stands in keys and in Parquet."""
        return f"{self.asset.id}@{self.start_us}+{self.length_us}"


Clip = Segment


@dataclass(frozen=True, slots=True)
class Collection:
    """A set of assets; order and repetition do not matter. Build it with `Collection.of`."""

    assets: tuple[Asset, ...]

    @classmethod
    def of(cls, assets: Iterable[Asset]) -> Collection:
        """Sort by id and drop repeats."""
        unique = {a.id: a for a in assets}
        if not unique:
            raise BadRequest("a collection needs at least one asset")
        return cls(tuple(unique[i] for i in sorted(unique)))

    @property
    def unit_id(self) -> str:
        """This unit as text: the ids of its assets in order."""
        return "{" + ",".join(a.id for a in self.assets) + "}"


@dataclass(frozen=True, slots=True)
class EachRange:
    """Each range that a finder finds in an asset: what is known of found units before the finder has run.

    `finder` is the feature's name and `key` the key of its value. `grid_us` is the length of the grid's
    segments: a window that is one of them is found as it. With `span_us` only the windows that [A, B) touches
    are meant. Nothing is computed for it: when the ranges are known, segments stand in its place.
    """

    asset: Asset
    finder: str
    key: str
    grid_us: int = field(compare=False)
    span_us: tuple[int, int] | None = None

    @property
    def unit_id(self) -> str:
        """This unit as text, as it stands in keys."""
        span = "" if self.span_us is None else f"[{self.span_us[0]},{self.span_us[1]})"
        return f"{self.asset.id}@each:{self.key}{span}"


Unit = Segment | Asset | Collection | EachRange


def is_found(per: Per) -> bool:
    """Return whether values are for windows that a feature finds, whose name it then is."""
    return per not in RANK


def rank_of(per: Per) -> int:
    """Return how coarse a unit is: a window is finer than an asset, and that than a collection."""
    return RANK.get(per, 0)


def segments(asset: Asset, seconds: float, span: tuple[float, float] | None = None) -> tuple[Segment, ...]:
    """The asset's segments of `seconds` each, in order; with `span`, only those that [A, B) touches.

    An asset whose duration is unknown or zero is one segment. Raises `BadRequest` for a span that is
    empty, negative, or wholly past the asset's end.
    """
    if asset.duration is None or not asset.timed:
        return (Segment(asset, 0, 0),)
    length = round(seconds * MICRO)
    count = max(1, math.ceil(round(asset.duration * MICRO) / length))
    first, last = 0, count - 1
    if span is not None:
        a, b = span
        if not 0 <= a < b:
            raise BadRequest(f"range must be [A, B) with 0 <= A < B in seconds, not [{a:g}, {b:g})")
        if a >= asset.duration:
            raise BadRequest(f"range starts at {a:g} s but the asset ends at {asset.duration:g} s")
        first = min(last, round(a * MICRO) // length)
        last = min(last, (round(min(b, asset.duration) * MICRO) - 1) // length)
    return tuple(Segment(asset, i * length, length) for i in range(first, max(first, last) + 1))
