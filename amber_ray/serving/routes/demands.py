"""`/v1/demands`: standing requests, "keep these features true for everything under these prefixes"."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from amber_ray.core.model.trust import Scope
from amber_ray.errors import UnknownDemand
from amber_ray.serving.answers import json_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.described.parts import STRING, Part, answer, body, json, listing
from amber_ray.serving.described.schemas import EXAMPLES, ref
from amber_ray.serving.incoming import json_body
from amber_ray.serving.routes.endpoint import Path, caller_of, described
from amber_ray.wire.demands import decode_demand, encode_view
from amber_ray.wire.json import loads, quote

NAME: Part = {"name": "name", "in": "path", "required": True, "schema": STRING, "example": "films"}
TOLD: Part = {"200": answer("The demand as it stands", json(ref("Demand"), EXAMPLES["Demand"]))}


@described("demands", Scope.OPERATE, {"200": listing("demands", "Demand")})
async def demands(context: AppContext, request: Request) -> Response:
    """Every demand and how it stands."""
    caller = caller_of(request)
    views = [one for one in await context.service.demands() if caller.sees(one.demand.tenant)]
    return json_response({"demands": [encode_view(one) for one in views]})


@described("demands", Scope.OPERATE, TOLD, "404", parameters=[NAME])
async def demand(context: AppContext, request: Request) -> Response:
    """One demand and how it stands."""
    name = request.path_params["name"]
    for view in await context.service.demands():
        if view.demand.name == name and caller_of(request).sees(view.demand.tenant):
            return json_response(encode_view(view))
    raise UnknownDemand(f"there is no demand {quote(name)}; GET /v1/demands lists them")


@described(
    "demands",
    Scope.OPERATE,
    TOLD,
    "400 404 408 413 415",
    parameters=[NAME],
    requestBody=body(EXAMPLES["Demanding"], ref("Demanding")),
    description="In place of one of its name; the same one again changes nothing.",
)
async def keep(context: AppContext, request: Request) -> Response:
    """Keep features true for everything under prefixes, from now on."""
    caller = caller_of(request)
    limits = context.settings.limits
    sent = loads(await json_body(request, limits), limits)
    asked = decode_demand(request.path_params["name"], sent, caller.tenant or "default")
    caller.require_tenant(asked.tenant)
    return json_response(encode_view(await context.service.keep(asked)))


@described(
    "demands",
    Scope.OPERATE,
    {"200": answer("Whether there was one", json(ref("Stopped"), EXAMPLES["Stopped"]))},
    parameters=[NAME],
)
async def stop(context: AppContext, request: Request) -> Response:
    """Forget a demand; what is stored stays."""
    return json_response({"stopped": await context.service.stop_keeping(request.path_params["name"])})


PATHS = [
    Path("/v1/demands", GET=demands),
    Path("/v1/demands/{name}", GET=demand, PUT=keep, DELETE=stop),
]
