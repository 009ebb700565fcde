"""The features that are measured: one counts its runs, some do nothing, some only take time or room."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from amber_ray import Asset, Clip, feature


@feature(version="1", store="memory")
def counted(asset: Asset, log: str = "", seconds: float = 0.5, salt: int = 0) -> str:
    """Takes `seconds` and leaves a line in the file `log`."""
    with open(log, "a", encoding="ascii") as file:
        file.write(f"{os.getpid()} {salt}\n")
    time.sleep(seconds)
    return f"{asset.id} {salt}"


@feature(version="1", store="memory")
def held(asset: Asset, gate: str = "") -> int:
    """Waits, for two minutes at most, until the file `gate` is there."""
    until = time.monotonic() + 120
    while not os.path.exists(gate) and time.monotonic() < until:
        time.sleep(0.005)
    return asset.bytes


@feature(version="1", store="memory")
def letters(asset: Asset, size: int = 1000) -> str:
    """A value of `size` characters."""
    return asset.id[0] * size


@feature(version="1")
def weight(asset: Asset) -> float:
    """A small value that is stored."""
    return float(asset.bytes)


@feature(version="1", store="memory")
def noop_top(clip: Clip, salt: int = 0) -> int:
    """The diamond's source."""
    return clip.index


@feature(version="1", per="segment", store="memory")
def noop_left(noop_top: int) -> int:
    """One side."""
    return noop_top


@feature(version="1", per="segment", store="memory")
def noop_right(noop_top: int) -> int:
    """The other side."""
    return noop_top


@feature(version="1", per="segment", store="memory")
def noop_leaf(noop_left: int, noop_right: int) -> int:
    """Where the sides meet."""
    return noop_left + noop_right


@dataclass(frozen=True, slots=True)
class Window:
    """A range, in seconds."""

    start: float
    end: float


@feature(version="1", store="memory")
def windows(asset: Asset, count: int = 10, salt: int = 0) -> list[Window]:
    """`count` ranges of the asset, each as long as the others."""
    each = (asset.duration or 0.0) / count
    return [Window(i * each, (i + 0.9) * each) for i in range(count)]


@feature(version="1", per="windows", store="memory")
def noop_found(clip: Clip, salt: int = 0) -> int:
    """Does nothing, once for each of them."""
    return 0


@feature(version="1", store="memory")
def noop_segment(clip: Clip, salt: int = 0) -> int:
    """Does nothing, once for each segment."""
    return 0


@feature(version="1", per="segment")
def block(clip: Clip, megabytes: int = 1) -> np.ndarray:
    """Noise of that size, which no codec makes smaller: float32."""
    return noise(clip.index, megabytes)


@feature(version="1", store="memory")
def array(clip: Clip, megabytes: int = 1) -> np.ndarray:
    """The same as `block`, which never goes to disk."""
    return noise(clip.index, megabytes)


@feature(version="1")
def vector(clip: Clip, numbers: int = 1280) -> Float32[np.ndarray, " n"]:
    """As large as an embedding, and as little to compress."""
    return np.random.default_rng(clip.index).random(numbers, dtype=np.float32)


@feature(version="1", store="memory")
def nap(clip: Clip, seconds: float = 0.05, salt: int = 0) -> int:
    """Sleeps."""
    time.sleep(seconds)
    return clip.index


@feature(version="1", store="memory")
def link_0(asset: Asset, salt: int = 0) -> int:
    """The first link of a chain."""
    return asset.bytes


@feature(version="1", store="memory")
def link_1(link_0: int) -> int:
    """A link."""
    return link_0


@feature(version="1", store="memory")
def link_2(link_1: int) -> int:
    """A link."""
    return link_1


@feature(version="1", store="memory")
def link_3(link_2: int) -> int:
    """A link."""
    return link_2


@feature(version="1", store="memory")
def link_4(link_3: int) -> int:
    """A link."""
    return link_3


@feature(version="1", store="memory")
def link_5(link_4: int) -> int:
    """A link."""
    return link_4


@feature(version="1", store="memory")
def link_6(link_5: int) -> int:
    """A link."""
    return link_5


@feature(version="1", store="memory")
def link_7(link_6: int) -> int:
    """A link."""
    return link_6


@feature(version="1", store="memory")
def link_8(link_7: int) -> int:
    """A link."""
    return link_7


@feature(version="1", store="memory")
def link_9(link_8: int) -> int:
    """The last link of the chain."""
    return link_8


def noise(seed: int, megabytes: int) -> np.ndarray:
    """The same noise for the same seed."""
    return np.random.default_rng(seed).random(megabytes << 18, dtype=np.float32)


@feature(version="1", concurrency=100)
class Asked:
    """What a service at `server` (a host and a port) says, over connections that are used again.

    By hand, since httpx's pool of a hundred connections alone takes 5 ms of processor time for each call.
    """

    def __init__(self, server: str = "") -> None:
        self.host, _, self.port = server.partition(":")
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __call__(self, asset: Asset) -> str:
        """One call."""
        talk = self.idle.pop() if self.idle else await asyncio.open_connection(self.host, int(self.port))
        reader, writer = talk
        writer.write(f"GET /{asset.id} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        text = (await reader.readexactly(length)).decode()
        self.idle.append(talk)
        return text


@feature(version="1", concurrency=100, rate="20/s")
class AskedSlowly(Asked):
    """The same, at most 20 times a second."""

    async def __call__(self, asset: Asset) -> str:
        """One call."""
        return await super().__call__(asset)
