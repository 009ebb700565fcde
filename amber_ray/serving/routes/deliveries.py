"""`GET /v1/deliveries` and `POST /v1/deliveries/{id}/replay`: callbacks of requests and demands."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response

from amber_ray.core.model.callback import DELIVERY_STATES
from amber_ray.core.model.trust import Scope
from amber_ray.errors import BadRequest, UnknownDelivery
from amber_ray.serving.answers import json_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.described.parts import STRING, Part, answer, json, listing, query
from amber_ray.serving.described.schemas import EXAMPLES, ref
from amber_ray.serving.routes.endpoint import Path, caller_of, described
from amber_ray.wire.compute import decode_tenant
from amber_ray.wire.json import describe
from amber_ray.wire.views import encode_delivery

DELIVERY_ID = re.compile(r"(end|[rd][0-9]+)_[A-Za-z0-9_-]{1,64}\Z")
STATE: Part = {
    "name": "state",
    "in": "query",
    "description": "Only those that wait for their request's end, are to be sent, were taken, or given up",
    "schema": {**STRING, "enum": list(DELIVERY_STATES)},
    "example": "failed",
}
TENANT: Part = {
    **query("tenant", "search"),
    "description": "Only those of a tenant; without it, all that the caller may know of",
}
ID: Part = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": STRING,
    "example": EXAMPLES["Delivery"]["id"],
}


@described(
    "deliveries", Scope.READ, {"200": listing("deliveries", "Delivery")}, "400", parameters=[STATE, TENANT]
)
async def deliveries(context: AppContext, request: Request) -> Response:
    """The newest callbacks of requests and demands, newest first."""
    if unknown := sorted(set(request.query_params) - {"state", "tenant"}):
        raise BadRequest(f"deliveries are chosen by state and tenant, not by {describe(unknown[0])}")
    state = request.query_params.get("state")
    if state is not None and state not in DELIVERY_STATES:
        raise BadRequest(f"state must be one of {', '.join(DELIVERY_STATES)}, not {describe(state)}")
    found = await context.service.deliveries(state=state, tenant=_tenant(request))
    return json_response({"deliveries": [encode_delivery(one) for one in found]})


@described(
    "deliveries",
    Scope.COMPUTE,
    {"200": answer("The delivery, which is to be sent again", json(ref("Delivery"), EXAMPLES["Delivery"]))},
    "400 404",
    parameters=[ID, TENANT],
)
async def replay(context: AppContext, request: Request) -> Response:
    """Send a callback again, whatever came of it."""
    id = request.path_params["id"]
    if not DELIVERY_ID.match(id):
        raise UnknownDelivery(f"there is no delivery {describe(id)}; GET /v1/deliveries lists them")
    return json_response(encode_delivery(await context.service.replay(id, tenant=_tenant(request))))


def _tenant(request: Request) -> str | None:
    """Whose deliveries are meant; None: anybody's. Raises `Forbidden` for another tenant's."""
    named = request.query_params.get("tenant")
    return caller_of(request).chosen(None if named is None else decode_tenant(named))


PATHS = [Path("/v1/deliveries", GET=deliveries), Path("/v1/deliveries/{id}/replay", POST=replay)]
"""Whoever may ask for features may have their callbacks made again."""
