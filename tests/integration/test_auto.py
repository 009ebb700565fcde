"""Programs in the cluster: eight processes ask through `connect("auto")` at once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest
import ray

pytestmark = pytest.mark.timeout(240)

PROGRAM = """
import sys
import amber_ray
with amber_ray.connect("auto") as client:
    print(client.get("gated", sys.argv[1], timeout=90))
"""


def test_eight_processes_in_the_cluster_are_one_computation(amber: Any, traces: Any, clip: str) -> None:
    address = ray.get_runtime_context().gcs_address
    environment = {**os.environ, "RAY_ADDRESS": address}

    async def story() -> list[str]:
        async with amber() as engine:
            programs = [
                subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, clip], stdout=subprocess.PIPE, text=True, env=environment
                )
                for _ in range(8)
            ]
            async with asyncio.timeout(120):
                while (await engine.stats())["requests_running"] < 8:
                    await asyncio.sleep(0.1)
            traces.open("gated")
            return [(await asyncio.to_thread(p.communicate, timeout=90))[0].strip() for p in programs]

    assert set(asyncio.run(story())) == {str(os.path.getsize(clip))}
    assert traces.runs("gated") == 1
