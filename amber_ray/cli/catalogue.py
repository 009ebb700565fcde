"""The media that words name, one by one: paths, folders, patterns, lists in files, prefixes of object stores.

A catalogue may have millions of assets, so nothing here holds them all: a folder is read entry by entry, a
bucket page by page. `surveyed` looks through what is local beforehand, for how many there are, where they lie
and what is left out. Must not know: what is done with an asset.
"""

from __future__ import annotations

import codecs
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from amber_ray.errors import BadRequest, MediaNotFound, Unavailable
from amber_ray.media.names import ending_of, is_media

MAGIC = re.compile(r"[*?\[]")
SHOWN = 10
"""Names and endings that a note tells of, at most."""

PAGE = 1000
"""Keys in one answer of S3, which is the most it gives."""


@dataclass
class Survey:
    """What is known of a catalogue beforehand.

    `count` is of what is local or named by itself; `open` says that there are prefixes of object stores
    beside it, whose number nobody knows before they were listed. `folders` hold the local media, under the
    name given and where symbolic links lead; `schemes` are those of the URLs. `others` counts the files in
    folders that are not named like media, by the ending of their name; `unusable` are names that can't be
    used, each with its reason, the first `SHOWN` of them, and `refused` is how many there are.
    """

    count: int = 0
    open: bool = False
    folders: dict[str, None] = field(default_factory=dict)
    schemes: set[str] = field(default_factory=set)
    others: Counter[str] = field(default_factory=Counter)
    unusable: list[str] = field(default_factory=list)
    refused: int = 0

    def refuse(self, name: str, why: str) -> None:
        """Note a name that can't be used."""
        self.refused += 1
        if len(self.unusable) < SHOWN:
            self.unusable.append(f"{shown(name)} {why}")

    def notes(self) -> Iterator[str]:
        """What a user should know of what is left out, a line each."""
        if self.others:
            most = ", ".join(f".{e}" if e else "no ending" for e, _ in self.others.most_common(SHOWN))
            count = self.others.total()
            files = "1 file" if count == 1 else f"{count:,} files"
            yield f"left out, since not named like media: {files} ({most})"
        yield from (f"left out: {line}" for line in self.unusable)
        if self.refused > len(self.unusable):
            yield f"left out, for such reasons: {self.refused - len(self.unusable):,} more"

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
        before = survey.count + survey.refused
        for asset in _local(place, ordered=False, survey=survey):
            survey.count += 1
            scheme, mark, _ = asset.partition("://")
            if mark and scheme != "file":
                survey.schemes.add(scheme)
                continue
            path = _path(asset)
            survey.folders[os.path.dirname(path)] = None
            survey.folders[os.path.dirname(os.path.realpath(path))] = None
        if survey.count + survey.refused == before:
            raise BadRequest(f"{shown(place)} holds no media{_instead(survey)}")
    if not survey.count and survey.refused and not survey.open:
        raise BadRequest(f"none of the media can be used: {survey.unusable[0]}")
    return survey


def _instead(survey: Survey) -> str:
    return next((f"; {note}" for note in survey.notes()), "")


def shown(name: str) -> str:
    """Return a name as it may be printed, whatever bytes it has."""
    return name if name.isprintable() else ascii(name)


def assets(places: Iterable[str], *, ordered: bool = False) -> Iterator[str]:
    """Every asset that `places` name, in their order, found as they are asked for.

    Within a folder the order is the file system's own, or with `ordered` that of the names, for which the
    names of one folder at a time are held in memory. Of a folder or a prefix everything below it that is
    named like media is listed, hidden files left out; of a pattern all that matches. An asset that two places
    name comes twice. Raises `BadRequest` for a place with nothing.
    """
    for place in itertools.chain.from_iterable(map(_read, places)):
        left_out = Survey()
        found = _remote(place) if _many(place) else _local(place, ordered, left_out)
        first = next(found, None)
        if first is None and not left_out.refused:
            raise BadRequest(f"{shown(place)} holds no media{_instead(left_out)}")
        if first is not None:
            yield first
            yield from found


def _read(place: str) -> Iterator[str]:
    """A place as it is; of `@FILE` its lines, without comments, as they are read."""
    if not place.startswith("@"):
        yield place
        return
    with open(place[1:], "rb") as raw:
        mark = raw.read(4)
    encoding = next((name for bom, name in _MARKS if mark.startswith(bom)), "utf-8")
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    try:
        with open(place[1:], encoding=encoding, errors=errors) as file:
            for line in file:
                if (line := line.strip()) and not line.startswith("#"):
                    yield from _read(line)
    except UnicodeError as error:
        raise BadRequest(f"the list {place[1:]} begins as {encoding} and is not: {error}") from error


_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""How a list begins that an editor has marked with its encoding. UTF-32's mark begins with UTF-16's."""


def _many(place: str) -> bool:
    """Whether a URL stands for all below it (`s3://bucket/prefix/`) or is a pattern, and no object itself."""
    scheme, mark, rest = place.partition("://")
    if not mark or scheme == "file":
        return False
    if rest.endswith("/"):
        return True
    return scheme not in ("http", "https") and MAGIC.search(rest) is not None and not _exists(place)


def _exists(url: str) -> bool:
    """Whether there is an object of that very name, as a file's name may look like a pattern, too."""
    import fsspec

    try:
        scheme, _, path = url.partition("://")
        filesystem = fsspec.filesystem(scheme, use_listings_cache=False)
        return bool(filesystem.info(path).get("type") == "file")
    except Exception:  # noqa: BLE001
        # What keeps it from being looked at keeps it from being listed, where it is said why.
        return False


def _path(asset: str) -> str:
    from urllib.parse import unquote

    path = unquote(urlsplit(asset).path) if asset.startswith("file://") else os.path.expanduser(asset)
    return os.path.abspath(path)


def _local(place: str, ordered: bool, survey: Survey) -> Iterator[str]:
    """What is at one place: a file or a URL itself, a folder's media, what matches a pattern.

    What is left out is told to the `survey`.
    """
    if "://" in place:
        yield place
        return
    path = os.path.expanduser(place)
    if os.path.isdir(path):
        found = _named_like_media(_below(path, ordered, survey), survey)
    elif os.path.exists(path) or not MAGIC.search(path):
        found = iter([path])
    else:
        found = _matching(path, ordered, survey)
    for name in found:
        try:
            name.encode()
        except UnicodeEncodeError:
            survey.refuse(name, "has a name that is not UTF-8; rename it")
            continue
        yield name


def _named_like_media(paths: Iterable[str], survey: Survey) -> Iterator[str]:
    for path in paths:
        if is_media(path):
            yield path
        else:
            survey.others[ending_of(path)] += 1


def _below(folder: str, ordered: bool, survey: Survey, deep: int | None = None) -> Iterator[str]:
    """The files under a folder, at most `deep` folders down; hidden ones are left out."""
    return _walked(folder, ordered, survey, deep, [os.path.realpath(folder)])


def _walked(folder: str, ordered: bool, survey: Survey, deep: int | None, walked: list[str]) -> Iterator[str]:
    """As `_below`. Linked folders are followed, each once: `walked` are the real ones that are or will be."""
    try:
        with os.scandir(folder) as entries:
            each: Iterable[os.DirEntry[str]] = sorted(entries, key=lambda e: e.name) if ordered else entries
            for entry in each:
                if entry.name.startswith("."):
                    continue
                try:
                    file, deeper = entry.is_file(), entry.is_dir()
                except OSError as error:  # of this entry alone: a link to itself, or to a forbidden place
                    survey.refuse(entry.path, f"can't be read: {_reason(error)}")
                    continue
                if file:
                    yield entry.path
                elif deeper:
                    follow = not entry.is_symlink() or _new(entry.path, walked, survey)
                    if follow and (deep is None or deep > 0):
                        yield from _walked(
                            entry.path, ordered, survey, None if deep is None else deep - 1, walked
                        )
                elif entry.is_symlink():
                    survey.refuse(entry.path, "is a link to nothing")
    except OSError as error:
        survey.refuse(folder, f"can't be read: {_reason(error)}")


def _reason(error: OSError) -> str:
    """The system's words for an error, without its number and the name."""
    return (error.strerror or type(error).__name__).lower()


def _new(link: str, walked: list[str], survey: Survey) -> bool:
    """Whether a link leads to a folder that nobody walks otherwise."""
    target = os.path.realpath(link)
    if any(target == w or target.startswith(w.rstrip("/") + "/") for w in walked):
        return False
    if any(w.startswith(target.rstrip("/") + "/") for w in walked):
        survey.refuse(link, "is a link to a folder that it lies in")
        return False
    walked.append(target)
    return True


def _matching(pattern: str, ordered: bool, survey: Survey) -> Iterator[str]:
    """The files that match, looked for below the last folder that the pattern spells out."""
    parts = pattern.split("/")
    fixed = next(i for i, part in enumerate(parts) if MAGIC.search(part))
    base = "/".join(parts[:fixed]) or ("/" if pattern.startswith("/") else ".")
    if not os.path.isdir(base):
        return
    matches = _matcher("/".join(parts[fixed:]))
    deep = None if "**" in parts else len(parts) - fixed - 1
    start = len(os.path.join(base, ""))
    for path in _below(base, ordered, survey, deep):
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
        names = _s3(filesystem, prefix) if scheme in ("s3", "s3a") else _listed(filesystem, prefix)
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


def _listed(filesystem: Any, prefix: str) -> Iterator[str]:
    """The files of one folder after the other, each in the order of names."""
    for folder, _, files in filesystem.walk(prefix.rstrip("/") or "/"):
        yield from (f"{folder}/{name}".lstrip("/") for name in sorted(files))
