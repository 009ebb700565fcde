"""Broken media by the hundred, and the kinds of lies that were made by hand."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.fuzz.media import FEATURES, FROM_THE_CORPUS, ITEM_SECONDS, _ask, _worker, hunt

SEEDS, ODD_SEEDS = 300, 200
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(("start", "count"), [(0, SEEDS), (FROM_THE_CORPUS, ODD_SEEDS)])
def test_broken_media_end_in_values_or_in_a_refusal(tmp_path: Path, start: int, count: int) -> None:
    outcomes = dict(hunt(range(start, start + count), FEATURES, tmp_path))
    findings = {seed: o for seed, o in outcomes.items() if o.startswith("finding")}
    assert not findings, f"python -m tests.fuzz.media --seeds 1 --start SEED replays one of {findings}"
    assert min(sum(o == kind for o in outcomes.values()) for kind in ("refused", "values")) > count // 10


# Seeds that once broke something, by what they broke.
@pytest.mark.parametrize("seed", [441, 2745, 3269, 5042])
def test_what_once_broke_something(tmp_path: Path, seed: int) -> None:
    assert not [o for _, o in hunt(range(seed, seed + 1), FEATURES, tmp_path) if o.startswith("finding")]


def png(width: int, height: int, zeros: int = 0) -> bytes:
    """A picture of so many bytes, however large it says it is; nearly none, where that is not said."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(1)
    left = zeros or 1 + 3 * min(width, 1000)
    data = b"".join(packer.compress(bytes(min(1 << 20, left - at))) for at in range(0, left, 1 << 20))
    data += packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def wav(claimed: int, samples: int = 8000, rate: int = 8000) -> bytes:
    head = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", claimed, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate & 0xFFFFFFFF, 2, 16
    )
    return head + struct.pack("<4sI", b"data", claimed) + bytes(2 * samples)


BOMBS: dict[str, bytes | Callable[[], bytes]] = {
    "vast.png": png(0x7FFFFFFF, 0x7FFFFFFF),
    "wide.png": png(0x7FFFFFFF, 1),
    "no-size.png": png(0, 0),
    "bomb.png": partial(png, 20_000, 20_000, 20_000 * 60_001),  # takes seconds: when it is needed
    "long.wav": wav(0xFFFFFFFF),
    "fast.wav": wav(16_000, rate=0xFFFFFFFF),
    "still.wav": wav(16_000, rate=0),
    "endless.ts": b"\x47\x1f\xff\x10" + b"\xff" * 184,
    "zeros.mp4": bytes(1 << 20),
    "noise.mp3": bytes(range(256)) * 4096,
    "list.m3u8": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    "concat.txt": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "page.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "script.mp4": b"#!/bin/sh\necho owned > /tmp/owned\n",
}


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> subprocess.Popen[str]:
    """A process like a worker, bounded in memory; it must outlive them all."""
    folder = tmp_path_factory.mktemp("bombs")
    worker = _worker(folder, FEATURES)
    worker.folder = folder  # type: ignore[attr-defined]
    yield worker
    assert worker.poll() is None
    worker.kill()
    worker.wait(10)


@pytest.mark.parametrize("name", BOMBS)
def test_lies_about_sizes_and_times_are_cheap(victim: subprocess.Popen[str], name: str) -> None:
    path = victim.folder / name  # type: ignore[attr-defined]
    bomb = BOMBS[name]
    path.write_bytes(bomb if isinstance(bomb, bytes) else bomb())
    outcome = _ask(victim, path)
    assert not outcome.startswith("finding"), outcome
    if name not in ("long.wav", "bomb.png"):  # a second of sound and a black picture, whatever they claim
        assert outcome == "refused"


def test_the_command_line_of_the_fuzzer() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.media", "--seeds", "3"],
        capture_output=True,
        text=True,
        timeout=3 * ITEM_SECONDS + 60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'finding': 0" in done.stdout
