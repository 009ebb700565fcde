"""A second opinion on media: what FFmpeg's command line makes of a file, beside what this project reads.

The command is the one that the package imageio-ffmpeg brings, so that everybody asks the same FFmpeg (one on
the path is asked only where that package has none). It is another version than the libraries in PyAV.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from amber_ray.core.model.units import Asset
from amber_ray.errors import MediaError
from amber_ray.media.decode import _reader, pictures
from amber_ray.media.scale import exactly
from amber_ray.media.sound import heard
from amber_ray.settings import Limits

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
WIDTH, HEIGHT = 64, 48
"""In which the first pictures are compared as a viewer sees them."""


@dataclass
class Opinion:
    """Of one file: times and hashes of its decoded pictures, how the first one looks, its samples.

    `looks` is [h, w, 3], 0 to 255; `samples` float32[n, channels] of all frames of sound, of which the first
    is at `heard_from` seconds. `size` is that on the screen: turned, the pixels square.
    """

    times: list[float] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    looks: np.ndarray | None = None
    size: tuple[int, int] | None = None
    samples: np.ndarray | None = None
    heard_from: float = 0.0
    trouble: str = ""


def ffmpegs(path: Path, folder: Path, picture: int | None, sound: int | None, channels: int) -> Opinion:
    """What the command says of the streams with these indices."""
    words = [FFMPEG, "-v", "error", "-nostdin", "-threads", "1"]
    words += ["-noautorotate", "-apply_cropping", "codec", "-i", str(path)]
    hashes, looks, samples, frames = (folder / f"{path.name}.{k}" for k in ("v", "rgb", "f32", "a"))
    size = folder / f"{path.name}.size"
    exact = ["-enc_time_base", "demux", "-avoid_negative_ts", "disabled", "-hash", "md5", "-f", "framehash"]
    if picture is not None:
        words += ["-threads", "1", "-i", str(path)]
        words += ["-map", f"0:{picture}", "-fps_mode", "passthrough", *exact, str(hashes)]
        first = ["-map", f"1:{picture}", "-frames:v", "1"]
        words += [*first, "-f", "framehash", str(size)]
        words += [*first, "-vf", f"scale={WIDTH}:{HEIGHT}:flags=area+full_chroma_int,format=rgba"]
        words += ["-f", "rawvideo", str(looks)]
    if sound is not None:
        words += ["-map", f"0:{sound}", "-c:a", "pcm_f32le", "-f", "f32le", str(samples)]
        words += ["-map", f"0:{sound}", "-c:a", "pcm_f32le", *exact[2:], str(frames)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    found = Opinion(trouble=done.stderr.strip())
    if hashes.exists():
        found.times, found.hashes = _listed(hashes)
    if looks.exists() and looks.stat().st_size == WIDTH * HEIGHT * 4:
        shown = np.frombuffer(looks.read_bytes(), np.uint8).reshape(HEIGHT, WIDTH, 4).astype(float)
        found.looks = 255 - (255 - shown[..., :3]) * shown[..., 3:] / 255  # Over white.
        found.size = _dimensions(size)
    if samples.exists():
        found.samples = np.frombuffer(samples.read_bytes(), "<f4").reshape(-1, channels)
        found.heard_from = next(iter(_listed(frames)[0]), 0.0)
    return found


def _listed(path: Path) -> tuple[list[float], list[str]]:
    base = 1.0
    times, hashes = [], []
    for line in path.read_text().splitlines():
        if line.startswith("#tb 0:"):
            above, below = line.split(":")[1].split("/")
            base = int(above) / int(below)
        elif not line.startswith("#"):
            _, _, pts, _, _, digest = (part.strip() for part in line.split(","))
            times.append(int(pts) * base)
            hashes.append(digest)
    return times, hashes


def _dimensions(path: Path) -> tuple[int, int]:
    told = dict(line[1:].split(": ") for line in path.read_text().splitlines() if ": " in line)
    width, height = map(int, told["dimensions 0"].split("x"))
    above, below = map(int, told["sar 0"].split("/"))
    if above > below > 0:
        width = round(width * above / below)
    elif 0 < above < below:
        height = round(height * below / above)
    return width, height


def differences(asset: Asset, path: Path, folder: Path) -> set[str]:
    """In what the two opinions of a registered file differ, in words; empty if in nothing."""
    shown, heard_of = (_chosen(asset, kind) for kind in ("video", "audio"))
    channels = 1 if heard_of is None else asset.streams[heard_of].channels or 1
    us, them = ours(asset), ffmpegs(path, folder, shown, heard_of, channels)
    found = set()
    if us.trouble:
        found.add("refused on the way")
    if len(us.times) != len(them.times) and asset.kind != "image":
        found.add("count")
    if asset.kind != "image":
        # Matroska and FLV have whole milliseconds, and the command takes the start from all in microseconds.
        if any(abs(a - b) > 0.0011 for a, b in zip(us.times, them.times, strict=False)):
            found.add("times")
        if any(a != b for a, b in zip(us.hashes, them.hashes, strict=False)):
            found.add("pictures")
    if shown is not None:
        if us.size != them.size:
            found.add("size")
        if us.looks is None or them.looks is None or np.abs(us.looks - them.looks).mean() > ALIKE:
            found.add("look")
    if heard_of is not None:
        found |= _unlike(us, them)
    return found


ALIKE = 6.0
"""Levels by which first pictures may differ in the mean: two libraries, two ways of scaling."""

QUIET = 2e-4
"""By which samples may differ: two versions of decoders that reckon in floating point."""


def _unlike(us: Opinion, them: Opinion) -> set[str]:
    if us.samples is None or them.samples is None:
        return {"form of sound"}
    found = set()
    if len(us.samples) != len(them.samples):
        found.add("count of samples")
    both = min(len(us.samples), len(them.samples))
    if np.abs(us.samples[:both] - them.samples[:both]).max(initial=0.0) > QUIET:
        found.add("samples")
    if abs(us.heard_from - them.heard_from) > 0.002:
        found.add("time of sound")
    return found


def _chosen(asset: Asset, kind: str) -> int | None:
    return next((n for n, s in enumerate(asset.streams) if s.kind == kind and s.chosen), None)


def ours(asset: Asset) -> Opinion:
    """The same as this project reads it; of what is refused on the way, what came before counts."""
    found = Opinion()
    try:
        if (stream := asset.stream("video")) is not None:
            found.size = stream.displayed
            found.looks = next(pictures(asset, size=exactly(WIDTH, HEIGHT))).rgb
            if asset.kind == "image":
                return found
            with _reader(asset, Limits()) as reader:
                for at, frame in reader.span(Fraction(0), None):
                    found.times.append(float(at))
                    found.hashes.append(hashlib.md5(raw(frame)).hexdigest())
    except MediaError as error:
        found.trouble = str(error)
    blocks: list[np.ndarray] = []
    try:
        if asset.has_audio:
            with heard(asset, "this test") as (container, _, frames):
                for frame in frames:
                    if not blocks and frame.time is not None:
                        found.heard_from = frame.time - (container.start_time or 0) / 1e6
                    blocks.append(floats(frame))
    except MediaError as error:
        found.trouble = found.trouble or str(error)
    if blocks and len({b.shape[1] for b in blocks}) == 1:
        found.samples = np.concatenate(blocks)
    return found


def floats(frame: AudioFrame) -> np.ndarray:
    """A frame's samples as float32[n, channels], full scale 1."""
    data = frame.to_ndarray()
    count = len(frame.layout.channels)
    data = data.T if frame.format.is_planar else data.reshape(-1, count)
    if data.dtype.kind == "f":
        return data.astype(np.float32)
    if data.dtype == np.uint8:
        return ((data.astype(np.float32) - 128) / 128).astype(np.float32)
    return (data.astype(np.float32) / np.float32(2 ** (8 * data.dtype.itemsize - 1))).astype(np.float32)


def raw(frame: VideoFrame) -> bytes:
    """A picture's pixels without padding, as FFmpeg's raw video has them."""
    return b"".join(_rows(frame))


def _rows(frame: VideoFrame) -> Iterator[bytes]:
    form, planes = frame.format, frame.planes
    packed = len(planes) == 1 or form.has_palette
    for number, plane in enumerate(planes):
        if form.has_palette and number == 1:
            yield bytes(plane)[:1024]
            return
        if packed:
            bits = 8 if form.has_palette else form.padded_bits_per_pixel
            length = (plane.width * bits + 7) // 8
        else:
            bits = max(c.bits for c in form.components if c.plane == number)
            inside = sum(c.plane == number for c in form.components)
            length = plane.width * inside * (1 if bits <= 8 else 2 if bits <= 16 else 4)
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, :length]
        yield lines.tobytes()
