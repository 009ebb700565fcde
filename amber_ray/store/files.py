"""The files of a store, in a local directory or at any fsspec URL, and when a file counts as written on each.

A local file is written under a temporary name, synced and renamed; an object is put in one call. Either way a
reader sees the whole file or none. Every failure of the file system is raised as `StoreError`, and so is a
read that gives fewer bytes than the file has: a caller that was given bytes was given all of them, and may
judge them. Must not know: what is in the files.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
from fsspec.asyn import AsyncFileSystem

from amber_ray.errors import AmberError, StoreError

DRAFT = re.compile(r"\.[0-9a-f]{16}\.tmp")
"""The temporary name of a local file that is being written."""
DRAFT_SECONDS = 3600.0
"""A temporary file this old was left by a process that died: no write takes an hour."""


def local_directory(url: str) -> str | None:
    """Return the absolute path of a local store, or None for a remote one."""
    if url.startswith("file://"):
        url = url[len("file://") :]
    return None if "://" in url else os.path.realpath(url)


class Files:
    """Files by their path below the store's root, with "/" between its parts. Thread-safe."""

    def __init__(self, url: str) -> None:
        self.url = url
        with self.translated("opened"):
            # Other processes write here too, so a cached listing would be out of date.
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self.root = root.rstrip("/")
        protocols = self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        self.local = "file" in protocols

    def path(self, name: str) -> str:
        """Return where a file is, as its file system names it."""
        return f"{self.root}/{name}"

    @contextlib.contextmanager
    def translated(self, what: str) -> Iterator[None]:
        """Raise `StoreError`, naming the store, for whatever goes wrong inside.

        `FileNotFoundError` passes, except while writing: the caller knows whether a file should be there.
        """
        try:
            yield
        except AmberError:
            raise
        except Exception as error:  # the clients of object stores raise errors of any class
            if isinstance(error, FileNotFoundError) and what != "written":
                raise
            reason = str(error) or type(error).__name__
            raise StoreError(f"the store {self.url!r} can't be {what}: {reason}") from error

    def open(self, name: str) -> pa.NativeFile:
        """Open a file to read at any place. Raises `FileNotFoundError` if there is none."""
        path = self.path(name)
        with self.translated("read"):
            if self.local:
                return pa.OSFile(path)
            # Not through `pyarrow.fs`: it asks `isfile` first, which answers False when the call times out.
            return pa.PythonFile(ObjectFile(self, name, self._fs.open(path, "rb")), "r")

    def read(self, name: str) -> bytes | None:
        """Return the whole of a small file, or None if there is none."""
        try:
            with self.translated("read"):
                if not self.local:
                    return bytes(self._fs.cat_file(self.path(name)))
                with self.open(name) as file:
                    return bytes(file.read())
        except FileNotFoundError:
            return None

    def size(self, name: str) -> int | None:
        """Return how many bytes a file has, or None if there is none."""
        try:
            with self.translated("read"):
                if self.local:
                    return os.path.getsize(self.path(name))
                return int(self._fs.info(self.path(name))["size"])
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a small file; it is durable when this returns."""
        folder, _, _ = name.rpartition("/")
        with self.draft(folder) as draft:
            with self.translated("written"):
                draft.sink.write(data)
            draft.publish(name)

    def draft(self, folder: str) -> Draft:
        """Begin a file that gets its name, in `folder`, when it is whole."""
        return Draft(self, folder)

    def make(self, folder: str) -> None:
        """Create a local directory durably, and those above it. Object stores have no directories."""
        if not self.local:
            return
        with self.translated("written"):
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
        with self.translated("written"):
            self._fs.pipe_file(self.path(name), data)

    def sizes(self, pattern: re.Pattern[str], folder: str, depth: int) -> dict[str, int]:
        """Return the bytes of each file `depth` levels below `folder` whose own name matches.

        A folder that is not there is empty. One that can't be listed raises `StoreError`.
        """
        with self.translated("listed"):
            if self.local:
                return dict(self._walk(pattern, folder, depth))
            found = self._objects(self.path(folder), depth)
            names = {path[len(self.root) + 1 :]: size for path, size in found}
            return {
                name: size
                for name, size in names.items()
                if name.count("/") - folder.count("/") == depth and pattern.fullmatch(name.rpartition("/")[2])
            }

    def _objects(self, path: str, depth: int) -> Iterator[tuple[str, int]]:
        """Yield the path and bytes of all objects up to `depth` levels below a path, perhaps deeper ones too.

        Object stores list all that is below a path at once. Where fsspec's own `find` would go from
        folder to folder, it would silently leave out those that can't be listed.
        """
        kind = type(self._fs)
        if issubclass(kind, AsyncFileSystem):
            goes_by_folders = kind._find is AsyncFileSystem._find
        else:
            goes_by_folders = kind.find is fsspec.AbstractFileSystem.find
        try:
            if goes_by_folders:
                found = self._fs.ls(path, detail=True)
            else:
                found = self._fs.find(path, detail=True).values()
        except FileNotFoundError:
            return
        for info in found:
            if info["type"] != "directory":
                yield info["name"], int(info["size"])
            elif depth > 1:
                yield from self._objects(info["name"], depth - 1)

    def _walk(self, pattern: re.Pattern[str], folder: str, depth: int) -> Iterator[tuple[str, int]]:
        try:
            with os.scandir(self.path(folder)) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}"
                    if depth > 1:
                        if entry.is_dir():
                            yield from self._walk(pattern, name, depth - 1)
                    elif pattern.fullmatch(entry.name):
                        with contextlib.suppress(FileNotFoundError):  # it was deleted meanwhile
                            yield name, entry.stat().st_size
        except FileNotFoundError:
            return

    def exists(self, name: str) -> bool:
        """Return whether a local file is there; False too if the file system can't tell."""
        return os.path.exists(self.path(name))

    def has_folder(self, folder: str) -> bool:
        """Return whether a folder is there, or for an object store, anything below it."""
        try:
            with self.translated("listed"):
                if self.local:
                    return os.path.isdir(self.path(folder))
                return bool(self._fs.ls(self.path(folder), detail=False))
        except FileNotFoundError:
            return False

    def remove_folder(self, folder: str) -> None:
        """Delete a folder and all below it; one that is not there is fine."""
        with contextlib.suppress(FileNotFoundError), self.translated("changed"):
            self._fs.rm(self.path(folder), recursive=True)

    def remove(self, name: str) -> None:
        """Delete a file; one that is not there is fine."""
        with contextlib.suppress(FileNotFoundError), self.translated("changed"):
            if self.local:
                os.unlink(self.path(name))
            else:
                self._fs.rm_file(self.path(name))

    def move(self, name: str, target: str) -> None:
        """Give a file another name. Raises `FileNotFoundError` if there is none."""
        self.make(target.rpartition("/")[0])
        with self.translated("changed"):
            if self.local:
                os.replace(self.path(name), self.path(target))
            else:
                self._fs.mv(self.path(name), self.path(target))

    def sweep(self, folder: str, depth: int) -> None:
        """Delete the temporary files that dead processes left behind."""
        if not self.local:
            return
        for name in self.sizes(DRAFT, folder, depth):
            with contextlib.suppress(FileNotFoundError), self.translated("changed"):
                if time.time() - os.path.getmtime(self.path(name)) > DRAFT_SECONDS:
                    os.unlink(self.path(name))


class ObjectFile(io.RawIOBase):
    """An object as a file for pyarrow; a read that falls short raises `StoreError`.

    pyarrow takes the end of a short answer for the end of the file, and what it can't parse for damage. Not
    thread-safe by itself: `pa.PythonFile` makes its calls one after the other.
    """

    def __init__(self, files: Files, name: str, file: Any) -> None:
        self._files = files
        self._name = name
        self._file = file
        file.seek(0, io.SEEK_END)
        self._size = int(file.tell())
        self._at = 0

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place of the object; nothing is read."""
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        """Return the place that the next read begins at."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return as many bytes as asked for, fewer only at the end of the object."""
        rest = max(0, self._size - self._at)
        wanted = rest if size < 0 else min(size, rest)
        with self._files.translated("read"):
            self._file.seek(self._at)
            data = bytes(self._file.read(wanted))
            while len(data) < wanted:
                more = self._file.read(wanted - len(data))
                if not more:
                    reason = f"{len(data)} of {wanted} bytes of {self._name} were delivered"
                    raise StoreError(f"the store {self._files.url!r} can't be read: {reason}")
                data += more
        self._at += wanted
        return data

    def close(self) -> None:
        """Close the object's own file."""
        if not self.closed:
            super().close()
            self._file.close()


class Draft:
    """A file that is being written. Nobody sees it until it is published, and unpublished it is deleted."""

    def __init__(self, files: Files, folder: str) -> None:
        self._files = files
        self._folder = folder
        self._path = files.path(f"{folder}/.{secrets.token_hex(8)}.tmp")
        self.sink: pa.NativeFile

    def __enter__(self) -> Draft:
        self._files.make(self._folder)
        with self._files.translated("written"):
            self.sink = pa.OSFile(self._path, "wb") if self._files.local else pa.BufferOutputStream()
        return self

    def tail(self, size: int) -> bytes:
        """Return the last bytes of what was written; nothing can be added after."""
        with self._files.translated("written"):
            if not self._files.local:
                return bytes(self._data()[-size:])
            self.sink.close()
            with open(self._path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - size))
                return file.read()

    def _data(self) -> memoryview:
        return memoryview(self.sink.getvalue())

    def publish(self, name: str) -> int:
        """Give the file its name, durably; return how many bytes it has.

        A call that raises may have published it all the same, if only the answer was lost.
        """
        if not self._files.local:
            data = bytes(self._data())
            self._files.put(name, data)
            return len(data)
        with self._files.translated("written"):
            self.sink.close()
            size = os.path.getsize(self._path)
            sync(self._path)
            os.replace(self._path, self._files.path(name))
            sync(self._files.path(self._folder))
            return size

    def __exit__(self, *_: object) -> None:
        if self._files.local:
            with contextlib.suppress(OSError):  # it was published already, or is not wanted any more
                self.sink.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)


def sync(path: str | os.PathLike[str]) -> None:
    """Have a file's data, or a directory's names, on disk when this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
