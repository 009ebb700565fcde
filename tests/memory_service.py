"""A small Amber in the memory of one event loop, for driving the HTTP app, the clients and the command.

`MemoryService` keeps the contract of `Service` (`tests/service_contract.py`) as far as one object without a
store can. A test says what each feature's value is (`Made`), and holds them back at gates: one for every
answer (`gate`) and one for each feature (`gate_of`). Everything that was asked is in `asked`, in order.

Nothing runs beside its callers, neither a task nor a thread: whoever asks, and whoever opens a gate, takes
all steps as far as they can go. So between two `await`s of a test nothing changes but by the test.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from amber_ray import errors
from amber_ray.core.deliveries.policy import Policy
from amber_ray.core.model import asked
from amber_ray.core.model.absent import no_asset, nothing_at
from amber_ray.core.model.asked import REQUESTS, RequestInfo, checked_state, info_of
from amber_ray.core.model.audit import (
    AUDIT,
    EVERY_LINE,
    AuditFilter,
    AuditLine,
    Change,
    actor,
    line,
    told_url,
)
from amber_ray.core.model.audit import PLACE as AUDIT_PLACE
from amber_ray.core.model.audit import checked_filter as checked_lines
from amber_ray.core.model.callback import DeliveryState, DeliveryView
from amber_ray.core.model.demands import Demand, DemandStatus, DemandView, Noticed
from amber_ray.core.model.kept import StoredVersion
from amber_ray.core.model.naming import name_of
from amber_ray.core.model.pages import (
    EVERY_ASSET,
    USUAL,
    AssetFilter,
    Page,
    checked_limit,
    first,
    list_assets,
    read_cursor,
    told_page,
    uploads_of,
)
from amber_ray.core.model.places import place_named
from amber_ray.core.model.provenance import PLACE, VALUES, ValueInfo, ValueLineage
from amber_ray.core.model.request import (
    MISSING,
    AssetFailure,
    AssetRef,
    ComputeRequest,
    ExplainedStep,
    Failure,
    Priority,
    RequestState,
    RequestView,
    Result,
)
from amber_ray.core.model.service import (
    AbsentValue,
    Answered,
    FeatureInfo,
    MediaPiece,
    RequestEvent,
    StoredValue,
    media_span,
)
from amber_ray.core.model.stats import HITS_MEMORY, READS_MEMORY
from amber_ray.core.model.units import (
    MICRO,
    Asset,
    Collection,
    EachRange,
    Segment,
    Stream,
    Unit,
    is_found,
    segments,
)
from amber_ray.core.planning.fanout import segment_of, windows_of
from amber_ray.core.values.annotations import Jpeg, ValueType, parse
from amber_ray.errors import (
    AmberError,
    FeatureError,
    MediaNotFound,
    UnknownFeature,
    UnknownKey,
    UnknownRequest,
)
from amber_ray.settings import Settings

SEGMENT_SECONDS = 10.0
STEP_SECONDS = 0.25
UPLOADS = "/store/uploads/"
CALLS = Policy.of(Settings(callback_hosts=("127.0.0.1",), callback_secrets=("whsec_" + "a" * 32,)))
"""Who may be called. Nobody is."""
BATCH = 8
"""Values in one batch."""


def digest(text: str) -> str:
    """128 bits in hex, as ids of assets and keys of values are."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


class Call(NamedTuple):
    """One run of a feature: its unit, its inputs' values and its parameters, and which run of it this is."""

    unit: Unit
    inputs: Mapping[str, Any]
    params: Mapping[str, Any]
    run: int


@dataclass(frozen=True)
class Made:
    """A feature of the double: its type, and its value for a unit; an exception is why it has none.

    `value` takes the unit alone, and then `inputs` are declared but never computed. With `of` in its place
    they are computed first, and a failure of one of them is this feature's failure. `per` may be the name of
    a feature that finds ranges.
    """

    type: ValueType
    value: Callable[[Unit], Any] = lambda unit: None
    per: str = "asset"
    inputs: tuple[str, ...] = ()
    inline: bool = True
    of: Callable[[Call], Any] | None = None
    params: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    store: str = "parquet"


FEATURES: dict[str, Made] = {
    "probe": Made(parse(str), lambda unit: "h264"),
    "brightness": Made(parse(float), lambda unit: 0.5, "segment", ("probe",)),
    "embedding": Made(
        parse(np.ndarray),
        lambda unit: np.arange(6, dtype=np.float32).reshape(2, 3),
        inputs=("probe",),
        inline=False,
        params={"size": ("int", 224)},
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
        params=made.params,
        returns=made.type.spec(),
        resources={"CPU": 1.0},
        store=made.store,
        doc=f"What {name} is.",
        pinned=True,
        code_digest=digest(name),
        is_class=name == "embedding",
        digest=digest(f"meaning of {name}"),
    )


class Gate(asyncio.Event):
    """Open at first. Opening it lets all steps that wait at it end, before `set` returns."""

    def __init__(self, opened: Callable[[], None]) -> None:
        super().__init__()
        self._opened = opened
        super().set()

    def set(self) -> None:
        super().set()
        self._opened()


@dataclass(frozen=True)
class Step:
    """One feature for one unit: its key, and the keys of its inputs in the shape that the feature takes.

    A step for each range that a finder finds is a template: it needs the finder alone, and never runs. In the
    inputs of what gathers it, its key stands for a list.
    """

    key: str
    feature: str
    unit: Unit
    params: Mapping[str, Any]
    inputs: Mapping[str, Any]
    needs: tuple[str, ...]


@dataclass(eq=False)
class Held:
    """A request: what was asked, its steps and targets, and the answers that there are.

    `callers` wait in `compute`; `accepted` says that it was answered "running", so that it goes on without
    them. `nothing` are targets that stand for each range of a finder that has found none. `changed` is
    replaced at each change, and set.
    """

    id: str
    request: ComputeRequest
    steps: Mapping[str, Step] = field(default_factory=dict)
    targets: tuple[Step, ...] = ()
    failed_assets: tuple[AssetFailure, ...] = ()
    there: frozenset[str] = frozenset()
    nothing: set[str] = field(default_factory=set)
    state: RequestState = "running"
    answers: dict[str, Result] = field(default_factory=dict)
    callers: int = 0
    accepted: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    deadline: asyncio.TimerHandle | None = None

    def notify(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Until it has ended or time is up; does not give way to anyone if there is nothing to wait for."""
        if self.state != "running" or seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                while self.state == "running":
                    await self.changed.wait()
        except TimeoutError:
            pass


@dataclass(eq=False)
class MemoryService:
    """Answers at once unless a gate is closed; a uri with "missing" in it is not found.

    - `withdrawn`: ids whose caller left while it waited; `cancelled`: ids that were cancelled;
    - `kept`: every value that is there, by key;
    - `runs`: how often each (feature, unit's id) began;
    - `requests`: every request that is known, by id;
    - `never_ran`: features of which nobody knows how long they take;
    - `bound`: how many requests of one tenant may run at once, `callbacks` how many of those with callbacks;
    - `deadlines`: whether a request's deadline ends it;
    - `error`: raised by every call.
    """

    made: dict[str, Made] = field(default_factory=lambda: dict(FEATURES))
    asked: list[tuple[str, Any]] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    uploads: list[tuple[bytes, str | None]] = field(default_factory=list)
    kept: dict[str, StoredValue] = field(default_factory=dict)
    kept_true: dict[str, DemandView] = field(default_factory=dict)
    changes: list[AuditLine] = field(default_factory=list)
    failed: dict[str, Failure] = field(default_factory=dict)
    requests: dict[str, Held] = field(default_factory=dict)
    runs: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    known: dict[str, Asset] = field(default_factory=dict)
    places: dict[str, Asset] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    never_ran: set[str] = field(default_factory=set)
    bound: int = 10_000
    callbacks: int = 10_000
    deadlines: bool = True
    error: BaseException | None = None
    closed: int = 0
    hits: int = 0
    reads: int = 0

    def __post_init__(self) -> None:
        self.gate = Gate(self.go_on)
        self._gates: dict[str, Gate] = {}
        self._begun: set[str] = set()
        self._units: dict[str, Unit] = {}
        self._clock = 1_700_000_000.0

    # --- what a test says

    def gate_of(self, feature: str) -> Gate:
        """The gate of one feature's steps."""
        return self._gates.setdefault(feature, Gate(self.go_on))

    def media_at(self, uri: str) -> Asset:
        """What is at a URI, a film unless it is called `.png`. Raises `MediaNotFound`."""
        if "missing" in uri:
            raise MediaNotFound(f"nothing is at {uri!r}")
        if uri.endswith(".png"):
            return Asset(digest(uri.rpartition("/")[2]), uri, "image/png", 100)
        stream = Stream("video", "h264", 640, 360, "24/1", 720)
        return Asset(digest(uri), uri, "video/mp4", 1000, 25.0, (stream,))

    def put(self, key: str, stored: StoredValue) -> None:
        """Have a value there that nobody has asked for, of an asset with the same id."""
        self.kept[key] = stored
        self._units[key] = self.known[key] = Asset(key, f"/m/{key}.png", "image/png", 100)

    def new_id(self) -> str:
        """A name for the next request: rq-000000, rq-000001, ..."""
        return f"rq-{len(self.requests):06}"

    def inline(self, feature: str) -> bool:
        """Whether a feature's values travel in the answer."""
        return self.made[feature].inline

    def admitted(self, held: Held) -> None:
        """A request was taken in; nothing of it has begun."""

    def may_answer(self, held: Held) -> bool:
        """Whether a request's results may be told now. Whatever changes that calls `go_on`."""
        return self.gate.is_set()

    def left(self, held: Held) -> None:
        """A caller has hung up: a request that nobody waits for and nobody was promised is as never made."""
        if held.state == "running" and not held.callers and not held.accepted:
            self._end(held, "cancelled")
            del self.requests[held.id]

    def _ask(self, what: str, detail: Any = None) -> None:
        self.asked.append((what, detail))
        if self.error is not None:
            raise self.error

    # --- assets and features

    async def features(self) -> list[FeatureInfo]:
        self._ask("features")
        return [info(name, made) for name, made in sorted(self.made.items())]

    async def add_asset(self, uri: str) -> Asset:
        self._ask("add_asset", uri)
        await self.gate.wait()
        asset = self._find(AssetRef(uri=uri))
        self._changed("asset.added", asset.id)
        return asset

    async def upload(self, chunks: AsyncIterable[bytes], media_type: str | None = None) -> Asset:
        self._ask("upload", media_type)
        body = b"".join([chunk async for chunk in chunks])
        self.uploads.append((body, media_type))
        asset = replace(self.media_at("upload"), id=digest(repr(body)), bytes=len(body))
        uri = f"{UPLOADS}{uploads_of(actor().tenant)}{asset.id}"
        self.known[asset.id] = asset = replace(asset, uri=uri, media_type=media_type or asset.media_type)
        self.places[asset.uri] = asset
        self.contents[asset.id] = body
        self._changed("asset.uploaded", asset.id)
        return asset

    async def media(
        self, asset: str, start: int = 0, end: int | None = None, tenant: str | None = None
    ) -> MediaPiece:
        self._ask("media", (asset, start, end, tenant))
        shows = AssetFilter(tenant=tenant).shows
        of_it = [one for one in self.places.values() if one.id == asset and shows(one.uri, UPLOADS)]
        if not of_it:
            raise no_asset(asset)
        place = of_it[-1]
        content = self.contents.get(asset) or (place.uri.encode() * place.bytes)[: place.bytes]
        name = name_of(place.uri)
        start, size = media_span(name, len(content), start, end)
        return MediaPiece(asset, name, place.media_type, len(content), start, content[start : start + size])

    async def list_assets(
        self, only: AssetFilter = EVERY_ASSET, limit: int = USUAL, cursor: str | None = None
    ) -> Page[Asset]:
        self._ask("list_assets", (only, limit, cursor))
        return list_assets(self.places.values(), only, limit, cursor, UPLOADS)

    async def asset(self, id: str, tenant: str | None = None) -> Asset:
        self._ask("asset", id)
        return self._find(AssetRef(id=id, tenant=tenant))

    def _shows(self, asset: Asset, tenant: str | None, *more: Asset) -> bool:
        only, places = AssetFilter(tenant=tenant), (*self.places.values(), *more)
        return any(one.id == asset.id and only.shows(one.uri, UPLOADS) for one in places)

    def _find(self, ref: AssetRef) -> Asset:
        if ref.id is not None:
            if ref.id not in self.known or not self._shows(self.known[ref.id], ref.tenant):
                raise no_asset(ref.id)
            return self.known[ref.id]
        sent = self.places.get(ref.uri or "")
        if sent is not None and sent.uri.startswith(UPLOADS):
            if not self._shows(sent, ref.tenant):
                raise nothing_at(sent.uri)
            return sent
        asset = self.media_at(ref.uri or "")
        self.known[asset.id] = self.places[asset.uri] = asset
        return asset

    # --- requests

    async def compute(self, request: ComputeRequest, wait: float = 0.0, id: str | None = None) -> RequestView:
        self._ask("compute", (request, wait, id))
        if request.callback is not None:
            request.callback.check()
            CALLS.allow(request.callback.url)
        held = self._admit(id or self.new_id(), request)
        held.callers += 1
        try:
            await held.wait(wait)
        except asyncio.CancelledError:
            self.withdrawn.append(held.id)
            held.callers -= 1
            self.left(held)
            raise
        held.callers -= 1
        if not held.accepted and (held.state == "running" or request.callback is not None):
            held.accepted = True
            self._changed("request.accepted", held.id, request.tenant)
        return self.view(held)

    def _admit(self, id: str, request: ComputeRequest) -> Held:
        """The request of that id, begun if there is none. Nothing is awaited: it is one however many ask."""
        held = self.requests.get(id)
        if held is not None:
            if _what(held.request) != _what(request):
                raise errors.RequestMismatch(f"request {id!r} asks for something else; choose another id")
            return held
        held = self._planned(id, request)
        running = sum(
            h.state == "running" and h.request.tenant == request.tenant for h in self.requests.values()
        )
        if running >= self.bound:
            raise errors.Overloaded(f"tenant {request.tenant!r} has {running} requests running, the limit")
        if request.callback is not None:
            its = [h for h in self.requests.values() if h.request.tenant == request.tenant]
            if sum(h.state == "running" and h.request.callback is not None for h in its) >= self.callbacks:
                raise errors.Overloaded(f"{request.tenant!r} has {self.callbacks} callbacks, the limit")
        self.requests[id] = held
        if request.refresh:
            self._forget({step.key for step in held.targets} | (self.failed.keys() & held.steps.keys()))
        held.there = frozenset(self.kept.keys() & held.steps.keys())
        if request.deadline_seconds is not None and self.deadlines:
            loop = asyncio.get_running_loop()
            held.deadline = loop.call_later(request.deadline_seconds, self._expire, held)
        self.admitted(held)
        self.go_on()
        return held

    async def deliveries(
        self, *, state: DeliveryState | None = None, tenant: str | None = None
    ) -> list[DeliveryView]:
        self._ask("deliveries", (state, tenant))
        called = [
            self._delivery(held) for held in self.requests.values() if held.request.callback is not None
        ]
        return [one for one in called[::-1] if state in (None, one.state) and tenant in (None, one.tenant)]

    async def replay(self, id: str, *, tenant: str | None = None) -> DeliveryView:
        self._ask("replay", (id, tenant))
        for one in await self.deliveries(tenant=tenant):
            if one.id == id:
                if one.state == "waiting":
                    raise errors.BadRequest(f"delivery {id!r} has no message yet")
                self._changed("delivery.replayed", id, one.tenant)
                return replace(one, state="pending", next_at=one.created)
        raise errors.UnknownDelivery(f"no delivery has the id {id!r}")

    def _delivery(self, held: Held) -> DeliveryView:
        """Whoever is to be called has been, as soon as the request is over."""
        assert held.request.callback is not None
        over = held.state != "running"
        return DeliveryView(
            f"end_{held.id}",
            held.id,
            held.request.tenant,
            told_url(held.request.callback.url),
            "delivered" if over else "waiting",
            f"request.{held.state}" if over else "",
            self.view(held).created,
            int(over),
            status=204 if over else None,
        )

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        self._ask("status", (id, wait))
        held = self._held(id)
        await held.wait(wait)
        return self.view(held)

    async def events(self, id: str) -> AsyncIterator[RequestEvent]:
        self._ask("events", id)
        held = self._held(id)
        told = 0
        yield RequestEvent("progress", *self.progress(held))
        while True:
            changed = held.changed  # looked at before the state, so that no change is missed
            ended = held.state != "running"
            for result in list(held.answers.values())[told:]:
                told += 1
                yield RequestEvent("result", *self.progress(held), result)
            if ended and told == len(held.answers):
                view = self.view(held)
                yield RequestEvent("done", view.done, view.total, view=view)
                return
            await changed.wait()

    async def cancel(self, id: str) -> RequestView:
        self._ask("cancel", id)
        held = self._held(id)
        if held.state == "running":
            self.cancelled.append(id)
            self._end(held, "cancelled")
        self._changed("request.cancelled", id, held.request.tenant)
        return self.view(held)

    def view(self, held: Held) -> RequestView:
        """A request as it stands."""
        done, total = self.progress(held)
        open_state = "cancelled" if held.state == "cancelled" else "pending"
        results = tuple(
            held.answers.get(step.key) or Result(step.feature, step.key, step.unit, open_state)  # type: ignore[arg-type]
            for step in held.targets
        )
        return RequestView(
            held.id,
            held.state,
            done,
            total,
            results,
            held.failed_assets,
            held.request.tenant,
            1.0,
            held.request.features,
        )

    def progress(self, held: Held) -> tuple[int, int]:
        """(done, total) steps."""
        done = sum(key in self.kept or key in self.failed or key in held.answers for key in held.steps)
        return (len(held.steps) if held.state in ("done", "failed") else done), len(held.steps)

    def _held(self, id: str) -> Held:
        if id not in self.requests:
            raise UnknownRequest(f"there is no request {id!r}")
        return self.requests[id]

    def _expire(self, held: Held) -> None:
        if held.state == "running":
            for step in held.targets:
                if step.key not in held.answers:
                    words = "the deadline passed before this step was done"
                    failure = Failure(
                        "system",
                        "Expired",
                        words,
                        step.feature,
                        step.key,
                        step.unit.unit_id,
                        errors.Expired.status,
                    )
                    held.answers[step.key] = Result(
                        step.feature, step.key, step.unit, "failed", failure=failure
                    )
            self._settle(held)
            self._stop_unwanted()

    def _settle(self, held: Held) -> None:
        """End a request whose targets are all answered."""
        if held.state == "running" and len(held.answers) == len({s.key for s in held.targets}):
            ready = any(r.state == "ready" for r in held.answers.values())
            self._end(held, "done" if ready or not (held.targets or held.failed_assets) else "failed")

    def _end(self, held: Held, state: RequestState) -> None:
        held.state = state
        if held.deadline is not None:
            held.deadline.cancel()
        held.notify()
        if state == "cancelled":
            self._stop_unwanted()

    # --- plans

    def _planned(self, id: str, request: ComputeRequest) -> Held:
        """A request with its steps. Raises `BadRequest` and kin for what can't be planned."""
        self.judge(request)
        assets: list[Asset] = []
        failed: list[AssetFailure] = []
        for ref in request.assets:
            try:
                assets.append(self._find(ref))
            except AmberError as error:
                failed.append(AssetFailure(ref, _asset_failure(ref, error)))
        assets = list({a.id: a for a in assets}.values())
        steps: dict[str, Step] = {}
        targets: list[Step] = []
        for asset in assets:
            try:
                units = {name: self._targets_of(name, asset, request, steps) for name in request.features}
            except errors.BadRequest as error:
                if len(assets) == 1:
                    raise
                ref = self.refused(asset)
                failed.append(AssetFailure(ref, _asset_failure(ref, error)))
                continue
            targets += [self._step(n, unit, request, steps) for n in request.features for unit in units[n]]
        if assets:
            whole = Collection.of(assets)
            names = [n for n in request.features if self.made[n].per == "collection"]
            targets += [self._step(name, whole, request, steps) for name in names]
        return Held(id, request, steps, tuple(targets), tuple(failed))

    def refused(self, asset: Asset) -> AssetRef:
        """How an asset is named that a request's range does not fit."""
        return AssetRef(uri=asset.uri, id=asset.id)

    def judge(self, request: ComputeRequest) -> None:
        """Raise `BadRequest` and kin for what is wrong with a request whatever its assets."""
        for name in request.features:
            if name not in self.made:
                raise UnknownFeature(f"there is no feature {name!r}")
        for name, wanted in request.expect.items():
            if name not in self.made or info(name, self.made[name]).digest != wanted:
                raise errors.FeatureMismatch(f"feature {name!r} is another one here, not {wanted}")
        for given, value in request.params.items():
            name, _, param = given.partition(".")
            if name not in self.made or param not in self.made[name].params:
                raise errors.UnknownParameter(f"unknown parameter {given!r}")
            default = self.made[name].params[param][1]
            if type(value) is not type(default):
                raise errors.BadParameter(f"{given!r} must be {type(default).__name__}")

    def _targets_of(
        self, name: str, asset: Asset, request: ComputeRequest, steps: dict[str, Step]
    ) -> Sequence[Unit]:
        """The units of one asset that a request for a feature is about, as far as they are known."""
        if is_found(self.made[name].per):
            segments(asset, SEGMENT_SECONDS, request.range)  # refuses a range that does not fit
            return [self._each(name, asset, request, steps, request.range if asset.timed else None)]
        return self._units_of(name, asset, request.range)

    def _units_of(self, name: str, asset: Asset, span: tuple[float, float] | None) -> Sequence[Unit]:
        """The units of one asset that a feature has a value for; none for a feature per collection."""
        per = self.made[name].per
        if per == "segment":
            return segments(asset, SEGMENT_SECONDS, span)
        return [asset] if per == "asset" else []

    def _each(
        self,
        name: str,
        asset: Asset,
        request: ComputeRequest,
        steps: dict[str, Step],
        span: tuple[float, float] | None = None,
    ) -> EachRange:
        """Each range that a feature's finder finds in an asset, or those that a span touches."""
        finder = self.made[name].per
        key = self._step(finder, asset, request, steps).key
        span_us = None if span is None else (round(span[0] * MICRO), round(span[1] * MICRO))
        return EachRange(asset, finder, key, round(SEGMENT_SECONDS * MICRO), span_us)

    def _step(self, name: str, unit: Unit, request: ComputeRequest, steps: dict[str, Step]) -> Step:
        """The step of a feature for a unit; it and all below it are in `steps`, inputs first."""
        made = self.made[name]
        template = isinstance(unit, EachRange)
        inputs: dict[str, Any] = {}
        for source in made.inputs if made.of is not None and not template else ():
            units, many = self._input_units(source, unit, request, steps)
            keys = [self._step(source, one, request, steps).key for one in units]
            inputs[source] = keys if many else keys[0]
        needs = (unit.key,) if isinstance(unit, EachRange) else _needs(inputs)
        params = {p: request.params.get(f"{name}.{p}", default) for p, (_, default) in made.params.items()}
        window = template or isinstance(unit, Segment)
        key = digest(name + unit.unit_id + "".join(self._given(name, request, window)))
        self._units[key] = unit
        return steps.setdefault(key, Step(key, name, unit, params, inputs, needs))

    def _given(self, name: str, request: ComputeRequest, window: bool) -> list[str]:
        """The parameters of a feature and of all below it that are not their defaults, as text.

        What gathers found units is made of what was found; one `window` is the same whoever found it.
        """
        made = self.made[name]
        own = {p: request.params.get(f"{name}.{p}", default) for p, (_, default) in made.params.items()}
        given = [f"{name}.{p}={value!r}" for p, value in own.items() if value != made.params[p][1]]
        if is_found(made.per) and not window:
            given += self._given(made.per, request, False)
        for source in made.inputs:
            given += self._given(source, request, window and self.made[source].per != "asset")
        return given

    def _input_units(
        self, source: str, unit: Unit, request: ComputeRequest, steps: dict[str, Step]
    ) -> tuple[Sequence[Unit], bool]:
        """The units of an input that a unit is made from, and whether the feature takes them as a list."""
        per = self.made[source].per
        if isinstance(unit, Segment):
            return [unit if per == "segment" or is_found(per) else unit.asset], False
        if is_found(per):
            assets = unit.assets if isinstance(unit, Collection) else [unit]
            return [self._each(source, a, request, steps) for a in assets], isinstance(unit, Collection)
        if isinstance(unit, Collection):
            if per == "collection":
                return [unit], False
            return [u for a in unit.assets for u in self._units_of(source, a, None)], True
        return self._units_of(source, unit, None), per == "segment"

    def _expand(self, held: Held) -> bool:
        """Put the steps of each window in the place of those that wait for them, where they are known."""
        needed = self._needed(held)
        moved = False
        for step in list(held.steps.values()):
            each = step.unit
            if (
                isinstance(each, EachRange)
                and step.key in needed - held.nothing
                and each.key in self.kept
                and step.key not in self.failed
            ):
                moved = True
                try:
                    units = _found(each, self.kept[each.key].value)
                except FeatureError as error:
                    self.failed[step.key] = _failure(step, error)
                else:
                    self._put(held, step, units)
        return moved

    def _put(self, held: Held, template: Step, units: Sequence[Unit]) -> None:
        """Put the steps of units in the place of a template that stands for them."""
        steps = dict(held.steps)
        found = {s.key: s for s in (self._step(template.feature, u, held.request, steps) for u in units)}
        target = template in held.targets
        if held.request.refresh:
            self._forget((found.keys() if target else set()) | (self.failed.keys() & steps.keys()))
        held.there |= self.kept.keys() & found.keys()
        if target and not found:
            held.nothing.add(template.key)
        else:
            del steps[template.key]
            held.targets = tuple(s for t in held.targets for s in (found.values() if t == template else (t,)))
        for user in [s for s in steps.values() if template.key in s.needs]:
            inputs = _widened(user.inputs, template.key, list(found))
            del steps[user.key]  # inputs come first
            steps[user.key] = replace(user, inputs=inputs, needs=_needs(inputs))
        held.targets = tuple(steps[t.key] for t in held.targets)
        held.steps = steps
        held.notify()

    # --- work

    def go_on(self) -> None:
        """Take every step of running requests as far as it can go, and answer what can be answered."""
        moved = True
        while moved:
            moved = False
            for held in list(self.requests.values()):
                if held.state == "running":
                    moved = self._expand(held) or moved
                    needed = self._needed(held)
                    for step in held.steps.values():
                        moved = (step.key in needed and self._advance(step)) or moved
        for held in list(self.requests.values()):
            if held.state == "running":
                self._answer(held)

    def _needed(self, held: Held, anew: AbstractSet[str] = frozenset()) -> set[str]:
        """The targets, and what is under those that have no value yet, or are to have one `anew`."""
        needed: set[str] = set()
        stack = [step.key for step in held.targets]
        while stack:
            key = stack.pop()
            if key not in needed:
                needed.add(key)
                if key in anew or not (key in self.kept or key in self.failed):
                    stack.extend(held.steps[key].needs)
        return needed

    def _advance(self, step: Step) -> bool:
        """Begin a step whose inputs are there, and end it if no gate holds it; True if it has ended now."""
        if step.key in self.kept or step.key in self.failed:
            return False
        for key in step.needs:
            if key in self.failed:
                self.failed[step.key] = self.failed[key]
                return True
            if key not in self.kept:
                return False
        if isinstance(step.unit, EachRange):
            return False  # others come in its place
        name = step.feature, step.unit.unit_id
        if step.key not in self._begun:
            self._begun.add(step.key)
            self.runs[name] += 1
        if not (self.gate.is_set() and self.gate_of(step.feature).is_set()):
            return False
        self._begun.discard(step.key)
        made = self.made[step.feature]
        if made.of is None:
            value = made.value(step.unit)
        else:
            inputs = {name: self._read(keys) for name, keys in step.inputs.items()}
            value = made.of(Call(step.unit, inputs, step.params, self.runs[name]))
        if isinstance(value, Exception):
            self.failed[step.key] = _failure(step, value)
        else:
            self._clock += 0.001
            self.kept[step.key] = StoredValue(step.key, step.feature, "1", made.type, value, self._clock)
        return True

    def _read(self, keys: Any) -> Any:
        return self.kept[keys].value if isinstance(keys, str) else [self._read(k) for k in keys]

    def _answer(self, held: Held) -> None:
        if not self.may_answer(held):
            return
        before = len(held.answers)
        for step in held.targets:
            if step.key in held.answers:
                continue
            if (failure := self.failed.get(step.key)) is not None:
                held.answers[step.key] = Result(step.feature, step.key, step.unit, "failed", failure=failure)
            elif step.key in held.nothing:
                held.answers[step.key] = Result(step.feature, step.key, step.unit, "ready")
            elif (stored := self.kept.get(step.key)) is not None:
                value = stored.value if self.inline(step.feature) else MISSING
                cached = step.key in held.there
                self.hits += cached
                held.answers[step.key] = Result(
                    step.feature, step.key, step.unit, "ready", value, None, STEP_SECONDS, cached
                )
        if len(held.answers) > before:
            held.notify()
        self._settle(held)

    def _stop_unwanted(self) -> None:
        """Steps that began for requests that are over, and that nobody else waits for, have not begun."""
        wanted = {k for h in self.requests.values() if h.state == "running" for k in h.steps}
        self._begun &= wanted

    # --- values

    async def list_requests(
        self,
        tenant: str | None = None,
        state: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[RequestInfo]:
        self._ask("list_requests", (tenant, state, limit, cursor))
        checked_limit(limit), checked_state(state)
        after = read_cursor(REQUESTS, cursor, *asked.PLACE)
        its = (info_of(self.view(held)) for held in self.requests.values())
        found = [one for one in its if tenant in (None, one.tenant) and state in (None, one.state)]
        return told_page(first(found, after, limit + 1), limit, REQUESTS)

    async def explain(self, request: ComputeRequest) -> list[ExplainedStep]:
        self._ask("explain", request)
        held = self._planned("explain", request)
        if held.failed_assets and not held.targets:
            failure = held.failed_assets[0].failure
            raise getattr(errors, failure.type)(failure.message)
        self._expand(held)
        targets = {step.key for step in held.targets}
        anew = targets if request.refresh else set()
        needed = self._needed(held, anew)
        return [
            ExplainedStep(
                step.feature,
                "1",
                step.key,
                step.unit,
                "kept" if step.key in held.nothing else self._state(step),  # type: ignore[arg-type]
                step.needs,
                None if step.feature in self.never_ran else 0.5,
                {"CPU": 1.0},
                step.key in targets,
                "use"
                if step.key in held.nothing
                else self._action(step, anew)  # type: ignore[arg-type]
                if step.key in needed
                else "skip",
            )
            for step in held.steps.values()
        ]

    def _action(self, step: Step, anew: set[str]) -> str:
        does = {"kept": "use", "failed": "fail", "running": "wait", "missing": "run"}
        state = "missing" if step.key in anew else self._state(step)
        below = any(k in self.failed and k not in anew for k in step.needs)
        return "fail" if state == "missing" and below else does[state]

    def _state(self, step: Step) -> str:
        if step.key in self.kept:
            return "kept"
        if step.key in self.failed:
            return "failed"
        return "running" if step.key in self._begun else "missing"

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        self._ask("load", tuple(keys))
        await self.gate.wait()
        for key in keys:
            if key not in self.kept:
                raise UnknownKey(f"no value is stored under {key!r}")
        self.reads += len(keys)
        return [self.kept[key] for key in keys]

    async def values(self, keys: Sequence[str]) -> AsyncGenerator[Sequence[Answered], None]:
        self._ask("values", tuple(keys))
        await self.gate.wait()
        left = list(dict.fromkeys(keys))
        for i in range(0, len(left), BATCH):
            yield [self.answer(key) for key in left[i : i + BATCH]]

    def answer(self, key: str) -> Answered:
        """What is said of one key."""
        if key in self.kept:
            self.reads += 1
            return self.kept[key]
        words = f"no value is stored under {key!r}"
        unknown = Failure("system", "UnknownKey", words, "", key, "", UnknownKey.status)
        return AbsentValue(key, self.failed.get(key, unknown))

    async def shown(self, keys: Sequence[str], tenant: str) -> frozenset[str]:
        self._ask("shown", (tuple(keys), tenant))
        mine = {asset.id for asset in self.places.values() if self._shows(asset, tenant)}
        return frozenset(key for key in keys if key in self.kept and mine.issuperset(self.told(key).assets))

    async def list_values(
        self,
        asset: str,
        *,
        feature: str | None = None,
        version: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[ValueInfo]:
        self._ask("list_values", (asset, feature, version, limit, cursor))
        checked_limit(limit)
        after = read_cursor(VALUES, cursor, *PLACE)
        its = [self.told(key) for key in self.kept]
        found = [one for one in its if asset in one.assets and feature in (None, one.feature)]
        found = [one for one in found if version in (None, one.version)]
        if not found:
            self._find(AssetRef(id=asset))  # raises for one that nobody knows
        return told_page(first(found, after, limit + 1), limit, VALUES)

    def told(self, key: str) -> ValueInfo:
        """What is known of a value beside the value."""
        stored, unit = self.kept[key], self._units[key]
        step = next((h.steps[key] for h in self.requests.values() if key in h.steps), None)
        return ValueInfo(
            key,
            stored.feature,
            stored.version,
            unit.unit_id,
            dict(step.params) if step else {},
            isinstance(unit, Segment) and unit.found,
            stored.made,
            STEP_SECONDS,
            "cpu",
            digest(stored.feature),
            step.needs if step else (),
            stored=True,
            memory=True,
        )

    async def lineage(self, key: str) -> ValueLineage:
        self._ask("lineage", key)
        if key not in self.kept:
            raise UnknownKey(f"no value is stored under {key!r}")
        steps = {k: step for held in self.requests.values() for k, step in held.steps.items()}
        nodes: dict[str, ValueInfo] = {}
        unknown: dict[str, None] = {}
        level = [key]
        while level:
            for one in level:
                if one in self.kept:
                    nodes[one] = self.told(one)
                elif one in steps:
                    nodes[one] = _planned(steps[one])
                else:
                    unknown[one] = None
            below = dict.fromkeys(its for one in level if one in nodes for its in nodes[one].inputs)
            level = [its for its in below if its not in nodes and its not in unknown]
        ids = {id for node in nodes.values() for id in node.assets}
        places = tuple(asset for asset in self.places.values() if asset.id in ids)
        return ValueLineage(key, tuple(nodes.values()), tuple(unknown), places)

    async def purge(
        self, *, asset: str | None = None, feature: str | None = None, version: str | None = None
    ) -> int:
        self._ask("purge", (asset, feature, version))
        if asset is None and feature is None and version is None:
            raise errors.BadRequest("purge needs at least one of asset, feature and version")

        def matches(key: str, name: str) -> bool:
            about = asset is None or (key in self._units and asset in _asset_ids(self._units[key]))
            return about and feature in (None, name) and version in (None, "1")

        named = {"asset": asset, "feature": feature, "version": version}
        self._changed("values.purged", " ".join(f"{k} {v}" for k, v in named.items() if v is not None))
        gone = {key for key, stored in self.kept.items() if matches(key, stored.feature)}
        self._forget(gone | {key for key, failure in self.failed.items() if matches(key, failure.step)})
        return len(gone)

    def _forget(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.kept.pop(key, None)
            self.failed.pop(key, None)

    async def keep(self, demand: Demand) -> DemandView:
        self._ask("keep")
        demand.check()
        for name in demand.features:
            if name not in self.made:
                raise UnknownFeature(f"there is no feature {name!r}")
            if self.made[name].per == "collection":
                raise errors.BadRequest(f"{name!r} is a feature of a collection")
        if "/outside" in demand.prefixes:
            raise errors.Forbidden("'/outside' is outside the media roots")
        if demand.callback is not None:
            demand.callback.check()
            CALLS.allow(demand.callback.url)
        before = self.kept_true.get(demand.name)
        if before is None or before.demand != demand:
            self.kept_true[demand.name] = DemandView(demand, DemandStatus(), 1.7e9 + len(self.kept_true))
        self._changed("demand.kept", demand.name, demand.tenant)
        return self.kept_true[demand.name]

    async def demands(self) -> list[DemandView]:
        self._ask("demands")
        return [view for _, view in sorted(self.kept_true.items())]

    async def stop_keeping(self, name: str) -> bool:
        self._ask("stop_keeping")
        self._changed("demand.stopped", name)
        return self.kept_true.pop(name, None) is not None

    async def notify(self, uris: Sequence[str], tenant: str | None = None) -> Noticed:
        self._ask("notify")
        kept = [v.demand for v in self.kept_true.values() if tenant in (None, v.demand.tenant)]
        covers = [demand.cover() for demand in kept]
        covered = sum(any(cover.has(place_named(uri)) for cover in covers) for uri in uris)
        return Noticed(covered, len(uris) - covered)

    def _changed(self, what: Change, subject: str, tenant: str = "") -> None:
        id = f"line-{len(self.changes):06d}"
        self.changes.append(line(id, 1.7e9 + len(self.changes), what, subject, actor(), tenant))

    async def audit(
        self, only: AuditFilter = EVERY_LINE, limit: int = USUAL, cursor: str | None = None
    ) -> Page[AuditLine]:
        self._ask("audit", only)
        checked_limit(limit), checked_lines(only)
        after = read_cursor(AUDIT, cursor, *AUDIT_PLACE)
        return told_page(first(filter(only.fits, self.changes), after, limit + 1), limit, AUDIT)

    async def versions(self) -> list[StoredVersion]:
        self._ask("versions")
        counts = collections.Counter(stored.feature for stored in self.kept.values())
        return [StoredVersion(name, "1", 1, count, 100 * count) for name, count in sorted(counts.items())]

    async def failures(self) -> list[Failure]:
        self._ask("failures")
        found = [(_asset(self._units[key]), f) for key, f in self.failed.items() if f.key == key]
        return [replace(failure, uri="" if asset is None else asset.uri) for asset, failure in found]

    async def troubles(self) -> list[str]:
        self._ask("troubles")
        return []

    async def stats(self) -> dict[str, float]:
        self._ask("stats")
        return {
            "computed_total": float(len(self.kept)),
            "hot_bytes": 12.5,
            HITS_MEMORY: float(self.hits),
            READS_MEMORY: float(self.reads),
        }

    async def aclose(self) -> None:
        self.closed += 1


def _what(request: ComputeRequest) -> Any:
    """What makes two requests the same one."""
    return replace(request, params=dict(request.params), priority=Priority.INTERACTIVE, deadline_seconds=None)


def _planned(step: Step) -> ValueInfo:
    """What is told of a step without a value."""
    return ValueInfo(
        step.key,
        step.feature,
        "1",
        step.unit.unit_id,
        dict(step.params),
        isinstance(step.unit, Segment) and step.unit.found,
        code=digest(step.feature),
        inputs=step.needs,
    )


def _asset(unit: Unit) -> Asset | None:
    if isinstance(unit, Segment | EachRange):
        return unit.asset
    return None if isinstance(unit, Collection) else unit


def _found(each: EachRange, value: Any) -> list[Unit]:
    """The windows of a finder's value that are meant, by time. Raises `FeatureError` for what is none."""
    windows = windows_of(value)
    if not isinstance(windows, tuple):
        raise FeatureError(f"feature {each.finder!r} found no ranges to go on with: {windows}")
    first, last = each.span_us or (-1, float("inf"))
    if each.asset.timed:
        last = min(last, (each.asset.duration or 0.0) * MICRO)
    return [segment_of(each.asset, a, b, each.grid_us) for a, b in windows if a < last and b > first]


def _needs(inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of inputs, each once."""
    found: dict[str, None] = {}
    stack = list(reversed(list(inputs.values())))
    while stack:
        one = stack.pop()
        if isinstance(one, str):
            found[one] = None
        else:
            stack.extend(reversed(one))
    return tuple(found)


def _widened(inputs: Mapping[str, Any], template: str, keys: Sequence[str]) -> dict[str, Any]:
    """Inputs with the keys of a list in the place of the template that stands for it."""

    def put(one: Any) -> Any:
        if isinstance(one, str):
            return list(keys) if one == template else one
        return [put(part) for part in one]

    return {name: put(one) for name, one in inputs.items()}


def _asset_ids(unit: Unit) -> set[str]:
    asset = _asset(unit)
    return {asset.id} if asset is not None else {a.id for a in unit.assets}  # type: ignore[union-attr]


def _asset_failure(ref: AssetRef, error: AmberError) -> Failure:
    return Failure(
        "input", type(error).__name__, str(error), "asset", "", ref.id or ref.uri or "", error.status
    )


def _failure(step: Step, error: Exception) -> Failure:
    """Why a step has no value: Amber's own errors by their class, all others as the feature's fault."""
    amber = isinstance(error, AmberError)
    return Failure(
        (getattr(error, "kind", None) if amber else None) or "feature",
        type(error).__name__ if amber else "FeatureError",
        str(error) if amber else f"{type(error).__name__}: {error}",
        step.feature,
        step.key,
        step.unit.unit_id,
        getattr(error, "status", 422),
        "Traceback: line 1\n",
    )
