"""Which shard owns what. Parts say it in their names, so none of it may change."""

from __future__ import annotations

import collections
import hashlib

import numpy as np
import pytest

from amber_ray.core.model.units import Asset, Collection
from amber_ray.core.planning import homes
from amber_ray.core.planning.homes import ALL, Share, home_of, slot_of, slots_of

NAMES = [hashlib.blake2b(bytes([i, j]), digest_size=16).hexdigest() for i in range(80) for j in range(50)]


def test_homes_are_what_they_were() -> None:
    assert [slot_of(name) for name in ("", "a1", NAMES[0], "{a1,a2}")] == [0, 18467, 38903, 65031]
    found = [[home for home in range(shards) if Share(home, shards).has("a1")] for shards in (1, 2, 3, 8, 64)]
    assert found == [[0], [0], [0], [4], [41]]


@pytest.mark.parametrize("length", [0, 1, 7, 32])
def test_many_names_have_the_slots_of_each(length: int) -> None:
    names = [name[:length] for name in NAMES[:100]]
    letters = np.array([list(name.encode()) for name in names], np.uint8).reshape(100, length)
    slots = slots_of(letters)
    assert slots.tolist() == [slot_of(name) for name in names]
    assert Share(1, 3).owns(slots).tolist() == [Share(1, 3).has(name) for name in names]


def test_a_share_is_what_home_of_says() -> None:
    assets = [Asset(name, "/a.mp4", "video/mp4", 1) for name in NAMES[:50]]
    units = [*assets, Collection.of(assets[:3])]
    for shards in (1, 3, 5):
        for unit in units:
            owners = [n for n in range(shards) if Share(n, shards).has(unit.unit_id)]
            assert owners == [home_of(unit, shards)]


@pytest.mark.parametrize("shards", [2, 8, 64])
def test_shares_are_about_equal(shards: int) -> None:
    sizes = collections.Counter(homes._owners(shards).tolist())
    assert set(sizes) == set(range(shards))
    assert max(sizes.values()) < 1.15 * homes.SLOTS / shards


def test_shares_compare_as_the_sets_that_they_are() -> None:
    shares = [Share(n, shards) for shards in (1, 2, 3, 4, 6) for n in range(shards)]
    has = {share: {name for name in NAMES if share.has(name)} for share in shares}
    for one in shares:
        for other in shares:
            assert one.overlaps(other) == bool(has[one] & has[other]), (one, other)
            assert one.within(other) == (has[one] <= has[other]), (one, other)
    assert all(share.within(ALL) and share.overlaps(ALL) for share in shares)


def test_of_more_shards_an_old_one_needs_its_own_parts_alone() -> None:
    for old in range(4):
        needs = [new for new in range(5) if Share(old, 4).overlaps(Share(new, 5))]
        assert needs == [old, 4]
        assert Share(old, 5).within(Share(old, 4))


@pytest.mark.parametrize("text", ["", "0", "4of4", "5of4", "0of0", "01of4", "of4", "1of", "1of4x", "-1of4"])
def test_what_is_no_share_is_none(text: str) -> None:
    assert Share.parse(text) is None


def test_a_share_is_read_as_it_is_written() -> None:
    assert [Share.parse(str(share)) for share in (ALL, Share(2, 4), Share(63, 64))] == [
        ALL,
        Share(2, 4),
        Share(63, 64),
    ]
