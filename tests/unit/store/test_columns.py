"""Columns are as `pyarrow.array` makes them, and writing what is known of assets imports no pandas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from amber_ray.store import columns


@pytest.mark.parametrize("values", [[], [1.5], [0.0, None, -2.0], [None] * 9, [float("inf"), 1e300]])
def test_numbers_may_be_missing(values: list[float | None]) -> None:
    made = columns.numbers_or_none(values, pa.float64())
    made.validate(full=True)
    assert made.equals(pa.array(values, pa.float64()))


def test_a_new_asset_is_written_without_pandas(tmp_path: Path) -> None:
    code = """
import sys
from amber_ray.core.model.units import Asset
from amber_ray.store.assets import AssetPacks
packs = AssetPacks(sys.argv[1])
for _ in range(2):
    packs.add([Asset(f"{i:032x}", f"/{i}.png", "image/png", 9, None, (), "s") for i in range(3)])
assert [r.asset.uri for r in packs.of(f"{1:032x}")] == ["/1.png"]
assert "pandas" not in sys.modules
"""
    pytest.importorskip("pandas")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
