"""A value's provenance down to the media: what it was made from, and that from what.

Shards tell of values that are in memory or stored, the keys of their inputs included, so the tree is walked
level by level, a call of each shard for each. Many inputs are stored nowhere (`store="never"`, or purged):
then who takes them is planned once more, with the parameters that it has, by the features of today. If that
comes to the very key that the value has, all below it is what it was made from, since keys digest inputs.
Otherwise nothing is known of them; nor of windows that were found and have gone, whose times no key tells.

    ask the shards ──→ inputs' keys ──→ ask the shards ... ──→ keys that nobody has
                           ↑                                        │
                           └────── plan again who takes them ←──────┘

Must not know: how values are stored.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection as SomeOf
from collections.abc import Iterable, Mapping, Sequence

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.absent import no_value
from amber_ray.core.model.kept import window_of
from amber_ray.core.model.provenance import ValueInfo, ValueLineage, merged
from amber_ray.core.model.request import AssetRef
from amber_ray.core.model.units import Asset, Collection, Segment, Unit
from amber_ray.core.planning.plan import Planner, Step, few_of, params_of
from amber_ray.errors import AmberError, TooLarge
from amber_ray.fabric.engine.ports import Assets
from amber_ray.fabric.engine.shard_client import ShardClient
from amber_ray.settings import Settings

MOST = 10_000
"""Values that one answer may tell of."""
PLACES_OF = 100
"""Assets whose places are told; there is one for most values, and as many as there are in a collection."""


class LineageReader:
    """Finds out what values were made from; `registry` are the features of today."""

    def __init__(
        self, settings: Settings, registry: Registry, shards: Sequence[ShardClient], assets: Assets
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._shards = shards
        self._assets = assets

    async def read(self, key: str) -> ValueLineage:
        """The lineage of a value. Raises `UnknownKey` if there is none, `TooLarge` for one of too many."""
        found: dict[str, ValueInfo] = {}
        asked: set[str] = set()
        planned: set[str] = set()
        wanted = [key]
        while wanted:
            asked.update(wanted)
            if len(asked) > MOST:
                raise TooLarge(f"more than {MOST:,} values are behind {key}; ask for one of its inputs")
            found |= await self.told(wanted)
            if key not in found:
                raise no_value(key)
            wanted = list(dict.fromkeys(_inputs(found.values()) - asked))
            if not wanted:
                users = [one for one in found.values() if one.key not in planned and _lacks(one, found)]
                planned.update(one.key for one in users)
                again = await self._planned_again(users)
                found = again | found
                wanted = [its for its in again if its not in asked]
        nodes = _in_order(key, found)
        unknown = tuple(sorted(_inputs(nodes) - found.keys()))
        ids = list(dict.fromkeys(id for node in nodes for id in node.assets))
        return ValueLineage(key, nodes, unknown, tuple(await self._assets.places(ids[:PLACES_OF])))

    async def told(self, keys: Sequence[str]) -> dict[str, ValueInfo]:
        """What is known of those values that are in memory or stored, by key."""
        told = await asyncio.gather(*(shard.call("provenance", keys) for shard in self._shards))
        return merged(one for some in told for one in some)

    async def _planned_again(self, users: Sequence[ValueInfo]) -> dict[str, ValueInfo]:
        """What is under some values by today's features, as far as those make the very same values."""
        named = [AssetRef(id=id) for id in dict.fromkeys(id for one in users for id in one.assets)]
        known = zip(named, await self._assets.resolve(named) if named else (), strict=True)
        assets = {ref.id or "": asset for ref, asset in known if isinstance(asset, Asset)}
        found: dict[str, ValueInfo] = {}
        for one in users:
            if one.key in found or not assets.keys() >= set(one.assets):
                continue
            steps = self._steps(one, assets)
            found |= {
                key: _info(step)
                for key, step in steps.items()
                if key != one.key and not step.is_template  # what came of a template is in its users' inputs
            }
        return found

    def _steps(self, one: ValueInfo, assets: Mapping[str, Asset]) -> Mapping[str, Step]:
        """The steps of a value and of all below it; none if today's features make another one."""
        if one.feature not in self._registry or self._registry.get(one.feature).version != one.version:
            return {}
        params = {name if "." in name else f"{one.feature}.{name}": v for name, v in one.params.items()}
        try:
            planner = Planner(
                self._registry,
                features=[one.feature],
                params=params,
                segment_seconds=self._settings.segment_seconds,
                shards=len(self._shards),
                max_steps=self._settings.limits.steps_per_request,
            )
            planner.add_unit(_unit(one, assets))
        except AmberError:  # a parameter that is none any more, or media of another kind
            return {}
        steps = planner.plan().steps
        return few_of(steps, [one.key]) if one.key in steps else {}


def _inputs(values: Iterable[ValueInfo]) -> set[str]:
    return {key for one in values for key in one.inputs}


def _lacks(one: ValueInfo, found: SomeOf[str]) -> bool:
    """Whether nothing is known of some input."""
    return any(key not in found for key in one.inputs)


def _in_order(key: str, found: Mapping[str, ValueInfo]) -> tuple[ValueInfo, ...]:
    """What is under a key, itself first, each once, level by level."""
    level, seen = [key], {key: None}
    while level:
        below = dict.fromkeys(its for one in level for its in found[one].inputs if its in found)
        level = [its for its in below if its not in seen]
        seen.update(dict.fromkeys(level))
    return tuple(found[its] for its in seen)


def _unit(one: ValueInfo, assets: Mapping[str, Asset]) -> Unit:
    if one.per == "collection":
        return Collection(tuple(assets[id] for id in one.assets))
    asset = assets[one.assets[0]]
    window = window_of(one.unit)
    return asset if window is None else Segment(asset, window[1], window[2], one.found)


def _info(step: Step) -> ValueInfo:
    """What a plan tells of a value that is nowhere."""
    recipe, unit = step.recipe, step.unit
    return ValueInfo(
        step.key,
        recipe.feature,
        recipe.version,
        step.unit_id,
        json.loads(params_of(recipe)),
        isinstance(unit, Segment) and unit.found,
        code=recipe.code,
        inputs=tuple(step.needs),
    )
