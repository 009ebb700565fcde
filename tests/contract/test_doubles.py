"""The contract on every double of `Service` in the tests, and over HTTP on the one that all are made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.scenes import HttpScene, LoopScene, MemoryScene
from tests.integration.serving_kit import Told
from tests.memory_service import Held, MemoryService
from tests.service_contract import Scene, ServiceContract
from tests.unit.cli.test_backfill import Slow
from tests.unit.cli.test_export import StoredService
from tests.unit.gated_service import GatedService

ONE = "it is one object, which shares its memory with no other"
BY_TOKEN = {
    "test_what_another_tenant_has_uploaded_is_not_there": "the tenant is the token's",
    "test_an_event_of_another_tenant_is_of_what_no_demand_covers": "the tenant is the token's",
}
SEES_TO_NOTHING = {"test_a_demand_becomes_true_and_asks_for_each_asset_once": "nobody sees to demands in it"}
NO_STORE = "what it has ends with its process"
BY_ANOTHER = {
    "test_another_engine_tells_each_value_under_its_own_asset": ONE,
    "test_the_same_id_at_two_engines_at_once_is_one_request": ONE,
    "test_an_engine_that_closes_leaves_what_was_promised": ONE,
    "test_another_engine_tells_the_events": ONE,
    "test_another_engine_cancels_too": ONE,
    "test_each_engine_tells_what_all_have_counted": ONE,
    "test_another_engine_tells_of_windows_that_were_found": ONE,
    "test_a_refreshed_value_is_seen_by_every_engine": ONE,
    "test_a_purge_is_seen_by_every_engine": ONE,
}
OVER_A_RESTART = {
    "test_a_refreshed_value_outlives_a_restart": NO_STORE,
    "test_what_was_purged_stays_purged_over_a_restart": NO_STORE,
    "test_stored_values_that_are_read_one_by_one_are_those_that_count": NO_STORE,
    "test_stored_values_of_an_asset_are_listed_after_a_restart": NO_STORE,
    "test_accepted_requests_are_listed_after_a_restart": NO_STORE,
    "test_a_restart_loses_nothing_and_repeats_nothing": NO_STORE,
    "test_an_answer_that_is_read_back_is_a_hit_of_the_store": NO_STORE,
    "test_shards_that_die_lose_no_caller_and_no_stored_value": NO_STORE,
    "test_after_a_restart_nothing_is_said_to_run_for_what_is_stored": NO_STORE,
    "test_a_restart_in_the_midst_of_windows_repeats_no_finder": NO_STORE,
    "test_shards_that_die_in_the_midst_of_windows_repeat_no_finder": NO_STORE,
}


class TestMemory(ServiceContract):
    NOT_APPLICABLE = BY_ANOTHER | OVER_A_RESTART | SEES_TO_NOTHING

    @pytest.fixture
    def scene(self) -> Iterator[Scene]:
        with MemoryScene(MemoryService).up() as scene, scene.case():
            yield scene


class GatedScene(MemoryScene):
    """Media are put in their places."""

    _double: GatedService

    def _put(self, uri: str) -> str:
        name = uri.rpartition("/")[2]
        self._double.put(uri, name, None if name.endswith(".png") else 25.0)
        return uri

    def content(self, uri: str) -> bytes:
        return uri.encode()


class TestGated(ServiceContract):
    NOT_APPLICABLE = BY_ANOTHER | OVER_A_RESTART | SEES_TO_NOTHING

    @pytest.fixture
    def scene(self) -> Iterator[Scene]:
        with GatedScene(GatedService).up() as scene, scene.case():
            yield scene


class TestStored(ServiceContract):
    NOT_APPLICABLE = BY_ANOTHER | OVER_A_RESTART | SEES_TO_NOTHING

    @pytest.fixture
    def scene(self) -> Iterator[Scene]:
        with MemoryScene(StoredService).up() as scene, scene.case():
            yield scene


class TestTold(ServiceContract):
    NOT_APPLICABLE = BY_ANOTHER | OVER_A_RESTART | SEES_TO_NOTHING

    @pytest.fixture
    def scene(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Scene]:
        monkeypatch.setenv("KIT_LOG", str(tmp_path / "log"))
        with MemoryScene(Told).up() as scene, scene.case():
            yield scene


class Opened(Slow):
    """Its requests' gates are opened as they come, so that the contract's own gates hold its steps alone."""

    def admitted(self, held: Held) -> None:
        super().admitted(held)
        self.gates[-1].set()


class TestSlow(ServiceContract):
    NOT_APPLICABLE = BY_ANOTHER | OVER_A_RESTART | SEES_TO_NOTHING

    @pytest.fixture
    def scene(self) -> Iterator[Scene]:
        with GatedScene(Opened).up() as scene, scene.case():
            yield scene


class TestHttpMemory(ServiceContract):
    NOT_APPLICABLE = OVER_A_RESTART | SEES_TO_NOTHING | BY_TOKEN

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls) -> Iterator[LoopScene]:
        with HttpScene(MemoryScene(MemoryService)).up() as scene:
            yield scene

    @pytest.fixture
    def scene(self, place: LoopScene) -> Iterator[Scene]:
        with place.case() as scene:
            yield scene
