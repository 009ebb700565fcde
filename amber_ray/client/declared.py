"""Decorated objects as features: what they are now, what belongs to them, and how they differ from others.

A decorated function or class is itself, whatever is registered under its name: its code is looked at each
time it is given, so that an edited helper counts as well as an edited body. Its inputs are names. Each stands
for what was given along with it, else for the feature that the object's own module holds under its own name,
as if the module had been given to `amber serve`; else for what is registered.

Must not know: how features are registered.
"""

from __future__ import annotations

import os
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.declare.loading import load
from amber_ray.core.declare.registry import declaration, meaning, spec_of
from amber_ray.core.fingerprint.source import installed
from amber_ray.core.model.service import FeatureInfo
from amber_ray.errors import BadRequest, DeclarationError

Specs = Mapping[str, FeatureSpec]

_INSTALLED: weakref.WeakKeyDictionary[Callable[..., Any], FeatureSpec] = weakref.WeakKeyDictionary()
"""Sealed features of installed packages, whose code does not change while they are loaded."""


FeatureSource = str | os.PathLike[str] | types.ModuleType | Callable[..., Any]
"""Where features come from: a module's name, a `.py` file, a module, or a decorated function or class."""


def objects_of(sources: Iterable[FeatureSource]) -> list[Callable[..., Any]]:
    """The decorated objects in modules and files, which are loaded, and those that are given themselves.

    A file that has changed is loaded again. Raises `DeclarationError`.
    """
    found: list[Callable[..., Any]] = []
    for source in sources:
        if isinstance(source, str | os.PathLike | types.ModuleType):
            module = source if isinstance(source, types.ModuleType) else load(os.fspath(source))
            held = _held(vars(module))
            if not held:
                raise DeclarationError(
                    f"module {module.__name__!r} declares no feature; decorate a function with @feature"
                )
            found += held.values()
        else:
            found.append(source)
    return found


def meant(objects: Iterable[Callable[..., Any]]) -> dict[str, FeatureSpec]:
    """The features that decorated objects stand for, by name: themselves and inputs that their modules hold.

    Raises `BadRequest` for two different features of one name.
    """
    found: dict[str, FeatureSpec] = {}
    for given in objects:
        spec = sealed(given)
        known = found.setdefault(spec.name, spec)
        if declaration(known) != declaration(spec):
            raise BadRequest(f"two different features named {spec.name!r} were given; ask for one at a time")
    waiting = list(found.values())
    while waiting:
        spec = waiting.pop()
        if _is_installed(spec):
            continue
        held: Mapping[str, Any] | None = None
        for name in spec.inputs:
            if name in found:
                continue
            held = _held(_namespace(spec.target)) if held is None else held
            if name in held:
                found[name] = sealed(held[name])
                waiting.append(found[name])
    return found


def sealed(target: Callable[..., Any]) -> FeatureSpec:
    """The feature of a decorated object with the digest of its code as it is now. Raises `BadRequest`."""
    spec = spec_of(target)
    if spec is None:
        shown = getattr(target, "__name__", repr(target))
        raise BadRequest(f"{shown} is not a feature: decorate it with @feature")
    if not _is_installed(spec):
        return spec.sealed()
    known = _INSTALLED.get(target)
    if known is None:
        known = _INSTALLED[target] = spec.sealed()
    return known


def differences(spec: FeatureSpec, info: FeatureInfo) -> list[str]:
    """How a feature differs from one that a service tells of; empty if their values mean the same."""
    if meaning(spec) == info.digest:
        return []
    params = {p.name: (p.type.__name__, p.default) for p in spec.params}
    pairs: list[tuple[str, Any, Any]] = [
        ("its version", spec.version, info.version),
        ("its unit", spec.per, info.per),
        ("its inputs", spec.inputs, tuple(info.inputs)),
        ("its parameters", params, dict(info.params)),
        ("its type", spec.returns.spec(), dict(info.returns)),
    ]
    if not (spec.pinned or info.pinned):
        del pairs[0]  # follows from the code
    said = [
        f"{what} ({_shown(mine)} here, {_shown(theirs)} there)"
        for what, mine, theirs in pairs
        if mine != theirs
    ]
    if spec.code_digest != info.code_digest:
        said.append("its code, or that of something it calls")
    return said or ["how it is declared"]


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    if isinstance(value, dict):
        return (
            ", ".join(f"{k}={v[1]!r}" if isinstance(v, tuple) else str(v) for k, v in value.items()) or "none"
        )
    return repr(value)


def _is_installed(spec: FeatureSpec) -> bool:
    return spec.module.partition(".")[0] == "amber_ray" or installed(_code_of(spec.target).co_filename)


def _code_of(target: Any) -> types.CodeType:
    function = target.__call__ if isinstance(target, type) else target
    code: types.CodeType = function.__code__
    return code


def _namespace(target: Any) -> Mapping[str, Any]:
    """The module that a function or class was defined in, as its names are now."""
    if not isinstance(target, type):
        found: Mapping[str, Any] = target.__globals__
        return found
    call = vars(target).get("__call__")
    if isinstance(call, types.FunctionType):
        return call.__globals__
    return getattr(sys.modules.get(target.__module__), "__dict__", {})


def _held(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The decorated objects in a module by their features' names.

    Only those under the name of their own definition: an older one that was put aside under another name, as
    a notebook's history does, is not what the module means by the feature's name.
    """
    found: dict[str, Any] = {}
    for name, value in list(namespace.items()):
        spec = spec_of(value)
        if spec is not None and getattr(value, "__name__", None) == name:
            found[spec.name] = value
    return found
