"""The HTTP app: plain Starlette routes over any `Service`, behind the guard.

Must not know: Ray, Ray Serve, sockets. Tests drive it in process; `serving.deployment` puts it behind Serve.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from amber_ray.core.model.service import Service
from amber_ray.core.model.trace import UNTRACED, Tracer
from amber_ray.errors import AmberError
from amber_ray.serving.answers import error_response
from amber_ray.serving.app_context import AppContext, TextRegistrar
from amber_ray.serving.compression import Compression
from amber_ray.serving.drain import Drain
from amber_ray.serving.guard import Guard
from amber_ray.serving.keyring import Keyring
from amber_ray.serving.origins import refuse_malformed
from amber_ray.serving.peers import Locals
from amber_ray.serving.presence import ClientGone
from amber_ray.serving.routes import PATHS, page
from amber_ray.settings import Settings
from amber_ray.wire.json import quote

ONGOING = 2048
"""Requests under way at once in one app; one more is told to come back (429)."""


def _random_id() -> str:
    return os.urandom(16).hex()


def create_app(
    service: Service,
    settings: Settings,
    *,
    own: Locals | None = None,
    ongoing: int = ONGOING,
    echo: bool = True,
    drain: Drain | None = None,
    keyring: Keyring | None = None,
    registrar: TextRegistrar | None = None,
    tracer: Tracer = UNTRACED,
    new_id: Callable[[], str] = _random_id,
) -> Starlette:
    """Return an ASGI app with the whole HTTP contract over `service`, and the page.

    Args:
        service: what answers; the caller opens and closes it.
        settings: tokens and limits are taken from here.
        own: which peers count as this machine (for tests); by default the kernel is asked.
        ongoing: bound on requests under way at once.
        echo: whether answers carry `X-Request-Id`; off behind a server that adds it.
        drain: by which the app is told that it is about to end.
        keyring: the tokens that are good; by default those of the settings alone.
        registrar: takes features as source text, if `settings.register` says that any are taken.
        tracer: records requests.
        new_id: makes a name for a compute request whose caller chose none.

    Raises:
        BadRequest: an origin in the settings is none.
    """
    keyring = keyring or Keyring(settings.tokens)
    refuse_malformed(settings.allow_origins, keyring.locked)
    drain = drain or Drain()
    taken = registrar if settings.register else None
    context = AppContext(service, settings, keyring, drain, new_id, taken)
    app = Starlette(
        routes=[*(path.route(context) for path in PATHS), *page.routes(context)],
        middleware=[
            Middleware(
                Guard,
                settings=settings,
                drain=drain,
                keyring=keyring,
                own=own,
                ongoing=ongoing,
                echo=echo,
                tracer=tracer,
            ),
            Middleware(Compression),
        ],
        exception_handlers={AmberError: _refused, HTTPException: _refused, ClientGone: _gone},
    )
    app.router.redirect_slashes = False
    return app


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 404 and error.detail == "Not Found":
        error = HTTPException(
            404, f"there is nothing at {quote(request.url.path)}; GET /openapi.json lists the calls"
        )
    request.scope["amber.why"] = error.detail if isinstance(error, HTTPException) else str(error)
    return error_response(error, request.scope.get("amber.request_id"))


async def _gone(request: Request, error: Exception) -> Response:
    """Answer a caller that has hung up: nobody reads it, but the server's log has a status (nginx's 499)."""
    return Response(status_code=499)
