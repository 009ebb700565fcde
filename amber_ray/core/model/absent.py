"""What is said of what is not there, in the same words to all: also to those who may not know that it is.

Must not know: who may know what.
"""

from __future__ import annotations

from amber_ray.errors import MediaNotFound, UnknownAsset, UnknownKey


def nothing_at(uri: str) -> MediaNotFound:
    """Return what is said of a place where no media is."""
    return MediaNotFound(f"there is no media at {uri!r}")


def no_asset(id: str) -> UnknownAsset:
    """Return what is said of an id that no asset has."""
    return UnknownAsset(f"no asset has the id {id[:64]!r}; register its URI first")


def no_value(key: str) -> UnknownKey:
    """Return what is said of a key that no value has."""
    return UnknownKey(f"no value is stored under key {key!r}; keys come from POST /v1/compute")
