"""The media that words name, one by one: paths, folders, patterns, lists in files, prefixes of object stores.

A catalogue may have millions of assets, so nothing here holds them all: a folder is read entry by entry, a
bucket page by page. `surveyed` looks through what is local beforehand, for how many there are and where they
lie. Must not know: what is done with an asset.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from amber_ray.errors import BadRequest, MediaNotFound, Unavailable

MAGIC = re.compile(r"[*?\[]")
PAGE = 1000
"""Keys in one answer of S3, which is the most it gives."""


@dataclass
class Survey:
    """What is known of a catalogue beforehand.

    `count` is of what is local or named by itself; `open` says that there are prefixes of object stores
    beside it, whose number nobody knows before they were listed. `folders` hold the local media, under the
    name given and where symbolic links lead; `schemes` are those of the URLs.
    """

    count: int = 0
    open: bool = False
    folders: dict[str, None] = field(default_factory=dict)
    schemes: set[str] = field(default_factory=set)

    @property
    def total(self) -> int | None:
        """How many assets there are; None while that is not known."""
        return None if self.open else self.count


def surveyed(places: Iterable[str]) -> Survey:
    """Look through all that `places` name, without keeping it. Raises `BadRequest` for one with nothing."""
    survey = Survey()
    for place in itertools.chain.from_iterable(map(_read, places)):
        if _many(place):
            survey.open = True
            survey.schemes.add(place.partition("://")[0])
            continue
        before = survey.count
        for asset in _local(place, ordered=False):
            survey.count += 1
            scheme, mark, _ = asset.partition("://")
            if mark and scheme != "file":
                survey.schemes.add(scheme)
                continue
            path = _path(asset)
            survey.folders[os.path.dirname(path)] = None
            survey.folders[os.path.dirname(os.path.realpath(path))] = None
        if survey.count == before:
            raise BadRequest(f"{place} holds no media")
    return survey


def assets(places: Iterable[str], *, ordered: bool = False) -> Iterator[str]:
    """Every asset that `places` name, in their order, found as they are asked for.

    Within a folder the order is the file system's own, or with `ordered` that of the names, for which the
    names of one folder at a time are held in memory. Of a folder or a prefix everything below it that is
    named like media is listed, hidden files left out; of a pattern all that matches. An asset that two places
    name comes twice. Raises `BadRequest` for a place with nothing.
    """
    for place in itertools.chain.from_iterable(map(_read, places)):
        found = _remote(place) if _many(place) else _local(place, ordered)
        first = next(found, None)
        if first is None:
            raise BadRequest(f"{place} holds no media")
        yield first
        yield from found


def _read(place: str) -> Iterator[str]:
    """A place as it is; of `@FILE` its lines, without comments, as they are read."""
    if not place.startswith("@"):
        yield place
        return
    with open(place[1:], encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if (line := line.strip()) and not line.startswith("#"):
                yield from _read(line)


def _many(place: str) -> bool:
    """Whether a URL stands for all below it (`s3://bucket/prefix/`) or is a pattern."""
    scheme, mark, rest = place.partition("://")
    if not mark or scheme == "file":
        return False
    return rest.endswith("/") or (scheme not in ("http", "https") and MAGIC.search(rest) is not None)


def _path(asset: str) -> str:
    from urllib.parse import unquote

    path = unquote(urlsplit(asset).path) if asset.startswith("file://") else os.path.expanduser(asset)
    return os.path.abspath(path)


def _local(place: str, ordered: bool) -> Iterator[str]:
    """What is at one place: a file or a URL itself, a folder's media, what matches a pattern."""
    if "://" in place:
        yield place
        return
    path = os.path.expanduser(place)
    if os.path.isdir(path):
        yield from (p for p in _below(path, ordered) if is_media(p))
    elif os.path.exists(path) or not MAGIC.search(path):
        yield path
    else:
        yield from _matching(path, ordered)


def _below(folder: str, ordered: bool, deep: int | None = None) -> Iterator[str]:
    """The files under a folder, at most `deep` folders down; hidden ones are left out."""
    with os.scandir(folder) as entries:
        each: Iterable[os.DirEntry[str]] = sorted(entries, key=lambda e: e.name) if ordered else entries
        for entry in each:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir(follow_symlinks=False):
                if entry.is_file():
                    yield entry.path
            elif deep is None or deep > 0:
                yield from _below(entry.path, ordered, None if deep is None else deep - 1)


def _matching(pattern: str, ordered: bool) -> Iterator[str]:
    """The files that match, looked for below the last folder that the pattern spells out."""
    parts = pattern.split("/")
    fixed = next(i for i, part in enumerate(parts) if MAGIC.search(part))
    base = "/".join(parts[:fixed]) or ("/" if pattern.startswith("/") else ".")
    if not os.path.isdir(base):
        return
    matches = _matcher("/".join(parts[fixed:]))
    deep = None if "**" in parts else len(parts) - fixed - 1
    start = len(os.path.join(base, ""))
    for path in _below(base, ordered, deep):
        if matches(path[start:]):
            yield path if base != "." or pattern.startswith("./") else path[start:]


def _matcher(pattern: str) -> Any:
    from fsspec.utils import glob_translate

    return re.compile(glob_translate(pattern)).match


def _remote(place: str) -> Iterator[str]:
    """The objects below a prefix that are named like media, or those that match a pattern."""
    import fsspec

    scheme, _, rest = place.partition("://")
    fixed = MAGIC.search(rest)
    prefix = rest[: fixed.start()].rpartition("/")[0] + "/" if fixed else rest
    wanted = _matcher(rest) if fixed else is_media
    try:
        filesystem = fsspec.filesystem(scheme, use_listings_cache=False)
        names = _s3(filesystem, prefix) if scheme in ("s3", "s3a") else _walked(filesystem, prefix)
        for name in names:
            if wanted(name):
                yield f"{scheme}://{name}"
    except FileNotFoundError as error:
        raise MediaNotFound(f"there is nothing at {place}") from error
    except PermissionError as error:
        raise MediaNotFound(f"{place} can't be listed: permission denied") from error
    except (ImportError, ValueError) as error:
        raise BadRequest(f"{place} can't be listed: {error}") from error
    except Exception as error:
        # fsspec's back ends raise whatever their client library does (botocore, aiohttp, ...).
        raise Unavailable(f"{place} can't be listed: {type(error).__name__}: {error}") from error


def _s3(filesystem: Any, prefix: str) -> Iterator[str]:
    """Keys page by page; s3fs's own `find` would gather all of them first."""
    bucket, _, key = prefix.partition("/")
    more: dict[str, str] = {}
    while True:
        page = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=PAGE, **more)
        for item in page.get("Contents", ()):
            if item["Size"]:
                yield f"{bucket}/{item['Key']}"
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _walked(filesystem: Any, prefix: str) -> Iterator[str]:
    """The files of one folder after the other, each in the order of names."""
    for folder, _, files in filesystem.walk(prefix.rstrip("/") or "/"):
        yield from (f"{folder}/{name}".lstrip("/") for name in sorted(files))


def is_media(path: str) -> bool:
    """Whether a name ends like that of a video, a sound or a picture."""
    import mimetypes

    kind = mimetypes.guess_type(os.path.basename(path))[0] or ""
    return kind.startswith(("video/", "audio/", "image/"))
