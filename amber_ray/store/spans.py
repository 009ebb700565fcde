"""The row groups of a part as spans of its file, with a checksum over every byte of each.

Parquet's own checksums cover what is in pages and not the headers of pages: one flipped bit in such a header
can shorten the last list of a row group, and nothing else would reveal it. Must not know: what is in a row
group.
"""

from __future__ import annotations

import io
import zlib
from typing import Any, NamedTuple

import pyarrow as pa


class Span(NamedTuple):
    """Bytes [start, end) of a file, and their CRC-32."""

    start: int
    end: int
    crc: int

    def matches(self, data: bytes) -> bool:
        """Return whether these are the bytes that were written there."""
        return len(data) == self.end - self.start and zlib.crc32(data) == self.crc


class Tee(io.RawIOBase):
    """A file that passes what is written on to another one, and divides it into spans."""

    def __init__(self, sink: pa.NativeFile) -> None:
        self._sink = sink
        self._size = 0
        self._crc = 0
        self.spans: list[Span] = []

    def writable(self) -> bool:
        """Always true."""
        return True

    def write(self, data: Any) -> int:
        """Write to the other file; returns how many bytes that were."""
        self._sink.write(data)
        self._crc = zlib.crc32(data, self._crc)
        size = memoryview(data).nbytes
        self._size += size
        return size

    def tell(self) -> int:
        """Return how many bytes were written so far."""
        return self._size

    def cut(self) -> None:
        """End a span here; the next one begins."""
        start = self.spans[-1].end if self.spans else 0
        self.spans.append(Span(start, self._size, self._crc))
        self._crc = 0


class Window(io.RawIOBase):
    """A file of which only one span is there, in memory, and is read without a copy."""

    def __init__(self, data: memoryview, start: int) -> None:
        self._data = data
        self._start = start
        self._at = 0

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position of the file."""
        self._at = offset + (0, self._at, self.size())[whence]
        return self._at

    def tell(self) -> int:
        """Return the position in the file."""
        return self._at

    def size(self) -> int:
        """Return where the span ends, which stands for the end of the file."""
        return self._start + self._data.nbytes

    def read_buffer(self, size: int) -> pa.Buffer:
        """Read without a copy; pyarrow prefers it to `read`. Raises `ValueError` outside the span."""
        first = self._at - self._start
        if first < 0 or first + size > self._data.nbytes:
            raise ValueError(f"bytes {self._at} to {self._at + size} are not in the row group")
        self._at += size
        return pa.py_buffer(self._data[first : first + size])

    def read(self, size: int = -1) -> bytes:
        """Read a copy."""
        return bytes(self.read_buffer(self.size() - self._at if size < 0 else size))
