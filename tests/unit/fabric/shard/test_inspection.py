"""What a shard tells of the values that it has in memory."""

from __future__ import annotations

from amber_ray.core.state import events as ev
from amber_ray.fabric.shard import inspection
from amber_ray.fabric.transport.messages import Made, StepResult
from tests.core_kit import NODE, Graph, asset
from tests.unit.fabric.shard.kit import Bench

MICRO = 1_000_000


def test_values_of_found_windows_are_told_as_the_store_tells_them() -> None:
    graph = Graph()
    graph.add("cuts", store="memory")
    graph.each("light", "cuts", store="memory")
    bench = Bench()
    bench.feed(ev.CapacityChanged((NODE,)))
    bench.feed(ev.Requested("r", graph.steps, ("each light",)))
    windows = ((0, 2 * MICRO), (2 * MICRO, 7 * MICRO))
    while submitted := [c for c in bench.commands if isinstance(c, ev.Submit)]:
        bench.commands.clear()
        for command in submitted:
            reports = []
            for step in command.task.steps:
                found = windows if step.key == "cuts" else None
                value = StepResult(step.key, 1, Made(0.5, "cpu", 7.0), inline=b"x", windows=found)
                bench.context.keep(value, None)
                reports.append(ev.StepReport(step.key, 1, 0.5, windows=found))
            bench.feed(ev.Reported(command.task.id, reports))
    told = inspection.kept(bench.context, "light", "1", {asset().id})
    assert told.per == "segment"
    assert sorted(told.rows) == ["a@0+2000000", "a@2000000+5000000"]
    assert inspection.kept(bench.context, "cuts", "1", {asset().id}).per == "asset"
