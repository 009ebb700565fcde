"""The code of a registry as layers: pickles of some features each, later ones in place of earlier ones.

A feature is pickled once, at the moment when it is registered. What is registered later adds a layer and
leaves the others as they are: pickled again, an old feature would take along helpers that have been changed
since, under the digest of the old ones. Must not know: what is in a layer.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection
from typing import NamedTuple


class Layer(NamedTuple):
    """The features that count in a pickle, which may hold others that were replaced since, and the pickle."""

    names: tuple[str, ...]
    code: bytes


def bottom(digest: str, names: Collection[str], code: bytes) -> bytes:
    """The blob of a registry of one layer."""
    return _blob(digest, [Layer(tuple(names), code)])


def extended(blob: bytes, digest: str, names: Collection[str], code: bytes) -> bytes:
    """The blob of the registry `digest`: the features `names` are in `code`, the others in `blob`."""
    _, below = read(blob)
    left = [Layer(tuple(n for n in layer.names if n not in names), layer.code) for layer in below]
    return _blob(digest, [*(layer for layer in left if layer.names), Layer(tuple(names), code)])


def read(blob: bytes) -> tuple[str, list[Layer]]:
    """A registry's digest and its layers, lowest first."""
    digest, found = pickle.loads(blob)  # noqa: S301 - from this cluster, and nothing but texts and bytes
    return digest, [Layer(*layer) for layer in found]


def _blob(digest: str, found: list[Layer]) -> bytes:
    return pickle.dumps((digest, [tuple(layer) for layer in found]), protocol=5)
