"""What a shard tells of its queue, of the cluster, of batches, and of the store's size."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from amber_ray.core.model.stats import added_up, cumulated, family, series, split
from amber_ray.core.state import events as ev
from amber_ray.errors import StoreError
from amber_ray.fabric.shard import inspection
from amber_ray.fabric.shard.actor_pools import ActorPools
from amber_ray.fabric.shard.requests import RequestTable
from amber_ray.fabric.shard.store_size import FRESH_SECONDS, StoreSize
from tests.core_kit import Graph, asset
from tests.unit.fabric.shard.kit import Bench, run, turns

NODE = {"CPU": 2.0, "GPU": 1.0, "node:__internal_head__": 1.0, "node:10.0.0.1": 1.0}


def stats_of(bench: Bench) -> Mapping[str, float]:
    context = bench.context
    pools = ActorPools(context.cluster, context.clock.now, 60.0)
    return cumulated(inspection.stats(context, RequestTable(context), pools))


def test_the_queue_tells_who_waits_longest_and_how_long_those_waited_who_began() -> None:
    bench, graph = Bench(lookahead=0, pack_seconds=0.0), Graph()
    keys = [graph.add("a", unit=asset(name), is_class=True) for name in "abcdef"]
    bench.feed(ev.CapacityChanged([NODE]))
    bench.feed(ev.Requested("r", graph.steps, keys, priority=1, tenant="t"))
    [first, *_] = [command for command in bench.commands if isinstance(command, ev.Submit)]
    bench.clock.time += 100.0
    told = stats_of(bench)
    queued = told[series("queued", **{"class": "ingest"})]
    assert queued > 0
    assert told[series("queue_oldest_seconds", **{"class": "ingest"})] == 100
    assert told[series("queue_oldest_seconds", **{"class": "interactive"})] == 0
    turn, runs = ({"class": "ingest", "feature": "a", "state": s, "tenant": "t"} for s in ("turn", "running"))
    assert (told[series("on_the_way", **turn)], told[series("on_the_way", **runs)]) == (queued, 6 - queued)
    assert told[series("on_the_way_oldest_seconds", **turn)] == 100
    of_two = added_up([told, told])
    assert of_two[series("on_the_way", **turn)] == 2 * queued
    assert of_two[series("on_the_way_oldest_seconds", **turn)] == 100  # an age is no sum
    assert of_two[series("queue_oldest_seconds", **{"class": "ingest"})] == 100
    assert told[series("node_resources", node="10.0.0.1", resource="GPU")] == 1
    assert told[series("resources_held", resource="CPU")] == 2
    assert told[series("cluster_resources", resource="GPU")] == 1
    began = 6 - queued
    assert told[series("wait_seconds_count", **{"class": "ingest"})] == began
    bench.feed(ev.Reported(first.task.id, [ev.StepReport(step.key, 8) for step in first.task.steps]))
    told = stats_of(bench)
    more = told[series("wait_seconds_count", **{"class": "ingest"})] - began
    assert more > 0
    assert told[series("wait_seconds_sum", **{"class": "ingest"})] == 100 * more
    for one in told:
        assert family(split(one)[0])[1] is not None, one


def test_the_stores_size_is_measured_when_somebody_asks_and_not_each_time() -> None:
    async def story() -> None:
        bench = Bench()
        calls: list[int] = []
        broken = False

        async def size() -> tuple[int, int]:
            calls.append(1)
            await asyncio.sleep(0)
            if broken:
                raise StoreError("away")
            return len(calls), 1000 * len(calls)

        parts: Any = bench.context.parts
        parts.size = size
        made = StoreSize(bench.context)
        one, two = await asyncio.gather(made.stats(), made.stats())
        assert one == two == {series("held_bytes", tier="store"): 1000.0, "store_parts": 1.0}
        bench.clock.time += FRESH_SECONDS / 2
        assert await made.stats() == one
        bench.clock.time += FRESH_SECONDS
        assert (await made.stats())["store_parts"] == 2
        broken = True
        bench.clock.time += 2 * FRESH_SECONDS
        assert (await made.stats())["store_parts"] == 2  # as it was last known
        await turns()
        assert len(calls) == 3

    run(story())
