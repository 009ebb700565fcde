"""What docs/write-a-feature.md shows before it needs Ray works as it stands; the rest is `test_readme`'s."""

from __future__ import annotations

from pathlib import Path

from tests.pages import ROOT, Reader, blocks, with_ray


def test_the_guide_works_without_ray(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    page = blocks((ROOT / "docs/write-a-feature.md").read_text())
    ran = [reader.follow(block) for block in page[: with_ray(page)]]
    assert len(list(filter(None, ran))) >= 2
