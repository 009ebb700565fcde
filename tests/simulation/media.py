"""A made-up feature graph over a few assets, different for each seed, and what its values should be."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Mapping

from amber_ray.core.feature import Resources
from amber_ray.core.plan import Recipe, Step, home_of
from amber_ray.core.units import Asset, Collection, Segment, Unit
from tests.core_kit import asset, clip, key_of, recipe

# name: (grain, inputs)
SHAPE: dict[str, tuple[str, tuple[str, ...]]] = {
    "probe": ("asset", ()),
    "frames": ("segment", ()),
    "look": ("segment", ("frames",)),
    "embed": ("segment", ("frames",)),
    "mood": ("segment", ("look", "probe")),
    "scene": ("segment", ("look", "embed")),
    "film": ("asset", ("scene", "probe")),
    "sound": ("asset", ("probe",)),
    "match": ("collection", ("film", "sound")),
}
GPU = {"num_gpus": 0.5}


class Media:
    """Every step there is, its recipe drawn from the seed. `bad` steps fail whenever they run."""

    def __init__(self, rng: random.Random, shards: int) -> None:
        self.shards = shards
        self.assets = [asset(f"a{i}") for i in range(rng.randint(1, 4))]
        self.steps: dict[str, Step] = {}
        self._segments = rng.randint(1, 3)
        self._recipes = {name: _recipe(rng, name) for name in SHAPE}
        for name, (grain, _) in SHAPE.items():
            for unit in self._units(grain):
                self._add(name, unit)
        self.size = {name: rng.choice((10, 300, 3000)) for name in SHAPE}
        self.bad = {key for key in self.steps if rng.random() < 0.03}
        self._reference: dict[str, str] = {}

    def _units(self, grain: str) -> list[Unit]:
        if grain == "collection":
            return [Collection.of(self.assets)]
        if grain == "asset":
            return list(self.assets)
        return [clip(a, i) for a in self.assets for i in range(self._segments)]

    def _add(self, name: str, unit: Unit) -> None:
        needs = [key for below in SHAPE[name][1] for key in self._below(below, unit)]
        key = _key(name, unit)
        level = max((self.steps[n].level + 1 for n in needs), default=0)
        home = home_of(unit, self.shards)
        self.steps[key] = Step(
            key, self._recipes[name], unit, unit.unit_id, tuple(needs), level, home, tuple(needs)
        )

    def _below(self, name: str, unit: Unit) -> list[str]:
        """The keys of an input: gathered, as it is, or of the segment's asset."""
        grain = SHAPE[name][0]
        of = (
            unit.assets
            if isinstance(unit, Collection)
            else [unit.asset if isinstance(unit, Segment) else unit]
        )
        if grain == "asset":
            return [_key(name, a) for a in of]
        if isinstance(unit, Segment):
            return [_key(name, unit)]
        return [_key(name, clip(a, i)) for a in of for i in range(self._segments)]

    def closure(self, targets: list[str]) -> dict[str, Step]:
        """The plan for some targets, inputs first."""
        keep: set[str] = set()
        stack = list(targets)
        while stack:
            key = stack.pop()
            if key not in keep:
                keep.add(key)
                stack.extend(self.steps[key].needs)
        return {key: step for key, step in self.steps.items() if key in keep}

    def matching(self, rng: random.Random) -> list[str]:
        """What a purge by asset, or by feature, would forget."""
        if rng.random() < 0.5:
            name = rng.choice(list(SHAPE))
            return [k for k, s in self.steps.items() if s.recipe.feature == name]
        about = rng.choice(self.assets).id
        return [k for k, s in self.steps.items() if s.asset_id in (about, None)]

    def reference(self, key: str) -> str:
        """The value, evaluated without any machinery."""
        known = self._reference.get(key)
        if known is None:
            inputs = {need: self.reference(need) for need in self.steps[key].needs}
            known = self._reference[key] = run(self.steps[key], inputs)
        return known

    def doomed(self, key: str) -> bool:
        """Whether it can have no value: it or something under it is bad."""
        return key in self.bad or any(map(self.doomed, self.steps[key].needs))


def run(step: Step, inputs: Mapping[str, str]) -> str:
    """What a feature computes here: a digest of all it was given, in order."""
    text = "/".join((step.recipe.feature, step.unit_id, *(inputs[n] for n in step.needs)))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _recipe(rng: random.Random, name: str) -> Recipe:
    grain, inputs = SHAPE[name]
    made = recipe(name, *inputs, per=grain, retries=rng.choice((0, 1, 2, 2)))
    if name == "frames":
        return dataclasses.replace(made, store=rng.choice(("never", "never", "parquet")))
    if name == "embed":
        gpu = Resources(**GPU, gpu=rng.choice(("preferred", "required")))
        return dataclasses.replace(made, is_class=True, batch=rng.choice((1, 3)), resources=gpu)
    cpus = Resources(num_cpus=rng.choice((0.0, 1.0, 1.0, 2.0)))
    return dataclasses.replace(made, resources=cpus, store=rng.choice(("parquet",) * 4 + ("memory", "never")))


def _key(name: str, unit: Unit) -> str:
    return key_of(f"{name}/{unit.unit_id}")


__all__ = ["SHAPE", "Asset", "Media", "run"]
