"""Real features over made-up assets: what they compute, what goes wrong, and what their values should be.

A value is a text: the digest of all that was given, in order, then the number of its execution, then padding.
The digest is what it must be; the number tells a value that was made anew from an old copy. `frames` is an
array, into which `look` tries to write, as users' features do by mistake.

Finders find other windows each time that they run, so that whoever goes on with windows of before is told
from whoever goes on with those of now. So what gathers found units may have several right values.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from amber_ray.core.declare.calls import Calls, Rate, RetryLater
from amber_ray.core.declare.feature import Resources, feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.units import Asset, Collection, EachRange, Segment
from amber_ray.core.planning.fanout import Windows, expand, widened, windows_of
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


@dataclass(frozen=True)
class Cut:
    """A range that was found; the first one of a list has the value's text."""

    start: float
    end: float
    text: str


@feature(version="1")
def cuts(probe: str) -> list[Cut]: ...


@feature(version="1", per="cuts")
def take(look: str, probe: str) -> str: ...


@feature(version="1")
def reel(take: list[str], sound: str) -> str: ...


@feature(version="1", per="collection")
def montage(take: list[list[str]]) -> str: ...


@feature(version="1")
def acts(reel: str) -> list[Cut]: ...


@feature(version="1", per="acts", batch=3)
class Pose:
    def __call__(self, frames: np.ndarray) -> str: ...

    def batch(self, frames: list[np.ndarray]) -> list[str]: ...


SPECS = {
    f.__amber__.name: f.__amber__  # type: ignore[attr-defined]
    for f in (
        *(probe, frames, look, Embed, mood, scene, film, sound, match, caption, Judge),
        *(cuts, take, reel, montage, acts, Pose),
    )
}
FINDERS = ("cuts", "acts")
MOST = 500
"""Right values of one key that are looked at; beyond that any is taken for right."""


class Model:
    """What a warm actor runs for `embed`, and for `pose`."""

    def __init__(self, world: World, name: str, version: str) -> None:
        self._body = functools.partial(body, world, name, version)

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
    serial = world.media.executed(digest)
    text = f"{digest}:{serial}:".ljust(world.media.size[name], ".")
    if name in FINDERS:
        return world.media.find(digest, serial, text)
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
    if isinstance(value, list):
        value = value[0].text
    return bytes(value).decode() if isinstance(value, np.ndarray) else str(value)


def digest_in(value: Any) -> str:
    """Of the text, what must be right."""
    return text_of(value).partition(":")[0]


def serial_in(value: Any) -> int:
    """Of the text, the number of the execution that made it."""
    return int(text_of(value).split(":")[1])


def _digests(value: Any) -> Any:
    gathered = isinstance(value, list) and not (value and isinstance(value[0], Cut))
    return [_digests(v) for v in value] if gathered else digest_in(value)


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
        self.found: dict[str, dict[int, Windows]] = {}
        self._expanded: dict[tuple[str, Windows], tuple[tuple[str, ...], tuple[Segment, ...]]] = {}
        self._versions = dict.fromkeys(SPECS, "1")
        self._options = {name: _options(draws, name) for name in SPECS}
        self._digests: dict[str, set[str]] = {}
        self._variable: dict[str, bool] = {}
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
        function = called if name == "caption" else body
        make: Any = functools.partial(function, self._world, name, version)
        if name in ("embed", "pose"):
            make = functools.partial(Model, self._world, name, version)
        elif name == "judge":
            make = functools.partial(Judged, self._world, version)
        elif name == "frames":
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
            if (
                key not in self.steps
                and step.recipe.feature == "montage"
                and type(step.inputs[0][0]) is tuple
            ):
                self._world.learn_collection(step.recipe.feature, step.unit)  # it was widened for this run
            if key not in self.steps:
                self.steps[key] = step
                version = step.recipe.version
                name = step.recipe.feature if version == "1" else f"{step.recipe.feature}@{version}"
                self.names[key] = f"{name}/{self._place(step)}"

    def _place(self, step: Step) -> str:
        """A unit as a person reads it: a0, a0/1, or all."""
        ids = [a.id for a in self.assets]
        if isinstance(step.unit, EachRange):
            return f"a{ids.index(step.unit.asset.id)}/each"
        if isinstance(step.unit, Segment) and step.unit.found:
            length = step.unit.length_us / 1e6
            return f"a{ids.index(step.unit.asset.id)}/{step.unit.start:g}+{length:g}"
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

    # --- what finders find

    def find(self, digest: str, serial: int, text: str) -> list[Cut]:
        """The ranges of one execution of a finder: some that it always finds, and some of this time.

        They are in no order, some twice, and some are the grid's segments.
        """
        end = self._scenario.segments * SEGMENT_SECONDS
        always, now = random.Random(digest), random.Random(f"{digest}/{serial}")
        kinds = [(0.0, SEGMENT_SECONDS), (0.0, 2.5), (2.5, 7.25), (end - 4.0, end + 1.0), (5.0, 15.0)]
        ranges = [one for one in kinds if always.random() < 0.5]
        ranges.append((now.randint(0, 3) * 1.5, 6.0))
        ranges += now.sample(ranges, now.randint(0, 1))
        now.shuffle(ranges)
        value = [Cut(start, stop, text if not i else "") for i, (start, stop) in enumerate(ranges)]
        windows = windows_of(value)
        assert windows is not None
        self.found.setdefault(digest, {})[serial] = windows
        return value

    def expansion(self, template: Step, windows: Windows) -> tuple[tuple[str, ...], tuple[Segment, ...]]:
        """The keys and units that come of a template, whose steps are known from now on."""
        known = self._expanded.get((template.key, windows))
        if known is None:
            found = expand(self.steps, template, windows, 1000)
            self.learn(found.steps)
            known = self._expanded[template.key, windows] = found.keys, found.units
        return known

    def ways(self, template: Step) -> dict[int, Windows]:
        """The windows that there can be for a template, by the number of the execution that found them."""
        ways: dict[int, Windows] = {}
        for digest in self.digests(template.needs[0]):
            ways |= self.found.get(digest, {})
        return ways

    def templates(self, key: str) -> list[Step]:
        """The templates that a step gathers."""
        return [self.steps[need] for need in self.steps[key].needs if self.steps[need].is_template]

    def learn_found(self) -> None:
        """Learn every step that there can be of a found window so far."""
        for template in [step for step in self.steps.values() if step.is_template]:
            for windows in self.ways(template).values():
                self.expansion(template, windows)

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

    def digests(self, key: str) -> set[str]:
        """What the value of a key may be, evaluated without any machinery: one thing, if nothing is gathered
        under it that was found. Empty if that are too many to tell.
        """
        known = self._digests.get(key)
        if known is not None:
            return known
        step = self.steps[key]
        made = {digest for one in self._forms(step) for digest in self._made(one)}
        if not self._varies(key):
            self._digests[key] = made
        return made if len(made) <= MOST else set()

    def _varies(self, key: str) -> bool:
        """Whether a value depends on windows that a finder found."""
        known = self._variable.get(key)
        if known is None:
            needs = self.steps[key].needs
            known = any(self.steps[need].is_template or self._varies(need) for need in needs)
            self._variable[key] = known
        return known

    def _forms(self, step: Step) -> Iterator[Step]:
        """A step with the keys of found units in the place of each template, for all that was ever found."""
        templates = self.templates(step.key)
        ways = [dict.fromkeys(self.ways(template).values()) for template in templates]
        for chosen in itertools.islice(itertools.product(*ways), MOST + 1):
            one = step
            for template, windows in zip(templates, chosen, strict=True):
                one = widened(one, {template.key: self.expansion(template, windows)[0]})
            yield one

    def _made(self, step: Step) -> Iterator[str]:
        """What a step may make of what its inputs may be."""
        spec = SPECS[step.recipe.feature]
        unit = step.unit if spec.unit_argument else None
        varying = [need for need in step.needs if self._varies(need)]
        for chosen in itertools.product(*(sorted(self.digests(need)) for need in varying)):
            given = dict(zip(varying, chosen, strict=True))
            inputs = [self._nested(nested, given) for nested in step.inputs]
            yield digest_of(spec.name, step.recipe.version, unit, inputs)

    def _nested(self, nested: Any, given: Mapping[str, str]) -> Any:
        if not isinstance(nested, str):
            return [self._nested(part, given) for part in nested]
        return given[nested] if nested in given else min(self.digests(nested))

    def right(self, key: str, digest: str) -> bool:
        """Whether a value of a key may be this."""
        return digest in (self.digests(key) or (digest,))

    def bad_value(self, key: str) -> bool:
        """Whether an input of this step can be no good."""
        return any(map(self.bad, self.digests(key)))

    def doomed(self, key: str) -> bool:
        """Whether it can have no value: it or something under it is bad or poison.

        Of units that were found it is not said: there may be other ones.
        """
        known = self._doomed.get(key)
        if known is None:
            step = self.steps[key]
            certain = not (step.is_template or self._varies(key))
            known = self.poison(key) or (certain and self.bad_value(key))
            known = known or any(self.doomed(need) for need in step.needs if not self.steps[need].is_template)
            self._doomed[key] = known
        return known

    def below(self, key: str) -> set[str]:
        """The key and all that it is made of."""
        step = self.steps[key]
        found = {key}.union(*map(self.below, step.needs))
        if step.is_template:
            for windows in self.ways(step).values():
                found = found.union(*map(self.below, self.expansion(step, windows)[0]))
        return found

    def durable(self, key: str) -> bool:
        """Whether its value belongs into Parquet."""
        return self.steps[key].recipe.store == "parquet"


def _options(draws: Draws, name: str) -> dict[str, Any]:
    made: dict[str, Any] = {"retries": draws.pick("retries", name, (0, 1, 2, 2))}
    if name == "frames":
        return made | {"store": draws.pick("store", name, ("never", "never", "parquet"))}
    if name in ("embed", "pose"):
        gpu = Resources(**GPU, gpu=draws.pick("gpu", name, ("preferred", "required")))
        return made | {"batch": draws.pick("batch", name, (1, 3)), "resources": gpu}
    if name in CALLED:
        concurrency = draws.pick("concurrency", name, (1, 2, 3))
        rate = draws.pick("rate", name, (None, Rate(2.0, 1.0), Rate(600.0, 60.0)))
        return made | {"calls": Calls(concurrency, rate)}
    cpus = Resources(num_cpus=draws.pick("cpus", name, (0.0, 1.0, 1.0, 2.0)))
    store = draws.pick("store", name, ("parquet",) * 4 + ("memory", "never"))
    return made | {"resources": cpus, "store": store}
