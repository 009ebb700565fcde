"""The body of a warm actor, called without Ray: what fails, and what does not fit the GPU's memory."""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import Any

import pytest
import torch

from amber_ray import Asset, feature
from amber_ray.core.planning.plan import Step
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
