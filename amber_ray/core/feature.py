"""`@feature`: a function or class becomes a node of the feature graph; its signature is its edges.

A parameter named after a feature is an input, `asset`, `clip` or `collection` is the unit, and a
parameter with a default is a parameter of the feature and part of its key. A class's `__init__` may
declare parameters too: they choose the model, so each combination is a warm actor pool of its own.

Decorating returns the function or class itself, with its `FeatureSpec` under `__amber__`; nothing is
registered globally (`core.registry`). Must not know: Ray, keys, other features.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from amber_ray.core import code
from amber_ray.core.types import ValueType, parse
from amber_ray.core.units import Per
from amber_ray.errors import DeclarationError

F = TypeVar("F", bound=Callable[..., Any])
UNIT_ARGUMENT: dict[str, Per] = {"clip": "segment", "asset": "asset", "collection": "collection"}
PARAMETER_TYPES = (bool, int, float, str)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")

Store = Literal["parquet", "memory", "never"]
Gpu = Literal["required", "preferred"]


@dataclass(frozen=True, slots=True)
class Resources:
    """What one run holds while it runs. `memory` in bytes; `custom` are Ray's custom resources."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory: int = 0
    accelerator_type: str | None = None
    custom: tuple[tuple[str, float], ...] = ()
    gpu: Gpu = "required"

    @property
    def plain(self) -> bool:
        """Whether it asks for nothing but CPU, so that it may be fused with its neighbours."""
        return not (self.num_gpus or self.accelerator_type or self.custom)

    def as_mapping(self) -> dict[str, float]:
        """Ray's resource names to amounts, zeros left out."""
        wants = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": float(self.memory), **dict(self.custom)}
        if self.accelerator_type:
            wants[f"accelerator_type:{self.accelerator_type}"] = 0.001
        return {name: amount for name, amount in wants.items() if amount}


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a feature: part of its key. `of_init` ones belong to a class's constructor."""

    name: str
    type: type
    default: Any
    optional: bool = False
    of_init: bool = False


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """A feature as declared. `inputs` are names of other features in signature order."""

    name: str
    version: str
    per: Per
    inputs: tuple[str, ...]
    unit_argument: str | None
    params: tuple[Param, ...]
    returns: ValueType
    resources: Resources
    store: Store
    timeout: float | None
    retries: int
    batch: int
    target: Callable[..., Any] = field(compare=False, repr=False)
    is_class: bool
    code_digest: str
    pinned: bool
    module: str
    doc: str
    lists: frozenset[str]

    def param(self, name: str) -> Param | None:
        """The parameter of that name, or None."""
        return next((p for p in self.params if p.name == name), None)


def feature(
    target: F | None = None,
    /,
    *,
    name: str | None = None,
    version: str | None = None,
    per: Per | None = None,
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
    memory: int = 0,
    accelerator_type: str | None = None,
    resources: Mapping[str, float] | None = None,
    gpu: Gpu = "required",
    timeout: float | None = None,
    retries: int = 2,
    batch: int = 1,
    store: Store = "parquet",
) -> Any:
    """Declare a feature. Usable bare (`@feature`) or with arguments.

    Args:
        name: the feature's name; by default the function's, or the class's in snake case.
        version: any short string; omitted, it is derived from the code the feature reaches.
        per: segment, asset or collection; omitted, it follows from a `clip`, `asset` or `collection`
            argument, else it is "asset".
        num_cpus, num_gpus, memory, accelerator_type, resources: what one run holds (fractions allowed;
            `memory` in bytes).
        gpu: "required" fails at once where no GPU can be had; "preferred" then runs on CPU.
        timeout: seconds one unit may take; None for no bound.
        retries: how often a system failure (never an exception of the feature) is tried again.
        batch: how many units one call may take; above 1 the class has a method `batch` that takes a
            list per input and returns a list.
        store: "parquet"; "memory" (never written); "never" (recomputed when needed).

    Raises `DeclarationError`, naming the feature and what would be right.
    """

    def declare(function: F) -> F:
        spec = build(
            function,
            name=name,
            version=version,
            per=per,
            resources=Resources(
                num_cpus=float(num_cpus),
                num_gpus=float(num_gpus),
                memory=int(memory),
                accelerator_type=accelerator_type,
                custom=tuple(sorted((resources or {}).items())),
                gpu=gpu,
            ),
            timeout=timeout,
            retries=retries,
            batch=batch,
            store=store,
        )
        function.__amber__ = spec  # type: ignore[attr-defined]
        return function

    return declare if target is None else declare(target)


def build(
    target: Callable[..., Any],
    *,
    name: str | None,
    version: str | None,
    per: Per | None,
    resources: Resources,
    timeout: float | None,
    retries: int,
    batch: int,
    store: Store,
) -> FeatureSpec:
    """Read a function's or class's signature into a `FeatureSpec`; `feature` is the friendly way in."""
    is_class = inspect.isclass(target)
    name = name or (_snake(target.__name__) if is_class else target.__name__)
    if not _NAME.match(name):
        raise DeclarationError(f"feature name {name!r} must be lower case letters, digits and _ (at most 64)")
    if version is not None and not (isinstance(version, str) and _VERSION.match(version)):
        raise DeclarationError(
            f"feature {name!r}: version must be a short string such as '1' or '2.0', not {version!r}"
        )
    if store not in ("parquet", "memory", "never"):
        raise DeclarationError(f"feature {name!r}: store must be 'parquet', 'memory' or 'never', not {store!r}")
    if resources.gpu not in ("required", "preferred"):
        raise DeclarationError(
            f"feature {name!r}: gpu must be 'required' or 'preferred', not {resources.gpu!r}"
        )
    wants = (resources.num_cpus, resources.num_gpus, resources.memory, *(a for _, a in resources.custom))
    if min(wants) < 0:
        raise DeclarationError(f"feature {name!r}: resources can't be negative")
    if resources.num_gpus > 1 and resources.num_gpus % 1:
        raise DeclarationError(
            f"feature {name!r}: num_gpus above 1 must be whole (Ray's rule), not {resources.num_gpus:g}"
        )
    if retries < 0 or batch < 1 or (timeout is not None and timeout <= 0):
        raise DeclarationError(f"feature {name!r}: retries >= 0, batch >= 1 and timeout > 0 are needed")
    if batch > 1 and not callable(getattr(target, "batch", None)):
        raise DeclarationError(
            f"feature {name!r}: batch={batch} needs a class with a method 'batch' that takes a list per input"
        )

    call = target.__call__ if is_class else target
    unit_argument, inputs, params, lists, returns = _read(name, call, skip_self=is_class)
    if is_class and target.__init__ is not object.__init__:  # type: ignore[misc]
        unit, model_inputs, model_params, _, _ = _read(name, target.__init__, skip_self=True, of_init=True)  # type: ignore[misc]
        if unit or model_inputs:
            raise DeclarationError(
                f"feature {name!r}: __init__ may take only parameters with defaults; {(*model_inputs, unit)[0]!r} has none"
            )
        if twice := {p.name for p in params} & {p.name for p in model_params}:
            raise DeclarationError(f"feature {name!r}: parameter {min(twice)!r} is declared twice")
        params = (*model_params, *params)

    implied = UNIT_ARGUMENT.get(unit_argument) if unit_argument else None
    if per is None:
        per = implied or "asset"
    elif per not in ("segment", "asset", "collection"):
        raise DeclarationError(
            f"feature {name!r}: per must be 'segment', 'asset' or 'collection', not {per!r}"
        )
    if implied is not None and implied != per:
        raise DeclarationError(
            f"feature {name!r}: argument {unit_argument!r} is the unit of a feature per {implied}, but per={per!r}"
        )
    if unit_argument is None and not inputs:
        raise DeclarationError(
            f"feature {name!r} has no input: take a unit (clip, asset or collection) or another feature by name"
        )
    if returns is inspect.Signature.empty or returns is None:
        raise DeclarationError(f"feature {name!r} needs a return annotation: its value's type")
    try:
        value_type = parse(returns)
    except DeclarationError as error:
        raise DeclarationError(f"feature {name!r}: {error}") from error

    digest = code.digest(target)
    return FeatureSpec(
        name=name,
        version=version if version is not None else f"auto-{digest[:16]}",
        per=per,
        inputs=inputs,
        unit_argument=unit_argument,
        params=params,
        returns=value_type,
        resources=resources,
        store=store,
        timeout=timeout,
        retries=retries,
        batch=batch,
        target=target,
        is_class=is_class,
        code_digest=digest,
        pinned=version is not None,
        module=target.__module__,
        doc=inspect.getdoc(target) or "",
        lists=lists,
    )


def _read(
    name: str, function: Callable[..., Any], *, skip_self: bool, of_init: bool = False
) -> tuple[str | None, tuple[str, ...], tuple[Param, ...], frozenset[str], Any]:
    """Split a signature into unit argument, inputs, parameters, list-typed inputs and return annotation."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise DeclarationError(f"feature {name!r}: an annotation can't be resolved: {error}") from error
    arguments = list(inspect.signature(function).parameters.values())[1 if skip_self else 0 :]
    unit_argument: str | None = None
    inputs: list[str] = []
    params: list[Param] = []
    lists: set[str] = set()
    for argument in arguments:
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD, argument.POSITIONAL_ONLY):
            raise DeclarationError(
                f"feature {name!r}: argument {argument.name!r} must be an ordinary named argument"
            )
        hint = hints.get(argument.name, inspect.Parameter.empty)
        if argument.default is not inspect.Parameter.empty:
            params.append(_param(name, argument.name, hint, argument.default, of_init))
        elif argument.name in UNIT_ARGUMENT:
            if unit_argument:
                raise DeclarationError(
                    f"feature {name!r} takes two units, {unit_argument!r} and {argument.name!r}; one is allowed"
                )
            unit_argument = argument.name
        else:
            inputs.append(argument.name)
            if typing.get_origin(hint) is list:
                lists.add(argument.name)
    return (
        unit_argument,
        tuple(inputs),
        tuple(params),
        frozenset(lists),
        hints.get("return", inspect.Signature.empty),
    )


def _param(feature_name: str, name: str, hint: Any, default: Any, of_init: bool) -> Param:
    """A parameter with its type: the annotation's, or the default's where there is none."""
    optional = False
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        rest = [a for a in typing.get_args(hint) if a is not type(None)]
        optional = len(rest) < len(typing.get_args(hint))
        hint = rest[0] if len(rest) == 1 else hint
    if typing.get_origin(hint) is Literal:
        hint = type(typing.get_args(hint)[0])
    if hint is inspect.Parameter.empty:
        hint = type(default)
    if hint not in PARAMETER_TYPES:
        raise DeclarationError(
            f"feature {feature_name!r}: parameter {name!r} must be bool, int, float or str, "
            f"not {getattr(hint, '__name__', hint)!s}"
        )
    if default is None and not optional:
        raise DeclarationError(
            f"feature {feature_name!r}: parameter {name!r} defaults to None but is not Optional"
        )
    if default is not None:
        default = float(default) if hint is float and type(default) is int else default
        if type(default) is not hint:
            raise DeclarationError(
                f"feature {feature_name!r}: parameter {name!r} is {hint.__name__} but defaults to {default!r}"
            )
    return Param(name, hint, default, optional, of_init)


def _snake(name: str) -> str:
    """`ShotEmbedding` -> `shot_embedding`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
