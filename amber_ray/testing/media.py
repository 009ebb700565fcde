"""Media with known content, for tests: films of given pictures, sounds of given samples, stills.

Must not know: features.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amber_ray.errors import BadRequest

if TYPE_CHECKING:
    import numpy as np

_CODECS = {
    ".wav": "pcm_s16le",
    ".flac": "flac",
    ".mp3": "mp3",
    ".ogg": "libvorbis",
    ".webm": "libopus",
    ".mka": "aac",
}
"""The usual codec of a sound in a file of that kind; else AAC."""


def write_video(
    path: str | os.PathLike[str],
    pictures: Iterable[np.ndarray],
    *,
    fps: int | Fraction = 24,
    sound: np.ndarray | None = None,
    rate: int = 48_000,
) -> Path:
    """Write a film, `.mp4` or any other container that takes H.264, and return its path.

    Args:
        path: the file to write.
        pictures: uint8[h, w, 3] in RGB, all of one size, with even sides. Picture i is at i / `fps` seconds.
        fps: pictures a second.
        sound: samples between -1 and 1, float32[n], at `rate` a second; None for a silent film.
        rate: of the sound, in Hz.

    Compression changes the pictures a little: expect colours within a few of 255 of those given.
    """
    import av
    import numpy as np

    path = Path(path)
    with av.open(str(path), "w") as out:
        stream: Any = None
        audio: Any = None
        for number, picture in enumerate(pictures):
            _check_picture(picture)
            if stream is None:
                height, width = picture.shape[:2]
                if height % 2 or width % 2:
                    raise BadRequest(f"a film's pictures have even sides, not {width}x{height}")
                stream = out.add_stream("libx264", rate=fps, options={"crf": "12", "preset": "ultrafast"})
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                audio = None if sound is None else add_sound(out, path, rate)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.time_base, frame.pts = 1 / Fraction(fps), number
            out.mux(stream.encode(frame))
        if stream is None:
            raise BadRequest("a film needs at least one picture")
        out.mux(stream.encode(None))
        if sound is not None:
            encode_sound(out, audio, sound, rate)
    return path


def write_sound(
    path: str | os.PathLike[str],
    sound: np.ndarray,
    rate: int = 48_000,
    channels: int = 1,
    codec: str | None = None,
) -> Path:
    """Write samples between -1 and 1, float32[n], by the codec that is usual for the file's ending.

    All channels sound the same. Returns the path.
    """
    import av

    path = Path(path)
    with av.open(str(path), "w") as out:
        encode_sound(out, add_sound(out, path, rate, channels, codec), sound, rate, channels)
    return path


def write_picture(path: str | os.PathLike[str], picture: np.ndarray, **options: Any) -> Path:
    """Write one picture, uint8[h, w, 3] in RGB, in the format of the file's ending. Returns the path.

    `options` are those of Pillow's `Image.save`.
    """
    from PIL import Image

    path = Path(path)
    _check_picture(picture)
    Image.fromarray(picture).save(path, **options)
    return path


def add_sound(out: Any, path: Path, rate: int, channels: int = 1, codec: str | None = None) -> Any:
    """Add a stream of sound to an open container, and return it."""
    stream = out.add_stream(codec or _CODECS.get(path.suffix, "aac"), rate=rate)
    stream.layout = {1: "mono", 2: "stereo"}[channels]
    return stream


def encode_sound(out: Any, stream: Any, sound: np.ndarray, rate: int, channels: int = 1) -> None:
    """Encode all samples into a stream that `add_sound` made."""
    import av
    import numpy as np

    for start in range(0, len(sound), 1024):
        block = np.repeat(sound[None, start : start + 1024], channels, axis=0).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(block), format="fltp", layout={1: "mono", 2: "stereo"}[channels]
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def _check_picture(picture: Any) -> None:
    shape = tuple(getattr(picture, "shape", ()))
    kind = getattr(getattr(picture, "dtype", None), "name", type(picture).__name__)
    if len(shape) != 3 or shape[-1:] != (3,) or kind != "uint8":
        raise BadRequest(f"a picture is uint8[height, width, 3] in RGB, not {kind}{list(shape)}")
