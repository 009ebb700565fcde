"""What a worker is told that its task may decode with."""

from __future__ import annotations

from typing import Any

import pytest

from amber_ray.core.state import events as ev
from amber_ray.fabric.shard.dispatch import Dispatcher
from amber_ray.fabric.transport.messages import Work
from tests.core_kit import GPU_NODE, chain
from tests.unit.fabric.shard.kit import Bench, run, turns


def work_of(needs: dict[str, float], threads: int = 1, **settings: Any) -> Work:
    found: list[Work] = []

    async def story() -> None:
        bench = Bench(GPU_NODE, **settings)
        steps = tuple(chain("f").values())
        task = ev.Task(1, steps, frozenset(), needs, steps[0].recipe, threads=threads)
        Dispatcher(bench.context).submit(task)
        await turns()
        found.append(bench.machines.tasks[1].work)

    run(story())
    return found[0]


@pytest.mark.parametrize(("cpus", "lent", "threads"), [(1.0, 1, 1), (0.5, 1, 1), (1.0, 4, 4), (3.0, 1, 3)])
def test_a_task_decodes_with_the_cpus_that_it_holds_or_was_lent(cpus: float, lent: int, threads: int) -> None:
    assert work_of({"CPU": cpus}, lent).threads == threads


def test_a_task_decodes_with_the_gpu_that_it_holds_if_settings_say_so() -> None:
    assert work_of({"CPU": 1.0, "GPU": 0.25}, gpu_decoding=True).gpu
    assert not work_of({"CPU": 1.0, "GPU": 0.25}).gpu
    assert not work_of({"CPU": 1.0}, gpu_decoding=True).gpu
