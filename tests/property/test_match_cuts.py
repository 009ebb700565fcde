"""`match_cuts` against brute force: any set, in any order, in blocks of any size."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from amber_ray.core.model.units import Asset, Collection
from amber_ray.features import similarity
from amber_ray.features.match_cuts import match_cuts
from amber_ray.features.shot_embedding import ShotEnds
from amber_ray.features.shots import Shot

# Exact in any arithmetic, and often equal.
VECTORS = [(1, 0, 0, 0), (0, 1, 0, 0), (0.5, 0.5, 0.5, 0.5), (0.5, -0.5, 0.5, -0.5), (-1, 0, 0, 0)]
vector = st.sampled_from(VECTORS)
mark = st.sampled_from([0, 1, 7, 2**64 - 1])
shot = st.none() | st.tuples(vector, vector, mark, mark)
"""Vectors and hashes of opening and closing; None where no frame was sampled."""
sets = st.dictionaries(st.sampled_from("abcdef"), st.lists(shot, max_size=4), min_size=1, max_size=4)


def ends(shots: list[Any]) -> ShotEnds:
    seen = [i for i, s in enumerate(shots) if s is not None]
    vectors = np.array([shots[i][:2] for i in seen], np.float32).reshape(-1, 2, 4)
    marks = np.array([shots[i][2:] for i in seen], np.uint64).reshape(-1, 2)
    return ShotEnds(np.array(seen, np.int32), vectors[:, 0], vectors[:, 1], marks[:, 0], marks[:, 1])


def value(names: list[str], given: dict[str, list[Any]], **params: Any) -> list[tuple[Any, ...]]:
    assets = tuple(Asset(n, f"file:///{n}", "video/mp4", 1, 9.0) for n in names)
    shots = [[Shot(float(i), i + 1.0, i, i + 1, 1.0) for i in range(len(given[n]))] for n in names]
    found = match_cuts(Collection(assets), shots, [ends(given[n]) for n in names], **params)
    match_cuts.__amber__.returns.check(found)
    for cut in found:
        assert (cut.out.start, cut.out.end) == (cut.out.shot, cut.out.shot + 1)
    return [(c.out.asset, c.out.shot, c.into.asset, c.into.shot, c.score) for c in found]


def brute(given: dict[str, list[Any]], top: int, bits: int) -> list[tuple[Any, ...]]:
    found = [
        (a, i, b, j, float(np.dot(out[1], into[0])))
        for a, ours in given.items()
        for b, theirs in given.items()
        for i, out in enumerate(ours)
        for j, into in enumerate(theirs)
        if a != b and out and into and (out[3] ^ into[2]).bit_count() > bits
    ]
    return sorted(found, key=lambda f: (-f[-1], f))[:top]


@settings(max_examples=200, deadline=None)
@given(sets, st.integers(1, 60), st.sampled_from([-1, 0, 2, 64]), st.integers(1, 5), st.randoms())
def test_the_best_cuts_in_any_order(
    given: dict[str, list[Any]], top: int, bits: int, block: int, random: Any
) -> None:
    names = list(given)
    random.shuffle(names)
    with mock.patch.object(similarity, "BLOCK", block):
        assert value(names, given, top=top, bits=bits) == brute(given, top, bits)
