"""Somebody who waits is answered ahead of a backfill, however long: order by gates, not by the clock."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from amber_ray.client.sweep import REQUESTS_AT_ONCE, swept
from amber_ray.core.model.pace import FIRST
from amber_ray.core.model.request import AssetRef, ComputeRequest, Priority
from tests.media import flat, write_video

pytestmark = pytest.mark.timeout(240)

ASSETS, CPUS = 500, 2
UNDER_WAY = REQUESTS_AT_ONCE * FIRST
"""Assets that the backfill has asked for while none of its requests has ended."""


def test_a_request_overtakes_a_backfill_of_500_assets(
    amber: Any, traces: Any, many_clips: Any, tmp_path: Path
) -> None:
    clips = many_clips(ASSETS)
    urgent = str(write_video(tmp_path / "urgent.mp4", [flat((255, 0, 0))] * 24))

    async def story() -> None:
        async with amber() as engine:
            backfill = ComputeRequest(("held",), (), priority=Priority.BACKFILL)
            until = asyncio.get_running_loop().time() + 200
            sweep = asyncio.create_task(swept(engine, backfill, clips, lambda _: None, until, ASSETS))
            try:
                # Every CPU is taken by the backfill, and what Ray was given beyond that waits for them.
                await traces.until(lambda: traces.runs("held") >= CPUS, 60)
                while (await engine.stats())["keys_queued"] < UNDER_WAY - 10:
                    await asyncio.sleep(0.02)
                requests = (await engine.stats())["requests_running"]
                asked = ComputeRequest(("size",), (AssetRef(uri=urgent),), priority=Priority.INTERACTIVE)
                answer = asyncio.create_task(engine.compute(asked, 60))
                while (await engine.stats())["requests_running"] <= requests:
                    await asyncio.sleep(0.01)
                # Only what Ray had been handed before it came is let go: two steps that ran and two more.
                # Were the request behind the others, it would wait for ever.
                async with asyncio.timeout(60):
                    while not answer.done():
                        for asset in traces.lines("held")[: 2 * CPUS]:
                            traces.open(asset)
                        await asyncio.sleep(0.01)
                assert (await answer).results[0].value == Path(urgent).stat().st_size
                assert traces.runs("held") <= 3 * CPUS  # Of all that the backfill has asked for.
            finally:
                sweep.cancel()
                await asyncio.gather(sweep, return_exceptions=True)
                for asset in traces.lines("held"):
                    traces.open(asset)

    asyncio.run(asyncio.wait_for(story(), 220))
