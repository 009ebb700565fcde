"""Registries that callers brought: which are kept."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from amber_ray.core.declare.feature import FeatureSpec, feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.units import Asset
from amber_ray.errors import UnknownRegistry
from amber_ray.fabric.engine.registries import BROUGHT, Registries
from amber_ray.fabric.transport import layers


def made(version: int) -> FeatureSpec:
    @feature(version=str(version))
    def size(asset: Asset) -> int:
        return asset.bytes

    spec: FeatureSpec = size.__amber__  # type: ignore[attr-defined]
    return spec.sealed()


def registries() -> Registries:
    own = Registry([made(0)])
    return Registries(own, {own.digest: layers.bottom(own.digest, ["size"], pickle.dumps(None))})


def bring(known: Registries, version: int, in_use: Callable[[], set[str]] = set) -> str:
    return known.derive("", [made(version)], pickle.dumps(version), in_use()).digest


def test_those_that_were_not_used_for_longest_go_first() -> None:
    known = registries()
    digests = [bring(known, version) for version in range(1, BROUGHT + 2)]
    with pytest.raises(UnknownRegistry, match="not known here any more"):
        known.get(digests[0])
    assert [known.get(digest).digest for digest in digests[1:]] == digests[1:]
    assert known.blobs.keys() == {known.own.digest, *digests[1:]}


def test_one_that_is_brought_again_when_it_is_the_oldest_of_too_many_is_there() -> None:
    known = registries()
    used: set[str] = set()
    for version in range(1, BROUGHT + 3):  # requests of all of them run, so none of them goes
        used.add(bring(known, version, lambda: used))
    assert len(used) == BROUGHT + 2
    oldest = bring(known, 1)  # they have ended; its own caller edited back and forth
    assert known.get(oldest).get("size").version == "1"
