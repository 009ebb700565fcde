"""What a user gets of one odd file, compared with what `cases.json` says is right.

Each check is named after a key of the file's `expected`; a key that no check knows is an error, so that
nothing in the list is passed over in silence.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from amber_ray.core.model.units import MICRO, Asset, Segment
from amber_ray.errors import MediaError, TooLarge
from amber_ray.features.light import LUMA
from amber_ray.features.loudness import loudness
from amber_ray.features.probe import probe
from amber_ray.features.text import TextReader
from amber_ray.media.decode import picture_times, pictures, pictures_at, window
from amber_ray.media.scale import exactly, native
from amber_ray.media.sound import mono
from tests.media import catalogue

UNTRUE = re.compile(r"truncated|damaged|breaks off")
"""Words that are no true reason for a file that is whole."""

RATE = 16_000
COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "white": (255, 255, 255),
}
"""Pure colours; a decoded corner is called after the nearest."""

THUMB = exactly(64, 48)


def register(path: Path) -> Asset:
    """The file as an asset, through the product's own catalogue."""
    return catalogue(path.parent).add(str(path))


def complaints(asset: Asset, expected: dict[str, Any]) -> list[str]:
    """What is wrong with the answers for `asset`; empty if all is as it should be."""
    found: list[str] = []
    for key, wanted in expected.items():
        if key in ("or", "note"):
            continue
        try:
            found += [f"{key}: {said}" for said in CHECKS[key](asset, wanted)]
        except (MediaError, TooLarge) as error:
            found.append(f"{key}: refused: {error}")
    return found


def luma(rgb: np.ndarray) -> float:
    """Mean luma of a picture, 0 to 1."""
    return float(rgb.reshape(-1, 3).mean(axis=0) @ LUMA / 255)


def _near(name: str, got: float | None, wanted: dict[str, Any]) -> Iterator[str]:
    if got is None or abs(got - wanted["seconds"]) > wanted["within"]:
        yield f"{name} {got}, not {wanted['seconds']}"


def duration(asset: Asset, wanted: dict[str, Any]) -> Iterator[str]:
    yield from _near("lasts", asset.duration, wanted)


def size_as_displayed(asset: Asset, wanted: str) -> Iterator[str]:
    told = probe(asset)
    if f"{told.width}x{told.height}" != wanted:
        yield f"probe tells {told.width}x{told.height}, not {wanted}"
    h, w = next(pictures(asset, size=native())).rgb.shape[:2]
    if f"{w}x{h}" != wanted:
        yield f"pictures have {w}x{h}, not {wanted}"


def size(asset: Asset, wanted: str) -> Iterator[str]:
    told = probe(asset)
    h, w = next(pictures(asset, size=native())).rgb.shape[:2]
    if (told.width, told.height) != (w, h):
        yield f"probe tells {told.width}x{told.height}, pictures have {w}x{h}"


def pictures_a_second(asset: Asset, wanted: float) -> Iterator[str]:
    told = probe(asset).frame_rate
    if told is None or abs(told - wanted) > 0.01 * wanted:
        yield f"{told}, not {wanted}"


def _times(asset: Asset) -> list[float]:
    return [p.time for p in pictures(asset, size=THUMB)]


def count(asset: Asset, wanted: int | list[int]) -> Iterator[str]:
    got = len(_times(asset))
    least, most = wanted if isinstance(wanted, list) else (wanted, wanted)
    if not least <= got <= most:
        yield f"{got}, not {wanted}"


def first_and_last_time(asset: Asset, wanted: dict[str, Any]) -> Iterator[str]:
    times = _times(asset)
    for got, right in zip((times[0], times[-1]), wanted["seconds"], strict=True):
        if abs(got - right) > wanted["within"]:
            yield f"{got}, not {right}"


def last_time(asset: Asset, wanted: dict[str, Any]) -> Iterator[str]:
    yield from _near("last at", _times(asset)[-1], wanted)


def times(asset: Asset, wanted: Any) -> Iterator[str]:
    got = _times(asset)
    if sorted(set(got)) != got:
        yield "not ascending, or twice"
    listed = [float(t) for t in picture_times(asset)]
    if listed != got:
        off = next((i for i, (a, b) in enumerate(zip(listed, got, strict=False)) if a != b), None)
        yield f"timeline has {len(listed)}, decoded are {len(got)}; the first that differs is {off}"
    if isinstance(wanted, dict):
        if (
            len(got) != len(wanted["seconds"])
            or np.abs(np.subtract(got, wanted["seconds"])).max() > wanted["within"]
        ):
            yield f"{got}, not {wanted['seconds']}"
    elif wanted.startswith("i / 25 s") and np.abs(np.array(got) - np.arange(len(got)) / 25).max() > 0.002:
        yield "not i / 25 s"


def brightness(asset: Asset, wanted: dict[str, Any]) -> Iterator[str]:
    right = {float(at): value for at, value in wanted["at"].items()}
    moments = sorted(right)
    if "by segments" in wanted.get("note", ""):
        shown = [next(pictures_at(asset, [at], THUMB)) for at in moments]
    else:
        # A little later: clocks of a millisecond put a picture of 2.5 s at 2.503 s.
        shown = list(pictures_at(asset, [at + 0.01 for at in moments], THUMB))
    for at, picture in zip(moments, shown, strict=True):
        if abs(luma(picture.rgb) - right[at]) > wanted["within"]:
            yield f"at {at:g} s {luma(picture.rgb):.3f}, not {right[at]}"


def cuts_end_at(asset: Asset, wanted: dict[str, Any]) -> Iterator[str]:
    found: list[float] = []
    before: float | None = None
    for picture in pictures(asset, size=THUMB):
        now = luma(picture.rgb)
        if before is not None and abs(now - before) > 0.06:
            found.append(picture.time)
        before = now
    right = wanted["seconds"]
    if len(found) != len(right) or any(
        abs(a - b) > wanted["within"] for a, b in zip(found, right, strict=True)
    ):
        yield f"{found}, not {right}"


def corners_as_seen(asset: Asset, wanted: dict[str, str] | str) -> Iterator[str]:
    rgb = next(pictures(asset, size=native())).rgb.astype(int)
    h, w = rgb.shape[:2]
    seen = {}
    for corner, (y, x) in {"tl": (1, 1), "tr": (1, 3), "bl": (3, 1), "br": (3, 3)}.items():
        pixel = rgb[y * h // 4, x * w // 4]
        seen[corner] = min(COLOURS, key=lambda name: float(np.abs(pixel - COLOURS[name]).sum()))
    if isinstance(wanted, dict) and seen != wanted:
        yield f"{seen}, not {wanted}"
    if isinstance(wanted, str) and len(set(seen.values())) != 4:
        yield f"{seen}"


def channels(asset: Asset, wanted: int) -> Iterator[str]:
    told = [s.channels for s in probe(asset).streams if s.kind == "audio"]
    if wanted not in told:
        yield f"{told}, not {wanted}"


def sample_rate(asset: Asset, wanted: int) -> Iterator[str]:
    told = [s.sample_rate for s in probe(asset).streams if s.kind == "audio"]
    if wanted not in told:
        yield f"{told}, not {wanted}"


def loudness_lufs(asset: Asset, wanted: dict[str, float]) -> Iterator[str]:
    got = loudness(asset).integrated
    if not wanted["least"] <= got <= wanted["most"]:
        yield f"{got}, not {wanted['least']} to {wanted['most']}"


def loudness_or_time(asset: Asset, wanted: str) -> Iterator[str]:
    least, most = map(float, re.findall(r"\d+\.\d+", wanted))
    try:
        loudness(asset)
    except MediaError as error:
        said = [float(x) for x in re.findall(r"at about (\d+\.\d+) s", str(error))]
        if not said or not least <= said[0] <= most:
            yield f"said {error}"


def tone(asset: Asset, wanted: dict[str, float]) -> Iterator[str]:
    samples = mono(asset, RATE)
    a, b = int(wanted["from"] * RATE), min(len(samples), int(wanted["to"] * RATE))
    step = RATE // 10
    for at in range(a, b - step + 1, step):
        part = samples[at : at + step]
        peak = np.abs(np.fft.rfft(part * np.hanning(len(part)))).argmax() * RATE / len(part)
        if np.abs(part).max() < 1e-3 or abs(peak - wanted["hertz"]) > wanted["within_hertz"]:
            yield f"at {at / RATE:.2f} s {peak:.0f} Hz at {np.abs(part).max():.4f}"


def burst_begins(asset: Asset, wanted: dict[str, float]) -> Iterator[str]:
    for start, samples in _wholes_and_parts(asset):
        loud = np.flatnonzero(np.abs(samples) > 0.02)
        if start is None:
            yield from _near("begins at", loud[0] / RATE if len(loud) else None, wanted)
        elif len(loud) and start + loud[0] / RATE < wanted["seconds"] - wanted["within"]:
            yield f"in the part from {start:g} s it begins at {start + loud[0] / RATE}"


def _wholes_and_parts(asset: Asset) -> Iterator[tuple[float | None, np.ndarray]]:
    yield None, mono(asset, RATE)
    for second in range(int(asset.duration or 0)):
        yield float(second), mono(asset, RATE, second, second + 1)


def in_segments(asset: Asset, wanted: str) -> Iterator[str]:
    length = asset.duration or 0
    grid = [Segment(asset, k * MICRO, MICRO) for k in range(max(1, int(np.ceil(length - 1e-6))))]
    if asset.has_video:
        whole = [(p.time, p.rgb) for p in pictures(asset, size=THUMB)]
        parts = [(p.time, p.rgb) for clip in grid for p in pictures(asset, *window(clip), size=THUMB)]
        if [t for t, _ in whole] != [t for t, _ in parts]:
            yield f"{len(parts)} pictures in segments, {len(whole)} of the whole"
        elif worst := max(
            (int(np.abs(a.astype(int) - b).max()) for (_, a), (_, b) in zip(whole, parts, strict=True)),
            default=0,
        ):
            yield f"pictures differ by {worst}"
        half = [(p.time, p.rgb) for p in pictures(asset, fps=2.0, size=THUMB)]
        parts = [
            (p.time, p.rgb) for clip in grid for p in pictures(asset, *window(clip), fps=2.0, size=THUMB)
        ]
        if [t for t, _ in half] != [t for t, _ in parts] or any(
            (a != b).any() for (_, a), (_, b) in zip(half, parts, strict=True)
        ):
            yield f"at 2 a second {[t for t, _ in parts]} in segments, {[t for t, _ in half]} of the whole"
    if asset.has_audio and not _sound_is_refused(asset):
        whole_sound = mono(asset, RATE)
        joined = np.concatenate([mono(asset, RATE, k, min(k + 1, length)) for k in range(len(grid))])
        if joined.shape != whole_sound.shape:
            yield f"{len(joined)} samples in segments, {len(whole_sound)} of the whole"
        elif (worst := float(np.abs(joined - whole_sound).max())) > 0.02:
            at = int(np.abs(joined - whole_sound).argmax())
            yield f"sound differs by {worst:.3f} at {at / RATE:.3f} s"


def _sound_is_refused(asset: Asset) -> bool:
    """Whether the sound as a whole is refused; that is `loudness`'s to judge."""
    try:
        mono(asset, RATE)
    except MediaError:
        return True
    return False


def text(asset: Asset, wanted: str) -> Iterator[str]:
    clip = Segment(asset, 0, 60 * MICRO)
    found = " ".join(line.text for line in TextReader()(clip))
    if wanted.replace(" ", "") not in found.replace(" ", ""):
        yield f"read {found!r}, not {wanted!r}"


def before_the_break(asset: Asset, wanted: str) -> Iterator[str]:
    seen: list[bytes] = []
    for second in range(4):
        seen += [p.rgb.tobytes() for p in pictures(asset, second, second + 1, size=THUMB)]
    if len(seen) != 100 or any(a == b for a, b in itertools.pairwise(seen)):
        yield f"{len(seen)} pictures"


def behind_it(asset: Asset, wanted: str) -> Iterator[str]:
    try:
        for picture in pictures(asset, size=THUMB):
            last = picture.time
        if "or there is nothing more" not in wanted or last > (asset.duration or 0):
            yield "nothing is said"
    except MediaError as error:
        if not re.search(r"\d+\.\d+ s", str(error)):
            yield f"said {error}"


def passed(asset: Asset, wanted: Any) -> Iterator[str]:
    return iter(())


CHECKS: dict[str, Callable[[Asset, Any], Iterator[str]]] = {
    "duration": duration,
    "size_as_displayed": size_as_displayed,
    "size": size,
    "pictures_a_second": pictures_a_second,
    "pictures": count,
    "first_and_last_time": first_and_last_time,
    "last_time": last_time,
    "times": times,
    "brightness": brightness,
    "cuts_end_at": cuts_end_at,
    "corners_as_seen": corners_as_seen,
    "channels": channels,
    "sample_rate": sample_rate,
    "loudness_LUFS": loudness_lufs,
    "loudness": loudness_or_time,
    "tone": tone,
    "burst_begins": burst_begins,
    "in_segments_of_1_s": in_segments,
    "text": text,
    "before_the_break": before_the_break,
    "behind_it": behind_it,
    "answered_within_seconds": passed,
}
