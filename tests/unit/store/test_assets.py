"""Packs of assets in a directory and on an object store: the contract, and what SQL sees of them."""

from __future__ import annotations

from pathlib import Path

import duckdb

from amber_ray.store.assets import AssetPacks
from amber_ray.store.parquet import ValueStore
from tests.asset_contract import AssetContract, AssetTroubleContract, asset
from tests.store_contract import FLOAT, row
from tests.store_places import InMemory, InTroubledMemory, OnDisk, OnTroubledDisk


class TestLocal(OnDisk, AssetContract): ...


class TestMemory(InMemory, AssetContract): ...


class TestLocalInTrouble(OnTroubledDisk, AssetTroubleContract): ...


class TestMemoryInTrouble(InTroubledMemory, AssetTroubleContract): ...


def test_sql_joins_values_with_the_paths_of_their_assets(tmp_path: Path) -> None:
    store = str(tmp_path)
    AssetPacks(store).add([asset("a"), asset("b")])
    ValueStore(store).write("score", "1", FLOAT, [row(0, 0.25, asset=asset("b").id)])
    found = duckdb.sql(
        f"select uri, value from '{store}/values/score/1/*.parquet' "
        f"join '{store}/assets/packs/*.parquet' using (asset)"
    ).fetchall()
    assert found == [("/films/b.mp4", 0.25)]
