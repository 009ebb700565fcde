"""Small media, broken in every way that a seed can think of, through the catalogue and the features.

Run by itself it tries as many seeds as wanted:  python -m tests.fuzz.media --seeds 5000
Each item runs in a worker process with bounds on memory and time. A worker that dies, hangs or grows is a
finding, and so is any exception but Amber's own refusals.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from amber_ray.core.declare.feature import FeatureSpec

ITEM_SECONDS = 30
"""An item that takes longer counts as a hang."""
ADDRESS_BYTES = 6 << 30
RESIDENT_BYTES = 1 << 30
FROM_THE_CORPUS = 1_000_000
"""Seeds from which on the files that are broken are odd to begin with."""
ODD = Path(__file__).parents[1] / "odd" / "files"
EXTREMES = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(frozen=True)
class Finding:
    """What should not have happened to an item."""

    seed: int
    what: str


def originals(folder: Path) -> list[Path]:
    """One small file of each kind, made in `folder`."""
    from tests.media import textured, tone, write_picture, write_sound, write_video

    shown = [textured(i % 5, 64, 48) for i in range(24)]
    sound = tone(1.0)
    made = [
        write_video(folder / "a.mp4", shown, gop=8, sound=sound),
        write_video(folder / "b.mkv", shown, gop=8),
        write_video(folder / "c.webm", shown, codec="libvpx", options={}, sound=sound),
        write_video(folder / "d.mpg", shown, codec="mpeg2video", options={}),
        write_video(folder / "e.ts", shown, sound=sound),
        write_video(folder / "f.avi", shown, codec="mpeg4", options={}),
        write_video(folder / "g.mov", shown, codec="mpeg4", options={}),
        write_sound(folder / "h.wav", sound),
        write_sound(folder / "i.mp3", sound),
        write_sound(folder / "j.flac", sound),
        write_sound(folder / "k.opus", sound, codec="libopus"),
        write_picture(folder / "l.jpg", textured(1, 320, 240), orientation=6),
        write_picture(folder / "m.png", textured(2, 320, 240)),
        write_picture(folder / "n.webp", textured(3, 320, 240)),
        write_picture(folder / "o.gif", textured(4, 320, 240)),
    ]
    return made


def broken(seed: int, files: list[Path]) -> tuple[str, bytes]:
    """The item of a seed: a name and its bytes."""
    rng = random.Random(seed)
    path = rng.choice(files)
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(WAYS)(rng, data, files)
    return f"{seed}{path.suffix}", bytes(data)


def _flip(rng: random.Random, data: bytearray, files: list[Path]) -> None:
    for _ in range(rng.choice((1, 4, 16, 64))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _flip_head(rng: random.Random, data: bytearray, files: list[Path]) -> None:
    for _ in range(rng.choice((1, 2, 8))):
        if data:
            data[rng.randrange(min(len(data), 400))] = rng.randrange(256)


def _truncate(rng: random.Random, data: bytearray, files: list[Path]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _lie(rng: random.Random, data: bytearray, files: list[Path]) -> None:
    """Extreme numbers where sizes, counts and times may be."""
    for _ in range(rng.choice((1, 3))):
        if len(data) > 8:
            at = (
                rng.randrange(len(data) - 4)
                if rng.random() < 0.3
                else rng.randrange(min(1500, len(data) - 4))
            )
            struct.pack_into(rng.choice((">I", "<I")), data, at, rng.choice(EXTREMES))


def _erase(rng: random.Random, data: bytearray, files: list[Path]) -> None:
    a = rng.randrange(len(data) + 1)
    b = min(len(data), a + rng.choice((16, 512, 8192)))
    data[a:b] = bytes(b - a)


def _repeat(rng: random.Random, data: bytearray, files: list[Path]) -> None:
    a = rng.randrange(len(data) + 1)
    part = bytes(data[a : a + rng.choice((64, 4096))])
    data[a:a] = part * rng.choice((1, 5, 200))


def _splice(rng: random.Random, data: bytearray, files: list[Path]) -> None:
    other = rng.choice(files).read_bytes()
    a, b = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
    data[a:] = other[b:]


WAYS: tuple[Callable[[random.Random, bytearray, list[Path]], None], ...] = (
    _flip,
    _flip,
    _flip_head,
    _flip_head,
    _truncate,
    _lie,
    _lie,
    _erase,
    _repeat,
    _splice,
)


# --- a worker


def work(folder: Path, features: tuple[str, ...]) -> None:
    """Answer each path on stdin with one line of JSON: what became of it, and the most memory so far."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    from amber_ray.media import bounds
    from amber_ray.media.catalogue import Catalogue
    from amber_ray.media.locate import Locator
    from amber_ray.settings import Limits

    limits = Limits(media_seconds=3600.0, decode_seconds=10.0, frame_pixels=4096 * 4096)
    catalogue = Catalogue(str(folder / "store"), Locator([str(folder)]), limits)
    specs = chosen(features)
    for line in sys.stdin:
        with bounds.within(limits):
            outcome = try_one(catalogue, specs, line.strip())
        print(json.dumps({"outcome": outcome, "bytes": most_bytes()}), flush=True)


def most_bytes() -> int:
    """The most memory that this program had at once; `getrusage` would count the one that started it too."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))


def chosen(modules: Sequence[str]) -> list[FeatureSpec]:
    """The built-in features of these modules, inputs first; the finder of some is perhaps in another."""
    from amber_ray.core.declare.registry import Registry
    from amber_ray.features import BUILTINS

    registry = Registry.from_modules(BUILTINS)
    return [spec for spec in registry if spec.target.__module__.rpartition(".")[2] in modules]


def try_one(catalogue: Any, specs: Sequence[FeatureSpec], path: str) -> str:
    """How an item fared: "refused", "values", or "finding: ..." for what no caller should see."""
    from amber_ray.core.model.units import segments
    from amber_ray.errors import AmberError

    try:
        asset = catalogue.add(path)
    except AmberError as error:
        return "refused" if str(error) else "finding: an error without a word"
    except Exception as error:  # the finding
        return f"finding: {type(error).__name__} from the catalogue: {error}"
    got = 0
    clip = segments(asset, 60.0)[0]
    made: dict[str, Any] = {}
    for spec in specs:
        try:
            given = {n: made[n] for n in spec.inputs}
        except KeyError:
            continue  # an input was refused
        if spec.unit_argument is not None:
            given[spec.unit_argument] = asset if spec.per == "asset" else clip
        try:
            made[spec.name] = spec.returns.check(_ready(spec)(**given))
            got += 1
        except AmberError as error:
            if not str(error):
                return f"finding: {spec.name} failed without a word"
        except Exception as error:  # the finding
            return f"finding: {type(error).__name__} from {spec.name}: {error}"
    return "values" if got else "refused"


_MODELS: dict[str, Any] = {}


def _ready(spec: Any) -> Any:
    """A feature as a function; a class is made once, as on a warm actor."""
    if not spec.is_class:
        return spec.target
    if spec.name not in _MODELS:
        _MODELS[spec.name] = spec.target()
    return _MODELS[spec.name]


# --- many of them


def hunt(seeds: range, features: tuple[str, ...], folder: Path) -> Iterator[tuple[int, str]]:
    """The outcome of each seed; one that starts with "finding" should not be."""
    files, odd = originals(folder), sorted(ODD.iterdir())
    worker: subprocess.Popen[str] | None = None
    for seed in seeds:
        name, data = broken(seed, odd if seed >= FROM_THE_CORPUS else files)
        path = folder / name
        path.write_bytes(data)
        if worker is None:
            worker = _worker(folder, features)
        outcome = _ask(worker, path)
        if outcome.startswith("finding"):
            worker.kill()
            worker.wait()
            worker = None
        else:
            path.unlink()
        yield seed, outcome
    if worker is not None:
        worker.kill()
        worker.wait()


def _worker(folder: Path, features: tuple[str, ...]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.media", "--work", str(folder), "--features", ",".join(features)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


def _ask(worker: subprocess.Popen[str], path: Path) -> str:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{path}\n")
    worker.stdin.flush()
    ready, _, _ = select.select([worker.stdout], [], [], ITEM_SECONDS)
    if not ready:
        return f"finding: no end within {ITEM_SECONDS} s"
    line = worker.stdout.readline()
    if not line:
        code = worker.wait(10)
        return f"finding: the process died of {signal.Signals(-code).name if code < 0 else code}"
    told = json.loads(line)
    if told["bytes"] > RESIDENT_BYTES:
        return f"finding: {told['bytes'] >> 20} MiB of memory"
    return str(told["outcome"])


FEATURES = ("probe", "frames", "light", "loudness", "audio", "speech", "preview", "proxy")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--features", default=",".join(FEATURES))
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    features = tuple(args.features.split(","))
    if args.work is not None:
        work(args.work, features)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="amber-fuzz-"))
    began, counts = time.monotonic(), dict.fromkeys(("refused", "values", "finding"), 0)
    for seed, outcome in hunt(range(args.start, args.start + args.seeds), features, folder):
        counts[outcome.partition(":")[0]] += 1
        if outcome.startswith("finding"):
            print(f"seed {seed}: {outcome} ({folder})")
    print(f"{counts} in {time.monotonic() - began:.0f} s")
    return 1 if counts["finding"] else 0


if __name__ == "__main__":
    np.seterr(all="ignore")
    raise SystemExit(main())
