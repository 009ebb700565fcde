"""What it costs to read a film: `frames` at 2 a second and `loudness`, against whoever decodes it all.

Processor time of one thread, so a busy machine changes little. The loops by hand choose the same pictures,
and the pictures are compared before anything is measured. FFmpeg's own command makes as many, by its own
rules, and leaves out the small pairs and the conversion to RGB.
"""

from __future__ import annotations

import math
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np

from amber_ray.core.model.units import Asset, Segment
from amber_ray.features.frames import frames
from amber_ray.features.loudness import loudness
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.locate import Locator
from benchmarks.measure import Measured, paired
from benchmarks.session import Session, main

FPS = 2
SHORTER = 224
"""Pixels of the shorter side of the pictures: what `frames` gives by itself."""


@dataclass(frozen=True, slots=True)
class Made:
    """A film that is made from the shipped clip: how it is encoded, as the encoder does it by itself.

    `limit` is the largest part of FFmpeg's processor time that reading it may take.
    """

    name: str
    codec: str
    options: dict[str, str]
    limit: float


FILMS = (
    Made("H.264", "libx264", {"preset": "medium"}, 0.75),
    Made("HEVC", "libx265", {"preset": "medium", "x265-params": "log-level=none"}, 0.8),
    Made("MPEG-2", "mpeg2video", {"b": "8M", "bf": "2", "g": "15"}, 0.8),
    Made("AV1", "libsvtav1", {"preset": "8", "svtav1-params": "lp=2"}, 0.85),
)


def run(session: Session) -> list[Measured]:
    """Two rows for each way of encoding, and one for the sound; no cluster is asked."""
    seconds, width, height, rounds = session.size((20, 1920, 1080, 3), (2, 320, 180, 1))
    catalogue = Catalogue(str(session.folder / "decoding"), Locator([str(session.folder)]))
    found = []
    for made in FILMS:
        path = encode(session.folder / f"{made.codec}.mkv", made, session.video, seconds, width, height)
        asset = catalogue.add(str(path))
        compare(asset, path)
        measured = paired(
            lambda asset=asset: processor(lambda: ours(asset)),  # type: ignore[misc]
            lambda path=path: processor(lambda: list(by_hand(path))),  # type: ignore[misc]
            rounds,
        )
        found.append(
            Measured(
                f"decoding: {made.name}",
                f"processor time of `frames` at {FPS} a second over {seconds} s of {width}x{height}",
                "a PyAV loop that decodes all, in one thread, and scales the same pictures",
                *measured,
                "s",
                1.1,
            )
        )
        measured = paired(
            lambda asset=asset: processor(lambda: ours(asset)),  # type: ignore[misc]
            lambda path=path: command(path),  # type: ignore[misc]
            rounds,
        )
        found.append(
            Measured(
                f"decoding beside FFmpeg: {made.name}",
                f"processor time of `frames` at {FPS} a second over {seconds} s of {width}x{height}",
                f"ffmpeg -threads 1 -vf fps={FPS},scale=-2:{SHORTER} -f null -",
                *measured,
                "s",
                made.limit,
            )
        )
    sound = copied(session.video, session.folder / "decoding-sound.mp4")
    asset = catalogue.add(str(sound))
    measured = paired(
        lambda: processor(lambda: loudness(asset)), lambda: processor(lambda: metered(sound)), rounds
    )
    return [
        *found,
        Measured(
            "decoding: loudness",
            "processor time of `loudness` of the shipped clip",
            "a PyAV loop that decodes the sound into FFmpeg's meter",
            *measured,
            "s",
            1.2,
        ),
    ]


def processor(work: Callable[[], object]) -> float:
    """Processor seconds of one call, over all threads of this process."""
    started = time.process_time()
    work()
    return time.process_time() - started


def command(path: Path) -> float:
    """Processor seconds of FFmpeg's command, the process as a whole."""
    words = ["-nostdin", "-v", "error", "-threads", "1", "-i", str(path)]
    words += ["-an", "-vf", f"fps={FPS},scale=-2:{SHORTER}", "-f", "null", "-"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *words], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def encode(path: Path, made: Made, source: Path, seconds: int, width: int, height: int) -> Path:
    """The beginning of `source` in another codec and size, without sound, in `path`."""
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        shown = given.streams.video[0]
        rate = Fraction(shown.average_rate or 24)
        stream: Any = out.add_stream(made.codec, rate=rate, options=made.options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, frame in enumerate(given.decode(shown)):
            if number >= seconds * rate:
                break
            large = frame.reformat(width, height, "yuv420p")
            large.pts, large.time_base, large.pict_type = number, 1 / rate, 0
            out.mux(stream.encode(large))
        out.mux(stream.encode(None))
    return path


def copied(source: Path, to: Path) -> Path:
    """A file where the catalogue of this benchmark may look."""
    to.write_bytes(source.read_bytes())
    return to


def ours(asset: Asset) -> Any:
    """The feature's value over the whole film as one segment, in this process."""
    return frames(Segment(asset, 0, math.ceil((asset.duration or 0) * 1e6)))


def by_hand(path: Path) -> Iterator[np.ndarray]:
    """What one would write: decode everything, take the first picture of each slot, and its small pair.

    The pair is what `frames` has for `motion`: the picture and the next one at 64x36.
    """
    taken = -1
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        chosen: Any = None
        for frame in container.decode(stream):
            if chosen is not None:
                small(chosen), small(frame)
                yield scaled(chosen)
                chosen = None
            # Half a millisecond, as Matroska rounds to whole ones.
            slot = math.floor((frame.time + 0.0005) * FPS)
            if slot > taken:
                taken, chosen = slot, frame
        if chosen is not None:
            small(chosen), small(chosen)
            yield scaled(chosen)


def scaled(frame: Any) -> np.ndarray:
    """As `frames` scales: by averaging, exactly, to full-range RGB."""
    width, height = frame.width, frame.height
    shorter = Fraction(SHORTER, min(width, height))
    return converted(frame, round(width * shorter), round(height * shorter))


def small(frame: Any) -> np.ndarray:
    """As `frames` has it for `motion`."""
    return converted(frame, 64, 36)


def converted(frame: Any, width: int, height: int) -> np.ndarray:
    """swscale's averaging, full chroma, accurate and bit-exact; untagged pictures by their size."""
    averaging, exact = 0x20, 0x2000 | 0x40000 | 0x80000
    bicubic = 0x4
    found: np.ndarray = frame.reformat(
        width,
        height,
        "rgb24",
        src_colorspace=(1 if frame.height >= 720 else 5) if frame.colorspace == 2 else None,
        dst_color_range=2,
        interpolation=(averaging if width <= frame.width and height <= frame.height else bicubic) | exact,
        threads=1,
    ).to_ndarray()
    return found


def compare(asset: Asset, path: Path) -> None:
    """Raise unless both ways give the same pictures."""
    images, theirs = ours(asset).images, list(by_hand(path))
    if len(images) != len(theirs) or any((a != b).any() for a, b in zip(images, theirs, strict=True)):
        raise RuntimeError(f"{path.name}: the pictures are not those of a full decode")


def metered(path: Path) -> str:
    """Integrated loudness by FFmpeg's filter, over all sound."""
    told = ""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1
        graph = av.filter.Graph()
        source = graph.add_abuffer(template=stream)
        meter = graph.add("ebur128", "peak=true:metadata=1:framelog=quiet")
        graph.link_nodes(source, meter, sink := graph.add("abuffersink")).configure()
        for frame in [*container.decode(stream), None]:
            source.push(frame)
            try:
                while True:
                    told = sink.pull().metadata.get("lavfi.r128.I", told)
            except (av.error.BlockingIOError, av.error.EOFError):
                continue
    return told


if __name__ == "__main__":
    raise SystemExit(main(run))
