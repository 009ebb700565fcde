"""`GET /v1/requests`, `GET` and `DELETE /v1/requests/{id}`, and `GET /v1/requests/{id}/events`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from amber_ray.core.model.service import RequestEvent
from amber_ray.core.model.trust import Scope
from amber_ray.errors import UnknownRequest
from amber_ray.serving.answers import encode_json, json_response
from amber_ray.serving.app_context import AppContext, base
from amber_ray.serving.described.parts import (
    APPLIED,
    ID,
    OWN_REQUEST,
    PAGED,
    PREFER,
    RETRY,
    STRING,
    answer,
    header,
    page,
    query,
    view,
)
from amber_ray.serving.described.schemas import EXAMPLES, ref
from amber_ray.serving.incoming import prefer, request_id
from amber_ray.serving.presence import while_present
from amber_ray.serving.routes.compute import POLL_AFTER
from amber_ray.serving.routes.endpoint import Path, caller_of, described
from amber_ray.serving.sse import HEADERS, EventStream, frame
from amber_ray.wire.pages import encode_page, read_query
from amber_ray.wire.views import REQUEST_ID_HEADER, encode_event, encode_info

EVENTS = b"".join(
    frame(name, encode_json(data))
    for name, data in (
        ("progress", EXAMPLES["Progress"]),
        ("result", {**EXAMPLES["Progress"], "result": EXAMPLES["Result"]}),
        ("done", EXAMPLES["Request"]),
    )
).decode()
STREAM = {
    "text/event-stream": {
        "schema": STRING,
        "example": EVENTS,
        # The schema of each event's data, by the event's name; OpenAPI 3.1 has no word for it.
        "x-events": {
            "progress": ref("Progress"),
            "result": ref("Progress"),
            "done": ref("Request"),
            "error": ref("Problem"),
        },
    }
}


@described(
    "requests", Scope.READ, {"200": view({**OWN_REQUEST, **APPLIED, **RETRY})}, "404", parameters=[ID, PREFER]
)
async def request(context: AppContext, request: Request) -> Response:
    """State and results; waits as preferred."""
    id = await _visible(context, request)
    preferred = prefer(request, 0.0, context.settings.limits)
    found = await while_present(
        request.receive,
        context.service.status(id, wait=preferred.wait),
        context.drain,
        lambda: context.service.status(id),
    )
    headers = {REQUEST_ID_HEADER: found.id}
    if preferred.applied is not None:
        headers["Preference-Applied"] = preferred.applied
    if found.state == "running":
        headers["Retry-After"] = POLL_AFTER
    return json_response(await context.view(found, request), 200, headers)


@described("requests", Scope.COMPUTE, {"200": view(OWN_REQUEST)}, "404", parameters=[ID])
async def cancel(context: AppContext, request: Request) -> Response:
    """Cancel; work that others wait for goes on."""
    found = await context.service.cancel(await _visible(context, request))
    return json_response(await context.view(found, request), 200, {REQUEST_ID_HEADER: found.id})


@described(
    "requests",
    Scope.READ,
    {
        "200": answer(
            "Events; the stream ends with `done`, or with `error` if the service failed",
            STREAM,
            {"X-Accel-Buffering": header("For proxies", "no", required=True)},
        )
    },
    "404",
    parameters=[ID],
)
async def events(context: AppContext, request: Request) -> ASGIApp:
    """Progress, each result, and done, as server-sent events."""
    id = await _visible(context, request)
    if request.method == "HEAD":
        await context.service.status(id)
        return Response(headers=HEADERS)

    async def encode(event: RequestEvent) -> Mapping[str, Any]:
        results = event.view.results if event.view is not None else (event.result,)
        await context.know({result.feature for result in results if result is not None})
        return encode_event(event, context.to_json, base=base(request))

    stream = EventStream(context.service.events(id), encode, context.drain)
    await stream.start()
    return stream


@described(
    "requests",
    Scope.READ,
    {"200": page("requests", "RequestInfo")},
    "400",
    description="The newest first, without their results: those of the token's tenant, or for a token that "
    "may operate of all, or of the `tenant` given. An accepted request (202) is remembered for "
    "`request_seconds` (by default 7 days), one that was answered at once for 5 minutes. A page may have "
    "fewer than `limit` and be followed by others: go on as long as there is a `cursor`.",
    parameters=[
        query("state", "running", "`running`, `done`, `failed` or `cancelled`"),
        query("tenant", "search", "of this tenant alone"),
        *PAGED,
    ],
)
async def requests(context: AppContext, request: Request) -> Response:
    """Requests and what became of them, page by page."""
    asked = read_query(request.query_params.multi_items(), ("state", "tenant"))
    tenant = caller_of(request).chosen(asked.filters.get("tenant"))
    found = await while_present(
        request.receive,
        context.service.list_requests(tenant, asked.filters.get("state"), asked.limit, asked.cursor),
        context.drain,
    )
    return json_response(encode_page("requests", found, encode_info))


async def _visible(context: AppContext, request: Request) -> str:
    """The id in the path, of a request that the caller may know of. Raises `UnknownRequest` for another's."""
    id = request_id(request.path_params["id"])
    caller = caller_of(request)
    if not caller.sees_all:
        try:
            its = caller.sees((await context.service.status(id)).tenant)
        except UnknownRequest:
            its = False
        if not its:  # one answer for both: it does not tell that there is such a request
            raise UnknownRequest(f"no request of the tenant {caller.tenant!r} has the id {id!r}")
    return id


PATHS = [
    Path("/v1/requests", GET=requests),
    Path("/v1/requests/{id}/events", GET=events),
    Path("/v1/requests/{id}", GET=request, DELETE=cancel),
]
