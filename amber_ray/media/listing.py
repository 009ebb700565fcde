"""What media lie under a prefix now, page by page: folders of this machine, S3 and other object stores.

A place is told with a signature and the time of its last change as the listing itself gives them: a folder's
entries are `stat`ed as they are read, which is what a listing of files is, and an object store's pages tell.
No file is opened and no object asked for.

What can't be seen now is told apart from what is not there: a folder that may not be read, a bucket that does
not answer and a name that is no UTF-8 are `Unseen`, and nothing below them may be taken for gone. Blocking.
Must not know: demands, what is done with a listing.
"""

from __future__ import annotations

import datetime
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from amber_ray.core.model.listing import Listed
from amber_ray.core.model.naming import plain
from amber_ray.errors import AmberError
from amber_ray.media.locate import Locator, signature_of
from amber_ray.media.names import is_media

PAGE = 1000
"""Places of a page, at most, and keys in one answer of S3, which is the most that it gives."""

Unseen = Callable[[str, str], object]
"""Called with the beginning of what could not be seen, and why."""


def pages(prefix: str, locator: Locator, unseen: Unseen) -> Iterator[list[Listed]]:
    """The media under a prefix: a folder, a file, or a URL, of which one that ends with "/" has all below it.

    Within a folder the order is the file system's own. Hidden files, empty ones and those that are not named
    like media are left out, and so are links that lead to nothing.
    """
    try:
        kind, place = locator.parse(prefix)
    except AmberError as error:
        unseen(prefix, str(error))
        return
    found = _objects(place, unseen) if kind == "remote" else _files(place, locator, unseen)
    page: list[Listed] = []
    for row in found:
        page.append(row)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


class Unclear(Exception):
    """What is at a place can't be told by a look at it alone: it is a folder, or behind a link to one."""


def look_at(place: str, cover: Iterable[str], locator: Locator, unseen: Unseen) -> Listed | None:
    """What a listing of the prefixes of `cover` would tell of one place below them; None: nothing.

    Raises `Unclear` where only the whole listing can tell.
    """
    if "://" in place:
        return _object(place, unseen)
    for prefix in cover:
        if place == prefix or place.startswith(prefix.rstrip("/") + "/"):
            return _file(place, prefix, locator, unseen)
    return None


def _file(path: str, prefix: str, locator: Locator, unseen: Unseen) -> Listed | None:
    below = path[len(prefix) :].strip("/").split("/")
    if any(part.startswith(".") for part in below):
        return None
    folder = prefix
    for part in below[:-1]:
        folder = os.path.join(folder, part)
        if os.path.islink(folder):
            raise Unclear(path)
    try:
        locator.admit(prefix)
        os.stat(prefix)  # a disk that is not mounted has no files that are gone
        status = os.stat(path)
    except AmberError as error:
        unseen(path, str(error))
        return None
    except OSError as error:
        if not (isinstance(error, FileNotFoundError | NotADirectoryError) and os.path.isdir(prefix)):
            unseen(path, f"{path!r} can't be read: {_reason(error)}")
        return None
    if stat.S_ISDIR(status.st_mode):
        raise Unclear(path)
    fits = stat.S_ISREG(status.st_mode) and status.st_size and is_media(path) and _utf8(path)
    return _listed(path, status) if fits else None


def _object(url: str, unseen: Unseen) -> Listed | None:
    import fsspec

    scheme, _, place = url.partition("://")
    try:
        info = fsspec.filesystem(scheme, use_listings_cache=False).info(place)
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001
        unseen(url, f"{plain(url)!r} can't be looked at: {type(error).__name__}: {error}")
        return None
    return _listed_object(scheme, info)


def _files(path: str, locator: Locator, unseen: Unseen) -> Iterator[Listed]:
    try:
        locator.admit(path)
        status = os.stat(path)
    except AmberError as error:
        unseen(path, str(error))
        return
    except OSError as error:
        unseen(path, f"{path!r} can't be read: {_reason(error)}")
        return
    if stat.S_ISDIR(status.st_mode):
        yield from _below(path.rstrip("/") or "/", locator, unseen, {(status.st_dev, status.st_ino)})
    elif is_media(path) and status.st_size and stat.S_ISREG(status.st_mode):
        yield _listed(path, status)


def _below(folder: str, locator: Locator, unseen: Unseen, walked: set[tuple[int, int]]) -> Iterator[Listed]:
    """What is in a folder and below it. Linked folders are followed inside the roots, each folder once.

    Folders come after the files, real ones first, in the order of their names: so a place that can be reached
    by several ways is told by the same one each time.
    """
    deeper: list[tuple[bool, str]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue  # a link to nothing, or it was deleted meanwhile
                except OSError as error:
                    unseen(entry.path, f"{entry.path!r} can't be read: {_reason(error)}")
                    continue
                if stat.S_ISDIR(status.st_mode):
                    deeper.append((entry.is_symlink(), entry.path))
                elif stat.S_ISREG(status.st_mode) and status.st_size and is_media(entry.name):
                    if _utf8(entry.path):
                        yield _listed(entry.path, status)
                    else:
                        unseen(entry.path, f"{entry.path!a} has a name that is not UTF-8; rename it")
    except OSError as error:
        unseen(folder, f"{folder!r} can't be read: {_reason(error)}")
        return
    for linked, path in sorted(deeper):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            unseen(path, f"{path!r} can't be read: {_reason(error)}")
            continue
        this = status.st_dev, status.st_ino
        if this in walked or (linked and not locator.holds(path)):
            continue
        walked.add(this)
        yield from _below(path, locator, unseen, walked)


def _listed(path: str, status: os.stat_result) -> Listed:
    # The change time alone: a modification time is what its writer says, perhaps of the day it was filmed.
    return Listed(path, signature_of(status), status.st_ctime)


def _utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _objects(url: str, unseen: Unseen) -> Iterator[Listed]:
    import fsspec

    scheme, _, place = url.partition("://")
    try:
        filesystem = fsspec.filesystem(scheme, use_listings_cache=False)
        if not place.endswith("/"):
            infos: Iterable[Any] = [filesystem.info(place)]
        elif scheme in ("s3", "s3a"):
            infos = _s3(filesystem, place)
        else:
            infos = _walked(filesystem, place)
        for info in infos:
            if (row := _listed_object(scheme, info)) is not None:
                yield row
    except Exception as error:  # noqa: BLE001
        # fsspec's back ends raise whatever their client library does (botocore, aiohttp, ...).
        unseen(url, f"{plain(url)!r} can't be listed: {type(error).__name__}: {error}")


def _listed_object(scheme: str, info: Any) -> Listed | None:
    if not (info["type"] == "file" and info["size"] and is_media(info["name"])):
        return None
    changed = _changed(info)
    told = str(info.get("ETag") or info.get("etag") or changed)
    return Listed(f"{scheme}://{info['name'].lstrip('/')}", f"{info['size']}:{told}", changed)


def _s3(filesystem: Any, prefix: str) -> Iterator[Any]:
    """Keys page by page; s3fs's own `find` would gather all of them first."""
    bucket, _, key = prefix.partition("/")
    more: dict[str, str] = {}
    while True:
        page = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=PAGE, **more)
        for item in page.get("Contents", ()):
            name = f"{bucket}/{item['Key']}"
            yield {"type": "file", "name": name, "size": item["Size"], **item}
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _walked(filesystem: Any, prefix: str) -> Iterator[Any]:
    """The files of one folder after the other; a folder that can't be listed raises."""
    for _, _, files in filesystem.walk(prefix.rstrip("/") or "/", detail=True, on_error="raise"):
        yield from files.values()


def _changed(info: Any) -> float:
    for name in ("LastModified", "updated", "mtime", "created"):
        when = info.get(name)
        if isinstance(when, datetime.datetime):
            return when.timestamp()
        if isinstance(when, int | float):
            return float(when)
    return 0.0
