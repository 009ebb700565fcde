"""The body of a warm actor: one class feature, its model loaded once, called in batches.

One bad item never spoils a batch: when a batch raises, its items run one by one, so only the guilty one
fails. Out of memory on the GPU halves the batch and goes on with the half.
"""

from __future__ import annotations

import time
from typing import Any

from amber_ray.core.feature import FeatureSpec
from amber_ray.core.plan import Step
from amber_ray.errors import FeatureError
from amber_ray.fabric.messages import Work
from amber_ray.fabric.tasks import Inputs, Outbox, arguments, deadline, failure_of, registry_of


class Warm:
    """Runs the steps of one class feature.

    The model is made at the first call, so that a load that fails is the feature's failure and names the step
    that asked for it.
    """

    def __init__(self, blob: bytes, registry: str, feature: str, model: tuple[tuple[str, Any], ...]) -> None:
        self._spec: FeatureSpec = registry_of(registry, blob).get(feature)
        self._model_params = dict(model)
        self._model: Any = None

    def ping(self) -> bool:
        """True once the process is up."""
        return True

    def run(self, work: Work, *slots: list[Any]) -> tuple[Any, ...]:
        """Run the steps of `work`, which are all of this feature; the same returns as `tasks.run`."""
        box = Outbox(work)
        values = Inputs(work, slots)
        steps = list(work.steps)
        try:
            with deadline(work, *steps):
                if self._model is None:
                    self._model = self._spec.target(**self._model_params)
        except Exception as error:  # noqa: BLE001 - user code; the failure is the result
            for step in steps:
                box.failed(step, failure_of(step, error))
            return box.close()
        self._run(work, steps, values, box)
        return box.close()

    def _run(self, work: Work, steps: list[Step], values: Inputs, box: Outbox) -> None:
        started = time.perf_counter()
        try:
            with deadline(work, *steps):
                made = self._call(steps, values)
        except Exception as error:  # noqa: BLE001 - user code; the failure is the result
            if len(steps) == 1:
                box.failed(steps[0], failure_of(steps[0], error))
                return
            # Halve on GPU memory, else isolate: each item then answers for itself.
            middle = len(steps) // 2
            halves = (
                [steps[:middle], steps[middle:]] if _out_of_gpu_memory(error) else [[step] for step in steps]
            )
            for half in halves:
                self._run(work, half, values, box)
            return
        share = (time.perf_counter() - started) / len(steps)
        for step, value in zip(steps, made, strict=True):
            box.made(step, value, share, self._provenance())

    def _call(self, steps: list[Step], values: Inputs) -> list[Any]:
        """One call of the model for all steps, each value checked against the declared type."""
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
        return [spec.returns.check(value) for value in results]

    def _provenance(self) -> str:
        """Where it ran and, if the model says so, which weights made the value."""
        provenance = getattr(self._model, "provenance", None)
        return str(provenance()) if callable(provenance) else "warm"


def _out_of_gpu_memory(error: Exception) -> bool:
    """Whether the GPU's memory ran out; by name, so that torch need not be there."""
    found = type(error).__name__ == "OutOfMemoryError" and type(error).__module__.startswith("torch")
    if found:
        import torch

        torch.cuda.empty_cache()
    return found
