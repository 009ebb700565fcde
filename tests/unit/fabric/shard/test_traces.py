"""Which trace a task, a step and a write belong to, and what is linked. No Ray: ledger and spans alone."""

from __future__ import annotations

import itertools

import pytest

from amber_ray.core.ledger.ledger import LOOKED_AT
from amber_ray.core.model.trace import Ran, Span, TraceContext, Tracer
from amber_ray.core.planning.plan import Step
from amber_ray.core.state import events as ev
from amber_ray.fabric.shard.traces import Traces
from amber_ray.fabric.transport.messages import Made, StepResult
from tests.core_kit import Graph, Story, asset, broken, chain, clip, diamond

WARM = {"is_class": True}  # a warm actor's steps are never fused with others


def caller(letter: str) -> str:
    return TraceContext(letter * 32, letter * 16).text


class Traced(Story):
    """A story whose requests and tasks are traced as the shell does it."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.spans: list[Span] = []
        numbers = itertools.count(1)
        tracer = Tracer(
            self.spans.append, lambda: float(next(numbers)), lambda count: f"{next(numbers):0{count}x}"
        )
        self.traces = Traces(tracer, self.ledger, 0)

    def do(self, event: ev.Event) -> list[ev.Command]:
        commands = super().do(event)
        for command in commands:
            if isinstance(command, ev.Submit) and hasattr(self, "traces"):
                self.traces.submitted(command.task)
            if isinstance(command, ev.Finished):
                self.traces.answered(command.request, "done")
        return commands

    def come(self, id: str, trace: str, steps: dict[str, Step], *targets: str) -> None:
        self.traces.asked(id, trace, "default", 1)
        self.ask(id, steps, *targets)
        self.traces.joined(id)

    def report(self, *keys: str, failed: bool = False) -> None:
        task = self.task_of(keys[0])
        results = [
            StepResult(
                step.key,
                made=None if failed else Made(1.0, "cpu", 2.0),
                failure=broken(step) if failed else None,
                ran=Ran(1.0, 2.0, 77, "node"),
            )
            for step in task.steps
        ]
        self.traces.ended(task, results, "")
        if not failed:
            self.done(*keys)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


def test_a_task_is_of_the_request_that_brought_it_about_and_those_who_join_have_links() -> None:
    story, steps = Traced(), chain("a")
    story.come("r1", caller("a"), steps)
    story.come("r2", caller("b"), steps)
    story.come("r3", "", steps)
    story.report("a")
    [task] = story.named("task")
    first, second = story.named("wait")
    assert (first.context.trace, first.links) == ("a" * 32, ())
    assert (second.context.trace, second.links) == ("b" * 32, (task.context,))
    assert task.parent == first.context
    assert task.attributes["amber.features"] == ("a",)
    [step] = story.named("a")
    assert (step.parent, step.where) == (task.context, Ran(1.0, 2.0, 77, "node"))
    assert not story.traces.of(task.attributes["amber.task"])  # type: ignore[arg-type]


def test_whoever_waits_for_what_is_made_of_it_is_found_through_the_graph() -> None:
    story, steps = Traced(), diamond(**WARM)
    story.come("r1", "", steps, "left")
    story.come("r2", caller("b"), steps, "top")  # joins `root`, which runs for one that is not recorded
    story.report("root")
    assert story.named("task") == []
    story.report("left")
    story.report("right")
    [wait] = story.traces._waits["r2"].values()
    assert [span.parent for span in story.named("task")] == [wait.context] * 2


def test_values_are_written_in_the_trace_that_made_them() -> None:
    story = Traced()
    story.come("r1", caller("a"), chain("a"))
    graph = Graph()
    graph.add("a", unit=asset("b"))
    story.come("r2", caller("b"), graph.steps, "a@b")
    story.report("a")
    story.report("a@b")
    one, two = story.named("task")
    span = story.traces.writing("a", ["unknown", "a", "a@b"])
    assert span is not None
    story.traces.written(span, "part")
    assert (span.parent, span.links) == (one.context, (two.context,))
    assert (span.attributes["amber.part"], span.attributes["amber.values"]) == ("part", 3)
    assert story.traces.writing("a", ["a"]) is None  # it is written by now
    assert not story.traces._makers


def test_what_fails_is_told_and_is_not_written() -> None:
    story = Traced()
    story.come("r1", caller("a"), chain("a"))
    story.report("a", failed=True)
    [step] = story.named("a")
    assert step.error == "FeatureError: boom"
    assert story.traces.writing("a", ["a"]) is None
    story.traces.answered("r1", "failed")
    [wait] = story.named("wait")
    assert (wait.error, wait.attributes["amber.state"]) == ("failed", "failed")
    assert story.traces.open == []


def test_a_request_that_comes_again_is_one_and_another_caller_of_it_has_a_link() -> None:
    story, steps = Traced(), chain("a")
    story.come("r1", caller("a"), steps)
    for trace in (caller("a"), caller("b")):
        story.traces.asked("r1", trace, "default", 1)
        story.traces.joined("r1")
    story.report("a")
    first, second = story.named("wait")
    [task] = story.named("task")
    assert [span.context.trace[0] for span in (first, second)] == ["a", "b"]
    assert second.links == (first.context, task.context)


@pytest.mark.parametrize("width", [10, 3 * LOOKED_AT])
def test_no_more_keys_are_looked_at_than_a_bound_says(width: int) -> None:
    story, graph = Traced(), Graph()
    leaves = [graph.add("leaf", unit=clip(asset(), i), **WARM) for i in range(width)]
    graph.add("top", *leaves, **WARM)
    story.come("r1", caller("a"), graph.steps, "top")
    assert 0 < len(story.ledger.working_for("r1")) <= LOOKED_AT
    assert list(story.ledger.wanted_by(leaves)) == ["r1"]
