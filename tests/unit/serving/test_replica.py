"""A replica that could not start says why, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from amber_ray.core.model.service import Service
from amber_ray.errors import StoreBusy
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
