"""`POST /v1/compute` and `POST /v1/explain`.

`compute` is one of the two hot rows: a raw handler, no models built from the body, no task started for an
answer that is there at once.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amber_ray.serving.answers import json_response
from amber_ray.serving.app_context import AppContext, base
from amber_ray.serving.incoming import chosen_id, compute_request, prefer
from amber_ray.serving.presence import while_present
from amber_ray.serving.routes.endpoint import route
from amber_ray.wire.views import REQUEST_ID_HEADER, encode_step

DEFAULT_WAIT = 10.0
"""Seconds that a caller without a preference is kept waiting before it gets 202."""
POLL_AFTER = "1"
"""`Retry-After` of a request that still runs."""


def routes(site: AppContext) -> list[Route]:
    """The two rows, over `site`."""

    async def compute(request: Request) -> Response:
        limits = site.settings.limits
        asked = await compute_request(request, limits)
        preferred = prefer(request, DEFAULT_WAIT, limits)
        own_id = chosen_id(request.headers.get(REQUEST_ID_HEADER))
        view = await while_present(
            request.receive, site.service.compute(asked, wait=preferred.wait, id=own_id)
        )
        data = await site.view(view, request, asked.features)
        headers = {REQUEST_ID_HEADER: view.id}
        if preferred.applied is not None:
            headers["Preference-Applied"] = preferred.applied
        if view.state == "running":
            headers["Location"] = f"{base(request)}/v1/requests/{view.id}"
            headers["Retry-After"] = POLL_AFTER
            return json_response(data, 202, headers)
        return json_response(data, 200, headers)

    async def explain(request: Request) -> Response:
        asked = await compute_request(request, site.settings.limits)
        steps = await while_present(request.receive, site.service.explain(asked))
        states: dict[str, int] = {}
        for step in steps:
            states[step.state] = states.get(step.state, 0) + 1
        data = {
            "steps": await asyncio.to_thread(lambda: [encode_step(step) for step in steps]),
            "states": states,
            "seconds": sum(step.seconds or 0.0 for step in steps if step.state in ("missing", "queued")),
        }
        return json_response(data)

    return [route("/v1/compute", POST=compute), route("/v1/explain", POST=explain)]
