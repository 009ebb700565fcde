"""The row groups of a part as spans of its file, with a checksum over every byte of each.

Parquet's checksums are of what is in pages, not of the pages' headers: one flipped bit in such a header can
shorten the last list of a row group, and nothing else would tell. Must not know: what is in a row group.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pyarrow as pa


class Span(NamedTuple):
    """Bytes [start, end) of a file, and their CRC-32."""

    start: int
    end: int
    crc: int

    def read(self, read_at: Callable[[int, int], bytes]) -> Window:
        """Its bytes, read once by `read_at(size, start)`. Raises `ValueError` if one is not as written."""
        data = memoryview(read_at(self.end - self.start, self.start))
        if data.nbytes != self.end - self.start or zlib.crc32(data) != self.crc:
            raise ValueError(f"bytes {self.start} to {self.end} fail their checksum")
        return Window(data, self.start)


class Tee(io.RawIOBase):
    """Passes bytes on to a file and cuts what passes into spans."""

    def __init__(self, sink: pa.NativeFile) -> None:
        self._sink = sink
        self._size = 0
        self._crc = 0
        self.spans: list[Span] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Pass on."""
        self._sink.write(data)
        self._crc = zlib.crc32(data, self._crc)
        size = memoryview(data).nbytes
        self._size += size
        return size

    def tell(self) -> int:
        """How much has passed."""
        return self._size

    def cut(self) -> None:
        """A span ends here."""
        start = self.spans[-1].end if self.spans else 0
        self.spans.append(Span(start, self._size, self._crc))
        self._crc = 0


class Window(io.RawIOBase):
    """A file of which one span is there, and read without a copy."""

    def __init__(self, data: memoryview, start: int) -> None:
        self._data = data
        self._start = start
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Positions are those of the file."""
        self._at = offset + (0, self._at, self.size())[whence]
        return self._at

    def tell(self) -> int:
        """See `seek`."""
        return self._at

    def size(self) -> int:
        """Up to the end of the span."""
        return self._start + self._data.nbytes

    def read_buffer(self, size: int) -> pa.Buffer:
        """What pyarrow calls to read. Raises `ValueError` outside the span."""
        first = self._at - self._start
        if first < 0 or first + size > self._data.nbytes:
            raise ValueError(f"bytes {self._at} to {self._at + size} are not in the row group")
        self._at += size
        return pa.py_buffer(self._data[first : first + size])

    def read(self, size: int = -1) -> bytes:
        """A copy, for whoever wants one."""
        return bytes(self.read_buffer(self.size() - self._at if size < 0 else size))
