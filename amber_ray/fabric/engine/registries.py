"""The registries that an engine plans with: the service's own, and those that its callers brought.

A caller who registers features gets a registry of its own, which its requests name by digest, so that
another caller of the same engine goes on with what it had. Their keys tell values apart by the features'
code, so whatever two registries share is computed once. Must not know: requests, Ray.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.declare.registry import Registry
from amber_ray.core.values.annotations import ValueType
from amber_ray.errors import UnknownRegistry
from amber_ray.fabric.transport import layers

BROUGHT = 64
"""Registries that callers brought which are kept beside those in use: each edit in a notebook makes one."""


class Registries:
    """Registries by digest. `blobs` is their code, which the shards are brought."""

    def __init__(self, own: Registry, blobs: Mapping[str, bytes]) -> None:
        self.own = own
        self.blobs = dict(blobs)
        self._known = {own.digest: own}

    def __iter__(self) -> Iterator[Registry]:
        """The service's own first, then the most recently used."""
        yield self.own
        yield from reversed([r for r in self._known.values() if r is not self.own])

    def get(self, digest: str) -> Registry:
        """The registry of a digest, now the most recently used; empty: the service's own.

        Raises `UnknownRegistry`.
        """
        if not digest or digest == self.own.digest:
            return self.own
        registry = self._known.pop(digest, None)
        if registry is None:
            raise UnknownRegistry("the features registered for this request are not known here any more")
        self._known[digest] = registry
        return registry

    def __contains__(self, digest: str) -> bool:
        return not digest or digest in self._known

    def adopt(self, registry: Registry, blob: bytes, in_use: Collection[str]) -> None:
        """Keep a registry that a caller of another engine brought; `blob` is its code."""
        self.blobs.setdefault(registry.digest, blob)
        self._known.setdefault(registry.digest, registry)
        self.get(registry.digest)
        self._evict(in_use)

    def derive(
        self, base: str, specs: Sequence[FeatureSpec], code: bytes, in_use: Collection[str]
    ) -> Registry:
        """Keep a registry with `specs` added to that of `base` or replaced in it; `code` is their pickle.

        Those that were not used for longest go, but none that is `in_use`. Raises `UnknownRegistry`,
        `DeclarationError`.
        """
        old = self.get(base)
        new = old.replaced(specs)
        if new.digest not in self._known:
            blob = self.blobs[old.digest]
            self.blobs[new.digest] = layers.extended(blob, new.digest, [s.name for s in specs], code)
            self._known[new.digest] = new
        self.get(new.digest)  # the most recently used before any goes: it may be one of the oldest
        self._evict(in_use)
        return self._known[new.digest]

    def _evict(self, in_use: Collection[str]) -> None:
        """Let go of those that were not used for longest, beyond `BROUGHT`, but of none that is in use."""
        brought = [digest for digest in self._known if digest != self.own.digest]
        for digest in brought[:-BROUGHT]:
            if digest not in in_use:
                del self._known[digest], self.blobs[digest]

    def returns(self, feature: str, version: str) -> ValueType | None:
        """The declared type of a feature's version; None if no registry has it."""
        for registry in self:
            if feature in registry and (spec := registry.get(feature)).version == version:
                return spec.returns
        return None
