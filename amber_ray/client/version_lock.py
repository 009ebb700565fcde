"""The code book: which code a pinned version stood for when it was first used with a store.

`<store>/code.json` maps feature and version to a code digest. A digest is remembered once and kept, so that
code changed under the same version goes on being reported (`amber check`) until the version is changed or the
new code is accepted. Must not know: how digests are made, where values are.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from amber_ray.core.model.service import FeatureInfo
from amber_ray.errors import StoreError

NAME = "code.json"
Book = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Change:
    """A feature whose code is not what its version stood for."""

    feature: str
    version: str
    remembered: str
    now: str

    def __str__(self) -> str:
        return (
            f"{self.feature}: the code changed under version {self.version!r}; "
            "values computed by the old code are still served. Give it a new version"
        )


async def remember(store: str, infos: Iterable[FeatureInfo], *, accept: bool = False) -> list[Change]:
    """Add versions not met before to the store's book and return what changed under known ones.

    With `accept` the changed digests are written too, so that they are not reported again.
    """
    return await asyncio.to_thread(record, store, list(infos), accept=accept)


def record(store: str, infos: Iterable[FeatureInfo], *, accept: bool = False) -> list[Change]:
    """`remember`, for programs without an event loop."""
    infos = list(infos)
    known = read(store)
    changes = compare(known, infos)
    book = {feature: dict(versions) for feature, versions in known.items()}
    for info in infos:
        versions = book.setdefault(info.name, {}) if info.pinned else {}
        if accept or info.version not in versions:
            versions[info.version] = info.code_digest
    if book != known:
        _write(store, book)
    return changes


def compare(known: Book, infos: Iterable[FeatureInfo]) -> list[Change]:
    """The pinned features whose digest differs from the remembered one, by name."""
    changes = []
    for info in sorted(infos, key=lambda i: i.name):
        was = known.get(info.name, {}).get(info.version)
        if info.pinned and was is not None and was != info.code_digest:
            changes.append(Change(info.name, info.version, was, info.code_digest))
    return changes


def read(store: str) -> dict[str, dict[str, str]]:
    """The store's book; empty if there is none. Raises `StoreError` if it is not one."""
    from amber_ray.store.files import Files

    files = Files(store)
    text = files.read(NAME)
    if text is None:
        return {}
    try:
        book = json.loads(text)
        return {str(f): {str(v): str(d) for v, d in versions.items()} for f, versions in book.items()}
    except (ValueError, AttributeError) as error:
        raise StoreError(
            f"{files.path(NAME)} is not a code book ({error}); delete it to begin a new one"
        ) from error


def _write(store: str, book: Book) -> None:
    """Replace the book at once: another process sees the old one or the new one."""
    from amber_ray.store.files import Files

    Files(store).write(NAME, json.dumps(book, indent=1, sort_keys=True).encode() + b"\n")
