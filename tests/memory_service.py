"""A `Service` in memory, for driving the HTTP app and the clients without Ray.

It computes nothing: a test says what each feature's value is, and may hold computations back behind a gate.
Everything that was asked of it is in `asked`, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np

from amber_ray.core.model.request import (
    MISSING,
    AssetFailure,
    ComputeRequest,
    ExplainedStep,
    Failure,
    RequestView,
    Result,
)
from amber_ray.core.model.service import FeatureInfo, RequestEvent, StoredValue
from amber_ray.core.model.units import Asset, Collection, Stream, Unit, segments
from amber_ray.core.values.annotations import Jpeg, ValueType, parse
from amber_ray.errors import MediaNotFound, UnknownAsset, UnknownFeature, UnknownKey, UnknownRequest

SEGMENT_SECONDS = 10.0


def digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Made:
    """A feature of the double: its type, and its value for a unit."""

    type: ValueType
    value: Callable[[Unit], Any]
    per: str = "asset"
    inputs: tuple[str, ...] = ()
    inline: bool = True


FEATURES: dict[str, Made] = {
    "probe": Made(parse(str), lambda unit: "h264"),
    "brightness": Made(parse(float), lambda unit: 0.5, "segment", ("probe",)),
    "embedding": Made(
        parse(np.ndarray),
        lambda unit: np.arange(6, dtype=np.float32).reshape(2, 3),
        inputs=("probe",),
        inline=False,
    ),
    "thumbnail": Made(parse(Jpeg), lambda unit: b"\xff\xd8jpeg", inputs=("probe",), inline=False),
    "duplicates": Made(parse(int), lambda unit: 2, "collection", ("embedding",)),
    "broken": Made(parse(float), lambda unit: ZeroDivisionError("division by zero")),
}


def info(name: str, made: Made) -> FeatureInfo:
    return FeatureInfo(
        name=name,
        version="1",
        per=made.per,
        inputs=made.inputs,
        params={"size": ("int", 224)} if name == "embedding" else {},
        returns=made.type.spec(),
        resources={"CPU": 1.0},
        store="parquet",
        doc=f"What {name} is.",
        pinned=True,
        code_digest=digest(name),
        is_class=name == "embedding",
    )


@dataclass
class MemoryService:
    """Answers at once unless `gate` is closed; a uri with "missing" in it is not found."""

    made: dict[str, Made] = field(default_factory=lambda: dict(FEATURES))
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    uploads: list[tuple[bytes, str | None]] = field(default_factory=list)
    error: BaseException | None = None
    closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()
        self.values: dict[str, StoredValue] = {}
        self.requests: dict[str, RequestView] = {}
        self.finals: dict[str, RequestView] = {}
        self.cancelled: set[str] = set()
        self.clock = 1_700_000_000.0

    def _ask(self, what: str, detail: Any = None) -> None:
        self.asked.append((what, detail))
        if self.error is not None:
            raise self.error

    async def features(self) -> list[FeatureInfo]:
        self._ask("features")
        return [info(name, made) for name, made in sorted(self.made.items())]

    def asset(self, uri: str) -> Asset:
        if "missing" in uri:
            raise MediaNotFound(f"nothing is at {uri!r}")
        stream = Stream("video", "h264", 640, 360, "24/1", 720)
        return Asset(digest(uri), uri, "video/mp4", 1000, 25.0, (stream,))

    async def add_asset(self, uri: str) -> Asset:
        self._ask("add_asset", uri)
        await self.gate.wait()
        return self.asset(uri)

    async def upload(self, chunks: AsyncIterable[bytes], media_type: str | None = None) -> Asset:
        self._ask("upload", media_type)
        body = b"".join([chunk async for chunk in chunks])
        self.uploads.append((body, media_type))
        return replace(self.asset("upload"), id=digest(repr(body)), bytes=len(body))

    async def compute(self, request: ComputeRequest, wait: float = 0.0, id: str | None = None) -> RequestView:
        self._ask("compute", (request, wait, id))
        id = id or f"rq-{len(self.requests):06}"
        if id not in self.requests:
            self.finals[id] = self._final(id, request)
            self.requests[id] = self._pending(self.finals[id])
        try:
            return await self._settle(id, wait)
        except asyncio.CancelledError:
            self.withdrawn.append(id)
            raise

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        self._ask("status", (id, wait))
        if id not in self.requests:
            raise UnknownRequest(f"there is no request {id!r}")
        return await self._settle(id, wait)

    async def events(self, id: str) -> AsyncIterator[RequestEvent]:
        self._ask("events", id)
        if id not in self.requests:
            raise UnknownRequest(f"there is no request {id!r}")
        final = self.finals[id]
        yield RequestEvent("progress", 0, final.total)
        await self.gate.wait()
        for done, result in enumerate(final.results, start=1):
            yield RequestEvent("result", done, final.total, result)
        yield RequestEvent("done", final.done, final.total, view=await self._settle(id, 0))

    async def cancel(self, id: str) -> RequestView:
        view = await self.status(id)
        if view.state == "running":
            self.cancelled.add(id)
            self.requests[id] = replace(view, state="cancelled")
        return self.requests[id]

    async def explain(self, request: ComputeRequest) -> list[ExplainedStep]:
        self._ask("explain", request)
        final = self._final("explain", request, keep=False)
        return [
            ExplainedStep(r.feature, "1", r.key, r.unit, "missing", (), 0.5, {"CPU": 1.0}, True)
            for r in final.results
        ]

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        self._ask("load", tuple(keys))
        await self.gate.wait()
        for key in keys:
            if key not in self.values:
                raise UnknownKey(f"no value is stored under {key!r}")
        return [self.values[key] for key in keys]

    async def purge(
        self, *, asset: str | None = None, feature: str | None = None, version: str | None = None
    ) -> int:
        self._ask("purge", (asset, feature, version))
        gone = [key for key, value in self.values.items() if feature in (None, value.feature)]
        for key in gone:
            del self.values[key]
        return len(gone)

    async def failures(self) -> list[Failure]:
        self._ask("failures")
        return [r.failure for final in self.finals.values() for r in final.results if r.failure is not None]

    async def stats(self) -> dict[str, float]:
        self._ask("stats")
        return {"computed_total": float(len(self.values)), "hot_bytes": 12.5}

    async def aclose(self) -> None:
        self.closed = True

    async def _settle(self, id: str, wait: float) -> RequestView:
        """The final view once the gate is open; the pending one if it stays closed for `wait` seconds."""
        if id in self.cancelled:
            return self.requests[id]
        try:
            async with asyncio.timeout(wait if wait > 0 else 0.001):
                await self.gate.wait()
        except TimeoutError:
            return self.requests[id]
        self.requests[id] = self.finals[id]
        return self.finals[id]

    def _pending(self, final: RequestView) -> RequestView:
        results = tuple(r._replace(state="pending", value=MISSING, failure=None) for r in final.results)
        return replace(final, state="running", done=0, results=results)

    def _final(self, id: str, request: ComputeRequest, keep: bool = True) -> RequestView:
        for name in request.features:
            if name not in self.made:
                raise UnknownFeature(f"there is no feature {name!r}")
        assets: list[Asset] = []
        failed: list[AssetFailure] = []
        for ref in request.assets:
            try:
                if ref.id is not None:
                    raise UnknownAsset(f"there is no asset {ref.id!r}")
                assets.append(self.asset(ref.uri or ""))
            except (MediaNotFound, UnknownAsset) as error:
                name = type(error).__name__
                failed.append(AssetFailure(ref, Failure("input", name, str(error), "", "", "", error.status)))
        results = [
            self._result(name, unit, request.refresh, keep)
            for name in request.features
            for unit in self._units(name, assets, request.range)
        ]
        ready = any(r.state == "ready" for r in results)
        total = len(results)
        return RequestView(
            id,
            "done" if ready else "failed",
            total,
            total,
            tuple(results),
            tuple(failed),
            request.tenant,
            1.0,
            request.features,
        )

    def _units(self, name: str, assets: Sequence[Asset], span: tuple[float, float] | None) -> Sequence[Unit]:
        per = self.made[name].per
        if per == "segment":
            return [s for asset in assets for s in segments(asset, SEGMENT_SECONDS, span)]
        if per == "collection":
            return [Collection.of(assets)] if assets else []
        return assets

    def _result(self, name: str, unit: Unit, refresh: bool, keep: bool) -> Result:
        made, key = self.made[name], digest(name + unit.unit_id)
        cached = key in self.values and not refresh
        value = self.values[key].value if cached else made.value(unit)
        if isinstance(value, Exception):
            failure = Failure(
                "feature", type(value).__name__, str(value), name, key, unit.unit_id, 422, "Traceback ..."
            )
            return Result(name, key, unit, "failed", failure=failure)
        if keep and not cached:
            self.clock += 0.001
            self.values[key] = StoredValue(key, name, "1", made.type, value, self.clock)
        return Result(name, key, unit, "ready", value if made.inline else MISSING, None, 0.25, cached)
