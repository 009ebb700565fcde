"""Old and new on a real server: the examples of docs/versions.md, what they print, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.pages import ROOT, Reader, blocks

pytestmark = pytest.mark.timeout(420)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    made.stop()


def amber(reader: Reader, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "amber_ray.cli", *words],
        cwd=reader.folder,
        env=reader.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_page_on_versions_tells_what_happens(reader: Reader) -> None:
    page = blocks((ROOT / "docs/versions.md").read_text())
    told = [reader.follow(block) for block in page]
    first, second = told[1].split()
    assert first != second
    # Both versions in one call, and the old one as it was made with either parameter.
    table, python = told[4], told[5]
    assert "darkest@1" in table
    assert "read it" in table or "use it" in table
    new, named, old, other = python.split()
    assert new == named != old
    assert (old, other) == (first, second)
    assert "version 2 is made now" in told[6]
    assert "darkest 1 → 2: 1 values compared" in told[6]
    dry, _, done = told[7].partition("nothing was deleted: say it again with --yes")
    assert "darkest" in dry
    assert "darkest@1: 2 values deleted" in done
    assert "0.2" in told[8]
    assert "uri" in told[8]

    url = f"http://127.0.0.1:{reader.port}"
    body = {"features": ["darkest@1"], "assets": [{"uri": str(reader.folder / "clip.mp4")}]}
    answer = httpx.post(f"{url}/v1/compute", json=body, headers={"Prefer": "wait=20"}, trust_env=False)
    assert answer.status_code == 410
    assert "nothing is stored of darkest@1, and its code is no longer here" in answer.json()["detail"]
    versions = httpx.get(f"{url}/v1/versions", trust_env=False).json()["versions"]
    assert ("darkest", "2") in [(v["feature"], v["version"]) for v in versions]
    assert ("darkest", "1") not in [(v["feature"], v["version"]) for v in versions]
    assert json.loads(amber(reader, "stale", "--server", url, "--format", "json").stdout) == []

    # The store is the server's: whoever would delete beside it is told so, and nothing is lost.
    stale = amber(reader, "stale", "--store", "amber-store", "--format", "json")
    assert {one["feature"] for one in json.loads(stale.stdout)} == {"darkest", "darkness"}
    refused = amber(reader, "prune", "--store", "amber-store", "--feature", "darkness", "--yes")
    assert refused.returncode == 3
    assert "amber-store" in refused.stderr
    assert sorted((reader.folder / "amber-store/values/darkness").rglob("*.parquet"))
