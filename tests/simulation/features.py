"""Real features over made-up assets: what they compute, what goes wrong, and what their values should be.

A value is a text: the digest of all that was given, in order, then the number of its execution, then padding.
The digest is what it must be; the number tells a value that was made anew from an old copy. `frames` is an
array, into which `look` tries to write, as users' features do by mistake.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from amber_ray.core.declare.calls import Calls, Rate, RetryLater
from amber_ray.core.declare.feature import Resources, feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.units import Asset, Collection, Segment
from amber_ray.core.planning.plan import Planner, Step
from amber_ray.errors import MediaError, MediaNotFound
from amber_ray.media.looks import looking
from tests.simulation.draws import Draws
from tests.simulation.scenario import CALLED, Scenario

if TYPE_CHECKING:
    from tests.simulation.world import World

SEGMENT_SECONDS = 10.0
GPU = {"num_gpus": 0.5}


@feature(version="1")
def probe(asset: Asset) -> str: ...


@feature(version="1")
def frames(clip: Segment) -> np.ndarray: ...


@feature(version="1", per="segment")
def look(frames: np.ndarray) -> str: ...


@feature(version="1", per="segment", batch=3)
class Embed:
    def __call__(self, frames: np.ndarray) -> str: ...

    def batch(self, frames: list[np.ndarray]) -> list[str]: ...


@feature(version="1", per="segment")
def mood(look: str, probe: str) -> str: ...


@feature(version="1", per="segment")
def scene(look: str, embed: str) -> str: ...


@feature(version="1")
def film(scene: list[str], probe: str) -> str: ...


@feature(version="1")
def sound(probe: str) -> str: ...


@feature(version="1", per="segment", timeout=20.0)
async def caption(look: str) -> str: ...


@feature(version="1", timeout=20.0)
class Judge:
    async def __call__(self, caption: list[str], probe: str) -> str: ...


@feature(version="1", per="collection")
def match(film: list[str], sound: list[str]) -> str: ...


SPECS = {
    f.__amber__.name: f.__amber__  # type: ignore[attr-defined]
    for f in (probe, frames, look, Embed, mood, scene, film, sound, match, caption, Judge)
}


class Model:
    """What a warm actor runs for `embed`."""

    def __init__(self, world: World, version: str) -> None:
        self._body = functools.partial(body, world, "embed", version)

    def __call__(self, frames: np.ndarray) -> str:
        made: str = self._body(frames=frames)
        return made

    def batch(self, frames: list[np.ndarray]) -> list[str]:
        return [self(one) for one in frames]


class Judged:
    """What an actor makes calls with for `judge`."""

    def __init__(self, world: World, version: str) -> None:
        self._call = functools.partial(called, world, "judge", version)

    async def __call__(self, caption: list[str], probe: str) -> str:
        made: str = await self._call(caption=caption, probe=probe)
        return made


async def called(world: World, name: str, version: str, **given: Any) -> Any:
    """What every feature does that calls a service: it takes a while, and now and then for ever."""
    digest = digest_of(name, version, None, [_digests(given[n]) for n in SPECS[name].inputs])
    try:
        await asyncio.sleep(0.05 + 2.0 * world.draws.unit("call", digest))
    except asyncio.CancelledError:
        stubborn = world.draws.unit("stubborn", digest)
        if stubborn < 0.4:
            world.saw("a call took its time to stop")
            await asyncio.sleep(3.0)
        if stubborn > 0.2:  # else it goes on as if it had not been asked
            raise
    if world.chance("hang", f"call {digest}"):
        world.saw("a call ran past its timeout")
        await asyncio.sleep(10_000.0)
    return body(world, name, version, **given)


def body(world: World, name: str, version: str, **given: Any) -> Any:
    """What every feature does. Fails where the world says so."""
    unit = next((given[n] for n in ("asset", "clip", "collection") if n in given), None)
    if unit is not None:
        world.media.read(unit)
    inputs = [_digests(given[n]) for n in SPECS[name].inputs]
    digest = digest_of(name, version, unit, inputs)
    if name == "look":
        _scribble(given["frames"])
    world.media.trouble(name, digest)
    text = f"{digest}:{world.media.executed(digest)}:".ljust(world.media.size[name], ".")
    return np.frombuffer(bytearray(text.encode()), np.uint8).copy() if name == "frames" else text


def _scribble(array: np.ndarray) -> None:
    """Write into an input, which must be refused, whoever else reads it."""
    try:
        array[:] = 0
    except ValueError:
        return
    raise AssertionError("a feature could write into its input")


def digest_of(name: str, version: str, unit: Any, inputs: Iterable[Any]) -> str:
    """What a value must begin with."""
    about = getattr(unit, "unit_id", "")
    text = f"{name}/{version}/{about}/{inputs}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def text_of(value: Any) -> str:
    """A value as its text."""
    return bytes(value).decode() if isinstance(value, np.ndarray) else str(value)


def digest_in(value: Any) -> str:
    """Of the text, what must be right."""
    return text_of(value).partition(":")[0]


def serial_in(value: Any) -> int:
    """Of the text, the number of the execution that made it."""
    return int(text_of(value).split(":")[1])


def _digests(value: Any) -> Any:
    return [_digests(v) for v in value] if isinstance(value, list) else digest_in(value)


class Media:
    """The assets, where they are now, and the registries.

    `generations` are registries: a later one has new versions of some features, so new keys for them and for
    all that is above them. `poison` keys end the process that runs them.
    """

    def __init__(self, world: World, scenario: Scenario, draws: Draws) -> None:
        self._world = world
        self._draws = draws
        self._scenario = scenario
        seconds = scenario.segments * SEGMENT_SECONDS
        ids = [hashlib.blake2b(f"a{i}".encode(), digest_size=16).hexdigest() for i in range(scenario.assets)]
        self.assets = [Asset(id, f"/m/0/{id[:4]}.mp4", "video/mp4", 1000, seconds) for id in ids]
        self.size = {name: draws.pick("size", name, (30, 300, 3000)) for name in SPECS}
        self.steps: dict[str, Step] = {}
        self.names: dict[str, str] = {}
        self.generations: list[Registry] = []
        self.executions = 0
        self.moved_at: dict[str, float] = {}
        self.made_at: list[float] = [0.0]
        self._versions = dict.fromkeys(SPECS, "1")
        self._options = {name: _options(draws, name) for name in SPECS}
        self._digests: dict[str, str] = {}
        self._doomed: dict[str, bool] = {}
        self.upgrade()

    # --- registries and plans

    def upgrade(self) -> None:
        """New code: other versions of a few features."""
        number = len(self.generations)
        for name in SPECS:
            if number and self._draws.unit("upgrade", name) < 0.25:
                self._versions[name] = str(number + 1)
        self.generations.append(Registry([self._spec(name, number) for name in SPECS]))
        self._plan_all(self.generations[-1])

    def _spec(self, name: str, generation: int) -> Any:
        version = self._versions[name]
        model = {"embed": Model, "judge": Judged}.get(name)
        function = called if name == "caption" else body
        make: Any = functools.partial(function, self._world, name, version)
        if model is not None:
            make = functools.partial(model, self._world, version)
        if name == "frames":
            make = looking(lambda clip: None)(make)
        return dataclasses.replace(
            SPECS[name],
            version=version,
            code_digest=f"{name}-{version}-{generation}",
            target=make,
            **self._options[name],
        )

    def planner(self, registry: Registry, features: Iterable[str], shards: int) -> Planner:
        """A planner as the engine has it."""
        return Planner(
            registry, features=tuple(features), params={}, segment_seconds=SEGMENT_SECONDS, shards=shards
        )

    def _plan_all(self, registry: Registry) -> None:
        """Learn every step there could be for one asset or for all of them."""
        planner = self.planner(registry, SPECS, self._scenario.shards)
        for asset in self.assets:
            planner.add_asset(asset)
        planner.add_collection(self.assets)
        self.learn(planner.plan().steps)

    def learn(self, steps: Mapping[str, Step]) -> None:
        """Remember what keys stand for. A collection of other assets has steps of its own."""
        for key, step in steps.items():
            if key not in self.steps:
                self.steps[key] = step
                version = step.recipe.version
                name = step.recipe.feature if version == "1" else f"{step.recipe.feature}@{version}"
                self.names[key] = f"{name}/{self._place(step)}"

    def _place(self, step: Step) -> str:
        """A unit as a person reads it: a0, a0/1, or all."""
        ids = [a.id for a in self.assets]
        if isinstance(step.unit, Segment):
            return f"a{ids.index(step.unit.asset.id)}/{int(step.unit.start / SEGMENT_SECONDS)}"
        if isinstance(step.unit, Collection):
            return "+".join(f"a{ids.index(a.id)}" for a in step.unit.assets)
        return f"a{ids.index(step.unit.id)}"

    # --- where assets are

    def move(self, number: int) -> None:
        """Move an asset's file, and register it anew."""
        old = self.assets[number]
        self.moved_at[old.id] = self._world.loop.time()
        place = int(old.uri.split("/")[2]) + 1
        self.assets[number] = dataclasses.replace(old, uri=f"/m/{place}/{old.id[:4]}.mp4")

    def at(self, uri: str) -> Asset | None:
        """The asset that is at a place now."""
        return next((a for a in self.assets if a.uri == uri), None)

    def by_id(self, id: str) -> Asset | None:
        """The asset with an id, where it is now."""
        return next((a for a in self.assets if a.id == id), None)

    def read(self, unit: Asset | Segment | Collection) -> None:
        """A feature opens the files of its unit."""
        assets = unit.assets if isinstance(unit, Collection) else [getattr(unit, "asset", unit)]
        for asset in assets:
            if self.at(asset.uri) is None:
                self._world.saw("an asset was gone from its place")
                raise MediaNotFound(f"there is no {asset.uri}")

    # --- what goes wrong in a feature

    def trouble(self, name: str, digest: str) -> None:
        """Raise what is to be raised in this run."""
        if self.bad(digest):
            raise MediaError(f"{name} is no good")
        if self._world.chance("step", digest):
            self._world.saw("a step failed")
            raise RuntimeError("a feature's own fault")
        if self._world.chance("later", digest):
            self._world.saw("a step asked to be tried later")
            raise RetryLater(self._draws.pick("later", digest, (0.0, 0.5, 3.0, 20.0)))
        if self._world.chance("system", digest):
            self._world.saw("a step had a system fault")
            raise MemoryError("out of memory")

    def executed(self, digest: str) -> int:
        """Count an execution that came to a value; returns its number."""
        self.executions += 1
        self.made_at.append(self._world.loop.time())
        return self.executions

    def bad(self, digest: str) -> bool:
        """Whether this can never have a value, by its input."""
        return self._draws.fixed("bad", digest) < 0.03

    def poison(self, key: str) -> bool:
        """Whether this ends the process that runs it, always."""
        return self._draws.fixed("poison", key) < 0.02

    # --- what is true

    def digest(self, key: str) -> str:
        """What the value of a key must be, evaluated without any machinery."""
        known = self._digests.get(key)
        if known is None:
            step = self.steps[key]
            spec = SPECS[step.recipe.feature]
            unit = step.unit if spec.unit_argument else None
            inputs = [_nested(self, nested) for nested in step.inputs]
            known = self._digests[key] = digest_of(spec.name, step.recipe.version, unit, inputs)
        return known

    def doomed(self, key: str) -> bool:
        """Whether it can have no value: it or something under it is bad or poison."""
        known = self._doomed.get(key)
        if known is None:
            known = self._doomed[key] = (
                self.bad(self.digest(key)) or self.poison(key) or any(map(self.doomed, self.steps[key].needs))
            )
        return known

    def below(self, key: str) -> set[str]:
        """The key and all that it is made of."""
        return {key}.union(*map(self.below, self.steps[key].needs))

    def durable(self, key: str) -> bool:
        """Whether its value belongs into Parquet."""
        return self.steps[key].recipe.store == "parquet"


def _nested(media: Media, nested: Any) -> Any:
    return media.digest(nested) if isinstance(nested, str) else [_nested(media, part) for part in nested]


def _options(draws: Draws, name: str) -> dict[str, Any]:
    made: dict[str, Any] = {"retries": draws.pick("retries", name, (0, 1, 2, 2))}
    if name == "frames":
        return made | {"store": draws.pick("store", name, ("never", "never", "parquet"))}
    if name == "embed":
        gpu = Resources(**GPU, gpu=draws.pick("gpu", name, ("preferred", "required")))
        return made | {"batch": draws.pick("batch", name, (1, 3)), "resources": gpu}
    if name in CALLED:
        concurrency = draws.pick("concurrency", name, (1, 2, 3))
        rate = draws.pick("rate", name, (None, Rate(2.0, 1.0), Rate(600.0, 60.0)))
        return made | {"calls": Calls(concurrency, rate)}
    cpus = Resources(num_cpus=draws.pick("cpus", name, (0.0, 1.0, 1.0, 2.0)))
    store = draws.pick("store", name, ("parquet",) * 4 + ("memory", "never"))
    return made | {"resources": cpus, "store": store}
