"""What outlives a process: Parquet parts and the journal of accepted requests. Shared by all shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


class Full(Exception):
    """The disk is full: nothing can be written."""


@dataclass(slots=True)
class Part:
    """One file. `damaged`: its bytes are wrong, and nobody knows until it is read."""

    name: str
    values: dict[str, str]
    damaged: bool = False


@dataclass(slots=True)
class Paper:
    """A journaled request: what is needed to plan it again."""

    id: str
    shard: int
    targets: tuple[str, ...]
    tenant: str
    priority: int
    running: bool = True


class Storage:
    """Parts by name, in the order they were published, and papers by id."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.journal: dict[str, Paper] = {}
        self.full = False
        self._copies: Counter[str] = Counter()
        self._number = 0

    # --- parts

    def publish(self, folder: str, values: Mapping[str, str]) -> Part:
        """Write a part and make it visible, all at once. Raises `Full`."""
        if self.full:
            raise Full
        self._number += 1
        part = self.parts[f"{folder}/part-{self._number:06}"] = Part(
            f"{folder}/part-{self._number:06}", dict(values)
        )
        self._copies.update(part.values.keys())
        return part

    def remove(self, name: str) -> None:
        """A part is deleted, or moved into quarantine."""
        part = self.parts.pop(name, None)
        if part is not None and not part.damaged:
            self._copies.subtract(part.values.keys())

    def damage(self, part: Part) -> None:
        """Its bytes go wrong."""
        if not part.damaged:
            part.damaged = True
            self._copies.subtract(part.values.keys())

    def holds(self, key: str) -> bool:
        """Whether a part that can be read has the key."""
        return self._copies[key] > 0

    def purge(self, keys: Sequence[str]) -> None:
        """Rewrite every part that has one of the keys; the names stay, as the rest of the rows does."""
        gone = set(keys)
        for part in list(self.parts.values()):
            hit = [k for k in part.values if k in gone]
            if hit and not part.damaged:
                self._copies.subtract(hit)
            for key in hit:
                del part.values[key]
            if not part.values:
                del self.parts[part.name]

    def compact(self, folder: str) -> tuple[list[str], Part | None]:
        """Join the readable parts of a folder into a new one; the old ones are removed by the caller."""
        old = [p for p in self.parts.values() if p.name.startswith(f"{folder}/") and not p.damaged]
        if len(old) < 2 or self.full:
            return [], None
        joined: dict[str, str] = {}
        for part in old:
            joined.update(part.values)
        return [p.name for p in old], self.publish(folder, joined)

    def scan(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every part and its keys, as the index takes them. Damage in the values is not seen here."""
        for part in self.parts.values():
            yield part.name, packed(part.values)

    # --- the journal

    def note(self, paper: Paper) -> None:
        """Write or replace a request's record. Raises `Full`."""
        if self.full:
            raise Full
        self.journal[paper.id] = paper


def packed(keys: Mapping[str, str] | Sequence[str]) -> np.ndarray:
    """Hex keys as the index takes them: uint8[n, 16]."""
    return np.frombuffer(bytes.fromhex("".join(keys)), dtype=np.uint8).reshape(-1, 16)
