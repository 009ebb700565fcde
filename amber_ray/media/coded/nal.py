"""Units of H.264 and HEVC streams (NAL units): a packet cut into them, and what their messages (SEI) are."""

from __future__ import annotations

from collections.abc import Iterator

from amber_ray.media.coded.bits import Unread

_START = b"\0\0\1"
_HEADER = 48
"""Bytes of a slice that are looked at; its own header begins with what is wanted."""


def units(data: bytes, length_size: int) -> list[bytes]:
    """The units of a packet, each after `length_size` bytes of its length; 0: each after a start code.

    Raises `Unread` where the packet does not consist of whole units.
    """
    return _marked(data) if length_size == 0 else _measured(data, length_size)


def _measured(data: bytes, length_size: int) -> list[bytes]:
    found, at, end = [], 0, len(data)
    while at < end:
        first = at + length_size
        at = first + int.from_bytes(data[at:first], "big")
        if not first < at <= end:
            raise Unread
        found.append(data[first:at])
    return found


def _marked(data: bytes) -> list[bytes]:
    begin = data.find(_START)
    if begin < 0 or data[:begin].strip(b"\0"):
        raise Unread
    found = []
    while begin >= 0:
        following = data.find(_START, begin + 3)
        unit = data[begin + 3 : following if following >= 0 else len(data)].rstrip(b"\0")
        if not unit:
            raise Unread
        found.append(unit)
        begin = following
    return found


def listed(record: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    """So many units of an `avcC` or `hvcC` record, each after its length; and where they end."""
    found = []
    for _ in range(count):
        end = at + 2 + int.from_bytes(record[at : at + 2], "big")
        if not at + 2 < end <= len(record):
            raise Unread
        found.append(record[at + 2 : end])
        at = end
    return found, at


def plain(unit: bytes, most: int = _HEADER) -> bytes:
    """The first `most` bytes of a unit, without the bytes that keep start codes out of it."""
    return unit[:most].replace(b"\0\0\3", b"\0\0")


def unwrapped(low: int, size: int, near: int | None) -> int:
    """A picture's number of which the low bits are told, modulo `size`: the nearest to another's."""
    if near is None:
        return low
    off = (low - near) % size
    return near + (off if off <= size // 2 else off - size)


def messages(payload: bytes) -> Iterator[int]:
    """The types of the messages of an SEI unit, its header taken off. Raises `Unread` where it breaks off."""
    at, end = 0, len(payload)
    while at < end and payload[at:] != b"\x80":
        kind, at = _sum(payload, at)
        size, at = _sum(payload, at)
        at += size
        if at > end:
            raise Unread
        yield kind


def _sum(payload: bytes, at: int) -> tuple[int, int]:
    """A number written as a sum of bytes, all but the last 255; and where it ends."""
    total = 0
    while at < len(payload):
        total += payload[at]
        at += 1
        if payload[at - 1] != 255:
            return total, at
    raise Unread
