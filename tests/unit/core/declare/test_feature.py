"""A declaration is read into a spec, or refused with a sentence that says what would be right."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Optional

import numpy as np
import pytest
from jaxtyping import Float32

from amber_ray.core.declare.feature import FeatureSpec, Resources, feature
from amber_ray.core.model.units import Asset, Clip, Collection
from amber_ray.core.values.annotations import Array, Jpeg, Scalar
from amber_ray.errors import DeclarationError


def spec_of(target: Any) -> FeatureSpec:
    spec = target.__amber__
    assert isinstance(spec, FeatureSpec)
    return spec


def test_a_function_says_its_graph_by_its_signature() -> None:
    @feature(
        version="1", num_cpus=2, memory=1 << 20, resources={"NVME": 1}, timeout=5, retries=0, store="memory"
    )
    def shots(clip: Clip, frames: list[int], loudness: float, fps: float = 2, name: str = "x") -> list[float]:
        """Where the picture changes."""
        return []

    spec = spec_of(shots)
    assert (spec.name, spec.version, spec.per, spec.unit_argument) == ("shots", "1", "segment", "clip")
    assert spec.inputs == ("frames", "loudness")
    assert [(p.name, p.type, p.default) for p in spec.params] == [("fps", float, 2.0), ("name", str, "x")]
    assert type(spec.params[0].default) is float
    assert spec.resources == Resources(2.0, 0.0, 1 << 20, None, (("NVME", 1.0),))
    assert (spec.timeout, spec.retries, spec.store, spec.batch) == (5, 0, "memory", 1)
    assert (spec.is_class, spec.pinned, spec.doc) == (False, True, "Where the picture changes.")
    assert spec.target is shots
    assert spec.module == __name__


def test_a_class_is_named_in_snake_case_and_its_constructor_declares_parameters() -> None:
    @feature(num_gpus=0.25, gpu="preferred", batch=8)
    class ShotEmbedding2D:
        def __init__(
            self, backbone: Literal["small", "large"] = "small", seed: int | None = None
        ) -> None: ...

        def __call__(
            self, asset: Asset, frames: list[np.ndarray], size: int = 3
        ) -> Float32[np.ndarray, "512"]:
            raise NotImplementedError

        def batch(self, asset: list[Asset], frames: list[Any], size: int = 3) -> list[Any]:
            raise NotImplementedError

    spec = spec_of(ShotEmbedding2D)
    assert (spec.name, spec.is_class, spec.pinned, spec.doc) == ("shot_embedding2_d", True, False, "")
    assert [(p.name, p.of_init, p.optional, p.choices) for p in spec.params] == [
        ("backbone", True, False, ("small", "large")),
        ("seed", True, True, ()),
        ("size", False, False, ()),
    ]
    assert spec.returns == Array("float32", (512,))


def test_a_dataclass_declares_its_fields_as_parameters() -> None:
    @feature(version="1")
    @dataclass
    class Threshold:
        level: float = 0.5

        def __call__(self, clip: Clip) -> bool:
            return True

    spec = spec_of(Threshold)
    assert [(p.name, p.type, p.of_init) for p in spec.params] == [("level", float, True)]
    assert (spec.per, spec.doc) == ("segment", "")


def test_bare_and_named() -> None:
    @feature
    def one(asset: Asset) -> int:
        return 1

    @feature(name="two")
    def _hidden(asset: Asset) -> Jpeg:
        return b""

    assert spec_of(one).name == "one"
    assert spec_of(two := _hidden).name == "two"
    assert spec_of(two).returns.media_type == "image/jpeg"


@pytest.mark.parametrize(("per", "unit"), [("segment", Clip), ("asset", Asset), ("collection", Collection)])
def test_per_follows_from_the_unit_or_is_given_or_is_asset(per: str, unit: type) -> None:
    name = {"segment": "clip"}.get(per, per)
    space: dict[str, Any] = {"Unit": unit, "feature": feature}
    exec(f"@feature\ndef f({name}: Unit) -> int: return 1\n@feature\ndef g(f: int) -> int: return 1", space)
    exec(f"@feature(per={per!r})\ndef h(f: int) -> int: return 1", space)
    assert spec_of(space["f"]).per == spec_of(space["h"]).per == per
    assert spec_of(space["g"]).per == "asset"


def test_a_spec_is_sealed_when_its_helpers_are_there() -> None:
    @feature
    def f(asset: Asset) -> int:
        return below()

    def below() -> int:
        return 1

    spec = spec_of(f)
    assert (spec.version, spec.code_digest) == ("", "")
    sealed = spec.sealed()
    assert re.fullmatch(r"auto-[0-9a-f]{16}", sealed.version)
    assert sealed.code_digest.startswith(sealed.version.removeprefix("auto-"))
    assert sealed.sealed() is sealed
    assert sealed.target is f
    pinned = dataclasses.replace(spec, version="7", pinned=True).sealed()
    assert (pinned.version, pinned.code_digest) == ("7", sealed.code_digest)


@pytest.mark.parametrize(
    ("annotation", "depth", "more"),
    [
        (int, 0, False),
        (np.ndarray, 0, False),
        (Float32[np.ndarray, "t 3"], 0, False),
        (list[int], 1, False),
        (list[list[int]], 2, False),
        (Annotated[list[int], "note"], 1, False),
        (list[int] | None, 1, False),
        (list, 1, True),
        (list[Any], 1, True),
        (Any, 0, True),
        (object, 0, True),
        (Sequence[int], 0, True),
        (list[int] | int, 0, True),
    ],
)
def test_annotations_say_how_many_lists_they_expect(annotation: Any, depth: int, more: bool) -> None:
    def f(x):  # type: ignore[no-untyped-def]
        return 1

    f.__annotations__ = {"x": annotation, "return": int}
    (hint,) = spec_of(feature(f)).hints
    assert (hint.name, hint.depth, hint.open) == ("x", depth, more)


# --- refusals


def takes(annotation: Any, default: Any) -> Callable[..., Any]:
    def f(asset, p=default):  # type: ignore[no-untyped-def]
        return 1

    f.__annotations__ = {"p": annotation, "return": int} if annotation is not None else {"return": int}
    return f


def plain(asset: Asset) -> int:
    return 1


def no_input(level: int = 1) -> int:
    return 1


def no_return(asset: Asset):  # type: ignore[no-untyped-def]
    return 1


def returns_none(asset: Asset) -> None:
    return None


def returns_union(asset: Asset) -> int | str:
    return 1


def two_units(asset: Asset, clip: Clip) -> int:
    return 1


def film_as_a_unit(film: Asset) -> int:
    return 1


def other_unit(asset: Clip) -> int:
    return 1


def starred(asset: Asset, *frames: int) -> int:
    return 1


def keyworded(asset: Asset, **options: int) -> int:
    return 1


def positional(asset: Asset, /) -> int:
    return 1


def unknown_annotation(asset: Asset, frames: Nowhere) -> int:  # type: ignore[name-defined]  # noqa: F821
    return 1


def broken_annotation(asset: np.nowhere) -> int:  # type: ignore[name-defined]
    return 1


async def later(asset: Asset) -> int:
    return 1


async def pages(asset: Asset) -> Any:
    yield 1


def one_by_one(asset: Asset) -> Iterator[int]:
    yield 1


class NoCall:
    pass


class BatchAlone:
    def batch(self, frames: list[Any]) -> list[int]: ...


class NeedsModel:
    def __init__(self, model: str) -> None: ...

    def __call__(self, asset: Asset) -> int:
        return 1


class NeedsAsset:
    def __init__(self, asset: Asset) -> None: ...

    def __call__(self) -> int:
        return 1


class Twice:
    def __init__(self, size: int = 1) -> None: ...

    def __call__(self, asset: Asset, size: int = 1) -> int:
        return 1


class Batched:
    def __call__(self, frames: int, scale: int = 1) -> int:
        return 1

    def batch(self, frame: list[int]) -> list[int]:
        return frame


class LaterClass:
    def __call__(self, asset: Asset) -> int:
        return 1

    async def batch(self, asset: list[Asset]) -> list[int]:
        return [1]


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a name with capitals": (plain, {"name": "Shots"}, "'Shots' must be lower case letters, digits and _"),
    "a name that is no text": (plain, {"name": 5}, "feature name 5 must be lower case"),
    "a name that is a unit": (plain, {"name": "asset"}, "can't be named 'asset'"),
    "a version with spaces": (plain, {"version": "one two"}, "version must be a short string such as '1'"),
    "a version that is a number": (plain, {"version": 1}, "version must be a short string such as '1'"),
    "an empty version": (plain, {"version": ""}, "version must be a short string"),
    "a unit that can't be": (plain, {"per": "Frame!"}, "per must be 'segment', 'asset', 'collection' or the"),
    "windows and a unit that is none": (
        plain,
        {"per": "shots"},
        "unit of a feature per asset, but per='shots'",
    ),
    "windows that it finds itself": (plain, {"per": "plain"}, "'plain' can't be per 'plain'"),
    "a unit that is not the argument's": (
        plain,
        {"per": "segment"},
        "is the unit of a feature per asset, but per=",
    ),
    "a store that does not exist": (plain, {"store": "disk"}, "store must be 'parquet', 'memory' or 'never'"),
    "a gpu that is maybe": (plain, {"gpu": "maybe"}, "gpu must be 'required' or 'preferred'"),
    "a negative amount": (plain, {"num_cpus": -1}, "num_cpus must be 0 or a number from 0.0001 up, not -1"),
    "an amount that is no number": (plain, {"num_gpus": "2"}, "num_gpus must be 0 or a number"),
    "an amount that is NaN": (plain, {"num_gpus": float("nan")}, "num_gpus must be 0 or a number"),
    "an amount that is a bool": (plain, {"num_cpus": True}, "num_cpus must be 0 or a number"),
    "an amount too small to count": (plain, {"resources": {"NVME": 1e-6}}, "NVME must be 0 or a number from"),
    "one GPU and a half": (plain, {"num_gpus": 1.5}, "num_gpus above 1 must be whole (Ray's rule), not 1.5"),
    "half a byte": (plain, {"memory": 0.5}, "memory is whole bytes, not 0.5"),
    "a GPU among the custom ones": (plain, {"resources": {"GPU": 1}}, "say num_gpus=... instead of 'GPU'"),
    "resources in a list": (plain, {"resources": ["GPU"]}, "resources is a mapping such as"),
    "no time at all": (plain, {"timeout": 0}, "timeout is seconds above 0 or None, not 0"),
    "a timeout for ever": (plain, {"timeout": float("inf")}, "timeout is seconds above 0 or None, not inf"),
    "negative retries": (plain, {"retries": -1}, "retries must be 0 or more, not -1"),
    "a misspelt argument": (plain, {"retry": 3}, "@feature takes no 'retry'; did you mean 'retries'"),
    "an argument of Ray": (plain, {"gpus": 1}, "@feature takes no 'gpus'; did you mean 'gpu' or 'num_gpus'?"),
    "an argument of nobody": (plain, {"zzz": 1}, "@feature takes no 'zzz'; it takes name, version, per,"),
    "half a retry": (plain, {"retries": 0.5}, "retries must be 0 or more, not 0.5"),
    "an empty batch": (plain, {"batch": 0}, "batch must be 1 or more, not 0"),
    "a batch of a function": (plain, {"batch": 2}, "needs a class with a method 'batch'"),
    "a batch with other arguments": (
        Batched,
        {"batch": 2},
        "'batch' must take the same arguments as __call__ (frames, scale), not (frame)",
    ),
    "no input": (no_input, {}, "'no_input' has no input: take a unit (clip, asset or collection) or another"),
    "no return annotation": (no_return, {}, "'no_return' needs a return annotation"),
    "a return of None": (returns_none, {}, "'returns_none' needs a return annotation"),
    "a return of a union": (returns_union, {}, "'returns_union': a value can't be one of several types"),
    "two units": (two_units, {}, "takes two units, 'asset' and 'clip'; one is allowed"),
    "a unit by another name": (
        film_as_a_unit,
        {},
        "argument 'film' is annotated Asset; the asset itself is what an argument named 'asset' is given",
    ),
    "another unit": (
        other_unit,
        {},
        "argument 'asset' is annotated Segment; the segment itself is what an argument named 'clip' is given",
    ),
    "starred arguments": (starred, {}, "argument 'frames' must be an ordinary argument"),
    "arguments by any name": (keyworded, {}, "argument 'options' must be an ordinary argument"),
    "arguments without a name": (positional, {}, "argument 'asset' must be an ordinary argument"),
    "an unknown annotation": (
        unknown_annotation,
        {},
        "an annotation can't be resolved: NameError: name 'Nowhere'",
    ),
    "a broken annotation": (broken_annotation, {}, "an annotation can't be resolved: AttributeError"),
    "a generator": (one_by_one, {}, "'one_by_one' is a generator; it must be a function that returns"),
    "a coroutine that yields": (pages, {}, "'pages' is a generator; it must be a function that returns"),
    "a coroutine with a batch": (later, {"batch": 2}, "'later' is async and can't have batch=2: its calls"),
    "a coroutine that holds a CPU": (later, {"num_cpus": 1}, "'later' is async and can't have num_cpus=1"),
    "a class with a coroutine and a batch": (
        LaterClass,
        {"batch": 2},
        "'later_class': its method 'batch' is async; make it an ordinary one",
    ),
    "calls of a plain function": (plain, {"concurrency": 8}, "concurrency is for features written as `async"),
    "no calls": (later, {"concurrency": 0}, "concurrency is how many calls may be in flight, from 1 to 1000"),
    "half a call": (later, {"concurrency": 1.5}, "from 1 to 1000, not 1.5"),
    "too many calls": (later, {"concurrency": 1001}, "from 1 to 1000, not 1001"),
    "a rate without a unit": (
        later,
        {"rate": "60"},
        "a unit, such as '20/s', '60/min' or '1000/h', not '60'",
    ),
    "a rate that is a number": (later, {"rate": 20}, "a unit, such as '20/s', '60/min' or '1000/h', not 20"),
    "a rate of an unknown unit": (later, {"rate": "5/day"}, "or '1000/h', not '5/day'"),
    "a rate of nothing": (later, {"rate": "0/s"}, "rate is a number above 0 and a unit"),
    "a rate of batches": (Batched, {"batch": 2, "rate": "1/s"}, "rate counts single calls and can't be had"),
    "a status that is no error": (later, {"retry_status": (200,)}, "retry_status lists HTTP statuses of err"),
    "a status in words": (later, {"retry_status": "429"}, "such as (429, 503), not '429'"),
    "a class without __call__": (NoCall, {}, "'no_call': its class needs a method __call__"),
    "a class that has a batch alone": (
        BatchAlone,
        {"batch": 2},
        "besides its batch, for one unit alone: def __call__(self, ...): return self.batch([...])[0]",
    ),
    "a constructor that needs something": (
        NeedsModel,
        {},
        "__init__ may take only parameters with defaults; 'model'",
    ),
    "a constructor that needs a unit": (
        NeedsAsset,
        {},
        "__init__ may take only parameters with defaults; 'asset'",
    ),
    "a parameter declared twice": (
        Twice,
        {},
        "parameter 'size' is declared twice, in __init__ and in __call__",
    ),
    "a partial": (functools.partial(plain), {}, "a feature is a function or a class, not partial"),
    "a parameter of another type": (
        takes(list[int], []),
        {},
        "parameter 'p' must be bool, int, float or str",
    ),
    "a parameter of two types": (takes(int | str, 1), {}, "parameter 'p' must be bool, int, float or str"),
    "choices of two types": (takes(Literal[1, "a"], 1), {}, "parameter 'p' must be bool, int, float or str"),
    "a default that is no choice": (takes(Literal["a", "b"], "c"), {}, "is one of 'a', 'b', not 'c'"),
    "a default of another type": (takes(int, "1"), {}, "the default of parameter 'p' is int, not str ('1')"),
    "a default of None": (takes(int, None), {}, "parameter 'p' defaults to None; annotate it int | None"),
    "a default of NaN": (
        takes(float, float("nan")),
        {},
        "the default of parameter 'p' must be a finite number",
    ),
    "a default that does not fit": (
        takes(int, 1 << 64),
        {},
        "the default of parameter 'p' must fit in 64 bits",
    ),
    "a parameter without a type": (
        takes(None, None),
        {},
        "parameter 'p' must be bool, int, float or str, not None",
    ),
}


@pytest.mark.parametrize(("target", "arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_a_declaration_is_refused_for(target: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError) as error:
        feature(**arguments)(target)
    assert message in str(error.value)
    assert not hasattr(target, "__amber__")


@pytest.mark.parametrize(
    ("annotation", "default", "type_"),
    [
        (int, 1, int),
        (float, 1, float),
        (None, 1.5, float),
        (None, "a", str),
        (bool, True, bool),
        (Optional[str], None, str),  # noqa: UP045
        (str | None, "a", str),
        (Literal["a", None], None, str),
        (Annotated[int, "pixels"], 1, int),
    ],
)
def test_a_parameter_has_the_type_of_its_annotation_or_default(
    annotation: Any, default: Any, type_: type
) -> None:
    (param,) = spec_of(feature(takes(annotation, default))).params
    assert param.type is type_
    assert param.optional == (default is None or annotation == (str | None))
    assert default is None or type(param.default) is type_


def test_scalars_are_types_of_values() -> None:
    assert spec_of(feature(version="1")(plain)).returns == Scalar("int")
    del plain.__amber__  # type: ignore[attr-defined]
