"""Where each stored key is: 24 bytes a key in sorted runs of arrays, and a small dict for new keys.

Keys are random digests, so a key's leading 64 bits nearly always place it; the rest settles ties. A key is
alive in one place only, so the runs may be searched in any order and their sizes add up. Runs are merged when
one is no longer much larger than the next, as in a log-structured merge tree (O'Neil et al., 1996): adding n
keys costs O(n log n) in all. Must not know files: a part is a name here.
"""

from __future__ import annotations

import bisect
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
_REMOVED = np.uint32(0xFFFFFFFF)


class Batch(NamedTuple):
    """Keys in two halves, and where each is: four arrays of the same length."""

    high: np.ndarray
    low: np.ndarray
    part: np.ndarray
    row: np.ndarray

    def take(self, which: np.ndarray) -> Batch:
        """Return the rows that a mask or a list of positions names."""
        return Batch(*(column[which] for column in self))


class _Run:
    """A batch sorted by key, no key twice; `alive` counts those whose part is not `_REMOVED`."""

    __slots__ = ("_high", "_low", "alive", "batch")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._high, self._low = batch.high.data, batch.low.data  # plain ints, one at a time
        self.alive = len(batch.high)

    def find(self, high: np.ndarray, low: np.ndarray) -> np.ndarray:
        """Return the positions of many keys, -1 for those that are not here; fastest if they are sorted."""
        mine = self.batch
        at = np.searchsorted(mine.high, high)
        found = np.full(len(high), -1, np.int64)
        open_ = np.arange(len(high))
        while len(open_):
            here = at[open_]
            same = here < len(mine.high)
            same[same] = mine.high[here[same]] == high[open_[same]]
            open_, here = open_[same], here[same]
            hit = mine.low[here] == low[open_]
            found[open_[hit]] = here[hit]
            open_ = open_[~hit]
            at[open_] += 1  # equal leading halves: the next one may be it
        alive = found >= 0
        alive[alive] = mine.part[found[alive]] != _REMOVED
        found[~alive] = -1
        return found

    def find_one(self, high: int, low: int) -> int:
        """Return the position of a key, or -1."""
        i = bisect.bisect_left(self._high, high)
        while i < len(self._high) and self._high[i] == high:
            if self._low[i] == low:
                return i if self.batch.part[i] != _REMOVED else -1
            i += 1
        return -1

    def forget(self, positions: np.ndarray) -> None:
        """Mark keys as removed; the next merge frees their memory."""
        self.batch.part[positions] = _REMOVED
        self.alive -= len(positions)

    def living(self) -> Batch:
        """Return the rows that are not removed."""
        size = len(self.batch.high)
        return self.batch if self.alive == size else self.batch.take(self.batch.part != _REMOVED)


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
        batches = [*self._waiting, *(run.batch for run in self._runs)]
        return sum(column.nbytes for b in batches for column in b) + _OVERLAY_BYTES * len(self._new)

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
        if len(self._new) + len(keys) > FRESH:
            self._flush()
            self._waiting.append(_batch(keys, number, np.arange(len(keys)) if rows is None else rows))
            return
        self._settle()
        self._forget(keys)
        data = keys.tobytes()
        for i, row in enumerate(range(len(keys)) if rows is None else rows.tolist()):
            self._new[data[16 * i : 16 * i + 16]] = number, row

    def find(self, key: str) -> tuple[str, int] | None:
        """Return the part and row of a key, or None; None too for what is not a key."""
        raw = _raw(key)
        place = self._new.get(raw)
        if place is not None:
            return self._names[place[0]], place[1]
        if self._waiting:
            self._settle()
        high, low = int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big")
        for run in self._runs if len(raw) == 16 else ():
            i = run.find_one(high, low)
            if i >= 0:
                return self._names[run.batch.part[i]], int(run.batch.row[i])
        return None

    def find_many(self, keys: Sequence[str]) -> list[tuple[str, int] | None]:
        """Return what `find` returns for each key; faster than as many calls of it."""
        data = _raws(keys) if len(keys) >= VECTOR else None
        if data is None:
            return [self.find(key) for key in keys]
        self._settle()
        found: list[tuple[str, int] | None] = [None] * len(keys)
        high, low = _halves(np.frombuffer(data, np.uint8).reshape(-1, 16))
        left = np.argsort(high)
        for run in self._runs:
            at = run.find(high[left], low[left])
            hit = at >= 0
            parts, rows = run.batch.part[at[hit]].tolist(), run.batch.row[at[hit]].tolist()
            for i, part, row in zip(left[hit].tolist(), parts, rows, strict=True):
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
            at = np.flatnonzero(run.batch.part == number)
            removed.extend(_hex(run.batch.high[at], run.batch.low[at]))
            run.forget(at)
        self._compact()
        return removed

    def _forget(self, keys: np.ndarray) -> None:
        """Remove keys from the runs."""
        if not self._runs:
            return
        high, low = _halves(keys)
        order = np.argsort(high)
        high, low = high[order], low[order]
        for run in self._runs:
            at = run.find(high, low)
            run.forget(np.unique(at[at >= 0]))
        self._compact()

    def _flush(self) -> None:
        """Move the keys in the dict to those that wait to become a run; they are newer than all of these."""
        if self._new:
            keys = np.frombuffer(b"".join(self._new), np.uint8).reshape(-1, 16)
            places = np.array(list(self._new.values()), np.uint32)
            self._new = {}
            self._waiting.append(_batch(keys, places[:, 0], places[:, 1]))

    def _settle(self) -> None:
        """Make one run of the batches that wait, however many parts were added since the last lookup."""
        if not self._waiting:
            return
        batches, self._waiting = self._waiting, []
        run = _Run(_sorted(batches))
        for other in self._runs:
            at = other.find(run.batch.high, run.batch.low)
            other.forget(at[at >= 0])
        self._runs.append(run)
        self._compact()

    def _compact(self) -> None:
        """Merge runs until each is much larger than the next, and rewrite those that are mostly removed."""
        runs = [r if 2 * r.alive >= len(r.batch.high) else _Run(r.living()) for r in self._runs if r.alive]
        runs.sort(key=lambda r: r.alive, reverse=True)
        while len(runs) > 1 and runs[-2].alive < RATIO * runs[-1].alive:
            last = runs.pop()
            runs[-1] = _Run(_sorted([runs[-1].living(), last.living()]))
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


def _halves(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = keys.view(">u8").reshape(-1, 2)
    return pairs[:, 0].astype(np.uint64), pairs[:, 1].astype(np.uint64)


def hexed(keys: np.ndarray) -> list[str]:
    """Return keys, 16 bytes each in rows of an array, as 32 hex digits each."""
    text = keys.tobytes().hex()
    return [text[i : i + 32] for i in range(0, len(text), 32)]


def _hex(high: np.ndarray, low: np.ndarray) -> list[str]:
    raw = np.empty((len(high), 2), ">u8")
    raw[:, 0], raw[:, 1] = high, low
    return hexed(raw)


def _batch(keys: np.ndarray, part: int | np.ndarray, row: np.ndarray) -> Batch:
    return Batch(*_halves(keys), np.full(len(keys), part, np.uint32), row.astype(np.uint32))


def _sorted(batches: Sequence[Batch]) -> Batch:
    """Return all batches as one, sorted; of equal keys the last is kept. Goes by columns, to save memory."""
    columns = list(zip(*batches, strict=True))
    high = np.concatenate(columns[0])
    order = np.argsort(high)
    high = high[order]
    same = high[1:] == high[:-1]
    if same.any():
        # Equal leading halves are rare but for keys that were added twice: the other half settles them.
        low = np.concatenate(columns[1])
        order = np.lexsort((np.arange(len(low)), low, np.concatenate(columns[0])))
        low = low[order]
        last = np.ones(len(order), bool)
        last[:-1] = ~same | (low[1:] != low[:-1])
        order, high = order[last], high[last]
    return Batch(high, *(np.concatenate(column)[order] for column in columns[1:]))
