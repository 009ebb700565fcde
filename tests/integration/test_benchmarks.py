"""Each benchmark runs once, small, on a cluster of its own. How fast is not judged: the machine is busy."""

from __future__ import annotations

import math
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(840)
def test_every_benchmark_runs_and_is_reported(tmp_path: Path) -> None:
    page, picture = tmp_path / "RESULTS.md", tmp_path / "benchmarks.svg"
    words = ["-m", "benchmarks.run_all", "--small", "--folder", str(tmp_path)]
    words += ["--output", str(page), "--chart", str(picture)]
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
        "telemetry: hot compute",
        "get_many",
        "no-op graph",
        "spill",
        "restore",
        "cold graph",
        "warm",
        "calls: a slow service",
        "calls: a rate",
        "large arrays",
        "export: with a server",
        "catalogue of no-ops",
        "found units: a catalogue",
        "found units: growth",
        "found units: decoding",
        "many short steps",
        "restore: one value",
        "start: time",
        "small assets: files",
        "decoding: H.264",
        "decoding beside FFmpeg: AV1",
        "decoding: loudness",
        "catalogue: code changed",
        "planning",
        "scaling: 2 nodes, 4 shards",
        "growth: answers to waiting callers",
    ):
        assert benchmark in names, f"{benchmark} is not in {page.read_text()}"
    for name, row in rows.items():
        number = float(row[1].strip("*"))
        # An exponent is the slope through a few small sizes here, and what costs nothing may slope downwards.
        assert math.isfinite(number) if name.startswith("growth: ") else number > 0, f"{name}: {row}"
    drawn = xml.etree.ElementTree.parse(picture).getroot()
    written = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert all(name in written and row[1].strip("*") in written for name, row in rows.items())
    # This one is no matter of speed.
    assert float(rows["stampede: computations"][1].strip("*")) == 1.0


def cells(line: str) -> list[str]:
    return [c.strip() for c in line.strip("|").split("|")] if line.startswith("| ") else []
