"""What a shard sends along when it asks another one for steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from amber_ray.core.model.units import Collection
from amber_ray.core.planning.plan import Step
from amber_ray.core.state import events as ev
from amber_ray.fabric.shard import forwarding
from tests.core_kit import NODE, Graph, asset
from tests.unit.fabric.shard.kit import Bench


class Watched(Mapping[str, Step]):
    """A plan that counts how often one of its steps is looked at."""

    def __init__(self, steps: Mapping[str, Step]) -> None:
        self.steps = steps
        self.looks = 0

    def __getitem__(self, key: str) -> Step:
        self.looks += 1
        return self.steps[key]

    def __iter__(self) -> Iterator[str]:
        for key in self.steps:
            self.looks += 1
            yield key

    def __len__(self) -> int:
        return len(self.steps)


def test_a_question_holds_the_graph_under_its_steps_and_looks_at_nothing_else() -> None:
    graph = Graph()
    assets = [asset(f"a{i:03}") for i in range(200)]
    below = []
    for one in assets:
        graph.add("probe", unit=one, home=1)
        below.append(graph.add("light", f"probe@{one.id}", unit=one, home=1))
        graph.add("other", f"light@{one.id}", unit=one, home=1)
    graph.add("match", *below, unit=Collection.of(assets), key="match")
    bench, plan = Bench(), Watched(graph.steps)
    bench.feed(ev.CapacityChanged((NODE,)))
    bench.feed(ev.Requested("r", plan, ("match",)))
    [task] = [c.task for c in bench.commands if isinstance(c, ev.Submit)]
    plan.looks = 0
    part = forwarding.part_of(bench.context, task)
    assert part.steps.keys() == {*below, *(f"probe@{one.id}" for one in assets)}
    order = list(part.steps)
    for key, step in part.steps.items():
        assert all(order.index(need) < order.index(key) for need in step.needs)
    assert [t.key for t in part.targets] == [s.key for s in task.steps]
    assert plan.looks <= 4 * len(part.steps)
