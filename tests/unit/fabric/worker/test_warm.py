"""The body of a warm actor, called without Ray: what fails, and what does not fit the GPU's memory."""

from __future__ import annotations

import gc
import pickle
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float32

from amber_ray import Asset, Clip, feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.planning.plan import Planner, Step
from amber_ray.fabric.transport import pickled, registry_blob
from amber_ray.fabric.transport.messages import StepResult, Work
from amber_ray.fabric.worker import warm
from amber_ray.fabric.worker.warm import Warm
from tests.core_kit import asset, recipe

ROOM = 4
"""Items that the pretended GPU has room for."""
CALLS: list[int] = []
HELD: weakref.WeakSet[Any] = weakref.WeakSet()
"""What calls have on the pretended GPU."""


class Block:
    """One item's share of the memory."""


@feature(version="1", batch=16)
class Sized:
    """Needs memory for each item, and can't bear an asset called bad."""

    def __init__(self) -> None:
        CALLS.append(0)

    def __call__(self, asset: Asset) -> int:
        return self.batch([asset])[0]

    def batch(self, asset: list[Asset]) -> list[int]:
        CALLS.append(len(asset))
        blocks = [Block() for _ in asset]
        HELD.update(blocks)
        if len(HELD) > ROOM:
            raise torch.cuda.OutOfMemoryError
        if any(a.id == "bad" for a in asset):
            raise ValueError("bad")
        return [len(a.id) for a in asset]


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Warm:
    CALLS.clear()
    HELD.clear()
    monkeypatch.setattr(warm, "registry_of", lambda digest, blob: {"sized": Sized.__amber__})  # type: ignore[attr-defined]
    monkeypatch.setattr(torch.cuda, "empty_cache", gc.collect)
    return Warm(b"", "r", "sized", ())


def give(actor: Warm, *names: str) -> list[StepResult]:
    """One batch of assets with these names; its report."""
    spec = Sized.__amber__  # type: ignore[attr-defined]
    made = recipe("sized", is_class=True, batch=16)
    steps = tuple(Step(n, made, asset(n), n, (), 0, 0, ()) for n in names)
    assert spec.batch == 16
    report: list[StepResult] = actor.run(Work(1, steps, frozenset(names), {}, {}, 1, 1000, "r", "n", "a"))[0]
    return report


def test_a_batch_that_does_not_fit_is_halved_and_its_size_remembered(actor: Warm) -> None:
    names = [f"{i:02}" for i in range(16)]
    report = give(actor, *names)
    assert [(r.key, pickle.loads(r.inline or b"")) for r in report] == [(n, 2) for n in names]
    # The model is loaded once; the halves are tried when what the failed call held has been let go.
    assert CALLS == [0, 16, 8, 4, 4, 4, 4]
    CALLS.clear()
    assert all(r.failure is None for r in give(actor, *names))
    assert CALLS == [4, 4, 4, 4]


def test_one_item_more_is_tried_after_a_while(actor: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "CALM", 3)
    monkeypatch.setitem(globals(), "ROOM", 5)
    names = [f"{i:02}" for i in range(16)]
    give(actor, *names)
    CALLS.clear()
    give(actor, *names)
    assert CALLS == [5, 5, 5, 1]
    monkeypatch.setitem(globals(), "ROOM", 16)
    for _ in range(40):
        give(actor, *names)
    CALLS.clear()
    give(actor, *names)
    assert CALLS == [16]


def test_one_bad_item_fails_alone(actor: Warm) -> None:
    report = give(actor, "a", "bad", "c")
    assert [r.key for r in report if r.failure is None] == ["a", "c"]
    (failure,) = [r.failure for r in report if r.failure is not None]
    assert (failure.key, failure.kind, failure.message) == ("bad", "feature", "ValueError: bad")
    assert CALLS == [0, 3, 1, 1, 1]


def test_an_item_that_does_not_fit_by_itself_fails_alone(
    actor: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOM", 0)
    report = give(actor, "a", "b")
    assert [r.failure is not None and "OutOfMemoryError" in r.failure.message for r in report] == [True, True]


def test_a_load_that_fails_is_told_of_every_step_and_tried_again(actor: Warm) -> None:
    def fails() -> Any:
        raise OSError("no weights")

    load = actor._spec.target
    object.__setattr__(actor._spec, "target", fails)
    try:
        report = give(actor, "a", "b")
    finally:
        object.__setattr__(actor._spec, "target", load)
    assert [(r.key, r.failure and r.failure.kind) for r in report] == [("a", "feature"), ("b", "feature")]
    assert all("no weights" in (r.failure.message if r.failure else "") for r in report)
    assert all(r.failure is None for r in give(actor, "a", "b"))


# --- what items of a batch can do to one another

LENGTH = 4000


@feature(version="1")
def notes(asset: Asset) -> dict:
    return {"seen": []}


@feature(version="1")
def vector(asset: Asset) -> Float32[np.ndarray, " n"]:
    return np.ones(LENGTH, np.float32)


@feature(version="1", per="segment", batch=8)
class Noted:
    """Writes into what all segments of an asset get; `fragile` can't bear more than one at a time."""

    def __init__(self, fragile: bool = False) -> None:
        self.fragile = fragile

    def __call__(self, clip: Clip, notes: dict[str, Any]) -> int:
        return self.batch([clip], [notes])[0]

    def batch(self, clip: list[Clip], notes: list[dict[str, Any]]) -> list[int]:
        for one, note in zip(clip, notes, strict=True):
            note["seen"].append(one.index)
        if self.fragile and len(clip) > 1:
            raise ValueError("one at a time")
        return [len(note["seen"]) for note in notes]


@feature(version="1", per="segment", batch=8)
class Scaled:
    """Writes into an array that all segments of an asset get."""

    def __call__(self, clip: Clip, vector: np.ndarray) -> float:
        return self.batch([clip], [vector])[0]

    def batch(self, clip: list[Clip], vector: list[np.ndarray]) -> list[float]:
        for one, numbers in zip(clip, vector, strict=True):
            numbers *= one.index + 1
        return [float(v.sum()) for v in vector]


@feature(version="1", per="segment", batch=2)
class Reuses:
    """Returns the same memory in each call, for both of its items."""

    def __init__(self) -> None:
        self.memory = np.zeros((2, LENGTH), np.float32)

    def __call__(self, clip: Clip, vector: np.ndarray) -> Float32[np.ndarray, " n"]:
        return self.batch([clip], [vector])[0]

    def batch(self, clip: list[Clip], vector: list[np.ndarray]) -> list[Float32[np.ndarray, " n"]]:
        for i, one in enumerate(clip):
            self.memory[i] = vector[i] + one.index
        return [self.memory[i] for i in range(len(clip))]


def batch_of(target: Any, given: Any, inline: bool, **model: Any) -> tuple[Any, ...]:
    """All four segments of an asset in one call of a warm actor, with the input that they share."""
    takes = target.__amber__.inputs[0]
    inputs: Mapping[str, Any] = {"notes": notes, "vector": vector}
    registry = Registry([inputs[takes].__amber__, target.__amber__])
    registry_blob.remember(registry)
    name = target.__amber__.name
    params = {f"{name}.{key}": value for key, value in model.items()}
    planner = Planner(registry, features=[name], params=params, segment_seconds=60)
    planner.add_asset(Asset("a" * 32, "/media/a", "video/mp4", 1, 240.0))
    steps = [s for s in planner.plan().steps.values() if s.recipe.feature == name]
    (need,) = steps[0].needs
    given = pickle.dumps(given, protocol=5)
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(pickle.loads(given), protocol=5, buffer_callback=buffers.append)
    slot = [pickle.loads(head, buffers=[bytes(b.raw()) for b in buffers])]  # as Ray does it
    work = Work(
        1,
        tuple(steps),
        frozenset(s.key for s in steps),
        {need: given} if inline else {},
        {} if inline else {need: (0, 0)},
        1,
        1000,
        registry.digest,
        "n",
        "a",
    )
    actor = Warm(b"", registry.digest, name, tuple(model.items()))
    reply: tuple[Any, ...] = pickle.loads(pickle.dumps(actor.run(work, slot), protocol=5))
    return reply


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("fragile", [True, False])
def test_no_item_sees_what_was_done_to_another_ones_input(inline: bool, fragile: bool) -> None:
    report, _ = batch_of(Noted, {"seen": []}, inline, fragile=fragile)
    assert [r.failure for r in report] == [None] * 4
    assert [pickled.loads(r.inline) for r in report] == [1, 1, 1, 1]


@pytest.mark.parametrize("inline", [True, False])
def test_a_model_that_writes_into_its_inputs_is_told_so(inline: bool) -> None:
    array = np.ones(LENGTH, np.float32)
    array.flags.writeable = False  # as every value is that was checked
    report, _ = batch_of(Scaled, array, inline)
    for failure in (r.failure for r in report):
        assert failure is not None
        assert failure.type == "FeatureError"
        assert failure.message.startswith("feature 'scaled' wrote into an array that is read-only")
        assert "vector = vector.copy()" in failure.message
        assert "in batch" in failure.traceback


def test_a_model_may_use_its_memory_again() -> None:
    report, slot = batch_of(Reuses, np.ones(LENGTH, np.float32), True)
    assert [set(slot[r.place]) for r in report] == [{1.0}, {2.0}, {3.0}, {4.0}]
