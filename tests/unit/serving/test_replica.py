"""A replica that could not start says why, and nothing else."""

from __future__ import annotations

import asyncio

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
