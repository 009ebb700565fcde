"""Features whose values are stored, each in parts of its own; every run leaves a line on disk."""

from __future__ import annotations

import os
from pathlib import Path

from amber_ray import Asset, feature


def ran(name: str) -> None:
    with open(Path(os.environ["AMBER_TEST_DIR"]) / f"{name}.runs", "a") as file:
        file.write("1\n")


@feature(version="1")
def first(asset: Asset) -> str:
    ran("first")
    return f"first {asset.id}"


@feature(version="1")
def second(asset: Asset) -> str:
    ran("second")
    return f"second {asset.id}"


@feature(version="1")
def third(asset: Asset) -> str:
    """Too large to be read by the cache actor, which may have the part open: a task opens it anew."""
    ran("third")
    return f"third {asset.id} {'.' * 20_000}"


@feature(version="1")
def after_first(first: str) -> str:
    return f"after {first}"


@feature(version="1")
def after_second(second: str) -> str:
    return f"after {second}"


@feature(version="1")
def after_third(third: str, word: str = "after") -> str:
    return f"{word} {third}"[:40]
