"""What a storm computes of pictures: each run leaves a line on disk."""

from __future__ import annotations

import numpy as np

from amber_ray import Asset, feature
from tests.integration.feature_kit import ran


@feature(version="1")
def light(asset: Asset, brightness: list[np.ndarray]) -> float:
    """The mean brightness of a picture."""
    ran("light", asset.id)
    return float(np.concatenate(brightness).mean())


@feature(version="1")
def told(asset: Asset, light: float) -> str:
    """What stands on another value."""
    ran("told", asset.id)
    return f"{asset.bytes} bytes, {light:.3f}"
