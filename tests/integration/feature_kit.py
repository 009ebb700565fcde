"""Features for integration tests: each run leaves a line on disk, and gates are files that tests make."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from jaxtyping import Float32, UInt8

from amber_ray import Asset, Clip, Collection, RetryLater, feature


def ran(name: str, what: str = "") -> None:
    """Leave a trace of one run; appending a short line is atomic."""
    with open(Path(os.environ["AMBER_TEST_DIR"]) / f"{name}.runs", "a") as file:
        file.write(f"{what}\n")


def gate(name: str, seconds: float = 240.0) -> None:
    """Wait until the test opens the gate."""
    path = Path(os.environ["AMBER_TEST_DIR"]) / f"{name}.open"
    give_up = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > give_up:
            raise TimeoutError(f"gate {name} was not opened")
        time.sleep(0.01)


@feature(version="1")
def size(asset: Asset) -> int:
    ran("size", asset.id)
    return asset.bytes


@feature(version="1")
def gated(asset: Asset, name: str = "gated") -> int:
    ran("gated", asset.id)
    gate(name)
    return asset.bytes


@feature(version="1")
def held(asset: Asset) -> int:
    ran("held", asset.id)
    gate(asset.id)
    return asset.bytes


@feature(version="1", per="segment", store="never")
def root(clip: Clip) -> UInt8[np.ndarray, " n"]:
    ran("root", f"{clip.index}")
    return np.arange(10, dtype=np.uint8) + clip.index


@feature(version="1", per="segment")
def left(root: np.ndarray) -> Float32[np.ndarray, " n"]:
    ran("left")
    return root.astype(np.float32) * 2


@feature(version="1", per="segment")
def right(root: np.ndarray) -> Float32[np.ndarray, " n"]:
    ran("right")
    return root.astype(np.float32) * 3


@feature(version="1")
def diamond(left: list[np.ndarray], right: list[np.ndarray]) -> float:
    ran("diamond")
    return float(sum(a.sum() + b.sum() for a, b in zip(left, right, strict=True)))


@feature(version="1")
def diamond_too(left: list[np.ndarray], right: list[np.ndarray]) -> float:
    ran("diamond_too")
    return float(len(left) + len(right))


@feature(version="1", per="segment")
def slow_left(clip: Clip) -> int:
    ran("slow_left")
    gate("slow_left")
    return clip.index


@feature(version="1")
def first_leaf(slow_left: list[int]) -> int:
    ran("first_leaf")
    return sum(slow_left)


@feature(version="1")
def second_leaf(slow_left: list[int]) -> int:
    ran("second_leaf")
    return len(slow_left)


@feature(version="1", per="segment")
def big(clip: Clip, megabytes: int = 1) -> Float32[np.ndarray, " n"]:
    ran("big", f"{clip.index}")
    return np.full(megabytes * 262_144, clip.index, np.float32)


@feature(version="1")
def together(collection: Collection, size: list[int]) -> int:
    ran("together")
    return sum(size) + len(collection.assets)


@dataclass
class Odd:
    name: str
    scores: Float32[np.ndarray, "n 3"]
    maybe: float | None


@feature(version="1")
def odd(asset: Asset) -> list[Odd]:
    return [
        Odd("NaN", np.array([[np.nan, -0.0, np.inf]], np.float32), None),
        Odd("empty", np.zeros((0, 3), np.float32), 1.5),
    ]


@feature(version="1", per="segment", batch=8)
class Doubler:
    def __init__(self, factor: int = 2) -> None:
        ran("doubler_init", str(factor))
        self.factor = factor

    def __call__(self, root: np.ndarray) -> int:
        return self.batch([root])[0]

    def batch(self, root: list[np.ndarray]) -> list[int]:
        ran("doubler", str(len(root)))
        return [int(r.sum()) * self.factor for r in root]


@feature(version="1", num_cpus=2, batch=2, retries=0)
class Victim:
    """Waits at a gate; takes the whole of two CPUs, so that there is one actor."""

    def __init__(self) -> None:
        ran("victim_init")

    def __call__(self, asset: Asset) -> int:
        return self.batch([asset])[0]

    def batch(self, asset: list[Asset]) -> list[int]:
        ran("victim", " ".join([str(os.getpid()), *(a.id for a in asset)]))
        gate("victim")
        return [a.bytes for a in asset]


@feature(version="1", num_cpus=2, batch=4, retries=1)
class Picky:
    """Can't bear one asset: raises at it, or takes its process along."""

    def __init__(self, poison: str = "", deadly: bool = False) -> None:
        self.poison, self.deadly = poison, deadly

    def __call__(self, asset: Asset) -> int:
        return self.batch([asset])[0]

    def batch(self, asset: list[Asset]) -> list[int]:
        ran("picky", " ".join(a.id for a in asset))
        if self.poison in [a.id for a in asset]:
            if self.deadly:
                os._exit(3)
            raise ValueError("poison")
        return [a.bytes for a in asset]


@feature(version="1")
def decoded(asset: Asset) -> int:
    ran("decoded", asset.id)
    return asset.bytes


@feature(version="1", num_gpus=1, num_cpus=0, batch=2)
class OnGpu:
    def __call__(self, decoded: int) -> int:
        return self.batch([decoded])[0]

    def batch(self, decoded: list[int]) -> list[int]:
        ran("on_gpu", str(len(decoded)))
        gate("on_gpu")
        return decoded


@feature(version="1", batch=4)
class Unloadable:
    def __init__(self) -> None:
        raise OSError("no weights in this package")

    def __call__(self, asset: Asset) -> int:
        return 0

    def batch(self, asset: list[Asset]) -> list[int]:
        return [0 for _ in asset]


@feature(version="1")
def raises(asset: Asset) -> int:
    ran("raises")
    logging.getLogger("a.library").warning("clouds\ncome up")
    raise ValueError("the moon is full")


@feature(version="1")
def after_raises(raises: int) -> int:
    return raises


@feature(version="1")
def wrong_type(asset: Asset) -> int:
    return "text"  # type: ignore[return-value]


@feature(version="1", retries=1)
def dies(asset: Asset) -> int:
    ran("dies")
    os._exit(3)


@feature(version="1", timeout=1.0, retries=0)
def hangs(asset: Asset) -> int:
    ran("hangs")
    time.sleep(600)
    return 1


@feature(version="1", num_gpus=1)
def needs_gpu(asset: Asset) -> int:
    return 1


@feature(version="1", num_gpus=0.5, gpu="preferred")
def likes_gpu(asset: Asset) -> int:
    return 1


@feature(version="1", num_gpus=8)
def needs_gpus(asset: Asset) -> int:
    return 1


@feature(version="1", num_gpus=0.5, num_cpus=0)
def half_gpu(asset: Asset) -> int:
    """Counts how many run at once with files that stand while they run."""
    folder = Path(os.environ["AMBER_TEST_DIR"])
    mine = folder / f"{asset.id}.running"
    mine.touch()
    ran("half_gpu")
    try:
        gate("half_gpu")
        ran("half_gpu_peak", str(len(list(folder.glob("*.running")))))
        # Those that run now stay until each has counted.
        give_up = time.monotonic() + 30
        while len(list(folder.glob("half_gpu_peak.runs"))) == 0 and time.monotonic() < give_up:
            time.sleep(0.01)
        time.sleep(0.1)
    finally:
        mine.unlink()
    return 1


async def opened(name: str, seconds: float = 60.0) -> None:
    """As `gate`, for a feature that waits as callers of services do."""
    path = Path(os.environ["AMBER_TEST_DIR"]) / f"{name}.open"
    async with asyncio.timeout(seconds):
        while not path.exists():
            await asyncio.sleep(0.01)


@feature(version="1", concurrency=3, retries=0)
async def calls(asset: Asset) -> int:
    """A call that ends when its gate is open; leaves a line for its begin (+) and its end (-, or x)."""
    ran("calls", f"+ {asset.id} {os.getpid()}")
    try:
        await opened("calls")
    except asyncio.CancelledError:
        ran("calls", f"x {asset.id}")
        raise
    ran("calls", f"- {asset.id}")
    return asset.bytes


@feature(version="1", concurrency=50, rate="20/s")
async def paced(asset: Asset) -> int:
    ran("paced", str(time.monotonic()))
    return asset.bytes


@feature(version="1", concurrency=4, retry_status=(429, 503), retries=0)
class Fetched:
    """Asks a server with one client for all calls."""

    def __init__(self, server: str = "") -> None:
        ran("fetched_init")
        self.client = httpx.AsyncClient(base_url=server)

    async def __call__(self, asset: Asset) -> str:
        answer = await self.client.get(f"/{asset.id}")
        answer.raise_for_status()
        return answer.text


@feature(version="1", retries=0)
def patient(asset: Asset) -> int:
    """A plain function that puts itself off twice."""
    ran("patient")
    if len((Path(os.environ["AMBER_TEST_DIR"]) / "patient.runs").read_text().splitlines()) < 3:
        raise RetryLater(0.3, "not yet")
    return asset.bytes


@feature(version="1", concurrency=8, timeout=1.0, retries=0)
async def moody(asset: Asset, hang: str = "", swallow: str = "", exploding: str = "") -> int:
    """Hangs at one asset, cancels something of its own at another, and raises at a third."""
    ran("moody", asset.id)
    if asset.id == hang:
        await asyncio.sleep(600)
    if asset.id == swallow:
        task = asyncio.create_task(asyncio.sleep(600))
        task.cancel()
        await task
    if asset.id == exploding:
        raise ValueError("the moon is full")
    return asset.bytes


@dataclass
class Mark:
    start: float
    end: float


@feature(version="1")
def marks(asset: Asset, at: str = "3,17,20") -> list[Mark]:
    """Ranges between the given seconds, in no order and one of them twice; "told" are those in a file."""
    ran("marks", at)
    if at == "told":
        at = (Path(os.environ["AMBER_TEST_DIR"]) / "marks.told").read_text()
    times = [0.0, *map(float, at.split(",") if at else ())]
    found = [Mark(a, b) for a, b in itertools.pairwise(times)]
    return [*reversed(found), *found[:1]]


@feature(version="1", per="marks", retries=0)
def mark_span(clip: Clip, bad: float = -1.0, gated: bool = False) -> list[float]:
    ran("mark_span", f"{clip.start:g}-{clip.end:g}")
    if gated:
        gate("mark_span")
    if clip.start == bad:
        raise ValueError("this one is bad")
    return [clip.start, clip.end]


@feature(version="1")
def mark_list(mark_span: list[list[float]]) -> list[list[float]]:
    ran("mark_list")
    return mark_span


@feature(version="1", per="collection")
def mark_lists(mark_span: list[list[list[float]]]) -> list[list[list[float]]]:
    ran("mark_lists")
    return mark_span


@feature(version="1")
def acts(asset: Asset, gated: str = "") -> list[Mark]:
    """[0, 3), [3, 17) and [17, 20), after a gate if it is named."""
    ran("acts", f"{os.getpid()} {asset.id}")
    if gated:
        gate(gated)
    return [Mark(0.0, 3.0), Mark(3.0, 17.0), Mark(17.0, 20.0)]


@feature(version="1", per="acts")
def act(clip: Clip) -> list[float]:
    """Says which process it runs in, then waits at a gate of its window's own."""
    return played("act", clip)


def played(name: str, clip: Clip) -> list[float]:
    """What `act` does, under a name."""
    ran(name, f"{os.getpid()} {clip.asset.id} {clip.start:g}")
    gate(f"{name}-{clip.asset.id}-{clip.start:g}")
    return [clip.start, clip.end]


@feature(version="1")
def play(act: list[list[float]]) -> list[list[float]]:
    ran("play")
    return act


@feature(version="1", per="collection")
def plays(act: list[list[list[float]]]) -> list[list[list[float]]]:
    ran("plays")
    return act


@feature(version="1", per="marks")
def mark_double(left: np.ndarray) -> int:
    return len(left)


@feature(version="1", per="acts")
def act_double(left: np.ndarray) -> int:
    return len(left)
