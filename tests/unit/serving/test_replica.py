"""A replica that could not start says why, and nothing else."""

from __future__ import annotations

import asyncio
import threading

import pytest

from amber_ray.core.model.service import Service
from amber_ray.errors import StoreBusy
from amber_ray.serving import deployment
from amber_ray.serving.deployment import Replica
from amber_ray.settings import Settings


@pytest.mark.filterwarnings("ignore:coroutine 'Replica.__del__'")  # Python's own call of it, at its end
def test_one_that_could_not_start_is_told_to_stop_without_an_error() -> None:
    async def refused(settings: Settings) -> Service:
        raise StoreBusy("the store is another cluster's")

    async def story() -> None:
        replica = Replica.__new__(Replica)
        settings = Settings(tokens=("a" * 32,)).to_json()
        with pytest.raises(StoreBusy, match="another cluster's"):
            await replica.__init__(settings, refused)  # type: ignore[misc]  # as Serve does
        await replica.__del__()

    asyncio.run(story())


@pytest.mark.filterwarnings("ignore:coroutine 'Replica.__del__'")
def test_a_replica_is_given_the_features_as_the_server_found_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    async def engine(settings: Settings, code: bytes | None = None) -> Service:
        given.append(code)
        raise StoreBusy("that is all")

    async def story() -> None:
        monkeypatch.setattr(deployment, "_engine", engine)
        replica = Replica.__new__(Replica)
        with pytest.raises(StoreBusy):
            await replica.__init__(Settings(tokens=("a" * 32,)).to_json(), None, b"code")  # type: ignore[misc]
        await replica.__del__()

    asyncio.run(story())
    assert given == [b"code"]


def test_a_server_that_is_interrupted_while_serve_starts_does_not_wait_for_it() -> None:
    go, ended = threading.Event(), threading.Event()

    async def story() -> None:
        starting = deployment._beside(lambda: go.wait(60))
        asyncio.get_running_loop().call_soon(interrupt)
        try:
            await starting
        finally:
            ended.set()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(story())
    assert ended.is_set()
    assert not go.is_set()
    go.set()


def test_what_is_wrong_with_the_engine_is_said_though_serve_does_not_start_either(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ray import serve

    def taken(**_: object) -> None:
        raise RuntimeError("the port is taken")

    async def refused(settings: Settings) -> Service:
        raise StoreBusy("the store is another cluster's")

    monkeypatch.setattr(serve, "start", taken)
    with pytest.raises(StoreBusy, match="another cluster's"):
        asyncio.run(deployment._start_both(Settings(), refused))
    assert "the port is taken" in caplog.text


def test_serve_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray import serve

    def taken(**_: object) -> None:
        raise RuntimeError("the port is taken")

    class Started:
        async def aclose(self) -> None:
            pass

    async def start(settings: Settings) -> Started:
        return Started()

    monkeypatch.setattr(serve, "start", taken)
    with pytest.raises(RuntimeError, match="the port is taken"):
        asyncio.run(deployment._start_both(Settings(), start))
