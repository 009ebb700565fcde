"""Which shard owns which values: names of units to slots, and slots to shards.

    asset's id, or a collection's text ──CRC-32──→ one of 65,536 slots ──rendezvous hashing──→ shard i of n

A segment follows its asset, so the whole graph of an asset is in one shard. With one shard more, only the
slots that become its own move. (Thaler and Ravishankar, "A name-based mapping scheme for rendezvous", 1996.)

Slots make sets of units that can be compared: whether the values that shard 2 of 4 has written may be shard
5's of 8 is a question about two sets of slots. Parts of values say whose they are (`store.part`), so what is
here must not change.
"""

from __future__ import annotations

import functools
import re
import zlib
from typing import TYPE_CHECKING, NamedTuple

from amber_ray.core.model.units import Asset, Collection, Unit

if TYPE_CHECKING:
    import numpy as np

SLOTS = 1 << 16
"""So many that 64 shards get equal shares, but for a tenth."""
_TEXT = re.compile(r"(0|[1-9]\d{0,5})of([1-9]\d{0,5})")


def slot_of(name: str) -> int:
    """Return the slot of a name: of an asset's id, or of a collection's text."""
    return zlib.crc32(name.encode()) % SLOTS


def slots_of(names: np.ndarray) -> np.ndarray:
    """Return what `slot_of` returns for names of one length: their bytes, uint8[n, length]; int64[n]."""
    import numpy as np

    count, length = names.shape
    alone = _crc_alone(length)
    found = np.full(count, zlib.crc32(bytes(length)) % SLOTS, np.uint16)
    for at in range(length):
        found ^= alone[at][names[:, at]]
    return found.astype(np.int64)


@functools.lru_cache(maxsize=16)
def _crc_alone(length: int) -> np.ndarray:
    """Return what each byte at each place changes in the CRC of so many zeros, modulo `SLOTS`.

    uint16[length, 256]. A CRC is affine over GF(2): what two bytes change together is the XOR of what each
    changes alone. So many names are hashed by a look-up for each place, without a step that waits for the
    one before it.
    """
    import numpy as np

    zeros = zlib.crc32(bytes(length))
    bits = np.array(
        [
            [zlib.crc32(bytes(at) + bytes([1 << bit]) + bytes(length - at - 1)) ^ zeros for bit in range(8)]
            for at in range(length)
        ],
        np.uint32,
    ).reshape(length, 8)
    table = np.zeros((length, 256), np.uint32)
    for bit in range(8):
        table ^= np.where(np.arange(256) >> bit & 1, bits[:, bit, None], np.uint32(0))
    return (table % SLOTS).astype(np.uint16)


@functools.lru_cache(maxsize=16)
def _owners(shards: int) -> np.ndarray:
    """Return the shard that owns each slot: the one whose hash with the slot is the largest."""
    import numpy as np  # where there is one shard, nobody needs it

    slots = np.arange(SLOTS, dtype=np.uint64)
    owners = np.zeros(SLOTS, np.uint32)
    largest = np.zeros(SLOTS, np.uint64)
    for shard in range(shards):
        hashes = _mixed(slots << np.uint64(32) | np.uint64(shard))
        owners[hashes > largest] = shard
        largest = np.maximum(largest, hashes)
    return owners


def _mixed(values: np.ndarray) -> np.ndarray:
    """Return well mixed 64 bits of each value: SplitMix64 (Steele, Lea and Flood, 2014)."""
    import numpy as np

    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def home_of(unit: Unit, shards: int) -> int:
    """Return the shard that owns a unit."""
    if shards == 1:
        return 0
    name = unit.unit_id if isinstance(unit, Asset | Collection) else unit.asset.id
    return int(_owners(shards)[slot_of(name)])


class Share(NamedTuple):
    """What shard number `shard` of `shards` owns."""

    shard: int
    shards: int

    def __str__(self) -> str:
        return f"{self.shard}of{self.shards}"

    @classmethod
    def parse(cls, text: str) -> Share | None:
        """Return what `str` made; None for what it did not make."""
        match = _TEXT.fullmatch(text)
        share = cls(int(match[1]), int(match[2])) if match else None
        return share if share is not None and share.shard < share.shards else None

    def has(self, name: str) -> bool:
        """Return whether a name is in it."""
        return self.shards == 1 or bool(_owners(self.shards)[slot_of(name)] == self.shard)

    def owns(self, slots: np.ndarray) -> np.ndarray:
        """Return which slots are in it."""
        mine: np.ndarray = _owners(self.shards)[slots] == self.shard
        return mine

    def within(self, other: Share) -> bool:
        """Return whether all of it is in the other."""
        return other.shards == 1 or self == other or _related(self, other)[0]

    def overlaps(self, other: Share) -> bool:
        """Return whether they have a slot in common."""
        if self.shards == other.shards:
            return self.shard == other.shard
        return _related(self, other)[1]


ALL = Share(0, 1)


@functools.lru_cache(maxsize=1 << 14)
def _related(one: Share, other: Share) -> tuple[bool, bool]:
    """Return whether all slots of a share are in another one, and whether any is."""
    both = _owners(other.shards)[_owners(one.shards) == one.shard] == other.shard
    return bool(both.all()), bool(both.any())
