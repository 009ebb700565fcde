"""`near_duplicates` and `duplicate_assets`: shots that come twice, and assets that are copies of each other.

Two independent witnesses must agree: the embedding (what pictures show; survives cropping and colour) and the
perceptual hash (how light and dark are laid out; tells two shots of the same subject apart).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Collection
from amber_ray.errors import FeatureError
from amber_ray.features import similarity
from amber_ray.features.shot_embedding import frames_of
from amber_ray.features.shots import Shot

CANDIDATES = 100
"""For each pair that is listed at the most, so many that agree by embedding are compared by their hashes."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """Shots number `first` < `second` (from 0) of an asset show the same; their [start, end) in seconds.

    `bits` is how much their pictures' hashes differ: for each frame of the shot with fewer frames the
    Hamming distance (0 to 64) to the nearest of the other's, on average. `distance` is 1 - cosine of their
    embeddings.
    """

    first: int
    second: int
    first_start: float
    first_end: float
    second_start: float
    second_end: float
    bits: float
    distance: float


@dataclass(frozen=True, slots=True)
class Copy:
    """Assets with the ids `first` < `second` show the same pictures, or one of them some of the other's.

    `overlap` is the share (0 to 1) of the frames of the one with fewer frames that are in the other, too;
    `bits` how much its hashes differ from the nearest of the other's (0 to 64), on average over all of them;
    `distance` 1 - cosine of their mean embeddings.
    """

    first: str
    second: str
    overlap: float
    bits: float
    distance: float


@feature(version="1")
def near_duplicates(
    shots: list[Shot],
    phash: list[np.ndarray],
    frame_times: list[np.ndarray],
    shot_embedding: np.ndarray,
    bits: float = 12.0,
    distance: float = 0.15,
    top: int = 1000,
) -> list[Repeat]:
    """Pairs of shots of one asset that repeat, the most alike embeddings first; at most `top` (1 to 100000).

    `bits` (0 to 64) is how far the hashes may be apart, `distance` (0 to 2) the same for the embeddings.
    Two pictures with more than some 10 bits between them are rarely the same (Krawetz, "Looks Like It",
    2011); two takes of one camera may move a little more. Shots in which no frame was sampled are left out:
    nothing was seen of them. In an asset with very many repeats the 100 x `top` pairs with the most alike
    embeddings are looked at.
    """
    _check("near_duplicates", bits, distance, top)
    times, hashes = _joined(frame_times, np.float64), _joined(phash, np.uint64)
    seen = [(i, hashes[own]) for i, own in enumerate(frames_of(shots, times)) if len(own)]
    vectors = shot_embedding[[i for i, _ in seen]]
    found = []
    for a, b, apart in _alike(vectors, distance, top):
        (first, one), (second, other) = seen[a], seen[b]
        differ = float(_apart(one, other).mean())
        if differ <= bits:
            times_of = (shots[first].start, shots[first].end, shots[second].start, shots[second].end)
            found.append(Repeat(first, second, *times_of, differ, apart))
            if len(found) == top:
                break
    return found


@feature(version="1", per="collection")
def duplicate_assets(
    collection: Collection,
    phash: list[list[np.ndarray]],
    mean_embedding: list[np.ndarray],
    bits: int = 10,
    overlap: float = 0.7,
    distance: float = 0.3,
    top: int = 1000,
) -> list[Copy]:
    """Pairs of assets that are the same pictures: encoded anew, scaled, trimmed, or one a part of the other.

    Two frames are the same if their hashes differ in at most `bits` (0 to 64); two assets if at least
    `overlap` (0 to 1) of the frames of the one with fewer are in the other and their mean embeddings are at
    most `distance` (0 to 2) apart: raise that to find short parts of long films. The most alike embeddings
    come first, of equal ones the lower ids; at most `top` (1 to 100000) pairs. The order of the set changes
    nothing.
    Of a set with very many copies the 100 x `top` pairs with the most alike embeddings are looked at.
    """
    _check("duplicate_assets", bits, distance, top)
    if not 0 <= overlap <= 1:
        raise FeatureError(f"duplicate_assets.overlap is a share, from 0 to 1, not {overlap}")
    order = sorted(range(len(collection.assets)), key=lambda i: collection.assets[i].id)
    names = [collection.assets[i].id for i in order]
    hashes = [_joined(phash[i], np.uint64) for i in order]
    found = []
    for a, b, apart in _alike(np.stack([mean_embedding[i] for i in order]), distance, top):
        differ = _apart(hashes[a], hashes[b])
        share = float((differ <= bits).mean())
        if share >= overlap:
            found.append(Copy(names[a], names[b], share, float(differ.mean()), apart))
            if len(found) == top:
                break
    return found


def _check(name: str, bits: float, distance: float, top: int) -> None:
    if not 0 <= bits <= 64:
        raise FeatureError(f"{name}.bits must be 0 to 64, the bits of a hash, not {bits}")
    if not 0 <= distance <= 2:
        raise FeatureError(f"{name}.distance is 1 - cosine, from 0 to 2, not {distance}")
    if not 1 <= top <= 100_000:
        raise FeatureError(f"{name}.top must be 1 to 100000 pairs, not {top}")


def _alike(vectors: np.ndarray, distance: float, top: int) -> list[tuple[int, int, float]]:
    """Pairs of rows by their embeddings, the nearest first, with how far apart they are."""
    groups = np.arange(len(vectors))
    least = 1 - distance - similarity.ROUNDING
    pairs = similarity.top_pairs(vectors, vectors, groups, count=CANDIDATES * top, least=least, mirrored=True)
    apart = (1 - pairs.cosine).tolist()
    return list(zip(pairs.left.tolist(), pairs.right.tolist(), apart, strict=True))


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """For each hash of the shorter sequence, the bits to the nearest of the longer: float32[n]."""
    few, many = (one, other) if len(one) <= len(other) else (other, one)
    return similarity.nearest_bits(few, many)


def _joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    """An asset's segments as one array."""
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
