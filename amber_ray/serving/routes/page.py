"""`GET /`: a page that shows the graph and computes features, and `GET /openapi.json`.

Everything a browser needs is in the package: nothing is fetched from another host, and the page's policy
says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amber_ray.serving.answers import json_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.routes.endpoint import Handler, route

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
    "/page/page.css": ("page.css", "text/css; charset=utf-8"),
    **{
        f"/page/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("page", "api", "graph", "results")
    },
}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}


def routes(context: AppContext, openapi: Mapping[str, Any]) -> list[Route]:
    """The page's files, read once, and the API's description."""

    async def document(context: AppContext, request: Request) -> Response:
        return json_response(openapi, headers={"Cache-Control": "no-cache"})

    return [
        *(route(path, context, GET=_file(*file)) for path, file in FILES.items()),
        route("/openapi.json", context, GET=document),
    ]


def _file(name: str, media_type: str) -> Handler:
    content = resources.files("amber_ray.serving").joinpath("page", name).read_bytes()
    headers = {**HEADERS, "Content-Type": media_type}

    async def read(context: AppContext, request: Request) -> Response:
        return Response(content, headers=headers)

    return read
