"""A request and a registry become a `Plan`: every step that could be needed, keyed and in order.

The plan is the whole graph below its targets. The ledger prunes it, since it alone knows which values exist.
Keys are Merkle digests of inputs, so all of them are known here, before anything runs.

A `Recipe` is what all steps of one feature with the same parameters share; it is sent once per plan.

What is for each range that a finder finds is in the plan once, as a template (`planning.fanout`).

Must not know: Ray, what is stored, which step runs when.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amber_ray.core.declare.calls import NO_CALLS, Calls
from amber_ray.core.declare.feature import FeatureSpec, Resources, Store
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.kept import Kept, window_of
from amber_ray.core.model.units import (
    MICRO,
    Asset,
    Collection,
    EachRange,
    Per,
    Segment,
    Unit,
    is_found,
    segments,
)
from amber_ray.core.planning import keys
from amber_ray.core.planning.homes import home_of
from amber_ray.core.planning.pins import Pin, gone, nothing_kept, pin
from amber_ray.core.values.annotations import ValueType, plain
from amber_ray.errors import BadRequest, TooLarge

Nested = str | tuple[Any, ...]
"""An input's key, or a tuple of keys for a gather (of tuples, for segments gathered by a collection). The key
of a template stands for the list of its values."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the steps of one feature with one set of parameters are run. Equal recipes are interchangeable.

    `registry` is the digest of the registry whose code runs it. `model` holds the constructor parameters of a
    class feature, which choose its warm pool, and `above` the parameters of all that it is made from, by
    `feature.name`. `gone` says why it can't be run, of a version whose code is not here; else it is empty.
    `looks`: it looks at pictures of its unit, which may be decoded along with those that others look at.
    `returns` is the type of its values, where they are made without any class of the feature's module.
    `decodes`: it decodes pictures, which goes faster with more threads.
    `pooled`: warm actors run it, since it is a class feature or `async def`. `fusable`: it may share a task
    with its neighbours, since it is a plain CPU function.
    """

    registry: str
    feature: str
    version: str
    per: Per
    params: tuple[tuple[str, Any], ...]
    model: tuple[tuple[str, Any], ...]
    resources: Resources
    store: Store
    timeout: float | None
    retries: int
    batch: int
    is_class: bool
    inputs: tuple[str, ...]
    code: str
    calls: Calls = NO_CALLS
    above: tuple[tuple[str, Any], ...] = ()
    gone: str = ""
    looks: bool = False
    returns: ValueType | None = None
    decodes: bool = False
    pooled: bool = field(init=False, compare=False)
    fusable: bool = field(init=False, compare=False)

    @property
    def pool(self) -> tuple[Any, ...] | None:
        """What tells the warm actors that can run it from others; None for a plain function."""
        return (
            (self.registry, self.feature, self.version, self.model, self.resources) if self.pooled else None
        )

    def __post_init__(self) -> None:
        """Derive what the scheduler asks for each step."""
        pooled = self.is_class or bool(self.calls.concurrency)
        object.__setattr__(self, "pooled", pooled)
        object.__setattr__(self, "fusable", not (pooled or self.calls.alone) and self.resources.plain)


def params_of(recipe: Recipe) -> str:
    """A recipe's parameters as its rows have them, in JSON: its own, then its inputs' by `feature.name`."""
    return _params(recipe.model, recipe.params, recipe.above)


@functools.lru_cache(maxsize=1024)
def _params(
    model: tuple[tuple[str, Any], ...],
    params: tuple[tuple[str, Any], ...],
    above: tuple[tuple[str, Any], ...],
) -> str:
    return json.dumps(dict((*sorted((*model, *params)), *sorted(above))))


@dataclass(slots=True, eq=False)
class Step:
    """One recipe for one unit: a node of the graph. `inputs` has an item for each of `recipe.inputs`.

    `level` is the length of the longest path down to a step without inputs. `home` is the shard that owns the
    step. `needs` holds the keys of all its inputs, each once; of a template, that of its finder alone.
    """

    key: str
    recipe: Recipe
    unit: Unit
    unit_id: str
    inputs: tuple[Nested, ...]
    level: int
    home: int
    needs: tuple[str, ...] = field(default=())

    @property
    def asset_id(self) -> str | None:
        """The asset that it is about; None for a collection."""
        if isinstance(self.unit, Collection):
            return None
        return self.unit.id if isinstance(self.unit, Asset) else self.unit.asset.id

    @property
    def is_template(self) -> bool:
        """Whether it stands for the steps of each range that a finder finds."""
        return isinstance(self.unit, EachRange)

    @property
    def below(self) -> tuple[str, ...]:
        """The keys of all that it needs, and of a template all that what comes of it needs."""
        return (*self.needs, *leaves(self.inputs)) if self.is_template else self.needs


@dataclass(frozen=True, slots=True)
class Target:
    """What a caller asked for: one feature for one unit, and its key."""

    feature: str
    unit: Unit
    key: str


@dataclass(slots=True)
class Plan:
    """`steps` by key, every input before its user; `targets` in the order they were asked for."""

    steps: dict[str, Step]
    targets: tuple[Target, ...]


def closure(steps: Mapping[str, Step], wanted: Iterable[str]) -> dict[str, Step]:
    """Return the steps that `wanted` needs, directly or not, in their order."""
    keep: set[str] = set()
    stack = list(wanted)
    while stack:
        key = stack.pop()
        if key not in keep:
            keep.add(key)
            stack.extend(steps[key].below)
    return {key: step for key, step in steps.items() if key in keep}


def few_of(steps: Mapping[str, Step], wanted: Iterable[str]) -> dict[str, Step]:
    """Return the closure of a few of many steps, inputs before their users, looking at no others."""
    keep: dict[str, Step] = {}
    stack = list(wanted)
    while stack:
        key = stack.pop()
        if key not in keep:
            keep[key] = steps[key]
            stack.extend(keep[key].below)
    return dict(sorted(keep.items(), key=lambda item: item[1].level))


class Planner:
    """Plans requests of one registry. It is cheap to make, and holds the recipes of one set of parameters."""

    def __init__(
        self,
        registry: Registry,
        *,
        features: Sequence[str],
        params: Mapping[str, Any],
        segment_seconds: float,
        shards: int = 1,
        max_steps: int = 500_000,
        kept: Mapping[str, Kept] | None = None,
    ) -> None:
        """`kept`: what is stored of the versions that the registry does not make, by the names asked for.

        Raises `UnknownFeature`, `UnknownParameter`, `BadParameter` and `VersionGone` before any unit is
        looked at.
        """
        if not features:
            raise BadRequest("ask for at least one feature")
        self.registry = registry
        self.features = tuple(dict.fromkeys(features))
        self._pins = {name: pin(registry, name) for name in self.features}
        self._kept = kept or {}
        self.segment_seconds = segment_seconds
        self.shards = shards
        self.max_steps = max_steps
        made = [one.feature for one in self._pins.values() if not one.version]
        for name in made:
            registry.get(name)
        self._given = {one.asked: self._of_kept(one, params) for one in self._pins.values() if one.version}
        theirs = {name for given in self._given.values() for name in given}
        known = registry.parameters(made)
        given = registry.params_for(made, {n: v for n, v in params.items() if n in known or n not in theirs})
        self._recipes: dict[str, Recipe] = {}
        self._prefixes: dict[str, keys.Prefix] = {}
        for name, values in given.items():
            spec = registry.get(name)
            self._recipes[name] = _recipe(registry, spec, values, _above(registry, name, given))
            self._prefixes[name] = keys.prefix(name, spec.version, values)
        self._steps: dict[str, Step] = {}
        self._seen: dict[tuple[str, str], Step] = {}
        self._grids: dict[str, tuple[Segment, ...]] = {}
        self._each: dict[tuple[str, str, Any], EachRange] = {}
        self._targets: list[Target] = []

    def add_asset(self, asset: Asset, span: tuple[float, float] | None = None) -> tuple[Target, ...]:
        """Plan every requested feature of one asset, but for those per collection. Return the new targets.

        `span` restricts features per segment, or per what a finder finds, to the windows that [A, B) seconds
        touches; a feature per asset is about the whole asset and is not restricted. Raises `BadRequest` for a
        span that the asset does not have, `TooLarge` past the limit of steps.
        """
        found: list[Target] = []
        for name in self.features:
            per = self._per(name)
            if per == "segment" and (stored := self._kept_windows(name, asset, span)):
                units: tuple[Unit, ...] = stored
            elif per == "segment":
                units = segments(asset, self.segment_seconds, span) if span else self._grid(asset)
            elif per == "asset":
                units = (asset,)
            elif is_found(per):
                units = (self._ranges(per, asset, span),)
            else:
                continue
            found.extend(self._target(name, unit) for unit in units)
        self._targets.extend(found)
        return tuple(found)

    def add_collection(self, assets: Iterable[Asset]) -> tuple[Target, ...]:
        """Plan the requested features per collection. Return the new targets, if any."""
        names = [n for n in self.features if self._per(n) == "collection"]
        if not names:
            return ()
        unit = Collection.of(assets)
        found = [self._target(name, unit) for name in names]
        self._targets.extend(found)
        return tuple(found)

    def add_unit(self, unit: Unit) -> tuple[Target, ...]:
        """Plan every requested feature for one unit, whatever it is per. Return the new targets."""
        found = [self._target(name, unit) for name in self.features]
        self._targets.extend(found)
        return tuple(found)

    def plan(self) -> Plan:
        """Return what has been added so far."""
        return Plan(self._steps, tuple(self._targets))

    def _per(self, asked: str) -> Per:
        """What values of a feature are for: of a version that is not made here, as the stored ones are."""
        one = self._pins[asked]
        per = self._kept[asked].per if one.version else self.registry.get(one.feature).per
        assert per is not None
        return per

    def _target(self, asked: str, unit: Unit) -> Target:
        one = self._pins[asked]
        step = self._kept_step(one, unit) if one.version else self._step(one.feature, unit)
        return Target(asked, unit, step.key)

    def _of_kept(self, one: Pin, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a request that are about a version which is not made here.

        Raises `VersionGone` if nothing is stored of it.
        """
        kept = self._kept.get(one.asked, Kept())
        if kept.per is None:
            raise nothing_kept(self.registry, one, kept)
        has = kept.params()
        return {
            name: value
            for name, value in params.items()
            if name.partition(".")[0] == one.feature or name in has
        }

    def _usual(self, one: Pin) -> Mapping[str, Any]:
        """The parameters that today's code of a feature takes by default, as its rows name them."""
        if one.feature not in self.registry:
            return {}
        usual = self.registry.params_for([one.feature], {})
        return dict((*usual[one.feature], *_above(self.registry, one.feature, usual)))

    def _kept_windows(
        self, asked: str, asset: Asset, span: tuple[float, float] | None
    ) -> tuple[Segment, ...]:
        """The windows of an asset, by time, that an old version has stored values of, if they were found.

        They are taken for found if today's code finds them. Nobody knows which finder's value they are of.
        """
        one = self._pins[asked]
        known = one.feature in self.registry and is_found(self.registry.get(one.feature).per)
        if not (one.version and known):
            return ()
        first, last = (0.0, math.inf) if span is None else (span[0] * MICRO, span[1] * MICRO)
        windows = []
        for text in self._kept[asked].rows:
            id, start, length = window_of(text) or ("", 0, 0)
            if id == asset.id and start < last and start + length > first:
                windows.append(Segment(asset, start, length, found=True))
        return tuple(sorted(windows, key=lambda unit: (unit.start_us, unit.length_us)))

    def _kept_step(self, one: Pin, unit: Unit) -> Step:
        """The step of a version that is not made here: it can be read, or not be had at all."""
        unit_id = unit.unit_id
        made = self._seen.get((one.asked, unit_id))
        if made is not None:
            return made
        given = {name.removeprefix(f"{one.feature}."): v for name, v in self._given[one.asked].items()}
        row = self._kept[one.asked].best(unit_id, given, self._usual(one))
        recipe = self._recipes.get(one.asked)
        if recipe is None:
            what = f"this {self._per(one.asked)}{' with these parameters' if given else ''}"
            recipe = self._recipes[one.asked] = Recipe(
                registry=self.registry.digest,
                feature=one.feature,
                version=one.version,
                per=self._per(one.asked),
                params=(),
                model=(),
                resources=Resources(),
                store="parquet",
                timeout=None,
                retries=0,
                batch=1,
                is_class=False,
                inputs=(),
                code="",
                gone=f"{one.asked} is not stored for {what}, and {gone(self.registry, one)}",
            )
        # A key that no value has: no feature's name has an "@".
        absent = keys.prefix(one.asked, one.version, tuple(given.items()))
        key = absent.key(unit, ()) if row is None else row.key
        step = Step(key, recipe, unit, unit_id, (), 0, home_of(unit, self.shards))
        self._seen[one.asked, unit_id] = step
        self._steps.setdefault(key, step)
        return step

    def _grid(self, asset: Asset) -> tuple[Segment, ...]:
        grid = self._grids.get(asset.id)
        if grid is None:
            grid = self._grids[asset.id] = segments(asset, self.segment_seconds)
        return grid

    def _ranges(self, finder: str, asset: Asset, span: tuple[float, float] | None = None) -> EachRange:
        """Return what stands for each range that a finder finds in an asset, or in a span of it.

        What has no length in time has no spans: its one segment is in each.
        """
        span = span if asset.timed else None
        known = self._each.get((finder, asset.id, span))
        if known is None:
            span_us = None
            if span is not None:
                segments(asset, self.segment_seconds, span)  # raises for a span that the asset does not have
                span_us = round(span[0] * MICRO), round(span[1] * MICRO)
            key = self._step(finder, asset).key
            known = EachRange(asset, finder, key, round(self.segment_seconds * MICRO), span_us)
            self._each[finder, asset.id, span] = known
        return known

    def _step(self, name: str, unit: Unit) -> Step:
        """Return the step of a feature and unit, made once. Recurses as deep as the feature graph."""
        unit_id = unit.unit_id
        made = self._seen.get((name, unit_id))
        if made is not None:
            return made
        recipe = self._recipes[name]
        inputs: list[Nested] = []
        needs: dict[str, None] = {}
        level = 0
        for input_name in recipe.inputs:
            nested, below = self._input(input_name, unit)
            inputs.append(nested)
            for step in below:
                needs[step.key] = None
                level = max(level, step.level + 1)
        if isinstance(unit, EachRange):  # whatever its inputs: what comes of it may be there already
            needs = {unit.key: None}
            level = max(level, self._steps[unit.key].level + 1)
        key = self._prefixes[name].of(unit_id, zip(recipe.inputs, inputs, strict=True))
        step = Step(
            key, recipe, unit, unit_id, tuple(inputs), level, home_of(unit, self.shards), tuple(needs)
        )
        if len(self._steps) >= self.max_steps:
            raise TooLarge(
                f"the request needs more than {self.max_steps} steps; ask for fewer assets at a time"
            )
        self._seen[name, unit_id] = step
        self._steps[key] = step
        return step

    def _input(self, name: str, unit: Unit) -> tuple[Nested, Sequence[Step]]:
        """Return an input's keys, nested as the feature receives its values, and the steps behind them."""
        per = self.registry.get(name).per
        if is_found(per) and not isinstance(unit, EachRange):
            if isinstance(unit, Collection):
                steps = [self._step(name, self._ranges(per, a)) for a in unit.assets]
                return tuple(s.key for s in steps), steps
            assert isinstance(unit, Asset)
            step = self._step(name, self._ranges(per, unit))
            return step.key, (step,)
        if per == "segment" and not isinstance(unit, Segment | EachRange):
            if isinstance(unit, Asset):
                steps = [self._step(name, s) for s in self._grid(unit)]
                return tuple(s.key for s in steps), steps
            rows = [[self._step(name, s) for s in self._grid(a)] for a in unit.assets]
            return tuple(tuple(s.key for s in row) for row in rows), [s for row in rows for s in row]
        if per == "asset" and isinstance(unit, Collection):
            steps = [self._step(name, a) for a in unit.assets]
            return tuple(s.key for s in steps), steps
        coarser = unit.asset if per == "asset" and isinstance(unit, Segment | EachRange) else unit
        step = self._step(name, coarser)
        return step.key, (step,)


def leaves(nested: Nested) -> Iterator[str]:
    """Yield the keys of a nested input, in order."""
    if isinstance(nested, str):
        yield nested
    else:
        for part in nested:
            yield from leaves(part)


def _above(
    registry: Registry, name: str, given: Mapping[str, Sequence[tuple[str, Any]]]
) -> tuple[tuple[str, Any], ...]:
    """Return the parameters of all that a feature is made from, by `feature.name`."""
    below = [spec.name for spec in registry.sources(name) if spec.name != name]
    return tuple((f"{one}.{param}", value) for one in below for param, value in given[one])


def _recipe(
    registry: Registry,
    spec: FeatureSpec,
    values: Sequence[tuple[str, Any]],
    above: tuple[tuple[str, Any], ...],
) -> Recipe:
    """Return what the steps of one feature with these parameters share."""
    of_init = {p.name for p in spec.params if p.of_init}
    return Recipe(
        registry=registry.digest,
        feature=spec.name,
        version=spec.version,
        per=spec.per,
        params=tuple((n, v) for n, v in values if n not in of_init),
        model=tuple((n, v) for n, v in values if n in of_init),
        resources=spec.resources,
        store=spec.store,
        timeout=spec.timeout,
        retries=spec.retries,
        batch=spec.batch,
        is_class=spec.is_class,
        inputs=spec.inputs,
        code=spec.code_digest,
        calls=spec.calls,
        above=above,
        looks=spec.looks,
        returns=spec.returns if plain(spec.returns) else None,
        decodes=spec.decodes,
    )
