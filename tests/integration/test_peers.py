"""The benchmark beside Amber's peers works, and Amber runs no function more often than it must."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(240)
def test_each_phase_runs_what_is_new_and_nothing_twice(tmp_path: Path) -> None:
    """The peers themselves are in an environment of their own, so Amber is here alone."""
    page, picture = tmp_path / "PEERS.md", tmp_path / "peers.svg"
    words = ["-m", "benchmarks.peers.run_all", "--small", "--peers", "amber", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *words, "--output", str(page), "--chart", str(picture)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = (line for line in page.read_text().splitlines() if line.startswith("| amber "))
    runs = [int(cell) for cell in row.strip("| ").split("|")[2::2]]
    # Three clips of seven functions; nothing; the changed one of each clip; a fourth clip; a fifth for eight.
    assert runs == [21, 0, 3, 7, 7], done.stdout
    assert "<svg" in picture.read_text()
