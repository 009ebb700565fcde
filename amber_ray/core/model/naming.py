"""What media is called in the texts of failures: by the name that whoever reads them gave it.

A failure belongs to content, and is told to all who ask for the same bytes, maybe under other names, maybe of
other tenants. So it is kept without names, and each caller is told it with their own.
Must not know: requests, what failed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping

from amber_ray.core.model.units import Asset, Collection, Unit

_NAME, _URI, _END = "\x02", "\x03", "\x04"
"""Control characters around an asset's id, where its quoted name or its URI stood."""

_HIDDEN = re.compile(f"([{_NAME}{_URI}])([0-9a-f]{{32}}){_END}")


def name_of(uri: str) -> str:
    """Return the last part of a path or URL, for messages."""
    return posixpath.basename(plain(uri).rstrip("/")) or plain(uri)


def plain(url: str) -> str:
    """Return a URL without its user, password and query, which may be secrets."""
    head, mark, tail = url.partition("://")
    if not mark:
        return url
    host, slash, path = tail.partition("/")
    return f"{head}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def assets_of(unit: Unit) -> tuple[Asset, ...]:
    """Return the assets that a unit is of."""
    if isinstance(unit, Collection):
        return unit.assets
    return (unit,) if isinstance(unit, Asset) else (unit.asset,)


def unnamed(text: str, assets: Iterable[Asset]) -> str:
    """Return the text without the URIs of `assets` and their quoted names; `named` puts others there."""
    for asset in assets:
        if asset.uri:
            text = text.replace(asset.uri, f"{_URI}{asset.id}{_END}")
            text = text.replace(repr(name_of(asset.uri)), f"{_NAME}{asset.id}{_END}")
    return text


def named(text: str, uris: Mapping[str, str]) -> str:
    """Return an unnamed text with the names of `uris`, by asset id; any other asset is "the media"."""

    def name(found: re.Match[str]) -> str:
        kind, id = found.groups()
        uri = uris.get(id)
        if uri is None:
            return "the media"
        return uri if kind == _URI else repr(name_of(uri))

    return _HIDDEN.sub(name, text) if _END in text else text
