"""The contract on the simulated engine: the real engine, shell and core under virtual time, without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from tests.contract import features
from tests.contract.simulated import SimulatedScene
from tests.service_contract import Scene, ServiceContract


class TestSimulated(ServiceContract):
    """One shard."""

    SHARDS: ClassVar[int] = 1
    ENGINES: ClassVar[int] = 1
    NOT_APPLICABLE: ClassVar[Mapping[str, str]] = {
        "test_a_demand_becomes_true_and_asks_for_each_asset_once": "tests/simulation/demands.py has stewards"
    }

    @pytest.fixture
    def scene(self, monkeypatch: pytest.MonkeyPatch) -> Scene:
        scene = SimulatedScene(shards=self.SHARDS, engines=self.ENGINES)
        monkeypatch.setattr(features, "ran", scene.ran)
        return scene


class TestSimulated2(TestSimulated):
    """Two shards and two engines."""

    SHARDS = 2
    ENGINES = 2
