"""`HttpService`: the `Service` protocol over a server's HTTP interface.

One pool of connections. Calls that are idempotent are repeated while the server is away, within the call's
time. Answers become the dataclasses of `core` through `wire.views`, errors those of `amber_ray.errors`.
pyarrow is imported when the first value is fetched. Must not know: Ray, how values are computed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import httpx

from amber_ray.client import retry, value_stream
from amber_ray.client.sending import texts_of
from amber_ray.client.sse import events
from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.declare.lineage import Lineage
from amber_ray.core.declare.registry import meaning
from amber_ray.core.model.asked import RequestInfo
from amber_ray.core.model.audit import EVERY_LINE, AuditFilter, AuditLine
from amber_ray.core.model.callback import DeliveryState, DeliveryView
from amber_ray.core.model.demands import Demand, DemandView, Noticed
from amber_ray.core.model.kept import StoredVersion
from amber_ray.core.model.pages import EVERY_ASSET, USUAL, AssetFilter, Page
from amber_ray.core.model.provenance import ValueInfo, ValueLineage
from amber_ray.core.model.request import ComputeRequest, ExplainedStep, Failure, RequestView
from amber_ray.core.model.service import (
    MEDIA_BYTES,
    AbsentValue,
    Answered,
    FeatureInfo,
    MediaPiece,
    RegistryView,
    RequestEvent,
    StoredValue,
    media_span,
)
from amber_ray.core.model.units import Asset
from amber_ray.errors import (
    AmberError,
    MissingResource,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownKey,
    UnknownRegistry,
)
from amber_ray.wire import demands, pages, provenance, views
from amber_ray.wire.events import decode_noticed, encode_events
from amber_ray.wire.inline import Decoder
from amber_ray.wire.problems import Reading
from amber_ray.wire.registry import decode_registry, encode_registering

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
"""How long an answer may take beyond the time that the server was asked to wait."""
PATIENCE_SECONDS = 60.0
"""How long a server may be away, as while it restarts, before a call fails."""
CONNECTIONS = 64
VALUES_AT_ONCE = 16
VALUES_PER_QUESTION = 5_000
"""Keys that are asked for together, well below the server's own limit (`settings.Limits`)."""
VALUES_SECONDS = 120.0
"""How long a batch of values may take beyond `ANSWER_SECONDS`: the store may be slow."""
REGISTER_SECONDS = 150.0
"""How long the server may take beyond that to run code that it is sent: it may import a framework."""
VALUES_TRIES = 4
"""How often in a row a stream of values may break off before it has brought anything."""


class HttpService:
    """Amber behind an HTTP server. `patience` is how long the server may be away before a call fails."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        patience: float = PATIENCE_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`url` is the server's root; `token` is sent as a bearer token; `transport` replaces the network."""
        self.url = url.rstrip("/")
        self._patience = patience
        self._client = httpx.AsyncClient(
            base_url=self.url,
            # Nothing compressed: between machines of one network that takes longer than it saves.
            headers={
                "Accept-Encoding": "identity",
                **({"Authorization": f"Bearer {token}"} if token else {}),
            },
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            transport=transport,
        )
        self._decoder = Decoder()
        self._brought = Lineage[tuple[Mapping[str, Any], RegistryView]]()
        self._values = asyncio.Semaphore(VALUES_AT_ONCE)

    async def ping(self) -> None:
        """Ask once whether a server answers. Raises `Unavailable` if none does."""
        await self._send("GET", "/healthz", patience=0.0)

    async def features(self) -> list[FeatureInfo]:
        """`GET /v1/features`."""
        data = await self._json("GET", "/v1/features")
        infos = [views.decode_feature(item) for item in data["features"]]
        self._decoder.learn(infos)
        return infos

    async def register(self, base: str, specs: Sequence[FeatureSpec]) -> RegistryView:
        """`POST /v1/registry`. Implements `client.registered.Registrar`: the code travels as source text.

        It is written down before anything is awaited. Raises `UnfitCode` for what can't be, `Forbidden` where
        the server takes no features or not from this client.
        """
        body = encode_registering(base, texts_of(specs), {spec.name: meaning(spec) for spec in specs})
        view = await self._register(body)
        if specs:
            self._brought.note(view.digest, base, (body, view))
        return view

    async def _register(self, body: Mapping[str, Any]) -> RegistryView:
        return decode_registry(await self._json("POST", "/v1/registry", json=body, wait=REGISTER_SECONDS))

    async def _planned(self, path: str, request: ComputeRequest, **options: Any) -> Any:
        """Ask what is planned; a server that started anew is brought this client's features again.

        While it starts, one of its processes may know of them and the next one not, and may itself be gone a
        moment later. So all is brought again until nothing was forgotten in between, within `patience`.
        """
        body = views.encode_request(request)
        now = asyncio.get_running_loop().time
        give_up = now() + self._patience
        for attempt in itertools.count():
            try:
                return await self._json("POST", path, json=body, **options)
            except UnknownRegistry:
                if attempt and now() >= give_up:
                    raise
            if attempt:
                await asyncio.sleep(retry.backoff(attempt, random.random))
            with contextlib.suppress(UnknownRegistry):  # then the next answer says so again
                await self._bring(request.registry)

    async def _bring(self, wanted: str) -> None:
        """Register again what a registry was made of.

        Raises `UnknownRegistry` if the server forgot a part of it on the way, `Unavailable` if it can't be
        made any more.
        """
        made = ""
        for body, _ in self._brought.steps(wanted):
            made = (await self._register(body)).digest
        if made != wanted:
            raise Unavailable(
                f"{self.url} has other features than when this client registered its own; connect again"
            )

    async def add_asset(self, uri: str) -> Asset:
        """`POST /v1/assets`; the same URI again is the same asset, so it may be repeated."""
        return views.decode_asset(await self._json("POST", "/v1/assets", json={"uri": uri}))

    async def list_assets(
        self, only: AssetFilter = EVERY_ASSET, limit: int = USUAL, cursor: str | None = None
    ) -> Page[Asset]:
        """`GET /v1/assets`."""
        query = pages.write_query(pages.write_asset_filter(only), limit, cursor)
        data = await self._json("GET", "/v1/assets", params=query)
        return pages.decode_page("assets", data, views.decode_asset)

    async def asset(self, id: str, tenant: str | None = None) -> Asset:
        """`GET /v1/assets/{id}`; the tenant is the token's."""
        return views.decode_asset(await self._json("GET", f"/v1/assets/{quote(id, safe='')}"))

    async def upload(self, chunks: AsyncIterable[bytes], media_type: str | None = None) -> Asset:
        """`POST /v1/assets` with a raw body; sent once, since a stream can't be sent again."""
        headers = {"Content-Type": media_type or "application/octet-stream"}
        response = await self._send(
            "POST", "/v1/assets", again=False, content=chunks, headers=headers, wait=3600.0
        )
        return views.decode_asset(response.json())

    async def media(
        self, asset: str, start: int = 0, end: int | None = None, tenant: str | None = None
    ) -> MediaPiece:
        """`GET /v1/assets/{id}/media` with a range, or `HEAD`; the tenant is the token's."""
        path = f"/v1/assets/{quote(asset, safe='')}/media"
        # Not `HEAD`, whose refusal has no body that says why; and no media is empty.
        asked = (0, 1) if end == start else (start, start + MEDIA_BYTES if end is None else end)
        last = min(asked[1], asked[0] + MEDIA_BYTES) - 1
        response = await self._send("GET", path, headers={"Range": f"bytes={asked[0]}-{last}"})
        with Reading("a range of media"):
            size = int(response.headers["Content-Range"].rpartition("/")[2])
            name = unquote(response.headers["Content-Disposition"].partition("filename*=UTF-8''")[2])
            kind = response.headers["Content-Type"]
        media_span(name, size, start, end)
        return MediaPiece(asset, name, kind, size, start, b"" if end == start else response.content)

    async def compute(self, request: ComputeRequest, wait: float = 0.0, id: str | None = None) -> RequestView:
        """`POST /v1/compute`. With an `id` it may be repeated, since the same id is the same request."""
        headers = _prefer(wait) | ({views.REQUEST_ID_HEADER: id} if id is not None else {})
        data = await self._planned("/v1/compute", request, headers=headers, wait=wait, again=id is not None)
        if request.registry in self._brought:
            # Its features may have the names of others, and other types.
            self._decoder.learn(self._brought.last(request.registry)[1].features)
        return await self._view(data)

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        """`GET /v1/requests/{id}`, as a long poll if `wait` is above 0."""
        data = await self._json("GET", f"/v1/requests/{quote(id, safe='')}", headers=_prefer(wait), wait=wait)
        return await self._view(data)

    async def events(self, id: str) -> AsyncIterator[RequestEvent]:
        """`GET /v1/requests/{id}/events`; a stream that breaks off before `done` raises `Unavailable`."""
        path = f"/v1/requests/{quote(id, safe='')}/events"
        try:
            async with self._client.stream("GET", path, headers={"Accept": "text/event-stream"}) as response:
                if response.is_error:
                    await response.aread()
                    raise _error(response)
                async for name, data in events(response.aiter_lines()):
                    plain = json.loads(data)
                    if name == "error":
                        raise views.error_of_problem(int(plain.get("status", 500)), plain)
                    await self._learn_for(_results(name, plain))
                    yield views.decode_event(name, plain, self._decoder)
                    if name == "done":
                        return
        except httpx.HTTPError as error:
            raise Unavailable(f"the event stream of {self.url} broke off: {_reason(error)}") from error
        raise Unavailable(f"the event stream of {self.url} ended before request {id} was done")

    async def cancel(self, id: str) -> RequestView:
        """`DELETE /v1/requests/{id}`."""
        return await self._view(await self._json("DELETE", f"/v1/requests/{quote(id, safe='')}"))

    async def deliveries(
        self, *, state: DeliveryState | None = None, tenant: str | None = None
    ) -> list[DeliveryView]:
        """`GET /v1/deliveries`."""
        given = {"state": state, "tenant": tenant}
        data = await self._json(
            "GET", "/v1/deliveries", params={k: v for k, v in given.items() if v is not None}
        )
        return [views.decode_delivery(item) for item in data["deliveries"]]

    async def replay(self, id: str, *, tenant: str | None = None) -> DeliveryView:
        """`POST /v1/deliveries/{id}/replay`; twice is once more."""
        given = {} if tenant is None else {"tenant": tenant}
        path = f"/v1/deliveries/{quote(id, safe='')}/replay"
        return views.decode_delivery(await self._json("POST", path, params=given))

    async def list_requests(
        self,
        tenant: str | None = None,
        state: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[RequestInfo]:
        """`GET /v1/requests`."""
        query = pages.write_query({"tenant": tenant, "state": state}, limit, cursor)
        data = await self._json("GET", "/v1/requests", params=query)
        return pages.decode_page("requests", data, views.decode_info)

    async def audit(
        self, only: AuditFilter = EVERY_LINE, limit: int = USUAL, cursor: str | None = None
    ) -> Page[AuditLine]:
        """`GET /v1/audit`."""
        query = pages.write_query(pages.write_audit_filter(only), limit, cursor)
        data = await self._json("GET", "/v1/audit", params=query)
        return pages.decode_page("audit", data, views.decode_line)

    async def explain(self, request: ComputeRequest) -> list[ExplainedStep]:
        """`POST /v1/explain`."""
        data = await self._planned("/v1/explain", request)
        return [views.decode_step(step) for step in data["steps"]]

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        """`GET /v1/values/{key}` for one key, `POST /v1/values` for several."""
        if len(keys) == 1:
            return [await self._value(keys[0])]
        found: dict[str, StoredValue] = {}
        async with contextlib.aclosing(self.values(keys)) as batches:
            async for answers in batches:
                for answer in answers:
                    if isinstance(answer, AbsentValue):
                        raise _absent(answer)
                    found[answer.key] = answer
        return [found[key] for key in keys]

    async def values(self, keys: Sequence[str]) -> AsyncGenerator[list[Answered], None]:
        """`POST /v1/values`, in as many questions as it takes.

        A question is about some thousand keys. What was beyond the bytes of one answer is asked for again,
        and so is what a stream that broke off had not brought.
        """
        left = dict.fromkeys(keys)
        most, failed = VALUES_PER_QUESTION, 0
        while left:
            some, before = list(itertools.islice(left, most)), len(left)
            try:
                async with contextlib.aclosing(self._answers(some)) as batches:
                    async for batch in batches:
                        if told := _told(batch, left):
                            yield told
                if len(left) == before:
                    raise value_stream.BrokenOff(f"{self.url} said nothing of {before} keys")
            except TooLarge:
                if len(some) == 1:
                    raise
                most = len(some) // 2
            except value_stream.BrokenOff as error:
                failed = failed + 1 if len(left) == before else 0
                if failed == VALUES_TRIES:
                    raise Unavailable(f"the values of {self.url} did not arrive: {error}") from error
                await asyncio.sleep(retry.backoff(failed, random.random))

    async def _answers(self, keys: Sequence[str]) -> AsyncGenerator[list[Answered], None]:
        """What one question is answered with, as it arrives."""
        response = await self._send(
            "POST",
            "/v1/values",
            json={"keys": list(keys), "mixed": True},
            headers={"Accept": views.ARROW_TYPE},
            wait=VALUES_SECONDS,
            stream=True,
        )
        try:
            async with contextlib.aclosing(value_stream.answers(response.aiter_bytes())) as batches:
                async for batch in batches:
                    yield batch
        except httpx.HTTPError as error:
            raise value_stream.BrokenOff(_reason(error)) from error
        finally:
            await response.aclose()

    async def shown(self, keys: Sequence[str], tenant: str) -> frozenset[str]:
        """All: of what its token may not be told the server says that it is not there."""
        return frozenset(keys)

    async def list_values(
        self,
        asset: str,
        *,
        feature: str | None = None,
        version: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[ValueInfo]:
        """`GET /v1/assets/{id}/values`."""
        query = pages.write_query({"feature": feature, "version": version}, limit, cursor)
        data = await self._json("GET", f"/v1/assets/{quote(asset, safe='')}/values", params=query)
        return pages.decode_page("values", data, provenance.decode_value)

    async def lineage(self, key: str) -> ValueLineage:
        """`GET /v1/values/{key}/lineage`."""
        data = await self._json("GET", f"/v1/values/{quote(key, safe='')}/lineage")
        return provenance.decode_lineage(data)

    async def purge(
        self, *, asset: str | None = None, feature: str | None = None, version: str | None = None
    ) -> int:
        """`DELETE /v1/values`."""
        given = {"asset": asset, "feature": feature, "version": version}
        data = await self._json(
            "DELETE", "/v1/values", params={k: v for k, v in given.items() if v is not None}
        )
        return int(data["purged"])

    async def keep(self, demand: Demand) -> DemandView:
        """`PUT /v1/demands/{name}`."""
        path = f"/v1/demands/{quote(demand.name, safe='')}"
        return demands.decode_view(await self._json("PUT", path, json=demands.encode_demand(demand)))

    async def demands(self) -> list[DemandView]:
        """`GET /v1/demands`."""
        data = await self._json("GET", "/v1/demands")
        with Reading("a demand"):
            return [demands.decode_view(item) for item in data["demands"]]

    async def stop_keeping(self, name: str) -> bool:
        """`DELETE /v1/demands/{name}`."""
        data = await self._json("DELETE", f"/v1/demands/{quote(name, safe='')}")
        return bool(data["stopped"])

    async def notify(self, uris: Sequence[str], tenant: str | None = None) -> Noticed:
        """`POST /v1/events`; the tenant is the token's."""
        return decode_noticed(await self._json("POST", "/v1/events", json=encode_events(uris)))

    async def versions(self) -> list[StoredVersion]:
        """`GET /v1/versions`."""
        data = await self._json("GET", "/v1/versions")
        with Reading("a version"):
            return [StoredVersion(*(item[n] for n in StoredVersion._fields)) for item in data["versions"]]

    async def failures(self) -> list[Failure]:
        """`GET /v1/failures`."""
        data = await self._json("GET", "/v1/failures")
        return [views.decode_failure(item) for item in data["failures"]]

    async def troubles(self) -> list[str]:
        """`GET /readyz`."""
        try:
            await self._send("GET", "/readyz", patience=0.0)
        except Unavailable as error:
            return [str(error)]
        return []

    async def stats(self) -> dict[str, float]:
        """`GET /v1/stats`."""
        data: dict[str, float] = await self._json("GET", "/v1/stats")
        return data

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _value(self, key: str) -> StoredValue:
        async with self._values:
            response = await self._send(
                "GET", f"/v1/values/{quote(key, safe='')}", headers={"Accept": views.ARROW_TYPE}
            )
        type, value = await asyncio.to_thread(_from_arrow, response.content)
        feature, version = (response.headers.get(h, "") for h in ("Amber-Feature", "Amber-Version"))
        return StoredValue(key, feature, version, type, value, float(response.headers.get("Amber-Made", 0)))

    async def _view(self, data: Mapping[str, Any]) -> RequestView:
        await self._learn_for(data.get("results", ()))
        return views.decode_view(data, self._decoder)

    async def _learn_for(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Know the types of inline values; a feature not met before (a new server) is asked for once."""
        if any("value" in r and not self._decoder.knows(r["feature"]) for r in results):
            await self.features()

    async def _json(self, method: str, path: str, **options: Any) -> Any:
        response = await self._send(method, path, **options)
        try:
            return response.json()
        except ValueError as error:
            raise Unavailable(
                f"{self.url} did not answer {method} {path} in JSON: is it an Amber server?"
            ) from error

    async def _send(
        self,
        method: str,
        path: str,
        *,
        again: bool = True,
        wait: float = 0.0,
        patience: float | None = None,
        stream: bool = False,
        **options: Any,
    ) -> httpx.Response:
        """Send until there is an answer; errors of the network and problem documents become `AmberError`s.

        `again` says that the call may happen twice; one that never left may always be repeated. `wait` is how
        long the server was asked to hold its answer. A `stream` is the caller's to read and close.
        """
        timeout = httpx.Timeout(wait + ANSWER_SECONDS, connect=CONNECT_SECONDS)
        now = asyncio.get_running_loop().time
        give_up = now() + (self._patience if patience is None else patience)
        for attempt in range(1_000_000):
            asked: float | None = None
            try:
                request = self._client.build_request(method, path, timeout=timeout, **options)
                response = await self._client.send(request, stream=stream)
                if stream and response.is_error:
                    await response.aread()
            except retry.LOST as error:
                if not (again or isinstance(error, retry.UNSENT)):
                    raise Unavailable(f"lost {self.url} while it answered: {_reason(error)}") from error
                failed: AmberError = Unavailable(f"can't reach {self.url}: {_reason(error)}")
                failed.__cause__ = error
            except httpx.HTTPError as error:
                raise Unavailable(f"can't talk to {self.url}: {_reason(error)}") from error
            else:
                if not response.is_error:
                    return response
                failed, asked = _error(response), retry.asked_wait(response)
                lasting = isinstance(failed, MissingResource)
                if isinstance(failed, Unauthorized) and "Authorization" not in self._client.headers:
                    raise Unauthorized(
                        f"{self.url} needs an API token: connect(..., token=...), --token or AMBER_TOKEN"
                    )
                if not retry.may_pass(response) or lasting or not again:
                    raise failed
            pause = retry.backoff(attempt, random.random, asked)
            if now() + pause > give_up:
                raise failed
            await asyncio.sleep(pause)
        raise AssertionError("unreachable: the time to give up comes first")


def _told(batch: Sequence[Answered], left: dict[str, None]) -> list[Answered]:
    """Return the answers of a batch that are final, and take their keys from `left`.

    What is beyond the bytes of an answer is still left. What was not asked for, or is told again, is passed
    over.
    """
    told: list[Answered] = []
    for answer in batch:
        beyond = isinstance(answer, AbsentValue) and answer.failure.type == TooLarge.__name__
        if answer.key in left and not beyond:
            del left[answer.key]
            told.append(answer)
    return told


def _absent(answer: AbsentValue) -> AmberError:
    """Return the error that `load` raises for a key without a value."""
    why = answer.failure
    return (Unavailable if why.type == Unavailable.__name__ else UnknownKey)(why.message)


def _prefer(wait: float) -> dict[str, str]:
    """Return the header that says how long the server may hold its answer (RFC 7240)."""
    return {"Prefer": f"wait={wait:.3f}"}


def _results(event: str, data: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the results in an event's data."""
    if event == "done":
        found: Sequence[Mapping[str, Any]] = data.get("results", ())
        return found
    return (data["result"],) if "result" in data else ()


def _error(response: httpx.Response) -> AmberError:
    """Return the error for an answer: by its problem document, or by its status where a proxy answered."""
    try:
        data = response.json()
    except ValueError:
        data = None
    return views.error_of_problem(response.status_code, data)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _from_arrow(body: bytes) -> tuple[Any, Any]:
    """Return a value's type and the value from its Arrow stream."""
    import pyarrow as pa

    from amber_ray.core.values.annotations import from_spec
    from amber_ray.store.types import from_arrow_table

    try:
        with pa.ipc.open_stream(body) as reader:
            table = reader.read_all()
    except pa.ArrowInvalid as error:
        raise Unavailable(f"a value did not arrive whole: {error}") from error
    return from_spec(json.loads(table.schema.metadata[b"amber.type"])), from_arrow_table(table)
