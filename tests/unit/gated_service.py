"""A `Service` in memory: a few features, gates instead of work, and a record of what it was asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from amber_ray.core.model.request import (
    MISSING,
    AssetFailure,
    AssetRef,
    ComputeRequest,
    ExplainedStep,
    Failure,
    RequestView,
    Result,
)
from amber_ray.core.model.service import FeatureInfo, RequestEvent, StoredValue
from amber_ray.core.model.units import Asset, Collection, Unit, segments
from amber_ray.core.values.annotations import Array, Bytes, Json, Scalar, ValueType
from amber_ray.errors import (
    AmberError,
    BadRequest,
    MediaNotFound,
    UnknownAsset,
    UnknownFeature,
    UnknownKey,
    UnknownRequest,
)

SEGMENT = 10.0
WAIT = 20.0
JPEG = b"\xff\xd8\xff" + bytes(range(256)) * 4

TYPES: dict[str, tuple[str, ValueType, tuple[str, ...]]] = {
    "size": ("asset", Scalar("int"), ()),
    "slow": ("asset", Scalar("int"), ("size",)),
    "broken": ("asset", Scalar("int"), ("size",)),
    "picture": ("asset", Bytes("image/jpeg"), ()),
    "vector": ("segment", Array("float32", (None,)), ()),
    "odd": ("asset", Array("float32", (None, 4)), ("vector",)),
    "score": ("asset", Scalar("float"), ("vector", "size")),
    "similar": ("collection", Json(), ("score",)),
}


def digest(text: str) -> str:
    """128 bits in hex, as ids of assets and keys of values are."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass
class Held:
    """A request this service was given."""

    request: ComputeRequest
    view: RequestView
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class GatedService:
    """`slow` waits for `release`; features in `large` do not come inline; `lost` keys can't be loaded.

    `listed` puts a view's results and failed assets in the order in which this service lists them: shards
    answer in an order of their own.
    """

    def __init__(self) -> None:
        self.assets: dict[str, Asset] = {}
        self.requests: dict[str, Held] = {}
        self.withdrawn: list[str] = []
        self.cancelled: list[str] = []
        self.added: list[str] = []
        self.loaded: list[str] = []
        self.purged: list[dict[str, str | None]] = []
        self.closed = 0
        self.large: set[str] = set()
        self.lost: set[str] = set()
        self.listed: Callable[[list[Any]], list[Any]] = lambda some: some
        self.params: dict[str, tuple[str, Any]] = {"scale": ("int", 1), "style": ("str", "a")}
        self.asked = threading.Event()
        self._known: set[str] = set()
        self._open = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def put(self, uri: str, content: str | None = None, duration: float | None = 25.0) -> Asset:
        """Have media at `uri`; equal `content` is equal media."""
        id = digest(content or uri)
        kind = "image/png" if duration is None else "video/mp4"
        self.assets[uri] = Asset(id, uri, kind, len(content or uri), duration)
        return self.assets[uri]

    def release(self) -> None:
        """Let `slow` finish, from any thread."""
        self._open = True
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        for held in self.requests.values():
            if held.view.state == "running":
                self._answer(held)

    async def features(self) -> list[FeatureInfo]:
        return [
            FeatureInfo(
                name=name,
                version="1",
                per=per,
                inputs=inputs,
                params=self.params if name == "score" else {},
                returns=type.spec(),
                resources={"CPU": 1.0} | ({"GPU": 0.5} if name == "vector" else {}),
                store="never" if name == "vector" else "parquet",
                doc=f"The {name} of it.\n\nMore about it.",
                pinned=True,
                code_digest=f"digest of {name}",
                is_class=False,
            )
            for name, (per, type, inputs) in sorted(TYPES.items())
        ]

    async def add_asset(self, uri: str) -> Asset:
        self.added.append(uri)
        if uri not in self.assets:
            raise MediaNotFound(f"nothing is at {uri}")
        return self.assets[uri]

    async def upload(self, chunks: AsyncIterable[bytes], media_type: str | None = None) -> Asset:
        data = b"".join([chunk async for chunk in chunks])
        asset = self.put(f"upload:{len(data)}")
        return Asset(asset.id, asset.uri, media_type or "video/mp4", len(data))

    async def compute(self, request: ComputeRequest, wait: float = 0.0, id: str | None = None) -> RequestView:
        self._loop = asyncio.get_running_loop()
        id = id or f"request-{len(self.requests)}"
        if id not in self.requests:
            for name in request.features:
                if name not in TYPES:
                    raise UnknownFeature(f"no feature is named {name!r}")
            for name in request.params:
                if name not in ("score.scale", "score.style"):
                    raise BadRequest(f"no parameter is named {name!r}")
            self.requests[id] = Held(request, RequestView(id, "running", 0, 4, (), ()))
            if "slow" not in request.features or self._open:
                self._answer(self.requests[id])
        self.asked.set()
        try:
            return await self.status(id, wait)
        except asyncio.CancelledError:
            self.withdrawn.append(id)
            raise

    def _answer(self, held: Held) -> None:
        request, results, failed, assets = held.request, [], [], []
        for ref in request.assets:
            try:
                assets.append(self._asset(ref))
            except AmberError as error:
                what = ref.uri or ref.id or ""
                text = Failure("input", type(error).__name__, str(error), "asset", "", what, error.status)
                failed.append(AssetFailure(ref, text))
        assets = list({a.id: a for a in assets}.values())
        for asset in assets:
            for name in request.features:
                per = TYPES[name][0]
                if per == "segment":
                    try:
                        units: Sequence[Unit] = segments(asset, SEGMENT, request.range)
                    except BadRequest as error:
                        ref = AssetRef(uri="/resolved" + asset.uri, id=asset.id)
                        text = Failure("input", "BadRequest", str(error), "asset", "", asset.id, 400)
                        failed.append(AssetFailure(ref, text))
                        continue
                else:
                    units = (asset,) if per == "asset" else ()
                results += [self._result(name, unit) for unit in units]
        for name in request.features:
            if TYPES[name][0] == "collection" and assets:
                results.append(self._result(name, Collection.of(assets)))
        ready = any(r.state == "ready" for r in results)
        held.view = RequestView(
            held.view.id,
            "done" if ready else "failed",
            4,
            4,
            tuple(self.listed(results)),
            tuple(self.listed(failed)),
            features=request.features,
        )
        held.ended.set()

    def _asset(self, ref: AssetRef) -> Asset:
        if ref.uri is not None and ref.uri in self.assets:
            return self.assets[ref.uri]
        found = next((a for a in self.assets.values() if a.id == ref.id), None)
        if found is None:
            raise MediaNotFound(f"nothing is at {ref.uri}") if ref.uri else UnknownAsset(f"no asset {ref.id}")
        return found

    def _result(self, name: str, unit: Unit) -> Result:
        key = digest(name + unit.unit_id)
        if name == "broken":
            failure = Failure(
                "feature",
                "ValueError",
                "it broke",
                "size",
                key,
                unit.unit_id,
                traceback="Traceback: line 1\n",
            )
            return Result(name, key, unit, "failed", failure=failure)
        cached = key in self._known
        self._known.add(key)
        value = MISSING if name in self.large else value_of(name, unit)
        self._values = getattr(self, "_values", {}) | {key: (name, value_of(name, unit))}
        return Result(name, key, unit, "ready", value, seconds=0.25, cached=cached)

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        if id not in self.requests:
            raise UnknownRequest(f"no request has the id {id!r}")
        held = self.requests[id]
        try:
            async with asyncio.timeout(min(wait, WAIT)):
                await held.ended.wait()
        except TimeoutError:
            pass
        return held.view

    async def events(self, id: str) -> AsyncIterator[RequestEvent]:
        view = await self.status(id)
        yield RequestEvent("progress", view.done, view.total)
        if view.state == "running":
            yield RequestEvent("progress", 1, view.total)
            view = await self.status(id, WAIT)
        for result in view.results:
            yield RequestEvent("result", view.done, view.total, result)
        yield RequestEvent("done", view.done, view.total, view=view)

    async def cancel(self, id: str) -> RequestView:
        if id not in self.requests:
            raise UnknownRequest(f"no request has the id {id!r}")
        held = self.requests[id]
        if held.view.state == "running":
            self.cancelled.append(id)
            held.view = RequestView(id, "cancelled", 1, 4, ())
            held.ended.set()
        return held.view

    async def explain(self, request: ComputeRequest) -> list[ExplainedStep]:
        asset = self._asset(request.assets[0])
        states = ("kept", "missing")
        return [
            ExplainedStep(name, "1", f"{i:032x}", asset, states[i % 2], (), 1.5, {"CPU": 1.0}, True)
            for i, name in enumerate(request.features)
        ]

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        self.loaded += keys
        for key in keys:
            if key in self.lost or key not in getattr(self, "_values", {}):
                raise UnknownKey(f"no value is stored under key {key!r}")
        found = [(key, *self._values[key]) for key in keys]
        return [StoredValue(key, name, "1", TYPES[name][1], value) for key, name, value in found]

    async def purge(
        self, *, asset: str | None = None, feature: str | None = None, version: str | None = None
    ) -> int:
        self.purged.append({"asset": asset, "feature": feature, "version": version})
        return 3

    async def failures(self) -> list[Failure]:
        return [Failure("feature", "ValueError", "it broke", "size", "0" * 32, "unit")]

    async def stats(self) -> dict[str, float]:
        return {"hits": 2.0, "hot_bytes": 1234.5}

    async def aclose(self) -> None:
        self.closed += 1


def value_of(name: str, unit: Unit) -> Any:
    """The value that every run of a feature gives."""
    match name:
        case "size" | "slow":
            return unit.bytes  # type: ignore[union-attr]
        case "picture":
            return JPEG
        case "vector":
            return np.array([unit.index, 0.5], dtype=np.float32)  # type: ignore[union-attr]
        case "odd":
            return np.empty((0, 4), dtype=np.float32)
        case "score":
            return float("nan")
        case _:
            return {"assets": len(unit.assets)}  # type: ignore[union-attr]
