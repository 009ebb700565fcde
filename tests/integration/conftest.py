"""One Ray of its own for the integration tests of this run, and one Amber in it at a time."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from amber_ray.settings import Settings
from tests import sharing
from tests.media import flat, write_video

KIT = str(Path(__file__).parent / "feature_kit.py")
CLIP = Path(__file__).parents[2] / "amber_ray" / "samples" / "big-buck-bunny-30s.mp4"


class Traces:
    """What the kit's features left on disk, and the gates they wait at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def runs(self, name: str) -> int:
        path = self.folder / f"{name}.runs"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def lines(self, name: str) -> list[str]:
        path = self.folder / f"{name}.runs"
        return path.read_text().splitlines() if path.exists() else []

    def open(self, gate: str) -> None:
        (self.folder / f"{gate}.open").touch()

    def clear(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()

    async def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait for something that another process will do; bounded."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def traces_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


@pytest.fixture
def ray_cluster(traces_folder: Path) -> Any:
    """Two CPUs and two pretended GPUs, in this machine, until the last test of this folder has ended."""
    from amber_ray.fabric.adapter import cluster

    if not cluster.running():
        os.environ["AMBER_TEST_DIR"] = str(traces_folder)
        for name, value in cluster.environment().items():
            os.environ.setdefault(name, value)
        cluster.start_local(Settings(memory_bytes=256 << 20), num_cpus=2, num_gpus=2)
    return cluster


@pytest.hookimpl(trylast=True)  # what the test itself has started has ended
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if sharing.leaves(item, nextitem):
        pytest_sessionfinish()


def pytest_sessionfinish() -> None:
    cluster = sys.modules.get("amber_ray.fabric.adapter.cluster")  # otherwise none has been started
    if cluster is not None:
        cluster.stop()


@pytest.fixture
def traces(traces_folder: Path) -> Traces:
    found = Traces(traces_folder)
    found.clear()
    return found


Start = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
def amber(ray_cluster: Any, traces: Traces, tmp_path: Path) -> Start:
    """`async with amber(...) as engine:` an Amber with a store of its own; settings as keywords."""
    from amber_ray.fabric.adapter.engine_start import start_engine

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Any]:
        base: dict[str, Any] = {
            "store": str(tmp_path / "store"),
            "media_roots": (str(tmp_path), str(CLIP.parent)),
            "features": (KIT,),
            "builtins": False,
            "segment_seconds": 10.0,
            "grace_seconds": 0.2,
            "spill_seconds": 0.05,
        }
        settings = Settings(**{**base, **changes})
        engine = await start_engine(settings)
        try:
            yield engine
        finally:
            await engine.aclose()
            await ray_cluster.close_shards(settings)

    return start


@pytest.fixture
def clip() -> str:
    """The shipped clip: 30 s, so three or four segments of 10 s."""
    return str(CLIP)


@pytest.fixture(scope="session")
def short_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of grey."""
    path = tmp_path_factory.mktemp("media") / "short.mp4"
    return write_video(path, [flat((128, 128, 128))] * 24)


@pytest.fixture
def many_clips(tmp_path: Path) -> Callable[[int], list[str]]:
    """Distinct one-second clips."""

    def make(count: int) -> list[str]:
        folder = tmp_path / "clips"
        folder.mkdir(exist_ok=True)
        first = write_video(folder / "0.mp4", [flat((128, 128, 128))] * 24)
        paths = [first]
        for i in range(1, count):
            path = folder / f"{i}.mp4"
            # A trailing free box: other bytes, so another asset; the same pictures, so as quick to make.
            shutil.copy(first, path)
            with open(path, "ab") as file:
                file.write((12).to_bytes(4, "big") + b"free" + i.to_bytes(4, "big"))
            paths.append(path)
        return [str(p) for p in paths]

    return make


Await = Awaitable[Any]
