"""The steps of one request over a `Service`: submit, watch, collect, withdraw.

`AsyncClient` and `AsyncFuture` are both made of these functions. Every wait has a bound: a long poll lasts at
most `POLL_SECONDS`, whatever the caller's own deadline. Must not know: which service it is.
"""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from amber_ray.client.results import Results, assigned, by_id, matched
from amber_ray.client.row import Row
from amber_ray.client.selection import Selection
from amber_ray.core.model.request import MISSING, AssetRef, ComputeRequest, RequestView
from amber_ray.core.model.service import Answered, RequestEvent, Service, StoredValue
from amber_ray.errors import AmberError, Unavailable

POLL_SECONDS = 30.0
"""The longest that one long poll may last."""
WITHDRAW_SECONDS = 5.0
"""How long a caller who leaves waits for the server to hear of it."""
FOLLOWED_AFTER = 0.5
"""How long a call that follows its request waits for the whole answer first."""
FOLLOWED_POLL_SECONDS = 1.0
"""The longest that one long poll of such a call may last, where events can't be had."""
HASTE_SECONDS = 0.05
"""A long poll that answers "running" sooner than this did not wait, so the client does."""

FEATURES_AT_ONCE = 4
"""Features whose values are loaded at a time."""

T = TypeVar("T")
Report = Callable[[RequestView | RequestEvent], Awaitable[None]]
"""Told how a request stands and what happens to it, as it goes on."""


async def watched(
    service: Service, view: RequestView, until: float, report: Report | None = None
) -> RequestView:
    """Return the request's final view, or how it stands at `until` (in the loop's time).

    With `report` the request's events are followed, so that what happens is told as it happens; should the
    event stream break off, polling takes over.
    """
    if report is not None and view.state == "running" and now() < until:
        await report(view)
        try:
            async with asyncio.timeout_at(until), aclosing(_events(service, view.id)) as events:
                async for event in events:
                    await report(event)
                    if event.view is not None:
                        return event.view
        except (TimeoutError, Unavailable):
            pass  # The polls below find out how it stands, or that the server is really gone.
    while view.state == "running" and (left := until - now()) > 0:
        began = now()
        wait = min(POLL_SECONDS if report is None else FOLLOWED_POLL_SECONDS, left)
        view = await service.status(view.id, wait)
        if report is not None:
            await report(view)
        if view.state == "running" and now() - began < min(HASTE_SECONDS, wait):
            await asyncio.sleep(min(0.2, max(0.0, until - now())))
    return view


async def answered(
    service: Service,
    asked: Selection,
    request: ComputeRequest,
    until: float,
    report: Report | None = None,
    *,
    load: bool = True,
) -> tuple[Results, bool]:
    """Submit, wait and collect. Return the table, and whether time ran out and the request was withdrawn.

    The id is chosen here, so the request can be withdrawn even if its first answer never arrives.
    """
    id = uuid.uuid4().hex
    try:
        first = POLL_SECONDS if report is None else FOLLOWED_AFTER
        view = await service.compute(request, min(first, max(0.0, until - now())), id)
        view = await watched(service, view, until, report)
    except asyncio.CancelledError:
        left = await withdraw(service, id)
        if left is not None and report is not None:
            await report(left)
        raise
    late = view.state == "running"
    if late:
        view = await withdraw(service, id) or view
        late = view.state in ("running", "cancelled")
    if report is not None:
        await report(view)
    return await collected(service, view, asked, load=load), late


def now() -> float:
    """Return the running loop's time, which `until` is told in."""
    return asyncio.get_running_loop().time()


async def _events(service: Service, id: str) -> AsyncGenerator[RequestEvent, None]:
    """The service's events as a generator that can be closed, whatever kind of iterator the service gives."""
    async for event in service.events(id):
        yield event


async def withdraw(service: Service, id: str) -> RequestView | None:
    """Cancel a request within `WITHDRAW_SECONDS`; return None if the server has none or can't be told."""
    try:
        async with asyncio.timeout(WITHDRAW_SECONDS):
            return await service.cancel(id)
    except (AmberError, TimeoutError):
        # The caller is leaving with an error of its own, which matters more; unshared work is cancelled
        # by the request's deadline or by the server's noticing the disconnect.
        return None


async def collected(
    service: Service, view: RequestView, asked: Selection | None, *, load: bool = True
) -> Results:
    """Return the finished view as `Results`; values that are not in the answer are loaded.

    Without `asked` (a request found again by its id) assets are named by their ids.
    """

    async def resolve(uri: str) -> str:
        return (await service.add_asset(uri)).id

    if asked is None:
        features = view.features or tuple(dict.fromkeys(r.feature for r in view.results))
        rows = assigned(view, features, by_id(view), complete=False)
    else:
        refs: dict[str, AssetRef] = {a.name: a.ref for a in asked.assets}
        rows = assigned(view, asked.features, await matched(view, refs, resolve))
    return Results(await loaded(service, rows) if load else rows, view.id, view.state)


async def loaded(service: Service, rows: list[Row]) -> list[Row]:
    """Return the rows with their values; one that can't be loaded becomes its row's failure."""
    wanted = {row.key: row.feature for row in rows if row.state == "ready" and row.value is MISSING}
    if not wanted:
        return rows
    answers: dict[str, Answered] = {}
    # Values of one feature are of one type, and so come in one answer.
    keys_of: dict[str, list[str]] = {}
    for key, feature in wanted.items():
        keys_of.setdefault(feature, []).append(key)
    gate = asyncio.Semaphore(FEATURES_AT_ONCE)

    async def load(keys: Sequence[str]) -> None:
        async with gate, aclosing(service.values(keys)) as batches:
            async for batch in batches:
                answers.update((answer.key, answer) for answer in batch)

    await together([load(keys) for keys in keys_of.values()])
    return [filled(row, answers[row.key]) if row.key in answers else row for row in rows]


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines together; the first error cancels the others, waits for them and is raised as it is."""
    tasks = [asyncio.ensure_future(w) for w in work]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def filled(row: Row, answer: Answered) -> Row:
    """Return a row with the value that it waits for, or failed for the reason why there is none."""
    if row.value is not MISSING or row.state != "ready":
        return row
    if isinstance(answer, StoredValue):
        return row._replace(value=answer.value)
    unit = row.unit.unit_id if row.unit is not None else ""
    why = answer.failure
    failure = dataclasses.replace(why, step=why.step or row.feature, unit=why.unit or unit)
    return row._replace(state="failed", failure=failure)
