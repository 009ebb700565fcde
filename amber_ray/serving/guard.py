"""The guard: the outermost ASGI layer. It decides who is answered, and makes every error a problem document.

With API tokens, a caller shows one (`keyring`). Without, only this machine is answered, whichever port a
request came by: the peer's address must be one of its own, the `Host` must name it (or a page elsewhere could
have its own name resolve here), and nothing may have been forwarded, since behind a proxy the peer is the
proxy. A page of another site may not write in either case, unless its origin is allowed (`origins`).
Who it is that asks stands in the scope from here on (`amber.caller`); each route says which scope it needs.
Must not know: routes, the service.
"""

from __future__ import annotations

import asyncio
import os
import re
import time

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from amber_ray.core.model.trace import UNTRACED, Span, Tracer
from amber_ray.core.model.trust import THIS_MACHINE
from amber_ray.errors import AmberError, Forbidden, Overloaded, Unauthorized
from amber_ray.serving import grants
from amber_ray.serving.access import AccessLog, one_line
from amber_ray.serving.allowances import Allowances
from amber_ray.serving.answers import ASK_PEOPLE, error_response
from amber_ray.serving.drain import Drain, stopping
from amber_ray.serving.keyring import Keyring
from amber_ray.serving.origins import Origins
from amber_ray.serving.peers import Locals
from amber_ray.settings import Settings

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that are answered without a token, for probes."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip"})
UNTOLD = OPEN | {"/metrics"}
"""Paths that machines ask for all the time, and that no trace begins at."""
WANTED = Origins.WANTED | FORWARDED | {b"authorization", b"x-request-id", b"sec-fetch-mode", b"traceparent"}
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}\Z")
SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Guard:
    """Pure ASGI, so that a hot read pays for one function call and one wrapped `send`.

    `ongoing` bounds the requests under way here; one more gets 429. Once `drain` says so, each new one gets
    503. `echo` adds `X-Request-Id` to every
    answer (off where the server in front does that itself). A `tracer` records each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        drain: Drain,
        keyring: Keyring,
        *,
        own: Locals | None = None,
        ongoing: int = 2048,
        echo: bool = True,
        tracer: Tracer = UNTRACED,
    ) -> None:
        self.app = app
        self._tracer = tracer
        self._keyring = keyring
        self._origins = Origins(settings.allow_origins)
        self._own = own or Locals()
        self._most = ongoing
        self._echo = echo
        self._drain = drain
        self._access = AccessLog(settings)
        self._allowances = Allowances(settings.replicas)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request; websockets are always refused."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        found: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in WANTED:
                found[name] = found[name] + b"," + value if name in found else value
        given = found.get(b"x-request-id", b"")
        request_id = given.decode() if REQUEST_ID.match(given) else os.urandom(12).hex()
        scope["amber.request_id"] = request_id
        extra = (*SECURITY, (b"x-request-id", request_id.encode())) if self._echo else SECURITY
        head = scope["method"] == "HEAD"
        told = self._origins.telling(scope, send)
        began = time.perf_counter()
        span = self._span(scope, found) if self._tracer.on else None
        status: int | None = None

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *extra]
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await told(message)

        try:
            asks = self._origins.preflight(scope, found)
            if scope["path"].removeprefix(scope.get("root_path", "")) not in OPEN:
                await self._keyring.current()
            self._admit(scope, found, shown=asks is not None)
            if asks is None and "amber.caller" in scope:
                self._allowances.enter(scope["amber.caller"])
        except AmberError as error:
            scope["amber.why"] = str(error)
            refusal = error_response(error, request_id)
            if isinstance(error, Unauthorized) and found.get(b"sec-fetch-mode") == b"navigate":
                refusal.headers.append("WWW-Authenticate", ASK_PEOPLE)
            await refusal(scope, receive, answer)
            self._ended(scope, status, time.perf_counter() - began, span)
            return
        if asks is not None:
            told = send  # it says all that there is to say
            await asks(scope, receive, answer)
            self._ended(scope, status, time.perf_counter() - began, span)
            return
        self._drain.ongoing += 1
        try:
            await self.app(scope, receive, answer)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # the last boundary: logged here, and told as a problem
            if isinstance(error, (AmberError, HTTPException)):
                scope["amber.why"] = str(error)
            else:
                scope["amber.bug"] = error
            if status is not None:
                raise  # too late to say so: the server cuts the connection, which the caller can see
            await error_response(error, request_id)(scope, receive, answer)
        finally:
            if "amber.caller" in scope:
                self._allowances.left(scope["amber.caller"])
            self._drain.left()
            self._ended(scope, status, time.perf_counter() - began, span)

    def _span(self, scope: Scope, found: dict[bytes, bytes]) -> Span | None:
        if scope["path"].removeprefix(scope.get("root_path", "")) in UNTOLD:
            return None
        span = self._tracer.begin(found.get(b"traceparent", b"").decode("latin-1"), scope["method"])
        if span is not None:
            scope["amber.span"] = span
        return span

    def _ended(self, scope: Scope, status: int | None, seconds: float, span: Span | None) -> None:
        """A request has been answered; its caller hung up first if there is no status."""
        self._access.ended(scope, status, seconds)
        if span is None:
            return
        method, route, asked = scope["method"], scope.get("amber.path"), scope.get("amber.request")
        span.attributes = about = {
            "http.request.method": method,
            "url.path": scope["path"],
            "amber.request_id": scope["amber.request_id"],
        }
        if route:
            span.name = f"{method} {route}"
            about["http.route"] = route
        if status is not None:
            about["http.response.status_code"] = status
        if asked is not None:
            about["amber.request"] = asked
        why = ""
        if status is not None and status >= 500:
            why = one_line(str(scope.get("amber.bug") or scope.get("amber.why") or status))
        self._tracer.end(span, why)

    def _admit(self, scope: Scope, found: dict[bytes, bytes], *, shown: bool) -> None:
        """Raise for a request that must not be answered.

        `shown`: no token need be shown, since a browser asks whether a page may ask, which it does without.
        """
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not self._keyring.locked:
            self._from_this_machine(scope, found)
            scope["amber.caller"] = THIS_MACHINE
        elif not shown and path not in OPEN:
            given = found.get(b"authorization", b"")
            grant = None
            if not given and scope["method"] in SAFE:
                grant = grants.shown(path, scope.get("query_string", b""))
            known = self._keyring
            scope["amber.caller"] = known.caller(given) if grant is None else known.granted(grant)
        if scope["method"] not in SAFE:
            self._origins.refuse_foreign(found)
        if self._drain.refusing:
            raise stopping()
        if self._drain.ongoing >= self._most and path not in OPEN:
            raise Overloaded(f"{self._most:,} requests are under way here; try again in a second")

    def _from_this_machine(self, scope: Scope, found: dict[bytes, bytes]) -> None:
        client = scope.get("client")
        if client is None or client[0] not in self._own:
            raise Forbidden(
                f"this server has no API tokens, so it answers only callers on its own machine, "
                f"not {client[0] if client else 'one without an address'}; configure tokens to open it"
            )
        if FORWARDED & found.keys():
            raise Forbidden(
                "this server has no API tokens, so it answers no request that a proxy forwarded; "
                "configure tokens to put it behind one"
            )
        host = found.get(b"host")
        if host is not None and not self._own.is_host(host.decode("latin-1")):
            raise Forbidden(
                f"this server has no API tokens, so it answers to localhost and its own addresses, "
                f"not to the name {host.decode('latin-1')[:128]!r}"
            )
