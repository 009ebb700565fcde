"""`run`: one feature, in this process, on a file or on given inputs.

The plan is the planner's (`core.planning.plan`), steps are run by what runs them on workers
(`fabric.worker.tasks`, `.warm`, `.calls`), and a value goes from one to the next as it does there. What is
left to do here is what the ledger and Ray do in a cluster: which steps are run together, and when.

Must not know: Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sys
import tempfile
from collections.abc import Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any

from amber_ray.client.loop import Loop
from amber_ray.client.names import feature_name
from amber_ray.client.results import raised
from amber_ray.core.declare.calls import NO_CALLS, RetryLater
from amber_ray.core.declare.feature import FeatureSpec, Resources, feature
from amber_ray.core.declare.loading import load
from amber_ray.core.declare.registry import Registry, declared
from amber_ray.core.model.naming import assets_of
from amber_ray.core.model.request import Failure
from amber_ray.core.model.units import Asset, rank_of
from amber_ray.core.planning.fanout import Widened, Windows, expand, widened
from amber_ray.core.planning.plan import Plan, Planner, Step
from amber_ray.core.values.annotations import Json
from amber_ray.core.values.base import ValueType
from amber_ray.errors import BadRequest, DeclarationError, FeatureError, did_you_mean
from amber_ray.fabric.transport.messages import StepResult, Work
from amber_ray.fabric.worker import snapshot, tasks
from amber_ray.fabric.worker.calls import CallMaker
from amber_ray.fabric.worker.snapshot import Snapshot
from amber_ray.fabric.worker.warm import WarmModel
from amber_ray.features import BUILTINS
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.locate import Locator
from amber_ray.settings import Limits, Settings

DEFAULTS = Settings()

Feature = Any
"""A decorated function or class, or a feature's name."""
Media = str | os.PathLike[str]


def run(
    feature: Feature,
    media: Media | Iterable[Media] | None = None,
    *,
    given: Mapping[Any, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    range: tuple[float, float] | None = None,
    segment_seconds: float = DEFAULTS.segment_seconds,
    features: Iterable[Feature] = (),
    limits: Limits | None = None,
) -> Any:
    """Run a feature, and all that it is made from, in this process. Return what `client.get` would.

    Args:
        feature: the decorated function or class, or the name of a built-in feature.
        media: a file, or several. The inputs are computed from it. A feature per segment, or per what another
            one finds, gives a list with a value for each window, several files a list with an item for each,
            a feature per collection one value.
        given: values of inputs, by the input's name or function, each in the shape in which the feature
            receives it. They are taken as they are (copied, read-only, and checked against the input's
            type if that feature is known), and what they are made from does not run. There is one unit
            then, and its value is returned; media is needed only for what is not given. Of a feature per what
            another one finds it is a segment.
        params: parameters by `"feature.name"`.
        range: [A, B) in seconds; only the segments that it touches.
        segment_seconds: the length of a segment.
        features: others that are needed: decorated functions, or modules and `.py` files by name. The
            built-in ones, and those in the module of `feature`, are known already.
        limits: bounds on what media may cost.

    Raises what `client.get` would: an error of `amber_ray.errors` that names the step that failed, with the
    feature's own traceback as a note; an exception of the feature itself is a `FeatureError`. A feature that
    asks to be tried again later is not: its `RetryLater` is raised.
    """
    known = _Known(features)
    spec = known.spec(feature)
    if given and spec.finder is not None:
        spec = dataclasses.replace(spec, per="segment")
    held = {feature_name(name): value for name, value in (given or {}).items()}
    registry = _registry(spec, held, known)
    with contextlib.ExitStack() as stack:
        assets = [] if media is None else stack.enter_context(_assets(media, limits or Limits()))
        if not assets:
            assets = [_nothing(spec, registry, held, segment_seconds)]
        planner = Planner(
            registry, features=[spec.name], params=params or {}, segment_seconds=segment_seconds
        )
        shape = [planner.add_asset(asset, range) for asset in assets]
        whole = planner.add_collection(assets)
        plan = planner.plan()
        if held and len(plan.targets) != 1:
            raise BadRequest(
                f"given inputs are those of one unit, but there are {len(plan.targets)}: name one file, and "
                "one segment by range or segment_seconds"
            )
        made = _values(registry, plan, _taken(spec, held, known), limits or Limits())
    if whole or held:
        return made[plan.targets[0].key]
    values = [made[of[0].key] if spec.finder else [made[one.key] for one in of] for of in shape]
    if spec.per == "asset":
        values = [one for [one] in values]
    return values[0] if isinstance(media, str | os.PathLike) else values


def asset(path: Media, limits: Limits | None = None) -> Asset:
    """Return a file as the `Asset` that features receive, to call a feature like the function that it is."""
    with _assets(path, limits or Limits()) as [found]:
        return found


# --- what is known of features


class _Known:
    """Features by name: those given, then those of the tested feature's module, then the built-in ones."""

    def __init__(self, features: Iterable[Feature]) -> None:
        self._extra: dict[str, FeatureSpec] = {}
        for one in [features] if isinstance(features, str) or callable(features) else features:
            found = declared(load(_place(one))) if isinstance(one, str | os.PathLike) else [_own(one)]
            self._extra |= {spec.name: spec for spec in found}
        self._near: dict[str, FeatureSpec] = {}

    def spec(self, feature: Feature) -> FeatureSpec:
        """The tested feature's declaration."""
        if not isinstance(feature, str):
            spec = _own(feature)
            self._extra.setdefault(spec.name, spec)
            self._near = {s.name: s for s in declared(sys.modules.get(spec.module))}
            return spec
        found = self.find(feature)
        if found is None:
            raise DeclarationError(f"there is no feature {feature!r}{self._hint(feature)}")
        self._near = {s.name: s for s in declared(sys.modules.get(found.module))}
        return found

    def find(self, name: str) -> FeatureSpec | None:
        """A feature by its name; None if there is none."""
        for some in (self._extra, self._near):
            if name in some:
                return some[name]
        return _builtins().get(name)

    def missing(self, user: FeatureSpec, name: str) -> DeclarationError:
        """Why a feature can't be run: an input of it is not known."""
        return DeclarationError(
            f"feature {user.name!r} takes {name!r}, which is no feature known here{self._hint(name)}; "
            f"name it in features=[...], or give its value: given={{{name!r}: ...}}"
        )

    def _hint(self, name: str) -> str:
        near = did_you_mean(name, {*self._extra, *self._near, *_builtins()})
        return f" ({near})" if near else ""


def _own(feature: Any) -> FeatureSpec:
    spec = getattr(feature, "__dict__", {}).get("__amber__")
    if not isinstance(spec, FeatureSpec):
        feature_name(feature)  # says what is wrong with it
        raise BadRequest(f"{feature!r} is not a feature")
    return spec


def _place(name: str | os.PathLike[str]) -> str:
    text = os.fspath(name)
    return os.path.abspath(text) if text.endswith(".py") else text


_BUILT_IN: dict[str, FeatureSpec] = {}


def _builtins() -> Mapping[str, FeatureSpec]:
    """The built-in features; read once, and only by who needs one that is not at hand."""
    if not _BUILT_IN:
        _BUILT_IN.update((spec.name, spec) for spec in Registry.from_modules(BUILTINS))
    return _BUILT_IN


def _registry(spec: FeatureSpec, given: Mapping[str, Any], known: _Known) -> Registry:
    """The feature and all that has to run for it; an input that is given stands there without inputs."""
    for name in given:
        if name not in spec.inputs:
            takes = ", ".join(spec.inputs) or "none"
            raise BadRequest(f"feature {spec.name!r} takes no input {name!r}; its inputs are: {takes}")
    found: dict[str, FeatureSpec] = {spec.name: spec}
    waiting = [spec]
    while waiting:
        user = waiting.pop()
        for name in user.needs:
            if name in found:
                continue
            if name in given and user is spec:
                found[name] = _stand_in(name, spec)
                continue
            source = known.find(name)
            if source is None:
                raise known.missing(user, name)
            found[name] = source
            waiting.append(source)
    for user in found.values():
        if user is not spec and (both := set(given).intersection(user.inputs)):
            raise BadRequest(
                f"{min(both)!r} is given, but feature {user.name!r}, which would run, is made from it too: "
                f"give {user.name!r} as well"
            )
    return Registry(found.values())


def _stand_in(name: str, user: FeatureSpec) -> FeatureSpec:
    """A feature that never runs: its value, in the shape in which `user` receives it, is given."""
    return dataclasses.replace(
        user,
        name=name,
        inputs=(),
        unit_argument=None,
        params=(),
        hints=(),
        returns=Json(),
        version="given",
        code_digest="given",
        is_class=False,
        batch=1,
        calls=NO_CALLS,
    )


def _taken(spec: FeatureSpec, given: Mapping[str, Any], known: _Known) -> dict[str, Any]:
    """Given values as a feature would find them: of the declared type, read-only, and nobody else's."""
    taken = {}
    for name, value in given.items():
        source = known.find(name)
        if source is not None:
            value = _check(
                source.returns,
                value,
                max(0, rank_of(spec.per) - rank_of(source.per)),
                f"the given {name}",
            )
        taken[name] = snapshot.take([value], 0, sent=False).open()
    return taken


def _check(type: ValueType, value: Any, gathered: int, path: str) -> Any:
    """Check a value that is in as many lists as its feature's values arrive in."""
    if not gathered:
        return type.check(value, path)
    if not isinstance(value, list | tuple):
        raise FeatureError(f"{path} must be a list, since it is gathered from finer units")
    return [_check(type, one, gathered - 1, f"{path}[{i}]") for i, one in enumerate(value)]


# --- what it is run on


@contextlib.contextmanager
def _assets(media: Media | Iterable[Media], limits: Limits) -> Iterator[list[Asset]]:
    """Identify and probe files, as a server does when it first hears of them."""
    places = [os.fspath(m) for m in ([media] if isinstance(media, str | os.PathLike) else media)]
    if not places:
        raise BadRequest("name at least one file")
    local = [p for p in places if "://" not in p or p.startswith("file://")]
    schemes = {p.partition("://")[0] for p in places} - {p.partition("://")[0] for p in local}
    with tempfile.TemporaryDirectory(prefix="amber-testing-") as folder:
        catalogue = Catalogue(folder, Locator([os.path.abspath(os.sep)], sorted(schemes)), limits)
        yield [catalogue.add(p if "://" in p else os.path.abspath(os.path.expanduser(p))) for p in places]


def _nothing(
    spec: FeatureSpec, registry: Registry, given: Mapping[str, Any], segment_seconds: float
) -> Asset:
    """An asset that stands for none, where all that a feature needs is given. Raises `BadRequest` else."""
    for one in registry:
        if one.name not in given and one.unit_argument is not None:
            raise BadRequest(
                f"feature {one.name!r} takes {one.unit_argument!r}: name a file to run it on, such as one "
                "that amber_ray.testing.write_video wrote"
                + (f", or give the inputs of {spec.name!r}" if one.name != spec.name else "")
            )
    if not given:
        raise BadRequest(f"name a file to run {spec.name!r} on, or give its inputs")
    return Asset("0" * 32, "given", "video/mp4", 0, segment_seconds)


# --- running


class _Tasks:
    """Steps run as the tasks of a cluster would run them.

    Functions run together, a class's steps as batches, and calls of an `async def` side by side, on an event
    loop of their own, since a test may run in one.
    """

    def __init__(self, registry: Registry, limits: Limits, assets: Iterable[Asset]) -> None:
        self.failed: dict[str, Failure] = {}
        self.later: dict[str, RetryLater] = {}
        self.windows: dict[str, Windows] = {}
        self._assets = tuple(assets)
        self._registry = registry
        self._limits = limits
        self._inline: dict[str, bytes] = {}
        self._large: dict[str, Any] = {}
        self._models: dict[Any, WarmModel] = {}
        self._makers: dict[Any, CallMaker] = {}
        self._loop: Loop | None = None

    def have(self, key: str, value: Any) -> None:
        """Take a value that nothing has to run for."""
        self._large[key] = value

    def run(self, steps: Sequence[Step], kept: Iterable[str] = ()) -> None:
        """Run steps, inputs before their users. What becomes of those that fail is in `failed`.

        `kept`: keys that later steps will read.
        """
        left = list(steps)
        while left:
            some = self._next(left)
            left = [step for step in left if step not in some]
            if some:
                needs = (need for step in left for need in step.needs)
                self._perform(some, frozenset((*kept, *needs)))

    def _next(self, left: list[Step]) -> list[Step]:
        """Take the steps of one task; those whose input has failed are dropped from `left`."""
        for step in list(left):
            if (blame := next((self.failed[n] for n in step.needs if n in self.failed), None)) is not None:
                self.failed[step.key] = blame
                left.remove(step)
        there = self._inline.keys() | self._large.keys()
        together: dict[str, Step] = {}
        for step in left:
            if not step.recipe.pooled and there.union(together).issuperset(step.needs):
                together[step.key] = step
        if together:
            return list(together.values())
        ready = [step for step in left if there.issuperset(step.needs)]
        return [step for step in ready if step.recipe == ready[0].recipe]

    def close(self) -> None:
        """End the event loop, if there was one."""
        if self._loop is not None:
            self._loop.close()

    def _perform(self, steps: list[Step], outputs: frozenset[str]) -> None:
        recipe = steps[0].recipe
        spec = self._registry.get(recipe.feature)
        if recipe.calls.concurrency:
            maker = self._makers.setdefault(recipe.pool, CallMaker(spec, recipe.model))
            self._loop = self._loop or Loop()
            calls = [maker.run(*self._work([step], outputs)) for step in steps]
            for report, made in self._loop.run(_together(calls)):
                self._keep(report, made)
        elif recipe.is_class:
            model = self._models.setdefault(recipe.pool, WarmModel(spec, recipe.model))
            self._keep(*model.run(*self._work(steps, outputs)))
        else:
            work, slot = self._work(steps, outputs)
            self._keep(*tasks.run_steps(self._registry, work, (slot,)))

    def _work(self, steps: Sequence[Step], outputs: frozenset[str]) -> tuple[Work, list[Any]]:
        """What a worker is sent, and the values that do not travel in it."""
        needs = [key for step in steps for key in step.needs]
        large = [key for key in dict.fromkeys(needs) if key in self._large]
        work = Work(
            task=0,
            steps=tuple(steps),
            outputs=outputs,
            inline={key: self._inline[key] for key in needs if key in self._inline},
            slots={key: (0, place) for place, key in enumerate(large)},
            returns=1,
            inline_bytes=DEFAULTS.inline_bytes,
            registry=self._registry.digest,
            namespace="",
            actor="",
            limits=self._limits,
        )
        return work, [self._large[key] for key in large]

    def _keep(self, report: Sequence[StepResult], made: Sequence[Any]) -> None:
        for result in report:
            if result.windows is not None:
                self.windows[result.key] = result.windows
            if result.failure is not None:
                failure = result.failure.told(self._assets)
                self.failed[result.key] = failure
                if result.later is not None:
                    self.later[failure.key] = RetryLater(result.later, failure.message)
            elif result.inline is not None:
                self._inline[result.key] = result.inline
            elif result.slot >= 0:
                value = made[result.place]
                self._large[result.key] = value.open() if isinstance(value, Snapshot) else value


async def _together(calls: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    return await asyncio.gather(*calls)


def _values(registry: Registry, plan: Plan, given: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Run a plan; return its targets' values by key, as the next feature would find them.

    Raises the failure of the first target that has no value.
    """
    keys = tuple(dict.fromkeys(target.key for target in plan.targets))
    found: list[Any] = []
    reader = _reader(found)
    assets = {asset.id: asset for step in plan.steps.values() for asset in assets_of(step.unit)}
    machine = _Tasks(Registry((*registry, reader)), limits, assets.values())
    for step in plan.steps.values():
        if step.recipe.feature in given:
            machine.have(step.key, given[step.recipe.feature])
    graph = _Graph(plan, {step.key for step in plan.steps.values() if step.recipe.feature in given}, limits)
    try:
        while graph.templates():
            machine.run(*graph.next_steps())
            graph.expand(machine)
        keys = tuple(dict.fromkeys(key for one in keys for key in graph.found.get(one, (one,))))
        steps = graph.left()
        example = next(iter(plan.steps.values()))
        recipe = dataclasses.replace(
            example.recipe,
            feature=reader.name,
            params=(),
            model=(),
            resources=Resources(),
            is_class=False,
            inputs=("values",),
            calls=NO_CALLS,
        )
        last = Step(reader.name, recipe, example.unit, example.unit_id, (keys,), 0, 0, keys)
        machine.run([*steps, last])
    finally:
        machine.close()
    for key in (*keys, last.key):
        if (failure := machine.failed.get(key)) is not None:
            raise machine.later.get(failure.key) or raised(failure)
    values = dict(zip(keys, found, strict=True))
    lists = {t.key: graph.found[t.key] for t in plan.targets if t.key in graph.found}
    return values | {template: [values[key] for key in its] for template, its in lists.items()}


class _Graph:
    """The steps of a plan that have not run, and what comes of its templates. `given` have values already."""

    def __init__(self, plan: Plan, given: Collection[str], limits: Limits) -> None:
        self._steps = {key: step for key, step in plan.steps.items() if key not in given}
        self._wanted = [target.key for target in plan.targets]
        self._all = Widened(plan.steps)
        self._limit = limits.units_per_asset
        self._done: set[str] = set(given)
        self.found: dict[str, tuple[str, ...]] = {}

    def templates(self) -> list[Step]:
        """The templates that a target or a step is still to be given the steps of."""
        needs = {need for step in self._steps.values() if not step.is_template for need in step.needs}
        return [
            step
            for key, step in self._steps.items()
            if step.is_template and (key in needs or key in self._wanted) and key not in self.found
        ]

    def next_steps(self) -> tuple[list[Step], set[str]]:
        """The steps that need no template, which are done from now on, and the keys that others read."""
        some: dict[str, Step] = {}
        for key, step in self._steps.items():
            waits = step.is_template or any(n not in self._done and n not in some for n in step.needs)
            if key not in self._done and not waits:
                some[key] = step
        self._done.update(some)
        read = {need for step in self._steps.values() for need in step.below} | {*self._wanted}
        return list(some.values()), {key for key in some if key in read}

    def expand(self, machine: _Tasks) -> None:
        """Put steps in the place of the templates whose finders have run. Raises what a finder failed by."""
        for template in self.templates():
            [finder] = template.needs
            if (failure := machine.failed.get(finder)) is not None:
                raise machine.later.get(failure.key) or raised(failure)
            if finder not in machine.windows:
                continue
            made = expand(self._all, template, machine.windows[finder], self._limit)
            self._all.add(made.steps)
            self.found[template.key] = made.keys
            users = [step for step in self._steps.values() if template.key in step.needs]
            for step in users:
                del self._steps[step.key]
            self._steps.update({k: s for k, s in made.steps.items() if k not in self._done})
            for step in users:
                wide = self._steps[step.key] = widened(step, {template.key: made.keys})
                self._all.replace(wide)

    def left(self) -> list[Step]:
        """The steps that have not run, inputs before users."""
        left = {k: s for k, s in self._steps.items() if not s.is_template and k not in self._done}
        return sorted(left.values(), key=lambda step: step.level)


def _reader(found: list[Any]) -> FeatureSpec:
    """A feature that stands on the tested one, and puts the values that it reads into `found`."""

    def reader(values: list) -> bool:  # type: ignore[type-arg]
        found.extend(values)
        return True

    spec: FeatureSpec = feature(name="reader_of_the_test", version="1")(reader).__amber__  # type: ignore[attr-defined]
    return dataclasses.replace(spec, inputs=(), hints=(), code_digest="reader")
