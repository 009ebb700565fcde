"""The index of stored keys against what a dict would say, at sizes where runs are merged."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest

from amber_ray.store import key_index as module
from amber_ray.store.key_index import KeyIndex


def key(n: int) -> str:
    return hashlib.blake2b(str(n).encode(), digest_size=16).hexdigest()


def packed(keys: list[str]) -> np.ndarray:
    return np.frombuffer(bytes.fromhex("".join(keys)), np.uint8).reshape(-1, 16)


def keys(first: int, last: int) -> list[str]:
    return [key(n) for n in range(first, last)]


def test_a_key_is_found_where_it_was_added_last() -> None:
    index = KeyIndex()
    index.add("old", packed(keys(0, 3)))
    index.add("new", packed([key(1)]))
    assert index.find(key(0)) == ("old", 0)
    assert index.find(key(1)) == ("new", 0)
    assert index.find(key(3)) is None
    assert (key(2) in index, key(3) in index) == (True, False)
    assert len(index) == 3


def test_of_equal_keys_of_one_part_the_last_row_counts() -> None:
    for many in (1, module.FRESH):
        index = KeyIndex()
        index.add("part", packed([key(0), *keys(1, many), key(0)]))
        assert index.find(key(0)) == ("part", many)
        assert len(index) == many


@pytest.mark.parametrize("size", [1, 100, 3000, module.FRESH + 1, 5 * module.FRESH])
def test_many_parts_of_any_size(size: int) -> None:
    index = KeyIndex()
    parts = {f"part-{i}": keys(i * size, (i + 1) * size) for i in range(7)}
    for name, held in parts.items():
        index.add(name, packed(held))
    assert len(index) == 7 * size
    asked = [k for held in parts.values() for k in held]
    places = [(name, row) for name, held in parts.items() for row in range(len(held))]
    assert index.find_many(asked) == places
    assert [index.find(k) for k in asked[::97]] == places[::97]
    assert index.find_many([*keys(10**6, 10**6 + 50), asked[-1]]) == [None] * 50 + [places[-1]]
    again = packed(asked[:: max(1, size // 50)])
    index.add("again", again)
    assert len(index) == 7 * size
    assert index.find(asked[0]) == ("again", 0)


@pytest.mark.parametrize("size", [10, 2 * module.FRESH])
def test_removed_keys_are_gone_until_they_are_added_again(size: int) -> None:
    index = KeyIndex()
    index.add("a", packed(keys(0, size)))
    index.remove([*keys(0, size // 2), key(0), key(10**9), "no key"])
    assert len(index) == size - size // 2
    assert index.find_many(keys(0, size)) == [None] * (size // 2) + [("a", n) for n in range(size // 2, size)]
    index.add("b", packed([key(0)]))
    assert index.find(key(0)) == ("b", 0)
    assert len(index) == size - size // 2 + 1


@pytest.mark.parametrize("size", [10, 2 * module.FRESH])
def test_a_part_goes_with_the_keys_that_are_still_its_own(size: int) -> None:
    index = KeyIndex()
    index.add("a", packed(keys(0, size)))
    index.add("b", packed(keys(size - 1, 2 * size)))
    assert sorted(index.remove_part("a")) == sorted(keys(0, size - 1))
    assert index.parts() == ["b"]
    assert len(index) == size + 1
    assert index.find_many(keys(0, size)) == [None] * (size - 1) + [("b", 0)]
    assert index.remove_part("a") == []
    index.add("a", packed([key(0)]))
    assert index.find(key(0)) == ("a", 0)
    assert index.parts() == ["b", "a"]


def test_a_key_of_a_newer_part_does_not_come_back_from_an_older_one() -> None:
    for size in (2, 2 * module.FRESH):
        index = KeyIndex()
        index.add("old", packed(keys(0, size)))
        index.add("new", packed([key(0)]))
        index.remove_part("new")
        assert index.find(key(0)) is None
        assert len(index) == size - 1


def test_keys_that_share_a_half_are_told_apart() -> None:
    index = KeyIndex()
    twins = [f"{0:016x}{n:016x}" for n in range(module.FRESH + 40)]
    index.add("a", packed(twins[:-40]))
    index.add("b", packed(twins[-40:]))
    assert index.find_many(twins[:40]) == [("a", n) for n in range(40)]
    assert index.find_many(twins[-40:]) == [("b", n) for n in range(40)]
    assert index.find(twins[7]) == ("a", 7)
    index.remove([twins[7]])
    assert index.find(twins[7]) is None
    assert index.find(twins[8]) == ("a", 8)
    assert index.find("0" * 31 + "g") is None


@pytest.mark.parametrize(
    "word", ["", "ab", "x" * 32, "A" * 32, "é" * 32, "0" * 31 + " ", " " * 32 + "0" * 32]
)
def test_what_is_no_key_is_nowhere(word: str) -> None:
    index = KeyIndex()
    index.add("a", packed(["a" * 32, "0" * 32]))
    assert index.find(word) is None
    assert word not in index
    assert index.find_many([*["0" * 32] * 40, word]) == [("a", 1)] * 40 + [None]
    index.remove([word])
    assert len(index) == 2


def test_keys_of_another_shape_are_refused() -> None:
    index = KeyIndex()
    for wrong in (np.zeros((2, 15), np.uint8), np.zeros(16, np.uint8), np.zeros((2, 2), np.uint64)):
        with pytest.raises(ValueError, match=r"keys must be uint8\[n, 16\]"):
            index.add("a", wrong)


def test_rows_of_a_strided_array_are_taken_as_they_are_seen() -> None:
    index = KeyIndex()
    index.add("a", packed(keys(0, 10))[::3])
    assert index.find_many(keys(0, 10)[::3]) == [("a", row) for row in range(4)]
    index.add("b", packed(keys(0, 3 * module.FRESH))[::2])
    assert index.find(key(2)) == ("b", 1)


def test_memory_is_24_bytes_a_key_once_sorted() -> None:
    index = KeyIndex()
    for i in range(20):
        index.add(f"part-{i}", packed(keys(i * 5000, (i + 1) * 5000)))
    assert len(index) == 100_000
    assert 24 * 100_000 < index.nbytes <= 24 * 100_000 + 12 * 20
    index.add("small", packed([key(-1)]))
    assert 24 * 100_000 < index.nbytes < 25 * 100_000


def test_rows_with_gaps_between_them_take_no_more_than_twelve_bytes_each() -> None:
    index = KeyIndex()
    rows = np.arange(20_000) * 3
    index.add("a", packed(keys(0, 20_000)), rows)
    assert index.find_many(keys(0, 20_000)) == [("a", row) for row in rows.tolist()]
    assert [index.find(key(n)) for n in (0, 7, 19_999)] == [("a", 0), ("a", 21), ("a", 3 * 19_999)]
    assert index.nbytes == 36 * 20_000


def test_what_is_gone_does_not_stay_in_memory() -> None:
    index = KeyIndex()
    index.add("a", packed(keys(0, 20_000)))
    index.remove(keys(0, 15_000))
    assert (len(index), index.nbytes) == (5000, 24 * 5000 + 12)
    index.remove_part("a")
    assert (len(index), index.nbytes) == (0, 0)


def test_runs_stay_few_however_the_keys_come() -> None:
    index = KeyIndex()
    for i in range(60):
        index.add(f"part-{i}", packed(keys(i * 1500, (i + 1) * 1500)))
        assert index.find(key(i * 1500)) == (f"part-{i}", 0)
    assert len(index.runs) <= 4
    assert all(a >= module.RATIO * b for a, b in itertools.pairwise(index.runs))
