"""A feature's signature, read: its unit, its inputs, its parameters and what it returns.

A parameter of the function without a default is the unit (`clip`, `asset`, `collection`) or an input, by its
name; one with a default is a parameter of the feature. Must not know: resources, versions, other features.
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from amber_ray.core.model.units import Asset, Collection, Per, Segment
from amber_ray.errors import BadParameter, DeclarationError

UNIT_ARGUMENT: dict[str, Per] = {"clip": "segment", "asset": "asset", "collection": "collection"}
UNIT_TYPES: dict[str, type] = {"clip": Segment, "asset": Asset, "collection": Collection}
PARAMETER_TYPES = (bool, int, float, str)
MAX_TEXT = 4096
INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a feature: part of its key. `of_init` ones belong to a class's constructor.

    `choices` are the values of a `Literal`; empty where any value of the type will do.
    """

    name: str
    type: type
    default: Any
    optional: bool = False
    of_init: bool = False
    choices: tuple[Any, ...] = ()

    def check(self, name: str, value: Any) -> Any:
        """The value as the feature gets it and as keys cover it: an int is a float where one is declared.

        -0.0 is 0.0. `name` is used in the `BadParameter` that is raised for what does not fit.
        """
        if value is None and self.optional:
            return None
        if self.type is float and type(value) is int:
            try:
                value = float(value)
            except OverflowError:
                raise BadParameter(f"parameter {name!r} is too large for a float") from None
        if self.type is float and isinstance(value, float):
            value = float(value) + 0.0
        if type(value) is not self.type:
            right = self.type.__name__ + (" or None" if self.optional else "")
            many = ""
            if isinstance(value, list | tuple) and value and not isinstance(value[0], list | tuple):
                many = f"; get_many takes several sets: params=[{{{name!r}: {_shown(value[0])}}}, ...]"
            raise BadParameter(
                f"parameter {name!r} is {right}, not {type(value).__name__} ({_shown(value)}){many}"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise BadParameter(f"parameter {name!r} must be a finite number, not {value!r}")
        if type(value) is int and not -INT64 <= value < INT64:
            raise BadParameter(f"parameter {name!r} must fit in 64 bits")
        if isinstance(value, str):
            if len(value) > MAX_TEXT:
                raise BadParameter(f"parameter {name!r} may have {MAX_TEXT} characters, not {len(value)}")
            if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
                raise BadParameter(f"parameter {name!r} must be valid Unicode; it has half a surrogate pair")
        if self.choices and value not in self.choices:
            raise BadParameter(
                f"parameter {name!r} is one of {', '.join(map(repr, self.choices))}, not {_shown(value)}"
            )
        return value


@dataclass(frozen=True, slots=True)
class Hint:
    """How an input is annotated: `depth` lists around something; at least as many if it is `open`."""

    name: str
    depth: int
    open: bool
    words: str


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function says of itself. `returns` is None where nothing is annotated."""

    unit: str | None
    inputs: tuple[str, ...]
    params: tuple[Param, ...]
    hints: tuple[Hint, ...]
    returns: Any


def read(feature: str, function: Callable[..., Any], *, bound: bool, of_init: bool = False) -> Signature:
    """Read a function, or with `bound` a method. Raises `DeclarationError` naming the feature."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise DeclarationError(
            f"feature {feature!r}: an annotation can't be resolved: {type(error).__name__}: {error}"
        ) from error
    unit: str | None = None
    inputs: list[str] = []
    params: list[Param] = []
    layers: list[Hint] = []
    for argument in list(inspect.signature(function).parameters.values())[1 if bound else 0 :]:
        name = argument.name
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD, argument.POSITIONAL_ONLY):
            raise DeclarationError(
                f"feature {feature!r}: argument {name!r} must be an ordinary argument, passed by its name"
            )
        hint = hints.get(name, inspect.Parameter.empty)
        _check_unit(feature, name, hint)
        if argument.default is not inspect.Parameter.empty:
            params.append(_param(feature, name, hint, argument.default, of_init))
        elif name in UNIT_ARGUMENT:
            if unit:
                raise DeclarationError(
                    f"feature {feature!r} takes two units, {unit!r} and {name!r}; one is allowed"
                )
            unit = name
        else:
            inputs.append(name)
            layers.append(Hint(name, *_layers(hint), inspect.formatannotation(hint)))
    returns = hints.get("return")
    return Signature(
        unit, tuple(inputs), tuple(params), tuple(layers), None if returns is type(None) else returns
    )


def _check_unit(feature: str, name: str, hint: Any) -> None:
    """Refuse an argument that is annotated as a unit and will not be given one, or another one."""
    given = next((unit for unit, kind in UNIT_TYPES.items() if hint is kind), None)
    if given is None or given == name:
        return
    raise DeclarationError(
        f"feature {feature!r}: argument {name!r} is annotated {hint.__name__}; the "
        f"{UNIT_ARGUMENT[given]} itself is what an argument named {given!r} is given"
    )


def _param(feature: str, name: str, hint: Any, default: Any, of_init: bool) -> Param:
    """A parameter with its type: the annotation's, or the default's where there is none."""
    optional = False
    choices: tuple[Any, ...] = ()
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        rest = [a for a in typing.get_args(hint) if a is not type(None)]
        optional = len(rest) < len(typing.get_args(hint))
        hint = rest[0] if len(rest) == 1 else hint
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        optional = optional or None in choices
        choices = tuple(c for c in choices if c is not None)
        kinds = {type(c) for c in choices}
        hint = kinds.pop() if len(kinds) == 1 else hint
    if hint is inspect.Parameter.empty:
        hint = type(default)
    if hint not in PARAMETER_TYPES:
        raise DeclarationError(
            f"feature {feature!r}: parameter {name!r} must be bool, int, float or str, "
            f"not {getattr(hint, '__name__', hint)!s}"
        )
    if default is None and not optional:
        raise DeclarationError(
            f"feature {feature!r}: parameter {name!r} defaults to None; annotate it {hint.__name__} | None"
        )
    param = Param(name, hint, default, optional, of_init, choices)
    try:
        return Param(name, hint, param.check(name, default), optional, of_init, choices)
    except BadParameter as error:
        raise DeclarationError(f"feature {feature!r}: the default of {error}") from error


def _shown(value: Any) -> str:
    """A value as it stands in a message; Python refuses to print very long numbers."""
    long = type(value) is int and not -INT64 <= value < INT64
    return f"of {value.bit_length()} bits" if long else f"{value!r:.80}"


def _layers(hint: Any) -> tuple[int, bool]:
    """How many lists an annotation puts around a value, and whether it leaves more of them open."""
    if hint is inspect.Parameter.empty or hint is Any or hint is object or isinstance(hint, TypeVar):
        return 0, True
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is list or (origin is list and not arguments):
        return 1, True
    if origin is Annotated:
        return _layers(arguments[0])
    if origin is list:
        depth, rest = _layers(arguments[0])
        return depth + 1, rest
    if origin in (typing.Union, types.UnionType):
        found = {_layers(a) for a in arguments if a is not type(None)}
        return found.pop() if len(found) == 1 else (0, True)
    # Sequence, Iterable and the like fit a list as well as an array.
    home = getattr(origin or hint, "__module__", "")
    return 0, home in ("collections.abc", "typing")
