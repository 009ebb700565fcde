"""`AsyncClient`: what a Python program asks of Amber, over any `Service`.

This is the one implementation; `client.sync.Client` runs it on a thread of its own. Assets are named by path,
URI, id or `Asset`, features by name or by the decorated function. Must not know: HTTP, Ray.
"""

from __future__ import annotations

import asyncio
import dataclasses
import mimetypes
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Self

from amber_ray.client.declared import FeatureSource, objects_of
from amber_ray.client.exchange import answered, now, together
from amber_ray.client.futures import AsyncFuture
from amber_ray.client.names import (
    AssetLike,
    CallbackLike,
    FeatureLike,
    asset_ref,
    feature_names,
    named_assets,
    named_callback,
    prefix_of,
    priority_of,
)
from amber_ray.client.params import Params, ParamSet, one_set, param_sets
from amber_ray.client.pictures import pictured
from amber_ray.client.progress import ProgressBar
from amber_ray.client.registered import ClientFeatures, Registrar, Registration
from amber_ray.client.results import Results, by_asset, joined
from amber_ray.client.row import Row
from amber_ray.client.selection import Selection, asked_features, asked_for
from amber_ray.client.stored import FOUND_AT_ONCE, load, look_up
from amber_ray.client.sweep import swept
from amber_ray.client.windows import Window, windows
from amber_ray.core.model.asked import RequestInfo
from amber_ray.core.model.audit import AuditFilter, AuditLine
from amber_ray.core.model.callback import DeliveryState, DeliveryView
from amber_ray.core.model.demands import EVERY_SECONDS, SETTLE_SECONDS, Demand, DemandView, Gone, Noticed
from amber_ray.core.model.kept import StoredVersion
from amber_ray.core.model.pages import USUAL, AssetFilter, Page
from amber_ray.core.model.provenance import ValueInfo, ValueLineage
from amber_ray.core.model.request import MISSING, ComputeRequest, ExplainedStep, Failure, Priority
from amber_ray.core.model.service import FeatureInfo, Service, StoredValue
from amber_ray.core.model.units import Asset, Per, is_found
from amber_ray.core.values.annotations import ValueType, from_spec
from amber_ray.errors import AmberError, BadRequest, Expired, MediaNotFound, TooLarge

DEFAULT_TIMEOUT = 86_400.0
"""Seconds that a call without a `timeout` of its own may take."""
WINDOWS_AT_ONCE = 2
CHUNK = 1 << 20

Range = tuple[float, float]


class AsyncClient:
    """A connection to Amber for asyncio programs; see `amber_ray.aconnect`.

    Errors are those of `amber_ray.errors`. A call that is cancelled withdraws its request; work that others
    wait for goes on.
    """

    def __init__(
        self,
        service: Service,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        tenant: str = "default",
        closing: Callable[[], Awaitable[None]] | None = None,
        registrar: Registrar | None = None,
        own: Collection[str] = (),
        place: str = "the server",
        where: str = "",
    ) -> None:
        """`timeout` and `tenant` stand where a call names none.

        The client owns `service` and closes it; `closing` is what is then left to do, such as stopping Ray.
        `registrar` takes features that are given as decorated objects, if there is one; `own` are names of
        those that it has from this program already. `place` is where the service is, for messages;
        `where` its address or store, for `repr`.
        """
        self.service = service
        self.timeout = timeout
        self.tenant = tenant
        self._closing = closing
        self._features = ClientFeatures(service, registrar, own, place)
        self._infos: dict[str, FeatureInfo] = {}
        self._types: dict[str, ValueType] = {}
        self._types_of = ""
        self._where = where

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._where or 'a service'}>"

    async def get(
        self,
        feature: FeatureLike,
        assets: AssetLike | Iterable[AssetLike],
        *,
        params: Params | None = None,
        range: Range | None = None,
        timeout: float | None = None,
        refresh: bool = False,
        priority: Priority | str = Priority.INTERACTIVE,
        tenant: str | None = None,
    ) -> Any:
        """The value of one feature, computed if nobody has yet.

        Args:
            feature: its name or the decorated function.
            assets: one asset: its value; several: the list of their values, or the one value of a feature
                per collection. A feature per segment, or per what another one finds, gives the list of its
                windows' values, which also has the windows: `items()` yields (window, value).
            params: parameters by `"feature.name"`, of the feature or anything under it.
            range: [A, B) in seconds; only the segments it touches are computed and returned.
            timeout: seconds to wait; past it the request is withdrawn and `Expired` raised.
            refresh: compute anew even if there is a value.
            priority: interactive, ingest or backfill.
            tenant: whose share of the cluster this is.

        Raises the feature's or its input's failure as its error class, the failed step named in the message.
        """
        names = feature_names(feature)
        if len(names) > 1:
            raise BadRequest(
                f"get takes one feature, not {len(names)} ({', '.join(names)}); get_many takes several"
            )
        asked = asked_for(feature, assets)
        request = await self._request(asked, params, range, timeout, refresh, priority, tenant)
        seconds = self.timeout if timeout is None else timeout
        async with self._features.explaining(asked.declared):
            results, late = await answered(self.service, asked, request, now() + seconds)
        if late:
            raise Expired(
                f"{names[0]} was not ready after {seconds:g} s, so request {results.id} was withdrawn"
            )
        return asked.pick(await self._typed(results))

    async def get_many(
        self,
        features: FeatureLike | Iterable[FeatureLike],
        assets: AssetLike | Iterable[AssetLike],
        *,
        params: Params | Sequence[Params] | None = None,
        range: Range | None = None,
        timeout: float | None = None,
        refresh: bool = False,
        priority: Priority | str = Priority.INTERACTIVE,
        tenant: str | None = None,
        progress: bool | None = None,
        values: bool = True,
        window: int | None = None,
    ) -> Results:
        """Many features of many assets; a failure of one is an entry of the table, never an exception.

        Takes what `get` takes, and:
            params: also a list of mappings: the values under each of them, in one table, where a key is
                (feature, asset, parameters) and `to_pandas` has a column for each parameter.
            progress: show a progress bar on stderr; by default, if that is a terminal.
            values: fetch values that did not come along with the answer; False when only their being
                stored matters.
            window: assets sent in one request; by default as many as a server takes.

        What was not ready within `timeout` stands in the table as `Expired`. Raises only what concerns the
        whole request: unknown features and parameters, a server that can't be reached.
        """
        asked = asked_for(features, assets)
        sets = param_sets(params)
        given = [one_set(params)] if sets is None else sets
        request = await self._request(asked, None, range, timeout, refresh, priority, tenant)
        until = now() + (self.timeout if timeout is None else timeout)
        parts = windows(asked.assets, window)
        if len(parts) > 1:
            await self._check_splittable(asked)
        gate = asyncio.Semaphore(WINDOWS_AT_ONCE)
        calls = [(part, one) for one in given for part in parts]
        with ProgressBar(progress, label=", ".join(asked.features), parts=len(calls)) as meter:

            async def one(part: Window, params: Params) -> Results:
                some = Selection(asked.features, part, tuple(a.name for a in part))
                mine = dataclasses.replace(request, assets=tuple(a.ref for a in part), params=dict(params))
                async with gate:
                    got, _ = await answered(self.service, some, mine, until, meter.part(), load=values)
                return got.under(params) if isinstance(params, ParamSet) else got

            async with self._features.explaining(asked.declared):
                table = joined(await together([one(*call) for call in calls]))
        return await self._typed(table if sets is None else by_asset(table, sets))

    async def sweep(
        self,
        features: FeatureLike | Iterable[FeatureLike],
        assets: Iterable[AssetLike],
        told: Callable[[Results], object],
        *,
        params: Params | None = None,
        timeout: float | None = None,
        priority: Priority | str = Priority.BACKFILL,
        tenant: str | None = None,
        window: int = 1024,
    ) -> None:
        """Compute and store features of a catalogue too long to hold: `assets` is read as the work goes on.

        At most `window` assets are under way, in several requests, the next of which is sent as soon as one
        has ended; they grow while they end within seconds. `told` is called in the event loop's thread with
        tables of the assets that have ended, each asset once with all its rows, whose values may be MISSING.
        Raises what concerns the whole call, after withdrawing what is under way; what is stored stays, so the
        same call again goes on from there.
        """
        asked = asked_features(features)
        request = await self._request(asked, params, None, timeout, False, priority, tenant)
        await self._check_per_asset(asked.features)
        until = now() + (self.timeout if timeout is None else timeout)
        async with self._features.explaining(asked.declared):
            await swept(self.service, request, assets, told, until, window)

    async def stored(
        self,
        features: FeatureLike | Iterable[FeatureLike],
        assets: AssetLike | Iterable[AssetLike],
        *,
        params: Params | None = None,
    ) -> Results:
        """What is stored of features of assets: a table like that of `get_many`, for which nothing is run.

        Its values are MISSING; `load` gets them. A row is "ready" where there is a value, "failed" where the
        service remembers a failure or the asset can't be read, and "pending" where nobody has computed it
        yet. Of a feature per what another one finds there is a row for each range that is known; until the
        finder has a value, one row is "pending" for all of them.
        """
        asked = asked_features(features)
        request = await self._request(asked, params, None, None, False, Priority.INTERACTIVE, None)
        found = any(map(is_found, await self._check_per_asset(asked.features)))
        most = FOUND_AT_ONCE if found else None
        async with self._features.explaining(asked.declared):
            rows = await look_up(self.service, request, named_assets(assets), most)
            return await self._typed(Results(rows))

    async def load(self, rows: Iterable[Row], told: Callable[[Sequence[Row]], object]) -> None:
        """Load the values of rows, a batch at a time; rows that are not "ready" stay as they are.

        The rows of one feature come together, in order. A batch is some 16 MB of values, so `rows` may stand
        for more than memory holds. A value that can't be had any more becomes that row's failure. `told` is
        called in the event loop's thread.
        """
        await load(self.service, rows, told)

    async def values(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values under keys, by key; a key without a value has the `Failure` that says why.

        Keys come from results (`Results.rows`), from a server's answers or from the store's `key` column.
        Nothing is computed. All values are held at once: `load` goes through more than memory holds.
        """
        found: dict[str, Any] = dict.fromkeys(keys, MISSING)
        wanted = list(found)
        async with aclosing(self.service.values(wanted)) as batches:
            async for batch in batches:
                for one in batch:
                    if isinstance(one, StoredValue):
                        found[one.key] = pictured(one.type, one.value)
                    else:
                        found[one.key] = one.failure
        return found

    async def submit(
        self,
        features: FeatureLike | Iterable[FeatureLike],
        assets: AssetLike | Iterable[AssetLike],
        *,
        params: Params | None = None,
        range: Range | None = None,
        timeout: float | None = None,
        refresh: bool = False,
        priority: Priority | str = Priority.INTERACTIVE,
        tenant: str | None = None,
        callback: CallbackLike | None = None,
    ) -> AsyncFuture:
        """Ask and don't wait: the request goes on whatever becomes of this process.

        Its future's `result()` is what `get` would give for one feature's name, and a `Results` table for a
        list of features. `timeout` is the request's own deadline. `callback` is a URL that the service calls
        when the request has ended, or `{"url": ..., "on": ["done", "failed", "result"]}`.
        """
        asked = asked_for(features, assets)
        request = await self._request(asked, params, range, timeout, refresh, priority, tenant)
        request = dataclasses.replace(request, callback=named_callback(callback))
        async with self._features.explaining(asked.declared):
            view = await self.service.compute(request, 0.0, uuid.uuid4().hex)
        return AsyncFuture(self.service, view, asked, self.timeout, self._typed)

    async def future(self, id: str) -> AsyncFuture:
        """The future of a request submitted earlier, here or elsewhere. Raises `UnknownRequest`.

        Its `result()` is a table that names assets by their ids, since the caller's own names are not known.
        Places where the assets were read are taken too: `results["shots", "/media/a.mp4"]`.
        """
        view = await self.service.status(id)
        return AsyncFuture(self.service, view, None, self.timeout, self._typed)

    async def explain(
        self,
        features: FeatureLike | Iterable[FeatureLike],
        assets: AssetLike | Iterable[AssetLike],
        *,
        params: Params | None = None,
        range: Range | None = None,
        refresh: bool = False,
    ) -> list[ExplainedStep]:
        """What asking would do, step by step in dependency order; runs nothing."""
        asked = asked_for(features, assets)
        request = await self._request(asked, params, range, None, refresh, Priority.INTERACTIVE, None)
        async with self._features.explaining(asked.declared):
            return await self.service.explain(request)

    async def register(self, *features: FeatureSource) -> Registration:
        """Add features to those of this client, or put them in the place of those of the same names.

        Takes what `connect(features=[...])` takes: decorated functions and classes, modules, `.py` files.
        Other clients go on with what they have. A feature that takes a replaced one has other values from
        then on, since keys follow the code. It is seldom needed: a decorated function that is given to `get`
        and its like is registered as it is.

        Raises `DeclarationError` for what can't be: inputs that are no features, a circle, the name of a
        built-in feature, other code under a version given by hand. `BadRequest` over HTTP, where nothing that
        comes is ever run.
        """
        if any(isinstance(given, str | os.PathLike) for given in features):
            objects = await asyncio.to_thread(objects_of, features)  # what a module imports may take long
        else:
            objects = objects_of(features)
        return await self._features.register(objects)

    async def assets(
        self,
        prefix: str = "",
        *,
        kind: str | None = None,
        min_duration: float | None = None,
        max_duration: float | None = None,
        uploads: bool = True,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[Asset]:
        """A page of the assets that are known, in the order of their places; nothing is looked at anew.

        Args:
            prefix: what the place begins with, such as `/media/films/`.
            kind: `video`, `audio` or `image`.
            min_duration: seconds, or more; a still image has no duration, so it is left out.
            max_duration: seconds, or less; a still image is left out here too.
            uploads: False leaves out what was sent as bytes.
            limit: how many, up to 1,000. A page may have fewer, or none, and be followed by others.
            cursor: `cursor` of the page before. It is None on the last page, and pages fit together while
                assets are added.
        """
        only = AssetFilter(prefix, kind, min_duration, max_duration, uploads)
        return await self.service.list_assets(only, limit, cursor)

    async def media(self, asset: AssetLike, *, range: tuple[int, int | None] | None = None) -> bytes:
        """An asset's bytes, as they are where it was found; with `range` those of `[A, B)`; B may be None.

        All that is asked for is held at once: a film may have many gigabytes. Raises `UnknownAsset`,
        `MediaNotFound` where they are gone, `MediaChanged` where they are others by now, and `BadRequest` for
        a range that begins at their end or behind.
        """
        ref = asset_ref(asset)
        id = ref.id or (await self.service.add_asset(ref.uri or "")).id
        start, end = range or (0, None)
        data = bytearray()
        while True:
            piece = await self.service.media(id, start + len(data), end)
            data += piece.data
            stop = piece.size if end is None else min(end, piece.size)
            if not piece.data or start + len(data) >= stop:
                return bytes(data)

    async def asset_values(
        self,
        asset: AssetLike,
        *,
        feature: str | None = None,
        version: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[ValueInfo]:
        """A page of what is known of an asset's values, by feature, version and time; no value is read.

        Each tells its key, parameters, unit, when it was made, how long that took, by what, and whether it is
        stored. `values` reads them by their keys. For `limit` and `cursor` see `assets`. Raises
        `UnknownAsset`.
        """
        ref = asset_ref(asset)
        id = ref.id or (await self.service.add_asset(ref.uri or "")).id
        return await self.service.list_values(
            id, feature=feature, version=version, limit=limit, cursor=cursor
        )

    async def requests(
        self,
        state: str | None = None,
        *,
        tenant: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[RequestInfo]:
        """A page of requests and what became of them, the newest first, without their results.

        Args:
            state: `running`, `done`, `failed` or `cancelled`; by default any.
            tenant: whose; by default those of everyone whose requests this client may know of.
            limit: how many, up to 1,000. A page may have fewer, or none, and be followed by others.
            cursor: `cursor` of the page before. It is None on the last page.

        `future(id)` gives one of them. Accepted ones are remembered for days (`Settings.request_seconds`),
        others for some minutes after their end.
        """
        return await self.service.list_requests(tenant, state, limit, cursor)

    async def lineage(self, key: str) -> ValueLineage:
        """What a value was made from, down to the media: its inputs and theirs, each once. No value is read.

        What is neither stored nor in memory is told as today's features plan it, if they make the same value;
        otherwise its key is among `unknown`. Raises `UnknownKey`.
        """
        return await self.service.lineage(key)

    async def features(self) -> list[FeatureInfo]:
        """Every registered feature, by name."""
        return await self._features.infos()

    async def keep(
        self,
        name: str,
        features: str | Iterable[str],
        assets: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        params: Params | None = None,
        every: float = EVERY_SECONDS,
        gone: Gone = "keep",
        settle_seconds: float = SETTLE_SECONDS,
        callback: CallbackLike | None = None,
        tenant: str | None = None,
    ) -> DemandView:
        """Keep features true for all media under prefixes, from now on and whoever else is there.

        Args:
            name: what the demand is called; one of this name is replaced.
            features: names of features that the service has by itself.
            assets: folders, files, and URLs, of which one that ends with "/" stands for all below it.
            params: parameters by `"feature.name"`.
            every: seconds from one look at the prefixes to the next.
            gone: "purge" forgets the values of an asset that is nowhere any more.
            settle_seconds: how long a local file must have stood still before it is taken.
            callback: a URL that is called when all is true, and when assets fail; or
                `{"url": ..., "on": ["done", "failed", "result"]}`, `result` for assets that became true.
            tenant: whose share of the cluster this is.
        """
        places = [assets] if isinstance(assets, str | os.PathLike) else list(assets)
        demand = Demand(
            name=name,
            features=(features,) if isinstance(features, str) else tuple(features),
            prefixes=tuple(dict.fromkeys(prefix_of(place) for place in places)),
            params=one_set(params),
            every=every,
            gone=gone,
            tenant=self.tenant if tenant is None else tenant,
            settle_seconds=settle_seconds,
            callback=named_callback(callback),
        )
        demand.check()
        return await self.service.keep(demand)

    async def demands(self) -> list[DemandView]:
        """All demands and how they stand, by name."""
        return await self.service.demands()

    async def stop_keeping(self, name: str) -> bool:
        """Forget a demand; what is stored stays. False if there is none of that name."""
        return await self.service.stop_keeping(name)

    async def notify(self, places: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Noticed:
        """Tell that media at these places appeared, changed or went, so that demands look there at once.

        Without it the next look of each demand finds the same. Returns how many of these are looked at, how
        many no demand covers, and how many were dropped since too many wait.
        """
        found = [places] if isinstance(places, str | os.PathLike) else list(places)
        return await self.service.notify([prefix_of(place) for place in found])

    async def versions(self) -> list[StoredVersion]:
        """What is stored of each feature and version, by name; not what is only in memory so far."""
        return await self.service.versions()

    async def failures(self) -> list[Failure]:
        """The failures that are remembered now."""
        return await self.service.failures()

    async def deliveries(self, *, state: DeliveryState | None = None) -> list[DeliveryView]:
        """The newest callbacks of requests and demands, newest first: all, or those in a state.

        "waiting": the request goes on; "pending": it is to be sent; "delivered"; "failed": it is sent again
        only by `replay`.
        """
        return await self.service.deliveries(state=state)

    async def replay(self, id: str) -> DeliveryView:
        """Have a callback made again, whatever came of it; by its delivery's id."""
        return await self.service.replay(id)

    async def audit(
        self,
        *,
        since: float | None = None,
        tenant: str | None = None,
        what: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[AuditLine]:
        """A page of what was changed and by whom, the newest first.

        Args:
            since: the Unix time from which on; by default as far back as the log goes.
            tenant: whose; by default everybody's.
            what: a change such as "values.purged" or "demand.kept".
            limit: how many, up to 1,000. A page may have fewer, and be followed by others.
            cursor: `cursor` of the page before. It is None on the last page.
        """
        return await self.service.audit(AuditFilter(since, tenant, what), limit, cursor)

    async def stats(self) -> dict[str, float]:
        """Counters and gauges by name."""
        return await self.service.stats()

    async def purge(
        self,
        *,
        asset: AssetLike | None = None,
        feature: FeatureLike | None = None,
        version: str | None = None,
    ) -> int:
        """Forget the values that match all that is given; returns how many. At least one filter is needed."""
        if asset is None and feature is None and version is None:
            raise BadRequest("purge needs an asset, a feature or a version: it never forgets everything")
        id = None
        if asset is not None:
            ref = asset_ref(asset)
            id = ref.id or (await self.service.add_asset(ref.uri or "")).id
        name = None if feature is None else feature_names(feature)[0]
        return await self.service.purge(asset=id, feature=name, version=version)

    async def asset(self, asset: AssetLike) -> Asset:
        """Identify and probe the media at a path or URI, or tell what is known of an id."""
        ref = asset_ref(asset)
        if ref.uri is None:
            return await self.service.asset(ref.id or "")
        return await self.service.add_asset(ref.uri)

    async def upload(self, path: str | os.PathLike[str], media_type: str | None = None) -> Asset:
        """Send a file's bytes to where the server keeps uploads; returns their asset."""
        guessed = media_type or mimetypes.guess_type(os.fspath(path))[0]
        return await self.service.upload(_chunks(path), guessed)

    async def aclose(self) -> None:
        """Let go of the connection; an embedded Amber writes what is unwritten and stops its Ray."""
        closing, self._closing = self._closing, None
        try:
            await self.service.aclose()
        finally:
            if closing is not None:
                await closing()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def _request(
        self,
        asked: Selection,
        params: Params | None,
        range: Range | None,
        timeout: float | None,
        refresh: bool,
        priority: Priority | str,
        tenant: str | None,
    ) -> ComputeRequest:
        """The request as it is sent; a caller's own timeout is its deadline there too."""
        if timeout is not None and timeout < 0:
            raise BadRequest(f"timeout must be 0 or more seconds, not {timeout:g}")
        meaning = await self._features.meaning(asked.features, asked.declared)
        return ComputeRequest(
            features=asked.features,
            assets=tuple(a.ref for a in asked.assets),
            params=one_set(params),
            range=None if range is None else (float(range[0]), float(range[1])),
            priority=priority_of(priority),
            tenant=self.tenant if tenant is None else tenant,
            refresh=refresh,
            deadline_seconds=timeout or None,
            expect=meaning.expect,
            registry=meaning.registry,
        )

    async def _typed(self, results: Results) -> Results:
        """Tell a table the types of its features, which are asked for once for each registry."""
        names = {row.feature.partition("@")[0] for row in results.rows}
        registry = self._features.registry
        if registry != self._types_of or not names <= self._infos.keys():
            try:
                infos = await self.features()
            except AmberError:
                return results  # It has its values; their types are then read off them.
            self._infos = {info.name: info for info in infos}
            self._types, self._types_of = {}, registry
        for name in names.intersection(self._infos).difference(self._types):
            # Also as `shots@2`. What a version had returned that is not the registered one is not known here.
            info = self._infos[name]
            type = from_spec(info.returns)
            self._types |= {name: type, f"{name}@{info.version}": type}
        return results.typed(self._types)

    async def _check_splittable(self, asked: Selection) -> None:
        """Raise `TooLarge` if a feature per collection needs in one request what takes several."""
        per = {info.name: info.per for info in await self.features()}
        for name in asked.features:
            if per.get(name) == "collection":
                raise TooLarge(
                    f"{name} is about all {len(asked.assets)} assets together, more than one request takes"
                )

    async def _check_per_asset(self, names: Iterable[str]) -> list[Per]:
        """Return what values of these features are for, as far as they are registered.

        Raises `BadRequest` for a feature per collection, which has no value of one asset after another.
        """
        per = {info.name: info.per for info in await self.features()}
        for name in names:
            if per.get(name) == "collection":
                raise BadRequest(f"{name} is about a set of assets together: ask for it with get")
        return [per[name] for name in (name.partition("@")[0] for name in names) if name in per]


async def _chunks(path: str | os.PathLike[str]) -> AsyncIterator[bytes]:
    """A file's bytes, read off the loop's thread; `MediaNotFound` if it can't be opened."""
    try:
        file = await asyncio.to_thread(open, path, "rb")
    except OSError as error:
        raise MediaNotFound(f"can't read {os.fspath(path)}: {error.strerror}") from error
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk
