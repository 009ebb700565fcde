"""Where media may be read from: URIs become locations inside the configured roots, or errors.

Everything that a caller could mean by a URI passes here first: plain paths, `file:` URIs, remote URLs.
Symlinks, `..` and percent-encoding are resolved before the root check, and nothing outside the roots is
told apart (present, absent, a directory: all `Forbidden`), so messages quote only the caller's own words.
Must not know: what is inside the files.
"""

from __future__ import annotations

import os
import re
import stat
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amber_ray.core.model.absent import nothing_at
from amber_ray.core.model.naming import plain
from amber_ray.errors import BadRequest, Forbidden, MediaError, SystemFault

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_LOCAL_HOSTS = ("", "localhost")
LONGEST_URI = 8192
"""Characters in a URI; longer ones are refused before anything is looked up."""


@dataclass(frozen=True, slots=True)
class Location:
    """One readable place. `uri` is an absolute real path or a remote URL.

    `signature` changes whenever the bytes may have changed (None: the place gives nothing to tell by);
    `size` is in bytes; `etag` a remote object's strong ETag or version id; `changed` when the file last
    changed in nanoseconds (0 for remote objects).
    """

    uri: str
    remote: bool
    size: int
    signature: str | None
    etag: str | None = None
    changed: int = 0


@dataclass(frozen=True, slots=True)
class Locator:
    """Resolves URIs against `roots` (directories, or URL prefixes such as `s3://bucket/films`).

    `remote_schemes` switches on whole schemes (`"https"`). With neither, nothing remote is touched, so a
    caller can't make the server fetch what only the server can reach.
    """

    roots: tuple[str, ...]
    prefixes: tuple[str, ...]
    remote_schemes: frozenset[str]

    def __init__(self, roots: Sequence[str], remote_schemes: Sequence[str] = ()) -> None:
        """Raise `BadRequest` for a root that is not a directory."""
        directories: list[str] = []
        prefixes: list[str] = []
        for root in roots:
            if "://" in root and not root.startswith("file://"):
                prefixes.append(root.rstrip("/") + "/")
                continue
            path = _file_path(root) if root.startswith("file:") else os.path.abspath(root)
            real = os.path.realpath(path)
            if not os.path.isdir(real):
                raise BadRequest(f"media root {root!r} is not a directory; name one that exists")
            directories.append(real)
        object.__setattr__(self, "roots", tuple(dict.fromkeys(directories)))
        object.__setattr__(self, "prefixes", tuple(dict.fromkeys(prefixes)))
        object.__setattr__(self, "remote_schemes", frozenset(s.lower() for s in remote_schemes))

    def including(self, root: str) -> Locator:
        """This locator with one more root, a URL prefix or a real path; it need not be there yet."""
        made = Locator((*self.roots, *self.prefixes), tuple(self.remote_schemes))
        if "://" in root:
            object.__setattr__(made, "prefixes", (*made.prefixes, root.rstrip("/") + "/"))
        else:
            object.__setattr__(made, "roots", (*made.roots, root))
        return made

    def resolve(self, uri: str) -> Location:
        """The location that `uri` means.

        Raises `Forbidden` outside the roots, for relative paths and for schemes that are off;
        `MediaNotFound` where nothing is; `MediaError` for directories, devices, empty files and
        malformed URIs.
        """
        kind, target = self.parse(uri)
        return self._remote(uri, target) if kind == "remote" else self._local(uri, target)

    def admit(self, prefix: str) -> None:
        """Raise `Forbidden` for a folder, file or URL outside the roots. It need not be there yet."""
        kind, place = self.parse(prefix)
        if kind == "local" and not self.holds(place):
            raise Forbidden(
                f"{prefix!r} is outside the media roots; move it into one or add its folder as a media root"
            )

    def holds(self, path: str) -> bool:
        """Whether a path of this machine leads into one of the roots, links resolved."""
        real = os.path.realpath(path)
        return any(real == root or real.startswith(root.rstrip("/") + "/") for root in self.roots)

    def parse(self, uri: str) -> tuple[str, str]:
        """Split into ("local", absolute path as written) or ("remote", URL), touching nothing."""
        if not uri:
            raise MediaError("a media URI can't be empty text")
        if len(uri) > LONGEST_URI:
            raise MediaError(f"a media URI may have {LONGEST_URI} characters, not {len(uri)}")
        if "\0" in uri:
            raise MediaError(f"{uri!r} contains a null byte, which no media URI can")
        try:
            uri.encode()
        except UnicodeEncodeError as error:
            raise MediaError(f"{uri!r} is not valid Unicode text") from error
        if uri.startswith("/"):
            return "local", uri
        scheme = _SCHEME.match(uri)
        if scheme is None:
            raise Forbidden(f"{uri!r} is relative; give an absolute path or a URI inside the media roots")
        if scheme.group().lower() == "file:":
            return "local", _file_path(uri)
        return "remote", self._allowed_url(uri, scheme.group()[:-1].lower())

    def _allowed_url(self, uri: str, scheme: str) -> str:
        parts = urllib.parse.urlsplit(uri) if uri[len(scheme) :].startswith("://") else None
        under_root = any(uri.startswith(prefix) for prefix in self.prefixes)
        if parts is None or not (scheme in self.remote_schemes or under_root):
            if any(prefix.startswith(f"{scheme}://") for prefix in self.prefixes):
                raise Forbidden(f"{plain(uri)!r} is outside the media roots; move it into one")
            raise Forbidden(
                f"{plain(uri)!r} uses the scheme {scheme!r}, which is switched off; "
                "use a file inside the media roots, or allow the scheme in the settings"
            )
        if "::" in uri:
            raise Forbidden(f"{plain(uri)!r} chains URLs with '::', which is not allowed")
        if "@" in parts.netloc:
            raise Forbidden(f"{plain(uri)!r} carries credentials; configure them on the server instead")
        if ".." in re.split(r"[/\\]", urllib.parse.unquote(parts.path)):
            raise Forbidden(f"{plain(uri)!r} contains '..', which is not allowed in a URL")
        return uri

    def _local(self, uri: str, path: str) -> Location:
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError) as error:
            raise nothing_at(uri) from error
        if not any(real == root or real.startswith(root.rstrip("/") + "/") for root in self.roots):
            raise Forbidden(
                f"{uri!r} is outside the media roots; "
                + (
                    "move it into one or add its folder as a media root"
                    if self.roots
                    else "none is configured"
                )
            )
        try:
            status = os.stat(real)
        except PermissionError as error:
            raise Forbidden(f"{uri!r} can't be read: permission denied") from error
        except OSError as error:
            raise nothing_at(uri) from error
        if stat.S_ISDIR(status.st_mode):
            raise MediaError(f"{uri!r} is a directory; name one media file (amber backfill takes folders)")
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{uri!r} is not a regular file")
        if status.st_size == 0:
            raise MediaError(f"{uri!r} is empty")
        try:
            real.encode()
        except UnicodeEncodeError as error:
            raise MediaError(f"{uri!r} leads to a file whose name is not valid UTF-8; rename it") from error
        return Location(real, False, status.st_size, signature_of(status), None, _changed(status))

    def _remote(self, uri: str, url: str) -> Location:
        shown = plain(uri)
        info = _remote_info(url, shown)
        if info.get("type") == "directory":
            raise MediaError(f"{shown!r} is a directory; name one media object")
        size = info.get("size")
        if not isinstance(size, int):
            raise MediaError(f"{shown!r} does not tell its size, so it can't be read in parts")
        if size == 0:
            raise MediaError(f"{shown!r} is empty")
        etag = _strong_etag(info)
        moved = next(
            (
                info[k]
                for k in ("LastModified", "Last-Modified", "updated", "mtime", "created")
                if info.get(k)
            ),
            None,
        )
        told = etag or (str(moved) if moved is not None else None)
        return Location(url, True, size, f"{size}:{told}" if told else None, etag)


def signature_of(status: os.stat_result) -> str:
    """Size, modification and change time, inode and device: what a file's content is remembered by.

    The change time is there because tools restore modification times (`cp -p`, `rsync -t`) over new
    content of the same size; a chmod or a rename then costs one more digest, and nothing else.
    """
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}:{status.st_dev}"


def _changed(status: os.stat_result) -> int:
    return max(status.st_mtime_ns, status.st_ctime_ns)


def _file_path(uri: str) -> str:
    """The path of a `file:` URI, percent-decoded once."""
    rest = uri[len("file:") :]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if urllib.parse.unquote(host).lower() not in _LOCAL_HOSTS:
            raise Forbidden(f"{uri!r} names the host {host!r}; only files of this machine can be read")
        rest = slash + path
    if not rest.startswith("/"):
        raise Forbidden(f"{uri!r} is relative; write file:///absolute/path")
    try:
        path = urllib.parse.unquote(rest, errors="strict")
    except UnicodeDecodeError as error:
        raise MediaError(f"{uri!r} does not decode to valid UTF-8") from error
    if "\0" in path:
        raise MediaError(f"{uri!r} contains a null byte, which no media URI can")
    return path


def _remote_info(url: str, shown: str) -> Mapping[str, Any]:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        # A listing cached earlier would hide that the object has changed since.
        filesystem.invalidate_cache()
        info: Mapping[str, Any] = filesystem.info(path)
    except FileNotFoundError as error:
        raise nothing_at(shown) from error
    except PermissionError as error:
        raise Forbidden(f"{shown!r} can't be read: permission denied") from error
    except (ImportError, ValueError) as error:
        raise MediaError(f"{shown!r} can't be opened: {type(error).__name__}") from error
    except Exception as error:
        # fsspec's back ends raise whatever their client library does (botocore, aiohttp, ...).
        raise SystemFault(f"{shown!r} could not be reached: {type(error).__name__}") from error
    return info


def _strong_etag(info: Mapping[str, Any]) -> str | None:
    version = info.get("VersionId") or info.get("version_id") or info.get("generation")
    etag = info.get("ETag") or info.get("etag")
    if isinstance(etag, str) and etag and not etag.startswith("W/"):
        return etag.strip('"') + (f";{version}" if version and version != "null" else "")
    return str(version) if version and version != "null" else None
