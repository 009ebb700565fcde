"""Packs of assets in a directory and on an object store: the contract, and what SQL sees of them."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from amber_ray.store.assets import AssetPacks
from amber_ray.store.files import Files
from amber_ray.store.parquet import ValueStore
from tests.asset_contract import AssetContract, AssetTroubleContract, asset
from tests.store_contract import FLOAT, row
from tests.store_places import InMemory, InTroubledMemory, OnDisk, OnTroubledDisk


class TestLocal(OnDisk, AssetContract): ...


class TestMemory(InMemory, AssetContract): ...


class TestLocalInTrouble(OnTroubledDisk, AssetTroubleContract): ...


class TestMemoryInTrouble(InTroubledMemory, AssetTroubleContract): ...


def test_what_was_looked_up_before_the_first_question_is_not_listed_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AssetPacks(str(tmp_path)).add([asset("a")])
    packs = AssetPacks(str(tmp_path))
    packs.look()
    listed: list[str] = []
    sizes = Files.sizes

    def noted(files: Files, pattern: re.Pattern[str], folder: str, depth: int) -> dict[str, int]:
        listed.append(folder)
        return sizes(files, pattern, folder, depth)

    monkeypatch.setattr(Files, "sizes", noted)
    found = packs.at(asset("a").uri, asset("a").signature)
    assert (found is not None and found.asset, listed) == (asset("a"), [])
    AssetPacks(str(tmp_path)).add([asset("b")])
    found = packs.at(asset("b").uri, asset("b").signature)  # what is written later is found all the same
    assert (found is not None and found.asset, bool(listed)) == (asset("b"), True)


def test_sql_joins_values_with_the_paths_of_their_assets(tmp_path: Path) -> None:
    store = str(tmp_path)
    AssetPacks(store).add([asset("a"), asset("b")])
    ValueStore(store).write("score", "1", FLOAT, [row(0, 0.25, asset=asset("b").id)])
    found = duckdb.sql(
        f"select uri, value from '{store}/values/score/1/*.parquet' "
        f"join '{store}/assets/packs/*.parquet' using (asset)"
    ).fetchall()
    assert found == [("/films/b.mp4", 0.25)]
