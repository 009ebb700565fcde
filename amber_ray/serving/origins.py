"""Pages of other sites: which may ask here, and what their browsers are told (CORS, by the Fetch standard).

A page of another site that is not allowed may not write, and can't read what it is answered. One that is
allowed (`Settings.allow_origins`) may do what any caller may: it shows a token where there are tokens.
Cookies play no part, so nothing is allowed by who happens to sit at the browser. Starlette's `CORSMiddleware`
knows the headers; the guard asks it, and alone decides who is answered. Must not know: routes, the service.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from amber_ray.errors import BadRequest, Forbidden

ANY = "*"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
REMEMBERED_SECONDS = 600
"""How long a browser need not ask again whether it may."""


def refuse_malformed(allowed: Sequence[str], locked: bool) -> None:
    """Raise `BadRequest` for what is no origin, and for `*` where nobody has to show a token.

    `locked`: callers must show one.
    """
    for origin in allowed:
        if origin == ANY:
            if not locked:
                raise BadRequest(
                    "allow_origins '*' lets every page that someone here opens ask this server, so API "
                    "tokens are needed; give at least one, or name the origins"
                )
        elif not _ORIGIN.fullmatch(origin):
            raise BadRequest(
                "an allowed origin is a scheme and a host in lower case, with a port where it is not the "
                f"scheme's own, such as https://app.example or http://localhost:5173, and not {origin!r}"
            )
        elif origin.endswith(DEFAULT_PORTS.get(origin.partition(":")[0], "/")):
            raise BadRequest(
                f"browsers leave out a scheme's own port; allow {origin.rpartition(':')[0]}, not {origin}"
            )


class Origins:
    """Judges requests by the page that they come from; `found` are those headers that the guard looks at."""

    WANTED = frozenset({b"host", b"origin", b"sec-fetch-site", b"access-control-request-method"})

    def __init__(self, allowed: Sequence[str]) -> None:
        self._cors = CORSMiddleware(
            _nothing,
            allow_origins=allowed,
            allow_methods=("*",),
            allow_headers=("*",),
            expose_headers=("*",),
            # A page on the network may ask a server on this machine, if it is allowed at all.
            allow_private_network=True,
            max_age=REMEMBERED_SECONDS,
        )
        self._any = bool(allowed)

    def preflight(self, scope: Scope, found: Mapping[bytes, bytes]) -> Response | None:
        """Return the answer to a browser that asks whether a page may ask; None for any other request.

        Raises `Forbidden` if it may not.
        """
        if scope["method"] != "OPTIONS" or not {b"origin", b"access-control-request-method"} <= found.keys():
            return None
        self.refuse_foreign(found)
        if not self._allows(found[b"origin"]):
            return None  # this server's own page: the path says which methods it has
        return self._cors.preflight_response(request_headers=Headers(scope=scope))

    def refuse_foreign(self, found: Mapping[bytes, bytes]) -> None:
        """Raise `Forbidden` for a page of another site that is not allowed."""
        origin = found.get(b"origin")
        if origin is not None and self._allows(origin):
            return
        site = found.get(b"sec-fetch-site")
        foreign = site is not None and site not in (b"same-origin", b"none")
        if origin is not None and not foreign:
            try:
                foreign = urlsplit(origin).netloc.lower() != found.get(b"host", b"").lower()
            except ValueError:  # no URL at all (`http://[`): certainly not this server's
                foreign = True
        if foreign:
            raise Forbidden(
                "a page of another site may not write here; call from a program or this server's page, or "
                "allow the site's origin (amber serve --allow-origin, allow_origins in the settings)"
            )

    def telling(self, scope: Scope, send: Send) -> Send:
        """Return a `send` that tells the browser of an allowed page that the page may read the answer."""
        if not self._any:
            return send
        return functools.partial(self._cors.send, send=send, request_headers=Headers(scope=scope))

    def _allows(self, origin: bytes) -> bool:
        return self._any and self._cors.is_allowed_origin(origin.decode("latin-1"))


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """The app that `CORSMiddleware` wants; it is asked for headers only."""
