"""The service in memory with media that a test puts in place, and one feature that waits for `release`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from amber_ray.core.model.absent import no_asset, nothing_at
from amber_ray.core.model.request import AssetRef, ComputeRequest, Failure, RequestView
from amber_ray.core.model.service import AbsentValue, Answered, FeatureInfo, StoredValue
from amber_ray.core.model.units import Asset
from amber_ray.core.values.annotations import Array, Bytes, Json, Scalar
from amber_ray.errors import MediaNotFound, UnknownKey
from tests.memory_service import UPLOADS, Call, Held, Made, MemoryService, digest, info

__all__ = ["JPEG", "GatedService", "digest"]

JPEG = b"\xff\xd8\xff" + bytes(range(256)) * 4


def size(call: Call) -> int:
    assert isinstance(call.unit, Asset)
    return call.unit.bytes


FEATURES: dict[str, Made] = {
    "size": Made(Scalar("int"), of=size),
    "slow": Made(Scalar("int"), inputs=("size",), of=size),
    "broken": Made(Scalar("int"), inputs=("size",), of=lambda call: ValueError("it broke")),
    "picture": Made(Bytes("image/jpeg"), lambda unit: JPEG),
    "vector": Made(
        Array("float32", (None,)),
        lambda unit: np.array([unit.index, 0.5], dtype=np.float32),  # type: ignore[union-attr]
        "segment",
        store="never",
    ),
    "odd": Made(
        Array("float32", (None, 4)), lambda unit: np.empty((0, 4), dtype=np.float32), inputs=("vector",)
    ),
    "score": Made(
        Scalar("float"),
        lambda unit: float("nan"),
        inputs=("vector", "size"),
        params={"scale": ("int", 1), "style": ("str", "a")},
    ),
    "similar": Made(
        Json(),
        lambda unit: {"assets": len(unit.assets)},  # type: ignore[union-attr]
        "collection",
        ("score",),
    ),
}


@dataclass(eq=False)
class GatedService(MemoryService):
    """`slow` waits for `release`; features in `large` do not come inline; `lost` keys can't be loaded.

    `listed` puts a view's results and failed assets in the order in which this service lists them: servers
    before this one told an answer's results in an order of their own.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.made = dict(FEATURES)
        self.deadlines = False  # a test of a caller's own timeout has one clock
        self.gate_of("slow").clear()
        self.assets: dict[str, Asset] = {}
        self.added: list[str] = []
        self.loaded: list[str] = []
        self.purged: list[dict[str, str | None]] = []
        self.large: set[str] = set()
        self.lost: set[str] = set()
        self.listed: Callable[[list[Any]], list[Any]] = lambda some: some
        self.arrived = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def put(self, uri: str, content: str | None = None, duration: float | None = 25.0) -> Asset:
        """Have media at `uri`; equal `content` is equal media."""
        kind = "image/png" if duration is None else "video/mp4"
        self.assets[uri] = Asset(digest(content or uri), uri, kind, len(content or uri), duration)
        return self.assets[uri]

    def release(self) -> None:
        """Let `slow` finish, from any thread; everybody who waits for it is told in the service's loop."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self.gate_of("slow").set)

    def inline(self, feature: str) -> bool:
        return super().inline(feature) and feature not in self.large

    def media_at(self, uri: str) -> Asset:
        if uri not in self.assets:
            raise MediaNotFound(f"nothing is at {uri}")
        return self.assets[uri]

    def _find(self, ref: AssetRef) -> Asset:
        if ref.uri is not None:
            found = self.media_at(ref.uri)
            if not self._shows(found, ref.tenant, found):
                raise nothing_at(ref.uri)
            self.places[ref.uri] = found
            return found
        known = next((a for a in self.assets.values() if a.id == ref.id), None)
        if known is None or not self._shows(known, ref.tenant, known):
            raise no_asset(ref.id or "")
        return known

    def refused(self, asset: Asset) -> AssetRef:
        return AssetRef(uri="/resolved" + asset.uri, id=asset.id)

    async def features(self) -> list[FeatureInfo]:
        return [
            replace(
                info(name, made),
                resources={"CPU": 1.0} | ({"GPU": 0.5} if name == "vector" else {}),
                doc=f"The {name} of it.\n\nMore about it.",
                code_digest=f"digest of {name}",
            )
            for name, made in sorted(self.made.items())
        ]

    async def add_asset(self, uri: str) -> Asset:
        self.added.append(uri)
        return await super().add_asset(uri)

    async def upload(self, chunks: AsyncIterable[bytes], media_type: str | None = None) -> Asset:
        data = b"".join([chunk async for chunk in chunks])
        asset = self.put(f"{UPLOADS}{digest(repr(data))}")
        asset = replace(asset, bytes=len(data), media_type=media_type or "video/mp4")
        self.assets[asset.uri] = self.places[asset.uri] = asset
        self.contents[asset.id] = data
        return asset

    async def compute(self, request: ComputeRequest, wait: float = 0.0, id: str | None = None) -> RequestView:
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self.arrived.set)  # once the request has been taken in
        return await super().compute(request, wait, id)

    def view(self, held: Held) -> RequestView:
        view = super().view(held)
        results, failed = self.listed(list(view.results)), self.listed(list(view.failed_assets))
        return replace(view, results=tuple(results), failed_assets=tuple(failed))

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        self.loaded += keys
        for key in keys:
            if key in self.lost:
                raise UnknownKey(f"no value is stored under key {key!r}")
        return await super().load(keys)

    def answer(self, key: str) -> Answered:
        self.loaded.append(key)
        if key not in self.lost:
            return super().answer(key)
        words = f"no value is stored under key {key!r}"
        return AbsentValue(key, Failure("system", "UnknownKey", words, "", key, "", 404))

    async def purge(
        self, *, asset: str | None = None, feature: str | None = None, version: str | None = None
    ) -> int:
        self.purged.append({"asset": asset, "feature": feature, "version": version})
        return await super().purge(asset=asset, feature=feature, version=version)

    async def stats(self) -> dict[str, float]:
        return {**await super().stats(), "hits": 2.0, "hot_bytes": 1234.5}
