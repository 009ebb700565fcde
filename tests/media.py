"""Media made for tests, with known answers: flat colours, cuts at known frames, tones, rotations, damage."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from amber_ray.core.model.units import MICRO, Asset, Segment
from amber_ray.core.planning.fanout import segment_of, windows_of
from amber_ray.features.frames import Frames
from amber_ray.media import reader
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.locate import Locator
from amber_ray.testing.media import add_sound, encode_sound
from amber_ray.testing.media import write_sound as write_sound

RED, GREEN, BLUE, BLACK, WHITE, GREY = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (0, 0, 0),
    (255, 255, 255),
    (128, 128, 128),
)


def flat(colour: tuple[int, int, int], width: int = 64, height: int = 48) -> np.ndarray:
    """One picture of one colour: uint8[h, w, 3]."""
    return np.full((height, width, 3), colour, np.uint8)


def textured(seed: int, width: int = 64, height: int = 48) -> np.ndarray:
    """One picture of smooth noise: coarse random blocks, so that codecs keep it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), np.uint8))


def shown(*pictures: Any) -> Frames:
    """Pictures of one size, uint8[h, w, 3], as `frames` gives them: one each second, and nothing moves."""
    images = [np.asarray(p) for p in pictures]
    return Frames(
        np.arange(len(images), dtype=np.float64),
        np.stack(images) if images else np.zeros((0, 224, 224, 3), np.uint8),
        np.zeros((len(images), 2, 36, 64, 3), np.uint8),
    )


def tone(seconds: float, hertz: float = 997.0, decibels: float = -20.0, rate: int = 48_000) -> np.ndarray:
    """A sine with its peak at `decibels` below full scale: float32[n]."""
    t = np.arange(round(seconds * rate)) / rate
    return (10 ** (decibels / 20) * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def write_video(
    path: Path,
    pictures: Iterable[np.ndarray],
    fps: int | Fraction = 24,
    *,
    codec: str = "libx264",
    gop: int = 24,
    rotation: int = 0,
    first: int = 0,
    time_base: Fraction | None = None,
    stamp: Callable[[int], int] | None = None,
    sound: np.ndarray | None = None,
    rate: int = 48_000,
    channels: int = 1,
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    form: str | None = None,
    container_options: dict[str, str] | None = None,
    prepare: Callable[[Any], object] | None = None,
) -> Path:
    """Encode pictures (uint8[h, w, 3 or 4], even sides for 4:2:0) and, if given, sound (float32[n]).

    `stamp` maps a frame's number to its timestamp in `time_base`; by default frame i is at i / fps. `form` is
    the container's, where the name's ending does not tell; `prepare` is given the stream before it is opened.
    """
    with av.open(str(path), "w", format=form, options=container_options or {}) as out:
        stream: Any = None
        audio: Any = None
        for number, picture in enumerate(pictures):
            if stream is None:
                height, width = picture.shape[:2]
                stream = out.add_stream(
                    codec,
                    rate=fps,
                    options=options if options is not None else {"crf": "12", "preset": "ultrafast"},
                )
                stream.width, stream.height, stream.pix_fmt = width, height, pixels
                stream.codec_context.gop_size = gop
                if time_base:
                    stream.codec_context.time_base = time_base
                if rotation:
                    stream.set_display_rotation(rotation)
                if prepare is not None:
                    prepare(stream)
                if sound is not None:
                    audio = add_sound(out, path, rate, channels)
            kind = "rgba" if picture.shape[2] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=kind)
            frame.time_base = time_base or 1 / Fraction(fps)
            frame.pts = stamp(number) if stamp else first + number
            out.mux(stream.encode(frame))
        if stream is not None:
            out.mux(stream.encode(None))
        if sound is not None:
            encode_sound(out, audio, sound, rate, channels)
    return path


def write_picture(path: Path, picture: np.ndarray, orientation: int | None = None, **options: Any) -> Path:
    """A still by Pillow; `orientation` is the EXIF tag."""
    from PIL import Image

    image = Image.fromarray(picture)
    if orientation:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    image.save(path, **options)
    return path


def damage(path: Path, ranges: Sequence[tuple[float, float]]) -> Path:
    """Overwrite parts of a file, given as fractions of its length, with noise."""
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0)
    for a, b in ranges:
        start, end = int(a * len(data)), int(b * len(data))
        data[start:end] = noise.integers(0, 256, end - start, np.uint8).tobytes()
    path.write_bytes(bytes(data))
    return path


@dataclass(frozen=True)
class Range:
    """What a finder finds, in seconds."""

    start: float
    end: float


def found(asset: Asset, *bounds: float) -> list[Segment]:
    """The windows that lie between times in seconds, as if a feature had found those ranges."""
    windows = windows_of([Range(float(a), float(b)) for a, b in itertools.pairwise(bounds)])
    assert isinstance(windows, tuple)
    return [segment_of(asset, *window, 60 * MICRO) for window in windows]


def catalogue(folder: Path, **options: Any) -> Catalogue:
    """A catalogue whose store lies in `folder`, which is its only media root too."""
    return Catalogue(str(folder / "store"), Locator([str(folder)]), **options)


def settled(path: Path) -> Path:
    """Wait until a file's time stamp is old enough for its signature to be remembered."""
    while time.time_ns() - path.stat().st_ctime_ns < 25_000_000:
        time.sleep(0.005)
    return path


def counted_pictures(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """What tells how many pictures have come out of decoders since."""
    count = 0
    real: Any = reader.Reader._decoded

    def counted(*given: Any) -> Iterator[Any]:
        nonlocal count
        for found in real(*given):
            count += 1
            yield found

    monkeypatch.setattr(reader.Reader, "_decoded", counted)
    return lambda: count


def write_differing(folder: Path, kind: tuple[str, str, dict[str, str]], fps: int, seconds: int = 4) -> Path:
    """Write a film in which no two pictures are alike, a key picture every second.

    `kind`: its codec, its name's ending and the encoder's options.
    """
    codec, ending, options = kind
    count = seconds * fps
    wide = textured(1, 192 + 8 * count, 128)
    moving = [np.ascontiguousarray(wide[:, 8 * i : 8 * i + 192]) for i in range(count)]
    return write_video(folder / f"film{ending}", moving, fps, codec=codec, gop=fps, options=options)
