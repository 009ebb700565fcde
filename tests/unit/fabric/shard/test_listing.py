"""A shard's index follows the store's parts, also those that can't be read for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amber_ray.core.planning.homes import Share
from amber_ray.errors import StoreError
from amber_ray.fabric.adapter.shard_ports import RayCluster, StoreParts
from amber_ray.fabric.shard.listing import Listing
from amber_ray.fabric.shard.ports import NewPart, PartKeys
from amber_ray.settings import Settings
from amber_ray.store.key_index import KeyIndex
from amber_ray.store.parquet import Part, ValueStore
from amber_ray.store.purge_log import PurgeLog
from tests.store_contract import FLOAT, row


class Store(ValueStore):
    """A real one, of two parts, whose file system is in trouble with some names."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.first, self.second = (self.write("score", "1", FLOAT, [row(n)]) for n in range(2))
        self.trouble: Callable[[str], bool] = lambda name: False

    def keys(self, part: str) -> object:  # type: ignore[override]
        if self.trouble(part):
            raise StoreError(f"part {part} could not be read: Input/output error")
        return super().keys(part)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def parts_of(store: ValueStore) -> StoreParts:
    """The real port over a real store."""
    return StoreParts(store, PurgeLog(store.url), RayCluster(), Settings(store=store.url), 0)


def listing_of(store: Store, index: KeyIndex, **changes: Any) -> Listing:
    return Listing(index, parts_of(store), **changes)


def test_all_parts_are_listed_and_no_part_twice(store: Store) -> None:
    index = KeyIndex()
    listing = listing_of(store, index)
    asyncio.run(listing.load())
    assert set(index.parts()) == {store.first.name, store.second.name}
    reads: list[str] = []
    store.trouble = lambda name: bool(reads.append(name))
    asyncio.run(listing.load())
    asyncio.run(listing.catch_up())
    assert reads == []


def test_a_part_that_can_be_read_at_the_second_try_is_in_the_index_from_the_start(store: Store) -> None:
    index = KeyIndex()
    tries = iter([True, False])
    store.trouble = lambda name: name == store.first.name and next(tries)
    listing = listing_of(store, index, pauses=[0.0])
    asyncio.run(listing.load())
    assert set(index.parts()) == {store.first.name, store.second.name}


def test_a_part_that_can_not_be_read_keeps_no_other_out_and_is_listed_once_it_can(store: Store) -> None:
    store.trouble = lambda name: name == store.first.name
    index = KeyIndex()
    listing = listing_of(store, index, pauses=[0.0])
    asyncio.run(listing.load())
    assert set(index.parts()) == {store.second.name}
    asyncio.run(listing.catch_up())
    assert set(index.parts()) == {store.second.name}
    store.trouble = lambda name: False
    asyncio.run(listing.catch_up())
    assert index.find(row(0).key) == (store.first.name, 0)


def test_a_late_part_that_has_gone_or_is_damaged_is_not_asked_for_again(store: Store) -> None:
    index = KeyIndex()
    store.trouble = lambda name: True
    listing = listing_of(store, index, pauses=[])
    asyncio.run(listing.load())
    store.trouble = lambda name: False
    store.remove_parts([store.first.name])
    Path(store.files.path(store.second.name)).write_bytes(b"no parquet")
    asyncio.run(listing.catch_up())
    assert set(index.parts()) == set()
    assert listing.late == []


def test_keys_of_a_part_that_has_gone_are_found_in_an_older_one(store: Store) -> None:
    again: Part = store.write("score", "1", FLOAT, [row(0)])
    index = KeyIndex()
    listing = listing_of(store, index)
    asyncio.run(listing.load())
    assert index.find(row(0).key) == (again.name, 0)
    store.remove_parts([again.name])
    seen: list[object] = []
    store.trouble = lambda name: bool(seen.append(index.find(row(0).key)))  # type: ignore[func-returns-value]
    asyncio.run(listing.replace([again.name]))
    assert index.find(row(0).key) == (store.first.name, 0)
    # Nobody is told meanwhile that there is no such key: it would be made again.
    assert set(seen) == {(again.name, 0)}


def test_the_newer_of_two_parts_counts_in_whatever_order_they_are_listed(store: Store) -> None:
    newer: Part = store.write("score", "1", FLOAT, [row(0)])
    index = KeyIndex()
    listing = listing_of(store, index)
    listing.add(PartKeys(newer.name, store.keys(newer.name)))
    listing.add(PartKeys(store.first.name, store.keys(store.first.name)))
    assert index.find(row(0).key) == (newer.name, 0)
    asyncio.run(listing.replace([store.second.name]))
    assert index.find(row(0).key) == (newer.name, 0)


def test_a_part_that_was_rewritten_while_the_store_was_read_is_not_listed_again(store: Store) -> None:
    index = KeyIndex()
    listing = listing_of(store, index)
    first = PartKeys(store.first.name, store.keys(store.first.name))
    listing.rewritten([store.first.name], [])
    listing.add(first)
    asyncio.run(listing.load())
    assert index.parts() == [store.second.name]


def test_each_shard_is_told_of_the_keys_of_a_new_part_that_are_its_own() -> None:
    keys = np.arange(48, dtype=np.uint8).reshape(3, 16)
    mixed = NewPart("values/f/1/part-x.parquet", keys, [np.array([0, 2]), np.array([1]), np.array([], int)])
    told = [mixed.of(Share(n, 3)) for n in range(3)]
    assert told[0] is not None
    assert told[1] is not None
    assert (told[0].keys.tolist(), told[1].keys.tolist()) == (keys[[0, 2]].tolist(), keys[[1]].tolist())
    assert [one.rows.tolist() for one in told[:2] if one and one.rows is not None] == [[0, 2], [1]]
    assert told[2] is None
    named = NewPart("values/f/1/part-x-1of3.parquet", keys)
    assert [named.of(Share(n, 3)) is not None for n in range(3)] == [False, True, False]
    unknown = NewPart("values/f/1/part-x.parquet", keys)  # nobody could find out: each takes all of it
    assert all(one is not None and one.rows is None for one in (unknown.of(Share(n, 3)) for n in range(3)))
