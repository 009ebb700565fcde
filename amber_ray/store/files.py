"""The files of a store: a local directory or any fsspec URL, with what "written" means on each.

A local file is written under another name, synced and renamed; an object is put in one call. Either way a
reader sees the whole of it or nothing. Must not know: what is in the files.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import PurePosixPath

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs

from amber_ray.errors import AmberError, StoreError

DRAFT = re.compile(r"\.[0-9a-f]{16}\.tmp")
DRAFT_SECONDS = 3600.0
"""A draft this old was left by a process that died."""


class Files:
    """Files by their path below the store's root, "/" between its parts. Thread-safe."""

    def __init__(self, url: str) -> None:
        self.url = url
        with self.told("opened"):
            # Other processes write here too: a listing that is remembered is a listing that is wrong.
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self.root = root.rstrip("/")
        protocols = self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        self.local = "file" in protocols
        self._arrow = None if self.local else pafs.PyFileSystem(pafs.FSSpecHandler(self._fs))

    def path(self, name: str) -> str:
        """Where a file is, for the file system."""
        return f"{self.root}/{name}"

    @contextlib.contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Raise `StoreError`, saying which store it was, for whatever goes wrong inside.

        `FileNotFoundError` passes, except while writing: whether a file should be there, the caller knows.
        """
        try:
            yield
        except AmberError:
            raise
        except Exception as error:  # an object store's errors are of any class
            if isinstance(error, FileNotFoundError) and what != "written":
                raise
            reason = str(error) or type(error).__name__
            raise StoreError(f"the store {self.url!r} can't be {what}: {reason}") from error

    def open(self, name: str) -> pa.NativeFile:
        """A file to read at any place. Raises `FileNotFoundError`."""
        with self.told("read"):
            path = self.path(name)
            return pa.OSFile(path) if self._arrow is None else self._arrow.open_input_file(path)

    def read(self, name: str) -> bytes | None:
        """The whole of a small file; None if it is not there."""
        try:
            with self.told("read"):
                return bytes(self._fs.cat_file(self.path(name)))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a small file: on return it is on disk."""
        folder, _, _ = name.rpartition("/")
        with self.draft(folder) as draft:
            with self.told("written"):
                draft.sink.write(data)
            draft.publish(name)

    def draft(self, folder: str) -> Draft:
        """A new file without a name yet, to be published in `folder`."""
        return Draft(self, folder)

    def make(self, folder: str) -> None:
        """Have a directory, and have its name on disk; object stores know no directories."""
        if not self.local:
            return
        with self.told("written"):
            missing = []
            path = PurePosixPath(self.path(folder)) if folder else PurePosixPath(self.root)
            while not os.path.isdir(path) and path != path.parent:
                missing.append(path)
                path = path.parent
            if missing:
                os.makedirs(missing[0], exist_ok=True)
            for made in missing:
                sync(made.parent)

    def put(self, name: str, data: bytes) -> None:
        """Put an object in one call."""
        with self.told("written"):
            self._fs.pipe_file(self.path(name), data)

    def sizes(self, pattern: re.Pattern[str], folder: str, depth: int) -> dict[str, int]:
        """Bytes of the files `depth` levels below `folder` whose own name matches."""
        with self.told("listed"):
            if self.local:
                return dict(self._walk(pattern, folder, depth))
            try:
                found = self._fs.find(self.path(folder), detail=True)
            except FileNotFoundError:
                return {}
            names = {path[len(self.root) + 1 :]: info for path, info in found.items()}
            return {
                name: int(info["size"])
                for name, info in names.items()
                if name.count("/") - folder.count("/") == depth and pattern.fullmatch(name.rpartition("/")[2])
            }

    def _walk(self, pattern: re.Pattern[str], folder: str, depth: int) -> Iterator[tuple[str, int]]:
        try:
            with os.scandir(self.path(folder)) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}"
                    if depth > 1:
                        if entry.is_dir():
                            yield from self._walk(pattern, name, depth - 1)
                    elif pattern.fullmatch(entry.name):
                        with contextlib.suppress(FileNotFoundError):  # it has gone since
                            yield name, entry.stat().st_size
        except FileNotFoundError:
            return

    def exists(self, name: str) -> bool:
        """Whether a local file is there."""
        return os.path.exists(self.path(name))

    def remove(self, name: str) -> None:
        """Delete a file; one that is not there is fine."""
        with contextlib.suppress(FileNotFoundError), self.told("changed"):
            self._fs.rm_file(self.path(name))

    def move(self, name: str, target: str) -> None:
        """Give a file another name. Raises `FileNotFoundError`."""
        self.make(target.rpartition("/")[0])
        with self.told("changed"):
            if self.local:
                os.replace(self.path(name), self.path(target))
            else:
                self._fs.mv(self.path(name), self.path(target))

    def sweep(self, folder: str, depth: int) -> None:
        """Delete drafts that dead processes left behind."""
        if not self.local:
            return
        for name in self.sizes(DRAFT, folder, depth):
            with contextlib.suppress(FileNotFoundError), self.told("changed"):
                if time.time() - os.path.getmtime(self.path(name)) > DRAFT_SECONDS:
                    os.unlink(self.path(name))


class Draft:
    """A file being written: nobody sees it until it is published, and unpublished it goes."""

    def __init__(self, files: Files, folder: str) -> None:
        self._files = files
        self._folder = folder
        self._path = files.path(f"{folder}/.{secrets.token_hex(8)}.tmp")
        self.sink: pa.NativeFile

    def __enter__(self) -> Draft:
        self._files.make(self._folder)
        with self._files.told("written"):
            self.sink = pa.OSFile(self._path, "wb") if self._files.local else pa.BufferOutputStream()
        return self

    def tail(self, size: int) -> bytes:
        """The last bytes of what was written; nothing can be added after."""
        with self._files.told("written"):
            if not self._files.local:
                return bytes(self._data()[-size:])
            self.sink.close()
            with open(self._path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - size))
                return file.read()

    def _data(self) -> memoryview:
        return memoryview(self.sink.getvalue())

    def publish(self, name: str) -> int:
        """Give it its name, on disk; returns its bytes."""
        if not self._files.local:
            data = bytes(self._data())
            self._files.put(name, data)
            return len(data)
        with self._files.told("written"):
            self.sink.close()
            size = os.path.getsize(self._path)
            sync(self._path)
            os.replace(self._path, self._files.path(name))
            sync(self._files.path(self._folder))
            return size

    def __exit__(self, *_: object) -> None:
        if self._files.local:
            with contextlib.suppress(OSError):  # published already, or not wanted any more
                self.sink.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)


def sync(path: str | os.PathLike[str]) -> None:
    """Have a file or directory on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
