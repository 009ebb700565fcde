"""What the page is shown: a few films that are there, and 100,000 of which only the list is there."""

from __future__ import annotations

import shutil
from hashlib import blake2b
from pathlib import Path

from amber_ray.core.model.units import Asset, Stream
from amber_ray.media.catalogue import FORMAT
from amber_ray.store.assets import AssetPacks
from tests.browser import features

COUNT = 100_000
FOLDERS = 100
HOSTILE = f"{features.HOSTILE}.mp4"


def place(folder: Path, number: int) -> str:
    """Where one of the list would be; in the order of their numbers."""
    return f"{folder}/{number * FOLDERS // COUNT:03}/film-{number:06}.mp4"


def write(store: Path, folder: Path) -> None:
    """Write the list as the store has it."""
    streams = (Stream("video", "h264", width=1920, height=1080),)
    AssetPacks(str(store), FORMAT).add(
        Asset(
            blake2b(f"{number}".encode(), digest_size=16).hexdigest(),
            place(folder, number),
            "video/mp4",
            1_000_000 + number,
            10.0 + number % 7200,
            streams,
            "never there",
        )
        for number in range(COUNT)
    )


def films(folder: Path, clip: Path, first: int = 0) -> dict[str, Path]:
    """Films that are there: the same pictures, in files that are not the same, by numbers from `first` on."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: folder / name for name in ("bunny.mp4", "second.mp4", "third.mp4", HOSTILE)}
    for number, path in enumerate(found.values(), first):
        shutil.copy(clip, path)
        with open(path, "ab") as file:
            file.write((12).to_bytes(4, "big") + b"free" + number.to_bytes(4, "big"))
    return found
