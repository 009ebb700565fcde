"""A made-up feature graph over a few assets, different for each seed, and what its values should be."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping

from amber_ray.core.declare.feature import Resources
from amber_ray.core.model.units import Collection, Unit
from amber_ray.core.planning.plan import Recipe, Step, closure, home_of
from tests.core_kit import asset, clip, key_of, recipe
from tests.simulation.draws import Draws
from tests.simulation.scenario import SHAPE, Scenario, names

GPU = {"num_gpus": 0.5}


class Media:
    """Every step there is, its recipe drawn from the seed.

    `bad` steps fail whenever they run, `poison` ones end the process that runs them.

    `generations` are registries: name of a step to its key. A later one has new versions of some features, so
    new keys for them and for all that is above them; the others are shared.
    """

    def __init__(self, scenario: Scenario, draws: Draws) -> None:
        self.shards = scenario.shards
        self.assets = [asset(f"a{i}") for i in range(scenario.assets)]
        self.steps: dict[str, Step] = {}
        self.generations: list[dict[str, str]] = []
        self._graphs: list[dict[str, Step]] = []
        self.names: dict[str, str] = {}
        self.bad: set[str] = set()
        self.poison: set[str] = set()
        self.size = {f: draws.pick("size", f, (10, 300, 3000)) for f in SHAPE}
        self._scenario = scenario
        self._draws = draws
        self._recipes = {f: _recipe(draws, f) for f in SHAPE}
        self._reference: dict[str, str] = {}
        self._closures: dict[tuple[int, tuple[str, ...]], dict[str, Step]] = {}
        self.upgrade()

    # --- the graph

    def upgrade(self) -> None:
        """A new registry: other code for a few features, so other keys for what depends on them."""
        number = len(self.generations)
        for feature, old in self._recipes.items():
            new = number > 0 and self._draws.unit("upgrade", feature) < 0.2
            version = str(number + 1) if new else old.version
            self._recipes[feature] = dataclasses.replace(old, registry=f"r{number}", version=version)
        keys: dict[str, str] = {}
        graph: dict[str, Step] = {}
        for name in names(self._scenario.assets, self._scenario.segments):
            self._add(name, keys, graph)
        self.generations.append(keys)
        self._graphs.append(graph)

    def _add(self, name: str, keys: dict[str, str], graph: dict[str, Step]) -> None:
        feature, unit = name.partition("/")[0], self._unit(name)
        made = self._recipes[feature]
        needs = tuple(keys[n] for below in SHAPE[feature][1] for n in self._below(below, name))
        key = keys[name] = key_of("/".join((feature, made.version, unit.unit_id, *needs)))
        level = max((graph[n].level + 1 for n in needs), default=0)
        step = graph[key] = Step(
            key, made, unit, unit.unit_id, needs, level, home_of(unit, self.shards), needs
        )
        if key not in self.steps:
            self.steps[key] = step
            self.names[key] = name
            if self._draws.unit("bad", name) < 0.03:
                self.bad.add(key)
            elif self._draws.unit("poison", name) < 0.02:
                self.poison.add(key)

    def _unit(self, name: str) -> Unit:
        _, of, *index = name.split("/")
        if of == "all":
            return Collection.of(self.assets)
        owner = self.assets[int(of[1:])]
        return clip(owner, int(index[0])) if index else owner

    def _below(self, feature: str, user: str) -> list[str]:
        """The names of an input: gathered, as it is, or of the segment's asset."""
        _, of, *index = user.split("/")
        owners = [a.id for a in self.assets] if of == "all" else [of]
        if SHAPE[feature][0] == "asset":
            return [f"{feature}/{a}" for a in owners]
        places = index or [str(i) for i in range(self._scenario.segments)]
        return [f"{feature}/{a}/{i}" for a in owners for i in places]

    def closure(self, targets: Iterable[str], generation: int) -> dict[str, Step]:
        """The plan for some targets by one registry, inputs first."""
        wanted = generation, tuple(targets)
        known = self._closures.get(wanted)
        if known is None:
            known = self._closures[wanted] = closure(self._graphs[generation], wanted[1])
        return known

    def below(self, key: str) -> set[str]:
        """The key and all that it is made of."""
        return {key}.union(*map(self.below, self.steps[key].needs))

    def matching(self, which: float, much: float) -> list[str]:
        """What a purge by asset, or by feature, would forget: in every version."""
        if much < 0.5:
            feature = list(SHAPE)[int(which * len(SHAPE))]
            return [k for k, s in self.steps.items() if s.recipe.feature == feature]
        about = self.assets[int(which * len(self.assets))].id
        return [k for k, s in self.steps.items() if s.asset_id in (about, None)]

    # --- what is true

    def reference(self, key: str) -> str:
        """The value, evaluated without any machinery."""
        known = self._reference.get(key)
        if known is None:
            inputs = {need: self.reference(need) for need in self.steps[key].needs}
            known = self._reference[key] = run(self.steps[key], inputs)
        return known

    def doomed(self, key: str) -> bool:
        """Whether it can have no value: it or something under it is bad or poison."""
        return key in self.bad or key in self.poison or any(map(self.doomed, self.steps[key].needs))

    def bytes(self, key: str) -> int:
        """The size of its value."""
        return self.size[self.steps[key].recipe.feature]

    def durable(self, key: str) -> bool:
        """Whether its value belongs into Parquet."""
        return self.steps[key].recipe.store == "parquet"


def run(step: Step, inputs: Mapping[str, str]) -> str:
    """What a feature computes here: a digest of all it was given, in order."""
    made = step.recipe
    text = "/".join((made.feature, made.version, step.unit_id, *(inputs[n] for n in step.needs)))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _recipe(draws: Draws, feature: str) -> Recipe:
    grain, inputs = SHAPE[feature]
    made = recipe(feature, *inputs, per=grain, retries=draws.pick("retries", feature, (0, 1, 2, 2)))
    if feature == "frames":
        return dataclasses.replace(made, store=draws.pick("store", feature, ("never", "never", "parquet")))
    if feature == "embed":
        gpu = Resources(**GPU, gpu=draws.pick("gpu", feature, ("preferred", "required")))
        batch = draws.pick("batch", feature, (1, 3))
        return dataclasses.replace(made, is_class=True, batch=batch, resources=gpu)
    cpus = Resources(num_cpus=draws.pick("cpus", feature, (0.0, 1.0, 1.0, 2.0)))
    store = draws.pick("store", feature, ("parquet",) * 4 + ("memory", "never"))
    return dataclasses.replace(made, resources=cpus, store=store)
