"""What ten thousand tiny pictures leave in a store, and what registering them costs beside reading them."""

from __future__ import annotations

import hashlib
import io
import uuid
from pathlib import Path

from PIL import Image

from amber_ray.media.catalogue import Catalogue
from amber_ray.media.facts import facts
from amber_ray.media.locate import Locator
from amber_ray.settings import Limits
from benchmarks.measure import Measured, seconds
from benchmarks.session import Session, main

TOGETHER = 64
"""Pictures in one request."""
FILES = 16
"""Files that a store may have for assets, however many there are."""
ASSET_BYTES = 100
"""Bytes on disk that an asset may take."""


def run(session: Session) -> list[Measured]:
    """No cluster is asked: the catalogue is what every process of one has."""
    count = session.size(10_000, 500)
    folder = session.folder / f"pictures-{uuid.uuid4().hex[:8]}"
    paths = pictures(folder / "media", count)
    store = folder / "store"
    catalogue = Catalogue(str(store), Locator([str(folder)]))

    def register() -> None:
        for first in range(0, count, TOGETHER):
            catalogue.add_all([str(path) for path in paths[first : first + TOGETHER]])

    def by_hand() -> None:
        for path in paths:
            data = path.read_bytes()
            hashlib.blake2b(data, digest_size=16)
            facts(io.BytesIO(data), path.name, Limits())

    ours, peer = seconds(register), seconds(by_hand)
    catalogue.tidy()
    left = [path.stat() for path in store.rglob("*") if path.is_file()]
    size = sum(512 * status.st_blocks for status in left)
    known = Catalogue(str(store), Locator([str(folder)]))
    again = seconds(lambda: known.add_all([str(path) for path in paths]))
    return [
        Measured(
            "small assets: files",
            f"files that {count:,} tiny pictures leave in the store",
            "what assets may take",
            len(left),
            FILES,
            "files",
            1.0,
        ),
        Measured(
            "small assets: bytes",
            "bytes on disk that each of them takes there",
            "what an asset may take",
            round(size / count, 1),
            ASSET_BYTES,
            "bytes",
            1.0,
        ),
        Measured(
            "small assets: new",
            f"registering {count:,} tiny pictures, {TOGETHER} at a time, durably",
            "reading, digesting and probing them, and keeping nothing",
            ours,
            peer,
            "s",
            12.0,  # a disk that syncs slowly is most of it
        ),
        Measured(
            "small assets: known",
            "registering them again after a restart",
            "reading, digesting and probing them, and keeping nothing",
            again,
            peer,
            "s",
            3.0,
        ),
    ]


def pictures(folder: Path, count: int) -> list[Path]:
    """Pictures of eight by eight pixels, all of other colours."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:06}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (8, 8), (number & 255, number >> 8 & 255, number >> 16)).save(path)
    return paths


if __name__ == "__main__":
    raise SystemExit(main(run))
