"""An hour of film in 1080p: what surrounds the work is little here, and decoding is most of it.

The film is made once from the clip that ships, kept in `benchmarks/made/` (not in the repository) and read
from there by later runs. The script is what one would write with PyAV: two processes, each part of the film
decoded once, from its key frame to its end.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import decoding
from benchmarks.measure import Measured, paired, seconds
from benchmarks.session import Session, main

if TYPE_CHECKING:
    from amber_ray import Asset, Segment
    from amber_ray.client.sync import Client
    from amber_ray.features.frames import Frames

MADE = Path(__file__).parent / "made"
LOOKS = ("brightness", "colour", "phash", "motion", "sharpness")
FEATURES = (*LOOKS, "thumbnail", "contact_sheet", "loudness")
EVERY = (*FEATURES, "changes", "cuts")
"""With those that look at every picture: no decoder can leave any out then."""
PART = 60.0
"""Seconds of film that the script gives to a process at a time: Amber's segments, so that values compare."""
Values = dict[str, Any]


def run(session: Session) -> list[Measured]:
    """All features of the film, both ways in turn, and its first minute alone."""
    minutes, rounds, size = session.size((60, 1, (1920, 1080)), (1, 1, (320, 180)))
    path = film(session, minutes, size)
    settings = session.settings(builtins=True, media_roots=(str(path.parent), str(session.video.parent)))
    with session.client(settings) as client, pool() as processes:
        asset = client.asset(path)
        warm = client.asset(session.video)
        client.get_many(EVERY, [session.video], progress=False)
        looked_at(processes, EVERY, warm, session.folder / "warm.parquet")
        found: list[Values] = [{}, {}]

        def ours(features: Sequence[str]) -> float:
            forget(client)
            return seconds(lambda: found[0].update(asked(client, features, path)))

        def peer(features: Sequence[str]) -> float:
            output = session.folder / "film.parquet"
            return seconds(lambda: found[1].update(looked_at(processes, features, asset, output)))

        whole = paired(lambda: ours(FEATURES), lambda: peer(FEATURES), rounds, warm=False)
        compare(FEATURES, *found)
        every = paired(lambda: ours(EVERY), lambda: peer(EVERY), rounds, warm=False)
        compare(EVERY, *found)

        def first_ours(features: Sequence[str]) -> float:
            forget(client)
            return seconds(lambda: client.get_many(features, [path], range=(0.0, PART), progress=False))

        def first_peer(look: Callable[[Segment], Values]) -> float:
            return seconds(lambda: processes.submit(look, parts(asset)[0]).result())

        times = session.size(3, 1)
        first = paired(lambda: first_ours(LOOKS), lambda: first_peer(part), times, warm=False)
        first_every = paired(
            lambda: first_ours((*LOOKS, "changes")),
            lambda: first_peer(part_with_changes),
            times,
            warm=False,
        )
    shown = f"{minutes} min of {size[0]}x{size[1]}, H.264"
    return [
        Measured(
            "film: all features",
            f"{', '.join(FEATURES)} of {shown}, nothing known",
            "a script with two processes that decodes every picture once, with PyAV",
            *whole,
            "s",
            0.8,
        ),
        Measured(
            "film: every picture as well",
            f"the same, {' and '.join(EVERY[len(FEATURES) :])} of {shown}, nothing known",
            "a script with two processes that decodes every picture once, with PyAV",
            *every,
            "s",
            0.8,
        ),
        Measured(
            "film: its first minute",
            f"{', '.join(LOOKS)} of the first minute of {shown}, asked for alone",
            "one process of the script with that minute",
            *first,
            "s",
            1.1,
        ),
        Measured(
            "film: every picture of its first minute",
            f"{', '.join(LOOKS)}, changes of the first minute of {shown}, asked for alone",
            "one process of the script with that minute",
            *first_every,
            "s",
            1.1,
        ),
    ]


def forget(client: Client) -> None:
    """Make everything new again."""
    for name in EVERY:
        client.purge(feature=name)


def asked(client: Client, features: Sequence[str], path: Path) -> Values:
    """All values of the film."""
    table = client.get_many(features, [path], progress=False)
    return {name: table[name, path] for name in features}


# --- the film


def film(session: Session, minutes: int, size: tuple[int, int]) -> Path:
    """The shipped clip with its sound in 1080p, again and again, `minutes` long; made where it is missing."""
    folder = session.folder if session.small else MADE
    folder.mkdir(exist_ok=True)
    path = folder / f"film-{minutes}-{size[0]}x{size[1]}.mp4"
    if not path.exists():
        once = folder / f"clip-{size[0]}x{size[1]}.mp4"
        seconds_once = session.size(30, 10)
        encode(session.video, once, seconds_once, size)
        repeat(once, path.with_suffix(".part.mp4"), minutes * 60 // seconds_once, seconds_once)
        os.replace(path.with_suffix(".part.mp4"), path)
        once.unlink()
    return path


def encode(source: Path, path: Path, length: int, size: tuple[int, int]) -> None:
    """`length` seconds of a film at 24 pictures a second, H.264 with B frames, and AAC."""
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        seen, heard = given.streams.video[0], given.streams.audio[0]
        rate = 24
        video: Any = out.add_stream("libx264", rate=rate, options={"preset": "medium", "crf": "23"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.gop_size = 2 * rate
        audio: Any = out.add_stream("aac", rate=48_000, layout="stereo")
        resampler = av.AudioResampler("fltp", "stereo", 48_000, 1024)
        pictures = samples = 0
        for frame in given.decode(seen, heard):
            if isinstance(frame, av.VideoFrame):
                if pictures < length * rate:
                    large = frame.reformat(*size, "yuv420p")
                    large.pts, large.time_base, large.pict_type = pictures, Fraction(1, rate), 0
                    out.mux(video.encode(large))
                    pictures += 1
                continue
            for block in resampler.resample(frame):
                if samples + block.samples <= length * 48_000:
                    block.pts, block.time_base = samples, Fraction(1, 48_000)
                    out.mux(audio.encode(block))
                    samples += block.samples
        out.mux(video.encode(None))
        out.mux(audio.encode(None))


def repeat(source: Path, path: Path, times: int, length: float) -> None:
    """The same packets again and again, each time `length` seconds later: nothing is encoded anew."""
    with av.open(str(source)) as first, av.open(str(path), "w") as out:
        streams = [out.add_stream_from_template(stream) for stream in first.streams]
        for number in range(times):
            with av.open(str(source)) as given:
                for packet in given.demux():
                    if packet.dts is None or packet.pts is None:
                        continue
                    later = round(number * length / packet.time_base)
                    packet.pts, packet.dts = packet.pts + later, packet.dts + later
                    packet.stream = streams[packet.stream.index]
                    out.mux(packet)


# --- the script


def pool() -> concurrent.futures.ProcessPoolExecutor:
    """Two processes that have imported what they need."""
    made = concurrent.futures.ProcessPoolExecutor(
        2, multiprocessing.get_context("spawn"), initializer=imported
    )
    list(made.map(abs, range(4)))
    return made


def imported() -> None:
    """What the script runs."""
    import amber_ray.features.changes
    import amber_ray.features.light
    import amber_ray.features.loudness
    import amber_ray.features.motion
    import amber_ray.features.phash
    import amber_ray.features.preview
    import amber_ray.features.sharpness  # noqa: F401


def parts(asset: Asset) -> Sequence[Segment]:
    """What is given to a process at a time."""
    from amber_ray.core.model.units import segments

    return segments(asset, PART)


def looked_at(
    executor: concurrent.futures.Executor, features: Sequence[str], asset: Asset, output: Path
) -> Values:
    """All features; the long single ones begin first."""
    single = {
        name: executor.submit(one, name, asset)
        for name in ("loudness", "contact_sheet", "thumbnail")
        if name in features
    }
    every = "changes" in features
    looks = list(executor.map(part_with_changes if every else part, parts(asset)))
    values: Values = {name: [look[name] for look in looks] for name in LOOKS}
    values |= {name: future.result() for name, future in single.items()}
    columns = {name: [value.ravel() for value in values[name]] for name in LOOKS}
    if every:
        values["changes"], values["cuts"] = joined(looks)
        columns["changes"] = [change.amount for change in values["changes"]]
    pq.write_table(pa.table(columns), output)
    return values


def one(name: str, asset: Asset) -> Any:
    """A feature of the whole film."""
    from amber_ray.features.loudness import loudness
    from amber_ray.features.preview import contact_sheet, thumbnail

    made: Any = {"loudness": loudness, "thumbnail": thumbnail, "contact_sheet": contact_sheet}[name](asset)
    return made


def part(clip: Segment) -> Values:
    """What is made from the pictures of one part."""
    from amber_ray.features.frames import Frames

    found = list(decoded(Path(clip.asset.uri), Fraction(clip.start), Fraction(clip.end)))
    return looks_of(
        Frames(
            np.array([float(time) for time, _, _ in found]),
            np.stack([image for _, image, _ in found]),
            np.stack([pair for _, _, pair in found]),
        )
    )


def looks_of(shown: Frames) -> Values:
    """The features that look at pictures."""
    from amber_ray.features.light import brightness, colour
    from amber_ray.features.motion import motion
    from amber_ray.features.phash import phash
    from amber_ray.features.sharpness import sharpness

    return {
        "brightness": brightness(shown),
        "colour": colour(shown),
        "phash": phash(shown),
        "motion": motion(shown),
        "sharpness": sharpness(shown),
    }


def part_with_changes(clip: Segment) -> Values:
    """The same, and how much each picture of the part differs from the one before it in the part."""
    from amber_ray.features.changes import compared
    from amber_ray.features.frames import Frames

    times: list[float] = []
    smalls: list[np.ndarray] = []
    images: dict[int, np.ndarray] = {}
    for at, small, image in all_decoded(Path(clip.asset.uri), Fraction(clip.start), Fraction(clip.end)):
        if image is not None:
            images[len(smalls)] = image
        times.append(float(at))
        smalls.append(small)
    pairs = [np.stack([smalls[i], smalls[min(i + 1, len(smalls) - 1)]]) for i in images]
    shown = Frames(np.array(times)[list(images)], np.stack(list(images.values())), np.stack(pairs))
    count = sum(time < clip.end for time in times)
    by = [compared(smalls[i - 1], smalls[i]) for i in range(1, count)]
    return {**looks_of(shown), "times": times[:count], "by": by, "ends": (smalls[0], smalls[count - 1])}


def joined(looks: Sequence[Values]) -> tuple[Any, Any]:
    """`changes` of all parts, and the cuts: only the parts' first pictures wait for what lies before."""
    from amber_ray.features.changes import Changes, compared, cuts

    found = []
    before: np.ndarray | None = None
    for look in looks:
        first, last = look["ends"]
        by = [(0.0, 0.0) if before is None else compared(before, first), *look["by"]]
        amount, colour = np.array(by, np.float32).T
        found.append(Changes(np.array(look["times"]), amount, colour))
        before = last
    return found, cuts(found)


def decoded(path: Path, start: Fraction, end: Fraction) -> Iterator[tuple[Fraction, np.ndarray, np.ndarray]]:
    """The first picture of each slot from `start` to `end`: its time, itself, and its small pair.

    Every picture from the key frame before `start` on is decoded, up to the one that is the last one's pair.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        base = Fraction(stream.time_base or 1)
        container.seek(int(start / base), stream=stream)
        chosen: tuple[Fraction, Any] | None = None
        taken = -1
        for frame in container.decode(stream):
            at = Fraction(frame.pts or 0) * base
            if at < start:
                continue
            if chosen is not None:
                yield chosen[0], decoding.scaled(chosen[1]), paired_with(chosen[1], frame)
                chosen = None
            if at >= end:
                return
            slot = at * decoding.FPS // 1
            if slot > taken:
                taken, chosen = slot, (at, frame)
        if chosen is not None:
            yield chosen[0], decoding.scaled(chosen[1]), paired_with(chosen[1], chosen[1])


def all_decoded(
    path: Path, start: Fraction, end: Fraction
) -> Iterator[tuple[Fraction, np.ndarray, np.ndarray | None]]:
    """Every picture from `start` to the first at `end`: its time, itself small, the slots' first large."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        base = Fraction(stream.time_base or 1)
        container.seek(int(start / base), stream=stream)
        taken = -1
        for frame in container.decode(stream):
            at = Fraction(frame.pts or 0) * base
            if at < start:
                continue
            image = None
            if at < end and (slot := at * decoding.FPS // 1) > taken:
                taken, image = slot, decoding.scaled(frame)
            yield at, decoding.small(frame), image
            if at >= end:
                return


def paired_with(frame: Any, following: Any) -> np.ndarray:
    """What `motion` compares."""
    return np.stack([decoding.small(frame), decoding.small(following)])


def compare(features: Sequence[str], ours: Values, theirs: Values) -> None:
    """Raise unless both have the same values."""
    for name in features:
        if name in LOOKS:
            for mine, other in zip(ours[name], theirs[name], strict=True):
                np.testing.assert_array_equal(mine, other)
        elif name == "changes":
            for mine, other in zip(ours[name], theirs[name], strict=True):
                for column in ("times", "amount", "colour"):
                    np.testing.assert_array_equal(getattr(mine, column), getattr(other, column))
        elif ours[name] != theirs[name]:
            raise RuntimeError(f"{name} differs: {ours[name]!r:.80} is not {theirs[name]!r:.80}")


if __name__ == "__main__":
    raise SystemExit(main(run))
