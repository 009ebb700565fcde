"""Headers made to cost much: what is followed of them, and what is held, has a bound."""

from __future__ import annotations

import io
import itertools
import struct
import tracemalloc
import zlib

import pytest

from amber_ray.media import headers
from amber_ray.media.scale import native
from amber_ray.media.stills import still
from amber_ray.settings import Limits


class Counted(io.BytesIO):
    """A file that counts how often it is read."""

    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        return super().read(size)


def test_empty_tags_of_a_flash_film_are_not_followed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "_TAGS", 100, raising=False)
    tag = bytes(15)
    film = b"FLV\x01\x05" + struct.pack(">I", 9)
    few = Counted(film + 50 * tag + bytes(4) + film + bytes(15))
    assert headers.joined(few) == 9 + 50 * 15 + 4
    many = Counted(film + 10_000 * tag + bytes(4) + film + bytes(15))
    assert headers.joined(many) is None
    assert many.reads < 200


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture(between: bytes) -> bytes:
    """A PNG of one red pixel with other chunks before its pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\xff\0\0"))
    return b"\x89PNG\r\n\x1a\n" + head + between + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("kinds", [(b"tIME",), (b"tIME", b"tEXt")])
def test_a_picture_of_very_many_chunks_takes_no_memory_for_each(kinds: tuple[bytes, ...]) -> None:
    chunks = b"".join(chunk(kind, b"") for kind in itertools.islice(itertools.cycle(kinds), 50_000))
    file = io.BytesIO(picture(chunks))
    still(io.BytesIO(picture(b"")), "a warm-up", native(), Limits())
    tracemalloc.start()
    try:
        assert still(file, "many chunks", native(), Limits()).tolist() == [[[255, 0, 0]]]
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
