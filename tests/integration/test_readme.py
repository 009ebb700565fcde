"""The examples of the README and of the guide run, in order, as they stand (`tests.pages`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import ROOT, Reader, blocks, with_ray


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    made.stop()


@pytest.mark.timeout(420)
def test_the_examples_work(reader: Reader) -> None:
    for block in blocks((ROOT / "README.md").read_text()):
        reader.follow(block)
    assert (reader.folder / "sheet.jpg").read_bytes().startswith(b"\xff\xd8")
    assert reader.stop() == 0


@pytest.mark.timeout(420)
def test_the_guide_leads_from_a_function_to_a_service(reader: Reader) -> None:
    """What it shows before it needs Ray is `tests/unit/testing/test_guide`'s."""
    page = blocks((ROOT / "docs/write-a-feature.md").read_text())
    for i, block in enumerate(page):
        if i >= with_ray(page) or not block.directive.startswith("run"):
            reader.follow(block)
