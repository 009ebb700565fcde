"""File systems that fail on demand, below a real store: `Trouble` says what goes wrong, and where.

Two ways in, since a store has two: `TroubledFileSystem` stands between a store and any file system of fsspec
(its URLs are `troubled::` and another URL), and `troubled_disk` patches the calls of the operating system
that a store in a directory makes. Everything else is real, so when the trouble ends the store is what it was.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import botocore.exceptions as be
import fsspec
import pyarrow as pa
import pytest
from fsspec.exceptions import FSTimeoutError
from fsspec.implementations.chained import ChainedFileSystem


def client_error(code: str, status: int, operation: str) -> be.ClientError:
    answer = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return be.ClientError(answer, operation)  # type: ignore[arg-type]


ERRORS: dict[str, Exception] = {
    "timeout": TimeoutError("timed out"),
    "fsspec timeout": FSTimeoutError(),
    "connect timeout": be.ConnectTimeoutError(endpoint_url="https://s3"),
    "read timeout": be.ReadTimeoutError(endpoint_url="https://s3"),
    "throttled": client_error("SlowDown", 503, "GetObject"),
    "conflict": client_error("OperationAborted", 409, "PutObject"),
    "precondition": client_error("PreconditionFailed", 412, "PutObject"),
    "reset": ConnectionResetError("reset by peer"),
    "stale handle": OSError(116, "Stale file handle"),
    "input/output": OSError(5, "Input/output error"),
    "without a number": OSError("AWS Error NETWORK_CONNECTION during GetObject"),
    "arrow": pa.ArrowInvalid("Tried reading 8 bytes starting at position 0 from file but only got 0"),
    "closed": ValueError("I/O operation on closed file"),
    "header": KeyError("ETag"),
    "permission": PermissionError(13, "Permission denied"),
}
"""What file systems raise while they can't serve a call: none of it says anything of the bytes that are
kept."""


class Trouble:
    """What goes wrong at each call, "open", "read", "list", "write", "move" and "delete", until `end`."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        """The path of every read, in order."""
        self.end()

    def end(self) -> None:
        """From now on all is well."""
        self._errors: dict[str, tuple[Exception, str, bool]] = {}
        self._left: dict[str, int] = {}
        self._torn = False
        self._flips = 0
        self._then: Exception | None = None

    def fail(
        self, call: str, error: Exception, on: str = "", after: bool = False, times: int = sys.maxsize
    ) -> None:
        """Let so many calls of a kind raise, for paths that contain `on`.

        With `after` a call raises once it has done its work: what is lost is the answer.
        """
        self._errors[call] = error, on, after
        self._left[call] = times

    def tear(self) -> None:
        """Let reads give the first half of what was asked for, and nothing more."""
        self._torn = True

    def flip(self, times: int, then: Exception | None = None) -> None:
        """Let so many reads give all bytes, one of them with a flipped bit, and later ones raise."""
        self._flips, self._then = times, then

    @contextmanager
    def at(self, call: str, path: str) -> Iterator[None]:
        error, on, after = self._errors.get(call, (None, "", False))
        if error is None or on not in path or not self._left[call]:
            yield
            return
        self._left[call] -= 1
        if after:
            yield
        raise error

    def delivered(self, path: str, data: bytes) -> bytes:
        """What a reader is given of `data`."""
        self.reads.append(path)
        if self._torn:
            return data[: len(data) // 2]
        if self._flips and data:
            self._flips -= 1
            if not self._flips and self._then is not None:
                self.fail("read", self._then)
            return bytes([*data[:-1], data[-1] ^ 1])
        return data


class TroubledFile(io.RawIOBase):
    """A file that is read under trouble. After a torn read nothing comes until the next `seek`."""

    def __init__(self, trouble: Trouble, path: str, file: Any) -> None:
        self._trouble, self._path, self._file, self._over = trouble, path, file, False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._over = False
        self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        return int(self._file.tell())

    def read(self, size: int = -1) -> bytes:
        with self._trouble.at("read", self._path):
            if self._over:
                return b""
            data = bytes(self._file.read(size))
            given = self._trouble.delivered(self._path, data)
            self._over = len(given) < len(data)
            return given

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()


class TroubledFileSystem(ChainedFileSystem):
    """`troubled::URL`: the file system of the URL, under `trouble`."""

    protocol: ClassVar[str] = "troubled"
    cachable = False
    trouble: ClassVar[Trouble] = Trouble()

    def __init__(self, target_protocol: str = "", target_options: Any = None, **kwargs: Any) -> None:
        super().__init__(**{name: value for name, value in kwargs.items() if name != "fo"})
        self.inner = fsspec.filesystem(target_protocol, use_listings_cache=False, **(target_options or {}))

    def open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> TroubledFile:
        with self.trouble.at("open", path):
            return TroubledFile(self.trouble, path, self.inner.open(path, mode))

    def info(self, path: str, **_: Any) -> Any:
        with self.trouble.at("open", path):
            return self.inner.info(path)

    def cat_file(self, path: str, start: Any = None, end: Any = None, **_: Any) -> bytes:
        with self.trouble.at("open", path), self.trouble.at("read", path):
            return self.trouble.delivered(path, self.inner.cat_file(path, start, end))

    def ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        with self.trouble.at("list", path):
            return self.inner.ls(path, detail=detail)

    def find(self, path: str, maxdepth: Any = None, withdirs: bool = False, **kwargs: Any) -> Any:
        with self.trouble.at("list", path):
            return self.inner.find(path, maxdepth, withdirs, **kwargs)

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        with self.trouble.at("write", path):
            self.inner.pipe_file(path, value)

    def rm_file(self, path: str) -> None:
        with self.trouble.at("delete", path):
            self.inner.rm_file(path)

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        with self.trouble.at("move", path1):
            self.inner.mv(path1, path2)


def troubled_url(url: str) -> str:
    """The URL of the same store under `TroubledFileSystem.trouble`, a new one."""
    fsspec.register_implementation("troubled", TroubledFileSystem, clobber=True)
    TroubledFileSystem.trouble = Trouble()
    return f"troubled::{url}"


def troubled_disk(root: str, patch: pytest.MonkeyPatch) -> Trouble:
    """Trouble for what is below a directory: in reading, listing, and giving and taking names."""
    trouble = Trouble()
    real_file, replace, scandir, unlink = pa.OSFile, os.replace, os.scandir, os.unlink

    def below(path: Any) -> bool:
        return str(path).startswith(root)

    def open_file(path: str, mode: str = "r") -> Any:
        if "w" in mode or not below(path):
            return real_file(path, mode)
        with trouble.at("open", path):
            file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with what it is wrapped in
            return pa.PythonFile(TroubledFile(trouble, path, file), "r")

    def replaced(source: Any, target: Any) -> None:
        call = "write" if str(source).endswith(".tmp") else "move"
        if below(source):
            with trouble.at(call, str(source)):
                replace(source, target)
        else:
            replace(source, target)

    def listed(path: Any = ".") -> Any:
        if below(path):
            with trouble.at("list", str(path)):
                return scandir(path)
        return scandir(path)

    def removed(path: Any, **options: Any) -> None:
        if below(path) and not str(path).endswith(".tmp"):
            with trouble.at("delete", str(path)):
                unlink(path)
        else:
            unlink(path, **options)

    patch.setattr(pa, "OSFile", open_file)
    patch.setattr(os, "replace", replaced)
    patch.setattr(os, "scandir", listed)
    patch.setattr(os, "unlink", removed)
    patch.setattr(os, "remove", removed)
    return trouble
