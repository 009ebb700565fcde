"""The graph as Hamilton's nodes: functions wired by their parameters' names."""

from __future__ import annotations

from typing import Any

from amber_ray.core.model.units import Asset
from amber_ray.features.frames import Frames
from benchmarks.peers import graph


def frames(asset: Asset) -> Frames:
    return graph.frames(asset)


def brightness(frames: Frames) -> Any:
    return graph.brightness(frames)


def colour(frames: Frames) -> Any:
    return graph.colour(frames)


def phash(frames: Frames) -> Any:
    return graph.phash(frames)


def motion(frames: Frames) -> Any:
    return graph.motion(frames)


def thumbnail(asset: Asset) -> bytes:
    return graph.thumbnail(asset)
