"""What is told of journaled requests: each record is read once, and again when it is another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from amber_ray.fabric.adapter.shard_ports import FileJournal
from amber_ray.store.journal import Journal


def test_a_record_is_read_once_and_again_when_it_has_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paper = Journal(str(tmp_path))
    journal = FileJournal(paper)
    read: list[str] = []

    def tell(data: Mapping[str, Any]) -> str:
        read.append(data["id"])
        return f"{data['id']} {data['state']}"

    def told() -> list[str]:
        read.clear()
        return sorted(asyncio.run(journal.told(lambda name: not name.endswith(".1"), tell)))

    for name in ("a.0", "b.0", "b.1"):
        paper.write(name, {"id": name, "state": "running", "created": 1.0})
    assert told() == ["a.0 running", "b.0 running"]
    assert sorted(read) == ["a.0", "b.0"]
    paper.write("a.0", {"id": "a.0", "state": "done", "created": 1.0})
    assert told() == ["a.0 done", "b.0 running"]
    assert read == ["a.0"]
    (tmp_path / "requests" / "c.0.json").write_text("no JSON")
    paper.remove("b.0")
    with caplog.at_level(logging.ERROR):
        assert told() == ["a.0 done"]
    assert read == []
    assert "c.0" in caplog.text
