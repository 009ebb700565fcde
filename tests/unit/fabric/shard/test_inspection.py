"""What a shard tells of the values that it has in memory."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import LEAST, Entry, State
from amber_ray.fabric.shard import inspection
from amber_ray.fabric.transport.messages import Made, StepResult
from amber_ray.store.key_index import hexed
from tests.core_kit import NODE, Graph, asset
from tests.store_contract import key
from tests.unit.fabric.shard.kit import Bench

MICRO = 1_000_000


def test_values_of_found_windows_are_told_as_the_store_tells_them() -> None:
    graph = Graph()
    graph.add("cuts", store="memory")
    graph.each("light", "cuts", store="memory")
    bench = Bench()
    bench.feed(ev.CapacityChanged((NODE,)))
    bench.feed(ev.Requested("r", graph.steps, ("each light",)))
    windows = ((0, 2 * MICRO), (2 * MICRO, 7 * MICRO))
    while submitted := [c for c in bench.commands if isinstance(c, ev.Submit)]:
        bench.commands.clear()
        for command in submitted:
            reports = []
            for step in command.task.steps:
                found = windows if step.key == "cuts" else None
                value = StepResult(step.key, 1, Made(0.5, "cpu", 7.0), inline=b"x", windows=found)
                bench.context.keep(value, None)
                reports.append(ev.StepReport(step.key, 1, 0.5, windows=found))
            bench.feed(ev.Reported(command.task.id, reports))
    told = inspection.kept(bench.context, "light", "1", {asset().id})
    assert told.per == "segment"
    assert sorted(told.rows) == ["a@0+2000000", "a@2000000+5000000"]
    assert inspection.kept(bench.context, "cuts", "1", {asset().id}).per == "asset"


# --- which rows of a part count

PART = "values/light/1/part-000001-000.parquet"


def stored(bench: Bench, *names: str) -> dict[str, int]:
    """Have the index find these keys in a part, and tell their rows."""
    keys = np.frombuffer(bytes.fromhex("".join(map(key, names))), np.uint8).reshape(-1, 16)
    bench.context.index.add(PART, keys, np.arange(5, 5 + len(names), dtype=np.uint32))
    return {key(name): 5 + at for at, name in enumerate(names)}


def told(bench: Bench) -> dict[str, int]:
    rows = inspection.rows_of(bench.context, PART, [])
    assert rows is not None
    return dict(zip(hexed(rows.keys), rows.rows.tolist(), strict=True))


def test_the_rows_of_a_part_are_told_that_count() -> None:
    bench = Bench()
    assert told(bench) == {}
    rows = stored(bench, "a", "b", "c")
    assert told(bench) == rows
    newer = np.frombuffer(bytes.fromhex(key("b")), np.uint8).reshape(1, 16)
    bench.context.index.add(PART.replace("1-000", "2-000"), newer)
    assert told(bench) == {key("a"): 5, key("c"): 7}


def test_what_is_made_anew_is_not_told_until_that_is_written() -> None:
    graph = Graph()
    graph.add("light", unit=asset())
    (name,) = graph.steps
    step = dataclasses.replace(graph.steps[name], key=key("b"))
    bench = Bench()
    stored(bench, "a", "b")
    bench.context.refreshing.add(key("b"))
    assert told(bench) == {key("a"): 5}
    bench.context.refreshing.clear()
    bench.feed(ev.CapacityChanged((NODE,)))
    entry = Entry(step, {}, LEAST, "x", 1)
    bench.context.ledger.entries[key("b")] = entry
    for state in State:
        entry.state = state
        stays = state in (State.ABSENT, State.KEPT, State.COLD, State.RESTORING)
        assert (key("b") in told(bench)) == stays, state


def test_of_a_part_with_many_rows_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    stored(bench, "a", "b", "c")
    monkeypatch.setattr(inspection, "TOLD_ROWS", 3)
    assert len(told(bench)) == 3
    monkeypatch.setattr(inspection, "TOLD_ROWS", 2)
    assert inspection.rows_of(bench.context, PART, []) is None


def test_while_some_part_can_not_be_listed_nothing_is_told() -> None:
    bench = Bench()
    stored(bench, "a")
    assert inspection.rows_of(bench.context, PART, [PART.replace("1-000", "2-000")]) is None
