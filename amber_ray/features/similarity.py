"""How alike vectors and picture hashes are, exactly: the same numbers however the work is cut and ordered.

A matrix product rounds differently from one block shape and machine to the next, so the order of near ties
would hang on them. Here unit vectors have components that are whole multiples of 2**-24 (as
fine as float32): products are multiples of 2**-48, and sums of length at most 1 fit in float64 without any
rounding, in any order. Must not know: features, shots, assets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amber_ray.errors import FeatureError

GRAIN = float(1 << 24)
"""Steps per unit to which components are rounded."""

ROUNDING = 1e-5
"""How far the grain may take a cosine off: sqrt(d) / 2**24, for d up to some 28,000."""

BLOCK = 2048
"""Vectors on each side of a block: its cosines take 32 MiB, whatever the number of vectors."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of vectors, one entry each: their rows on the left and on the right, and their cosine."""

    left: np.ndarray
    right: np.ndarray
    cosine: np.ndarray


def unit(vectors: np.ndarray) -> np.ndarray:
    """Each row at length 1, on the grain: float64[n, d] of float[n, d]. A row of zeros stays one.

    Raises `FeatureError` where a number is not finite.
    """
    wide = np.ascontiguousarray(vectors, np.float64)
    if not np.isfinite(wide).all():
        raise FeatureError("a vector to compare has a component that is not finite; embeddings are numbers")
    # By the largest component first: squares of very small or large ones would leave float64.
    largest = np.abs(wide).max(axis=1, keepdims=True, initial=0.0)
    wide = np.divide(wide, largest, out=np.zeros_like(wide), where=largest > 0)
    length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    wide = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)
    return np.asarray(np.rint(wide * GRAIN) / GRAIN)


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float64[n, m] of what `unit` made: exact, but for the rounding to the grain; at most 1."""
    return np.asarray(np.clip(left @ right.T, -1.0, 1.0))


def hamming(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """How many bits differ, 0 to 64, of each hash with each: float32[n, m] of uint64[n] and uint64[m]."""
    return np.asarray((64 - _signs(left) @ _signs(right).T) / 2)


def nearest_bits(left: np.ndarray, right: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """How many bits each hash of uint64[n] differs from the nearest of uint64[m], m > 0: float32[n]."""
    found = np.full(len(left), 64, np.float32)
    for at in range(0, len(left), block):
        ours = found[at : at + block]
        for beside in range(0, len(right), block):
            bits = hamming(left[at : at + block], right[beside : beside + block])
            np.minimum(ours, bits.min(axis=1), out=ours)
    return found


def top_pairs(
    left: np.ndarray,
    right: np.ndarray,
    groups: np.ndarray,
    *,
    count: int,
    least: float = -1.0,
    hashes: tuple[np.ndarray, np.ndarray] | None = None,
    bits: int = -1,
    mirrored: bool = False,
    block: int = BLOCK,
) -> Pairs:
    """The `count` most alike pairs of a row of `left` and one of `right`, of different groups, best first.

    Args:
        left: float[n, d], of any length each.
        right: float[n, d]; row i of both is of group `groups[i]`.
        groups: int[n].
        count: how many pairs, at the most; ties go to the lower row on the left, then on the right.
        least: pairs with a smaller cosine are passed over.
        hashes: a picture hash for each row on the left and on the right, uint64[n] each.
        bits: pairs whose hashes differ in so many bits, or fewer, are passed over too.
        mirrored: `right` is `left`, so each pair counts once, the lower row on the left.
        block: rows of a block. Memory is for some `block` x `block` cosines and `count` pairs.
    """
    best = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    for at in range(0, len(left), block):
        ours = unit(left[at : at + block])
        for beside in range(at if mirrored else 0, len(right), block):
            theirs = unit(right[beside : beside + block])
            scores = cosines(ours, theirs)
            barred = groups[at : at + block, None] == groups[None, beside : beside + block]
            if mirrored and beside == at:
                barred |= np.tril(np.ones_like(barred))
            if hashes is not None and bits >= 0:
                barred |= hamming(hashes[0][at : at + block], hashes[1][beside : beside + block]) <= bits
            scores[barred] = -np.inf
            # A pair as good as the last one counts too: it may come before it by its rows.
            floor = max(least, best.cosine[-1]) if len(best.cosine) == count else least
            found = _largest(scores.ravel(), floor, count)
            rows, columns = np.divmod(found, len(theirs))
            best = _merged(best, Pairs(rows + at, columns + beside, scores.ravel()[found]), count)
    return best


def _largest(scores: np.ndarray, least: float, count: int) -> np.ndarray:
    """Where the `count` largest scores of at least `least` are; of equal ones, those that come first."""
    found = np.flatnonzero(scores >= least)
    if len(found) <= count:
        return found
    values = scores[found]
    last = np.partition(values, len(values) - count)[len(values) - count]
    above = found[values > last]
    return np.concatenate([above, found[values == last][: count - len(above)]])


def _merged(one: Pairs, other: Pairs, count: int) -> Pairs:
    left, right = np.concatenate([one.left, other.left]), np.concatenate([one.right, other.right])
    cosine = np.concatenate([one.cosine, other.cosine])
    order = np.lexsort((right, left, -cosine))[:count]
    return Pairs(left[order], right[order], cosine[order])


def _signs(hashes: np.ndarray) -> np.ndarray:
    """Each bit as 1 or -1: float32[n, 64]. Sums of 64 of them are exact."""
    octets = np.ascontiguousarray(hashes, np.uint64).view(np.uint8).reshape(-1, 8)
    return np.unpackbits(octets, axis=1).astype(np.float32) * 2 - 1
