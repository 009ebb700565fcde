"""A catalogue's way through a service: a sliding window of requests over assets read as needed.

Nothing waits for the slowest request of a batch: whenever one ends, the next one is sent. What is held is
one window of assets, whatever the catalogue's length. How many a request has is `core.model.pace`'s. Must not
know: where assets come from.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator

from amber_ray.client.ended import EndedAssets
from amber_ray.client.exchange import answered, now
from amber_ray.client.names import AssetLike, Named, asset_name, named_assets
from amber_ray.client.results import Results
from amber_ray.client.selection import Selection
from amber_ray.client.windows import windows
from amber_ray.core.model.pace import Pace
from amber_ray.core.model.request import ComputeRequest
from amber_ray.core.model.service import Service
from amber_ray.errors import BadRequest, Expired, TooLarge

REQUESTS_AT_ONCE = 8
"""Requests under way: one that ends leaves the workers the other seven's work until the next has arrived."""

Told = Callable[[Results], object]
"""Called with the rows of assets that have ended, each asset once."""


async def swept(
    service: Service,
    request: ComputeRequest,
    assets: Iterable[AssetLike],
    told: Told,
    until: float,
    window: int,
) -> None:
    """Ask `request`'s features of all `assets`; see `AsyncClient.sweep`. `until` is in the loop's time.

    `assets` is advanced on threads, never by two at once, since listing may wait for a disk or a network.
    """
    if window < 1:
        raise BadRequest(f"window must be at least 1 asset, not {window}")
    each = iter(assets)
    pace = Pace(window, REQUESTS_AT_ONCE)
    running: set[asyncio.Task[None]] = set()
    ended = False

    async def one(part: tuple[Named, ...]) -> None:
        began = now()
        await _answered(service, request, part, told, until)
        pace.took(len(part), now() - began)

    try:
        while not ended or running:
            while not ended and len(running) < min(REQUESTS_AT_ONCE, window):
                if now() >= until:
                    raise Expired("time is up before the end of the catalogue; what was done is stored")
                size = pace.size
                some = await asyncio.to_thread(_take, each, size)
                ended = len(some) < size
                running |= {asyncio.ensure_future(one(part)) for part in windows(some)}
                # A request that ended while the catalogue was read makes room now.
                running = _going(running)
            if running:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                running = _going(running)
    except BaseException:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        raise


def _take(each: Iterator[AssetLike], most: int) -> tuple[Named, ...]:
    """The next `most` assets; fewer, with repeats, only at the end."""
    found: dict[str, AssetLike] = {}
    for asset in itertools.islice(each, most):
        found[asset_name(asset)] = asset
    while len(found) < most and (more := next(each, None)) is not None:
        found[asset_name(more)] = more
    return named_assets(found.values()) if found else ()


def _going(tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """The tasks that have not ended; raises what one that has ended did."""
    for task in tasks:
        if task.done():
            task.result()
    return {task for task in tasks if not task.done()}


async def _answered(
    service: Service, request: ComputeRequest, part: tuple[Named, ...], told: Told, until: float
) -> None:
    """Follow one request; one that is too large for the server goes in two halves."""
    asked = Selection(request.features, part, tuple(a.name for a in part))
    mine = dataclasses.replace(request, assets=tuple(a.ref for a in part))
    ended = EndedAssets(service, asked, told)
    try:
        results, _ = await answered(service, asked, mine, until, ended, load=False)
    except TooLarge:
        if len(part) == 1:
            raise
        half = len(part) // 2
        for some in (part[:half], part[half:]):
            await _answered(service, request, some, told, until)
    else:
        ended.rest(results)
