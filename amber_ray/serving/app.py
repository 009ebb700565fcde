"""The HTTP app: a plain ASGI app over any `Service`, assembled here and described row by row in `routes`.

Must not know: Ray, Ray Serve, sockets. Tests drive it in process; `serving.deployment` puts it behind Serve.
"""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from amber_ray.core.model.service import Service
from amber_ray.errors import AmberError, BadRequest
from amber_ray.serving.answers import error_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.described.document import document
from amber_ray.serving.guard import Guard
from amber_ray.serving.peers import Locals
from amber_ray.serving.presence import ClientGone
from amber_ray.serving.routes import assets, compute, features, health, page, requests, values
from amber_ray.settings import Settings
from amber_ray.wire.json import quote

ONGOING = 2048
"""Requests under way at once in one app; one more is told to come back (429)."""


def create_app(
    service: Service,
    settings: Settings,
    *,
    own: Locals | None = None,
    ongoing: int = ONGOING,
    echo: bool = True,
) -> FastAPI:
    """All rows of the HTTP contract over `service`.

    Args:
        service: what answers; the caller opens and closes it.
        settings: tokens and limits are taken from here.
        own: which peers count as this machine (for tests); by default the kernel is asked.
        ongoing: bound on requests under way at once.
        echo: whether answers carry `X-Request-Id`; off behind a server that adds it.
    """
    site = AppContext(service, settings)
    description = document(bearer=bool(settings.tokens))
    # No generated pages: they would load their scripts from another host.
    app = FastAPI(
        title=description["info"]["title"],
        version=description["info"]["version"],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers={
            AmberError: _refused,
            HTTPException: _refused,
            RequestValidationError: _invalid,
            ClientGone: _gone,
        },
    )
    app.add_middleware(Guard, settings=settings, own=own, ongoing=ongoing, echo=echo)
    # The router tries routes in order: the two hot ones are first.
    app.router.routes.extend(
        [
            *compute.routes(site),
            *values.routes(site),
            *requests.routes(site),
            *assets.routes(site),
            *features.routes(site),
            *health.routes(site),
            *page.routes(description),
        ]
    )
    app.openapi = lambda: description  # type: ignore[method-assign]
    return app


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 404 and error.detail == "Not Found":
        error = HTTPException(
            404, f"there is nothing at {quote(request.url.path)}; GET /openapi.json lists the calls"
        )
    return error_response(error, request.scope.get("amber.request_id"))


async def _invalid(request: Request, error: Exception) -> Response:
    """What FastAPI itself finds wrong, for routes that an embedding program adds with its declarations."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0] if error.errors() else {"loc": (), "msg": "not valid"}
    where = ".".join(map(str, first["loc"]))
    refused = HTTPException(422, str(BadRequest(f"{where}: {first['msg']}")))
    return error_response(refused, request.scope.get("amber.request_id"))


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody reads this; the status is for the server's log (nginx's 499)."""
    return Response(status_code=499)
