"""From a caller's words to each shard's work: assets resolved, the plan made, its parts split off.

All that is wrong with a request as such is found here, before a shard is asked. Plans are remembered, and
known to the shards by a name, both by where the assets are: an asset that moved is the same asset, with the
same keys, and has to be read somewhere else.

Must not know: shards, how assets are found.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from amber_ray.core.model.kept import Kept
from amber_ray.core.model.naming import assets_of
from amber_ray.core.model.request import AssetFailure, AssetRef, ComputeRequest, Failure
from amber_ray.core.model.unit_codec import asset_to_json
from amber_ray.core.model.units import Asset, Collection
from amber_ray.core.planning.pins import Pin, gone, old
from amber_ray.core.planning.plan import Plan, Planner, Target, closure
from amber_ray.errors import AmberError, BadRequest, TooLarge
from amber_ray.fabric.engine.ports import Assets
from amber_ray.fabric.engine.registries import Registries
from amber_ray.fabric.engine.request import (
    NamedPart,
    Part,
    failures_to_json,
    named_params,
    same_request,
)
from amber_ray.fabric.transport.messages import PlanPart
from amber_ray.settings import Settings

PLANS = 512
"""Plans remembered: services ask the same of the same again and again."""
PLAN_STEPS = 4096
"""Largest plan that is remembered."""

Look = Callable[[str, str, Sequence[str]], Awaitable[Kept]]
"""Says what is stored of a feature's version, of assets and collections."""

AT_HAND = 32
"""Most assets that are looked up without waiting: each costs a `stat` on the event loop."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, the part of it that each shard is asked for, and a request that it was made for."""

    plan: Plan
    parts: Mapping[int, NamedPart]
    request: ComputeRequest

    def asked(self, request: ComputeRequest) -> ComputeRequest:
        """An equal request that is held in memory already, else the given one.

        Finished requests remember what they were asked; those that repeat each other share it.
        """
        return self.request if same_request(self.request, request) else request


class RequestPlanner:
    """Plans requests, each with the registry that it names; remembers recent plans."""

    def __init__(self, settings: Settings, registries: Registries, assets: Assets, look: Look) -> None:
        self._look = look
        self._settings = settings
        self._registries = registries
        self._assets = assets
        self._plans: OrderedDict[Any, Planned] = OrderedDict()

    def at_hand(self, refs: Sequence[AssetRef]) -> list[Asset] | None:
        """The assets, if all of them can be told without waiting. Raises `TooLarge` for too many."""
        limit = self._settings.limits.assets_per_request
        if len(refs) > limit:
            raise TooLarge(f"a request may name {limit} assets, not {len(refs)}; send several requests")
        if len(refs) > AT_HAND:
            return None
        near: list[Asset] = []
        for ref in refs:
            asset = (
                None if ref.uri is None or ref.id is not None else self._assets.at_hand(ref.uri, ref.tenant)
            )
            if asset is None:
                return None
            near.append(asset)
        return _distinct(near)

    async def resolve(self, refs: Sequence[AssetRef]) -> tuple[list[Asset], tuple[AssetFailure, ...]]:
        """Assets for the references that have one, and a failure for each of the others."""
        near = self.at_hand(refs)
        if near is not None:
            return near, ()
        named = [ref for ref in refs if ref.uri is not None or ref.id is not None]
        found = dict(zip(named, await self._assets.resolve(named), strict=True))
        nameless = BadRequest("an asset is named by its uri or its id")
        assets: list[Asset] = []
        failed: list[AssetFailure] = []
        for ref in refs:
            asset = found.get(ref, nameless)
            if isinstance(asset, AmberError):
                failed.append(AssetFailure(ref, asset_failure(ref, asset)))
            else:
                assets.append(asset)
        return _distinct(assets), tuple(failed)

    def looks_back(self, request: ComputeRequest) -> bool:
        """Whether a request is for a version that the registry does not make: `kept` has to be asked then."""
        return any("@" in name for name in request.features) and bool(self._old(request))

    def _old(self, request: ComputeRequest) -> list[Pin]:
        return old(self._registries.get(request.registry), request.features)

    async def kept(self, request: ComputeRequest, assets: Sequence[Asset]) -> Mapping[str, Kept]:
        """What is stored of the versions in a request that the registry does not make, by the names asked.

        Raises `BadRequest` if it is to be made anew.
        """
        pins = self._old(request)
        if pins and request.refresh:
            why = gone(self._registries.get(request.registry), pins[0])
            raise BadRequest(f"{pins[0].asked} can't be made anew: {why}")
        units = [asset.id for asset in assets]
        if len(assets) > 0:
            units.append(Collection.of(assets).unit_id)
        found = await asyncio.gather(*(self._look(one.feature, one.version, units) for one in pins))
        return {one.asked: kept for one, kept in zip(pins, found, strict=True)}

    def plan(
        self,
        request: ComputeRequest,
        assets: Sequence[Asset],
        kept: Mapping[str, Kept] | None = None,
    ) -> tuple[Planned, tuple[AssetFailure, ...]]:
        """The plan and its parts, and a failure for each asset that the request's range does not fit.

        `kept` is what `kept` said of older versions. Raises `BadRequest` and kin for what is wrong with the
        request whatever its assets.
        """
        registry = self._registries.get(request.registry)
        registry.confirm(request.expect)
        name = (
            registry.digest,
            request.features,
            tuple([(a.id, a.uri, a.signature) for a in assets]),
            named_params(request),
            request.range,
        )
        known = None if kept else self._plans.get(name)
        if known is not None:
            self._plans.move_to_end(name)
            return known, ()
        planner = Planner(
            registry,
            features=request.features,
            params=request.params,
            segment_seconds=self._settings.segment_seconds,
            shards=self._settings.shards,
            max_steps=self._settings.limits.steps_per_request,
            kept=kept,
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
        planned = Planned(plan, split(plan), request)
        if not (refused or kept) and len(plan.steps) <= PLAN_STEPS:
            self._plans[name] = planned
            if len(self._plans) > PLANS:
                self._plans.popitem(last=False)
        return planned, tuple(refused)

    def body(
        self,
        request: ComputeRequest,
        assets: Sequence[Asset],
        failed: Sequence[AssetFailure],
        created: float,
    ) -> dict[str, Any]:
        """What the journal needs to plan the request again; `deadline` is a Unix time."""
        deadline = None if request.deadline_seconds is None else created + request.deadline_seconds
        return {
            "features": list(request.features),
            "params": dict(request.params),
            "range": list(request.range) if request.range else None,
            "priority_rank": int(request.priority),
            "refresh": request.refresh,
            "deadline": deadline,
            "tenant": request.tenant,
            "registry": self._registries.get(request.registry).digest,
            "expect": dict(request.expect),
            "callback": None if request.callback is None else asdict(request.callback),
            "assets": {a.id: asset_to_json(a) for a in assets},
            "failed_assets": failures_to_json(failed),
            "trace": request.trace,
        }


def split(plan: Plan) -> dict[int, NamedPart]:
    """Each shard's part of the plan, under a name that equal parts share.

    A name stands for the targets' keys, the code they are made with, and where their assets are. Positions
    are not part of it: equal parts may stand at different places of different requests.
    """
    parts: dict[int, NamedPart] = {}
    homes: dict[int, list[tuple[int, Target]]] = {}
    for position, target in enumerate(plan.targets):
        homes.setdefault(plan.steps[target.key].home, []).append((position, target))
    shards = tuple(sorted(homes))
    for home, placed in homes.items():
        targets = [target for _, target in placed]
        keys = [t.key for t in targets]
        registry = plan.steps[keys[0]].recipe.registry  # keys are of its features' versions, not of its code
        name = hashlib.blake2b("".join((registry, *keys)).encode(), digest_size=16)
        for asset in _assets_of(targets):
            name.update(repr((asset.id, asset.uri, asset.signature)).encode())
        steps = plan.steps if len(homes) == 1 else closure(plan.steps, keys)
        part = Part(tuple(position for position, _ in placed), tuple(targets))
        parts[home] = NamedPart(name.hexdigest(), PlanPart(steps, targets), part, shards)
    return parts


def _assets_of(targets: Iterable[Target]) -> Iterable[Asset]:
    """The assets that targets are about, each once."""
    found: dict[str, Asset] = {}
    for target in targets:
        for asset in assets_of(target.unit):
            found.setdefault(asset.id, asset)
    return found.values()


def _distinct(assets: Iterable[Asset]) -> list[Asset]:
    """Each asset once, in the order in which they were named first."""
    return list({a.id: a for a in assets}.values())


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
