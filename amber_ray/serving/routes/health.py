"""`GET /healthz`, `/readyz`, `/metrics`, `/v1/stats` and `/v1/failures`: how the service is doing."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from amber_ray.core.model.pages import OF_TENANTS, uploads_of
from amber_ray.core.model.trust import Scope
from amber_ray.errors import Unavailable
from amber_ray.serving.answers import NO_STORE, json_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.described.parts import STRING, answer, json, listing
from amber_ray.serving.described.schemas import EXAMPLES, ref
from amber_ray.serving.drain import stopping
from amber_ray.serving.metrics import render
from amber_ray.serving.routes.endpoint import Path, caller_of, described
from amber_ray.wire.views import encode_failure

METRICS = {"text/plain": {"schema": STRING, "example": render(EXAMPLES["Stats"])[0].decode()}}


@described("health", None, {"200": answer("Alive", json(ref("Alive"), EXAMPLES["Alive"]))}, "503")
async def healthz(context: AppContext, request: Request) -> Response:
    """Liveness."""
    # Liveness: that this loop still turns (503 once the server is about to stop). Whether the cluster does is
    # in the stats.
    return json_response({"status": "ok"})


@described("health", None, {"200": answer("Ready", json(ref("Alive"), EXAMPLES["Ready"]))}, "500 503")
async def readyz(context: AppContext, request: Request) -> Response:
    """Readiness: whether to send requests here."""
    if context.drain.begun:
        raise stopping()
    if troubles := await context.service.troubles():
        raise Unavailable(f"this server is not ready: {'; '.join(troubles)}")
    return json_response({"status": "ready"})


@described("health", Scope.READ, {"200": answer("Metrics", METRICS)})
async def metrics(context: AppContext, request: Request) -> Response:
    """The same for Prometheus."""
    body, media_type = render(await context.service.stats(), request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": media_type, "Cache-Control": NO_STORE, "Vary": "Accept"})


@described("health", Scope.READ, {"200": answer("Stats", json(ref("Stats"), EXAMPLES["Stats"]))})
async def stats(context: AppContext, request: Request) -> Response:
    """Counters and gauges."""
    return json_response(await context.service.stats())


UPLOADED = f"/uploads/{OF_TENANTS}"


@described("health", Scope.READ, {"200": listing("failures", "Failure")})
async def failures(context: AppContext, request: Request) -> Response:
    """The failures that are remembered now, without those of other tenants' uploads."""
    caller = caller_of(request)
    found = await context.service.failures()
    if not caller.sees_all:
        found = [one for one in found if not _of_another(one.uri, caller.tenant or "")]
    return json_response({"failures": [encode_failure(one) for one in found]})


def _of_another(uri: str, tenant: str) -> bool:
    """Whether a place is that of another tenant's upload: it has the id, which is all that reading takes."""
    return UPLOADED in uri and f"/uploads/{uploads_of(tenant)}" not in uri


PATHS = [
    Path("/v1/failures", GET=failures),
    Path("/v1/stats", GET=stats),
    Path("/metrics", GET=metrics),
    Path("/healthz", GET=healthz),
    Path("/readyz", GET=readyz),
]
