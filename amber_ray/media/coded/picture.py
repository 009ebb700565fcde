"""What the bytes of a packet say of its picture."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Coded(NamedTuple):
    """One picture, before it is decoded.

    `order` ascends as the decoder gives pictures out, whatever their time stamps are. `needed`: without this
    packet a decoder could give another picture otherwise than it would have. Where it is not the picture
    itself that is needed, `rest` is the packet without it.

    `fresh`: nothing that is decoded later refers to what was decoded before, but for the `leading` pictures
    that follow at once.
    """

    order: tuple[int, int]
    needed: bool
    fresh: bool = False
    leading: bool = False
    rest: bytes | None = None


class Headers(Protocol):
    """Reads the packets of one stream in the order of decoding."""

    def restart(self) -> None:
        """Forget the pictures read so far: reading goes on behind a seek, with a key picture."""

    def read(self, data: bytes) -> Coded | None:
        """The picture of the next packet; None where it can't be told, now and from here on."""

    @property
    def reorders(self) -> int:
        """How many pictures at most are decoded before another one and shown after it."""
