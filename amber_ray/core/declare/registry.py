"""The features of one service by name, checked as a graph before anything is sent to Ray.

An input of a finer unit is gathered into a list in order: the segments of an asset, the assets of a
collection, and the segments of a collection's assets as a list of lists. One of the same unit is passed as it
is, and a segment sees the value of its asset. A collection's value can't be an input of an asset or segment,
which may be in many collections.

A feature per another one (`per="shots"`) is for each range that this one, its finder, finds in an asset. Such
a window is a segment, so a feature per segment is passed as it is, computed for that window; values for what
another finder finds can't be. Must not know: keys, plans.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, Literal

from amber_ray.core.declare.feature import FeatureSpec, finds_ranges
from amber_ray.core.declare.loading import load
from amber_ray.core.declare.signature import UNIT_ARGUMENT
from amber_ray.core.model.service import FeatureInfo, RegistryView
from amber_ray.core.model.units import RANK, is_found, rank_of
from amber_ray.core.values.annotations import Json, ListOf, Optional, ValueType
from amber_ray.errors import (
    DeclarationError,
    FeatureMismatch,
    UnknownFeature,
    UnknownParameter,
    did_you_mean,
)


class Registry:
    """Specs by name, with versions and code digests. Immutable.

    `digest` covers the code and everything declared: two registries with the same one make the same values.
    """

    def __init__(self, specs: Iterable[FeatureSpec]) -> None:
        """Seals the specs. The same feature twice counts once.

        Raises `DeclarationError` for two features of one name, unknown inputs, cycles, inputs whose unit or
        annotation can't be right, and features per one that finds no ranges.
        """
        self._specs: dict[str, FeatureSpec] = {}
        for spec in specs:
            other = self._specs.get(spec.name)
            if other is None:
                self._specs[spec.name] = spec.sealed()
            elif not _same(other, spec):
                raise DeclarationError(
                    f"two features are named {spec.name!r}: {_where(other)} and {_where(spec)}; rename one"
                )
        for spec in self._specs.values():
            if spec.finder is not None:
                self._check_finder(spec, spec.finder)
            for name in spec.inputs:
                self._check(spec, name)
        self._order = self._sorted()
        text = "\n".join(map(_declaration, sorted(self._order, key=lambda s: s.name)))
        self.digest = _digest(text)
        self._meanings = {spec.name: meaning(spec) for spec in self._order}

    @classmethod
    def from_modules(cls, names: Iterable[str]) -> Registry:
        """From dotted module names and paths of `.py` files.

        What a module imports from another counts too, once. Raises `DeclarationError` for a module that can't
        be loaded, with the file and line, or that has no feature.
        """
        specs: dict[int, FeatureSpec] = {}
        for name in names:
            found = declared(load(name))
            if not found:
                raise DeclarationError(
                    f"module {name!r} declares no feature; decorate a function with @feature"
                )
            specs.update((id(s), s) for s in found)
        return cls(specs.values())

    def __iter__(self) -> Iterator[FeatureSpec]:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._specs)

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def names(self) -> list[str]:
        """Sorted."""
        return sorted(self._specs)

    def get(self, name: str) -> FeatureSpec:
        """Raises `UnknownFeature` with the names that come close."""
        spec = self._specs.get(name)
        if spec is None:
            near = did_you_mean(name, self._specs)
            raise UnknownFeature(f"unknown feature {name!r}" + (f"; {near}" if near else ""))
        return spec

    def edge(self, spec: FeatureSpec, name: str) -> Literal["gather", "same", "broadcast"]:
        """How `spec` receives its input `name`."""
        mine, theirs = rank_of(spec.per), rank_of(self.get(name).per)
        return "same" if mine == theirs else "gather" if theirs < mine else "broadcast"

    def ancestors(self, name: str) -> list[FeatureSpec]:
        """All that a feature needs, inputs and finders before users, itself last."""
        return self._all_below(name, lambda spec: spec.needs)

    def sources(self, name: str) -> list[FeatureSpec]:
        """All that a feature's value is made from, inputs before users, itself last.

        The finder of its windows is among them only if it is an input, too.
        """
        return self._all_below(name, lambda spec: spec.inputs)

    def _all_below(self, name: str, below: Callable[[FeatureSpec], Iterable[str]]) -> list[FeatureSpec]:
        wanted: set[str] = set()
        stack = [name]
        while stack:
            one = stack.pop()
            if one not in wanted:
                wanted.add(one)
                stack.extend(below(self.get(one)))
        return [s for s in self._order if s.name in wanted]

    def dependents(self, name: str) -> list[FeatureSpec]:
        """The features that take it as an input, or are for what it finds."""
        return [s for s in self._order if name in s.needs]

    def params_for(
        self, features: Iterable[str], given: Mapping[str, Any]
    ) -> Mapping[str, tuple[tuple[str, Any], ...]]:
        """Every parameter of the features and all they need, defaults filled in and values checked."""
        specs = self._with_ancestors(features)
        known = self.parameters(specs)
        for name in given:
            if name not in known:
                raise UnknownParameter(f"unknown parameter {name!r}{self._hint(name, known)}")
        return {
            s.name: tuple(
                (p.name, p.check(full, given[full]) if (full := f"{s.name}.{p.name}") in given else p.default)
                for p in s.params
            )
            for s in specs.values()
        }

    def parameters(self, features: Iterable[str]) -> set[str]:
        """Return the names of all parameters of the features and of all they need, as `feature.name`."""
        return {f"{s.name}.{p.name}" for s in self._with_ancestors(features).values() for p in s.params}

    def _with_ancestors(self, features: Iterable[str]) -> dict[str, FeatureSpec]:
        return {s.name: s for name in features for s in self.ancestors(name)}

    def _hint(self, name: str, known: set[str]) -> str:
        """What may have been meant by a parameter that is not known."""
        feature, _, param = str(name).rpartition(".")
        if not feature:
            close = [k for k in sorted(known) if k.endswith(f".{param}")]
            if close:
                return f"; write it with its feature: {' or '.join(map(repr, close))}"
        elif feature in self._specs and self._specs[feature].param(param) is not None:
            return f": nothing that was asked for needs {feature!r}"
        none_near = (
            f"the parameters here are {', '.join(sorted(known))}" if known else "nothing here takes one"
        )
        return f"; {did_you_mean(str(name), known, none_near)}"

    def confirm(self, expect: Mapping[str, str]) -> None:
        """Raise `FeatureMismatch` if a feature is not the one that the caller means, by its `meaning`."""
        for name, wanted in expect.items():
            here = self._meanings.get(name)
            if here is None:
                raise FeatureMismatch(f"there is no feature {name!r} here, so none with the digest {wanted}")
            if here != wanted:
                raise FeatureMismatch(
                    f"feature {name!r} is another one here: its digest is {here}, not {wanted}"
                )

    def replaced(self, specs: Iterable[FeatureSpec]) -> Registry:
        """Return a registry with these features added, or put in the place of those of the same names.

        Raises `DeclarationError` for what a registry can't hold, for the name of a built-in feature, and for
        other code under a version that was given by hand: values of the old code are stored under it.
        """
        new = {spec.name: spec.sealed() for spec in specs}
        for name, spec in new.items():
            old = self._specs.get(name)
            if old is None or _declaration(old) == _declaration(spec):
                continue
            if _built_in(old):
                raise DeclarationError(
                    f"{name!r} is a built-in feature; give yours ({_where(spec)}) another name"
                )
            if old.pinned and spec.pinned and old.version == spec.version and meaning(old) != meaning(spec):
                raise DeclarationError(
                    f"feature {name!r} changed and its version is still {spec.version!r}, under which values "
                    "of the old code are stored; give it a new version, or none, so that it follows the code"
                )
        return Registry({**self._specs, **new}.values())

    def view(self) -> RegistryView:
        """As told to callers who may add to it."""
        declared = {spec.name: declaration(spec) for spec in self._order}
        return RegistryView(self.digest, tuple(self.info()), declared)

    def info(self) -> list[FeatureInfo]:
        """As told to callers."""
        return [
            FeatureInfo(
                name=s.name,
                version=s.version,
                per=s.per,
                inputs=s.inputs,
                params={p.name: (p.type.__name__, p.default) for p in s.params},
                returns=s.returns.spec(),
                resources=s.resources.as_mapping(),
                store=s.store,
                doc=s.doc,
                pinned=s.pinned,
                code_digest=s.code_digest,
                is_class=s.is_class,
                digest=self._meanings[s.name],
                calls=s.calls.as_mapping(),
            )
            for s in sorted(self._order, key=lambda s: s.name)
        ]

    def _check(self, spec: FeatureSpec, name: str) -> None:
        """Refuse an input that does not exist, or that can't arrive the way it is taken."""
        source = self._specs.get(name)
        if source is None:
            near = did_you_mean(name, {*self._specs, *UNIT_ARGUMENT}, f"there are {', '.join(self.names())}")
            raise DeclarationError(f"feature {spec.name!r} takes {name!r}, which is no feature here; {near}")
        if is_found(source.per) and rank_of(spec.per) == 0 and spec.per != source.per:
            raise DeclarationError(
                f"feature {spec.name!r} is per {spec.per} and can't take {name!r}, which is per "
                f"{source.per}: those are other windows"
            )
        if source.per == "collection" and spec.per != "collection":
            raise DeclarationError(
                f"feature {spec.name!r} is per {spec.per} and can't take {name!r}, which is per collection: "
                f"a {'window' if is_found(spec.per) else spec.per} may be in many collections"
            )
        gathered = max(0, rank_of(spec.per) - rank_of(source.per))
        own, any_list = _lists(source.returns)
        hint = next(h for h in spec.hints if h.name == name)
        depth = gathered + own
        fits = hint.depth <= depth if hint.open else hint.depth == depth
        if any_list:
            fits = hint.depth >= gathered or hint.open
        if not fits:
            spec_ = source.returns.spec()
            shape = "list[" * gathered + spec_.get("name", spec_["type"]) + "]" * gathered
            raise DeclarationError(
                f"feature {spec.name!r} is per {spec.per} and takes {name!r}, which is per {source.per}, as "
                f"{hint.words}; it arrives as {shape}"
            )

    def _check_finder(self, spec: FeatureSpec, name: str) -> None:
        """Refuse a feature per one that does not find ranges in an asset."""
        source = self._specs.get(name)
        if source is None:
            near = did_you_mean(name, {*self._specs, *RANK}, f"there are {', '.join(self.names())}")
            raise DeclarationError(
                f"feature {spec.name!r} is per {name!r}, which is neither segment, asset nor collection, nor "
                f"a feature here; {near}"
            )
        if source.per != "asset":
            raise DeclarationError(
                f"feature {spec.name!r} is per {name!r}, which is per {source.per}; only a feature per asset "
                "finds windows"
            )
        if not finds_ranges(source.returns):
            told = source.returns.spec()
            raise DeclarationError(
                f"feature {spec.name!r} is per {name!r}, which returns {told.get('name', told['type'])} and "
                "no ranges; a feature that finds windows returns a list of a dataclass with start: float and "
                "end: float, in seconds"
            )

    def _sorted(self) -> list[FeatureSpec]:
        done: dict[str, FeatureSpec] = {}
        for start in sorted(self._specs):
            path: list[str] = []
            stack: list[tuple[str, bool]] = [(start, False)]
            while stack:
                name, leave = stack.pop()
                if leave:
                    path.pop()
                    done[name] = self._specs[name]
                elif name in path:
                    cycle = [*path[path.index(name) :], name]
                    raise DeclarationError(f"features depend on each other in a circle: {' -> '.join(cycle)}")
                elif name not in done:
                    path.append(name)
                    stack.append((name, True))
                    stack.extend((i, False) for i in reversed(self._specs[name].needs))
        return list(done.values())


def declared(module: ModuleType | None) -> list[FeatureSpec]:
    """The features that a module holds under some name, its own and imported ones."""
    held = () if module is None else vars(module).values()
    return [spec for value in held if (spec := spec_of(value)) is not None]


def spec_of(value: Any) -> FeatureSpec | None:
    """The spec that hangs on a function or class itself; a subclass is no feature by its base."""
    own = getattr(value, "__dict__", None)
    spec = own.get("__amber__") if isinstance(own, Mapping) else None
    return spec if isinstance(spec, FeatureSpec) else None


def meaning(spec: FeatureSpec) -> str:
    """The digest of what a sealed feature's values depend on, all but the code of its inputs."""
    return _digest(repr(_meant(spec)))


def declaration(spec: FeatureSpec) -> str:
    """The digest of all that a sealed feature declares: its meaning, and how it is run and kept."""
    return _digest(_declaration(spec))


def _meant(spec: FeatureSpec) -> tuple[Any, ...]:
    params = [(p.name, p.type.__name__, p.default, p.optional, p.of_init, p.choices) for p in spec.params]
    graph = (spec.per, spec.inputs, spec.unit_argument, params, spec.returns.spec())
    return spec.name, spec.version, spec.code_digest, spec.is_class, graph


def _declaration(spec: FeatureSpec) -> str:
    """All that a spec says, as text that is the same in every process."""
    how = (spec.resources, spec.store, spec.timeout, spec.retries, spec.batch, spec.calls)
    return repr((*_meant(spec), how))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _built_in(spec: FeatureSpec) -> bool:
    return spec.module.partition(".")[0] == __name__.partition(".")[0]


def _same(one: FeatureSpec, other: FeatureSpec) -> bool:
    """Whether two specs are of one feature: of one object, or of one file that was loaded under two names."""
    if one.target is other.target:
        return True
    return _home(one) == _home(other) and one.sealed().code_digest == other.sealed().code_digest


def _home(spec: FeatureSpec) -> tuple[str, str]:
    """The file and the name in it."""
    target: Any = spec.target
    function = target.__call__ if spec.is_class else target
    return function.__code__.co_filename, spec.target.__qualname__


def _where(spec: FeatureSpec) -> str:
    return f"{spec.target.__qualname__} in {spec.module}"


def _lists(kind: ValueType) -> tuple[int, bool]:
    """How many lists a value's type has around something, and whether it may be any number."""
    if isinstance(kind, Optional):
        return _lists(kind.item)
    if isinstance(kind, ListOf):
        depth, rest = _lists(kind.item)
        return depth + 1, rest
    return 0, isinstance(kind, Json)
