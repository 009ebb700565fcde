"""Versions derived from code: a changed helper changes the features that reach it, and no others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from amber_ray.core.model.request import AssetRef, ComputeRequest

pytestmark = pytest.mark.timeout(180)

MODULE = """
from amber_ray import Asset, feature
from tests.integration.feature_kit import ran

def helper(n: int) -> int:
    return n + {offset}

@feature
def expensive(asset: Asset) -> int:
    ran("expensive")
    return asset.bytes

@feature
def through_helper(expensive: int) -> int:
    ran("through_helper")
    return helper(expensive)

@feature
def beside(expensive: int) -> int:
    ran("beside")
    return expensive * 2

@feature(version="{version}")
def leaf(expensive: int) -> int:
    ran("leaf")
    return expensive
"""
NAMES = ("expensive", "through_helper", "beside", "leaf")


def test_only_features_that_reach_a_changed_helper_run_again(
    amber: Any, traces: Any, clip: str, tmp_path: Path
) -> None:
    async def answers(stem: str, offset: int, version: str) -> list[int]:
        path = tmp_path / stem / "code_changes_kit.py"
        path.parent.mkdir()
        path.write_text(MODULE.format(offset=offset, version=version))
        async with amber(features=(str(path),)) as engine:
            view = await engine.compute(ComputeRequest(NAMES, (AssetRef(uri=clip),)), 60)
            assert view.state == "done", view
            return [r.value for r in view.results]

    def counts() -> list[int]:
        return [traces.runs(name) for name in NAMES]

    first = asyncio.run(answers("first", 1, "1"))
    assert counts() == [1, 1, 1, 1]
    assert asyncio.run(answers("same", 1, "1")) == first
    assert counts() == [1, 1, 1, 1]
    changed = asyncio.run(answers("helper", 2, "1"))
    assert counts() == [1, 2, 1, 1]
    assert changed[1] == first[1] + 1
    asyncio.run(answers("leaf", 2, "2"))
    assert counts() == [1, 2, 1, 2]
