"""Built-in features of shots on a real Ray: each shot once, whoever asks, and again only where it moved."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from amber_ray.core.model.request import AssetRef, ComputeRequest
from tests.media import write_video

pytestmark = pytest.mark.timeout(240)

SHOTS, LENGTH = 200, 6
"""Of the film, and the pictures in each, 24 a second: half of the shots lie between two of `frames`."""

WEAK = 24
"""Levels of grey by which every tenth cut differs: it scores 0.6 by `content`, where the others score 1."""

CONTENT = {"transitions.detector": "content"}
VECTORS = {**CONTENT, "shot_sample_embedding.weights": "random"}


def levels() -> list[int]:
    """How bright each shot is, from 0 to 255."""
    found = [30]
    for shot in range(1, SHOTS):
        by = WEAK if shot % 10 == 0 else 70
        found.append(found[-1] + by if found[-1] + by <= 230 else found[-1] - by)
    return found


@pytest.fixture
def film(tmp_path: Path) -> str:
    shown = (np.full((48, 64, 3), level, np.uint8) for level in levels() for _ in range(LENGTH))
    return str(write_video(tmp_path / "film.mp4", shown))


def ask(film: str, params: dict[str, Any], *features: str) -> ComputeRequest:
    return ComputeRequest(features, (AssetRef(uri=film),), params=params)


def stored(store: Path, feature: str) -> dict[str, Any]:
    """When each value on disk was made, by its key; parts may be joined meanwhile."""
    found: dict[str, Any] = {}
    for part in (store / "values" / feature).rglob("*.parquet"):
        with contextlib.suppress(FileNotFoundError):
            for row in pq.read_table(part, columns=["key", "created"]).to_pylist():
                assert found.setdefault(row["key"], row["created"]) == row["created"], "made twice"
    return found


def test_two_hundred_callers_and_another_threshold(amber: Any, film: str, tmp_path: Path) -> None:
    async def story() -> None:
        store = tmp_path / "store"
        async with amber(features=(), builtins=True) as engine:

            async def computed() -> float:
                return float((await engine.stats())["computed_total"])

            asked = ask(film, VECTORS, "shot_vector")
            callers = [asyncio.create_task(engine.compute(asked, 150)) for _ in range(150)]
            async with asyncio.timeout(120):
                while True:  # One who comes when some shots are there, and not all, joins for the others.
                    seen = await engine.compute(asked, 0.05)
                    states = [r.state for r in seen.results]
                    if "ready" in states or seen.state != "running":
                        break
            assert (seen.state, "pending" in states) == ("running", True)
            callers += [asyncio.create_task(engine.compute(asked, 150)) for _ in range(50)]
            views = await asyncio.gather(*callers)
            for view in views:
                assert (view.state, len(view.results)) == ("done", SHOTS)
                assert [r.key for r in view.results] == [r.key for r in views[0].results]
            length = LENGTH / 24
            bounds = [(r.unit.start, r.unit.end) for r in views[0].results]
            assert np.allclose(bounds, [(i * length, (i + 1) * length) for i in range(SHOTS)], atol=2e-6)
            # `timeline`, `shots`; of each of 5 segments `strip` and `transitions`; of each shot four steps.
            assert await computed() == 2 + 5 * 2 + SHOTS * 4

            # Another threshold: every tenth cut is none, and only the shots on both sides of it are others.
            moved = await engine.compute(ask(film, {**VECTORS, "shots.threshold": 0.8}, "shot_vector"), 150)
            gone = SHOTS // 10 - 1
            assert (moved.state, len(moved.results)) == ("done", SHOTS - gone)
            new = {r.unit.unit_id for r in moved.results} - {r.unit.unit_id for r in views[0].results}
            assert {r.unit.unit_id for r in moved.results if not r.cached} == new
            assert len(new) == gone
            assert await computed() == 2 + 5 * 2 + SHOTS * 4 + 1 + gone * 4

            # Pictures and motion of the same shots: nothing that was found is found again.
            before = await computed()
            more = await engine.compute(ask(film, CONTENT, "shot_picture", "shot_motion", "shot_frames"), 150)
            assert more.state == "done", more
            assert await computed() == before + SHOTS * 3 + 1  # `changes` is one of them
            assert all(not r.value.peak for r in more.results if r.feature == "shot_motion")
        assert len(stored(store, "shots")) == 2  # one for each threshold
        vectors = stored(store, "shot_vector")
        assert len(vectors) == SHOTS + gone
        async with amber(features=(), builtins=True) as engine:  # and a new one finds all of it
            for threshold, count in ((0.5, SHOTS), (0.8, SHOTS - gone)):
                asked = ask(film, {**VECTORS, "shots.threshold": threshold}, "shot_vector")
                view = await engine.compute(asked, 150)
                assert (view.state, len(view.results)) == ("done", count)
            assert (await engine.stats())["computed_total"] == 0
        assert stored(store, "shot_vector") == vectors

    asyncio.run(asyncio.wait_for(story(), 230))
