"""`amber backfill` as users run it: killed in the middle and started again."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from amber_ray.settings import Settings
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


def stored(folder: Path) -> set[str]:
    """The assets whose value is in the store."""
    parts = folder.glob("store/values/held/*/*.parquet")
    return {asset for p in parts for asset in pq.read_table(p, columns=["asset"])["asset"].to_pylist()}


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
    # Sixteen are let through; what comes after them waits at its gate and is lost, as is what shares a task
    # with it: of the eight that may be under way at once, none need reach the store.
    shell.server.until(lambda: len(opened(16)) > 16 and len(stored(shell.folder)) >= 8, BOUND)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=BOUND)
    shell.server.kill_everything()
    done = stored(shell.folder)
    trace.unlink()

    again = shell.start(*words)
    shell.server.until(lambda: opened(ASSETS) is None or again.poll() is not None, BOUND)
    out, err = again.communicate(timeout=BOUND)
    assert again.returncode == 1, err
    runs = trace.read_text().split()
    assert len(runs) == len(set(runs)) == len(paths) - len(done)
    assert 8 <= len(done) <= 16
    assert not done & set(runs)
    # The first one's requests were promised when it was killed, so they go on beside: what they made before
    # the second one asked was there by then.
    told = re.fullmatch(r"24 values: (\d+) computed, (\d+) were there; 1 failed", out.splitlines()[-1])
    assert told, out
    assert int(told[1]) + int(told[2]) == 24
    assert int(told[2]) >= len(done)
    [failed] = pq.read_table(shell.folder / "backfill-failures.parquet").to_pylist()
    assert (failed["asset"], failed["feature"], failed["kind"]) == ("media/bad.png", "held", "input")


def test_ctrl_c_says_how_many_assets_had_ended(shell: Shell) -> None:
    """All are in one request, most of which waits at gates: those that ended count."""
    pictures(shell.folder / "media", 31)
    trace = shell.server.traces / "held.runs"
    seen: dict[str, float] = {}
    alone = 1.2 * Settings().pack_seconds
    """A step that takes so long has a task to itself, so it ends whatever the others wait for."""

    def opened() -> bool:
        now = time.monotonic()
        for asset in trace.read_text().split()[:12] if trace.exists() else ():
            if now - seen.setdefault(asset, now) > alone:
                shell.server.open(asset)
        return len(stored(shell.folder)) >= 4

    words = ("backfill", "held", "--assets", "media", "--features", KIT, "--store", "store")
    process = shell.start(*words)
    shell.server.until(opened, BOUND)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=BOUND)
    assert process.returncode == 130, err
    told = re.search(r"interrupted after (\d+) of 31 assets", err)
    assert told, err
    assert 4 <= int(told[1]) <= 12
    assert len(stored(shell.folder)) == int(told[1])
