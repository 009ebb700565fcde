"""The front desk: one request that can't be written down takes no other along."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from amber_ray.errors import StoreError
from amber_ray.fabric.shard.requests import RequestTable
from amber_ray.fabric.transport.messages import PlanPart, Submission
from amber_ray.settings import Settings


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RequestTable:
    """Of a shard whose ledger answers nothing, with a journal that has no room for request "b"."""
    actor: Any = SimpleNamespace(
        settings=Settings(store=str(tmp_path)),
        shard=0,
        registries={},
        feed=lambda event: None,
        ledger=SimpleNamespace(requests={}),
    )
    made = RequestTable(actor)
    write = made._journal.write

    def full(name: str, data: Any) -> None:
        if name.startswith("b."):
            raise StoreError("requests/b can't be written: No space left on device")
        write(name, data)

    monkeypatch.setattr(made._journal, "write", full)
    return made


def submission(id: str, record: dict[str, Any] | None) -> Submission:
    return Submission(
        id=id,
        plan="p",
        priority=2,
        tenant="default",
        deadline_seconds=None,
        refresh=False,
        load=True,
        created=1.0,
        record=record,
    )


def test_of_requests_sent_together_only_the_unwritten_one_is_refused(
    desk: RequestTable, tmp_path: Path
) -> None:
    body: dict[str, Any] = {"features": ["f"], "assets": {}}
    plans = {"p": PlanPart({}, [])}
    replies = asyncio.run(desk.submit("s", plans, [submission(id, body) for id in "abc"]))
    assert not isinstance(replies, str)
    assert [(r.id, r.unsaved) for r in replies] == [
        ("a", ""),
        ("b", "requests/b can't be written: No space left on device"),
        ("c", ""),
    ]
    assert [desk.records[id].accepted for id in "abc"] == [True, False, True]
    assert sorted(p.name for p in (tmp_path / "requests").iterdir()) == ["a.0.json", "c.0.json"]


def test_a_request_is_accepted_only_once_it_is_written(desk: RequestTable) -> None:
    body: dict[str, Any] = {"features": ["f"], "assets": {}}

    async def story() -> None:
        await desk.submit("s", {"p": PlanPart({}, [])}, [submission(id, None) for id in "ab"])
        await desk.accept({"a": body})
        with pytest.raises(StoreError, match="No space left"):
            await desk.accept({"b": body})

    asyncio.run(story())
    assert [desk.records[id].accepted for id in "ab"] == [True, False]
