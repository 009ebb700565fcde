"""The features of one service by name, checked as a graph before anything is sent to Ray.

An input of a finer unit is gathered into a list in order (segments of an asset, assets of a collection; the
segments of a collection's assets as a list of lists), one of the same unit is passed as it is, and a segment
sees the value of its asset. A collection's value can't be an input of an asset, which may be in many.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from amber_ray.core.feature import FeatureSpec, Param
from amber_ray.core.service import FeatureInfo
from amber_ray.core.units import RANK
from amber_ray.errors import BadParameter, DeclarationError, UnknownFeature, UnknownParameter

MAX_TEXT = 4096


class Registry:
    """Specs by name. Immutable; two registries with the same `digest` make the same values."""

    def __init__(self, specs: Iterable[FeatureSpec]) -> None:
        """Raises `DeclarationError` for duplicate names, unknown inputs, cycles and unit mistakes."""
        self._specs: dict[str, FeatureSpec] = {}
        for spec in specs:
            other = self._specs.get(spec.name)
            if other is not None and other.code_digest != spec.code_digest:
                raise DeclarationError(
                    f"two features are named {spec.name!r}: one in {other.module}, one in {spec.module}"
                )
            self._specs.setdefault(spec.name, spec)
        self._check()
        self._order = self._sorted()
        text = "\n".join(f"{s.name} {s.version} {s.code_digest}" for s in self._order)
        self.digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @classmethod
    def from_modules(cls, names: Iterable[str]) -> Registry:
        """From dotted module names and paths of `.py` files."""
        specs: dict[int, FeatureSpec] = {}
        for name in names:
            module = _load(name)
            found = [
                v.__amber__
                for v in vars(module).values()
                if isinstance(getattr(v, "__amber__", None), FeatureSpec)
            ]
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
            raise UnknownFeature(f"unknown feature {name!r}{_near(name, self._specs)}")
        return spec

    def edge(self, spec: FeatureSpec, name: str) -> Literal["gather", "same", "broadcast"]:
        """How `spec` receives its input `name`."""
        mine, theirs = RANK[spec.per], RANK[self.get(name).per]
        return "same" if mine == theirs else "gather" if theirs < mine else "broadcast"

    def ancestors(self, name: str) -> list[FeatureSpec]:
        """All that a feature needs, inputs before users, itself last."""
        wanted: set[str] = set()
        stack = [name]
        while stack:
            one = stack.pop()
            if one not in wanted:
                wanted.add(one)
                stack.extend(self.get(one).inputs)
        return [s for s in self._order if s.name in wanted]

    def dependents(self, name: str) -> list[FeatureSpec]:
        """The features that take it as an input."""
        return [s for s in self._order if name in s.inputs]

    def params_for(
        self, features: Iterable[str], given: Mapping[str, Any]
    ) -> Mapping[str, tuple[tuple[str, Any], ...]]:
        """Every parameter of the features and all they need, defaults filled in and values checked."""
        specs = {s.name: s for name in features for s in self.ancestors(name)}
        known = {f"{s.name}.{p.name}": p for s in specs.values() for p in s.params}
        for name in given:
            if name not in known:
                hint = _near(name, known) or (
                    f"; the parameters here are {', '.join(sorted(known))}"
                    if known
                    else "; nothing here takes one"
                )
                raise UnknownParameter(f"unknown parameter {name!r}{hint}")
        return {
            s.name: tuple(
                (p.name, _value(f"{s.name}.{p.name}", p, given.get(f"{s.name}.{p.name}", p.default)))
                for p in s.params
            )
            for s in specs.values()
        }

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
            )
            for s in sorted(self._order, key=lambda s: s.name)
        ]

    def _check(self) -> None:
        for spec in self._specs.values():
            for name in spec.inputs:
                if name not in self._specs:
                    raise DeclarationError(
                        f"feature {spec.name!r} takes {name!r}, which is no feature here{_near(name, self._specs)}"
                    )
                theirs = self._specs[name].per
                if theirs == "collection" and spec.per != "collection":
                    raise DeclarationError(
                        f"feature {spec.name!r} is per {spec.per} and can't take {name!r}, which is per collection: "
                        "an asset may be in many collections"
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
                    stack.extend((i, False) for i in self._specs[name].inputs)
        return list(done.values())


def _value(name: str, param: Param, value: Any) -> Any:
    if value is None and (param.optional or param.default is None):
        return None
    if param.type is float and type(value) is int:
        value = float(value)
    if type(value) is not param.type:
        raise BadParameter(
            f"parameter {name!r} is {param.type.__name__}, not {type(value).__name__} ({value!r:.80})"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise BadParameter(f"parameter {name!r} must be a finite number, not {value!r}")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise BadParameter(f"parameter {name!r} may have {MAX_TEXT} characters, not {len(value)}")
    return value


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 3, 0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def _load(name: str) -> Any:
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        stem = name.rpartition("/")[2][:-3]
        alias = stem if stem not in sys.modules else f"amber_user_{stem}"
        known: Any = sys.modules.get(stem)
        if known is not None and getattr(known, "__file__", None) == name:
            return known
        spec = importlib.util.spec_from_file_location(alias, name)
        if spec is None or spec.loader is None:
            raise DeclarationError(f"{name!r} can't be loaded as a Python module")
        folder = name.rpartition("/")[0] or "."
        if folder not in sys.path:
            sys.path.append(folder)
        module = importlib.util.module_from_spec(spec)
        sys.modules[alias] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[alias]
            raise
        return module
    except DeclarationError:
        raise
    except Exception as error:
        raise DeclarationError(
            f"feature module {name!r} can't be loaded: {type(error).__name__}: {error}"
        ) from error
