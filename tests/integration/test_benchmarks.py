"""Each benchmark runs once, small, on a cluster of its own. How fast is not judged: the machine is busy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(840)
def test_every_benchmark_runs_and_is_reported(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    words = ["-m", "benchmarks.run_all", "--small", "--folder", str(tmp_path), "--output", str(page)]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=800, check=False
    )
    # 1 says that a ratio was above its limit, which on a busy machine is nobody's fault.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert page.exists(), done.stdout + done.stderr
    rows = {r[0]: r for line in page.read_text().splitlines() if (r := cells(line)) and r[0] != "benchmark"}
    names = " ".join(rows)
    for benchmark in (
        "stampede",
        "hot read",
        "get_many",
        "no-op graph",
        "spill",
        "restore",
        "cold graph",
        "warm",
        "large arrays",
        "catalogue of no-ops",
        "many short steps",
        "restore: one value",
        "start: time",
        "catalogue: code changed",
    ):
        assert benchmark in names, f"{benchmark} is not in {page.read_text()}"
    assert all(float(row[1].strip("*")) > 0 for row in rows.values())
    # This one is no matter of speed.
    assert float(rows["stampede: computations"][1].strip("*")) == 1.0


def cells(line: str) -> list[str]:
    return [c.strip() for c in line.strip("|").split("|")] if line.startswith("| ") else []
