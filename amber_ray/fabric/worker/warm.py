"""The body of a warm actor: one class feature, its model loaded once, called in batches.

One bad item never spoils a batch: when a batch raises, its items run one by one, so only the guilty one
fails. Out of memory on the GPU halves the batch and goes on with the half, also with later batches; as long
as that goes well, one more item is tried from time to time.
"""

from __future__ import annotations

import time
from typing import Any

from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.planning.fanout import Windows, windows_of
from amber_ray.core.planning.plan import Step
from amber_ray.errors import FeatureError
from amber_ray.fabric.transport.messages import Work
from amber_ray.fabric.worker import snapshot
from amber_ray.fabric.worker.snapshot import Snapshot
from amber_ray.fabric.worker.tasks import (
    Inputs,
    Outbox,
    arguments,
    deadline,
    decoded_by,
    provenance_of,
    registry_of,
)

CALM = 50
"""Calls with as many items as were found to fit, before one more is tried."""


class WarmModel:
    """Runs the steps of one class feature.

    The model is made at the first call, so that a load that fails is the feature's failure and names the step
    that asked for it.
    """

    def __init__(self, spec: FeatureSpec, model: tuple[tuple[str, Any], ...]) -> None:
        self._spec = spec
        self._model_params = dict(model)
        self._model: Any = None
        self._most = self._spec.batch
        self._calm = 0

    def run(self, work: Work, *slots: list[Any]) -> tuple[Any, ...]:
        """Run the steps of `work`, which are all of this feature; the same returns as `tasks.run`."""
        box = Outbox(work)
        values = Inputs(work, slots, repeated=True)
        steps = list(work.steps)
        box.begin(steps[0])
        try:
            with deadline(work, *steps):
                if self._model is None:
                    self._model = self._spec.target(**self._model_params)
        except Exception as error:  # noqa: BLE001 - user code; the failure is the result
            for step in steps:
                box.raised(self._spec, step, error)
            return box.close()
        groups = [steps]  # the next is the last
        while groups:
            group = groups.pop()
            some, rest = group[: self._most], group[self._most :]
            again = self._run(work, some, values, box)
            groups += [g for g in (rest, *reversed(again)) if g]
        return box.close()

    def _run(self, work: Work, steps: list[Step], values: Inputs, box: Outbox) -> list[list[Step]]:
        """One call for all of these steps. What it could not answer is returned, as it is to be tried now."""
        box.begin(steps[0])
        started = time.perf_counter()
        try:
            with deadline(work, *steps) as decoding:
                made = self._call(work, steps, values)
        except Exception as error:  # noqa: BLE001 - user code; the failure is the result
            if len(steps) == 1:
                box.raised(self._spec, steps[0], error)
                return []
            memory = _out_of_gpu_memory(error)
        else:
            share = (time.perf_counter() - started) / len(steps)
            for step, (value, windows) in zip(steps, made, strict=True):
                told = decoded_by(decoding, provenance_of(self._model, "warm"))
                box.made(step, value, share, told, windows)
            self._fitted(len(steps))
            return []
        if not memory:
            return [[step] for step in steps]  # each item answers for itself
        # Not in the handler: the exception's traceback would keep what the failed call had on the GPU.
        self._shrink(len(steps))
        return [steps]

    def _shrink(self, items: int) -> None:
        """So many items did not fit the GPU's memory: fewer from now on."""
        import torch

        torch.cuda.empty_cache()
        self._most, self._calm = max(1, items // 2), 0

    def _fitted(self, items: int) -> None:
        """So many items did; as many as are tried now may be too few."""
        if items == self._most < self._spec.batch:
            self._calm += 1
            if self._calm >= CALM:
                self._most, self._calm = items + 1, 0

    def _call(self, work: Work, steps: list[Step], values: Inputs) -> list[tuple[Snapshot, Windows | None]]:
        """One call of the model for all steps, each value checked against the declared type, and its windows.

        No item sees what was done to another one's inputs, nor to its own in a batch that failed.
        """
        spec = self._spec
        given = [arguments(spec, step, values) for step in steps]
        if spec.batch == 1:
            results = [self._model(**arguments) for arguments in given]
        else:
            params = dict(steps[0].recipe.params)
            lists = {name: [g[name] for g in given] for name in given[0] if name not in params}
            results = list(self._model.batch(**lists, **params))
            if len(results) != len(steps):
                raise FeatureError(
                    f"feature {spec.name!r}: batch returned {len(results)} values for {len(steps)} units"
                )
        made = []
        for i in range(len(results)):
            held = [spec.returns.check(results[i])]
            results[i] = None  # what is referred to here has its arrays copied
            windows = windows_of(held[0]) if spec.finds else None
            made.append((snapshot.take(held, work.inline_bytes), windows))
        return made


class Warm(WarmModel):
    """A `WarmModel` as a Ray actor makes it: of the code of a registry, by the feature's name."""

    def __init__(self, blob: bytes, registry: str, feature: str, model: tuple[tuple[str, Any], ...]) -> None:
        super().__init__(registry_of(registry, blob).get(feature), model)


def _out_of_gpu_memory(error: Exception) -> bool:
    """Whether the GPU's memory ran out; by name, so that torch need not be there."""
    return type(error).__name__ == "OutOfMemoryError" and type(error).__module__.startswith("torch")
