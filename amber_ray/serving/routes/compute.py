"""`POST /v1/compute` and `POST /v1/explain`.

`compute` is one of the two hot paths: a raw handler, no models built from the body, no task started for an
answer that is there at once.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from amber_ray.core.model.trust import Scope
from amber_ray.serving.answers import json_response
from amber_ray.serving.app_context import AppContext, base
from amber_ray.serving.described.parts import (
    APPLIED,
    OWN_REQUEST,
    PREFER,
    RETRY_LATER,
    STRING,
    TRACED,
    Part,
    answer,
    body,
    header,
    json,
    view,
)
from amber_ray.serving.described.schemas import EXAMPLES, REQUEST, ref
from amber_ray.serving.incoming import chosen_id, compute_request, prefer
from amber_ray.serving.presence import while_present
from amber_ray.serving.routes.endpoint import Path, described
from amber_ray.wire.compute import REQUEST_ID
from amber_ray.wire.views import IDEMPOTENCY_KEY_HEADER, REQUEST_ID_HEADER, encode_step

DEFAULT_WAIT = 10.0
"""Seconds that a caller without a preference is kept waiting before it gets 202."""
POLL_AFTER = "1"
"""`Retry-After` of a request that still runs."""

OWN_ID: Part = {
    "name": REQUEST_ID_HEADER,
    "in": "header",
    "description": "An id of the caller's choosing; the same id again is the same request",
    "schema": {**STRING, "pattern": "^" + REQUEST_ID.pattern.replace(r"\Z", "$")},
    "example": REQUEST,
}
OWN_KEY: Part = {
    "name": IDEMPOTENCY_KEY_HEADER,
    "in": "header",
    "description": "Any text of the caller's, instead of an id; the same text again is the same request",
    "schema": {**STRING, "maxLength": 257},
    "example": '"8e03978e-40d5-43dd-bc93-6894a57f9324"',
}
RUNNING = answer(
    "Accepted: it goes on, and survives restarts",
    json(ref("Request"), EXAMPLES["Running"]),
    {
        **OWN_REQUEST,
        **APPLIED,
        **RETRY_LATER,
        "Location": header("Where to ask how it stands", required=True),
    },
)
ASKED = body(EXAMPLES["Compute"], ref("Compute"))


@described(
    "compute",
    Scope.COMPUTE,
    {"200": view({**OWN_REQUEST, **APPLIED}), "202": RUNNING},
    "400 404 408 412 413 415 422",
    parameters=[PREFER, OWN_ID, OWN_KEY, TRACED],
    requestBody=ASKED,
)
async def compute(context: AppContext, request: Request) -> Response:
    """Compute features of assets; what is there already is not computed again."""
    limits = context.settings.limits
    asked = await compute_request(request, limits)
    preferred = prefer(request, DEFAULT_WAIT, limits)
    # It needs a name to be accepted by, should the server stop while its caller waits.
    id = chosen_id(request, asked.tenant) or context.new_id()
    found = await while_present(
        request.receive,
        context.service.compute(asked, wait=preferred.wait, id=id),
        context.drain,
        lambda: context.service.compute(asked, id=id),
    )
    request.scope["amber.request"] = found.id
    data = await context.view(found, request, asked.features, asked.registry)
    headers = {REQUEST_ID_HEADER: found.id}
    if preferred.applied is not None:
        headers["Preference-Applied"] = preferred.applied
    if found.state == "running":
        headers["Location"] = f"{base(request)}/v1/requests/{found.id}"
        headers["Retry-After"] = POLL_AFTER
        return json_response(data, 202, headers)
    return json_response(data, 200, headers)


@described(
    "compute",
    Scope.COMPUTE,
    {"200": answer("The plan", json(ref("Plan"), EXAMPLES["Plan"]))},
    "400 404 408 412 413 415 422",
    parameters=[TRACED],
    requestBody=ASKED,
)
async def explain(context: AppContext, request: Request) -> Response:
    """What compute would do, step by step; runs nothing."""
    asked = await compute_request(request, context.settings.limits)
    steps = await while_present(request.receive, context.service.explain(asked), context.drain)
    states: dict[str, int] = {}
    for step in steps:
        states[step.state] = states.get(step.state, 0) + 1
    run = [step for step in steps if step.action == "run" or (step.action, step.state) == ("wait", "queued")]
    data = {
        "steps": await asyncio.to_thread(lambda: [encode_step(step) for step in steps]),
        "states": states,
        "seconds": sum(step.work for step in run if step.work is not None),
        "unknown": sorted({step.feature for step in run if step.work is None}),
    }
    return json_response(data)


PATHS = [Path("/v1/compute", POST=compute), Path("/v1/explain", POST=explain)]
