"""`@feature`: a function or class becomes a node of the feature graph; its signature is its edges.

A parameter named after a feature is an input, `asset`, `clip` or `collection` is the unit, and a
parameter with a default is a parameter of the feature and part of its key. A class's `__init__` may
declare parameters too: they choose the model, so each combination is a warm actor pool of its own.

Decorating returns the function or class itself, with its `FeatureSpec` under `__amber__`; nothing is
registered globally (`core.declare.registry`). Must not know: Ray, keys, other features.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, overload

from amber_ray.core.declare.calls import NO_CALLS, Calls, declared
from amber_ray.core.declare.resources import Gpu, Resources, is_number
from amber_ray.core.declare.signature import UNIT_ARGUMENT, Hint, Param, Signature, read
from amber_ray.core.fingerprint import live
from amber_ray.core.model.units import RANK, Per, is_found
from amber_ray.core.values.annotations import ListOf, Scalar, Struct, ValueType, parse
from amber_ray.errors import DeclarationError, did_you_mean

__all__ = ["FeatureSpec", "Gpu", "Param", "Resources", "Store", "build", "feature"]

F = TypeVar("F", bound=Callable[..., Any])
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")

Store = Literal["parquet", "memory", "never"]


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """A feature as declared. `inputs` are names of other features in signature order.

    As it hangs on a function or class, `code_digest` is empty, and so is an omitted `version`: when the
    decorator runs, the helpers that stand below it in the module are not there yet. A `Registry` holds
    `sealed` specs, which have both.
    """

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
    pinned: bool
    module: str
    doc: str
    hints: tuple[Hint, ...]
    code_digest: str = ""
    calls: Calls = NO_CALLS

    @property
    def looks(self) -> bool:
        """Whether its function says what it will look at (`media.looks`), so that others may look along."""
        return hasattr(self.target, "__look__")

    @property
    def decodes(self) -> bool:
        """Whether its function says that it decodes pictures (`media.looks`)."""
        return hasattr(self.target, "__decodes__")

    @property
    def finder(self) -> str | None:
        """The feature that finds the windows that its values are for; None if they are for other units."""
        return self.per if is_found(self.per) else None

    @property
    def finds(self) -> bool:
        """Whether another feature can be per this one: its values are lists of ranges in an asset.

        Not whether one is, here: a value in memory serves other registries, too.
        """
        return self.per == "asset" and finds_ranges(self.returns)

    @property
    def needs(self) -> tuple[str, ...]:
        """The features that must be known for it: its inputs, and its finder."""
        return self.inputs if self.finder in (None, *self.inputs) else (*self.inputs, self.per)

    def param(self, name: str) -> Param | None:
        """The parameter of that name, or None."""
        return next((p for p in self.params if p.name == name), None)

    def sealed(self) -> FeatureSpec:
        """With the digest of the code as it is now, and the version that follows from it if none was given.

        A spec that has one keeps it: where it was unpickled, the source may not be at hand.
        """
        if self.code_digest:
            return self
        digest = live.digest(self.target)
        return dataclasses.replace(self, code_digest=digest, version=self.version or f"auto-{digest[:16]}")


@overload
def feature(target: F, /) -> F: ...


@overload
def feature(
    *,
    name: str | None = ...,
    version: str | None = ...,
    per: Per | None = ...,
    num_cpus: float | None = ...,
    num_gpus: float = ...,
    memory: int = ...,
    accelerator_type: str | None = ...,
    resources: Mapping[str, float] | None = ...,
    gpu: Gpu = ...,
    timeout: float | None = ...,
    retries: int = ...,
    batch: int = ...,
    store: Store = ...,
    concurrency: int | None = ...,
    rate: str | None = ...,
    retry_status: Iterable[int] = ...,
) -> Callable[[F], F]: ...


def feature(
    target: F | None = None,
    /,
    *,
    name: str | None = None,
    version: str | None = None,
    per: Per | None = None,
    num_cpus: float | None = None,
    num_gpus: float = 0.0,
    memory: int = 0,
    accelerator_type: str | None = None,
    resources: Mapping[str, float] | None = None,
    gpu: Gpu = "required",
    timeout: float | None = None,
    retries: int = 2,
    batch: int = 1,
    store: Store = "parquet",
    concurrency: int | None = None,
    rate: str | None = None,
    retry_status: Iterable[int] = (),
    **unknown: Any,
) -> F | Callable[[F], F]:
    """Declare a feature. Usable bare (`@feature`) or with arguments.

    Args:
        target: the function or class, where `@feature` stands without arguments.
        name: the feature's name; by default the function's, or the class's in snake case.
        version: any short string; omitted, it is derived from the code the feature reaches.
        per: segment, asset, collection, or the name of a feature per asset that finds ranges: a list of
            dataclasses with `start` and `end` in seconds. Omitted, it follows from a `clip`, `asset` or
            `collection` argument, else it is "asset".
        num_cpus: what one run holds while it runs; fractions are allowed. By default 1, and 0 for
            `async def`, whose calls hold none while they wait.
        num_gpus: likewise; above 1 whole.
        memory: bytes.
        accelerator_type: a Ray accelerator's name, such as "A10G".
        resources: Ray's custom resources by name.
        gpu: "required" fails at once where no GPU can be had; "preferred" then runs on CPU.
        timeout: seconds one unit may take; None for no bound.
        retries: how often a system failure (never an exception of the feature) is tried again.
        batch: how many units one call may take; above 1 the class has a method `batch` that takes a
            list per input and returns a list.
        store: "parquet"; "memory" (never written); "never" (recomputed when needed).
        concurrency: of a feature written as `async def`: how many calls each process that makes them has in
            flight; 16 by default. A service has one such process per shard.
        rate: how many runs may start, such as "20/s", "60/min" or "1000/h": over all requests and shards.
        retry_status: HTTP statuses, such as (429, 503): an error of httpx with one of them is taken for
            `RetryLater` with the seconds of its Retry-After.
        unknown: any other argument is refused, with the one that may have been meant.

    Raises `DeclarationError`, naming the feature and what would be right.
    """
    if unknown:
        word = next(iter(unknown))
        known = [name for name in inspect.signature(feature).parameters if name not in ("target", "unknown")]
        hint = did_you_mean(word, known, f"it takes {', '.join(known)}")
        raise DeclarationError(f"@feature takes no {word!r}; {hint}")
    if resources is not None and not isinstance(resources, Mapping):
        raise DeclarationError(f"resources is a mapping such as {{'NVME': 1}}, not {resources!r:.80}")
    custom = tuple((resources or {}).items())

    def declare(function: F) -> F:
        cpus = (0.0 if _is_async(function) else 1.0) if num_cpus is None else num_cpus
        spec = build(
            function,
            name=name,
            version=version,
            per=per,
            resources=Resources(cpus, num_gpus, memory, accelerator_type, custom, gpu),
            timeout=timeout,
            retries=retries,
            batch=batch,
            store=store,
            concurrency=concurrency,
            rate=rate,
            retry_status=retry_status,
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
    concurrency: Any,
    rate: Any,
    retry_status: Any,
) -> FeatureSpec:
    """Read a function's or class's signature into a `FeatureSpec`; `feature` is the friendly way in."""
    is_class = inspect.isclass(target)
    if not is_class and not isinstance(target, types.FunctionType):
        raise DeclarationError(f"a feature is a function or a class, not {type(target).__name__}")
    name = name or (_snake(target.__name__) if is_class else target.__name__)
    _check_words(name, version, per, store)
    _check_numbers(name, timeout, retries, batch)
    resources = resources.checked(name)
    signature, params = _read(name, target)
    calls = declared(
        name,
        is_async=_is_async(target),
        batch=batch,
        concurrency=concurrency,
        rate=rate,
        retry_status=retry_status,
    )
    if calls.concurrency and resources.num_cpus:
        raise DeclarationError(
            f"feature {name!r} is async and can't have num_cpus={resources.num_cpus:g}: "
            "its calls hold no CPU while they wait"
        )
    if batch > 1:
        _check_batch(name, target, signature)
    implied = UNIT_ARGUMENT.get(signature.unit) if signature.unit else None
    window = implied == "segment" and per is not None and is_found(per)
    if implied is not None and per is not None and implied != per and not window:
        raise DeclarationError(
            f"feature {name!r}: argument {signature.unit!r} is the unit of a feature per {implied}, "
            f"but per={per!r}"
        )
    if signature.unit is None and not signature.inputs:
        raise DeclarationError(
            f"feature {name!r} has no input: take a unit (clip, asset or collection) "
            "or another feature by name"
        )
    if signature.returns is None:
        raise DeclarationError(f"feature {name!r} needs a return annotation: its value's type")
    try:
        value_type = parse(signature.returns)
    except DeclarationError as error:
        raise DeclarationError(f"feature {name!r}: {error}") from error
    return FeatureSpec(
        name=name,
        version=version or "",
        per=per or implied or "asset",
        inputs=signature.inputs,
        unit_argument=signature.unit,
        params=params,
        returns=value_type,
        resources=resources,
        store=store,
        timeout=timeout,
        retries=retries,
        batch=batch,
        target=target,
        is_class=is_class,
        pinned=version is not None,
        module=target.__module__,
        doc=_doc(target),
        hints=signature.hints,
        calls=calls,
    )


def _check_words(name: Any, version: Any, per: Any, store: Any) -> None:
    """Refuse names and choices that can't be."""
    if not (isinstance(name, str) and _NAME.match(name)):
        raise DeclarationError(
            f"feature name {name!r} must be lower case letters, digits and _, a letter first (at most 64)"
        )
    if name in UNIT_ARGUMENT:
        raise DeclarationError(f"a feature can't be named {name!r}: that is an argument for the unit itself")
    if version is not None and not (isinstance(version, str) and _VERSION.match(version)):
        raise DeclarationError(
            f"feature {name!r}: version must be a short string such as '1' or '2.0', not {version!r}"
        )
    if per is not None and not (isinstance(per, str) and (per in RANK or _NAME.match(per))):
        raise DeclarationError(
            f"feature {name!r}: per must be 'segment', 'asset', 'collection' or the name of a feature that "
            f"finds ranges, not {per!r}"
        )
    if per is not None and per == name:
        raise DeclarationError(
            f"feature {name!r} can't be per {name!r}: it would be for what it finds itself"
        )
    if store not in ("parquet", "memory", "never"):
        raise DeclarationError(
            f"feature {name!r}: store must be 'parquet', 'memory' or 'never', not {store!r}"
        )


def _check_numbers(name: str, timeout: Any, retries: Any, batch: Any) -> None:
    """Refuse amounts that mean nothing."""
    if timeout is not None and not (is_number(timeout) and timeout > 0):
        raise DeclarationError(f"feature {name!r}: timeout is seconds above 0 or None, not {timeout!r}")
    if type(retries) is not int or retries < 0:
        raise DeclarationError(f"feature {name!r}: retries must be 0 or more, not {retries!r}")
    if type(batch) is not int or batch < 1:
        raise DeclarationError(f"feature {name!r}: batch must be 1 or more, not {batch!r}")


def _read(name: str, target: Any) -> tuple[Signature, tuple[Param, ...]]:
    """The signature of a function, or of a class's `__call__`; and its parameters, `__init__`'s first."""
    call = target
    params: tuple[Param, ...] = ()
    if inspect.isclass(target):
        call = inspect.getattr_static(target, "__call__", None)
        if not isinstance(call, types.FunctionType):
            batch = ""
            if callable(inspect.getattr_static(target, "batch", None)):
                batch = "; besides its batch, for one unit alone: def __call__(self, ...): "
                batch += "return self.batch([...])[0]"
            raise DeclarationError(
                f"feature {name!r}: its class needs a method __call__, which makes a value{batch}"
            )
        make = inspect.getattr_static(target, "__init__")
        if isinstance(make, types.FunctionType):
            init = read(name, make, bound=True, of_init=True)
            if needed := [*init.inputs, *filter(None, [init.unit])]:
                raise DeclarationError(
                    f"feature {name!r}: __init__ may take only parameters with defaults; "
                    f"{needed[0]!r} has none"
                )
            params = init.params
    if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
        raise DeclarationError(
            f"feature {name!r} is a generator; it must be a function that returns its value"
        )
    signature = read(name, call, bound=call is not target)
    if twice := {p.name for p in params} & {p.name for p in signature.params}:
        raise DeclarationError(
            f"feature {name!r}: parameter {min(twice)!r} is declared twice, in __init__ and in __call__"
        )
    return signature, (*params, *signature.params)


def _is_async(target: Any) -> bool:
    """Whether a function, or a class's `__call__`, is a coroutine function."""
    call = inspect.getattr_static(target, "__call__", None) if inspect.isclass(target) else target
    return inspect.iscoroutinefunction(call)


def _check_batch(name: str, target: Any, signature: Signature) -> None:
    """A batch is called with the arguments of one call, each unit's in a list; parameters as they are."""
    method = inspect.getattr_static(target, "batch", None)
    if not (inspect.isclass(target) and isinstance(method, types.FunctionType)):
        raise DeclarationError(
            f"feature {name!r}: batch above 1 needs a class with a method 'batch' that takes a list per input"
        )
    if inspect.iscoroutinefunction(method):
        raise DeclarationError(
            f"feature {name!r}: its method 'batch' is async; make it an ordinary one, or leave batch out and "
            "make __call__ async, whose calls run side by side"
        )
    takes = list(inspect.signature(method).parameters)[1:]
    wants = [*signature.inputs, *filter(None, [signature.unit]), *(p.name for p in signature.params)]
    if sorted(takes) != sorted(wants):
        raise DeclarationError(
            f"feature {name!r}: the method 'batch' must take the same arguments as __call__ "
            f"({', '.join(wants)}), not ({', '.join(takes)})"
        )


def finds_ranges(kind: ValueType) -> bool:
    """Return whether values of a type are lists of ranges: of a dataclass with `start` and `end`, floats."""
    if not (isinstance(kind, ListOf) and isinstance(kind.item, Struct)):
        return False
    fields = dict(kind.item.fields)
    return fields.get("start") == fields.get("end") == Scalar("float")


def _doc(target: Any) -> str:
    """The docstring; not the signature that a dataclass is given in place of one, nor a base class's."""
    text = target.__dict__.get("__doc__") if inspect.isclass(target) else target.__doc__
    generated = inspect.isclass(target) and (text or "").startswith(f"{target.__name__}(")
    return "" if generated or not text else inspect.cleandoc(text)


def _snake(name: str) -> str:
    """`ShotEmbedding` -> `shot_embedding`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
