"""Small JSON documents in a store, beside the values: what is remembered of assets between runs.

A local directory or any fsspec URL. Writes are atomic, so several processes may share one store; a document
that can't be read back is treated as absent and written anew. Must not know: what the documents say.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
import uuid
from typing import Any

from amber_ray.errors import StoreError

log = logging.getLogger(__name__)


def local_directory(url: str) -> str | None:
    """The absolute path of a local store, or None for a remote one."""
    if url.startswith("file://"):
        url = url[len("file://") :]
    return None if "://" in url else os.path.realpath(url)


class Records:
    """Documents by name under one directory or URL; names may contain `/`."""

    def __init__(self, url: str) -> None:
        self._directory = local_directory(url)
        self._url = url.rstrip("/")

    def read(self, name: str) -> dict[str, Any] | None:
        """The document, or None where there is none or it is damaged."""
        try:
            data = self._read(name)
        except FileNotFoundError:
            return None
        except Exception as error:
            # An object store's client raises more than OSError.
            raise StoreError(f"the store's record {name!r} can't be read: {_why(error)}") from error
        try:
            found = json.loads(data)
        except ValueError:
            log.warning("record %s of the store is damaged; it will be written anew", name)
            return None
        return found if isinstance(found, dict) else None

    def write(self, name: str, document: dict[str, Any]) -> None:
        """Publish the document under its name, replacing what was there."""
        data = json.dumps(document, sort_keys=True).encode()
        try:
            self._write(name, data)
        except Exception as error:
            raise StoreError(f"the store's record {name!r} can't be written: {_why(error)}") from error

    def _read(self, name: str) -> bytes:
        if self._directory is not None:
            with open(os.path.join(self._directory, name), "rb") as file:
                return file.read()
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(f"{self._url}/{name}")
        return bytes(filesystem.cat_file(path))

    def _write(self, name: str, data: bytes) -> None:
        if self._directory is None:
            import fsspec

            filesystem, path = fsspec.core.url_to_fs(f"{self._url}/{name}")
            try:
                filesystem.pipe_file(path, data)
            except FileNotFoundError:
                # Not an object store but one with folders.
                filesystem.makedirs(posixpath.dirname(path), exist_ok=True)
                filesystem.pipe_file(path, data)
            return
        path = os.path.join(self._directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # A name of its own: two processes that write one record must not share a temporary file.
        temporary = f"{path}.{uuid.uuid4().hex}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
