"""Spans of one shard: of requests while they wait, of tasks, of the steps in them, and of writing.

A task belongs to the trace of the request that waits for it longest, of those that are recorded. Others that
wait for it too, or join it while it runs, get a link from their own wait to it. Steps are measured by
workers, and their reports bring that along, so that no worker has to reach a collector. Where no request of a
shard is recorded, each call returns at once.

Must not know: who asks, what tasks do, where spans go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.model.trace import Attribute, Span, TraceContext, Tracer
from amber_ray.core.state import events as ev
from amber_ray.fabric.transport.messages import StepResult

UNWRITTEN = 20_000
"""Values that were made in a trace and are not written yet, of which it is known; then the oldest is not."""
NAMED = 20
"""Features that a span names at most."""


class Traces:
    """What of a shard's doings is recorded now."""

    def __init__(self, tracer: Tracer, ledger: Ledger, shard: int) -> None:
        self._tracer = tracer
        self._ledger = ledger
        self._shard = shard
        self._waits: dict[str, dict[str, Span]] = {}  # by request, and by the text that a caller came with
        self._tasks: dict[int, Span] = {}
        self._makers: dict[str, TraceContext] = {}  # by key, of values that are to be written

    @property
    def open(self) -> list[Span]:
        """Spans that have not ended."""
        return [*(span for waits in self._waits.values() for span in waits.values()), *self._tasks.values()]

    # --- requests

    def asked(self, id: str, parent: str, tenant: str, targets: int) -> None:
        """A request is about to reach the ledger, or one that is known is asked again by somebody else."""
        if not parent or parent in self._waits.get(id, ()):
            return
        span = self._tracer.start(parent, "wait")
        if span is not None:
            span.attributes |= {
                "amber.request": id,
                "amber.shard": self._shard,
                "amber.tenant": tenant,
                "amber.targets": targets,
            }
            waits = self._waits.setdefault(id, {})
            for other in waits.values():
                span.link(other.context)
            waits[parent] = span

    def joined(self, id: str) -> None:
        """A request has reached the ledger: link it with what runs for it already."""
        waits = self._waits.get(id)
        if not waits or not self._tasks:
            return
        for number in self._ledger.working_for(id):
            if (task := self._tasks.get(number)) is not None:
                _link(waits.values(), task)

    def answered(self, id: str, state: str) -> None:
        """A request is over, or nobody follows it any more."""
        for span in self._waits.pop(id, {}).values():
            span.attributes["amber.state"] = state
            self._tracer.end(span, "failed" if state == "failed" else "")

    # --- tasks

    def submitted(self, task: ev.Task) -> None:
        """A task begins."""
        if not self._waits:
            return
        waiting = [
            span
            for id in dict.fromkeys(self._ledger.wanted_by(step.key for step in task.steps))
            for span in self._waits.get(id, {}).values()
        ]
        if not waiting:
            return
        first, *others = waiting
        span = self._tracer.start(first.text, "task", "internal" if task.home is None else "client")
        if span is None:
            return
        span.attributes |= {
            "amber.task": task.id,
            "amber.shard": self._shard,
            "amber.features": _some({step.recipe.feature for step in task.steps}),
            "amber.steps": len(task.steps),
        }
        if task.home is not None:
            span.attributes["amber.home"] = task.home
        _link(others, span)
        self._tasks[task.id] = span

    def of(self, task: int) -> str:
        """What is told of a task's span to whoever runs it; empty if there is none."""
        span = self._tasks.get(task)
        return "" if span is None else span.text

    def ended(self, task: ev.Task, results: Sequence[StepResult], error: str) -> None:
        """A task has ended, with its steps' results or without."""
        span = self._tasks.pop(task.id, None)
        if span is None:
            return
        steps = {step.key: step for step in task.steps}
        for result in results:
            step = steps[result.key]
            if result.ran is not None:
                about: dict[str, Attribute] = {
                    "amber.feature": step.recipe.feature,
                    "amber.version": step.recipe.version,
                    "amber.key": result.key,
                    "amber.unit": step.unit_id,
                }
                why = "" if result.failure is None else f"{result.failure.type}: {result.failure.message}"
                self._tracer.measured(span, step.recipe.feature, result.ran, about, why)
            if result.failure is None and step.recipe.store != "never" and task.home is None:
                self._makers[result.key] = span.context
        while len(self._makers) > UNWRITTEN:
            del self._makers[next(iter(self._makers))]
        self._tracer.end(span, error)

    # --- writing

    def writing(self, feature: str, keys: Sequence[str]) -> Span | None:
        """Values begin to be written: in the trace that the first of them was made in, linked with others."""
        if not self._makers:
            return None
        makers = dict.fromkeys(made for key in keys if (made := self._makers.pop(key, None)) is not None)
        if not makers:
            return None
        first, *others = makers
        span = self._tracer.start(first.text, "write")
        if span is not None:
            span.attributes |= {
                "amber.feature": feature,
                "amber.values": len(keys),
                "amber.shard": self._shard,
            }
            for other in others:
                span.link(other)
        return span

    def written(self, span: Span | None, part: str, error: str = "") -> None:
        """They are written, or were not."""
        if span is not None:
            if part:
                span.attributes["amber.part"] = part
            self._tracer.end(span, error)


def _link(waits: Iterable[Span], task: Span) -> None:
    for wait in waits:
        if task.parent != wait.context:
            wait.link(task.context)


def _some(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names)[:NAMED])
