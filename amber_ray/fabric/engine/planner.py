"""From a caller's words to each shard's work: assets resolved, the plan made, its parts split off.

All that is wrong with a request as such is found here, before a shard is asked. Must not know Ray.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.request import AssetFailure, AssetRef, ComputeRequest, Failure
from amber_ray.core.model.units import Asset
from amber_ray.core.planning.plan import Plan, Planner, Target, closure
from amber_ray.errors import AmberError, BadRequest, TooLarge
from amber_ray.fabric.engine.request import failures_to_json
from amber_ray.fabric.transport.messages import PlanPart
from amber_ray.media.probe import Catalogue
from amber_ray.settings import Settings

PLANS = 512
"""Plans remembered: services ask the same of the same again and again."""
PLAN_STEPS = 4096
"""Largest plan that is remembered."""

AT_HAND = 32
"""Most assets that are looked up on the event loop: a thread costs more than as many `stat`s."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and the part of it that each shard is asked for, with the part's name."""

    plan: Plan
    parts: Mapping[int, tuple[str, PlanPart]]


class Planning:
    """Plans requests for one registry and settings; remembers recent plans."""

    def __init__(self, settings: Settings, registry: Registry, catalogue: Catalogue) -> None:
        self._settings = settings
        self._registry = registry
        self._catalogue = catalogue
        self._plans: OrderedDict[Any, Planned] = OrderedDict()

    async def resolve(self, refs: Sequence[AssetRef]) -> tuple[list[Asset], tuple[AssetFailure, ...]]:
        """Assets for the references that have one, and a failure for each of the others."""
        limit = self._settings.limits.assets_per_request
        if len(refs) > limit:
            raise TooLarge(f"a request may name {limit} assets, not {len(refs)}; send several requests")

        if len(refs) <= AT_HAND:
            near = [None if ref.uri is None else self._catalogue.at_hand(ref.uri) for ref in refs]
            if all(near):
                return list({a.id: a for a in near if a is not None}.values()), ()

        def resolve_all() -> tuple[list[Asset], tuple[AssetFailure, ...]]:
            assets: list[Asset] = []
            failed: list[AssetFailure] = []
            for ref in refs:
                try:
                    if ref.id is not None:
                        assets.append(self._catalogue.get(ref.id))
                    elif ref.uri is not None:
                        assets.append(self._catalogue.add(ref.uri))
                    else:
                        raise BadRequest("an asset is named by its uri or its id")
                except AmberError as error:
                    failed.append(AssetFailure(ref, asset_failure(ref, error)))
            return assets, tuple(failed)

        assets, failed = await asyncio.to_thread(resolve_all)
        return list({a.id: a for a in assets}.values()), failed

    def plan(
        self, request: ComputeRequest, assets: Sequence[Asset]
    ) -> tuple[Planned, tuple[AssetFailure, ...]]:
        """The plan and its parts, and a failure for each asset that the request's range does not fit.

        Raises `BadRequest` and kin for what is wrong with the request whatever its assets.
        """
        name = (
            request.features,
            tuple(a.id for a in assets),
            tuple(sorted((k, repr(v)) for k, v in request.params.items())),
            request.range,
        )
        known = self._plans.get(name)
        if known is not None:
            self._plans.move_to_end(name)
            return known, ()
        planner = Planner(
            self._registry,
            features=request.features,
            params=request.params,
            segment_seconds=self._settings.segment_seconds,
            shards=self._settings.shards,
            max_steps=self._settings.limits.steps_per_request,
        )
        refused: list[AssetFailure] = []
        for asset in assets:
            try:
                planner.add_asset(asset, request.range)
            except TooLarge:
                raise
            except BadRequest as error:
                if len(assets) == 1:
                    raise
                ref = AssetRef(uri=asset.uri, id=asset.id)
                refused.append(AssetFailure(ref, asset_failure(ref, error)))
        if assets:
            planner.add_collection(assets)
        plan = planner.plan()
        planned = Planned(plan, split(plan))
        if not refused and len(plan.steps) <= PLAN_STEPS:
            self._plans[name] = planned
            if len(self._plans) > PLANS:
                self._plans.popitem(last=False)
        return planned, tuple(refused)

    def body(
        self, request: ComputeRequest, assets: Sequence[Asset], failed: Sequence[AssetFailure]
    ) -> dict[str, Any]:
        """What the journal needs to plan the request again."""
        return {
            "features": list(request.features),
            "params": dict(request.params),
            "range": list(request.range) if request.range else None,
            "priority_rank": int(request.priority),
            "assets": {a.id: dataclasses.asdict(a) for a in assets},
            "failed_assets": failures_to_json(failed),
        }


def split(plan: Plan) -> dict[int, tuple[str, PlanPart]]:
    """Each shard's part of the plan, under a name that equal parts share."""
    parts: dict[int, tuple[str, PlanPart]] = {}
    homes: dict[int, list[Target]] = {}
    for target in plan.targets:
        homes.setdefault(plan.steps[target.key].home, []).append(target)
    for home, targets in homes.items():
        keys = [t.key for t in targets]
        registry = plan.steps[keys[0]].recipe.registry  # keys are of its features' versions, not of its code
        name = hashlib.blake2b("".join((registry, *keys)).encode(), digest_size=16).hexdigest()
        steps = plan.steps if len(homes) == 1 else closure(plan.steps, keys)
        parts[home] = name, PlanPart(steps, targets)
    return parts


def asset_failure(ref: AssetRef, error: AmberError) -> Failure:
    """An asset that can't be had, told like a step that failed."""
    return Failure(
        kind="input",
        type=type(error).__name__,
        message=str(error),
        step="asset",
        key="",
        unit=ref.id or ref.uri or "",
        status=error.status,
    )
