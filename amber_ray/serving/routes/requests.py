"""`GET` and `DELETE /v1/requests/{id}`, and `GET /v1/requests/{id}/events`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from amber_ray.core.model.service import RequestEvent
from amber_ray.serving.answers import json_response
from amber_ray.serving.app_context import AppContext, base
from amber_ray.serving.incoming import prefer, request_id
from amber_ray.serving.presence import while_present
from amber_ray.serving.routes.compute import POLL_AFTER
from amber_ray.serving.routes.endpoint import route
from amber_ray.serving.sse import HEADERS, EventStream
from amber_ray.wire.views import REQUEST_ID_HEADER, encode_event


def routes(site: AppContext) -> list[Route]:
    """The three rows, over `site`."""

    async def read(request: Request) -> Response:
        id = request_id(request.path_params["id"])
        preferred = prefer(request, 0.0, site.settings.limits)
        view = await while_present(request.receive, site.service.status(id, wait=preferred.wait))
        headers = {REQUEST_ID_HEADER: view.id}
        if preferred.applied is not None:
            headers["Preference-Applied"] = preferred.applied
        if view.state == "running":
            headers["Retry-After"] = POLL_AFTER
        return json_response(await site.view(view, request), 200, headers)

    async def cancel(request: Request) -> Response:
        view = await site.service.cancel(request_id(request.path_params["id"]))
        return json_response(await site.view(view, request), 200, {REQUEST_ID_HEADER: view.id})

    async def events(request: Request) -> ASGIApp:
        id = request_id(request.path_params["id"])
        if request.method == "HEAD":
            await site.service.status(id)
            return Response(headers=HEADERS)

        async def encode(event: RequestEvent) -> Mapping[str, Any]:
            results = event.view.results if event.view is not None else (event.result,)
            await site.know({result.feature for result in results if result is not None})
            return encode_event(event, site.to_json, base=base(request))

        stream = EventStream(site.service.events(id), encode)
        await stream.start()
        return stream

    return [
        route("/v1/requests/{id}/events", GET=events),
        route("/v1/requests/{id}", GET=read, DELETE=cancel),
    ]
