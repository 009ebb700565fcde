"""`Service`: all that can be asked of Amber, whichever way a caller came in.

There are three implementations: the engine in the cluster (`fabric.engine.engine`), the HTTP client
(`client.http`), and what `ray://` addresses give, which speaks to an engine in the cluster through Ray Client
(`fabric.adapter.gateway`). An Amber of one's own (`client.lazy`) is an engine that reads the store, and one
in a cluster from the first question on that takes more. The HTTP app and the Python clients are written
against this protocol alone, so each runs over any of them. All methods are safe to call concurrently in one
event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from amber_ray.core.model.asked import RequestInfo
from amber_ray.core.model.audit import EVERY_LINE, AuditFilter, AuditLine
from amber_ray.core.model.callback import DeliveryState, DeliveryView
from amber_ray.core.model.demands import Demand, DemandView, Noticed
from amber_ray.core.model.kept import StoredVersion
from amber_ray.core.model.pages import EVERY_ASSET, USUAL, AssetFilter, Page
from amber_ray.core.model.provenance import ValueInfo, ValueLineage
from amber_ray.core.model.request import ComputeRequest, ExplainedStep, Failure, RequestView, Result
from amber_ray.core.model.units import Asset
from amber_ray.core.values.annotations import ValueType
from amber_ray.errors import BadRequest

MEDIA_BYTES = 1 << 20
"""Most bytes of a `MediaPiece`."""


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """A feature as told to callers. `params` maps name to (type name, default).

    `digest` says what its values mean, all but its inputs' own code: the name, version, unit, inputs,
    parameters, type and `code_digest`. Resources and the like are not part of it. `calls`: how one that calls
    a service is held back (`concurrency`, `rate`, `retry_status`, as far as declared).
    """

    name: str
    version: str
    per: str
    inputs: tuple[str, ...]
    params: Mapping[str, tuple[str, Any]]
    returns: Mapping[str, Any]
    resources: Mapping[str, Any]
    store: str
    doc: str
    pinned: bool
    code_digest: str
    is_class: bool
    digest: str = ""
    calls: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """In one line, since notebooks show lists of them."""
        takes = ", ".join(
            (*self.inputs, *(f"{name}={default!r}" for name, (_, default) in self.params.items()))
        )
        return f"<FeatureInfo {self.name}({takes}) version {self.version}, per {self.per}>"


@dataclass(frozen=True, slots=True)
class RegistryView:
    """A registry as told to a caller who may add to it.

    `digest` names it in `ComputeRequest.registry`; `declared` has for each feature a digest of all that was
    declared, resources included.
    """

    digest: str
    features: tuple[FeatureInfo, ...]
    declared: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A value with what is needed to encode it. `type` knows its JSON and Arrow forms.

    `made` is the Unix time at which the value was made, 0 if that is not known. A value that is made anew
    (`ComputeRequest.refresh`) has the same key and another `made`.
    """

    key: str
    feature: str
    version: str
    type: ValueType
    value: Any
    made: float = 0.0


@dataclass(frozen=True, slots=True)
class AbsentValue:
    """Why there is no value under a key: nothing is stored there, its step failed, or it can't be read now.

    The failure's `type` and `status` are those of `amber_ray.errors`: `UnknownKey` (404) for what is not
    stored, `Unavailable` (503) for what is stored and can't be read now, else those of the step that failed.
    """

    key: str
    failure: Failure


Answered = StoredValue | AbsentValue
"""What is said of one key: its value, or why there is none."""


@dataclass(frozen=True, slots=True)
class MediaPiece:
    """Some of an asset's bytes: `data` is `[start, start + len(data))` of `size`.

    `name` is what the file is called, without its folders; `media_type` is what its content was found to be.
    """

    id: str
    name: str
    media_type: str
    size: int
    start: int
    data: bytes


def media_span(name: str, size: int, start: int, end: int | None) -> tuple[int, int]:
    """Return where a `MediaPiece` begins that is asked for with `start` and `end`, and how long it is.

    Raises `BadRequest` if there are none.
    """
    stop = size if end is None else min(end, size)
    if not 0 <= start <= stop or (start == stop and start != end):
        raise BadRequest(f"{name!r} has {size} bytes, so none from {start} to {stop if end is None else end}")
    return start, min(stop - start, MEDIA_BYTES)


@dataclass(frozen=True, slots=True)
class RequestEvent:
    """One thing that happened to a request; the last one is `done` and carries the final view."""

    kind: Literal["progress", "result", "done"]
    done: int
    total: int
    result: Result | None = None
    view: RequestView | None = None


class Service(Protocol):
    """What a way in offers. Errors are those of `amber_ray.errors`."""

    async def features(self) -> list[FeatureInfo]:
        """Every registered feature, by name."""
        ...

    async def add_asset(self, uri: str) -> Asset:
        """Identify and probe the media at `uri` (a path, `file://` or an allowed remote URL)."""
        ...

    async def list_assets(
        self, only: AssetFilter = EVERY_ASSET, limit: int = USUAL, cursor: str | None = None
    ) -> Page[Asset]:
        """A page of the assets that are known, in the order of their places; see `core.model.pages`.

        An asset is told once for each place, as it was when it was last looked at there. Raises `BadRequest`
        for a limit, filter or cursor that is none.
        """
        ...

    async def asset(self, id: str, tenant: str | None = None) -> Asset:
        """The asset with this id, as it is now or was when it was last looked at. Raises `UnknownAsset`.

        With `tenant` what others alone have uploaded is not there; over HTTP it is the token's.
        """
        ...

    async def upload(self, chunks: AsyncIterable[bytes], media_type: str | None = None) -> Asset:
        """Keep the bytes under the store and return their asset."""
        ...

    async def media(
        self, asset: str, start: int = 0, end: int | None = None, tenant: str | None = None
    ) -> MediaPiece:
        """Bytes `[start, end)` of the asset with this id, at most `MEDIA_BYTES`; without `end` as many.

        They are those that the id is the digest of, wherever they still are. With `end` equal to `start` it
        is only looked for. With `tenant` uploads of others do not count. Raises `UnknownAsset`;
        `MediaNotFound`, `MediaChanged` and `Forbidden` where it no longer is as it was, or may not be read;
        `BadRequest` for bytes that begin at its end or behind.
        """
        ...

    async def compute(self, request: ComputeRequest, wait: float = 0.0, id: str | None = None) -> RequestView:
        """Submit and wait up to `wait` seconds.

        Returns a finished view, or one that is "running": then the request has been journaled and goes
        on whatever becomes of the caller. Cancelling this coroutine before it returned withdraws the request.
        One with a callback is always journaled, and so is the callback, before this returns. The same `id`
        again returns the same request. Raises `BadRequest` and kin for what can't be planned,
        `Overloaded` at a bound.
        """
        ...

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        """The request, as soon as it is finished or `wait` seconds have passed. Raises `UnknownRequest`."""
        ...

    def events(self, id: str) -> AsyncIterator[RequestEvent]:
        """What happens to the request from now on, beginning with what is already known."""
        ...

    async def cancel(self, id: str) -> RequestView:
        """Withdraw the request; work that others wait for goes on. A finished request stays as it is."""
        ...

    async def deliveries(
        self, *, state: DeliveryState | None = None, tenant: str | None = None
    ) -> list[DeliveryView]:
        """The newest callbacks that were asked for, newest first: of a state and a tenant, or of any."""
        ...

    async def replay(self, id: str, *, tenant: str | None = None) -> DeliveryView:
        """Send a callback again, whatever came of it before; of a tenant, or of any.

        Raises `UnknownDelivery`, and `BadRequest` while its request goes on.
        """
        ...

    async def list_requests(
        self,
        tenant: str | None = None,
        state: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[RequestInfo]:
        """A page of the requests of a tenant, or of all, in some state, or in any; the newest first.

        An accepted request is remembered for `Settings.request_seconds`, another one for some minutes after
        its end. See `core.model.pages`. Raises `BadRequest` for a state, limit or cursor that is none.
        """
        ...

    async def explain(self, request: ComputeRequest) -> list[ExplainedStep]:
        """What `compute` would do, step by step in dependency order; runs nothing."""
        ...

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        """The values of ready keys, in order; restores cold ones. Raises `UnknownKey`."""
        ...

    def values(self, keys: Sequence[str]) -> AsyncGenerator[Sequence[Answered], None]:
        """The values of many keys, batch after batch, so that no more than one batch need be held.

        Every key is answered once however often it is given: with its value or with why it has none. Batches
        are of bounded size, as far as the values before tell how large they are. They come in the order of
        the keys, except that a way in may tell values of another type later. Raises only what concerns all
        keys together, such as a service that can't be reached.
        """
        ...

    async def shown(self, keys: Sequence[str], tenant: str) -> frozenset[str]:
        """Those of the keys whose values a tenant may be told of.

        Not among them are keys without a value, and values of assets that other tenants alone have
        uploaded. Over HTTP the token's tenant decides.
        """
        ...

    async def list_values(
        self,
        asset: str,
        *,
        feature: str | None = None,
        version: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[ValueInfo]:
        """A page of the values about an asset, or about collections that it is in, without the values.

        They come by feature, version and time in the asset; see `core.model.pages`. Raises `UnknownAsset` for
        an asset that nothing is known of, `BadRequest` for a limit or cursor that is none.
        """
        ...

    async def lineage(self, key: str) -> ValueLineage:
        """What a value was made from, down to the media; no value is read.

        Raises `UnknownKey` if there is none, `TooLarge` for one that is made from too many.
        """
        ...

    async def purge(
        self, *, asset: str | None = None, feature: str | None = None, version: str | None = None
    ) -> int:
        """Forget values that match all the filters given (at least one); returns how many."""
        ...

    async def keep(self, demand: Demand) -> DemandView:
        """Keep features true for all media under prefixes, from now on, in place of a demand of its name.

        The same demand again changes nothing. Raises `BadRequest` and kin for what can't be kept.
        """
        ...

    async def demands(self) -> list[DemandView]:
        """All demands and how they stand, by name."""
        ...

    async def stop_keeping(self, name: str) -> bool:
        """Forget a demand; what is stored stays. False if there is none of that name."""
        ...

    async def notify(self, uris: Sequence[str], tenant: str | None = None) -> Noticed:
        """Tell that something has happened at these places, so that demands look at them at once.

        It only makes sooner what a sweep would find: an event that is lost costs time, one that is told twice
        a look. With `tenant` only that tenant's demands are told.
        """
        ...

    async def audit(
        self, only: AuditFilter = EVERY_LINE, limit: int = USUAL, cursor: str | None = None
    ) -> Page[AuditLine]:
        """A page of what was changed and by whom, the newest first; see `core.model.audit`.

        Whatever was answered by now is in it. Raises `BadRequest` for a filter, limit or cursor that is none.
        """
        ...

    async def versions(self) -> list[StoredVersion]:
        """What is stored of each feature and version, by name; not what is only in memory so far."""
        ...

    async def failures(self) -> list[Failure]:
        """The failures that are remembered now."""
        ...

    async def troubles(self) -> list[str]:
        """What keeps the service from answering and keeping values now, a few words each.

        Empty if it is ready. Answers within seconds, whatever is the matter.
        """
        ...

    async def stats(self) -> dict[str, float]:
        """Counters and gauges of the whole service, by name; see `core.model.stats` for those with labels."""
        ...

    async def aclose(self) -> None:
        """Let go of connections; an embedded engine flushes and stops its cluster."""
        ...
