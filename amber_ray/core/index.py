"""Where each stored key is: 24 bytes a key in sorted arrays, with a small dict before them for what is new.

Keys are random digests, so a key's leading 64 bits alone place it; the rest settles ties. Must not know files:
a part is a name here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

MERGE_AT = 50_000
"""Keys in the dict before they are merged into the arrays."""


class KeyIndex:
    """Keys (32 hex digits) to (part, row). A key added again is found where it was added last."""

    def __init__(self) -> None:
        self._high = np.empty(0, np.uint64)
        self._low = np.empty(0, np.uint64)
        self._part = np.empty(0, np.uint32)
        self._row = np.empty(0, np.uint32)
        self._new: dict[bytes, tuple[int, int] | None] = {}
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._gone = 0

    def __len__(self) -> int:
        self._merge()
        return len(self._high)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.find(key) is not None

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return int(self._high.nbytes + self._low.nbytes + self._part.nbytes + self._row.nbytes)

    def parts(self) -> list[str]:
        """Names of the parts that are indexed."""
        return list(self._numbers)

    def add(self, part: str, keys: np.ndarray) -> None:
        """The rows of a part: uint8[n, 16], row i is key i."""
        number = self._numbers.get(part)
        if number is None:
            number = self._numbers[part] = len(self._names)
            self._names.append(part)
        if len(keys) < 4096:
            data = np.ascontiguousarray(keys).tobytes()
            for row in range(len(keys)):
                self._new[data[16 * row : 16 * row + 16]] = number, row
            if len(self._new) >= MERGE_AT:
                self._merge()
            return
        self._merge()
        high, low = _split(keys)
        rows = np.arange(len(keys), dtype=np.uint32)
        self._join(high, low, np.full(len(keys), number, np.uint32), rows)

    def find(self, key: str) -> tuple[str, int] | None:
        """Where a key is, or None."""
        raw = bytes.fromhex(key)
        if raw in self._new:
            place = self._new[raw]
            return None if place is None else (self._names[place[0]], place[1])
        i = self._position(int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big"))
        return None if i < 0 else (self._names[self._part[i]], int(self._row[i]))

    def find_many(self, keys: Sequence[str]) -> list[tuple[str, int] | None]:
        """`find` for each."""
        return [self.find(key) for key in keys]

    def remove(self, keys: Iterable[str]) -> None:
        """Forget keys; unknown ones are fine."""
        for key in keys:
            self._new[bytes.fromhex(key)] = None
        if len(self._new) >= MERGE_AT:
            self._merge()

    def remove_part(self, part: str) -> list[str]:
        """Forget all that a part held; returns its keys."""
        number = self._numbers.pop(part, None)
        if number is None:
            return []
        self._merge()
        mask = self._part == number
        raw = np.empty((int(mask.sum()), 2), ">u8")
        raw[:, 0], raw[:, 1] = self._high[mask], self._low[mask]
        keep = ~mask
        self._high, self._low = self._high[keep], self._low[keep]
        self._part, self._row = self._part[keep], self._row[keep]
        data = raw.tobytes()
        return [data[16 * i : 16 * i + 16].hex() for i in range(len(raw))]

    def _position(self, high: int, low: int) -> int:
        i = int(np.searchsorted(self._high, np.uint64(high)))
        while i < len(self._high) and int(self._high[i]) == high:
            if int(self._low[i]) == low:
                return i
            i += 1
        return -1

    def _merge(self) -> None:
        if not self._new:
            return
        new, self._new = self._new, {}
        data = np.frombuffer(b"".join(new), np.uint8).reshape(-1, 16)
        high, low = _split(data)
        gone = np.array([p is None for p in new.values()])
        part = np.array([0 if p is None else p[0] for p in new.values()], np.uint32)
        row = np.array([0 if p is None else p[1] for p in new.values()], np.uint32)
        self._join(high, low, part, row, gone)

    def _join(
        self,
        high: np.ndarray,
        low: np.ndarray,
        part: np.ndarray,
        row: np.ndarray,
        gone: np.ndarray | None = None,
    ) -> None:
        """Append, sort, and keep of equal keys the one added last."""
        high, low = np.concatenate([self._high, high]), np.concatenate([self._low, low])
        part, row = np.concatenate([self._part, part]), np.concatenate([self._row, row])
        dead = np.zeros(len(high), bool)
        if gone is not None and len(gone):
            dead[len(self._high) :] = gone
        order = np.lexsort((np.arange(len(high)), low, high))
        high, low, part, row, dead = high[order], low[order], part[order], row[order], dead[order]
        last = np.ones(len(high), bool)
        last[:-1] = (high[:-1] != high[1:]) | (low[:-1] != low[1:])
        keep = last & ~dead
        self._high, self._low, self._part, self._row = high[keep], low[keep], part[keep], row[keep]


def _split(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.ascontiguousarray(keys).view(">u8").astype(np.uint64).reshape(-1, 2)
    return pairs[:, 0].copy(), pairs[:, 1].copy()
