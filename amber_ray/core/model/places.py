"""Places of media as demands and events name them: which place a URI means, and what lies under a prefix.

Only texts are looked at: whether anything is at a place is for `media` to find out. Must not know: roots,
files, who tells of a place.
"""

from __future__ import annotations

import posixpath
import urllib.parse
from collections.abc import Iterable

_FILE = "file:"


def place_named(uri: str) -> str:
    """The place that a URI means as listings call it: a path without `..`, or the URL as it stands.

    >>> place_named("file:///films/new%20one.mp4"), place_named("/films//new/../a.mp4")
    ('/films/new one.mp4', '/films/a.mp4')
    """
    if uri[: len(_FILE)].lower() == _FILE:
        rest = uri[len(_FILE) :]
        if rest.startswith("//"):
            rest = "/" + rest[2:].partition("/")[2]
        uri = urllib.parse.unquote(rest)
    if not uri.startswith("/"):
        return uri
    return posixpath.normpath("/" + uri.lstrip("/"))


class Cover:
    """All that lies under some prefixes. A look at one place takes as long as its path is deep.

    A path of this machine covers itself and what is below it, a URL that ends with "/" what is below it, and
    any other URL itself.

    >>> films = Cover(["/films", "s3://b/new/"])
    >>> films.has("/films/new/a.mp4"), films.has("/films2/a.mp4"), films.has("s3://b/new/a.mp4")
    (True, False, True)
    """

    def __init__(self, prefixes: Iterable[str]) -> None:
        """`prefixes` as demands name them."""
        self._prefixes = frozenset(map(place_named, prefixes))

    def has(self, place: str) -> bool:
        """Whether a place, as `place_named` gives it, lies under one of the prefixes."""
        if place in self._prefixes or (place.startswith("/") and "/" in self._prefixes):
            return True
        local = place.startswith("/")
        at = place.find("/", 1)
        while at >= 0:
            if place[: at if local else at + 1] in self._prefixes:
                return True
            at = place.find("/", at + 1)
        return False
