"""The contract on Amber itself, on a Ray of its own: the engine, HTTP over it, and the gateway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from tests.contract.scenes import GatewayScene, HttpScene, LoopScene, RayScene
from tests.service_contract import Scene, ServiceContract

pytestmark = pytest.mark.timeout(180)


class OnRay(ServiceContract):
    """One Amber for all cases of a class: what they ask has no asset and no tenant in common."""

    SHARDS: ClassVar[int] = 1
    REPLICAS: ClassVar[int] = 1

    @classmethod
    def over(cls, inner: RayScene) -> LoopScene:
        """The way in."""
        return inner

    @pytest.fixture(scope="class")
    @classmethod
    def place(
        cls, ray_cluster: None, traces: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[LoopScene]:
        folder = tmp_path_factory.mktemp(cls.__name__)
        inner = RayScene(folder, traces, shards=cls.SHARDS, replicas=cls.REPLICAS)
        with cls.over(inner).up() as scene:
            yield scene

    @pytest.fixture
    def scene(self, place: LoopScene) -> Iterator[Scene]:
        with place.case() as scene:
            yield scene


class TestEngine(OnRay):
    """One shard."""


class TestEngine2(OnRay):
    """Two shards."""

    SHARDS = 2


class TestHttp2(OnRay):
    """Two shards and two replicas behind HTTP."""

    SHARDS = 2
    REPLICAS = 2
    NOT_APPLICABLE: ClassVar[Mapping[str, str]] = {
        "test_what_another_tenant_has_uploaded_is_not_there": "the tenant is the token's",
        "test_an_event_of_another_tenant_is_of_what_no_demand_covers": "the tenant is the token's",
    }

    @classmethod
    def over(cls, inner: RayScene) -> LoopScene:
        return HttpScene(inner)


class TestGateway(OnRay):
    """What `ray://` addresses give."""

    @classmethod
    def over(cls, inner: RayScene) -> LoopScene:
        return GatewayScene(inner)
