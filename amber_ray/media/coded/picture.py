"""What the bytes of a packet say of its picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from amber_ray.media.coded.bits import Unread


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


class Headers(ABC):
    """Reads the packets of one stream in the order of decoding, and gives up at what it does not follow.

    A codec sets its own state before it calls `__init__`; what it does not follow it raises as `Unread`.
    """

    def __init__(self, extradata: bytes) -> None:
        """`extradata` is what the container tells of the stream beside its packets."""
        self._lost = False
        self.restart()
        try:
            self._described(extradata)
        except Unread:
            self._lost = True

    @property
    @abstractmethod
    def reorders(self) -> int:
        """How many pictures at most are decoded before another one and shown after it."""

    @abstractmethod
    def restart(self) -> None:
        """Forget the pictures read so far: reading goes on behind a seek, with a key picture."""

    def read(self, data: bytes) -> Coded | None:
        """The picture of the next packet; None where it can't be told, now and from here on."""
        if self._lost:
            return None
        try:
            return self._read(data)
        except Unread:
            self._lost = True
            return None

    def _described(self, extradata: bytes) -> None:  # noqa: B027 - nothing, unless a codec has some
        """Take what is told beside the packets; some codecs tell all in them."""

    @abstractmethod
    def _read(self, data: bytes) -> Coded:
        """The picture of the next packet."""
