"""Media that callers sent as bytes: received into a part file, then kept under the digest of its content.

Must not know: HTTP, what the bytes mean.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from amber_ray.core.model.pages import uploads_of
from amber_ray.errors import MediaError, StoreError, TooLarge
from amber_ray.media.locate import Location, Locator
from amber_ray.settings import Limits
from amber_ray.store.files import local_directory

_EXTENSIONS = {
    "video/mp4": "mp4", "video/quicktime": "mov", "video/3gpp": "3gp", "video/webm": "webm",
    "video/x-matroska": "mkv", "video/x-msvideo": "avi", "video/mpeg": "mpg", "video/mp2t": "ts",
    "video/x-flv": "flv", "video/x-ms-asf": "asf", "video/mxf": "mxf", "video/ogg": "ogv",
    "video/x-nut": "nut", "video/x-ivf": "ivf", "video/dv": "dv", "video/x-realmedia": "rm",
    "video/x-yuv4mpeg": "y4m",
    "audio/mpeg": "mp3", "audio/mp4": "m4a", "audio/3gpp": "3gp", "audio/webm": "webm",
    "audio/x-matroska": "mka", "audio/wav": "wav", "audio/x-w64": "w64", "audio/aiff": "aiff",
    "audio/basic": "au", "audio/x-caf": "caf", "audio/flac": "flac", "audio/ogg": "ogg", "audio/aac": "aac",
    "audio/ac3": "ac3", "audio/eac3": "eac3", "audio/vnd.dts": "dts", "audio/amr": "amr",
    "audio/x-ape": "ape", "audio/x-wavpack": "wv", "audio/x-tta": "tta",
    "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif", "image/bmp": "bmp",
    "image/tiff": "tiff", "image/avif": "avif", "image/heic": "heic",
}  # fmt: skip
"""Names that other programs know, by what the content was found to be; anything else is called `bin`."""
_STALE_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes received and not yet published: the file, its BLAKE2b-128 in hex, its size in bytes."""

    path: str
    digest: str
    size: int


class Uploads:
    """The folder `<store>/uploads`, local or remote; `root` is the media root it makes.

    `below` is what the places of uploads begin with.
    """

    def __init__(self, store_url: str, limits: Limits) -> None:
        self._limits = limits
        directory = local_directory(store_url)
        self._local = directory is not None
        self.root = os.path.join(directory, "uploads") if directory else store_url.rstrip("/") + "/uploads"
        self._parts = os.path.join(directory, "uploads", ".parts") if directory else tempfile.gettempdir()
        self._made = not self._local
        self.root = os.path.realpath(self.root) if self._local else self.root
        self.below = self.root.rstrip("/") + "/"

    @contextlib.contextmanager
    def receive(self, chunks: Iterable[bytes]) -> Iterator[Part]:
        """Write the chunks to a part file that is gone when the block ends, unless it was published.

        Raises `TooLarge` past `limits.upload_bytes` and `MediaError` for no bytes at all.
        """
        self._make()
        path = os.path.join(self._parts, f"amber-{uuid.uuid4().hex}.part")
        digest, size = hashlib.blake2b(digest_size=16), 0
        try:
            with open(path, "xb") as file:
                for chunk in chunks:
                    size += len(chunk)
                    if size > self._limits.upload_bytes:
                        raise TooLarge(
                            f"an upload may have {self._limits.upload_bytes} bytes; this one has more"
                        )
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if not size:
                raise MediaError("the upload is empty")
            yield Part(path, digest.hexdigest(), size)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def publish(self, part: Part, media_type: str, tenant: str = "") -> Location:
        """Give the part its lasting name, `<digest>.<extension>`, in the folder of a tenant, if it is of one.

        The same bytes twice are one file of each tenant that sent them.
        """
        name = f"{uploads_of(tenant)}{part.digest}.{_EXTENSIONS.get(media_type, 'bin')}"
        if self._local:
            path = os.path.join(self.root, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if not (os.path.exists(path) and os.path.getsize(path) == part.size):
                os.replace(part.path, path)
            return Locator([self.root]).resolve(path)
        import fsspec

        url = f"{self.root}/{name}"
        try:
            filesystem, path = fsspec.core.url_to_fs(url)
            filesystem.put_file(part.path, path)
        except Exception as error:
            raise StoreError(f"the upload could not be kept in the store: {type(error).__name__}") from error
        return Locator([self.root]).resolve(url)

    def _make(self) -> None:
        """Make the folder, when something is uploaded first: a store that is only read stays as it is."""
        if not self._made:
            os.makedirs(self._parts, exist_ok=True)
            self._sweep()
            self._made = True

    def _sweep(self) -> None:
        """Remove parts that a process left behind when it died."""
        with os.scandir(self._parts) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - entry.stat().st_mtime > _STALE_SECONDS:
                        os.unlink(entry.path)
