"""Packs of assets in a directory and on an object store: the contract, and what SQL sees of them."""

from __future__ import annotations

import uuid
from pathlib import Path

import duckdb
import pytest

from amber_ray.store.assets import AssetPacks
from amber_ray.store.parquet import ValueStore
from tests.asset_contract import AssetContract, AssetTroubleContract, asset
from tests.store_contract import FLOAT, row
from tests.store_faults import Trouble, TroubledFileSystem, troubled_disk, troubled_url


class TestLocal(AssetContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "store")


class TestMemory(AssetContract):
    """A store that is no directory: what S3 does too, at no cost. See `integration/test_store_s3.py`."""

    @pytest.fixture
    def url(self) -> str:
        return f"memory://{uuid.uuid4().hex}/store"


class TestLocalInTrouble(AssetTroubleContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "store")

    @pytest.fixture
    def trouble(self, url: str, monkeypatch: pytest.MonkeyPatch) -> Trouble:
        return troubled_disk(url, monkeypatch)


class TestMemoryInTrouble(AssetTroubleContract):
    @pytest.fixture
    def url(self) -> str:
        return troubled_url(f"memory://{uuid.uuid4().hex}/store")

    @pytest.fixture
    def trouble(self, url: str) -> Trouble:
        return TroubledFileSystem.trouble


def test_sql_joins_values_with_the_paths_of_their_assets(tmp_path: Path) -> None:
    store = str(tmp_path)
    AssetPacks(store).add([asset("a"), asset("b")])
    ValueStore(store).write("score", "1", FLOAT, [row(0, 0.25, asset=asset("b").id)])
    found = duckdb.sql(
        f"select uri, value from '{store}/values/score/1/*.parquet' "
        f"join '{store}/assets/packs/*.parquet' using (asset)"
    ).fetchall()
    assert found == [("/films/b.mp4", 0.25)]
