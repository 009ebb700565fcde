"""`scenes`: consecutive shots that belong together.

By overlapping links (Hanjalic, Lagendijk and Biemond, "Automated high-level movie segmentation for advanced
video-retrieval systems", 1999): two shots that look alike and are not far apart are linked, and everything
between them is of one scene, as in a dialogue that goes back and forth between two faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from amber_ray.core.declare.feature import feature
from amber_ray.errors import FeatureError
from amber_ray.features.shots import Shot


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene: [start, end) in seconds and [first, stop) in shots."""

    start: float
    end: float
    first: int
    stop: int


@feature(version="1")
def scenes(
    shots: list[Shot],
    shot_embedding: Float32[np.ndarray, "shots d"],
    alike: float = 0.65,
    ahead: int = 8,
) -> list[Scene]:
    """The scenes of an asset, in order: every shot is in one.

    Two shots are linked if the cosine of their vectors is at least `alike` (-1 to 1) and they are at most
    `ahead` (1 to 1000) shots apart; a scene ends where no link crosses the cut. The pictures within a gradual
    transition count to the scene before it.
    """
    if not -1 <= alike <= 1:
        raise FeatureError(f"scenes.alike is a cosine, from -1 to 1, not {alike}")
    if not 1 <= ahead <= 1000:
        raise FeatureError(f"scenes.ahead must be 1 to 1000 shots, not {ahead}")
    vectors = np.asarray(shot_embedding, np.float64)
    if not shots:
        return []
    begins = [0]
    reach = 0
    for i in range(len(shots)):
        if i > reach:
            begins.append(i)
        near = vectors[i + 1 : i + 1 + ahead] @ vectors[i]
        linked = np.flatnonzero(near >= alike)
        reach = max(reach, i, i + 1 + int(linked[-1]) if len(linked) else i)
    return [
        Scene(shots[a].start, shots[b].start if b < len(shots) else shots[-1].end, a, b)
        for a, b in zip(begins, [*begins[1:], len(shots)], strict=True)
    ]
