"""Look up what a service has of assets, and load values in batches; nothing is computed.

Must not know: which service it is, files.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing

from amber_ray.client.exchange import filled
from amber_ray.client.names import Named, place_of
from amber_ray.client.results import asset_of
from amber_ray.client.row import Row
from amber_ray.client.windows import windows
from amber_ray.core.model.request import MISSING, AssetRef, ComputeRequest, ExplainedStep, Failure
from amber_ray.core.model.service import Answered, Service
from amber_ray.core.model.units import EachRange, Segment
from amber_ray.errors import AmberError, MediaError, UnknownAsset

THERE = frozenset({"hot", "kept", "cold"})
"""States of a step that has a value."""
IDENTIFIED_AT_ONCE = 16
FOUND_AT_ONCE = 32
"""Assets asked about at a time where a film may have a thousand windows: a shard looks at some ten thousand
keys in a second, and nobody else is answered meanwhile."""


async def look_up(
    service: Service, request: ComputeRequest, named: Sequence[Named], most: int | None = None
) -> list[Row]:
    """Return a row for each of `request`'s features, asset and unit; values are MISSING.

    The windows of a finder that is not stored are not known: one row is "pending" for all of them.

    See `AsyncClient.stored`. `most`: assets that are asked about at a time.
    """
    rows: list[Row] = []
    for part in windows(named, most):
        rows += await _looked_up(service, request, part)
    return rows


async def load(service: Service, rows: Iterable[Row], told: Callable[[Sequence[Row]], object]) -> None:
    """Load the values of rows; see `AsyncClient.load`."""
    by_feature: dict[str, list[Row]] = {}
    for row in rows:
        by_feature.setdefault(row.feature, []).append(row)
    for some in by_feature.values():
        await _load(service, some, told)


async def _load(service: Service, rows: list[Row], told: Callable[[Sequence[Row]], object]) -> None:
    """Load the values of one feature's rows, and tell all rows in order."""
    wanted = dict.fromkeys(row.key for row in rows if row.state == "ready" and row.value is MISSING)
    uses = collections.Counter(row.key for row in rows)
    answers: dict[str, Answered] = {}
    left = collections.deque(rows)

    def tell() -> None:
        """Tell the next rows of which all is known; a value is held until its last row is told."""
        known: list[Row] = []
        while left and (left[0].key in answers or left[0].key not in wanted):
            row = left.popleft()
            known.append(filled(row, answers[row.key]) if row.key in answers else row)
            uses[row.key] -= 1
            if not uses[row.key]:
                answers.pop(row.key, None)
        if known:
            told(known)

    tell()
    if wanted:
        async with aclosing(service.values(list(wanted))) as batches:
            async for batch in batches:
                answers.update((answer.key, answer) for answer in batch)
                tell()


async def _looked_up(service: Service, request: ComputeRequest, part: Sequence[Named]) -> list[Row]:
    """Ask about all assets together; what that leaves out is asked about by itself."""
    steps = await _explained_together(service, request, part)
    ids = await _identified(service, part, _targets(steps))
    seen = {asset for _, asset in _targets(steps)}
    left = list(dict.fromkeys(id for id in ids.values() if isinstance(id, str) and id not in seen))
    more, refused = await _explained(service, request, left)
    steps |= more
    targets = _targets(steps)
    failures: dict[str, Failure] = {}
    if any(step.state == "failed" for of in targets.values() for step in of):
        failures = {failure.key: failure for failure in await service.failures()}
    rows = []
    for named, id in ids.items():
        error = id if isinstance(id, AmberError) else refused.get(id)
        for feature in request.features:
            found = [] if error is not None else _of(feature, str(id), request.features, targets)
            if not found:
                gone = error or UnknownAsset(f"there is no asset {id}")
                rows.append(Row(feature, named.name, None, "", "failed", failure=_failure(gone, named)))
            for step in sorted(found, key=_start):
                rows.append(_row(step, named.name, steps, failures)._replace(feature=feature))
    return rows


def _of(
    asked: str,
    asset: str,
    features: Sequence[str],
    targets: Mapping[tuple[str, str], Sequence[ExplainedStep]],
) -> list[ExplainedStep]:
    """Return an asset's steps of a feature as it was asked for: `shots`, or `shots@2` for one version."""
    feature, _, version = asked.partition("@")
    steps = targets.get((feature, asset), ())
    if version:
        return [step for step in steps if step.version == version]
    pinned = {name.partition("@")[2] for name in features if name.startswith(f"{feature}@")}
    return [step for step in steps if step.version not in pinned] or list(steps)


async def _explained_together(
    service: Service, request: ComputeRequest, part: Sequence[Named]
) -> dict[str, ExplainedStep]:
    """Return the steps of those assets that can be read, by key."""
    together = dataclasses.replace(request, assets=tuple(named.ref for named in part))
    try:
        return {step.key: step for step in await service.explain(together)}
    except (MediaError, UnknownAsset):
        return {}


def _targets(steps: Mapping[str, ExplainedStep]) -> dict[tuple[str, str], list[ExplainedStep]]:
    """Return the steps that were asked for, by feature and asset id."""
    targets: dict[tuple[str, str], list[ExplainedStep]] = {}
    for step in steps.values():
        asset = asset_of(step.unit) if step.target else None
        if asset is not None:
            targets.setdefault((step.feature, asset.id), []).append(step)
    return targets


async def _identified(
    service: Service, part: Sequence[Named], targets: Mapping[tuple[str, str], Sequence[ExplainedStep]]
) -> dict[Named, str | AmberError]:
    """Return each asset's id: the one given, that of the one asset read at its place, or what is there."""
    places: dict[str, set[str]] = {}
    for (_, id), steps in targets.items():
        asset = asset_of(steps[0].unit)
        if asset is not None and asset.uri:
            places.setdefault(place_of(asset.uri), set()).add(id)
    gate = asyncio.Semaphore(IDENTIFIED_AT_ONCE)

    async def identified(named: Named) -> str | AmberError:
        if named.ref.id is not None:
            return named.ref.id
        at = places.get(place_of(named.ref.uri or ""), set())
        if len(at) == 1:
            return min(at)
        async with gate:
            try:
                return (await service.add_asset(named.ref.uri or "")).id
            except (MediaError, UnknownAsset) as error:
                return error

    return dict(zip(part, await asyncio.gather(*map(identified, part)), strict=True))


async def _explained(
    service: Service, request: ComputeRequest, ids: Sequence[str]
) -> tuple[dict[str, ExplainedStep], dict[str, AmberError]]:
    """Return the assets' steps by key, and the errors of the assets that were refused."""
    if not ids:
        return {}, {}
    try:
        some = dataclasses.replace(request, assets=tuple(AssetRef(id=id) for id in ids))
        return {step.key: step for step in await service.explain(some)}, {}
    except (MediaError, UnknownAsset) as error:
        if len(ids) == 1:
            return {}, {ids[0]: error}
    half = len(ids) // 2
    steps, refused = await _explained(service, request, ids[:half])
    more, others = await _explained(service, request, ids[half:])
    return steps | more, refused | others


def _row(
    step: ExplainedStep, name: str, steps: Mapping[str, ExplainedStep], failures: Mapping[str, Failure]
) -> Row:
    if step.state in THERE and isinstance(step.unit, EachRange):  # its finder found nothing
        return Row(step.feature, name, step.unit, step.key, "ready", [], cached=True)
    if step.state in THERE:
        return Row(step.feature, name, step.unit, step.key, "ready", MISSING, cached=True)
    if step.state != "failed":
        return Row(step.feature, name, step.unit, step.key, "pending")
    failure = _blamed(step, steps, failures) or Failure(
        "system", "SystemFault", "it failed; why is not remembered", step.feature, step.key, step.unit.unit_id
    )
    return Row(step.feature, name, step.unit, step.key, "failed", failure=failure)


def _blamed(
    step: ExplainedStep, steps: Mapping[str, ExplainedStep], failures: Mapping[str, Failure]
) -> Failure | None:
    """Return the failure of a step, or of the input of it that failed."""
    seen, waiting = {step.key}, [step.key]
    while waiting:
        key = waiting.pop()
        if key in failures:
            return failures[key]
        below = [k for k in steps[key].inputs if k in steps and k not in seen] if key in steps else []
        seen.update(below)
        waiting += [k for k in below if steps[k].state == "failed"]
    return None


def _failure(error: AmberError, named: Named) -> Failure:
    where = named.ref.uri or named.ref.id or ""
    return Failure("input", type(error).__name__, str(error), "asset", "", where, error.status)


def _start(step: ExplainedStep) -> int:
    return step.unit.start_us if isinstance(step.unit, Segment) else 0
