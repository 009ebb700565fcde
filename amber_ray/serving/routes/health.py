"""`GET /healthz`, `/metrics`, `/v1/stats` and `/v1/failures`: how the service is doing."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amber_ray.serving.answers import NO_STORE, json_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.metrics import CONTENT_TYPE, render
from amber_ray.serving.routes.endpoint import route
from amber_ray.wire.views import encode_failure


def routes(site: AppContext) -> list[Route]:
    """The four rows, over `site`."""

    async def healthz(request: Request) -> Response:
        # Liveness: that this loop still turns. Whether the cluster does is in the stats.
        return json_response({"status": "ok"})

    async def metrics(request: Request) -> Response:
        body = render(await site.service.stats())
        return Response(body, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": NO_STORE})

    async def stats(request: Request) -> Response:
        return json_response(await site.service.stats())

    async def failures(request: Request) -> Response:
        return json_response({"failures": [encode_failure(f) for f in await site.service.failures()]})

    return [
        route("/healthz", GET=healthz),
        route("/metrics", GET=metrics),
        route("/v1/stats", GET=stats),
        route("/v1/failures", GET=failures),
    ]
