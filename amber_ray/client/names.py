"""How callers name things: features by name or by the decorated function, assets by path, URI, id or `Asset`.

One place decides, so that what a caller passes to `get_many` is also what looks the answer up in `Results`.
Must not know: how a request travels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote

from amber_ray.core.model.callback import Callback
from amber_ray.core.model.request import AssetRef, Priority
from amber_ray.core.model.units import Asset
from amber_ray.errors import BadRequest
from amber_ray.wire.compute import decode_callback

FeatureLike = str | Callable[..., Any]
"""A feature's name, or the function or class that `@feature` decorated."""

AssetLike = str | os.PathLike[str] | Asset | AssetRef
"""A path, a URI, an asset id (32 hex digits), an `Asset` or an `AssetRef`."""

CallbackLike = str | Mapping[str, Any] | Callback
"""Who is to be called with a request's end or news of a demand: a URL, or `{"url": ..., "on": [...]}`."""

_ID = re.compile(r"[0-9a-f]{32}\Z")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True, slots=True)
class Named:
    """An asset under the name its caller used, and the reference that is sent."""

    name: str
    ref: AssetRef


def named_callback(callback: CallbackLike | None) -> Callback | None:
    """Return who is to be called, if anybody is. Raises `BadRequest`."""
    if callback is None or isinstance(callback, Callback):
        return callback
    given = {"url": callback} if isinstance(callback, str) else dict(callback)
    return decode_callback({**given, "on": list(given["on"])} if "on" in given else given)


def feature_name(feature: FeatureLike) -> str:
    """Return the name of a feature given by name or as the decorated function. Raises `BadRequest`."""
    if isinstance(feature, str):
        return feature
    name = getattr(getattr(feature, "__amber__", None), "name", None)
    if isinstance(name, str):
        return name
    shown = getattr(feature, "__name__", repr(feature))
    raise BadRequest(f"{shown} is not a feature: give a feature's name or a function decorated with @feature")


def feature_names(features: FeatureLike | Iterable[FeatureLike]) -> tuple[str, ...]:
    """Return one or many features as unique names, in order. A string may hold several: `"a,b"`."""
    if isinstance(features, str):
        given: Iterable[FeatureLike] = [part.strip() for part in features.split(",")]
    else:
        given = [features] if callable(features) else features
    names = tuple(dict.fromkeys(feature_name(f) for f in given))
    if not names or names == ("",):
        raise BadRequest("ask for at least one feature, by name")
    if "" in names:
        raise BadRequest(f"{features!r:.80} has an empty name; features are named as in 'shots,loudness'")
    return names


def decorated(features: FeatureLike | Iterable[FeatureLike]) -> list[Callable[..., Any]]:
    """Return those of the features that are given as decorated objects, not by name."""
    if isinstance(features, str):
        return []
    return [features] if callable(features) else [f for f in features if not isinstance(f, str)]


def asset_name(asset: AssetLike) -> str:
    """Return what the caller wrote for an asset, which its results are found by."""
    if isinstance(asset, Asset):
        return asset.id
    if isinstance(asset, AssetRef):
        return asset.uri or asset.id or ""
    try:
        return os.fspath(asset)
    except TypeError:
        raise BadRequest(
            f"an asset is named by a path, a URI or an id, not by {type(asset).__name__}"
        ) from None


def asset_ref(asset: AssetLike) -> AssetRef:
    """Return the reference that is sent for an asset.

    A path becomes absolute, since a server has another working directory, whether there is a file or not:
    then the answer names the place where none is. An id and a URI are sent as they are.
    """
    if isinstance(asset, Asset):
        return AssetRef(id=asset.id)
    if isinstance(asset, AssetRef):
        if not (asset.uri or asset.id):
            raise BadRequest("an asset needs a uri or an id")
        return asset
    text = asset_name(asset)
    if not text:
        raise BadRequest("an asset's path or URI is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{text!a} has a name that is not UTF-8, which can't be sent; rename it") from None
    if "://" in text:
        return AssetRef(uri=text)
    path = os.path.abspath(os.path.expanduser(text))
    if os.path.exists(path) or not (_ID.match(text) or _SCHEME.match(text)):
        return AssetRef(uri=path)
    return AssetRef(id=text) if _ID.match(text) else AssetRef(uri=text)


def place_of(text: str) -> str:
    """Return one form for each place: a `file:` URL and a relative path as an absolute path.

    Anything else (other URLs, ids) stays as it is.
    """
    if text.startswith(("file:///", "file://localhost/")):
        return unquote("/" + text.removeprefix("file://").partition("/")[2])
    return text if "://" in text or not text else os.path.abspath(os.path.expanduser(text))


def prefix_of(place: str | os.PathLike[str]) -> str:
    """Return a folder, file or URL as a demand names it: absolute, since a server has another folder."""
    return place_of(asset_name(place))


def named_assets(assets: AssetLike | Iterable[AssetLike]) -> tuple[Named, ...]:
    """Return one or many assets, each name once, in order. Raises `BadRequest` if there is none."""
    named = {asset_name(a): asset_ref(a) for a in as_list(assets)}
    if not named:
        raise BadRequest("name at least one asset")
    return tuple(Named(name, ref) for name, ref in named.items())


def is_one(assets: AssetLike | Iterable[AssetLike]) -> bool:
    """Return whether a single asset was named rather than several."""
    return isinstance(assets, str | os.PathLike | Asset | AssetRef)


def as_list(assets: AssetLike | Iterable[AssetLike]) -> list[AssetLike]:
    """Return the assets as a list, a single one as a list of one."""
    if is_one(assets):
        return [cast(AssetLike, assets)]
    try:
        return list(cast(Iterable[AssetLike], assets))
    except TypeError:
        return [cast(AssetLike, assets)]  # `asset_name` says what is wrong with it.


def priority_of(priority: Priority | str) -> Priority:
    """Return a `Priority` given as itself or by its name in any case. Raises `BadRequest`."""
    if isinstance(priority, Priority):
        return priority
    try:
        return Priority[priority.upper()]
    except (KeyError, AttributeError):
        names = ", ".join(p.name.lower() for p in reversed(Priority))
        raise BadRequest(f"priority must be one of {names}, not {priority!r}") from None
