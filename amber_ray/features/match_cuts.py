"""`match_cuts`: pairs of shots of different assets that could follow each other as if they were one.

After Chen et al., "Match Cutting: Finding Cuts with Smooth Visual Transitions" (WACV 2023): shots, a vector
for each, the cosine of every pair, the best k; near duplicates left out. Here a shot has two vectors, of the
pictures that it begins and ends with, since those are what meets at a cut, and perceptual hashes tell which
of them are the same footage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Collection
from amber_ray.errors import FeatureError
from amber_ray.features import similarity
from amber_ray.features.shot_embedding import ShotEnds
from amber_ray.features.shots import Shot


@dataclass(frozen=True, slots=True)
class ShotOf:
    """Shot number `shot` (from 0) of the asset with the id `asset`: [start, end) in seconds."""

    asset: str
    shot: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class MatchCut:
    """A cut from the end of shot `out` to the beginning of shot `into`, of another asset.

    `score` is the cosine of the pictures on both sides, at most 1.
    """

    score: float
    out: ShotOf
    into: ShotOf


@feature(version="1", per="collection")
def match_cuts(
    collection: Collection,
    shots: list[list[Shot]],
    shot_ends: list[ShotEnds],
    top: int = 100,
    bits: int = 10,
) -> list[MatchCut]:
    """The `top` (1 to 100000) best cuts from a shot of one asset to a shot of another, best first.

    Cuts between pictures whose hashes differ in at most `bits` (0 to 64; -1 leaves none out) are passed over:
    they show the same picture twice, as films do that share footage, or black frames. Of equal scores, the
    lower asset id and shot number on the way out come first, then on the way in. Neither the order of the set
    nor the sizes of the blocks that are compared change anything. Shots in which no frame was sampled are
    left out.
    """
    if not 1 <= top <= 100_000:
        raise FeatureError(f"match_cuts.top must be 1 to 100000 pairs, not {top}")
    if not -1 <= bits <= 64:
        raise FeatureError(f"match_cuts.bits must be -1 to 64, the bits of a hash, not {bits}")
    order = sorted(range(len(collection.assets)), key=lambda i: collection.assets[i].id)
    ends = [(i, shot_ends[i]) for i in order if len(shot_ends[i].shots)]
    if not ends:
        return []
    owners = np.repeat([i for i, _ in ends], [len(e.shots) for _, e in ends])
    numbers = np.concatenate([e.shots for _, e in ends])

    def shot(row: int) -> ShotOf:
        owner, number = int(owners[row]), int(numbers[row])
        found = shots[owner][number]
        return ShotOf(collection.assets[owner].id, number, found.start, found.end)

    pairs = similarity.top_pairs(
        np.concatenate([e.closing for _, e in ends]),
        np.concatenate([e.opening for _, e in ends]),
        owners,
        count=top,
        hashes=(
            np.concatenate([e.closing_hash for _, e in ends]),
            np.concatenate([e.opening_hash for _, e in ends]),
        ),
        bits=bits,
        block=similarity.BLOCK,
    )
    return [
        MatchCut(float(score), shot(out), shot(into))
        for out, into, score in zip(pairs.left, pairs.right, pairs.cosine, strict=True)
    ]
