"""The bytes of an asset, wherever they lie: one way to open them, on a server and on a worker.

An asset's URI was resolved inside the media roots when it was registered; here it is only opened, and what
is opened must still be what was registered. Must not know: what the bytes mean.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO, cast

from amber_ray.core.model.naming import name_of
from amber_ray.core.model.units import Asset
from amber_ray.errors import Forbidden, MediaChanged, MediaError, MediaNotFound, SystemFault
from amber_ray.media.locate import signature_of

GONE = "gone:"
"""Stands before the URI of an asset whose media has left every place where it was seen."""

REMOTE_BLOCK = 4 << 20
"""Bytes of one read from a remote object."""


def is_remote(uri: str) -> bool:
    """Whether an asset's URI is a URL that fsspec opens; a real path never holds `//`."""
    return "://" in uri


class Watched:
    """A file without a name, so that no extension sways a guess at its kind; remembers a failed read.

    Libraries that parse it make an error of their own of a disk's or a network's; `check` tells which it was.
    """

    name = ""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """As of any file; an error is remembered and raised."""
        try:
            return self._file.read(size)
        except Exception as error:
            self.failure = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of any file."""
        return self._file.tell()

    def check(self, name: str) -> None:
        """Raise `SystemFault` if a read has failed."""
        if self.failure is not None:
            raise SystemFault(
                f"{name!r} could not be read to its end: {type(self.failure).__name__}"
            ) from self.failure


@contextlib.contextmanager
def opened(asset: Asset) -> Iterator[BinaryIO]:
    """The asset's bytes as a seekable binary file.

    Raises `MediaNotFound` when they are gone, `MediaChanged` when they are not those that were registered,
    `SystemFault` when a remote store or a disk does not answer.
    """
    if asset.uri.startswith(GONE):
        raise MediaNotFound(
            f"{name_of(asset.uri[len(GONE) :])!r} is no longer where it was seen, or its content changed; "
            "register its present place"
        )
    with open_uri(asset.uri) as (file, size):
        if size != asset.bytes:
            raise MediaChanged(
                f"{name_of(asset.uri)!r} has changed since it was registered ({size} bytes instead of "
                f"{asset.bytes}); register it again"
            )
        if asset.signature and not is_remote(asset.uri):
            _check_content(asset, file)
        yield file


def _check_content(asset: Asset, file: BinaryIO) -> None:
    """A file that was touched or replaced while the step was queued: only its digest tells which."""
    # The device's number is the one part that another node may see differently.
    seen = signature_of(os.fstat(file.fileno())).rpartition(":")[0]
    if seen == asset.signature.rpartition(":")[0]:
        return
    digest = hashlib.blake2b(digest_size=16)
    while chunk := file.read(REMOTE_BLOCK):
        digest.update(chunk)
    if digest.hexdigest() != asset.id:
        raise _changed(asset)
    file.seek(0)


def bytes_of(asset: Asset, start: int, size: int) -> bytes:
    """Bytes of an asset at the place and with the signature that it was just looked at with.

    Raises `MediaChanged` where they changed since, or while they were read; else as `opened`.
    """
    with open_uri(asset.uri, block=None) as (file, whole):
        _same(asset, file, whole)
        file.seek(start)
        try:
            data = file.read(size)
        except Exception as error:
            # A disk raises OSError; fsspec's back ends whatever their client library does.
            raise SystemFault(f"{name_of(asset.uri)!r} could not be read: {type(error).__name__}") from error
        _same(asset, file, whole)
    if len(data) != size:
        raise _changed(asset)
    return data


def _same(asset: Asset, file: BinaryIO, size: int) -> None:
    told = is_remote(asset.uri) or signature_of(os.fstat(file.fileno())) == asset.signature
    if not told or size != asset.bytes:
        raise _changed(asset)


def _changed(asset: Asset) -> MediaChanged:
    return MediaChanged(
        f"{name_of(asset.uri)!r} has other content than when it was registered; register it again"
    )


@contextlib.contextmanager
def open_uri(uri: str, block: int | None = REMOTE_BLOCK) -> Iterator[tuple[BinaryIO, int]]:
    """A resolved URI as (seekable binary file, its size); errors as in `opened`.

    Of a remote object each read fetches blocks of so many bytes; None: what is read, and no more.
    """
    file, size = _open_remote(uri, block) if is_remote(uri) else _open_local(uri)
    try:
        yield file, size
    finally:
        file.close()


def _open_local(path: str) -> tuple[BinaryIO, int]:
    # A component may have been replaced by a symlink since the path was resolved.
    if os.path.realpath(path) != path:
        raise Forbidden(f"{name_of(path)!r} has moved since it was registered; register it again")
    try:
        # O_NONBLOCK: a FIFO put in the file's place must not hang the worker.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediaNotFound(f"{name_of(path)!r} is no longer there") from error
    except PermissionError as error:
        raise Forbidden(f"{name_of(path)!r} can't be read: permission denied") from error
    except OSError as error:
        raise SystemFault(f"{name_of(path)!r} can't be opened: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise MediaError(f"{name_of(path)!r} is not a regular file")
    return os.fdopen(descriptor, "rb"), status.st_size


def _open_remote(url: str, block: int | None) -> tuple[BinaryIO, int]:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        cached = {"cache_type": "none"} if block is None else {}
        file = filesystem.open(path, "rb", block_size=block or REMOTE_BLOCK, **cached)
        size = int(file.seek(0, os.SEEK_END))
        file.seek(0)
        return cast(BinaryIO, file), size
    except FileNotFoundError as error:
        raise MediaNotFound(f"{name_of(url)!r} is no longer there") from error
    except PermissionError as error:
        raise Forbidden(f"{name_of(url)!r} can't be read: permission denied") from error
    except Exception as error:
        # fsspec's back ends raise whatever their client library does (botocore, aiohttp, ...).
        raise SystemFault(f"{name_of(url)!r} could not be reached: {type(error).__name__}") from error
