"""Warm actors on a real Ray: what they lose, what they repeat, and what goes on beside them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from amber_ray.core.model.request import AssetRef, ComputeRequest

pytestmark = pytest.mark.timeout(180)


def ask(feature: str, uris: list[str], **params: Any) -> ComputeRequest:
    return ComputeRequest(
        (feature,),
        tuple(AssetRef(uri=u) for u in uris),
        params={f"{feature}.{n}": v for n, v in params.items()},
    )


def run(coroutine: Any) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 150))


def sizes(clips: list[str]) -> list[int]:
    return [Path(c).stat().st_size for c in clips]


async def until(engine: Any, counter: str, at_least: int) -> None:
    async with asyncio.timeout(60):
        while (await engine.stats())[counter] < at_least:
            await asyncio.sleep(0.01)


def test_an_actor_killed_in_mid_batch_loses_nothing_and_repeats_only_that_batch(amber, traces, many_clips):
    """The features allow no retry: who is charged with a crash that was not theirs fails."""
    clips = many_clips(6)

    async def story() -> None:
        async with amber() as engine:
            view = asyncio.create_task(engine.compute(ask("victim", clips), 90))
            await traces.until(lambda: traces.runs("victim") == 1)
            await until(engine, "warm_batches_total", 2)  # one runs, one stands behind it
            pid, *hit = traces.lines("victim")[0].split()
            os.kill(int(pid), signal.SIGKILL)
            await traces.until(lambda: traces.runs("victim") == 2)
            traces.open("victim")
            answered = await view
            assert [r.value for r in answered.results] == sizes(clips)

            batches = [line.split()[1:] for line in traces.lines("victim")]
            assert sorted(map(len, batches)) == [1, 1, 2, 2, 2]
            runs = Counter(asset for batch in batches for asset in batch)
            assert {asset for asset, times in runs.items() if times == 2} == set(hit)
            assert max(runs.values()) == 2
            assert traces.runs("victim_init") == 2
            stats = await engine.stats()
            assert (stats["warm_starts_total"], stats["warm_items_total"]) == (2.0, 2.0 + 2.0 + 6.0)

    run(story())


@pytest.mark.parametrize("deadly", [False, True])
def test_a_poison_item_of_a_batch_fails_alone(amber, traces, many_clips, deadly):
    clips = many_clips(8)

    async def story() -> None:
        async with amber(retry_seconds=0.01) as engine:
            poison = (await engine.add_asset(clips[2])).id
            view = await engine.compute(ask("picky", clips, poison=poison, deadly=deadly), 90)
            states = [r.state for r in view.results]
            assert states == ["ready", "ready", "failed"] + ["ready"] * 5
            failure = view.results[2].failure
            assert (failure.type, failure.step) == ("Quarantined" if deadly else "FeatureError", "picky")
            batches = [line.split() for line in traces.lines("picky")]
            runs = Counter(asset for batch in batches for asset in batch)
            # With the others, then alone; where that ended the process, once more for its retry.
            assert runs.pop(poison) == (3 if deadly else 2)
            assert sorted(runs.values()) == [1] * 4 + [2] * 3

    run(story())


def test_inputs_are_made_while_the_model_runs(amber, traces, many_clips):
    clips = many_clips(12)

    async def story() -> None:
        async with amber() as engine:
            view = asyncio.create_task(engine.compute(ask("on_gpu", clips), 90))
            await traces.until(lambda: traces.runs("on_gpu") == 2)  # both pretended GPUs are at work
            await traces.until(lambda: traces.runs("decoded") == 12)
            traces.open("on_gpu")
            assert [r.value for r in (await view).results] == sizes(clips)

    run(story())


def test_a_model_that_does_not_load_is_the_failure_of_its_feature(amber, clip):
    async def story() -> None:
        async with amber() as engine:
            view = await engine.compute(ask("unloadable", [clip]), 60)
            failure = view.results[0].failure
            assert (failure.kind, failure.step) == ("feature", "unloadable")
            assert "no weights in this package" in failure.message
            assert (await engine.compute(ask("size", [clip]), 60)).state == "done"

    run(story())
