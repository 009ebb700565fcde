"""Chance by name: what is drawn for one thing does not depend on what was drawn for another.

So a story stays the same story when a caller or a fault that had no part in it is left out, which is what
lets a failing seed shrink.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """Numbers from a seed, the kind of thing and what it is about; the n-th time is another number."""

    def __init__(self, seed: int) -> None:
        self._seed = str(seed).encode()
        self._times: dict[str, int] = {}

    def unit(self, what: str, about: object = "") -> float:
        """A number in [0, 1)."""
        name = f"{what}/{about}"
        times = self._times[name] = self._times.get(name, 0) + 1
        text = b"%s/%s/%d" % (self._seed, name.encode(), times)
        return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big") / (1 << 48)

    def fixed(self, what: str, about: object) -> float:
        """A number in [0, 1) that is the same each time."""
        text = b"%s/%s/%s" % (self._seed, what.encode(), str(about).encode())
        return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big") / (1 << 48)

    def pick(self, what: str, about: object, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.unit(what, about) * len(options))]
