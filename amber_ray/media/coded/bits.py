"""Bits of a header, most significant first."""

from __future__ import annotations


class Unread(Exception):
    """A header ends early, or says something that is not followed here."""


class Bits:
    """A header, read from its first bit on. Every method raises `Unread` at its end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """The next `count` bits as a number."""
        if count > self._left:
            raise Unread
        self._left -= count
        found = self._value >> self._left
        self._value &= (1 << self._left) - 1
        return found

    def flag(self) -> bool:
        """The next bit."""
        return self.take(1) == 1

    def count(self) -> int:
        """An unsigned Exp-Golomb code, `ue(v)`."""
        zeros = self._left - self._value.bit_length()
        if zeros > 31:
            raise Unread
        return self.take(2 * zeros + 1) - 1

    def signed(self) -> int:
        """A signed Exp-Golomb code, `se(v)`."""
        code = self.count()
        return (code + 1) // 2 if code % 2 else -(code // 2)
