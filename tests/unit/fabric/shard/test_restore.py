"""Values are read back from where they are by the end of the read, and waited for while they may be there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from amber_ray.fabric.shard import restore
from amber_ray.fabric.shard.listing import Listing
from amber_ray.fabric.shard.ports import PartKeys
from amber_ray.fabric.shard.restore import Outcome, RestoreReader
from amber_ray.fabric.transport.messages import ReadReport, StepResult, Wanted
from tests.unit.fabric.shard.kit import Bench, NoParts, run

KEY = "ab" * 16
OLD, NEW = (f"values/score/1/part-00000{n}-000.parquet" for n in (1, 2))


def keys_of(part: str) -> PartKeys:
    return PartKeys(part, np.frombuffer(bytes.fromhex(KEY), np.uint8).reshape(1, 16))


class Shelf(NoParts):
    """Parts by name, each with one value, the same key's; some can't be listed now."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}
        self.late: Callable[[str], bool] = lambda name: False
        self.meanwhile: Callable[[], None] = lambda: None

    async def read_here(self, wanted: Wanted, inline_bytes: int) -> ReadReport | None:
        there = [name for name in wanted if name in self.parts]
        results = [StepResult(KEY, 1, inline=self.parts[name]) for name in there]
        self.meanwhile()
        return ReadReport(results, {}, [name for name in wanted if name not in there], {})

    async def scan(self, among: Callable[[str], bool]) -> tuple[list[PartKeys], list[str]]:
        names = [name for name in self.parts if among(name)]
        late = [name for name in names if self.late(name)]
        return [keys_of(name) for name in names if name not in late], late


def reading(shelf: Shelf) -> tuple[RestoreReader, Listing]:
    bench = Bench()
    context = dataclasses.replace(bench.context, ports=dataclasses.replace(bench.ports, parts=shelf))
    listing = Listing(context.index, shelf)
    listing.add(keys_of(OLD))
    return RestoreReader(context, listing), listing


async def read(reader: RestoreReader) -> Outcome:
    return (await reader.read([KEY]))[KEY]


def value(outcome: Outcome) -> bytes | None:
    assert isinstance(outcome, tuple)
    return outcome[0].inline


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "READ_PAUSES", (0.0, 0.0, 0.0))


def test_what_replaced_a_part_and_can_not_be_listed_at_first_is_waited_for() -> None:
    async def story() -> None:
        shelf = Shelf()
        shelf.parts[NEW] = b"new"
        tries: Sequence[bool] = [True, True, False]
        left = iter(tries)
        shelf.late = lambda name: next(left)
        reader, _ = reading(shelf)
        assert value(await read(reader)) == b"new"

    run(story())


def test_what_can_not_be_listed_for_long_counts_as_missing() -> None:
    async def story() -> None:
        shelf = Shelf()
        shelf.parts[NEW] = b"new"
        shelf.late = lambda name: True
        reader, listing = reading(shelf)
        assert await read(reader) is None
        assert listing.late == [NEW]

    run(story())


def test_what_is_in_no_part_is_missing_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "READ_PAUSES", (1000.0,))

    async def story() -> None:
        reader, _ = reading(Shelf())
        assert await read(reader) is None

    run(story())


def test_a_read_that_a_newer_write_overtook_brings_the_newer_value() -> None:
    async def story() -> None:
        shelf = Shelf()
        shelf.parts[OLD] = b"old"
        reader, listing = reading(shelf)

        def written() -> None:
            shelf.parts[NEW] = b"new"
            listing.add(keys_of(NEW))

        shelf.meanwhile = written
        assert value(await read(reader)) == b"new"

    run(story())


def test_a_read_during_which_the_value_was_purged_brings_nothing() -> None:
    async def story() -> None:
        shelf = Shelf()
        shelf.parts[OLD] = b"old"
        reader, listing = reading(shelf)
        shelf.meanwhile = lambda: listing.rewritten([OLD], [])
        assert await read(reader) is None

    run(story())
