"""Where each stored key is: 24 bytes a key in runs of arrays, and a small dict for new keys.

    keys      k0 k1 k2 k3 k4 ...      as they were added: 16 bytes each, never moved to be sorted
    sorted    [prefix | position]     one uint64 a key: its leading bits, and where it is in `keys`
    segments  [start, part, row]      keys from `start` on are in `row`, `row` + 1, ... of `part`

Keys are random digests, so the leading bits that a position leaves room for nearly always place a key; the
whole key settles ties. Plain integers are sorted an order of magnitude faster than keys are sorted with what
belongs to them, so a start costs little more than reading the keys. Where the rows of a part are indexed
without gaps, which is the rule, its keys cost no memory for their places.

A key is alive in one place only, so the runs may be searched in any order and their sizes add up. Runs are
merged when one is no longer much larger than the next, as in a log-structured merge tree (O'Neil et al.,
1996): adding n keys costs O(n log n) in all. Must not know files: a part is a name here.
"""

from __future__ import annotations

import bisect
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

FRESH = 4096
"""Keys in the dict before they become a run."""
RATIO = 4
"""A run has at least so many times as many keys as the next one."""
VECTOR = 32
"""Keys looked up together from here on; fewer are looked up one by one."""
_OVERLAY_BYTES = 250
"""Memory of a key in the dict: its bytes, its place, and its share of the table."""


class Batch(NamedTuple):
    """Keys, uint8[n, 16], and where they are: from `starts[i]` on in `rows[i]` and onwards of `parts[i]`."""

    keys: np.ndarray
    starts: np.ndarray
    parts: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray, parts: np.ndarray, rows: np.ndarray) -> Batch:
        """Return a batch of keys that are in a part and a row each."""
        begins = np.ones(len(keys), bool)
        begins[1:] = (parts[1:] != parts[:-1]) | (rows[1:] != rows[:-1] + 1)
        starts = np.flatnonzero(begins).astype(np.uint32)
        return cls(keys, starts, parts[starts].astype(np.uint32), rows[starts].astype(np.uint32))

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """Return batches as one, in order."""
        if len(batches) == 1:
            return batches[0]
        sizes = [len(batch.keys) for batch in batches]
        before = np.cumsum([0, *sizes[:-1]])
        starts = [batch.starts + np.uint32(n) for batch, n in zip(batches, before.tolist(), strict=True)]
        keys, parts, rows = (
            np.concatenate([batch[i] for batch in batches]) for i in (0, 2, 3)
        )  # a column at a time, to save memory
        return cls(keys, np.concatenate(starts), parts, rows)

    def places(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the parts and rows of keys."""
        segment = np.searchsorted(self.starts, positions, "right") - 1
        return self.parts[segment], self.rows[segment] + (positions - self.starts[segment])

    def take(self, which: np.ndarray) -> Batch:
        """Return the keys that a mask names."""
        positions = np.flatnonzero(which)
        return Batch.of(self.keys[positions], *self.places(positions))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(column.nbytes for column in self)


class _Run:
    """A batch that can be searched. No key is alive twice: of equal keys the last one is; `alive` counts."""

    __slots__ = ("_bits", "_dead", "_halves", "_raw", "_sorted", "_view", "alive", "batch")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        size = len(batch.keys)
        self._halves = batch.keys.view(np.uint64)
        self._bits = np.uint64(size.bit_length())
        self._sorted = (self._halves[:, 0] >> self._bits) << self._bits
        self._sorted |= np.arange(size, dtype=np.uint64)
        self._sorted.sort()
        self._view = self._sorted.data  # plain ints, one at a time
        self._raw = batch.keys.reshape(-1).data
        self._dead: np.ndarray | None = None
        self.alive = size
        self.forget(self._repeated())

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.batch.nbytes + self._sorted.nbytes + (0 if self._dead is None else self._dead.nbytes)

    def _repeated(self) -> np.ndarray:
        """Return the positions of keys that come again later. Few keys share a prefix with another."""
        same = np.flatnonzero((self._sorted[1:] ^ self._sorted[:-1]) >> self._bits == 0)
        if not len(same):
            return same
        at = self._positions(self._sorted[np.union1d(same, same + 1)])
        first, second = self._halves[at, 0], self._halves[at, 1]
        order = np.lexsort((at, second, first))
        equal = (first[order][1:] == first[order][:-1]) & (second[order][1:] == second[order][:-1])
        repeated: np.ndarray = at[order[:-1][equal]]
        return repeated

    def _positions(self, entries: np.ndarray) -> np.ndarray:
        return (entries & ((np.uint64(1) << self._bits) - np.uint64(1))).astype(np.int64)

    def find(self, halves: np.ndarray) -> np.ndarray:
        """Return the positions of keys, uint64[n, 2], -1 for those that are not here; fastest if sorted."""
        prefix = halves[:, 0] >> self._bits
        at = np.searchsorted(self._sorted, prefix << self._bits)
        found = np.full(len(halves), -1, np.int64)
        open_ = np.arange(len(halves))
        while len(open_):
            open_ = open_[at[open_] < len(self._sorted)]
            entries = self._sorted[at[open_]]
            same = entries >> self._bits == prefix[open_]
            open_, here = open_[same], self._positions(entries[same])
            hit = (self._halves[here] == halves[open_]).all(axis=1)
            if self._dead is not None:
                hit &= ~self._dead[here]
            found[open_[hit]] = here[hit]
            open_ = open_[~hit]
            at[open_] += 1  # an equal prefix: the next one may be it
        return found

    def find_one(self, raw: bytes) -> int:
        """Return the position of a key of 16 bytes, or -1."""
        bits = int(self._bits)
        prefix = int.from_bytes(raw[:8], sys.byteorder) >> bits
        i = bisect.bisect_left(self._view, prefix << bits)
        while i < len(self._view) and self._view[i] >> bits == prefix:
            at = self._view[i] & ((1 << bits) - 1)
            if self._raw[16 * at : 16 * at + 16] == raw and (self._dead is None or not self._dead[at]):
                return at
            i += 1
        return -1

    def of_part(self, number: int) -> np.ndarray:
        """Return the positions of the living keys of a part."""
        ends = np.append(self.batch.starts[1:], len(self.batch.keys))
        which = np.flatnonzero(self.batch.parts == number)
        spans = [np.arange(self.batch.starts[i], ends[i], dtype=np.int64) for i in which.tolist()]
        at: np.ndarray = np.concatenate([np.empty(0, np.int64), *spans])
        return at if self._dead is None else at[~self._dead[at]]

    def forget(self, positions: np.ndarray) -> None:
        """Mark living keys as removed; the next merge frees their memory."""
        if len(positions):
            if self._dead is None:
                self._dead = np.zeros(len(self.batch.keys), bool)
            self._dead[positions] = True
            self.alive -= len(positions)

    def living(self) -> Batch:
        """Return the keys that are not removed."""
        return self.batch if self._dead is None else self.batch.take(~self._dead)


class KeyIndex:
    """Keys (32 hex digits) to (part, row). A key added again is found where it was added last."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._waiting: list[Batch] = []
        self._new: dict[bytes, tuple[int, int]] = {}
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        self._settle()
        return len(self._new) + sum(run.alive for run in self._runs)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.find(key) is not None

    @property
    def nbytes(self) -> int:
        """Bytes of memory; those of the dict are estimated."""
        held = sum(batch.nbytes for batch in self._waiting) + sum(run.nbytes for run in self._runs)
        return held + _OVERLAY_BYTES * len(self._new)

    @property
    def runs(self) -> list[int]:
        """How many keys each sorted run has, the largest first."""
        return [run.alive for run in self._runs]

    def parts(self) -> list[str]:
        """Return the names of the parts that are indexed."""
        return list(self._numbers)

    def add(self, part: str, keys: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Index rows of a part: uint8[n, 16]; key i is in row `rows[i]`, or in row i without `rows`."""
        if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != 16:
            raise ValueError(f"keys must be uint8[n, 16], not {keys.dtype}{list(keys.shape)}")
        number = self._numbers.get(part)
        if number is None:
            number = self._numbers[part] = len(self._names)
            self._names.append(part)
        keys = np.ascontiguousarray(keys)
        # Where keys wait already, nobody has looked since: at a start, or between two parts of one spill.
        if self._waiting or len(self._new) + len(keys) > FRESH:
            self._flush()
            self._waiting.append(_batch(keys, number, rows))
            return
        self._settle()
        self._forget(keys)
        data = keys.tobytes()
        for i, row in enumerate(range(len(keys)) if rows is None else rows.tolist()):
            raw = data[16 * i : 16 * i + 16]
            self._new.pop(raw, None)  # so that the rows of a part stay side by side
            self._new[raw] = number, row

    def rows_of(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the keys that are found in a part, uint8[n, 16], and the row of each, uint32[n]."""
        number = self._numbers.get(part)
        new = [(raw, place[1]) for raw, place in self._new.items() if place[0] == number]
        keys = [np.frombuffer(b"".join(raw for raw, _ in new), np.uint8).reshape(-1, 16)]
        rows = [np.array([row for _, row in new], np.uint32)]
        if number is not None:
            self._settle()
            for run in self._runs:
                at = run.of_part(number)
                keys.append(run.batch.keys[at])
                rows.append(run.batch.places(at)[1].astype(np.uint32))
        return np.concatenate(keys), np.concatenate(rows)

    def find(self, key: str) -> tuple[str, int] | None:
        """Return the part and row of a key, or None; None too for what is not a key."""
        raw = _raw(key)
        place = self._new.get(raw)
        if place is not None:
            return self._names[place[0]], place[1]
        if self._waiting:
            self._settle()
        for run in self._runs if len(raw) == 16 else ():
            at = run.find_one(raw)
            if at >= 0:
                segment = int(np.searchsorted(run.batch.starts, at, "right")) - 1
                first = int(run.batch.rows[segment]) - int(run.batch.starts[segment])
                return self._names[run.batch.parts[segment]], first + at
        return None

    def find_many(self, keys: Sequence[str]) -> list[tuple[str, int] | None]:
        """Return what `find` returns for each key; faster than as many calls of it."""
        data = _raws(keys) if len(keys) >= VECTOR else None
        if data is None:
            return [self.find(key) for key in keys]
        self._settle()
        found: list[tuple[str, int] | None] = [None] * len(keys)
        halves = np.frombuffer(data, np.uint64).reshape(-1, 2)
        left = np.argsort(halves[:, 0])
        for run in self._runs:
            at = run.find(halves[left])
            hit = at >= 0
            parts, rows = run.batch.places(at[hit])
            for i, part, row in zip(left[hit].tolist(), parts.tolist(), rows.tolist(), strict=True):
                found[i] = self._names[part], row
            left = left[~hit]
        if self._new:
            for i in left.tolist():
                place = self._new.get(data[16 * i : 16 * i + 16])
                if place is not None:
                    found[i] = self._names[place[0]], place[1]
        return found

    def remove(self, keys: Iterable[str]) -> None:
        """Remove keys; unknown ones are fine."""
        self._settle()
        raws = [raw for raw in map(_raw, keys) if raw]
        for raw in raws:
            self._new.pop(raw, None)
        if raws:
            self._forget(np.frombuffer(b"".join(raws), np.uint8).reshape(-1, 16))

    def remove_part(self, part: str) -> list[str]:
        """Remove all keys that were found in a part; return them."""
        number = self._numbers.pop(part, None)
        if number is None:
            return []
        gone = [raw for raw, place in self._new.items() if place[0] == number]
        for raw in gone:
            del self._new[raw]
        removed = [raw.hex() for raw in gone]
        self._settle()
        for run in self._runs:
            at = run.of_part(number)
            removed.extend(hexed(run.batch.keys[at]))
            run.forget(at)
        self._compact()
        return removed

    def _forget(self, keys: np.ndarray) -> None:
        """Remove keys from the runs."""
        if not self._runs:
            return
        halves = keys.view(np.uint64)
        halves = halves[np.argsort(halves[:, 0])]
        for run in self._runs:
            at = run.find(halves)
            run.forget(np.unique(at[at >= 0]))
        self._compact()

    def _flush(self) -> None:
        """Move the keys in the dict to those that wait to become a run; they are newer than all of these."""
        if self._new:
            keys = np.frombuffer(b"".join(self._new), np.uint8).reshape(-1, 16)
            places = np.array(list(self._new.values()), np.uint32)
            self._new = {}
            self._waiting.append(Batch.of(keys, places[:, 0], places[:, 1]))

    def _settle(self) -> None:
        """Make one run of the batches that wait, however many parts were added since the last lookup."""
        if not self._waiting:
            return
        batches, self._waiting = self._waiting, []
        run = _Run(Batch.joined(batches))
        for other in self._runs:
            at = other.find(run.batch.keys.view(np.uint64))
            other.forget(np.unique(at[at >= 0]))
        self._runs.append(run)
        self._compact()

    def _compact(self) -> None:
        """Merge runs until each is much larger than the next, and rewrite those that are mostly removed."""
        runs = [r if 2 * r.alive >= len(r.batch.keys) else _Run(r.living()) for r in self._runs if r.alive]
        runs.sort(key=lambda r: r.alive, reverse=True)
        while len(runs) > 1 and runs[-2].alive < RATIO * runs[-1].alive:
            last = runs.pop()
            runs[-1] = _Run(Batch.joined([runs[-1].living(), last.living()]))
        self._runs = runs


def _raw(key: str) -> bytes:
    """Return a key's bytes; none for what is not a key."""
    try:
        raw = bytes.fromhex(key)
    except ValueError:
        return b""
    return raw if len(raw) == 16 and raw.hex() == key else b""


def _raws(keys: Sequence[str]) -> bytes | None:
    """Return the bytes of many keys; None if one of them is not a key."""
    text = "".join(keys)
    if len(text) != 32 * len(keys) or any(len(key) != 32 for key in keys):
        return None
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return None
    return data if data.hex() == text else None


def hexed(keys: np.ndarray) -> list[str]:
    """Return keys, 16 bytes each in rows of an array, as 32 hex digits each."""
    text = keys.tobytes().hex()
    return [text[i : i + 32] for i in range(0, len(text), 32)]


def _batch(keys: np.ndarray, part: int, rows: np.ndarray | None) -> Batch:
    number = np.array([part], np.uint32)
    if rows is None:
        start = np.zeros(1, np.uint32)
        return Batch(keys, start, number, start)
    return Batch.of(keys, np.repeat(number, len(keys)), rows)
