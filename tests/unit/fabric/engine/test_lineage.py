"""What a value was made from, where shards know of some of it only, and where there is too much of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from amber_ray.core.model.provenance import ValueInfo
from amber_ray.errors import TooLarge, UnknownKey
from amber_ray.fabric.engine import lineage
from amber_ray.fabric.engine.lineage import LineageReader
from amber_ray.settings import Settings
from tests.core_kit import key_of
from tests.unit.fabric.engine.kit import REGISTRY, MemoryAssets


class Shard:
    """Knows of some values; notes which keys it was asked for together."""

    def __init__(self, *values: ValueInfo) -> None:
        self.values = {one.key: one for one in values}
        self.asked: list[Sequence[str]] = []

    async def call(self, method: str, keys: Sequence[str]) -> list[ValueInfo]:
        assert method == "provenance"
        self.asked.append(keys)
        return [self.values[key] for key in keys if key in self.values]


def value(name: str, *inputs: str, version: str = "of another code", **more: Any) -> ValueInfo:
    feature = next(iter(REGISTRY)).name
    its = tuple(map(key_of, inputs))
    return ValueInfo(key_of(name), feature, version, key_of("film"), inputs=its, stored=True, **more)


def read(key: str, *shards: Shard) -> Any:
    reader = LineageReader(Settings(), REGISTRY, shards, MemoryAssets())  # type: ignore[arg-type]
    return asyncio.run(reader.read(key_of(key)))


def test_each_value_is_told_once_and_asked_for_once_level_by_level() -> None:
    one = Shard(value("top", "left", "right"), value("left", "bottom"))
    two = Shard(value("right", "bottom", "left"), value("bottom"))
    found = read("top", one, two)
    assert [node.key for node in found.nodes] == list(map(key_of, ("top", "left", "right", "bottom")))
    assert found.unknown == ()
    assert sorted(key for keys in one.asked for key in keys) == sorted(node.key for node in found.nodes)
    assert [len(keys) for keys in one.asked] == [1, 2, 1]


def test_inputs_of_a_version_that_is_not_made_any_more_are_unknown() -> None:
    found = read("top", Shard(value("top", "gone", "there"), value("there")))
    assert [node.key for node in found.nodes] == [key_of("top"), key_of("there")]
    assert found.unknown == (key_of("gone"),)


def test_a_value_that_was_made_otherwise_is_not_told_as_today_would_make_it() -> None:
    spec = next(iter(REGISTRY))
    found = read("top", Shard(value("top", "gone", version=spec.version)))
    assert found.unknown == (key_of("gone"),)


def test_what_is_not_there_or_has_too_much_behind_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownKey, match=key_of("nothing")):
        read("nothing", Shard(), Shard())
    monkeypatch.setattr(lineage, "MOST", 3)
    with pytest.raises(TooLarge, match="more than 3 values are behind"):
        read("top", Shard(value("top", "a", "b", "c")))
