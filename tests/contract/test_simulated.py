"""The contract on the simulated engine: the real engine, shell and core under virtual time, without Ray."""

from __future__ import annotations

from typing import ClassVar

import pytest

from tests.contract import features
from tests.contract.simulated import SimulatedScene
from tests.service_contract import Scene, ServiceContract


class TestSimulated(ServiceContract):
    """One shard."""

    SHARDS: ClassVar[int] = 1
    ENGINES: ClassVar[int] = 1

    @pytest.fixture
    def scene(self, monkeypatch: pytest.MonkeyPatch) -> Scene:
        scene = SimulatedScene(shards=self.SHARDS, engines=self.ENGINES)
        monkeypatch.setattr(features, "ran", scene.ran)
        return scene


class TestSimulated2(TestSimulated):
    """Two shards and two engines."""

    SHARDS = 2
    ENGINES = 2
