"""`EndedAssets`: tells of each asset of a running request as soon as all its results have ended.

A request of many assets is followed as a whole, by its events or by polls; here its results are gathered by
asset. No event tells how many ranges a finder has found, but for the results of its units, one by one: so
after the first of them the whole request is looked at. Must not know: how a request is followed, what is done
with a table.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable

from amber_ray.client.results import Identified, Results, assigned, matched
from amber_ray.client.selection import Selection
from amber_ray.core.model.request import RequestView, Result
from amber_ray.core.model.service import RequestEvent, Service

ENDED = frozenset({"ready", "failed"})
LOOK_SECONDS = 1.0
"""How often the whole request is looked at, at most: an answer with all results may be long."""


class EndedAssets:
    """An `exchange.Report` for one request; calls `told` with tables of assets that have ended.

    Every asset is told once, under all its names, with all rows that it has in the request's table.
    """

    def __init__(self, service: Service, asked: Selection, told: Callable[[Results], object]) -> None:
        """`asked` is what the request asked for; `told` is called in the event loop's thread."""
        self._service = service
        self._asked = asked
        self._tell = told
        self._told: set[str] = set()
        self._view: RequestView | None = None
        self._named: dict[str, Identified] = {}
        self._names: dict[str | None, list[str]] = {}
        self._results: dict[str, dict[str, Result]] = {}
        self._open: dict[str, set[str]] = {}
        self._unforeseen = False
        self._look_at = 0.0

    async def __call__(self, now: RequestView | RequestEvent) -> None:
        """Take what was heard of the request, and tell of the assets that it ends.

        The view of a request that is over is left to `rest`, as a table is made of it anyway.
        """
        if isinstance(now, RequestEvent):
            if self._view is not None and now.result is not None and now.result.asset is not None:
                id = now.result.asset.id
                self._unforeseen |= now.result.key not in self._results.get(id, {})
                self._take(now.result, id)
                self._tell_of(self._view, [id])
            if self._view is not None and self._unforeseen and (at := self._time()) >= self._look_at:
                self._unforeseen, self._look_at = False, at + LOOK_SECONDS
                await self._look(await self._service.status(self._view.id))
        else:
            await self._look(now)

    async def _look(self, now: RequestView) -> None:
        """Take in the whole request: what it does not list any more has units in its place by now."""
        if now.state not in ("running", "cancelled"):
            return
        if self._view is None:
            self._named = await matched(now, {a.name: a.ref for a in self._asked.assets}, self._id_at)
            for name, asset in self._named.items():
                self._names.setdefault(asset.id, []).append(name)
        self._view = now
        listed: dict[str, list[Result]] = {}
        for result in now.results:
            if result.asset is not None:
                listed.setdefault(result.asset.id, []).append(result)
        for id, results in listed.items():
            before, self._results[id], self._open[id] = self._results.get(id, {}), {}, set()
            for result in results:
                known = before.get(result.key)
                self._take(known if known is not None and known.state in ENDED else result, id)
        self._tell_of(now, self._names)

    def rest(self, results: Results) -> None:
        """Tell what the request's own table says of the assets that were not told yet."""
        rows = [row for row in results.rows if row.asset not in self._told]
        if rows:
            self._tell(Results(rows, results.id, results.state))

    def _take(self, result: Result, asset: str) -> None:
        self._results.setdefault(asset, {})[result.key] = result
        still = self._open.setdefault(asset, set())
        (still.discard if result.state in ENDED else still.add)(result.key)

    def _tell_of(self, view: RequestView, ids: Iterable[str | None]) -> None:
        """Tell of those of these assets that have ended and were not told yet."""
        names = {
            name: self._named[name]
            for id in ids
            for name in self._names.get(id, ())
            if name not in self._told and self._ended(self._named[name])
        }
        if not names:
            return
        self._told |= names.keys()
        known = dict.fromkeys(of.id for of in names.values() if of.id in self._results)
        found = tuple(result for id in known for result in self._results.pop(id or "").values())
        view = dataclasses.replace(view, results=found)
        self._tell(Results(assigned(view, self._asked.features, names), view.id, view.state))

    def _ended(self, asset: Identified) -> bool:
        """Whether an asset has results that have all ended, or no results and a reason why."""
        if asset.id in self._open:
            return not self._open[asset.id]
        return asset.failure is not None

    def _time(self) -> float:
        return asyncio.get_running_loop().time()

    async def _id_at(self, uri: str) -> str:
        return (await self._service.add_asset(uri)).id
