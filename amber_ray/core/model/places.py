"""Places of media as demands and events name them: which place a URI means, and what lies under a prefix.

Only texts are looked at: whether anything is at a place is for `media` to find out. Must not know: roots,
files, who tells of a place.
"""

from __future__ import annotations

import posixpath
import urllib.parse

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


def is_under(place: str, prefix: str) -> bool:
    """Whether a place is a prefix, or lies below it. Of URLs only those that end with "/" have a below.

    >>> is_under("/films/new/a.mp4", "/films"), is_under("/films2/a.mp4", "/films"), is_under("s3://b/a", "s3://b")
    (True, False, False)
    """
    if not prefix.startswith("/") and prefix[: len(_FILE)].lower() != _FILE:
        return place.startswith(prefix) if prefix.endswith("/") else place == prefix
    folder = place_named(prefix)
    return place == folder or place.startswith(folder.rstrip("/") + "/")
