"""`amber backfill` as users run it: killed in the middle and started again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.integration.test_cli import BOUND, Shell, shell
from tests.server import KIT

__all__ = ["shell"]
pytestmark = pytest.mark.timeout(240)
ASSETS = 24


def pictures(folder: Path, count: int) -> list[Path]:
    """Small pictures, no two alike."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i:03}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(path)
    return paths


def stored(folder: Path) -> int:
    return sum(pq.read_metadata(p).num_rows for p in folder.glob("store/values/held/*/*.parquet"))


def test_a_killed_backfill_goes_on_where_it_was(shell: Shell) -> None:
    paths = pictures(shell.folder / "media", ASSETS)
    (shell.folder / "media/bad.png").write_text("this is no picture")
    words = ("backfill", "held", "--assets", "media", "--features", KIT, "--store", "store", "--window", "8")
    trace = shell.server.traces / "held.runs"

    def opened(most: int) -> list[str]:
        lines = trace.read_text().split() if trace.exists() else []
        for asset in lines[:most]:
            shell.server.open(asset)
        return lines

    first = shell.start(*words)
    # Eight are let through and reach the store; what comes after them waits at its gate and is lost.
    shell.server.until(lambda: len(opened(8)) > 8 and stored(shell.folder) >= 8, BOUND)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=BOUND)
    shell.server.kill_everything()
    done = set(trace.read_text().split()[:8])
    trace.unlink()

    again = shell.start(*words)
    shell.server.until(lambda: opened(ASSETS) is None or again.poll() is not None, BOUND)
    out, err = again.communicate(timeout=BOUND)
    assert again.returncode == 1, err
    runs = trace.read_text().split()
    assert len(runs) == len(set(runs)) == len(paths) - 8
    assert not done & set(runs)
    assert out.splitlines()[-1] == "24 values: 16 computed, 8 were there; 1 failed"
    [failed] = pq.read_table(shell.folder / "backfill-failures.parquet").to_pylist()
    assert (failed["asset"], failed["feature"], failed["kind"]) == ("media/bad.png", "held", "input")
